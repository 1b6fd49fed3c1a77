/* NULL for every pointer that is needed, and every bad text: the detail names the argument. */
#include "harness.h"

/* Blocking calls and results. */
void test_nulls(const Door *door) {
  KmbClient *c = client_for(door);
  uint64_t s = stream_for(c, "nulls");
  append_some(c, s, 3);
  uint64_t u = 0;
  int64_t i = 0;
  double f = 0;
  bool b = false;
  size_t z = 0;
  const char *t = NULL;
  const uint8_t *d = NULL;
  uint8_t hash[KMB_HASH_BYTES] = {0};
  const uint8_t data[] = {1};
  const uint32_t lens[] = {1};
  const uint8_t *events[] = {NULL};
  const size_t lengths[] = {1};
  KmbAppended a;
  KmbReadInto into;
  KmbVerification v;
  KmbCells cells;
  KmbParamType type;
  KmbPage *page = NULL;
  KmbBlocks *blocks = NULL;
  KmbReadResult *read = NULL;
  KmbQueryResult *r = NULL;
  KmbStreamList *streams = NULL;
  KmbTenantList *tenants = NULL;
  KmbReader *reader = NULL;
  KmbCursor *cursor = NULL;
  KmbSubscription *subscription = NULL;
  KmbQueryParam param = {KMB_PARAM_STRING, {.str = NULL}};

  LAST(KMB_ERR_NULL_POINTER, "client", kmb_client_create_stream(NULL, "n", 1, &u));
  LAST(KMB_ERR_NULL_POINTER, "name", kmb_client_create_stream(c, NULL, 1, &u));
  LAST(KMB_ERR_NULL_POINTER, "stream_id_out", kmb_client_create_stream(c, "n", 1, NULL));
  LAST(KMB_ERR_NULL_POINTER, "client", kmb_client_append(NULL, s, 0, events, lengths, 1, &u));
  LAST(KMB_ERR_NULL_POINTER, "events", kmb_client_append(c, s, 0, NULL, lengths, 1, &u));
  LAST(KMB_ERR_NULL_POINTER, "events[0]", kmb_client_append(c, s, 0, events, lengths, 1, &u));
  LAST(KMB_ERR_NULL_POINTER, "event_lengths", kmb_client_append(c, s, 0, events, NULL, 1, &u));
  LAST(KMB_ERR_NULL_POINTER, "first_offset_out", kmb_client_append(c, s, 0, events, lengths, 1, NULL));
  LAST(KMB_ERR_NULL_POINTER, "client", kmb_client_read(NULL, s, 0, 1, &read));
  LAST(KMB_ERR_NULL_POINTER, "result_out", kmb_client_read(c, s, 0, 1, NULL));
  LAST(KMB_ERR_NULL_POINTER, "client", kmb_client_query(NULL, "SELECT 1", NULL, 0, &r));
  LAST(KMB_ERR_NULL_POINTER, "sql", kmb_client_query(c, NULL, NULL, 0, &r));
  LAST(KMB_ERR_NULL_POINTER, "params", kmb_client_query(c, "SELECT ?", NULL, 1, &r));
  LAST(KMB_ERR_NULL_POINTER, "params[0]", kmb_client_query(c, "SELECT ?", &param, 1, &r));
  LAST(KMB_ERR_NULL_POINTER, "result_out", kmb_client_query(c, "SELECT 1", NULL, 0, NULL));
  LAST(KMB_ERR_NULL_POINTER, "client", kmb_client_query_at(NULL, "SELECT 1", NULL, 0, 1, &r));
  LAST(KMB_ERR_NULL_POINTER, "sql", kmb_client_query_at(c, NULL, NULL, 0, 1, &r));
  LAST(KMB_ERR_NULL_POINTER, "result_out", kmb_client_query_at(c, "SELECT 1", NULL, 0, 1, NULL));
  LAST(KMB_ERR_NULL_POINTER, "client",
       kmb_client_query_at_timestamp(NULL, "SELECT 1", NULL, 0, 1, &r));
  LAST(KMB_ERR_NULL_POINTER, "sql", kmb_client_query_at_timestamp(c, NULL, NULL, 0, 1, &r));
  LAST(KMB_ERR_NULL_POINTER, "result_out",
       kmb_client_query_at_timestamp(c, "SELECT 1", NULL, 0, 1, NULL));

  NULLED("client", kmb_create_stream(NULL, TEXT("n"), 1, NULL, &u, DETAIL));
  NULLED("name", kmb_create_stream(c, NULL, 1, 1, NULL, &u, DETAIL));
  NULLED("stream_id_out", kmb_create_stream(c, TEXT("n"), 1, NULL, NULL, DETAIL));
  NULLED("client", kmb_append(NULL, s, 0, data, 1, lens, 1, NULL, &a, DETAIL));
  NULLED("data", kmb_append(c, s, 0, NULL, 1, lens, 1, NULL, &a, DETAIL));
  NULLED("lens", kmb_append(c, s, 0, data, 1, NULL, 1, NULL, &a, DETAIL));
  NULLED("appended_out", kmb_append(c, s, 0, data, 1, lens, 1, NULL, NULL, DETAIL));
  NULLED("client", kmb_append_with_key(NULL, 1, 1, s, 0, data, 1, lens, 1, NULL, &a, DETAIL));
  NULLED("data", kmb_append_with_key(c, 1, 1, s, 0, NULL, 1, lens, 1, NULL, &a, DETAIL));
  NULLED("lens", kmb_append_with_key(c, 1, 1, s, 0, data, 1, NULL, 1, NULL, &a, DETAIL));
  NULLED("appended_out", kmb_append_with_key(c, 1, 1, s, 0, data, 1, lens, 1, NULL, NULL, DETAIL));
  NULLED("client", kmb_open_producer(NULL, NULL, &u, DETAIL));
  NULLED("producer_id_out", kmb_open_producer(c, NULL, NULL, DETAIL));
  NULLED("client", kmb_read_page(NULL, s, 0, 1, 0, NULL, &page, DETAIL));
  NULLED("page_out", kmb_read_page(c, s, 0, 1, 0, NULL, NULL, DETAIL));
  NULLED("client", kmb_read_into(NULL, s, 0, 1, NULL, hash, 32, &into, DETAIL));
  NULLED("buffer", kmb_read_into(c, s, 0, 1, NULL, NULL, 32, &into, DETAIL));
  NULLED("read_out", kmb_read_into(c, s, 0, 1, NULL, hash, 32, NULL, DETAIL));
  NULLED("client", kmb_read_blocks(NULL, s, 0, 1, 0, NULL, &blocks, DETAIL));
  NULLED("blocks_out", kmb_read_blocks(c, s, 0, 1, 0, NULL, NULL, DETAIL));
  NULLED("name", kmb_genesis_hash(1, s, NULL, 3, 1, hash, DETAIL));
  NULLED("hash_out", kmb_genesis_hash(1, s, TEXT("n"), 1, NULL, DETAIL));
  NULLED("blocks", kmb_verify_blocks(NULL, 8, hash, &u, DETAIL));
  NULLED("head_inout", kmb_verify_blocks(data, 1, NULL, &u, DETAIL));
  NULLED("next_offset_inout", kmb_verify_blocks(data, 1, hash, NULL, DETAIL));
  NULLED("client", kmb_query(NULL, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, &r, DETAIL));
  NULLED("sql", kmb_query(c, NULL, 3, NULL, 0, 0, 0, NULL, &r, DETAIL));
  NULLED("params", kmb_query(c, TEXT("SELECT ?"), NULL, 1, 0, 0, NULL, &r, DETAIL));
  NULLED("result_out", kmb_query(c, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, NULL, DETAIL));
  NULLED("client", kmb_verify(NULL, s, NULL, &v, DETAIL));
  NULLED("verification_out", kmb_verify(c, s, NULL, NULL, DETAIL));
  NULLED("client", kmb_verify_locally(NULL, s, NULL, &v, DETAIL));
  NULLED("verification_out", kmb_verify_locally(c, s, NULL, NULL, DETAIL));
  NULLED("client", kmb_list_streams(NULL, NULL, &streams, DETAIL));
  NULLED("list_out", kmb_list_streams(c, NULL, NULL, DETAIL));
  NULLED("client", kmb_stream_info(NULL, s, NULL, &streams, DETAIL));
  NULLED("list_out", kmb_stream_info(c, s, NULL, NULL, DETAIL));
  NULLED("client", kmb_stream_by_name(NULL, TEXT("n"), NULL, &streams, DETAIL));
  NULLED("name", kmb_stream_by_name(c, NULL, 3, NULL, &streams, DETAIL));
  NULLED("list_out", kmb_stream_by_name(c, TEXT("n"), NULL, NULL, DETAIL));
  NULLED("client", kmb_create_tenant(NULL, 9, NULL, &b, DETAIL));
  NULLED("client", kmb_delete_tenant(NULL, 9, NULL, DETAIL));
  NULLED("client", kmb_list_tenants(NULL, NULL, &tenants, DETAIL));
  NULLED("list_out", kmb_list_tenants(c, NULL, NULL, DETAIL));
  NULLED("client", kmb_reader_new(NULL, s, 0, 1, NULL, &reader, DETAIL));
  NULLED("reader_out", kmb_reader_new(c, s, 0, 1, NULL, NULL, DETAIL));
  NULLED("client", kmb_query_cursor(NULL, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, &cursor, DETAIL));
  NULLED("sql", kmb_query_cursor(c, NULL, 3, NULL, 0, 0, 0, NULL, &cursor, DETAIL));
  NULLED("params", kmb_query_cursor(c, TEXT("SELECT ?"), NULL, 1, 0, 0, NULL, &cursor, DETAIL));
  NULLED("cursor_out", kmb_query_cursor(c, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, NULL, DETAIL));
  NULLED("client", kmb_subscribe(NULL, s, 0, NULL, &subscription, DETAIL));
  NULLED("subscription_out", kmb_subscribe(c, s, 0, NULL, NULL, DETAIL));

  LAST(KMB_ERR_NULL_POINTER, "result", kmb_query_result_get_i64(NULL, 0, 0, &i));
  LAST(KMB_ERR_NULL_POINTER, "result", kmb_query_result_get_string(NULL, 0, 0, &t));
  NULLED("result", kmb_query_result_get_f64(NULL, 0, 0, &f, DETAIL));
  NULLED("result", kmb_query_result_get_bool(NULL, 0, 0, &b, DETAIL));
  NULLED("result", kmb_query_result_get_text(NULL, 0, 0, &t, &z, DETAIL));
  NULLED("result", kmb_query_result_get_bytes(NULL, 0, 0, &d, &z, DETAIL));
  NULLED("result", kmb_query_result_is_null(NULL, 0, 0, &b, DETAIL));
  NULLED("result", kmb_query_result_get_type(NULL, 0, 0, &type, DETAIL));
  NULLED("result", kmb_query_result_column_name(NULL, 0, &t, &z, DETAIL));
  NULLED("result", kmb_query_result_column_type(NULL, 0, &t, &z, DETAIL));
  NULLED("result", kmb_query_result_position(NULL, &u, DETAIL));
  NULLED("result", kmb_query_result_cells(NULL, &cells, DETAIL));
  OK(kmb_query(c, TEXT("SELECT 1, 'x'"), NULL, 0, 0, 0, NULL, &r, DETAIL));
  LAST(KMB_ERR_NULL_POINTER, "value_out", kmb_query_result_get_i64(r, 0, 0, NULL));
  LAST(KMB_ERR_NULL_POINTER, "text_out", kmb_query_result_get_string(r, 0, 1, NULL));
  NULLED("value_out", kmb_query_result_get_f64(r, 0, 0, NULL, DETAIL));
  NULLED("value_out", kmb_query_result_get_bool(r, 0, 0, NULL, DETAIL));
  NULLED("text_out", kmb_query_result_get_text(r, 0, 1, NULL, &z, DETAIL));
  NULLED("text_len_out", kmb_query_result_get_text(r, 0, 1, &t, NULL, DETAIL));
  NULLED("data_out", kmb_query_result_get_bytes(r, 0, 1, NULL, &z, DETAIL));
  NULLED("data_len_out", kmb_query_result_get_bytes(r, 0, 1, &d, NULL, DETAIL));
  NULLED("null_out", kmb_query_result_is_null(r, 0, 0, NULL, DETAIL));
  NULLED("type_out", kmb_query_result_get_type(r, 0, 0, NULL, DETAIL));
  NULLED("name_out", kmb_query_result_column_name(r, 0, NULL, &z, DETAIL));
  NULLED("name_len_out", kmb_query_result_column_name(r, 0, &t, NULL, DETAIL));
  NULLED("type_out", kmb_query_result_column_type(r, 0, NULL, &z, DETAIL));
  NULLED("type_len_out", kmb_query_result_column_type(r, 0, &t, NULL, DETAIL));
  NULLED("position_out", kmb_query_result_position(r, NULL, DETAIL));
  NULLED("cells_out", kmb_query_result_cells(r, NULL, DETAIL));
  kmb_query_result_free(r);

  /* Without a place for the detail a call is told by its number alone. */
  CHECK(kmb_read_page(NULL, s, 0, 1, 0, NULL, &page, NULL) == KMB_ERR_NULL_POINTER);
  CHECK(read == NULL && page == NULL && blocks == NULL && streams == NULL && tenants == NULL);
  CHECK(reader == NULL && cursor == NULL && subscription == NULL && t == NULL && d == NULL);
  OK(kmb_client_close(c, 5000, DETAIL));
}

/* Handles beside the client, and the calls that submit. */
void test_submitted_nulls(const Door *door) {
  KmbClient *c = client_for(door);
  uint64_t s = stream_for(c, "submitted nulls");
  append_some(c, s, 3);
  const uint8_t data[] = {1};
  const uint32_t lens[] = {1};
  size_t z = 0;
  int32_t fd = 0;
  KmbCompletion completion;
  KmbQueue *q = NULL;
  KmbReader *reader = NULL;
  KmbCursor *cursor = NULL;
  KmbSubscription *subscription = NULL;
  KmbPage *page = NULL;
  KmbQueryResult *r = NULL;
  KmbOptions *options = options_for(door);
  NULLED("queue_out", kmb_queue_new(false, NULL, DETAIL));
  OK(kmb_queue_new(false, &q, DETAIL));
  OK(kmb_reader_new(c, s, 0, 10, NULL, &reader, DETAIL));
  OK(kmb_query_cursor(c, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, &cursor, DETAIL));
  OK(kmb_subscribe(c, s, 0, NULL, &subscription, DETAIL));

  NULLED("queue", kmb_queue_fd(NULL, &fd, DETAIL));
  NULLED("fd_out", kmb_queue_fd(q, NULL, DETAIL));
  NULLED("queue", kmb_queue_poll(NULL, &completion, 1, 0, &z, DETAIL));
  NULLED("completions_out", kmb_queue_poll(q, NULL, 1, 0, &z, DETAIL));
  NULLED("count_out", kmb_queue_poll(q, &completion, 1, 0, NULL, DETAIL));
  NULLED("queue", kmb_submit_callback(NULL, NULL, NULL, DETAIL));
  NULLED("reader", kmb_reader_next(NULL, &page, DETAIL));
  NULLED("page_out", kmb_reader_next(reader, NULL, DETAIL));
  NULLED("cursor", kmb_cursor_schema(NULL, &r, DETAIL));
  NULLED("result_out", kmb_cursor_schema(cursor, NULL, DETAIL));
  NULLED("cursor", kmb_cursor_next(NULL, &r, DETAIL));
  NULLED("result_out", kmb_cursor_next(cursor, NULL, DETAIL));
  NULLED("cursor", kmb_cursor_close(NULL, DETAIL));
  NULLED("subscription", kmb_subscription_next(NULL, 0, &page, DETAIL));
  NULLED("page_out", kmb_subscription_next(subscription, 0, NULL, DETAIL));
  NULLED("subscription", kmb_subscription_watch(NULL, q, 1, NULL, DETAIL));
  NULLED("queue", kmb_subscription_watch(subscription, NULL, 1, NULL, DETAIL));
  NULLED("subscription", kmb_subscription_close(NULL, DETAIL));

  NULLED("options", kmb_submit_connect(NULL, q, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_connect(options, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_close(NULL, q, 1, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_close(c, NULL, 1, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_create_stream(NULL, q, TEXT("n"), 1, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_create_stream(c, NULL, TEXT("n"), 1, NULL, 1, NULL, DETAIL));
  NULLED("name", kmb_submit_create_stream(c, q, NULL, 1, 1, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_append(NULL, q, s, 0, data, 1, lens, 1, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_append(c, NULL, s, 0, data, 1, lens, 1, NULL, 1, NULL, DETAIL));
  NULLED("data", kmb_submit_append(c, q, s, 0, NULL, 1, lens, 1, NULL, 1, NULL, DETAIL));
  NULLED("lens", kmb_submit_append(c, q, s, 0, data, 1, NULL, 1, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_open_producer(NULL, q, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_open_producer(c, NULL, NULL, 1, NULL, DETAIL));
  NULLED("client",
         kmb_submit_append_with_key(NULL, q, 1, 1, s, 0, data, 1, lens, 1, NULL, 1, NULL, DETAIL));
  NULLED("queue",
         kmb_submit_append_with_key(c, NULL, 1, 1, s, 0, data, 1, lens, 1, NULL, 1, NULL, DETAIL));
  NULLED("data",
         kmb_submit_append_with_key(c, q, 1, 1, s, 0, NULL, 1, lens, 1, NULL, 1, NULL, DETAIL));
  NULLED("lens",
         kmb_submit_append_with_key(c, q, 1, 1, s, 0, data, 1, NULL, 1, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_read_page(NULL, q, s, 0, 1, 0, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_read_page(c, NULL, s, 0, 1, 0, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_read_blocks(NULL, q, s, 0, 1, 0, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_read_blocks(c, NULL, s, 0, 1, 0, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_query(NULL, q, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_query(c, NULL, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("sql", kmb_submit_query(c, q, NULL, 3, NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("params", kmb_submit_query(c, q, TEXT("SELECT ?"), NULL, 1, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("client",
         kmb_submit_query_cursor(NULL, q, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("queue",
         kmb_submit_query_cursor(c, NULL, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("sql", kmb_submit_query_cursor(c, q, NULL, 3, NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("params",
         kmb_submit_query_cursor(c, q, TEXT("SELECT ?"), NULL, 1, 0, 0, NULL, 1, NULL, DETAIL));
  NULLED("cursor", kmb_submit_cursor_next(NULL, q, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_cursor_next(cursor, NULL, 1, NULL, DETAIL));
  NULLED("reader", kmb_submit_reader_next(NULL, q, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_reader_next(reader, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_subscribe(NULL, q, s, 0, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_subscribe(c, NULL, s, 0, NULL, 1, NULL, DETAIL));
  NULLED("subscription", kmb_submit_subscription_next(NULL, q, 0, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_subscription_next(subscription, NULL, 0, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_verify(NULL, q, s, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_verify(c, NULL, s, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_verify_locally(NULL, q, s, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_verify_locally(c, NULL, s, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_list_streams(NULL, q, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_list_streams(c, NULL, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_stream_info(NULL, q, s, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_stream_info(c, NULL, s, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_stream_by_name(NULL, q, TEXT("n"), NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_stream_by_name(c, NULL, TEXT("n"), NULL, 1, NULL, DETAIL));
  NULLED("name", kmb_submit_stream_by_name(c, q, NULL, 3, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_create_tenant(NULL, q, 9, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_create_tenant(c, NULL, 9, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_delete_tenant(NULL, q, 9, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_delete_tenant(c, NULL, 9, NULL, 1, NULL, DETAIL));
  NULLED("client", kmb_submit_list_tenants(NULL, q, NULL, 1, NULL, DETAIL));
  NULLED("queue", kmb_submit_list_tenants(c, NULL, NULL, 1, NULL, DETAIL));

  /* Nothing of all that was started. */
  OK(kmb_queue_poll(q, &completion, 1, 0, &z, DETAIL));
  CHECK(z == 0);
  kmb_options_free(options);
  OK(kmb_subscription_close(subscription, DETAIL));
  OK(kmb_cursor_close(cursor, DETAIL));
  OK(kmb_reader_close(reader, DETAIL));
  OK(kmb_queue_close(q, DETAIL));
  OK(kmb_client_close(c, 5000, DETAIL));
}

/* Texts that are not UTF-8, in every argument that takes one. */
void test_texts(const Door *door) {
  KmbClient *c = client_for(door);
  uint64_t u = 0;
  uint8_t hash[KMB_HASH_BYTES];
  KmbQueue *q = NULL;
  KmbQueryResult *r = NULL;
  KmbCursor *cursor = NULL;
  KmbStreamList *streams = NULL;
  KmbQueryParam string = {KMB_PARAM_STRING, {.str = BAD_TEXT}};
  KmbQueryParam text = {KMB_PARAM_TEXT, {.bytes = {(const uint8_t *)BAD_TEXT, 3}}};
  OK(kmb_queue_new(false, &q, DETAIL));

  LAST(KMB_ERR_INVALID_UTF8, "name", kmb_client_create_stream(c, BAD_TEXT, 1, &u));
  LAST(KMB_ERR_INVALID_UTF8, "sql", kmb_client_query(c, BAD_TEXT, NULL, 0, &r));
  LAST(KMB_ERR_INVALID_UTF8, "params[0]", kmb_client_query(c, "SELECT ?", &string, 1, &r));
  LAST(KMB_ERR_INVALID_UTF8, "params[0]", kmb_client_query(c, "SELECT ?", &text, 1, &r));
  LAST(KMB_ERR_INVALID_UTF8, "sql", kmb_client_query_at(c, BAD_TEXT, NULL, 0, 1, &r));
  LAST(KMB_ERR_INVALID_UTF8, "sql", kmb_client_query_at_timestamp(c, BAD_TEXT, NULL, 0, 1, &r));
  NOT_UTF8("name", kmb_create_stream(c, TEXT(BAD_TEXT), 1, NULL, &u, DETAIL));
  NOT_UTF8("name", kmb_stream_by_name(c, TEXT(BAD_TEXT), NULL, &streams, DETAIL));
  NOT_UTF8("name", kmb_genesis_hash(1, 1, TEXT(BAD_TEXT), 1, hash, DETAIL));
  NOT_UTF8("sql", kmb_query(c, TEXT(BAD_TEXT), NULL, 0, 0, 0, NULL, &r, DETAIL));
  NOT_UTF8("sql", kmb_query_cursor(c, TEXT(BAD_TEXT), NULL, 0, 0, 0, NULL, &cursor, DETAIL));
  NOT_UTF8("name", kmb_submit_create_stream(c, q, TEXT(BAD_TEXT), 1, NULL, 1, NULL, DETAIL));
  NOT_UTF8("name", kmb_submit_stream_by_name(c, q, TEXT(BAD_TEXT), NULL, 1, NULL, DETAIL));
  NOT_UTF8("sql", kmb_submit_query(c, q, TEXT(BAD_TEXT), NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  NOT_UTF8("sql",
           kmb_submit_query_cursor(c, q, TEXT(BAD_TEXT), NULL, 0, 0, 0, NULL, 1, NULL, DETAIL));
  CHECK(r == NULL && cursor == NULL && streams == NULL);
  OK(kmb_queue_close(q, DETAIL));
  OK(kmb_client_close(c, 5000, DETAIL));
}
