/*
 * Runs the shared scenarios through the C ABI. test-fixtures/README.md describes the language and
 * what a runner does.
 *
 *   scenarios FILE.json
 */
#include "kimberlite-ffi.h"
#include "scenario_values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOSE_TIMEOUT_MS 5000
#define DOORS 8
#define OPEN 64

/* --- What a scenario has open ------------------------------------------------------------------ */

typedef struct {
  char *name;
  void *handle;
} Named;

static Named clients[OPEN], subscriptions[OPEN];
static cJSON *streams, *saved;
/* The detail of the last call that failed. */
static KmbDetail *detail;

static void *find(const Named *list, const char *name) {
  for (int i = 0; i < OPEN; i++) {
    if (list[i].name != NULL && strcmp(list[i].name, name) == 0) return list[i].handle;
  }
  return NULL;
}

static void keep(Named *list, const char *name, void *handle) {
  for (int i = 0; i < OPEN; i++) {
    if (list[i].name != NULL) continue;
    list[i].name = take(strlen(name), 1);
    memcpy(list[i].name, name, strlen(name));
    list[i].handle = handle;
    return;
  }
  fail("more than %d are open at once", OPEN);
}

/* Forgets a name that is given anew, so that the later one is found; what it named is closed. */
static void forget(Named *list, const char *name, KmbError (*close)(void *)) {
  for (int i = 0; i < OPEN; i++) {
    if (list[i].name == NULL || (name != NULL && strcmp(list[i].name, name) != 0)) continue;
    close(list[i].handle);
    free(list[i].name);
    list[i].name = NULL;
  }
}

static KmbError close_client(void *client) {
  return kmb_client_close(client, CLOSE_TIMEOUT_MS, NULL);
}

static KmbError close_subscription(void *subscription) {
  return kmb_subscription_close(subscription, NULL);
}

/* --- Arguments --------------------------------------------------------------------------------- */

static const cJSON *argument(const cJSON *a, const char *key) {
  return cJSON_GetObjectItemCaseSensitive(a, key);
}

static const char *text(const cJSON *a, const char *key, const char *otherwise) {
  const cJSON *value = argument(a, key);
  return cJSON_IsString(value) ? value->valuestring : otherwise;
}

static uint64_t number_of(const cJSON *value) {
  Integer number = 0;
  if (!as_integer(value, &number) || number < 0 || number > (Integer)UINT64_MAX) {
    fail("%s is not a number from 0", shown(value));
  }
  return (uint64_t)number;
}

static uint64_t number(const cJSON *a, const char *key, uint64_t otherwise) {
  const cJSON *value = argument(a, key);
  return value == NULL ? otherwise : number_of(value);
}

static KmbClient *client_of(const cJSON *a) {
  const char *name = text(a, "client", "main");
  KmbClient *client = find(clients, name);
  if (client == NULL) fail("there is no client %s", name);
  return client;
}

static uint64_t stream_of(const cJSON *a) {
  const cJSON *value = argument(a, "stream");
  if (!cJSON_IsString(value)) return number(a, "stream", 0);
  const cJSON *id = argument(streams, value->valuestring);
  if (id == NULL) fail("there is no stream %s", value->valuestring);
  return id == NULL ? 0 : number_of(id);
}

static KmbCallOptions call_of(const cJSON *a) {
  KmbCallOptions call;
  memset(&call, 0, sizeof call);
  call.timeout_ms = number(a, "timeout_ms", 0);
  call.min_position = number(a, "min_position", 0);
  return call;
}

/* --- Results ----------------------------------------------------------------------------------- */

/* Events on their way into a result. */
typedef struct {
  cJSON *offsets, *events, *timestamps;
  double count;
} Events;

static Events no_events(void) {
  Events events = {cJSON_CreateArray(), cJSON_CreateArray(), cJSON_CreateArray(), 0};
  return events;
}

static void add_page(Events *events, KmbPage *page) {
  for (size_t i = 0; i < page->count; i++) {
    const uint8_t *data = page->data + (page->ends[i] - page->lens[i]);
    cJSON_AddItemToArray(events->offsets, integer((Integer)page->first_offset + i));
    cJSON_AddItemToArray(events->events, hex(data, page->lens[i]));
    cJSON_AddItemToArray(events->timestamps, integer(page->timestamps[i]));
  }
  events->count += (double)page->count;
  kmb_page_free(page);
}

/* Fills the result, or drops the events where the call failed. */
static void put_events(cJSON *result, Events events, int with_timestamps, KmbError error) {
  cJSON_AddNumberToObject(result, "count", events.count);
  cJSON_AddItemToObject(result, "offsets", events.offsets);
  cJSON_AddItemToObject(result, "events", events.events);
  if (with_timestamps && error == KMB_OK) {
    cJSON_AddItemToObject(result, "timestamps", events.timestamps);
  } else {
    cJSON_Delete(events.timestamps);
  }
}

/* --- Operations: each fills the result and returns the number of its call --------------------- */

static KmbError op_connect(const cJSON *a, cJSON *result) {
  (void)result;
  KmbOptions *options = NULL;
  KmbClient *client = NULL;
  const char *token = text(a, "token", ""), *name = text(a, "client", "main");
  KmbError error = kmb_options_new(&options, &detail);
  const cJSON *item;
  cJSON_ArrayForEach(item, argument(a, "addresses")) {
    const char *address = cJSON_IsString(item) ? item->valuestring : "";
    if (error == KMB_OK) error = kmb_options_add_address(options, address, strlen(address), &detail);
  }
  cJSON_ArrayForEach(item, argument(a, "options")) {
    if (error != KMB_OK) break;
    error = cJSON_IsString(item)
                ? kmb_options_set_string(options, item->string, strlen(item->string),
                                         item->valuestring, strlen(item->valuestring), &detail)
                : kmb_options_set_u64(options, item->string, strlen(item->string), number_of(item),
                                      &detail);
  }
  if (error == KMB_OK) error = kmb_options_set_tenant(options, number(a, "tenant", 1), &detail);
  if (error == KMB_OK) error = kmb_options_set_auth_token(options, token, strlen(token), &detail);
  if (error == KMB_OK) error = kmb_connect(options, &client, &detail);
  kmb_options_free(options);
  if (error == KMB_OK) {
    forget(clients, name, close_client);
    keep(clients, name, client);
  }
  return error;
}

static KmbError op_close(const cJSON *a, cJSON *result) {
  (void)result;
  if (argument(a, "subscription") == NULL) {
    return kmb_client_close(client_of(a), CLOSE_TIMEOUT_MS, &detail);
  }
  const char *name = text(a, "subscription", "sub");
  KmbSubscription *subscription = find(subscriptions, name);
  if (subscription == NULL) fail("there is no subscription %s", name);
  return kmb_subscription_close(subscription, &detail);
}

static KmbError op_create_stream(const cJSON *a, cJSON *result) {
  const char *const classes[] = {"PHI", "NonPHI", "Deidentified"};
  const cJSON *class = argument(a, "data_class");
  const char *name = text(a, "name", "");
  uint64_t id = 0, data_class = 255;
  if (cJSON_IsString(class)) {
    for (uint64_t i = 0; i < 3; i++) {
      if (strcmp(class->valuestring, classes[i]) == 0) data_class = i;
    }
    if (data_class == 255) fail("there is no data class %s", class->valuestring);
  } else {
    data_class = number(a, "data_class", 255);
  }
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_create_stream(client_of(a), name, strlen(name), (uint8_t)data_class, &call,
                                     &id, &detail);
  if (error == KMB_OK) {
    cJSON_AddItemToObject(result, "stream_id", integer(id));
    cJSON_DeleteItemFromObjectCaseSensitive(streams, name);
    cJSON_AddItemToObject(streams, name, integer(id));
  }
  return error;
}

static KmbError append(const cJSON *a, cJSON *result, int with_key) {
  const cJSON *events = argument(a, "events"), *event;
  size_t count = (size_t)cJSON_GetArraySize(events), data_len = 0, index = 0;
  uint8_t **each = take(count, sizeof *each);
  uint32_t *lens = take(count, sizeof *lens);
  cJSON_ArrayForEach(event, events) {
    size_t len = 0;
    each[index] = bytes_of(event, &len);
    lens[index++] = (uint32_t)len;
    data_len += len;
  }
  uint8_t *data = take(data_len, 1);
  for (size_t i = 0, at = 0; i < count; i++) {
    memcpy(data + at, each[i], lens[i]);
    at += lens[i];
    free(each[i]);
  }
  KmbAppended appended;
  KmbCallOptions call = call_of(a);
  uint64_t stream = stream_of(a), expected = number(a, "expected_offset", KMB_ANY_OFFSET);
  KmbError error =
      with_key ? kmb_append_with_key(client_of(a), number(a, "producer_id", 0),
                                     number(a, "sequence", 0), stream, expected, data, data_len,
                                     lens, count, &call, &appended, &detail)
               : kmb_append(client_of(a), stream, expected, data, data_len, lens, count, &call,
                            &appended, &detail);
  free(each);
  free(lens);
  free(data);
  if (error == KMB_OK) {
    cJSON_AddItemToObject(result, "first_offset", integer(appended.first_offset));
    cJSON_AddItemToObject(result, "count", integer(appended.count));
    cJSON_AddItemToObject(result, "timestamp_ns", integer(appended.timestamp_ns));
    cJSON_AddItemToObject(result, "position", integer(appended.position));
  }
  return error;
}

static KmbError op_append(const cJSON *a, cJSON *result) { return append(a, result, 0); }

static KmbError op_append_with_key(const cJSON *a, cJSON *result) { return append(a, result, 1); }

static KmbError op_open_producer(const cJSON *a, cJSON *result) {
  uint64_t producer_id = 0;
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_open_producer(client_of(a), &call, &producer_id, &detail);
  if (error == KMB_OK) cJSON_AddItemToObject(result, "producer_id", integer(producer_id));
  return error;
}

static KmbError op_read(const cJSON *a, cJSON *result) {
  KmbPage *page = NULL;
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_read_page(client_of(a), stream_of(a), number(a, "from_offset", 0),
                                 number(a, "max_events", 1000), number(a, "max_bytes", 0), &call,
                                 &page, &detail);
  if (error != KMB_OK) return error;
  Events events = no_events();
  add_page(&events, page);
  put_events(result, events, 1, error);
  return error;
}

static KmbError op_read_all(const cJSON *a, cJSON *result) {
  KmbReader *reader = NULL;
  KmbPage *page = NULL;
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_reader_new(client_of(a), stream_of(a), number(a, "from_offset", 0),
                                  number(a, "page_events", 1000), &call, &reader, &detail);
  if (error != KMB_OK) return error;
  Events events = no_events();
  while ((error = kmb_reader_next(reader, &page, &detail)) == KMB_OK && page != NULL) {
    add_page(&events, page);
  }
  kmb_reader_close(reader, NULL);
  put_events(result, events, 0, error);
  return error;
}

static KmbError op_subscribe(const cJSON *a, cJSON *result) {
  (void)result;
  KmbSubscription *subscription = NULL;
  const char *name = text(a, "subscription", "sub");
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_subscribe(client_of(a), stream_of(a), number(a, "from_offset", 0), &call,
                                 &subscription, &detail);
  if (error == KMB_OK) {
    forget(subscriptions, name, close_subscription);
    keep(subscriptions, name, subscription);
  }
  return error;
}

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static KmbError op_next(const cJSON *a, cJSON *result) {
  const char *name = text(a, "subscription", "sub");
  KmbSubscription *subscription = find(subscriptions, name);
  if (subscription == NULL) fail("there is no subscription %s", name);
  uint64_t wanted = number(a, "wanted", 1);
  uint64_t end = now_ms() + number(a, "timeout_ms", 10000);
  Events events = no_events();
  KmbError error = KMB_OK;
  while (events.count < (double)wanted) {
    uint64_t now = now_ms();
    KmbPage *page = NULL;
    error = kmb_subscription_next(subscription, now < end ? end - now : 0, &page, &detail);
    if (error != KMB_OK || (page == NULL && now >= end)) break;
    if (page != NULL) add_page(&events, page);
  }
  put_events(result, events, 0, error);
  return error;
}

static KmbQueryParam parameter(const cJSON *value, uint8_t **owned) {
  KmbQueryParam param;
  Integer number = 0;
  memset(&param, 0, sizeof param);
  param.type = KMB_PARAM_NULL;
  const cJSON *real = cJSON_GetObjectItemCaseSensitive(value, "float");
  if (as_integer(value, &number)) {
    if (number < INT64_MIN || number > INT64_MAX) fail("%s is beyond 64 bits", shown(value));
    param.type = KMB_PARAM_INT64;
    param.value.i64 = (int64_t)number;
  } else if (cJSON_IsBool(value)) {
    param.type = KMB_PARAM_BOOL;
    param.value.boolean = cJSON_IsTrue(value) != 0;
  } else if (cJSON_IsString(value)) {
    param.type = KMB_PARAM_STRING;
    param.value.str = value->valuestring;
  } else if (cJSON_IsNumber(real)) {
    only(value, " float ");
    param.type = KMB_PARAM_FLOAT64;
    param.value.f64 = real->valuedouble;
  } else if (!cJSON_IsNull(value)) {
    param.type = KMB_PARAM_BYTES;
    *owned = bytes_of(value, &param.value.bytes.len);
    param.value.bytes.data = *owned;
  }
  return param;
}

static cJSON *cell(const KmbQueryResult *rows, size_t row, size_t column) {
  KmbParamType type = KMB_PARAM_NULL;
  int64_t integral = 0;
  double real = 0;
  bool truth = false;
  const char *string = "";
  const uint8_t *data = NULL;
  size_t len = 0;
  cJSON *object;
  kmb_query_result_get_type(rows, row, column, &type, NULL);
  switch (type) {
    case KMB_PARAM_INT64:
      kmb_query_result_get_i64(rows, row, column, &integral);
      return integer(integral);
    case KMB_PARAM_FLOAT64:
      kmb_query_result_get_f64(rows, row, column, &real, NULL);
      object = cJSON_CreateObject();
      cJSON_AddNumberToObject(object, "float", real);
      return object;
    case KMB_PARAM_BOOL:
      kmb_query_result_get_bool(rows, row, column, &truth, NULL);
      return cJSON_CreateBool(truth);
    case KMB_PARAM_STRING:
      kmb_query_result_get_string(rows, row, column, &string);
      return cJSON_CreateString(string);
    case KMB_PARAM_BYTES:
      kmb_query_result_get_bytes(rows, row, column, &data, &len, NULL);
      return hex(data, len);
    default:
      return cJSON_CreateNull();
  }
}

static void put_rows(cJSON *result, const KmbQueryResult *rows) {
  cJSON *values = cJSON_AddArrayToObject(result, "values");
  cJSON *columns = cJSON_AddArrayToObject(result, "columns");
  uint64_t position = 0;
  for (size_t row = 0; row < rows->row_count; row++) {
    cJSON *cells = cJSON_CreateArray();
    for (size_t i = 0; i < rows->column_count; i++) cJSON_AddItemToArray(cells, cell(rows, row, i));
    cJSON_AddItemToArray(values, cells);
  }
  for (size_t i = 0; i < rows->column_count; i++) {
    const char *name = "";
    size_t len = 0;
    kmb_query_result_column_name(rows, i, &name, &len, NULL);
    cJSON_AddItemToArray(columns, cJSON_CreateString(name));
  }
  kmb_query_result_position(rows, &position, NULL);
  cJSON_AddItemToObject(result, "rows", integer((Integer)rows->row_count));
  cJSON_AddItemToObject(result, "position", integer(position));
}

static KmbError op_query(const cJSON *a, cJSON *result) {
  const cJSON *list = argument(a, "params"), *item;
  size_t count = (size_t)cJSON_GetArraySize(list), index = 0;
  KmbQueryParam *params = take(count, sizeof *params);
  uint8_t **owned = take(count, sizeof *owned);
  cJSON_ArrayForEach(item, list) {
    params[index] = parameter(item, &owned[index]);
    index++;
  }
  uint8_t at_kind = KMB_AT_NOW;
  uint64_t at = 0;
  if (argument(a, "at_position") != NULL) {
    at_kind = KMB_AT_POSITION;
    at = number(a, "at_position", 0);
  } else if (argument(a, "at_timestamp_ns") != NULL) {
    at_kind = KMB_AT_TIMESTAMP;
    at = number(a, "at_timestamp_ns", 0);
  }
  const char *sql = text(a, "sql", "");
  KmbQueryResult *rows = NULL;
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_query(client_of(a), sql, strlen(sql), params, count, at_kind, at, &call,
                             &rows, &detail);
  for (size_t i = 0; i < count; i++) free(owned[i]);
  free(owned);
  free(params);
  if (error == KMB_OK) {
    put_rows(result, rows);
    kmb_query_result_free(rows);
  }
  return error;
}

static KmbError op_verify(const cJSON *a, cJSON *result) {
  KmbVerification found;
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_verify(client_of(a), stream_of(a), &call, &found, &detail);
  if (error == KMB_OK) {
    cJSON_AddBoolToObject(result, "valid", found.valid);
    cJSON_AddItemToObject(result, "count", integer(found.count));
    cJSON_AddItemToObject(result, "head", hex(found.head, sizeof found.head));
  }
  return error;
}

static KmbError op_list_streams(const cJSON *a, cJSON *result) {
  KmbStreamList *list = NULL;
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_list_streams(client_of(a), &call, &list, &detail);
  if (error != KMB_OK) return error;
  cJSON_AddNumberToObject(result, "count", (double)list->count);
  cJSON *names = cJSON_AddArrayToObject(result, "names");
  for (size_t i = 0; i < list->count; i++) {
    cJSON_AddItemToArray(names, cJSON_CreateString(list->streams[i].name));
  }
  kmb_stream_list_free(list);
  return error;
}

static KmbError op_stream_info(const cJSON *a, cJSON *result) {
  const char *const classes[] = {"PHI", "NonPHI", "Deidentified"};
  const char *name = text(a, "name", NULL);
  KmbStreamList *list = NULL;
  KmbCallOptions call = call_of(a);
  KmbError error =
      name != NULL ? kmb_stream_by_name(client_of(a), name, strlen(name), &call, &list, &detail)
                   : kmb_stream_info(client_of(a), stream_of(a), &call, &list, &detail);
  if (error != KMB_OK) return error;
  const KmbStreamInfo *info = &list->streams[0];
  cJSON_AddItemToObject(result, "stream_id", integer(info->stream_id));
  cJSON_AddStringToObject(result, "name", info->name);
  cJSON_AddStringToObject(result, "data_class",
                          info->data_class < 3 ? classes[info->data_class] : "unknown");
  cJSON_AddItemToObject(result, "next_offset", integer(info->next_offset));
  cJSON_AddItemToObject(result, "data_bytes", integer(info->data_bytes));
  cJSON_AddItemToObject(result, "created_ns", integer(info->created_ns));
  cJSON_AddItemToObject(result, "last_timestamp_ns", integer(info->last_timestamp_ns));
  cJSON_AddItemToObject(result, "head", hex(info->head, sizeof info->head));
  kmb_stream_list_free(list);
  return error;
}

static KmbError op_create_tenant(const cJSON *a, cJSON *result) {
  (void)result;
  KmbCallOptions call = call_of(a);
  return kmb_create_tenant(client_of(a), number(a, "tenant", 0), &call, NULL, &detail);
}

static KmbError op_delete_tenant(const cJSON *a, cJSON *result) {
  (void)result;
  KmbCallOptions call = call_of(a);
  return kmb_delete_tenant(client_of(a), number(a, "tenant", 0), &call, &detail);
}

static KmbError op_list_tenants(const cJSON *a, cJSON *result) {
  KmbTenantList *list = NULL;
  KmbCallOptions call = call_of(a);
  KmbError error = kmb_list_tenants(client_of(a), &call, &list, &detail);
  if (error != KMB_OK) return error;
  cJSON *tenants = cJSON_AddArrayToObject(result, "tenants");
  for (size_t i = 0; i < list->count; i++) {
    cJSON_AddItemToArray(tenants, integer(list->tenant_ids[i]));
  }
  kmb_tenant_list_free(list);
  return error;
}

/* The operations and the arguments that each takes; all take client and timeout_ms. */
static const struct {
  const char *name;
  KmbError (*run)(const cJSON *arguments, cJSON *result);
  const char *arguments;
} operations[] = {
    {"connect", op_connect, " tenant token addresses options "},
    {"close", op_close, " subscription "},
    {"create_stream", op_create_stream, " name data_class "},
    {"append", op_append, " stream events expected_offset "},
    {"open_producer", op_open_producer, " "},
    {"append_with_key", op_append_with_key,
     " stream events expected_offset producer_id sequence "},
    {"read", op_read, " stream from_offset max_events max_bytes min_position "},
    {"read_all", op_read_all, " stream from_offset page_events "},
    {"subscribe", op_subscribe, " stream from_offset subscription "},
    {"next", op_next, " subscription wanted "},
    {"query", op_query, " sql params at_position at_timestamp_ns min_position "},
    {"verify", op_verify, " stream "},
    {"list_streams", op_list_streams, " "},
    {"stream_info", op_stream_info, " stream name "},
    {"create_tenant", op_create_tenant, " tenant "},
    {"delete_tenant", op_delete_tenant, " tenant "},
    {"list_tenants", op_list_tenants, " "},
};

/* --- Steps ------------------------------------------------------------------------------------- */

/* The value with references replaced; the caller owns it. */
static cJSON *resolve(const cJSON *value) {
  if (cJSON_IsArray(value)) {
    cJSON *list = cJSON_CreateArray();
    const cJSON *item;
    cJSON_ArrayForEach(item, value) cJSON_AddItemToArray(list, resolve(item));
    return list;
  }
  if (cJSON_IsObject(value) && cJSON_GetObjectItemCaseSensitive(value, "times") != NULL) {
    size_t len = 0;
    uint8_t *bytes = bytes_of(value, &len);
    cJSON *whole = hex(bytes, len);
    free(bytes);
    return whole;
  }
  if (!cJSON_IsString(value) || value->valuestring[0] != '$') return cJSON_Duplicate(value, 1);
  const char *reference = value->valuestring + 1;
  size_t len = strcspn(reference, "+-");
  char name[128] = "";
  snprintf(name, sizeof name, "%.*s", (int)len, reference);
  const cJSON *found = cJSON_GetObjectItemCaseSensitive(saved, name);
  Integer base = 0, change = 0;
  if (found == NULL) {
    fail("nothing was saved as %s", name);
  } else if (reference[len] == 0) {
    return cJSON_Duplicate(found, 1);
  } else if (!as_integer(found, &base) || !parse_integer(reference + len, &change)) {
    fail("%s is not a number", value->valuestring);
  }
  return integer(base + change);
}

static int ends_with(const char *key, const char *end) {
  size_t len = strlen(key), end_len = strlen(end);
  return len > end_len && strcmp(key + len - end_len, end) == 0;
}

static int is_expectation(const char *key) {
  return strncmp(key, "expected_", 9) == 0 && strcmp(key, "expected_offset") != 0;
}

static int contains(const cJSON *part, const cJSON *actual) {
  if (cJSON_IsString(part) && cJSON_IsString(actual)) {
    return strstr(actual->valuestring, part->valuestring) != NULL;
  }
  const cJSON *item;
  if (cJSON_IsArray(actual)) {
    cJSON_ArrayForEach(item, actual) {
      if (same(part, item)) return 1;
    }
  }
  return 0;
}

static void compare(const cJSON *expected, const cJSON *result) {
  char field[128];
  int at_least = ends_with(expected->string, "_at_least");
  int part = ends_with(expected->string, "_contains");
  int len = (int)strlen(expected->string + 9) - (at_least || part ? 9 : 0);
  snprintf(field, sizeof field, "%.*s", len, expected->string + 9);
  const cJSON *actual = cJSON_GetObjectItemCaseSensitive(result, field);
  Integer wanted, found;
  int holds = 0;
  if (actual == NULL) {
    fail("%s: the result has no %s", expected->string, field);
    return;
  }
  if (at_least) {
    holds = as_integer(expected, &wanted) && as_integer(actual, &found) && found >= wanted;
  } else {
    holds = part ? contains(expected, actual) : same(expected, actual);
  }
  if (!holds) fail("%s is %s, but it is %s", expected->string, shown(expected), shown(actual));
}

/* Calls the operation and puts its error into the result. */
static void call_operation(const char *name, const cJSON *arguments, cJSON *result) {
  size_t index = 0, count = sizeof operations / sizeof operations[0];
  while (index < count && strcmp(operations[index].name, name) != 0) index++;
  if (index == count) {
    fail("there is no operation %s", name);
    return;
  }
  const cJSON *item;
  cJSON_ArrayForEach(item, arguments) {
    char word[130];
    snprintf(word, sizeof word, " %s ", item->string);
    int known = strstr(" client timeout_ms ", word) != NULL ||
                strstr(operations[index].arguments, word) != NULL;
    if (!known && !is_expectation(item->string) && strncmp(item->string, "save_", 5) != 0) {
      fail("%s takes no %s", name, item->string);
    }
  }
  if (failure[0] != 0) return;
  KmbError error = operations[index].run(arguments, result);
  if (error != KMB_OK) {
    cJSON_AddStringToObject(result, "error", kmb_error_name(error));
    cJSON_AddStringToObject(result, "error_detail", detail == NULL ? "" : detail->message);
    cJSON_AddBoolToObject(result, "error_retryable", kmb_error_is_retryable(error));
    kmb_detail_free(detail);
    detail = NULL;
  }
}

static void run_step(const cJSON *step, uint64_t *checks) {
  cJSON *arguments = cJSON_CreateObject(), *result = cJSON_CreateObject();
  const cJSON *item;
  cJSON_ArrayForEach(item, step) {
    int plain = strncmp(item->string, "save_", 5) == 0;
    cJSON_AddItemToObject(arguments, item->string, plain ? cJSON_Duplicate(item, 1) : resolve(item));
  }
  if (failure[0] == 0) call_operation(step->string, arguments, result);
  const cJSON *error = cJSON_GetObjectItemCaseSensitive(result, "error");
  const cJSON *expected = argument(arguments, "expected_error");
  if (error != NULL && expected == NULL) {
    fail("failed with %s: %s", error->valuestring, text(result, "error_detail", ""));
  } else if (failure[0] == 0 && error == NULL && expected != NULL) {
    *checks += 1;
    fail("succeeded; expected_error is %s", shown(expected));
  }
  cJSON_ArrayForEach(item, arguments) {
    if (failure[0] != 0) break;
    if (is_expectation(item->string)) {
      *checks += 1;
      compare(item, result);
    }
  }
  cJSON_ArrayForEach(item, arguments) {
    if (failure[0] != 0 || strncmp(item->string, "save_", 5) != 0) continue;
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(result, item->string + 5);
    if (value == NULL || !cJSON_IsString(item)) {
      fail("there is no %s to save", item->string + 5);
      break;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(saved, item->valuestring);
    cJSON_AddItemToObject(saved, item->valuestring, cJSON_Duplicate(value, 1));
  }
  cJSON_Delete(arguments);
  cJSON_Delete(result);
}

/* --- The whole file ---------------------------------------------------------------------------- */

typedef struct {
  char name[64];
  uint64_t executed, steps, checks, failed;
} Door;

static Door doors[DOORS];

static Door *door_of(const char *name) {
  for (int i = 0; i < DOORS; i++) {
    if (doors[i].name[0] == 0) snprintf(doors[i].name, sizeof doors[i].name, "%s", name);
    if (strcmp(doors[i].name, name) == 0) return &doors[i];
  }
  fprintf(stderr, "more than %d doors\n", DOORS);
  exit(2);
}

static void run_scenario(const cJSON *scenario) {
  const char *name = text(scenario, "name", "unnamed");
  Door *door = door_of(text(scenario, "door", "unknown"));
  uint64_t index = 0;
  const cJSON *step;
  streams = cJSON_CreateObject();
  saved = cJSON_CreateObject();
  failure[0] = 0;
  door->executed++;
  if (!only(scenario, " name door steps ")) {
    door->failed++;
    printf("FAIL %s %s: %s\n", door->name, name, failure);
  }
  cJSON_ArrayForEach(step, argument(scenario, "steps")) {
    if (failure[0] != 0) break;
    index++;
    door->steps++;
    if (step->child == NULL || step->child->next != NULL) {
      fail("not one operation");
    } else {
      run_step(step->child, &door->checks);
    }
    if (failure[0] != 0) {
      door->failed++;
      printf("FAIL %s %s: step %" PRIu64 " %s: %s\n", door->name, name, index,
             step->child == NULL ? "nothing" : step->child->string, failure);
      break;
    }
  }
  forget(subscriptions, NULL, close_subscription);
  forget(clients, NULL, close_client);
  cJSON_Delete(streams);
  cJSON_Delete(saved);
}

static char *contents(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  size_t size = 0, room = 1 << 16;
  char *bytes = take(room, 1);
  size_t got;
  while ((got = fread(bytes + size, 1, room - size, file)) > 0) {
    size += got;
    if (size == room) {
      char *more = take(room *= 2, 1);
      memcpy(more, bytes, size);
      free(bytes);
      bytes = more;
    }
  }
  fclose(file);
  bytes[size] = 0;
  return bytes;
}

int main(int argc, char **argv) {
  char *bytes = argc == 2 ? contents(argv[1]) : NULL;
  cJSON *file = bytes == NULL ? NULL : cJSON_Parse(bytes);
  const cJSON *scenario;
  uint64_t executed = 0, failed = 0;
  if (file == NULL) {
    fprintf(stderr, "usage: %s FILE.json, as `cargo xtask scenarios` writes it\n", argv[0]);
    return 2;
  }
  if (!cJSON_IsArray(argument(file, "scenarios")) || !only(file, " scenarios ")) {
    fprintf(stderr, "%s: %s\n", argv[1], failure[0] != 0 ? failure : "scenarios is no list");
    return 2;
  }
  cJSON_ArrayForEach(scenario, argument(file, "scenarios")) run_scenario(scenario);
  for (int i = 0; i < DOORS && doors[i].name[0] != 0; i++) {
    const Door *door = &doors[i];
    printf("scenarios %s: %" PRIu64 " executed, %" PRIu64 " steps, %" PRIu64 " checks, %" PRIu64
           " failed\n",
           door->name, door->executed, door->steps, door->checks, door->failed);
    executed += door->executed;
    failed += door->failed;
  }
  kmb_shutdown(CLOSE_TIMEOUT_MS, NULL);
  cJSON_Delete(file);
  free(bytes);
  return executed > 0 && failed == 0 ? 0 : 1;
}
