/*
 * The main job in C: write, read, follow live, query, query the past, verify.
 *
 *     quickstart ADDRESS [TOKEN CA_FILE]
 *
 * ADDRESS is `memory:`, `embedded:FOLDER`, `host:port` or `tls://host:port`. Every call is checked;
 * a failed one prints the library's own words. A second run on the same database adds to it.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kimberlite-ffi.h"

#define STREAM "visits_c"

/* cut-begin connect */
/*
 * Ends the program where a call failed. `detail` is where the call put its detail, NULL for a call
 * that has none. The place is passed, not what is in it: C may look at that before the call.
 */
static void check(const char *what, KmbError error, KmbDetail **detail) {
  if (error == KMB_OK) return;
  const KmbDetail *told = detail != NULL ? *detail : kmb_last_error_detail();
  fprintf(stderr, "%s: %s: %s\n", what, kmb_error_name(error),
          told != NULL ? told->message : kmb_error_message(error));
  if (detail != NULL) kmb_detail_free(*detail);
  exit(1);
}

static KmbClient *connect_to(const char *address, const char *token, const char *ca_file) {
  KmbDetail *detail = NULL;
  KmbOptions *options = NULL;
  KmbClient *client = NULL;
  check("options", kmb_options_new(&options, &detail), &detail);
  check("address", kmb_options_add_address(options, address, strlen(address), &detail), &detail);
  check("tenant", kmb_options_set_tenant(options, 1, &detail), &detail);
  if (token != NULL) {
    check("token", kmb_options_set_auth_token(options, token, strlen(token), &detail), &detail);
  }
  if (ca_file != NULL) {
    const char *name = "tls_ca_file";
    check(name,
          kmb_options_set_string(options, name, strlen(name), ca_file, strlen(ca_file), &detail),
          &detail);
  }
  check("connect", kmb_connect(options, &client, &detail), &detail);
  kmb_options_free(options);
  return client;
}
/* cut-end */

/* cut-begin helpers */
/* Appends one event and tells where it landed. */
static KmbAppended append(KmbClient *client, uint64_t stream, const char *event) {
  KmbDetail *detail = NULL;
  KmbAppended appended;
  uint32_t len = (uint32_t)strlen(event);
  check("append",
        kmb_append(client, stream, KMB_ANY_OFFSET, (const uint8_t *)event, len, &len, 1, NULL,
                   &appended, &detail),
        &detail);
  return appended;
}

static void read_events(KmbClient *client, uint64_t stream, uint64_t from_offset) {
  KmbReadResult *result = NULL;
  check("read", kmb_client_read(client, stream, from_offset, 100, &result), NULL);
  for (size_t i = 0; i < result->event_count; i++) {
    const KmbEvent *event = &result->events[i];
    printf("read: offset %" PRIu64 ": %.*s\n", event->offset, (int)event->data_len,
           (const char *)event->data);
  }
  kmb_read_result_free(result);
}

/* The offset that the stream's next event gets. */
static uint64_t end_of(KmbClient *client, uint64_t stream) {
  KmbDetail *detail = NULL;
  KmbStreamList *list = NULL;
  check("stream_info", kmb_stream_info(client, stream, NULL, &list, &detail), &detail);
  uint64_t next_offset = list->streams[0].next_offset;
  kmb_stream_list_free(list);
  return next_offset;
}

/* Prints events of a subscription until the one at the offset `awaited` came. */
static void follow(KmbSubscription *subscription, uint64_t awaited) {
  KmbDetail *detail = NULL;
  uint64_t next_offset = 0;
  while (next_offset <= awaited) {
    KmbPage *page = NULL;
    check("next", kmb_subscription_next(subscription, 10000, &page, &detail), &detail);
    if (page == NULL) {
      fprintf(stderr, "next: no event came in 10 s\n");
      exit(1);
    }
    for (size_t i = 0; i < page->count; i++) {
      printf("live: offset %" PRIu64 ": %.*s\n", page->first_offset + i, (int)page->lens[i],
             (const char *)page->data + (page->ends[i] - page->lens[i]));
    }
    next_offset = page->first_offset + page->count;
    kmb_page_free(page);
  }
}

static void print_rows(const char *what, KmbQueryResult *result) {
  for (size_t row = 0; row < result->row_count; row++) {
    int64_t id = 0;
    const char *reason = NULL;
    check("id", kmb_query_result_get_i64(result, row, 0, &id), NULL);
    check("reason", kmb_query_result_get_string(result, row, 1, &reason), NULL);
    printf("%s: %" PRId64 " %s\n", what, id, reason);
  }
  kmb_query_result_free(result);
}
/* cut-end */

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s ADDRESS [TOKEN CA_FILE]\n", argv[0]);
    return 2;
  }
  KmbDetail *detail = NULL;
  KmbClient *client = connect_to(argv[1], argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);

  /* cut-begin main */
  uint64_t visits = 0;
  check("create", kmb_client_create_stream(client, STREAM, KMB_DATA_CLASS_PHI, &visits), NULL);
  KmbAppended before = append(client, visits, "{\"patient\": 7, \"reason\": \"check-up\"}");
  append(client, visits, "{\"patient\": 9, \"reason\": \"fracture\"}");
  read_events(client, visits, before.first_offset);

  /* A subscription gives what is there from an offset on, then what comes. */
  KmbSubscription *subscription = NULL;
  uint64_t end = end_of(client, visits);
  check("subscribe", kmb_subscribe(client, visits, end, NULL, &subscription, &detail), &detail);
  KmbAppended awaited = append(client, visits, "{\"patient\": 7, \"reason\": \"follow-up\"}");
  follow(subscription, awaited.first_offset);
  check("close", kmb_subscription_close(subscription, &detail), &detail);

  const char *sql = "SELECT id, data ->> '$.reason' FROM " STREAM " WHERE data ->> '$.patient' = ?";
  KmbQueryParam patient = {.type = KMB_PARAM_INT64, .value = {.i64 = 7}};
  KmbQueryResult *result = NULL;
  check("query", kmb_client_query(client, sql, &patient, 1, &result), NULL);
  print_rows("sql", result);

  /* The same question, as of the moment of the first append. */
  check("query_at", kmb_client_query_at(client, sql, &patient, 1, before.position, &result), NULL);
  char label[64];
  snprintf(label, sizeof label, "sql as of position %" PRIu64, before.position);
  print_rows(label, result);

  KmbVerification found;
  check("verify", kmb_verify(client, visits, NULL, &found, &detail), &detail);
  printf("verify: valid=%s, %" PRIu64 " events, head %02x%02x%02x%02x...\n",
         found.valid ? "true" : "false", found.count, found.head[0], found.head[1], found.head[2],
         found.head[3]);
  /* cut-end */

  kmb_client_disconnect(client);
  return found.valid ? 0 : 1;
}
