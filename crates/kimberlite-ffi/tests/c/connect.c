/* Connecting, closing, and handles that are stale, foreign or NULL. */
#include "harness.h"

#include <stdint.h>

/* The fixed connect works, and each way to get it wrong is told. */
void test_connect(const Door *door) {
  const char *addresses[] = {door->address};
  KmbError error = 99;
  KmbClient *client = kmb_client_connect(addresses, 1, door->tenant_id, door->token, &error);
  CHECK(client != NULL && error == KMB_OK);
  CHECK(kmb_last_error_detail() == NULL);
  KmbClient *second = kmb_client_connect(addresses, 1, door->tenant_id, door->token, NULL);
  CHECK(second != NULL && second != client);
  kmb_client_disconnect(second);
  kmb_client_disconnect(client);
  kmb_client_disconnect(client);

  const char *none[] = {NULL};
  const char *bad[] = {BAD_TEXT};
  const char *nobody[] = {"127.0.0.1:1"};
  CHECK(kmb_client_connect(NULL, 1, 1, NULL, &error) == NULL);
  CHECK(error == KMB_ERR_NULL_POINTER && last_names("addresses"));
  CHECK(kmb_client_connect(none, 1, 1, NULL, &error) == NULL);
  CHECK(error == KMB_ERR_NULL_POINTER && last_names("addresses[0]"));
  CHECK(kmb_client_connect(bad, 1, 1, NULL, &error) == NULL);
  CHECK(error == KMB_ERR_INVALID_UTF8 && last_names("addresses[0]"));
  CHECK(kmb_client_connect(addresses, 1, 1, BAD_TEXT, &error) == NULL);
  CHECK(error == KMB_ERR_INVALID_UTF8 && last_names("auth_token"));
  CHECK(kmb_client_connect(addresses, 0, 1, NULL, &error) == NULL);
  CHECK(error == KMB_ERR_INVALID_ARGUMENT);
  CHECK(kmb_client_connect(addresses, 65, 1, NULL, &error) == NULL);
  CHECK(error == KMB_ERR_LIMIT_EXCEEDED && kmb_last_error_detail()->value == 64);
  CHECK(kmb_client_connect(addresses, 1, 0, door->token, &error) == NULL);
  CHECK(error == KMB_ERR_INVALID_ARGUMENT && last_names("tenant_id"));

  KmbOptions *options = NULL;
  OK(kmb_options_new(&options, DETAIL));
  OK(kmb_options_add_address(options, nobody[0], strlen(nobody[0]), DETAIL));
  OK(kmb_options_set_u64(options, TEXT("connect_timeout_ms"), 300, DETAIL));
  NAMES(KMB_ERR_CONNECTION_FAILED, "127.0.0.1:1", kmb_connect(options, &client, DETAIL));
  CHECK(last_detail->flags & KMB_DETAIL_RETRYABLE);
  NULLED("client_out", kmb_connect(options, NULL, DETAIL));
  NULLED("options", kmb_connect(NULL, &client, DETAIL));
  kmb_options_free(options);
}

/* A closed handle gives CLOSED, a second close is harmless, and what is no handle is refused. */
void test_handles(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "handles");
  KmbQueue *queue = NULL;
  KmbReader *reader = NULL;
  KmbPage *page = NULL;
  KmbCompletion completion;
  size_t count;
  int32_t fd;
  OK(kmb_queue_new(false, &queue, DETAIL));
  OK(kmb_reader_new(client, stream_id, 0, 10, NULL, &reader, DETAIL));

  NAMES(KMB_ERR_INVALID_ARGUMENT, "client",
        kmb_read_page((KmbClient *)(void *)queue, stream_id, 0, 1, 0, NULL, &page, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "queue",
        kmb_queue_fd((KmbQueue *)(void *)client, &fd, DETAIL));
  EXPECT(KMB_ERR_CLOSED,
         kmb_read_page((KmbClient *)(uintptr_t)0x7fff1, stream_id, 0, 1, 0, NULL, &page, DETAIL));

  OK(kmb_reader_close(reader, DETAIL));
  OK(kmb_reader_close(reader, DETAIL));
  NAMES(KMB_ERR_CLOSED, "reader", kmb_reader_next(reader, &page, DETAIL));
  OK(kmb_queue_close(queue, DETAIL));
  OK(kmb_queue_close(queue, DETAIL));
  NAMES(KMB_ERR_CLOSED, "queue", kmb_queue_poll(queue, &completion, 1, 0, &count, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
  kmb_client_disconnect(client);
  NAMES(KMB_ERR_CLOSED, "client", kmb_read_page(client, stream_id, 0, 1, 0, NULL, &page, DETAIL));
  CHECK(kmb_client_create_stream(client, "x", 1, &stream_id) == KMB_ERR_CLOSED);
  NULLED("client", kmb_client_close(NULL, 0, DETAIL));
  NULLED("queue", kmb_queue_close(NULL, DETAIL));
  NULLED("reader", kmb_reader_close(NULL, DETAIL));

  /* A new client does not answer to the old one's handle. */
  KmbClient *next = client_for(door);
  CHECK(next != client);
  EXPECT(KMB_ERR_CLOSED, kmb_read_page(client, stream_id, 0, 1, 0, NULL, &page, DETAIL));
  OK(kmb_client_close(next, 5000, DETAIL));
  CHECK(page == NULL);
}
