/*
 * One client for the whole program: addresses, pool, deadlines, threads, and a close that waits.
 *
 *     connection_pooling [ADDRESS [TOKEN CA_FILE]]
 */

#include <inttypes.h>
#include <pthread.h>

#include "common.h"

#define THREADS 8
#define APPENDS 12

static void configure(KmbOptions *options) {
  KmbDetail *detail = NULL;
  /* cut-begin connect */
  static const struct { const char *name; uint64_t value; } numbers[] = {
      {"pool_connections", 4}, {"connect_timeout_ms", 5000}, {"timeout_ms", 10000}};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    const char *name = numbers[i].name;
    check(name, kmb_options_set_u64(options, name, strlen(name), numbers[i].value, &detail),
          &detail);
  }
  const char *name = "client_name", *value = "billing";
  check(name, kmb_options_set_string(options, name, strlen(name), value, strlen(value), &detail),
        &detail);
  /* cut-end */
}

typedef struct {
  KmbClient *client;
  uint64_t stream;
} Work;

static void *worker(void *argument) {
  Work *work = argument;
  for (int i = 0; i < APPENDS; i++) append_text(work->client, work->stream, "{\"worker\": 1}");
  return NULL;
}

static void share(KmbClient *client, uint64_t visits) {
  /* cut-begin share */
  Work work = {client, visits}; /* every thread uses the same client */
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    if (pthread_create(&threads[i], NULL, worker, &work) != 0) abort();
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  /* cut-end */
}

static bool bounded(KmbClient *client) {
  const char *slow =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n";
  /* cut-begin deadline */
  KmbCallOptions hurried = {.timeout_ms = 200};
  KmbQueryResult *result = NULL;
  KmbError error = kmb_query(client, slow, strlen(slow), NULL, 0, KMB_AT_NOW, 0, &hurried, &result,
                             NULL);
  if (error == KMB_ERR_TIMEOUT) printf("too slow: %s\n", kmb_error_message(error));
  /* cut-end */
  kmb_query_result_free(result);
  return error == KMB_ERR_TIMEOUT;
}

int main(int argc, char **argv) {
  KmbDetail *detail = NULL;
  KmbOptions *options = options_of(argc, argv, 1);
  configure(options);
  KmbClient *client = connect_with(options);
  uint64_t visits = 0;
  check("create", kmb_client_create_stream(client, "pooled_visits_c", KMB_DATA_CLASS_NON_PHI, &visits),
        NULL);
  uint64_t before = next_offset(client, visits);
  share(client, visits);
  bool held = next_offset(client, visits) == before + THREADS * APPENDS && bounded(client);
  printf("%d appends from %d threads over one client\n", THREADS * APPENDS, THREADS);
  /* cut-begin close */
  check("close", kmb_client_close(client, 5000, &detail), &detail);
  /* cut-end */
  return held ? 0 : 1;
}
