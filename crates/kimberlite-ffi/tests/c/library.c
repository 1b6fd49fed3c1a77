/* The library as a whole, its errors, and its options: what needs no database. */
#include "harness.h"
#include "layouts.h"

/* Versions are told, and each error has a name, a message and a remedy; an unknown number is UNKNOWN. */
void test_library(void) {
  CHECK(kmb_abi_version() == KMB_ABI_VERSION);
  CHECK(strchr(kmb_version(), '.') != NULL);
  for (KmbError error = KMB_OK; error <= KMB_ERR_PRODUCER_EXPIRED; error++) {
    CHECK(strlen(kmb_error_name(error)) > 1);
    CHECK(strlen(kmb_error_message(error)) > 1);
    CHECK(strlen(kmb_error_remedy(error)) > 1);
  }
  CHECK(strcmp(kmb_error_name(KMB_OK), "OK") == 0);
  CHECK(strcmp(kmb_error_name(KMB_ERR_OFFSET_MISMATCH), "OFFSET_MISMATCH") == 0);
  CHECK(strcmp(kmb_error_name(4000000000u), "UNKNOWN") == 0);
  CHECK(kmb_error_message(7) == kmb_error_message(7));
  CHECK(kmb_error_is_retryable(KMB_ERR_CLUSTER_UNAVAILABLE));
  CHECK(!kmb_error_is_retryable(KMB_ERR_TIMEOUT));
  CHECK(!kmb_error_is_retryable(4000000000u));
  CHECK(kmb_last_error_detail() == NULL);
  kmb_detail_free(NULL);
  kmb_page_free(NULL);
  kmb_blocks_free(NULL);
  kmb_read_result_free(NULL);
  kmb_query_result_free(NULL);
  kmb_stream_list_free(NULL);
  kmb_tenant_list_free(NULL);
  kmb_verification_free(NULL);
  kmb_completion_free(NULL);
  kmb_options_free(NULL);
  kmb_client_disconnect(NULL);
}

/* Options are set by name; an unknown one, a wrong type and a value out of bounds are refused. */
void test_options(void) {
  KmbOptions *options = NULL;
  KmbClient *client = NULL;
  NULLED("options_out", kmb_options_new(NULL, DETAIL));
  OK(kmb_options_new(&options, DETAIL));
  OK(kmb_options_set_u64(options, TEXT("timeout_ms"), 5000, DETAIL));
  OK(kmb_options_set_string(options, TEXT("client_name"), TEXT("abi-test"), DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "no_such", kmb_options_set_u64(options, TEXT("no_such"), 1, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "client_name",
        kmb_options_set_u64(options, TEXT("client_name"), 1, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "timeout_ms",
        kmb_options_set_string(options, TEXT("timeout_ms"), TEXT("1"), DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "timeout_ms",
        kmb_options_set_u64(options, TEXT("timeout_ms"), 0, DETAIL));

  NULLED("options", kmb_options_set_u64(NULL, TEXT("timeout_ms"), 1, DETAIL));
  NULLED("name", kmb_options_set_u64(options, NULL, 3, 1, DETAIL));
  NOT_UTF8("name", kmb_options_set_u64(options, TEXT(BAD_TEXT), 1, DETAIL));
  NULLED("options", kmb_options_set_string(NULL, TEXT("client_name"), TEXT("x"), DETAIL));
  NULLED("name", kmb_options_set_string(options, NULL, 3, TEXT("x"), DETAIL));
  NULLED("value", kmb_options_set_string(options, TEXT("client_name"), NULL, 3, DETAIL));
  NOT_UTF8("name", kmb_options_set_string(options, TEXT(BAD_TEXT), TEXT("x"), DETAIL));
  NOT_UTF8("value", kmb_options_set_string(options, TEXT("client_name"), TEXT(BAD_TEXT), DETAIL));
  NULLED("options", kmb_options_add_address(NULL, TEXT("memory:"), DETAIL));
  NULLED("address", kmb_options_add_address(options, NULL, 3, DETAIL));
  NOT_UTF8("address", kmb_options_add_address(options, TEXT(BAD_TEXT), DETAIL));
  NULLED("options", kmb_options_set_tenant(NULL, 1, DETAIL));
  NULLED("options", kmb_options_set_auth_token(NULL, TEXT("t"), DETAIL));
  NULLED("token", kmb_options_set_auth_token(options, NULL, 3, DETAIL));
  NOT_UTF8("token", kmb_options_set_auth_token(options, TEXT(BAD_TEXT), DETAIL));
  CHECK(strstr(last_detail->message, BAD_TEXT) == NULL);
  OK(kmb_options_set_auth_token(options, NULL, 0, DETAIL));

  /* Without an address there is nothing to connect to. */
  EXPECT(KMB_ERR_INVALID_ARGUMENT, kmb_connect(options, &client, DETAIL));
  CHECK(client == NULL);

  kmb_options_free(options);
  kmb_options_free(options);
  EXPECT(KMB_ERR_CLOSED, kmb_options_set_tenant(options, 1, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_connect(options, &client, DETAIL));
}
