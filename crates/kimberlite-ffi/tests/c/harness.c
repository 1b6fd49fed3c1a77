#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

KmbDetail *last_detail = NULL;
const char *test_folder = "/tmp";

static unsigned checks = 0;
static unsigned failures = 0;

unsigned checks_made(void);
unsigned checks_failed(void);

unsigned checks_made(void) { return checks; }
unsigned checks_failed(void) { return failures; }

int check(int holds, const char *what, const char *file, int line) {
  checks++;
  if (!holds) {
    failures++;
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    if (last_detail != NULL) fprintf(stderr, "  last detail: %s\n", last_detail->message);
  }
  return holds;
}

KmbDetail **fresh_detail(void) {
  kmb_detail_free(last_detail);
  last_detail = NULL;
  return &last_detail;
}

int expect(KmbError wanted, KmbError got, const char *call, const char *file, int line) {
  checks++;
  int right = wanted == got;
  /* A detail is there exactly where the call failed, and says the same number. */
  int told = got == KMB_OK ? last_detail == NULL
                           : last_detail != NULL && last_detail->code == got &&
                                 last_detail->message_len == strlen(last_detail->message);
  if (!right || !told) {
    failures++;
    fprintf(stderr, "%s:%d: %s gave %s instead of %s: %s\n", file, line, call,
            kmb_error_name(got), kmb_error_name(wanted),
            last_detail == NULL ? "(no detail)" : last_detail->message);
  }
  return right && told;
}

int detail_names(const char *argument) {
  return last_detail != NULL && strstr(last_detail->message, argument) != NULL;
}

int last_names(const char *argument) {
  const KmbDetail *detail = kmb_last_error_detail();
  return detail != NULL && strstr(detail->message, argument) != NULL;
}

KmbOptions *options_for(const Door *door) {
  KmbOptions *options = NULL;
  OK(kmb_options_new(&options, DETAIL));
  OK(kmb_options_add_address(options, door->address, strlen(door->address), DETAIL));
  OK(kmb_options_set_tenant(options, door->tenant_id, DETAIL));
  OK(kmb_options_set_auth_token(options, door->token, strlen(door->token), DETAIL));
  return options;
}

KmbClient *client_for(const Door *door) {
  KmbOptions *options = options_for(door);
  KmbClient *client = NULL;
  if (!OK(kmb_connect(options, &client, DETAIL))) {
    fprintf(stderr, "no connection to %s: the other tests make no sense\n", door->address);
    exit(1);
  }
  kmb_options_free(options);
  return client;
}

uint64_t stream_for(KmbClient *client, const char *name) {
  uint64_t stream_id = 0;
  OK(kmb_create_stream(client, name, strlen(name), KMB_DATA_CLASS_NON_PHI, NULL, &stream_id,
                       DETAIL));
  return stream_id;
}

uint64_t append_some(KmbClient *client, uint64_t stream_id, uint32_t count) {
  char *data = malloc(16 * (size_t)count);
  uint32_t *lens = malloc(sizeof(uint32_t) * count);
  size_t data_len = 0;
  for (uint32_t i = 0; i < count; i++) {
    lens[i] = (uint32_t)snprintf(data + data_len, 16, "e%u", (unsigned)i);
    data_len += lens[i];
  }
  KmbAppended appended;
  memset(&appended, 0xee, sizeof appended);
  OK(kmb_append(client, stream_id, KMB_ANY_OFFSET, (const uint8_t *)data, data_len, lens, count,
                NULL, &appended, DETAIL));
  CHECK(appended.count == count && appended.reserved == 0);
  free(data);
  free(lens);
  return appended.first_offset;
}

KmbCompletion completion_of(KmbQueue *queue, uint64_t tag) {
  uint64_t deadline = now_ms() + 60000;
  while (now_ms() < deadline) {
    KmbCompletion completion;
    size_t count = 0;
    if (!OK(kmb_queue_poll(queue, &completion, 1, 1000, &count, DETAIL))) break;
    if (count == 0) continue;
    CHECK(completion.tag == tag);
    if (completion.tag == tag) return completion;
    kmb_completion_free(&completion);
  }
  CHECK(!"the completion came in time");
  KmbCompletion none;
  memset(&none, 0, sizeof none);
  none.error = KMB_ERR_UNKNOWN;
  return none;
}

uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
