/*
 * Who read it, what was known when, whose it is, and proof: the patterns of compliance.
 *
 *     compliance_patterns [ADDRESS [TOKEN CA_FILE]]
 */

#include <inttypes.h>

#include "common.h"

#define STREAM "doses_c"

static uint64_t correct(KmbClient *client, uint64_t doses) {
  /* cut-begin correct */
  KmbAppended wrong =
      append_text(client, doses, "{\"patient\": 7, \"drug\": \"amoxicillin\", \"mg\": 5000}");
  char right[128];
  snprintf(right, sizeof right,
           "{\"patient\": 7, \"drug\": \"amoxicillin\", \"mg\": 500, \"corrects\": %" PRIu64 "}",
           wrong.first_offset);
  append_text(client, doses, right);
  /* cut-end */
  return wrong.position;
}

static int64_t first_number(KmbQueryResult *result) {
  int64_t number = -1;
  check("mg", kmb_query_result_get_i64(result, 0, 0, &number), NULL);
  kmb_query_result_free(result);
  return number;
}

static bool known_then(KmbClient *client, uint64_t before) {
  KmbQueryResult *result = NULL;
  /* cut-begin past */
  const char *sql = "SELECT data ->> '$.mg' FROM " STREAM " ORDER BY id DESC LIMIT 1";
  check("query_at", kmb_client_query_at(client, sql, NULL, 0, before, &result), NULL);
  int64_t then = first_number(result);
  check("query", kmb_client_query(client, sql, NULL, 0, &result), NULL);
  int64_t now = first_number(result);
  printf("the nurse saw %" PRId64 " mg; today the record says %" PRId64 " mg\n", then, now);
  /* cut-end */
  return then == 5000 && now == 500;
}

static bool who_read(KmbClient *client, uint64_t doses) {
  KmbReadResult *events = NULL;
  check("read", kmb_client_read(client, doses, 0, 10, &events), NULL);
  kmb_read_result_free(events);
  /* cut-begin audit */
  const char *sql = "SELECT data ->> '$.principal', data ->> '$.event' FROM _audit"
                    " WHERE data ->> '$.stream' = ? ORDER BY id";
  KmbQueryParam stream = {.type = KMB_PARAM_STRING, .value = {.str = STREAM}};
  KmbQueryResult *records = NULL;
  check("audit", kmb_client_query(client, sql, &stream, 1, &records), NULL);
  for (size_t row = 0; row < records->row_count; row++) {
    const char *who = NULL, *what = NULL;
    check("who", kmb_query_result_get_string(records, row, 0, &who), NULL);
    check("what", kmb_query_result_get_string(records, row, 1, &what), NULL);
    printf("%s %s\n", who, what);
  }
  /* cut-end */
  bool recorded = records->row_count > 0;
  kmb_query_result_free(records);
  return recorded;
}

static bool only_if_unchanged(KmbClient *client, uint64_t doses) {
  /* cut-begin expected */
  uint64_t seen = next_offset(client, doses);
  append_text(client, doses, "{\"patient\": 9, \"drug\": \"ibuprofen\", \"mg\": 400}"); /* another */
  const char *event = "{\"decision\": \"discharge\"}";
  uint32_t len = (uint32_t)strlen(event);
  KmbAppended appended;
  KmbDetail *detail = NULL;
  KmbError error = kmb_append(client, doses, seen, (const uint8_t *)event, len, &len, 1, NULL,
                              &appended, &detail);
  if (error == KMB_ERR_OFFSET_MISMATCH) {
    printf("read what came since %" PRIu64 " first: the stream now ends at %" PRIu64 "\n", seen,
           detail->value);
  }
  kmb_detail_free(detail);
  /* cut-end */
  return error == KMB_ERR_OFFSET_MISMATCH;
}

static bool isolated(int argc, char **argv) {
  if (argc > 1 && strncmp(argv[1], "memory:", 7) != 0) return true; /* needs a token of its own */
  /* cut-begin isolation */
  KmbClient *other = connect_with(options_of(argc, argv, 2));
  KmbStreamList *found = NULL;
  KmbError error = kmb_stream_by_name(other, STREAM, strlen(STREAM), NULL, &found, NULL);
  /* KMB_ERR_STREAM_NOT_FOUND: to the tenant 2 there is no such stream. */
  /* cut-end */
  kmb_stream_list_free(found);
  kmb_client_disconnect(other);
  return error == KMB_ERR_STREAM_NOT_FOUND;
}

static bool proof(KmbClient *client, uint64_t doses) {
  /* cut-begin proof */
  KmbDetail *detail = NULL;
  KmbVerification server;
  check("verify", kmb_verify(client, doses, NULL, &server, &detail), &detail);

  uint8_t head[KMB_HASH_BYTES];
  check("genesis",
        kmb_genesis_hash(1, doses, STREAM, strlen(STREAM), KMB_DATA_CLASS_PHI, head, &detail),
        &detail);
  for (uint64_t proven = 0; proven < server.count;) {
    KmbBlocks *blocks = NULL;
    check("blocks", kmb_read_blocks(client, doses, proven, 10000, 0, NULL, &blocks, &detail),
          &detail);
    check("proof", kmb_verify_blocks(blocks->data, blocks->data_len, head, &proven, &detail),
          &detail);
    kmb_blocks_free(blocks);
  }
  bool same = memcmp(head, server.head, sizeof head) == 0;
  printf("%" PRIu64 " events, proven here: %s\n", server.count, same ? "true" : "false");
  /* cut-end */
  return same;
}

int main(int argc, char **argv) {
  KmbClient *client = connect_with(options_of(argc, argv, 1));
  uint64_t doses = 0;
  check("create", kmb_client_create_stream(client, STREAM, KMB_DATA_CLASS_PHI, &doses), NULL);
  uint64_t before = correct(client, doses);
  bool held = known_then(client, before) && who_read(client, doses) &&
              only_if_unchanged(client, doses) && isolated(argc, argv) && proof(client, doses);
  kmb_client_disconnect(client);
  if (held) printf("every pattern held\n");
  return held ? 0 : 1;
}
