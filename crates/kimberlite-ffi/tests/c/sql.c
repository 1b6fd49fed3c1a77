/* SQL: parameters of every type, cells of every type, cuts, and cursors. */
#include "harness.h"

static KmbQueryResult *query(KmbClient *client, const char *sql) {
  KmbQueryResult *result = NULL;
  CHECK(kmb_client_query(client, sql, NULL, 0, &result) == KMB_OK);
  return result;
}

static void check_parameters(KmbClient *client) {
  KmbQueryParam params[7];
  memset(params, 0xee, sizeof params);
  params[0].type = KMB_PARAM_INT64;
  params[0].value.i64 = INT64_MIN;
  params[1].type = KMB_PARAM_STRING;
  params[1].value.str = "grün";
  params[2].type = KMB_PARAM_BYTES;
  params[2].value.bytes = (KmbBytes){(const uint8_t *)"\0\xff", 2};
  params[3].type = KMB_PARAM_BOOL;
  params[3].value.boolean = true;
  params[4].type = KMB_PARAM_NULL;
  params[5].type = KMB_PARAM_FLOAT64;
  params[5].value.f64 = -0.5;
  params[6].type = KMB_PARAM_TEXT;
  params[6].value.bytes = (KmbBytes){(const uint8_t *)"text!", 4};
  const char *sql = "SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e, ? AS f, ? AS g";
  KmbQueryResult *r = NULL;
  OK(kmb_query(client, sql, strlen(sql), params, 7, KMB_AT_NOW, 0, NULL, &r, DETAIL));
  CHECK(r->row_count == 1 && r->column_count == 7);

  int64_t integer = 0;
  double number = 0;
  bool truth = false, null = false;
  const char *text = NULL;
  const uint8_t *data = NULL;
  size_t len = 0;
  KmbParamType type = 99;
  uint64_t position = 0;
  CHECK(kmb_query_result_get_i64(r, 0, 0, &integer) == KMB_OK && integer == INT64_MIN);
  CHECK(kmb_query_result_get_string(r, 0, 1, &text) == KMB_OK && strcmp(text, "grün") == 0);
  OK(kmb_query_result_get_text(r, 0, 1, &text, &len, DETAIL));
  CHECK(len == 5 && text[5] == 0);
  OK(kmb_query_result_get_bytes(r, 0, 2, &data, &len, DETAIL));
  CHECK(len == 2 && data[0] == 0 && data[1] == 0xff);
  OK(kmb_query_result_get_bytes(r, 0, 1, &data, &len, DETAIL));
  CHECK(len == 5 && memcmp(data, "grün", 5) == 0);
  OK(kmb_query_result_get_bool(r, 0, 3, &truth, DETAIL));
  CHECK(truth);
  OK(kmb_query_result_is_null(r, 0, 4, &null, DETAIL));
  CHECK(null);
  OK(kmb_query_result_is_null(r, 0, 0, &null, DETAIL));
  CHECK(!null);
  OK(kmb_query_result_get_f64(r, 0, 5, &number, DETAIL));
  CHECK(number == -0.5);
  OK(kmb_query_result_get_f64(r, 0, 3, &number, DETAIL));
  CHECK(number == 1.0);
  CHECK(kmb_query_result_get_string(r, 0, 6, &text) == KMB_OK && strcmp(text, "text") == 0);
  OK(kmb_query_result_get_type(r, 0, 5, &type, DETAIL));
  CHECK(type == KMB_PARAM_FLOAT64);
  OK(kmb_query_result_get_type(r, 0, 4, &type, DETAIL));
  CHECK(type == KMB_PARAM_NULL);
  OK(kmb_query_result_column_name(r, 6, &text, &len, DETAIL));
  CHECK(len == 1 && strcmp(text, "g") == 0);
  OK(kmb_query_result_position(r, &position, DETAIL));
  CHECK(position > 0);

  LAST(KMB_ERR_INVALID_ARGUMENT, "row", kmb_query_result_get_i64(r, 1, 0, &integer));
  LAST(KMB_ERR_INVALID_ARGUMENT, "column", kmb_query_result_get_i64(r, 0, 7, &integer));
  LAST(KMB_ERR_INVALID_ARGUMENT, "String", kmb_query_result_get_i64(r, 0, 1, &integer));
  LAST(KMB_ERR_INVALID_ARGUMENT, "Int64", kmb_query_result_get_string(r, 0, 0, &text));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "Bytes", kmb_query_result_get_f64(r, 0, 2, &number, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "Int64", kmb_query_result_get_bool(r, 0, 0, &truth, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "Bytes",
        kmb_query_result_get_text(r, 0, 2, &text, &len, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "Null",
        kmb_query_result_get_bytes(r, 0, 4, &data, &len, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "column",
        kmb_query_result_column_name(r, 7, &text, &len, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "column",
        kmb_query_result_column_type(r, 7, &text, &len, DETAIL));
  kmb_query_result_free(r);

  params[0].type = 6;
  LAST(KMB_ERR_INVALID_ARGUMENT, "params[0].type",
       kmb_client_query(client, "SELECT ?", params, 1, &r));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "at_kind",
        kmb_query(client, TEXT("SELECT 1"), NULL, 0, 3, 0, NULL, &r, DETAIL));
}

/* Parameters and cells of every type, errors of statements, and queries of the past. */
void test_query(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "query_test");
  append_some(client, stream_id, 3);
  check_parameters(client);

  KmbQueryResult *r = query(client, "SELECT id, data FROM query_test WHERE id >= 1 ORDER BY id");
  CHECK(r->row_count == 2 && r->column_count == 2);
  KmbCells cells;
  OK(kmb_query_result_cells(r, &cells, DETAIL));
  CHECK(cells.row_count == 2 && cells.column_count == 2 && cells.heap_len == 4);
  CHECK(cells.types[0] == KMB_PARAM_INT64 && cells.types[3] == KMB_PARAM_BYTES);
  CHECK(cells.values[0] == 1 && cells.values[2] == 2);
  CHECK((cells.values[3] & 0xffffffff) == 2);
  CHECK(memcmp(cells.heap + (cells.values[3] >> 32), "e2", 2) == 0);
  const char *type = NULL;
  size_t len = 0;
  OK(kmb_query_result_column_type(r, 0, &type, &len, DETAIL));
  CHECK(len == 7 && strcmp(type, "INTEGER") == 0);
  kmb_query_result_free(r);

  KmbAppended appended;
  const uint32_t lens[] = {1};
  OK(kmb_append(client, stream_id, 3, (const uint8_t *)"x", 1, lens, 1, NULL, &appended, DETAIL));
  int64_t count = 0;
  const char *sql = "SELECT COUNT(*) FROM query_test";
  CHECK(kmb_client_query_at(client, sql, NULL, 0, appended.position - 1, &r) == KMB_OK);
  CHECK(kmb_query_result_get_i64(r, 0, 0, &count) == KMB_OK && count == 3);
  kmb_query_result_free(r);
  CHECK(kmb_client_query_at_timestamp(client, sql, NULL, 0, appended.timestamp_ns, &r) == KMB_OK);
  CHECK(kmb_query_result_get_i64(r, 0, 0, &count) == KMB_OK && count == 4);
  kmb_query_result_free(r);

  CHECK(kmb_client_query(client, "SELEC", NULL, 0, &r) == KMB_ERR_QUERY_SYNTAX);
  CHECK(kmb_client_query(client, "DELETE FROM query_test", NULL, 0, &r) != KMB_OK);
  EXPECT(KMB_ERR_QUERY_SYNTAX, kmb_query(client, NULL, 0, NULL, 0, 0, 0, NULL, &r, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}

/* A cursor hands out every row, tells its columns first, and can be closed in the middle. */
void test_cursor(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "cursor_test");
  for (int i = 0; i < 10; i++) append_some(client, stream_id, 1000);
  KmbCursor *cursor = NULL;
  KmbQueryResult *batch = NULL;
  const char *sql = "SELECT id, data FROM cursor_test ORDER BY id";
  OK(kmb_query_cursor(client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &cursor, DETAIL));
  OK(kmb_cursor_schema(cursor, &batch, DETAIL));
  const char *name = NULL;
  size_t len = 0;
  OK(kmb_query_result_column_name(batch, 1, &name, &len, DETAIL));
  CHECK(batch->row_count == 0 && batch->column_count == 2 && strcmp(name, "data") == 0);
  kmb_query_result_free(batch);
  int64_t rows = 0;
  for (;;) {
    if (!OK(kmb_cursor_next(cursor, &batch, DETAIL)) || batch == NULL) break;
    int64_t first = -1;
    CHECK(kmb_query_result_get_i64(batch, 0, 0, &first) == KMB_OK && first == rows);
    rows += (int64_t)batch->row_count;
    kmb_query_result_free(batch);
  }
  CHECK(rows == 10000);
  OK(kmb_cursor_next(cursor, &batch, DETAIL));
  CHECK(batch == NULL);
  OK(kmb_cursor_close(cursor, DETAIL));
  OK(kmb_cursor_close(cursor, DETAIL));
  NAMES(KMB_ERR_CLOSED, "cursor", kmb_cursor_next(cursor, &batch, DETAIL));
  NAMES(KMB_ERR_CLOSED, "cursor", kmb_cursor_schema(cursor, &batch, DETAIL));

  OK(kmb_query_cursor(client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &cursor, DETAIL));
  OK(kmb_cursor_next(cursor, &batch, DETAIL));
  CHECK(batch != NULL && batch->row_count > 0);
  OK(kmb_cursor_close(cursor, DETAIL));
  /* The batch lives on. */
  CHECK(kmb_query_result_get_i64(batch, 0, 0, &rows) == KMB_OK && rows == 0);
  kmb_query_result_free(batch);
  OK(kmb_client_close(client, 5000, DETAIL));
}
