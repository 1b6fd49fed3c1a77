/*
 * Appends to and reads one stream, and writes down when each call began, ended, and what it told.
 *
 *     history ADDRESS TOKEN STREAM CLIENT CALLS SEED OUT
 */

#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kimberlite-ffi.h"

/* It takes the place of a detail, because a call beside it writes it at any time before. */
static void check(const char *what, KmbError error, KmbDetail **detail) {
  if (error == KMB_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, kmb_error_name(error), *detail ? (*detail)->message : "");
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static KmbClient *connect_to(const char *address, const char *token) {
  KmbDetail *detail = NULL;
  KmbOptions *options = NULL;
  KmbClient *client = NULL;
  check("options", kmb_options_new(&options, &detail), &detail);
  check("address", kmb_options_add_address(options, address, strlen(address), &detail), &detail);
  check("token", kmb_options_set_auth_token(options, token, strlen(token), &detail), &detail);
  check("keepalive", kmb_options_set_u64(options, "keepalive_ms", 12, 1000, &detail), &detail);
  check("timeout", kmb_options_set_u64(options, "timeout_ms", 10, 20000, &detail), &detail);
  check("connect", kmb_connect(options, &client, &detail), &detail);
  kmb_options_free(options);
  return client;
}

/* What was read so far: how many events, and FNV-1a over them. */
typedef struct {
  uint64_t length;
  uint64_t digest;
} Known;

static void append(KmbClient *client, uint64_t stream, uint64_t value, FILE *out) {
  KmbDetail *detail = NULL;
  KmbAppended appended;
  uint8_t event[8];
  uint32_t len = sizeof event;
  for (int i = 0; i < 8; i++) event[i] = (uint8_t)(value >> (8 * i));
  uint64_t begin = now_ns();
  KmbError error = kmb_append(client, stream, KMB_ANY_OFFSET, event, len, &len, 1, NULL, &appended,
                              &detail);
  uint64_t end = now_ns();
  fprintf(out, "\"op\": \"append\", \"value\": %" PRIu64 ", \"begin\": %" PRIu64 ", \"end\": %" PRIu64,
          value, begin, end);
  if (error == KMB_OK) {
    fprintf(out, ", \"offset\": %" PRIu64 "}\n", appended.first_offset);
  } else {
    bool unknown = (detail->flags & KMB_DETAIL_OUTCOME_UNKNOWN) != 0;
    fprintf(out, ", \"unknown\": %s, \"error\": \"%s\"}\n", unknown ? "true" : "false",
            kmb_error_name(error));
  }
  kmb_detail_free(detail);
}

static void read_on(KmbClient *client, uint64_t stream, Known *known, FILE *out) {
  KmbDetail *detail = NULL;
  KmbPage *page = NULL;
  uint64_t begin = now_ns();
  KmbError error = kmb_read_page(client, stream, known->length, 100000, 0, NULL, &page, &detail);
  uint64_t end = now_ns();
  fprintf(out, "\"op\": \"read\", \"begin\": %" PRIu64 ", \"end\": %" PRIu64, begin, end);
  if (error == KMB_OK) {
    for (size_t i = 0; i < page->data_len; i++) {
      known->digest = (known->digest ^ page->data[i]) * UINT64_C(0x100000001b3);
    }
    known->length += page->count;
    fprintf(out, ", \"length\": %" PRIu64 ", \"digest\": \"%" PRIu64 "\"}\n", known->length,
            known->digest);
  } else {
    fprintf(out, ", \"error\": \"%s\"}\n", kmb_error_name(error));
  }
  kmb_page_free(page);
  kmb_detail_free(detail);
}

int main(int argc, char **argv) {
  if (argc != 8) {
    fprintf(stderr, "usage: %s ADDRESS TOKEN STREAM CLIENT CALLS SEED OUT\n", argv[0]);
    return 2;
  }
  uint64_t number = strtoull(argv[4], NULL, 10), calls = strtoull(argv[5], NULL, 10);
  unsigned int seed = (unsigned int)(strtoull(argv[6], NULL, 10) * 1000 + number);
  FILE *out = fopen(argv[7], "w");
  if (out == NULL) {
    perror(argv[7]);
    return 1;
  }
  KmbClient *client = connect_to(argv[1], argv[2]);
  KmbDetail *detail = NULL;
  KmbStreamList *found = NULL;
  check("stream", kmb_stream_by_name(client, argv[3], strlen(argv[3]), NULL, &found, &detail),
        &detail);
  uint64_t stream = found->streams[0].stream_id;
  kmb_stream_list_free(found);
  Known known = {0, UINT64_C(0xcbf29ce484222325)};
  for (uint64_t call = 0; call < calls; call++) {
    fprintf(out, "{\"client\": %" PRIu64 ", ", number);
    if (rand_r(&seed) & 64) {
      append(client, stream, number << 32 | call, out);
    } else {
      read_on(client, stream, &known, out);
    }
  }
  kmb_client_disconnect(client);
  return fclose(out) == 0 ? 0 : 1;
}
