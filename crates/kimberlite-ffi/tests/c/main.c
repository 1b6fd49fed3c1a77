/*
 * The tests of the C ABI, through its header alone. Each runs against a database in memory, one in a
 * folder, and, where an address and a token are given, a server:
 *
 *   abi-test FOLDER [ADDRESS TOKEN]
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

unsigned checks_made(void);
unsigned checks_failed(void);

static const struct {
  const char *name;
  DoorTest run;
} door_tests[] = {
    {"connect", test_connect},
    {"handles", test_handles},
    {"nulls", test_nulls},
    {"submitted nulls", test_submitted_nulls},
    {"texts", test_texts},
    {"streams", test_streams},
    {"append", test_append},
    {"counts", test_counts},
    {"read", test_read},
    {"blocks", test_blocks},
    {"query", test_query},
    {"cursor", test_cursor},
    {"arrow", test_arrow},
    {"tenants", test_tenants},
    {"subscription", test_subscription},
    {"submit", test_submit},
    {"queue", test_queue},
    {"wake", test_wake},
    {"cancel", test_cancel},
    {"close in flight", test_close_in_flight},
    {"log", test_log},
    {"threads", test_threads},
    {"fork", test_fork},
#ifdef TEST_PANIC
    {"panic", test_panic},
#endif
    {"shutdown", test_shutdown},
};

static void run_door(const Door *door) {
  const char *only = getenv("ONLY");
  for (size_t i = 0; i < sizeof door_tests / sizeof door_tests[0]; i++) {
    if (only != NULL && strstr(door_tests[i].name, only) == NULL) continue;
    unsigned before = checks_failed();
    uint64_t start = now_ms();
    door_tests[i].run(door);
    printf("%s: %s: %s (%u ms)\n", door->name, door_tests[i].name,
           checks_failed() == before ? "passed" : "FAILED", (unsigned)(now_ms() - start));
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  if (argc != 2 && argc != 4) {
    fprintf(stderr, "usage: %s FOLDER [ADDRESS TOKEN]\n", argv[0]);
    return 2;
  }
  test_folder = argv[1];
  test_library();
  test_options();

  Door memory = {"memory", "memory:abi-test", 1, ""};
  run_door(&memory);

  char address[4096];
  snprintf(address, sizeof address, "embedded:%s/database", test_folder);
  Door embedded = {"embedded", address, 1, ""};
  run_door(&embedded);

  if (argc == 4) {
    Door server = {"server", argv[2], 1, argv[3]};
    run_door(&server);
  }

  OK(kmb_shutdown(10000, DETAIL));
  kmb_detail_free(last_detail);
  last_detail = NULL;
  printf("%u checks, %u failed\n", checks_made(), checks_failed());
  return checks_failed() == 0 ? 0 : 1;
}
