/* The smallest program that shows that a package works: one event into a database in memory. */
#include <kimberlite-ffi.h>
#include <stdio.h>

int main(void) {
  const char *addresses[] = {"memory:"};
  const uint8_t *events[] = {(const uint8_t *)"hello"};
  const size_t lengths[] = {5};
  uint64_t stream_id = 0, offset = 0;
  KmbReadResult *result = NULL;
  KmbError error = KMB_OK;
  KmbClient *client = kmb_client_connect(addresses, 1, 1, NULL, &error);
  if (client != NULL) {
    error = kmb_client_create_stream(client, "greetings", KMB_DATA_CLASS_NON_PHI, &stream_id);
  }
  if (error == KMB_OK) {
    error = kmb_client_append(client, stream_id, KMB_ANY_OFFSET, events, lengths, 1, &offset);
  }
  if (error == KMB_OK) error = kmb_client_read(client, stream_id, 0, 10, &result);
  if (error != KMB_OK) {
    const KmbDetail *detail = kmb_last_error_detail();
    fprintf(stderr, "%s: %s\n", kmb_error_message(error), detail == NULL ? "" : detail->message);
    return 1;
  }
  printf("kimberlite %s: %.*s\n", kmb_version(), (int)result->events[0].data_len,
         (const char *)result->events[0].data);
  kmb_read_result_free(result);
  kmb_client_disconnect(client);
  return 0;
}
