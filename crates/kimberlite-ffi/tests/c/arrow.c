/* Arrow: streams of columns, read as a consumer would who knows nothing but Arrow's structs. */
#include "harness.h"

#include <errno.h>
#include <stdio.h>

typedef struct ArrowArray Array;

static ArrowArrayStream of_query(KmbClient *client, const char *sql, const ArrowSchema *schema) {
  ArrowArrayStream stream = {0};
  KmbQueryResult *result = NULL;
  OK(kmb_query(client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &result, DETAIL));
  OK(kmb_query_result_arrow(result, schema, &stream, DETAIL));
  /* What was exported does not need the result. */
  kmb_query_result_free(result);
  return stream;
}

/* The formats of the columns, one after the other. */
static void formats(ArrowArrayStream *stream, char *out) {
  ArrowSchema schema;
  *out = 0;
  if (!CHECK(stream->get_schema(stream, &schema) == 0)) return;
  CHECK(strcmp(schema.format, "+s") == 0 && schema.dictionary == NULL);
  for (int64_t i = 0; i < schema.n_children; i++) {
    strcat(out, schema.children[i]->format);
    strcat(out, " ");
  }
  schema.release(&schema);
  CHECK(schema.release == NULL);
}

static Array next(ArrowArrayStream *stream) {
  Array array = {0};
  int error = stream->get_next(stream, &array);
  if (!CHECK(error == 0)) printf("  %s\n", stream->get_last_error(stream));
  return array;
}

static int is_valid(const Array *column, int64_t row) {
  const uint8_t *bits = column->buffers[0];
  return bits == NULL || (bits[row / 8] >> (row % 8) & 1);
}

static int holds(const Array *column, int64_t row, const char *text) {
  const int32_t *ends = column->buffers[1];
  size_t len = (size_t)(ends[row + 1] - ends[row]);
  return len == strlen(text) && memcmp((const char *)column->buffers[2] + ends[row], text, len) == 0;
}

static void end(ArrowArrayStream *stream) {
  Array none = next(stream);
  CHECK(none.release == NULL);
  none = next(stream);
  CHECK(none.release == NULL);
  stream->release(stream);
  CHECK(stream->release == NULL);
}

static void check_types(KmbClient *client) {
  char found[64];
  ArrowArrayStream stream = of_query(
      client,
      "SELECT 1 AS i, 0.5 AS f, 'a' AS s, x'00ff' AS b, NULL AS n, 'x' AS m, 2 AS w UNION ALL"
      " SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL UNION ALL"
      " SELECT -3, 1.5, '', x'', NULL, x'41', 2.5",
      NULL);
  formats(&stream, found);
  CHECK(strcmp(found, "l g u z n z g ") == 0);
  Array batch = next(&stream);
  CHECK(batch.length == 3 && batch.n_children == 7 && batch.n_buffers == 1 && batch.null_count == 0);
  Array **c = batch.children;
  CHECK(c[0]->null_count == 1 && is_valid(c[0], 0) && !is_valid(c[0], 1) && is_valid(c[0], 2));
  CHECK(((const int64_t *)c[0]->buffers[1])[2] == -3);
  CHECK(((const double *)c[1]->buffers[1])[2] == 1.5);
  CHECK(holds(c[2], 0, "a") && !is_valid(c[2], 1) && holds(c[2], 2, ""));
  CHECK(c[3]->n_buffers == 3 && ((const int32_t *)c[3]->buffers[1])[3] == 2);
  CHECK(c[4]->n_buffers == 0 && c[4]->null_count == 3);
  CHECK(holds(c[5], 0, "x") && holds(c[5], 2, "A"));
  CHECK(((const double *)c[6]->buffers[1])[0] == 2.0);
  /* A column may be moved out of its batch and live longer. */
  Array moved = *c[2];
  c[2]->release = NULL;
  batch.release(&batch);
  CHECK(batch.release == NULL && holds(&moved, 0, "a"));
  moved.release(&moved);
  end(&stream);

  stream = of_query(client, "SELECT id, data, timestamp FROM arrow_test WHERE 0", NULL);
  formats(&stream, found);
  CHECK(strcmp(found, "l z l ") == 0);
  end(&stream);
}

static void check_mixtures(KmbClient *client) {
  KmbQueryResult *result = NULL;
  ArrowArrayStream stream;
  const char *sql = "SELECT 1 AS a, 1 AS mixed UNION ALL SELECT 2, 'secret'";
  OK(kmb_query(client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &result, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "row 1, column 1 (\"mixed\")",
        kmb_query_result_arrow(result, NULL, &stream, DETAIL));
  CHECK(!detail_names("secret"));
  kmb_query_result_free(result);
  sql = "SELECT 9007199254740993 AS big UNION ALL SELECT 0.5";
  OK(kmb_query(client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &result, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "row 0", kmb_query_result_arrow(result, NULL, &stream, DETAIL));

  ArrowSchema child = {.format = "u"}, *children[] = {&child};
  ArrowSchema wanted = {.format = "+s", .n_children = 1, .children = children};
  NAMES(KMB_ERR_INVALID_ARGUMENT, "row 0", kmb_query_result_arrow(result, &wanted, &stream, DETAIL));
  child.format = "i";
  NAMES(KMB_ERR_INVALID_ARGUMENT, "\"i\"", kmb_query_result_arrow(result, &wanted, &stream, DETAIL));
  wanted.n_children = 2;
  NAMES(KMB_ERR_INVALID_ARGUMENT, "2 children",
        kmb_query_result_arrow(result, &wanted, &stream, DETAIL));
  NULLED("stream_out", kmb_query_result_arrow(result, NULL, NULL, DETAIL));
  kmb_query_result_free(result);
  NULLED("result", kmb_query_result_arrow(NULL, NULL, &stream, DETAIL));

  wanted.n_children = 1;
  child.format = "g";
  stream = of_query(client, "SELECT 7 AS x", &wanted);
  Array batch = next(&stream);
  CHECK(((const double *)batch.children[0]->buffers[1])[0] == 7.0);
  batch.release(&batch);
  stream.release(&stream);
}

static void check_cursor(KmbClient *client) {
  KmbCursor *cursor = NULL;
  ArrowArrayStream stream;
  char found[64];
  /* A type that only a later batch shows is learned; one that changes after that ends the stream. */
  const char *sql = "SELECT id, CASE WHEN id >= 5000 THEN id END AS late,"
                    " printf('%0100d', id) AS wide,"
                    " CASE WHEN id < 9999 THEN id ELSE text END AS odd FROM arrow_test ORDER BY id";
  OK(kmb_query_cursor(client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &cursor, DETAIL));
  OK(kmb_cursor_arrow(cursor, NULL, &stream, DETAIL));
  formats(&stream, found);
  CHECK(strcmp(found, "l l u l ") == 0);
  int64_t rows = 0;
  Array batch;
  int error;
  while ((error = stream.get_next(&stream, &batch)) == 0 && batch.release != NULL) {
    CHECK(((const int64_t *)batch.children[0]->buffers[1])[0] == rows);
    rows += batch.length;
    batch.release(&batch);
  }
  CHECK(rows > 5000 && rows < 10000 && error == EINVAL);
  CHECK(strstr(stream.get_last_error(&stream), "row 9999, column 3 (\"odd\")") != NULL);
  /* The release closes the cursor; a close of its own is harmless. */
  stream.release(&stream);
  NAMES(KMB_ERR_CLOSED, "cursor", kmb_cursor_next(cursor, &(KmbQueryResult *){NULL}, DETAIL));
  OK(kmb_cursor_close(cursor, DETAIL));

  sql = "SELECT id, data FROM arrow_test ORDER BY id";
  OK(kmb_query_cursor(client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &cursor, DETAIL));
  NULLED("stream_out", kmb_cursor_arrow(cursor, NULL, NULL, DETAIL));
  NULLED("cursor", kmb_cursor_arrow(NULL, NULL, &stream, DETAIL));
  OK(kmb_cursor_arrow(cursor, NULL, &stream, DETAIL));
  Array first = next(&stream);
  OK(kmb_cursor_close(cursor, DETAIL));
  CHECK(stream.get_next(&stream, &batch) == ECANCELED);
  CHECK(strstr(stream.get_last_error(&stream), "CLOSED") != NULL);
  stream.release(&stream);
  NAMES(KMB_ERR_CLOSED, "cursor", kmb_cursor_arrow(cursor, NULL, &stream, DETAIL));
  /* A batch lives on. */
  CHECK(holds(first.children[1], 0, "e0"));
  first.release(&first);
}

static void check_events(KmbClient *client, uint64_t stream_id) {
  KmbPage *page = NULL;
  ArrowArrayStream stream;
  char found[64];
  OK(kmb_read_page(client, stream_id, 10, 5, 0, NULL, &page, DETAIL));
  OK(kmb_page_arrow(page, &stream, DETAIL));
  uint64_t at = page->timestamps[0];
  NULLED("page", kmb_page_arrow(NULL, &stream, DETAIL));
  NULLED("stream_out", kmb_page_arrow(page, NULL, DETAIL));
  KmbPage own = *page;
  own.data_len -= 1;
  NAMES(KMB_ERR_INVALID_ARGUMENT, "page->data_len", kmb_page_arrow(&own, &stream, DETAIL));
  own = *page;
  own.lens = NULL;
  NULLED("page->lens", kmb_page_arrow(&own, &stream, DETAIL));
  kmb_page_free(page);
  formats(&stream, found);
  CHECK(strcmp(found, "L tsn:UTC z ") == 0);
  Array batch = next(&stream);
  CHECK(batch.length == 5 && ((const uint64_t *)batch.children[0]->buffers[1])[4] == 14);
  CHECK(((const uint64_t *)batch.children[1]->buffers[1])[0] == at);
  CHECK(holds(batch.children[2], 4, "e14"));
  batch.release(&batch);
  end(&stream);

  KmbReader *reader = NULL;
  OK(kmb_reader_new(client, stream_id, 0, 1000, NULL, &reader, DETAIL));
  NULLED("reader", kmb_reader_arrow(NULL, &stream, DETAIL));
  NULLED("stream_out", kmb_reader_arrow(reader, NULL, DETAIL));
  OK(kmb_reader_arrow(reader, &stream, DETAIL));
  int64_t rows = 0;
  for (batch = next(&stream); batch.release != NULL; batch = next(&stream)) {
    CHECK(((const uint64_t *)batch.children[0]->buffers[1])[0] == (uint64_t)rows);
    rows += batch.length;
    batch.release(&batch);
  }
  CHECK(rows == 10000);
  end(&stream);
  NAMES(KMB_ERR_CLOSED, "reader", kmb_reader_next(reader, &page, DETAIL));
  OK(kmb_reader_close(reader, DETAIL));

  OK(kmb_reader_new(client, stream_id, 0, 1000, NULL, &reader, DETAIL));
  OK(kmb_reader_arrow(reader, &stream, DETAIL));
  OK(kmb_reader_close(reader, DETAIL));
  CHECK(stream.get_next(&stream, &batch) == ECANCELED);
  stream.release(&stream);
  NAMES(KMB_ERR_CLOSED, "reader", kmb_reader_arrow(reader, &stream, DETAIL));
}

/* Results, cursors, pages and readers give columns of one type each, whose memory is the consumer's
 * until it releases it. */
void test_arrow(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "arrow_test");
  for (int i = 0; i < 10; i++) append_some(client, stream_id, 1000);
  check_types(client);
  check_mixtures(client);
  check_cursor(client);
  check_events(client, stream_id);
  OK(kmb_client_close(client, 5000, DETAIL));
}
