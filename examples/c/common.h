/* What the programs of the guides share: a check that tells a failure in the library's own words. */

#ifndef KIMBERLITE_EXAMPLES_COMMON_H
#define KIMBERLITE_EXAMPLES_COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kimberlite-ffi.h"

/* Ends the program where a call failed; `detail` is where the call put its detail, or NULL. */
static inline void check(const char *what, KmbError error, KmbDetail **detail) {
  if (error == KMB_OK) return;
  const KmbDetail *told = detail != NULL ? *detail : kmb_last_error_detail();
  fprintf(stderr, "%s: %s: %s\n", what, kmb_error_name(error),
          told != NULL ? told->message : kmb_error_message(error));
  if (detail != NULL) kmb_detail_free(*detail);
  exit(1);
}

/* A client of a tenant at argv's ADDRESS [TOKEN CA_FILE]. */
static inline KmbOptions *options_of(int argc, char **argv, uint64_t tenant_id) {
  KmbDetail *detail = NULL;
  KmbOptions *options = NULL;
  const char *address = argc > 1 ? argv[1] : "memory:guides";
  check("options", kmb_options_new(&options, &detail), &detail);
  check("address", kmb_options_add_address(options, address, strlen(address), &detail), &detail);
  check("tenant", kmb_options_set_tenant(options, tenant_id, &detail), &detail);
  if (argc > 2) {
    check("token", kmb_options_set_auth_token(options, argv[2], strlen(argv[2]), &detail), &detail);
  }
  if (argc > 3) {
    const char *name = "tls_ca_file";
    check(name,
          kmb_options_set_string(options, name, strlen(name), argv[3], strlen(argv[3]), &detail),
          &detail);
  }
  return options;
}

static inline KmbClient *connect_with(KmbOptions *options) {
  KmbDetail *detail = NULL;
  KmbClient *client = NULL;
  check("connect", kmb_connect(options, &client, &detail), &detail);
  kmb_options_free(options);
  return client;
}

/* Appends one event of text and tells where it landed. */
static inline KmbAppended append_text(KmbClient *client, uint64_t stream, const char *text) {
  KmbDetail *detail = NULL;
  KmbAppended appended;
  uint32_t len = (uint32_t)strlen(text);
  check("append",
        kmb_append(client, stream, KMB_ANY_OFFSET, (const uint8_t *)text, len, &len, 1, NULL,
                   &appended, &detail),
        &detail);
  return appended;
}

/* The offset that the stream's next event gets. */
static inline uint64_t next_offset(KmbClient *client, uint64_t stream) {
  KmbDetail *detail = NULL;
  KmbStreamList *list = NULL;
  check("stream_info", kmb_stream_info(client, stream, NULL, &list, &detail), &detail);
  uint64_t next = list->streams[0].next_offset;
  kmb_stream_list_free(list);
  return next;
}

#endif
