/*
 * Calls of every kind, then connects and closes: what this process holds may not grow.
 *
 *     leaks PLACE WRONG_PLACE TOKEN CALLS CONNECTS
 *
 * It says "mark PHASE" at the set points, and goes on when a line comes back: whoever started it
 * looks at its memory, files and threads meanwhile.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kimberlite-ffi.h"

enum { LOOKS = 20, EVENT = 100, BATCH = 1000, FIXED = 5000 };

static const char *COUNT_SQL = "SELECT count(*), max(id) FROM leaks_fixed WHERE id >= ?1";
static const char *ROWS_SQL = "SELECT id, data FROM leaks_fixed";
static const char *WRONG_SQL = "SELECT nothing FROM nowhere";

/* They take the place of a detail, because a call beside it writes it at any time before. */
static void check(const char *what, KmbError error, KmbDetail **detail) {
  if (error == KMB_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, kmb_error_name(error), *detail ? (*detail)->message : "");
  exit(1);
}

static void check_fails(const char *what, KmbError error, KmbDetail **detail) {
  if (error == KMB_OK) {
    fprintf(stderr, "%s must fail and did not\n", what);
    exit(1);
  }
  kmb_detail_free(*detail);
}

static void mark(const char *phase) {
  char line[64];
  printf("mark %s\n", phase);
  fflush(stdout);
  if (fgets(line, sizeof line, stdin) == NULL) {
    fprintf(stderr, "nobody looks any more\n");
    exit(1);
  }
}

static KmbError connect_to(const char *place, const char *token, KmbClient **client,
                           KmbDetail **detail) {
  KmbOptions *options = NULL;
  check("options", kmb_options_new(&options, detail), detail);
  check("address", kmb_options_add_address(options, place, strlen(place), detail), detail);
  check("tenant", kmb_options_set_tenant(options, 1, detail), detail);
  check("token", kmb_options_set_auth_token(options, token, strlen(token), detail), detail);
  KmbError error = kmb_connect(options, client, detail);
  kmb_options_free(options);
  return error;
}

/* One that grows, and one that does not, for everything that reads. */
typedef struct {
  uint64_t grows;
  uint64_t fixed;
} Streams;

static void append(KmbClient *client, uint64_t stream, uint32_t count) {
  static uint8_t data[BATCH * EVENT];
  static uint32_t lens[BATCH];
  KmbDetail *detail = NULL;
  KmbAppended appended;
  for (uint32_t i = 0; i < count; i++) lens[i] = EVENT;
  check("append",
        kmb_append(client, stream, KMB_ANY_OFFSET, data, (size_t)count * EVENT, lens, count, NULL,
                   &appended, &detail),
        &detail);
}

static uint64_t length_of(KmbClient *client, uint64_t stream) {
  KmbDetail *detail = NULL;
  KmbStreamList *list = NULL;
  check("info", kmb_stream_info(client, stream, NULL, &list, &detail), &detail);
  uint64_t length = list->streams[0].next_offset;
  kmb_stream_list_free(list);
  return length;
}

static Streams prepare(KmbClient *client) {
  KmbDetail *detail = NULL;
  Streams streams;
  check("create",
        kmb_create_stream(client, "leaks_grows", 11, KMB_DATA_CLASS_NON_PHI, NULL, &streams.grows,
                          &detail),
        &detail);
  check("create",
        kmb_create_stream(client, "leaks_fixed", 11, KMB_DATA_CLASS_NON_PHI, NULL, &streams.fixed,
                          &detail),
        &detail);
  for (uint64_t at = length_of(client, streams.fixed); at < FIXED; at += BATCH) {
    append(client, streams.fixed, BATCH);
  }
  return streams;
}

static void query_count(KmbClient *client, int64_t from) {
  KmbDetail *detail = NULL;
  KmbQueryResult *result = NULL;
  KmbQueryParam param = {.type = KMB_PARAM_INT64, .value = {.i64 = from}};
  check("query",
        kmb_query(client, COUNT_SQL, strlen(COUNT_SQL), &param, 1, KMB_AT_NOW, 0, NULL, &result,
                  &detail),
        &detail);
  kmb_query_result_free(result);
}

/* Submits a read, cancels it, and takes what became of it. */
static void cancel(KmbClient *client, KmbQueue *queue, uint64_t stream) {
  KmbDetail *detail = NULL;
  uint64_t operation;
  KmbCompletion done;
  size_t count = 0;
  check("submit",
        kmb_submit_read_page(client, queue, stream, 0, FIXED, 0, NULL, 1, &operation, &detail),
        &detail);
  check("cancel", kmb_cancel(operation, &detail), &detail);
  check("poll", kmb_queue_poll(queue, &done, 1, KMB_FOREVER, &count, &detail), &detail);
  kmb_completion_free(&done);
}

static void half_a_cursor(KmbClient *client) {
  KmbDetail *detail = NULL;
  KmbCursor *cursor = NULL;
  KmbQueryResult *batch = NULL;
  check("cursor",
        kmb_query_cursor(client, ROWS_SQL, strlen(ROWS_SQL), NULL, 0, KMB_AT_NOW, 0, NULL, &cursor,
                         &detail),
        &detail);
  check("batch", kmb_cursor_next(cursor, &batch, &detail), &detail);
  kmb_query_result_free(batch);
  check("close", kmb_cursor_close(cursor, &detail), &detail);
}

static void a_while_subscribed(KmbClient *client, uint64_t stream) {
  KmbDetail *detail = NULL;
  KmbSubscription *subscription = NULL;
  KmbPage *page = NULL;
  check("subscribe", kmb_subscribe(client, stream, 4000, NULL, &subscription, &detail), &detail);
  check("next", kmb_subscription_next(subscription, 10000, &page, &detail), &detail);
  kmb_page_free(page);
  check("close", kmb_subscription_close(subscription, &detail), &detail);
}

/* One call of the kind that is next. */
static void call(KmbClient *client, KmbQueue *queue, Streams streams, uint64_t number) {
  KmbDetail *detail = NULL;
  KmbPage *page = NULL;
  KmbQueryResult *result = NULL;
  switch (number % 10) {
    case 0:
      append(client, streams.grows, 1);
      break;
    case 1:
    case 2:
      check("read",
            kmb_read_page(client, streams.fixed, number % 4000, 100, 0, NULL, &page, &detail),
            &detail);
      kmb_page_free(page);
      break;
    case 3:
      query_count(client, (int64_t)(number % 4000));
      break;
    case 4:
      length_of(client, streams.fixed);
      break;
    case 5:
      check_fails("a stream that is not there",
                  kmb_read_page(client, UINT64_MAX - number, 0, 1, 0, NULL, &page, &detail),
                  &detail);
      break;
    case 6:
      check_fails("a table that is not there",
                  kmb_query(client, WRONG_SQL, strlen(WRONG_SQL), NULL, 0, KMB_AT_NOW, 0, NULL,
                            &result, &detail),
                  &detail);
      break;
    case 7:
      cancel(client, queue, streams.fixed);
      break;
    case 8:
      half_a_cursor(client);
      break;
    default:
      a_while_subscribed(client, streams.fixed);
  }
}

static Streams every_call(const char *place, const char *token, uint64_t count) {
  KmbDetail *detail = NULL;
  KmbClient *client = NULL;
  KmbQueue *queue = NULL;
  check("connect", connect_to(place, token, &client, &detail), &detail);
  check("queue", kmb_queue_new(false, &queue, &detail), &detail);
  Streams streams = prepare(client);
  uint64_t warm_up = count / 10 > 10 ? count / 10 : 10, step = count / LOOKS ? count / LOOKS : 1;
  for (uint64_t number = 0; number < warm_up + count; number++) {
    if (number >= warm_up && (number - warm_up) % step == 0) mark("calls");
    call(client, queue, streams, number);
  }
  mark("calls");
  check("queue", kmb_queue_close(queue, &detail), &detail);
  check("close", kmb_client_close(client, 10000, &detail), &detail);
  return streams;
}

static void connect_once(const char *place, const char *wrong, const char *token, uint64_t number,
                         uint64_t stream) {
  KmbDetail *detail = NULL;
  KmbClient *client = NULL;
  if (number % 10 == 9) {
    check_fails("a wrong address", connect_to(wrong, token, &client, &detail), &detail);
    return;
  }
  check("connect", connect_to(place, token, &client, &detail), &detail);
  length_of(client, stream);
  check("close", kmb_client_close(client, 10000, &detail), &detail);
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: %s PLACE WRONG_PLACE TOKEN CALLS CONNECTS\n", argv[0]);
    return 2;
  }
  Streams streams = every_call(argv[1], argv[3], strtoull(argv[4], NULL, 10));
  uint64_t count = strtoull(argv[5], NULL, 10);
  uint64_t warm_up = count / 10 > 10 ? count / 10 : 10, step = count / LOOKS ? count / LOOKS : 1;
  for (uint64_t number = 0; number < warm_up + count; number++) {
    if (number >= warm_up && (number - warm_up) % step == 0) mark("connects");
    connect_once(argv[1], argv[2], argv[3], number, streams.fixed);
  }
  mark("connects");
  return 0;
}
