/*
 * What to do with an error: ask its number, try again where that is safe, settle what is unknown.
 *
 *     troubleshooting [ADDRESS [TOKEN CA_FILE]]
 */

#define _POSIX_C_SOURCE 200809L /* for nanosleep */

#include <inttypes.h>
#include <time.h>

#include "common.h"

static bool catch_it(KmbClient *client) {
  /* cut-begin catch */
  KmbDetail *detail = NULL;
  KmbStreamList *found = NULL;
  KmbError error = kmb_stream_by_name(client, "vists", strlen("vists"), NULL, &found, &detail);
  if (error == KMB_ERR_STREAM_NOT_FOUND) {
    printf("%s %" PRIu32 "\n", kmb_error_name(error), error); /* the same in every language */
    printf("%s\n", detail->message);                          /* which stream of which tenant */
    printf("%s\n", kmb_error_remedy(error));                  /* what to do */
  }
  kmb_detail_free(detail);
  /* cut-end */
  return error == KMB_ERR_STREAM_NOT_FOUND;
}

/* cut-begin retry */
static KmbError create_with_retries(KmbClient *client, const char *name, uint64_t *stream) {
  for (long attempt = 1;; attempt++) {
    KmbError error = kmb_client_create_stream(client, name, KMB_DATA_CLASS_NON_PHI, stream);
    if (!kmb_error_is_retryable(error) || attempt == 5) return error;
    struct timespec pause = {.tv_nsec = 50000000L << (attempt - 1)};
    nanosleep(&pause, NULL);
  }
}
/* cut-end */

static KmbError settle(KmbClient *client, uint64_t visits, KmbAppended *appended) {
  /* cut-begin settle */
  const char *event = "{\"patient\": 7}";
  uint32_t len = (uint32_t)strlen(event);
  KmbCallOptions hurried = {.timeout_ms = 1};
  KmbDetail *detail = NULL;
  KmbError error = kmb_append(client, visits, KMB_ANY_OFFSET, (const uint8_t *)event, len, &len, 1,
                              &hurried, appended, &detail);
  if (error != KMB_OK && (detail->flags & KMB_DETAIL_OUTCOME_UNKNOWN)) {
    /* It was sent, and nobody knows: the key tells what became of it, or does it now. */
    error = kmb_append_with_key(client, detail->key_producer_id, detail->key_sequence, visits,
                                KMB_ANY_OFFSET, (const uint8_t *)event, len, &len, 1, NULL,
                                appended, NULL);
  }
  kmb_detail_free(detail);
  /* cut-end */
  return error;
}

/* cut-begin log */
static void print_line(void *user_data, uint32_t level, const char *target, size_t target_len,
                       const char *message, size_t message_len) {
  (void)user_data;
  fprintf(stderr, "%" PRIu32 " %.*s: %.*s\n", level, (int)target_len, target, (int)message_len,
          message);
}
/* cut-end */

int main(int argc, char **argv) {
  KmbDetail *detail = NULL;
  check("log", kmb_log_set_callback(print_line, NULL, KMB_LOG_LEVEL_INFO, &detail), &detail);
  KmbClient *client = connect_with(options_of(argc, argv, 1));
  uint64_t visits = 0;
  check("create", create_with_retries(client, "settled_visits_c", &visits), NULL);
  bool held = catch_it(client);

  uint64_t before = next_offset(client, visits);
  KmbAppended appended;
  KmbError error = settle(client, visits, &appended);
  /* A deadline that ended before anything was sent leaves nothing behind, and no key. */
  uint64_t expected = error == KMB_OK ? before + 1 : before;
  held = held && (error == KMB_OK || error == KMB_ERR_TIMEOUT) &&
         next_offset(client, visits) == expected;
  kmb_client_disconnect(client);
  check("log", kmb_log_set_callback(NULL, NULL, 0, &detail), &detail);
  if (held) printf("every error was understood\n");
  return held ? 0 : 1;
}
