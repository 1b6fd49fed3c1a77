/* Streams, appends, reads and tenants, by blocking calls. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

/* A stream is created once, found by id and name, and listed. */
void test_streams(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t first = 0, again = 0, other = 0;
  KmbStreamList *list = NULL;
  CHECK(kmb_client_create_stream(client, "streams", KMB_DATA_CLASS_PHI, &first) == KMB_OK);
  CHECK(kmb_last_error_detail() == NULL);
  OK(kmb_create_stream(client, TEXT("Streams"), KMB_DATA_CLASS_PHI, NULL, &again, DETAIL));
  CHECK(first == again && first != 0);
  CHECK(kmb_client_create_stream(client, "streams", KMB_DATA_CLASS_NON_PHI, &other) ==
        KMB_ERR_STREAM_EXISTS);
  CHECK(kmb_last_error_detail()->message_len > 0);
  LAST(KMB_ERR_INVALID_DATA_CLASS, "data_class", kmb_client_create_stream(client, "x", 3, &other));
  NAMES(KMB_ERR_INVALID_DATA_CLASS, "data_class",
        kmb_create_stream(client, TEXT("x"), 9, NULL, &other, DETAIL));
  EXPECT(KMB_ERR_INVALID_ARGUMENT,
         kmb_create_stream(client, NULL, 0, KMB_DATA_CLASS_PHI, NULL, &other, DETAIL));
  CHECK(other == 0);

  uint64_t before = append_some(client, first, 2);
  OK(kmb_stream_by_name(client, TEXT("STREAMS"), NULL, &list, DETAIL));
  CHECK(list->count == 1 && list->streams[0].stream_id == first);
  CHECK(list->streams[0].next_offset == before + 2);
  CHECK(list->streams[0].data_bytes == 2 * (before + 2));
  CHECK(list->streams[0].data_class == KMB_DATA_CLASS_PHI);
  CHECK(list->streams[0].name_len == 7 && strcmp(list->streams[0].name, "streams") == 0);
  CHECK(list->streams[0].created_ns <= list->streams[0].last_timestamp_ns);
  kmb_stream_list_free(list);
  OK(kmb_stream_info(client, first, NULL, &list, DETAIL));
  CHECK(list->count == 1 && list->streams[0].stream_id == first);
  kmb_stream_list_free(list);
  EXPECT(KMB_ERR_STREAM_NOT_FOUND, kmb_stream_info(client, 1u << 30, NULL, &list, DETAIL));
  EXPECT(KMB_ERR_STREAM_NOT_FOUND,
         kmb_stream_by_name(client, TEXT("no such"), NULL, &list, DETAIL));

  OK(kmb_list_streams(client, NULL, &list, DETAIL));
  int found = 0;
  for (size_t i = 0; i < list->count; i++) {
    found |= list->streams[i].stream_id == first;
    CHECK(i == 0 || list->streams[i - 1].stream_id < list->streams[i].stream_id);
  }
  CHECK(found);
  kmb_stream_list_free(list);
  OK(kmb_client_close(client, 5000, DETAIL));
}

/* Appends by pointers, packed, and with a key; each refusal tells why. */
void test_append(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "append");
  const uint8_t *events[] = {(const uint8_t *)"one", NULL, (const uint8_t *)"three"};
  const size_t lengths[] = {3, 0, 5};
  uint64_t offset = 99;
  CHECK(kmb_client_append(client, stream_id, 0, events, lengths, 3, &offset) == KMB_OK);
  CHECK(offset == 0);
  CHECK(kmb_client_append(client, stream_id, 0, events, lengths, 3, &offset) ==
        KMB_ERR_OFFSET_MISMATCH);
  CHECK(kmb_last_error_detail()->value == 3);
  CHECK(kmb_client_append(client, stream_id, KMB_ANY_OFFSET, events, lengths, 0, &offset) ==
        KMB_ERR_INVALID_ARGUMENT);

  KmbAppended appended;
  const uint32_t lens[] = {1, 2};
  const uint8_t data[] = {'a', 'b', 'c'};
  memset(&appended, 0xee, sizeof appended);
  OK(kmb_append(client, stream_id, 3, data, 3, lens, 2, NULL, &appended, DETAIL));
  CHECK(appended.first_offset == 3 && appended.count == 2 && appended.position > 0);
  CHECK(appended.timestamp_ns > 1600000000000000000u);
  EXPECT(KMB_ERR_OFFSET_MISMATCH,
         kmb_append(client, stream_id, 3, data, 3, lens, 2, NULL, &appended, DETAIL));
  CHECK(last_detail->value == 5 && !(last_detail->flags & KMB_DETAIL_OUTCOME_UNKNOWN));
  EXPECT(KMB_ERR_INVALID_ARGUMENT,
         kmb_append(client, stream_id, 5, data, 2, lens, 2, NULL, &appended, DETAIL));
  EXPECT(KMB_ERR_INVALID_ARGUMENT,
         kmb_append(client, stream_id, 5, NULL, 0, NULL, 0, NULL, &appended, DETAIL));
  EXPECT(KMB_ERR_STREAM_NOT_FOUND,
         kmb_append(client, 1u << 30, 0, data, 3, lens, 2, NULL, &appended, DETAIL));
  uint32_t huge = KMB_LIMIT_EVENT_BYTES + 1;
  uint8_t *big = calloc(huge, 1);
  EXPECT(KMB_ERR_LIMIT_EXCEEDED,
         kmb_append(client, stream_id, KMB_ANY_OFFSET, big, huge, &huge, 1, NULL, &appended, DETAIL));
  CHECK(last_detail->value == KMB_LIMIT_EVENT_BYTES);
  free(big);

  /* The same key and events append once; other events under it are refused. */
  uint64_t producer = 0;
  KmbAppended once, twice;
  OK(kmb_open_producer(client, NULL, &producer, DETAIL));
  OK(kmb_append_with_key(client, producer, 1, stream_id, 5, data, 3, lens, 2, NULL, &once, DETAIL));
  OK(kmb_append_with_key(client, producer, 1, stream_id, 5, data, 3, lens, 2, NULL, &twice, DETAIL));
  CHECK(once.first_offset == 5 && memcmp(&once, &twice, sizeof once) == 0);
  EXPECT(KMB_ERR_INVALID_ARGUMENT, kmb_append_with_key(client, producer, 1, stream_id, 5, data, 3,
                                                       lens + 1, 1, NULL, &twice, DETAIL));

  /* Call options are read; unknown flags and garbage are refused. */
  KmbCallOptions call = {0, 0, 0, 0, 0};
  call.timeout_ms = 20000;
  OK(kmb_append(client, stream_id, 7, data, 3, lens, 2, &call, &appended, DETAIL));
  call.flags = 1u << 31;
  NAMES(KMB_ERR_INVALID_ARGUMENT, "call.flags",
        kmb_append(client, stream_id, 9, data, 3, lens, 2, &call, &appended, DETAIL));
  call.flags = 0;
  call.reserved = 1;
  NAMES(KMB_ERR_INVALID_ARGUMENT, "call.reserved",
        kmb_append(client, stream_id, 9, data, 3, lens, 2, &call, &appended, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}

/* A count that no request may have is refused with its bound before any element is read. */
void test_counts(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "counts"), offset = 99;
  const size_t huge[] = {(size_t)KMB_LIMIT_BATCH_EVENTS + 1, (size_t)1 << 32, SIZE_MAX};
  const uint8_t data[] = {1};
  const uint32_t lens[] = {1};
  const uint8_t *events[] = {data};
  const size_t lengths[] = {1};
  const char *addresses[] = {door->address};
  KmbQueryParam param = {KMB_PARAM_INT64, {.i64 = 1}};
  KmbAppended appended;
  KmbQueryResult *result = NULL;
  KmbCursor *cursor = NULL;
  KmbQueue *queue = NULL;
  KmbError error = KMB_OK;
  uint64_t operation = 0;
  OK(kmb_queue_new(false, &queue, DETAIL));
  for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
    size_t n = huge[i];
    LAST(KMB_ERR_LIMIT_EXCEEDED, "event_count",
         kmb_client_append(client, stream_id, KMB_ANY_OFFSET, events, lengths, n, &offset));
    CHECK(kmb_last_error_detail()->value == KMB_LIMIT_BATCH_EVENTS);
    NAMES(KMB_ERR_LIMIT_EXCEEDED, "count",
          kmb_append(client, stream_id, KMB_ANY_OFFSET, data, 1, lens, n, NULL, &appended, DETAIL));
    CHECK(last_detail->value == KMB_LIMIT_BATCH_EVENTS);
    NAMES(KMB_ERR_LIMIT_EXCEEDED, "count",
          kmb_append_with_key(client, 1, 1, stream_id, KMB_ANY_OFFSET, data, 1, lens, n, NULL,
                              &appended, DETAIL));
    NAMES(KMB_ERR_LIMIT_EXCEEDED, "count",
          kmb_submit_append(client, queue, stream_id, KMB_ANY_OFFSET, data, 1, lens, n, NULL, 1,
                            &operation, DETAIL));
    LAST(KMB_ERR_LIMIT_EXCEEDED, "param_count",
         kmb_client_query(client, "SELECT ?", &param, n, &result));
    NAMES(KMB_ERR_LIMIT_EXCEEDED, "param_count",
          kmb_query(client, TEXT("SELECT ?"), &param, n, KMB_AT_NOW, 0, NULL, &result, DETAIL));
    CHECK(last_detail->value == KMB_LIMIT_QUERY_PARAMS);
    NAMES(KMB_ERR_LIMIT_EXCEEDED, "param_count",
          kmb_query_cursor(client, TEXT("SELECT ?"), &param, n, KMB_AT_NOW, 0, NULL, &cursor,
                           DETAIL));
    CHECK(kmb_client_connect(addresses, n, 1, NULL, &error) == NULL);
    CHECK(error == KMB_ERR_LIMIT_EXCEEDED && last_names("address_count"));
    if (i == 0) continue;
    NAMES(KMB_ERR_LIMIT_EXCEEDED, "sql",
          kmb_query(client, "SELECT 1", n, NULL, 0, KMB_AT_NOW, 0, NULL, &result, DETAIL));
    param.type = KMB_PARAM_BYTES;
    param.value.bytes = (KmbBytes){data, n};
    NAMES(KMB_ERR_LIMIT_EXCEEDED, "params[0]",
          kmb_query(client, TEXT("SELECT ?"), &param, 1, KMB_AT_NOW, 0, NULL, &result, DETAIL));
  }
  CHECK(offset == 99 && result == NULL && cursor == NULL);
  OK(kmb_queue_close(queue, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}

static void check_page(const KmbPage *page, uint64_t first_offset, size_t count) {
  CHECK(page->count == count && page->first_offset == first_offset);
  CHECK(page->next_offset == first_offset + count);
  size_t end = 0;
  for (size_t i = 0; i < page->count; i++) {
    char wanted[16];
    int len = snprintf(wanted, sizeof wanted, "e%u", (unsigned)(first_offset + i));
    end += page->lens[i];
    CHECK(page->ends[i] == end && page->lens[i] == (uint32_t)len);
    CHECK(memcmp(page->data + end - page->lens[i], wanted, page->lens[i]) == 0);
    CHECK(page->timestamps[i] >= page->timestamps[0]);
  }
  CHECK(page->data_len == end);
}

/* Every way to read gives the same events. */
void test_read(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "read");
  KmbPage *page = NULL;
  OK(kmb_read_page(client, stream_id, 0, 10, 0, NULL, &page, DETAIL));
  check_page(page, 0, 0);
  kmb_page_free(page);
  CHECK(append_some(client, stream_id, 25) == 0);

  OK(kmb_read_page(client, stream_id, 5, 10, 0, NULL, &page, DETAIL));
  check_page(page, 5, 10);
  CHECK(page->end_offset == 25 && page->position > 0);
  KmbCallOptions call = {0, 0, 0, 0, 0};
  call.min_position = page->position;
  call.flags = KMB_CALL_STALE;
  kmb_page_free(page);
  OK(kmb_read_page(client, stream_id, 20, 10, 4, &call, &page, DETAIL));
  CHECK(page->count >= 1 && page->count <= 2 && page->first_offset == 20);
  kmb_page_free(page);
  EXPECT(KMB_ERR_OFFSET_OUT_OF_RANGE,
         kmb_read_page(client, stream_id, 26, 1, 0, NULL, &page, DETAIL));
  CHECK(last_detail->value == 25);
  EXPECT(KMB_ERR_INVALID_ARGUMENT, kmb_read_page(client, stream_id, 0, 0, 0, NULL, &page, DETAIL));

  KmbReadResult *result = NULL;
  CHECK(kmb_client_read(client, stream_id, 3, 20, &result) == KMB_OK);
  CHECK(result->event_count == 20);
  for (size_t i = 0; i < result->event_count; i++) {
    char wanted[16];
    size_t len = (size_t)snprintf(wanted, sizeof wanted, "e%u", (unsigned)(3 + i));
    CHECK(result->events[i].offset == 3 + i && result->events[i].data_len == len);
    CHECK(memcmp(result->events[i].data, wanted, len) == 0);
  }
  kmb_read_result_free(result);
  CHECK(kmb_client_read(client, stream_id, 25, 20, &result) == KMB_OK);
  CHECK(result->event_count == 0);
  kmb_read_result_free(result);
  CHECK(kmb_client_read(client, stream_id, 26, 1, &result) == KMB_ERR_OFFSET_OUT_OF_RANGE);
  CHECK(kmb_client_read(client, stream_id, 0, 0, &result) == KMB_ERR_INVALID_ARGUMENT);

  /* Into the caller's buffer, at an odd address: all, as many as fit, and too little room. */
  uint8_t buffer[1001];
  KmbReadInto into;
  OK(kmb_read_into(client, stream_id, 0, 100, NULL, buffer + 1, 1000, &into, DETAIL));
  CHECK(into.count == 25 && into.first_offset == 0 && into.next_offset == 25);
  CHECK(into.end_offset == 25 && into.data_len == 10 * 2 + 15 * 3);
  CHECK(memcmp(buffer + 1 + 12 * 25, "e0e1e2e3", 8) == 0);
  OK(kmb_read_into(client, stream_id, 8, 100, NULL, buffer, 14 * 2 + 15, &into, DETAIL));
  CHECK(into.count == 3 && into.next_offset == 11 && memcmp(buffer + 36, "e8e9e10", 7) == 0);
  EXPECT(KMB_ERR_LIMIT_EXCEEDED,
         kmb_read_into(client, stream_id, 8, 100, NULL, buffer, 13, &into, DETAIL));
  CHECK(last_detail->value == 14);
  OK(kmb_read_into(client, stream_id, 25, 100, NULL, buffer, 0, &into, DETAIL));
  CHECK(into.count == 0 && into.data_len == 0);

  /* A reader pages by itself, and ends. */
  KmbReader *reader = NULL;
  NAMES(KMB_ERR_INVALID_ARGUMENT, "page_events",
        kmb_reader_new(client, stream_id, 0, 0, NULL, &reader, DETAIL));
  OK(kmb_reader_new(client, stream_id, 0, 10, NULL, &reader, DETAIL));
  for (uint64_t offset = 0; offset < 25; offset += 10) {
    OK(kmb_reader_next(reader, &page, DETAIL));
    check_page(page, offset, offset == 20 ? 5 : 10);
    kmb_page_free(page);
  }
  for (int i = 0; i < 2; i++) {
    page = (KmbPage *)(void *)buffer;
    OK(kmb_reader_next(reader, &page, DETAIL));
    CHECK(page == NULL);
  }
  OK(kmb_reader_close(reader, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}

/* Raw blocks prove the stream without the database, and a flipped bit is found. */
void test_blocks(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "blocks");
  for (int i = 0; i < 3; i++) append_some(client, stream_id, 4);
  KmbBlocks *blocks = NULL;
  KmbVerification verification;
  OK(kmb_read_blocks(client, stream_id, 0, 100, 0, NULL, &blocks, DETAIL));
  CHECK(blocks->end_offset == 12 && blocks->data_len > 3 * 128 && blocks->position > 0);
  OK(kmb_verify(client, stream_id, NULL, &verification, DETAIL));
  CHECK(verification.valid == 1 && verification.count == 12);
  CHECK(verification.first_bad_offset == UINT64_MAX);
  KmbVerification local;
  OK(kmb_verify_locally(client, stream_id, NULL, &local, DETAIL));
  CHECK(local.valid == 1 && local.count == 12 && local.first_bad_offset == UINT64_MAX);
  CHECK(local.position > 0 && memcmp(local.head, verification.head, KMB_HASH_BYTES) == 0);
  EXPECT(KMB_ERR_STREAM_NOT_FOUND, kmb_verify_locally(client, 1u << 30, NULL, &local, DETAIL));

  uint8_t head[KMB_HASH_BYTES];
  uint64_t next_offset = 0;
  OK(kmb_genesis_hash(door->tenant_id, stream_id, TEXT("blocks"), KMB_DATA_CLASS_NON_PHI, head,
                      DETAIL));
  OK(kmb_verify_blocks(blocks->data, blocks->data_len, head, &next_offset, DETAIL));
  CHECK(next_offset == 12 && memcmp(head, verification.head, KMB_HASH_BYTES) == 0);
  /* What was proven before is passed over. */
  OK(kmb_verify_blocks(blocks->data, blocks->data_len, head, &next_offset, DETAIL));
  CHECK(next_offset == 12 && memcmp(head, verification.head, KMB_HASH_BYTES) == 0);

  uint8_t *damaged = malloc(blocks->data_len);
  memcpy(damaged, blocks->data, blocks->data_len);
  damaged[blocks->data_len - 9] ^= 4;
  OK(kmb_genesis_hash(door->tenant_id, stream_id, TEXT("blocks"), KMB_DATA_CLASS_NON_PHI, head,
                      DETAIL));
  next_offset = 0;
  uint8_t before[KMB_HASH_BYTES];
  memcpy(before, head, sizeof head);
  EXPECT(KMB_ERR_CORRUPTION,
         kmb_verify_blocks(damaged, blocks->data_len, head, &next_offset, DETAIL));
  CHECK(last_detail->value == 8 && next_offset == 0 && memcmp(before, head, sizeof head) == 0);
  EXPECT(KMB_ERR_CORRUPTION,
         kmb_verify_blocks(blocks->data, blocks->data_len - 8, head, &next_offset, DETAIL));
  OK(kmb_verify_blocks(NULL, 0, head, &next_offset, DETAIL));
  NAMES(KMB_ERR_INVALID_DATA_CLASS, "data_class",
        kmb_genesis_hash(1, 1, TEXT("x"), 7, head, DETAIL));
  EXPECT(KMB_ERR_STREAM_NOT_FOUND, kmb_verify(client, 1u << 30, NULL, &verification, DETAIL));
  free(damaged);
  kmb_blocks_free(blocks);
  OK(kmb_client_close(client, 5000, DETAIL));
}

/* A tenant is created, listed, used apart from the others, and deleted. */
void test_tenants(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t tenant_id = 7001;
  bool created = false;
  KmbTenantList *list = NULL;
  OK(kmb_create_tenant(client, tenant_id, NULL, &created, DETAIL));
  CHECK(created);
  OK(kmb_create_tenant(client, tenant_id, NULL, &created, DETAIL));
  CHECK(!created);
  OK(kmb_create_tenant(client, tenant_id, NULL, NULL, DETAIL));
  OK(kmb_list_tenants(client, NULL, &list, DETAIL));
  int found = 0;
  for (size_t i = 0; i < list->count; i++) found |= list->tenant_ids[i] == tenant_id;
  CHECK(found);
  kmb_tenant_list_free(list);
  OK(kmb_delete_tenant(client, tenant_id, NULL, DETAIL));
  EXPECT(KMB_ERR_TENANT_NOT_FOUND, kmb_delete_tenant(client, 7002, NULL, DETAIL));
  EXPECT(KMB_ERR_INVALID_ARGUMENT, kmb_create_tenant(client, 0, NULL, &created, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}
