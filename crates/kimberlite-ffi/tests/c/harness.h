/* What every part of the C tests uses: checks, doors, and shorthands for common steps. */
#ifndef KIMBERLITE_TEST_HARNESS_H
#define KIMBERLITE_TEST_HARNESS_H

#include "kimberlite-ffi.h"

#include <stdint.h>
#include <string.h>

/* A way to a database: its address, and who asks. */
typedef struct {
  const char *name;
  const char *address;
  uint64_t tenant_id;
  const char *token;
} Door;

/* The detail of the last call inside EXPECT; belongs to the harness. */
extern KmbDetail *last_detail;
extern const char *test_folder;

/* Counts a check, and prints one that does not hold. */
int check(int holds, const char *what, const char *file, int line);
#define CHECK(condition) check(!!(condition), #condition, __FILE__, __LINE__)

/* Calls a function whose detail_out is DETAIL and compares its number. */
#define DETAIL fresh_detail()
#define EXPECT(number, call) expect((number), (call), #call, __FILE__, __LINE__)
#define OK(call) EXPECT(KMB_OK, call)
KmbDetail **fresh_detail(void);
int expect(KmbError wanted, KmbError got, const char *call, const char *file, int line);

/* The same, and the detail names an argument. */
#define NAMES(number, argument, call)                                                              \
  ((void)EXPECT(number, call), (void)check(detail_names(argument), argument, __FILE__, __LINE__))
#define NULLED(argument, call) NAMES(KMB_ERR_NULL_POINTER, argument, call)
#define NOT_UTF8(argument, call) NAMES(KMB_ERR_INVALID_UTF8, argument, call)
int detail_names(const char *argument);

/* The same for functions whose detail is kmb_last_error_detail. */
#define LAST(number, argument, call)                                                               \
  ((void)check((call) == (KmbError)(number), #call, __FILE__, __LINE__),                           \
   (void)check(last_names(argument), argument, __FILE__, __LINE__))
int last_names(const char *argument);

#define TEXT(literal) (literal), (sizeof(literal) - 1)

/* A text with a byte that UTF-8 does not have. */
#define BAD_TEXT "ab\xff"

KmbOptions *options_for(const Door *door);
KmbClient *client_for(const Door *door);
uint64_t stream_for(KmbClient *client, const char *name);
/* Appends count events "e0", "e1", … and returns the first offset. */
uint64_t append_some(KmbClient *client, uint64_t stream_id, uint32_t count);
/* Waits for the completion with a tag; the caller frees what it owns. */
KmbCompletion completion_of(KmbQueue *queue, uint64_t tag);
uint64_t now_ms(void);

typedef void (*DoorTest)(const Door *door);
typedef void (*PlainTest)(void);

void test_library(void);
void test_nulls(const Door *door);
void test_submitted_nulls(const Door *door);
void test_texts(const Door *door);
void test_handles(const Door *door);
void test_options(void);
void test_connect(const Door *door);
void test_streams(const Door *door);
void test_append(const Door *door);
void test_counts(const Door *door);
void test_read(const Door *door);
void test_blocks(const Door *door);
void test_query(const Door *door);
void test_cursor(const Door *door);
void test_arrow(const Door *door);
void test_tenants(const Door *door);
void test_subscription(const Door *door);
void test_submit(const Door *door);
void test_queue(const Door *door);
void test_wake(const Door *door);
void test_cancel(const Door *door);
void test_close_in_flight(const Door *door);
void test_log(const Door *door);
void test_threads(const Door *door);
void test_fork(const Door *door);
void test_panic(const Door *door);
void test_shutdown(const Door *door);

#endif
