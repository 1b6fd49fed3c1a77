/* The values of a scenario file: integers, bytes, and how a runner fails. */
#ifndef KIMBERLITE_SCENARIO_VALUES_H
#define KIMBERLITE_SCENARIO_VALUES_H

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Holds every uint64_t and int64_t. */
__extension__ typedef __int128 Integer;

/* A mistake in the scenario, or an expectation that does not hold; empty for none. */
static char failure[2048];

static void fail(const char *format, ...) {
  if (failure[0] != 0) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(failure, sizeof failure, format, arguments);
  va_end(arguments);
}

static void *take(size_t count, size_t size) {
  void *memory = calloc(count + 1, size);
  if (memory == NULL) {
    fprintf(stderr, "out of memory\n");
    exit(2);
  }
  return memory;
}

/* A value as a message shows it; valid until the next call but one. */
static const char *shown(const cJSON *value) {
  static char texts[2][240];
  static int turn = 0;
  char *text = texts[turn ^= 1];
  char *printed = cJSON_PrintUnformatted(value);
  snprintf(text, sizeof texts[0], "%s", printed == NULL ? "nothing" : printed);
  free(printed);
  return text;
}

/* Fails on a key that is not among the known ones, which stand between spaces. */
static int only(const cJSON *object, const char *known) {
  const cJSON *item;
  cJSON_ArrayForEach(item, object) {
    char word[130];
    snprintf(word, sizeof word, " %s ", item->string == NULL ? "" : item->string);
    if (strstr(known, word) == NULL) {
      fail("there is no key%sbeside%s", word, known);
      return 0;
    }
  }
  return 1;
}

static const Integer SAFE_INTEGER = (Integer)1 << 53;

static cJSON *integer(Integer value) {
  if (value >= -SAFE_INTEGER && value <= SAFE_INTEGER) return cJSON_CreateNumber((double)value);
  char digits[48];
  char *at = digits + sizeof digits;
  *--at = 0;
  for (Integer left = value < 0 ? -value : value; left > 0; left /= 10) *--at = (char)('0' + left % 10);
  if (value < 0) *--at = '-';
  cJSON *object = cJSON_CreateObject();
  cJSON_AddStringToObject(object, "int", at);
  return object;
}

static int parse_integer(const char *text, Integer *value) {
  int negative = *text == '-';
  if (*text == '-' || *text == '+') text++;
  if (*text == 0) return 0;
  Integer sum = 0;
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9' || sum > ((Integer)1 << 100)) return 0;
    sum = 10 * sum + (*text - '0');
  }
  *value = negative ? -sum : sum;
  return 1;
}

static int as_integer(const cJSON *value, Integer *out) {
  if (cJSON_IsNumber(value)) {
    *out = (Integer)value->valuedouble;
    return (double)*out == value->valuedouble;
  }
  const cJSON *digits = cJSON_GetObjectItemCaseSensitive(value, "int");
  return cJSON_IsString(digits) && only(value, " int ") && parse_integer(digits->valuestring, out);
}

static cJSON *hex(const uint8_t *bytes, size_t len) {
  char *text = take(2 * len, 1);
  for (size_t i = 0; i < len; i++) {
    text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
    text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
  }
  cJSON *object = cJSON_CreateObject();
  cJSON_AddStringToObject(object, "hex", text);
  free(text);
  return object;
}

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The bytes that stand in {"hex": …, "times": …}; the caller frees them. */
static uint8_t *bytes_of(const cJSON *value, size_t *len) {
  const cJSON *digits = cJSON_GetObjectItemCaseSensitive(value, "hex");
  const cJSON *times = cJSON_GetObjectItemCaseSensitive(value, "times");
  *len = 0;
  if (!cJSON_IsString(digits) || strlen(digits->valuestring) % 2 != 0) {
    fail("%s is not bytes", shown(value));
    return take(0, 1);
  }
  if (!only(value, " hex times ")) return take(0, 1);
  size_t one = strlen(digits->valuestring) / 2;
  size_t count = cJSON_IsNumber(times) ? (size_t)times->valuedouble : 1;
  uint8_t *bytes = take(one * count, 1);
  for (size_t i = 0; i < one; i++) {
    int high = digit(digits->valuestring[2 * i]), low = digit(digits->valuestring[2 * i + 1]);
    if (high < 0 || low < 0) fail("%s is not bytes", shown(value));
    bytes[i] = (uint8_t)(high << 4 | (low & 15));
  }
  for (size_t i = 1; i < count; i++) memcpy(bytes + i * one, bytes, one);
  *len = one * count;
  return bytes;
}

/* Whether two values are the same. */
static int same(const cJSON *a, const cJSON *b) {
  Integer m, n;
  if (as_integer(a, &m) && as_integer(b, &n)) return m == n;
  if ((a->type & 0xff) != (b->type & 0xff)) return 0;
  if (cJSON_IsString(a)) return strcmp(a->valuestring, b->valuestring) == 0;
  if (cJSON_IsNumber(a)) return a->valuedouble == b->valuedouble;
  if (!cJSON_IsArray(a) && !cJSON_IsObject(a)) return 1;
  const cJSON *x = a->child, *y = b->child;
  for (; x != NULL && y != NULL; x = x->next, y = y->next) {
    if (cJSON_IsObject(a)) {
      y = cJSON_GetObjectItemCaseSensitive(b, x->string);
      if (y == NULL) return 0;
    }
    if (!same(x, y)) return 0;
  }
  return cJSON_GetArraySize(a) == cJSON_GetArraySize(b);
}

#endif
