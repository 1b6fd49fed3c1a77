/*
 * The main job in C: write, read, follow live, query, query the past, verify.
 *
 *     quickstart ADDRESS [TOKEN CA_FILE]
 *
 * ADDRESS is `memory:`, `embedded:FOLDER`, `host:port` or `tls://host:port`. Every call is checked;
 * a failed one prints the library's own words.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kimberlite-ffi.h"

#define STREAM "visits_c"

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

/* Appends one event and returns the position of the append. */
static uint64_t append(KmbClient *client, uint64_t stream, const char *event) {
  KmbDetail *detail = NULL;
  KmbAppended appended;
  uint32_t len = (uint32_t)strlen(event);
  check("append",
        kmb_append(client, stream, KMB_ANY_OFFSET, (const uint8_t *)event, len, &len, 1, NULL,
                   &appended, &detail),
        &detail);
  return appended.position;
}

static void read_events(KmbClient *client, uint64_t stream) {
  KmbReadResult *result = NULL;
  check("read", kmb_client_read(client, stream, 0, 100, &result), NULL);
  for (size_t i = 0; i < result->event_count; i++) {
    const KmbEvent *event = &result->events[i];
    printf("read: offset %" PRIu64 ": %.*s\n", event->offset, (int)event->data_len,
           (const char *)event->data);
  }
  kmb_read_result_free(result);
}

/* Prints events of a subscription until `wanted` came. */
static void follow(KmbSubscription *subscription, size_t wanted) {
  KmbDetail *detail = NULL;
  while (wanted > 0) {
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
    wanted -= page->count < wanted ? page->count : wanted;
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

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s ADDRESS [TOKEN CA_FILE]\n", argv[0]);
    return 2;
  }
  KmbDetail *detail = NULL;
  KmbClient *client = connect_to(argv[1], argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);

  /* cut-begin */
  uint64_t visits = 0;
  check("create", kmb_client_create_stream(client, STREAM, KMB_DATA_CLASS_PHI, &visits), NULL);
  uint64_t before = append(client, visits, "{\"patient\": 7, \"reason\": \"check-up\"}");
  append(client, visits, "{\"patient\": 9, \"reason\": \"fracture\"}");
  read_events(client, visits);

  /* A subscription gives what is there, then what comes. */
  KmbSubscription *subscription = NULL;
  check("subscribe", kmb_subscribe(client, visits, 0, NULL, &subscription, &detail), &detail);
  follow(subscription, 2);
  append(client, visits, "{\"patient\": 7, \"reason\": \"follow-up\"}");
  follow(subscription, 1);
  check("close", kmb_subscription_close(subscription, &detail), &detail);

  const char *sql = "SELECT id, data ->> '$.reason' FROM " STREAM " WHERE data ->> '$.patient' = ?";
  KmbQueryParam patient = {.type = KMB_PARAM_INT64, .value = {.i64 = 7}};
  KmbQueryResult *result = NULL;
  check("query", kmb_client_query(client, sql, &patient, 1, &result), NULL);
  print_rows("sql", result);

  /* The same question, as of the moment of the first append. */
  check("query_at", kmb_client_query_at(client, sql, &patient, 1, before, &result), NULL);
  char label[64];
  snprintf(label, sizeof label, "sql as of position %" PRIu64, before);
  print_rows(label, result);

  KmbVerification found;
  check("verify", kmb_verify(client, visits, NULL, &found, &detail), &detail);
  printf("verify: valid=%s, %" PRIu64 " events, head %02x%02x%02x%02x...\n",
         found.valid ? "true" : "false", found.count, found.head[0], found.head[1], found.head[2],
         found.head[3]);
  /* cut-end */

  kmb_client_disconnect(client);
  return found.valid && found.count == 3 ? 0 : 1;
}
