/* The completion queue: every operation submitted, waiting, waking, cancelling and closing. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>

/* Takes the completion with a tag and checks its kind; the result is the caller's. */
static KmbCompletion done(KmbQueue *queue, uint64_t tag, uint32_t kind, uint64_t operation) {
  KmbCompletion completion = completion_of(queue, tag);
  CHECK(completion.kind == kind && completion.operation == operation);
  CHECK(completion.error == KMB_OK && completion.detail == NULL);
  if (completion.detail != NULL) CHECK(!completion.detail->message);
  return completion;
}

static void submit_reads(KmbClient *c, KmbQueue *q, uint64_t s) {
  uint64_t op = 0;
  KmbCompletion done_now;
  OK(kmb_submit_read_page(c, q, s, 1, 5, 0, NULL, 10, &op, DETAIL));
  done_now = done(q, 10, KMB_COMPLETION_READ_PAGE, op);
  KmbPage *page = done_now.result;
  CHECK(page->count == 2 && page->first_offset == 1);
  kmb_page_free(page);
  OK(kmb_submit_read_blocks(c, q, s, 0, 5, 0, NULL, 11, &op, DETAIL));
  done_now = done(q, 11, KMB_COMPLETION_READ_BLOCKS, op);
  KmbBlocks *blocks = done_now.result;
  CHECK(blocks->end_offset == 3);
  kmb_blocks_free(blocks);
  KmbReader *reader = NULL;
  OK(kmb_reader_new(c, s, 0, 10, NULL, &reader, DETAIL));
  OK(kmb_submit_reader_next(reader, q, 12, &op, DETAIL));
  done_now = done(q, 12, KMB_COMPLETION_READER_NEXT, op);
  CHECK(((KmbPage *)done_now.result)->count == 3);
  kmb_completion_free(&done_now);
  CHECK(done_now.result == NULL);
  kmb_completion_free(&done_now);
  OK(kmb_submit_reader_next(reader, q, 13, &op, DETAIL));
  CHECK(done(q, 13, KMB_COMPLETION_READER_NEXT, op).result == NULL);
  OK(kmb_reader_close(reader, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_submit_reader_next(reader, q, 14, &op, DETAIL));
}

static void submit_queries(KmbClient *c, KmbQueue *q) {
  uint64_t op = 0;
  KmbCompletion done_now;
  KmbQueryParam param = {KMB_PARAM_INT64, {.i64 = 42}};
  OK(kmb_submit_query(c, q, TEXT("SELECT ?"), &param, 1, 0, 0, NULL, 20, &op, DETAIL));
  done_now = done(q, 20, KMB_COMPLETION_QUERY, op);
  int64_t value = 0;
  CHECK(kmb_query_result_get_i64(done_now.result, 0, 0, &value) == KMB_OK && value == 42);
  kmb_query_result_free(done_now.result);
  OK(kmb_submit_query_cursor(c, q, TEXT("SELECT 7"), NULL, 0, 0, 0, NULL, 21, &op, DETAIL));
  done_now = done(q, 21, KMB_COMPLETION_QUERY_CURSOR, op);
  KmbCursor *cursor = done_now.result;
  OK(kmb_submit_cursor_next(cursor, q, 22, &op, DETAIL));
  done_now = done(q, 22, KMB_COMPLETION_CURSOR_NEXT, op);
  CHECK(((KmbQueryResult *)done_now.result)->row_count == 1);
  kmb_completion_free(&done_now);
  OK(kmb_submit_cursor_next(cursor, q, 23, &op, DETAIL));
  CHECK(done(q, 23, KMB_COMPLETION_CURSOR_NEXT, op).result == NULL);
  OK(kmb_cursor_close(cursor, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_submit_cursor_next(cursor, q, 24, &op, DETAIL));
  /* A failed one carries its detail. */
  OK(kmb_submit_query(c, q, TEXT("SELEC"), NULL, 0, 0, 0, NULL, 25, &op, DETAIL));
  done_now = completion_of(q, 25);
  CHECK(done_now.error == KMB_ERR_QUERY_SYNTAX && done_now.detail != NULL);
  CHECK(done_now.detail->code == KMB_ERR_QUERY_SYNTAX && done_now.result == NULL);
  kmb_detail_free(done_now.detail);
}

static void submit_administration(KmbClient *c, KmbQueue *q, uint64_t s) {
  uint64_t op = 0;
  KmbCompletion done_now;
  OK(kmb_submit_verify(c, q, s, NULL, 30, &op, DETAIL));
  done_now = done(q, 30, KMB_COMPLETION_VERIFY, op);
  KmbVerification *verification = done_now.result;
  CHECK(verification->valid && verification->count == 3);
  kmb_verification_free(verification);
  OK(kmb_submit_verify_locally(c, q, s, NULL, 30, &op, DETAIL));
  done_now = done(q, 30, KMB_COMPLETION_VERIFY, op);
  verification = done_now.result;
  CHECK(verification->valid && verification->count == 3);
  kmb_verification_free(verification);
  OK(kmb_submit_list_streams(c, q, NULL, 31, &op, DETAIL));
  done_now = done(q, 31, KMB_COMPLETION_LIST_STREAMS, op);
  CHECK(((KmbStreamList *)done_now.result)->count >= 1);
  kmb_completion_free(&done_now);
  OK(kmb_submit_stream_info(c, q, s, NULL, 32, &op, DETAIL));
  done_now = done(q, 32, KMB_COMPLETION_STREAM_INFO, op);
  CHECK(((KmbStreamList *)done_now.result)->streams[0].stream_id == s);
  kmb_completion_free(&done_now);
  OK(kmb_submit_stream_by_name(c, q, TEXT("submit"), NULL, 33, &op, DETAIL));
  done_now = done(q, 33, KMB_COMPLETION_STREAM_INFO, op);
  CHECK(((KmbStreamList *)done_now.result)->streams[0].stream_id == s);
  kmb_completion_free(&done_now);
  OK(kmb_submit_create_tenant(c, q, 7100, NULL, 34, &op, DETAIL));
  CHECK(done(q, 34, KMB_COMPLETION_CREATE_TENANT, op).values[0] == 1);
  OK(kmb_submit_list_tenants(c, q, NULL, 35, &op, DETAIL));
  done_now = done(q, 35, KMB_COMPLETION_LIST_TENANTS, op);
  CHECK(((KmbTenantList *)done_now.result)->count >= 1);
  kmb_completion_free(&done_now);
  OK(kmb_submit_delete_tenant(c, q, 7100, NULL, 36, &op, DETAIL));
  done(q, 36, KMB_COMPLETION_DELETE_TENANT, op);
}

static void submit_subscription(KmbClient *c, KmbQueue *q, uint64_t s) {
  uint64_t op = 0;
  OK(kmb_submit_subscribe(c, q, s, 0, NULL, 40, &op, DETAIL));
  KmbSubscription *subscription = done(q, 40, KMB_COMPLETION_SUBSCRIBE, op).result;
  OK(kmb_submit_subscription_next(subscription, q, 10000, 41, &op, DETAIL));
  KmbCompletion page = done(q, 41, KMB_COMPLETION_SUBSCRIPTION_NEXT, op);
  CHECK(page.result != NULL && ((KmbPage *)page.result)->first_offset == 0);
  kmb_completion_free(&page);
  OK(kmb_submit_subscription_next(subscription, q, 10, 42, &op, DETAIL));
  page = done(q, 42, KMB_COMPLETION_SUBSCRIPTION_NEXT, op);
  kmb_completion_free(&page);
  OK(kmb_subscription_close(subscription, DETAIL));
  /* One that nobody wants is closed with its completion. */
  OK(kmb_submit_subscribe(c, q, s, 0, NULL, 43, &op, DETAIL));
  page = done(q, 43, KMB_COMPLETION_SUBSCRIBE, op);
  subscription = page.result;
  kmb_completion_free(&page);
  EXPECT(KMB_ERR_CLOSED, kmb_submit_subscription_next(subscription, q, 0, 44, &op, DETAIL));
}

/* Every operation by submission, from connecting to closing. */
void test_submit(const Door *door) {
  KmbOptions *options = options_for(door);
  KmbQueue *q = NULL;
  uint64_t op = 0, last = 0;
  OK(kmb_queue_new(true, &q, DETAIL));
  OK(kmb_submit_connect(options, q, 1, &op, DETAIL));
  KmbClient *c = done(q, 1, KMB_COMPLETION_CONNECT, op).result;
  OK(kmb_submit_create_stream(c, q, TEXT("submit"), 1, NULL, 2, &op, DETAIL));
  uint64_t s = done(q, 2, KMB_COMPLETION_CREATE_STREAM, op).values[0];

  const uint32_t lens[] = {1};
  for (uint64_t i = 0; i < 2; i++) {
    uint8_t byte = (uint8_t)i;
    OK(kmb_submit_append(c, q, s, i, &byte, 1, lens, 1, NULL, 3, &op, DETAIL));
    CHECK(op > last);
    last = op;
    KmbCompletion appended = done(q, 3, KMB_COMPLETION_APPEND, op);
    CHECK(appended.values[0] == i && appended.values[1] > 0 && appended.values[2] > 0);
  }
  OK(kmb_submit_open_producer(c, q, NULL, 4, &op, DETAIL));
  uint64_t producer = done(q, 4, KMB_COMPLETION_OPEN_PRODUCER, op).values[0];
  for (int i = 0; i < 2; i++) {
    OK(kmb_submit_append_with_key(c, q, producer, 1, s, 2, (const uint8_t *)"k", 1, lens, 1, NULL,
                                  5, &op, DETAIL));
    CHECK(done(q, 5, KMB_COMPLETION_APPEND, op).values[0] == 2);
  }
  submit_reads(c, q, s);
  submit_queries(c, q);
  submit_administration(c, q, s);
  submit_subscription(c, q, s);
  /* A tag is the caller's alone, and the id need not be told. */
  OK(kmb_submit_read_page(c, q, s, 0, 1, 0, NULL, UINT64_MAX, NULL, DETAIL));
  KmbCompletion untold = completion_of(q, UINT64_MAX);
  kmb_completion_free(&untold);

  OK(kmb_submit_close(c, q, 5000, 6, &op, DETAIL));
  done(q, 6, KMB_COMPLETION_CLOSE, op);
  OK(kmb_submit_close(c, q, 5000, 7, &op, DETAIL));
  done(q, 7, KMB_COMPLETION_CLOSE, op);
  EXPECT(KMB_ERR_CLOSED, kmb_submit_read_page(c, q, s, 0, 1, 0, NULL, 8, &op, DETAIL));
  /* A client that nobody wants is closed with its completion. */
  OK(kmb_submit_connect(options, q, 9, &op, DETAIL));
  KmbCompletion unwanted = done(q, 9, KMB_COMPLETION_CONNECT, op);
  kmb_completion_free(&unwanted);
  OK(kmb_queue_close(q, DETAIL));
  kmb_options_free(options);
}

static int readable(int fd, int timeout_ms) {
  struct pollfd wait = {fd, POLLIN, 0};
  return poll(&wait, 1, timeout_ms) == 1;
}

/* Many at once: each completes once, in order for one stream; the descriptor tells when. */
void test_queue(const Door *door) {
  enum { MANY = 200 };
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "queue");
  KmbQueue *queue = NULL;
  KmbQueue *plain = NULL;
  KmbCompletion taken[MANY];
  size_t count = 0;
  int32_t fd = -1;
  OK(kmb_queue_new(false, &plain, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "descriptor", kmb_queue_fd(plain, &fd, DETAIL));
  OK(kmb_queue_close(plain, DETAIL));
  OK(kmb_queue_new(true, &queue, DETAIL));
  OK(kmb_queue_fd(queue, &fd, DETAIL));
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
  CHECK(!readable(fd, 0));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "max_completions",
        kmb_queue_poll(queue, taken, 0, 0, &count, DETAIL));
  uint64_t start = now_ms();
  OK(kmb_queue_poll(queue, taken, 1, 60, &count, DETAIL));
  CHECK(count == 0 && now_ms() - start >= 55);

  const uint32_t lens[] = {8};
  for (uint64_t i = 0; i < MANY; i++) {
    OK(kmb_submit_append(client, queue, stream_id, KMB_ANY_OFFSET, (const uint8_t *)&i, 8, lens, 1,
                         NULL, i, NULL, DETAIL));
  }
  unsigned char seen[MANY] = {0};
  for (size_t total = 0; total < MANY;) {
    CHECK(readable(fd, 30000));
    OK(kmb_queue_poll(queue, taken, 7, 0, &count, DETAIL));
    CHECK(count >= 1 && count <= 7);
    for (size_t i = 0; i < count; i++) {
      CHECK(taken[i].error == KMB_OK && taken[i].tag < MANY && !seen[taken[i].tag]++);
      /* Submitted by one thread, so appended in that order. */
      CHECK(taken[i].values[0] == taken[i].tag);
      kmb_completion_free(&taken[i]);
    }
    total += count;
    if (count == 0) break;
  }
  CHECK(!readable(fd, 0));
  OK(kmb_client_close(client, 5000, DETAIL));
  OK(kmb_queue_close(queue, DETAIL));
  CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
}

typedef struct {
  KmbQueue *queue;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned calls, completed;
  KmbError blocking;
} Woken;

/* Takes everything without waiting; a blocking call is refused in here. */
static void on_wake(void *user_data) {
  Woken *woken = user_data;
  KmbCompletion taken[4];
  size_t count = 0;
  unsigned completed = 0;
  do {
    if (kmb_queue_poll(woken->queue, taken, 4, 0, &count, NULL) != KMB_OK) break;
    for (size_t i = 0; i < count; i++) kmb_completion_free(&taken[i]);
    completed += (unsigned)count;
  } while (count > 0);
  KmbError blocking = kmb_queue_poll(woken->queue, taken, 4, 1000, &count, NULL);
  pthread_mutex_lock(&woken->lock);
  woken->calls++;
  woken->completed += completed;
  woken->blocking = blocking;
  pthread_cond_signal(&woken->changed);
  pthread_mutex_unlock(&woken->lock);
}

typedef struct {
  KmbClient *client;
  KmbQueue *queue;
  KmbError closed;
  unsigned completed;
  int done;
  pthread_mutex_t lock;
} Closing;

/* Closes the client of the completion that it was called for. */
static void on_wake_close(void *user_data) {
  Closing *closing = user_data;
  KmbCompletion taken;
  size_t count = 0;
  unsigned completed = 0;
  while (kmb_queue_poll(closing->queue, &taken, 1, 0, &count, NULL) == KMB_OK && count > 0) {
    kmb_completion_free(&taken);
    completed++;
  }
  KmbError error = kmb_client_close(closing->client, 5000, NULL);
  pthread_mutex_lock(&closing->lock);
  closing->closed = error;
  closing->completed += completed;
  closing->done = 1;
  pthread_mutex_unlock(&closing->lock);
}

/* A client can be closed from within a callback: the call returns at once, the close goes on. */
static void close_within_callback(const Door *door) {
  Closing closing = {client_for(door), NULL, KMB_ERR_UNKNOWN, 0, 0, PTHREAD_MUTEX_INITIALIZER};
  uint64_t stream_id = stream_for(closing.client, "wake");
  OK(kmb_queue_new(false, &closing.queue, DETAIL));
  OK(kmb_submit_callback(closing.queue, on_wake_close, &closing, DETAIL));
  OK(kmb_submit_read_page(closing.client, closing.queue, stream_id, 0, 1, 0, NULL, 1, NULL, DETAIL));
  uint64_t deadline = now_ms() + 10000;
  int finished = 0;
  while (!finished && now_ms() < deadline) {
    pthread_mutex_lock(&closing.lock);
    finished = closing.done;
    pthread_mutex_unlock(&closing.lock);
  }
  CHECK(finished);
  OK(kmb_queue_close(closing.queue, DETAIL));
  CHECK(closing.closed == KMB_OK && closing.completed == 1);
  EXPECT(KMB_ERR_CLOSED, kmb_verify(closing.client, stream_id, NULL, &(KmbVerification){0}, DETAIL));
}

/* A callback is called whenever the queue becomes non-empty, and never after it was ended. */
void test_wake(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "wake");
  Woken woken = {NULL, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, KMB_OK};
  OK(kmb_queue_new(false, &woken.queue, DETAIL));
  OK(kmb_submit_callback(woken.queue, on_wake, &woken, DETAIL));
  for (unsigned i = 0; i < 50; i++) {
    OK(kmb_submit_read_page(client, woken.queue, stream_id, 0, 1, 0, NULL, i, NULL, DETAIL));
  }
  pthread_mutex_lock(&woken.lock);
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 30;
  while (woken.completed < 50) {
    if (pthread_cond_timedwait(&woken.changed, &woken.lock, &until) != 0) break;
  }
  CHECK(woken.completed == 50 && woken.calls >= 1 && woken.calls <= 50);
  CHECK(woken.blocking == KMB_ERR_INVALID_ARGUMENT);
  unsigned calls = woken.calls;
  pthread_mutex_unlock(&woken.lock);

  OK(kmb_submit_callback(woken.queue, NULL, NULL, DETAIL));
  OK(kmb_submit_read_page(client, woken.queue, stream_id, 0, 1, 0, NULL, 77, NULL, DETAIL));
  KmbCompletion completion = completion_of(woken.queue, 77);
  kmb_completion_free(&completion);
  CHECK(woken.calls == calls);
  /* What waits already is told at once. */
  OK(kmb_submit_read_page(client, woken.queue, stream_id, 0, 1, 0, NULL, 78, NULL, DETAIL));
  uint64_t deadline = now_ms() + 10000;
  OK(kmb_submit_callback(woken.queue, on_wake, &woken, DETAIL));
  unsigned completed = 0;
  while (completed < 51 && now_ms() < deadline) {
    pthread_mutex_lock(&woken.lock);
    completed = woken.completed;
    pthread_mutex_unlock(&woken.lock);
  }
  CHECK(completed == 51);
  OK(kmb_queue_close(woken.queue, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_submit_callback(woken.queue, on_wake, &woken, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
  close_within_callback(door);
}

/* An append that is cancelled in flight tells its key, which settles it: it happened exactly once. */
static void cancel_appends(KmbClient *client, KmbQueue *queue, uint64_t stream_id) {
  const uint32_t lens[] = {1};
  const uint8_t data[] = {'c'};
  KmbStreamList *before = NULL, *after = NULL;
  OK(kmb_stream_info(client, stream_id, NULL, &before, DETAIL));
  uint64_t wanted = before->streams[0].next_offset;
  kmb_stream_list_free(before);
  for (uint64_t i = 0; i < 40; i++) {
    uint64_t op = 0;
    OK(kmb_submit_append(client, queue, stream_id, KMB_ANY_OFFSET, data, 1, lens, 1, NULL, i, &op,
                         DETAIL));
    OK(kmb_cancel(op, DETAIL));
    KmbCompletion ended = completion_of(queue, i);
    CHECK(ended.error == KMB_OK || ended.error == KMB_ERR_CANCELLED);
    if (ended.error == KMB_OK) wanted++;
    if (ended.error == KMB_ERR_CANCELLED && (ended.detail->flags & KMB_DETAIL_OUTCOME_UNKNOWN)) {
      KmbAppended settled;
      OK(kmb_append_with_key(client, ended.detail->key_producer_id, ended.detail->key_sequence,
                             stream_id, KMB_ANY_OFFSET, data, 1, lens, 1, NULL, &settled, DETAIL));
      wanted++;
    }
    kmb_completion_free(&ended);
  }
  OK(kmb_stream_info(client, stream_id, NULL, &after, DETAIL));
  CHECK(after->streams[0].next_offset == wanted);
  kmb_stream_list_free(after);
}

/* A cancelled operation completes with CANCELLED, once; cancelling it again is harmless. */
void test_cancel(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "cancel");
  KmbSubscription *subscription = NULL;
  KmbQueue *queue = NULL;
  uint64_t op = 0;
  size_t count = 0;
  OK(kmb_queue_new(false, &queue, DETAIL));
  OK(kmb_subscribe(client, stream_id, 0, NULL, &subscription, DETAIL));
  OK(kmb_submit_subscription_next(subscription, queue, UINT64_MAX, 1, &op, DETAIL));
  OK(kmb_cancel(op, DETAIL));
  KmbCompletion cancelled = completion_of(queue, 1);
  CHECK(cancelled.error == KMB_ERR_CANCELLED && cancelled.operation == op);
  CHECK(cancelled.detail != NULL && cancelled.detail->code == KMB_ERR_CANCELLED);
  kmb_completion_free(&cancelled);
  OK(kmb_cancel(op, DETAIL));
  OK(kmb_cancel(UINT64_MAX, DETAIL));
  OK(kmb_queue_poll(queue, &cancelled, 1, 20, &count, DETAIL));
  CHECK(count == 0);
  /* The subscription works on. */
  append_some(client, stream_id, 1);
  KmbPage *page = NULL;
  OK(kmb_subscription_next(subscription, 10000, &page, DETAIL));
  CHECK(page != NULL && page->first_offset == 0);
  kmb_page_free(page);

  cancel_appends(client, queue, stream_id);

  /* A long query really stops: cancelled, it completes long before its own end. */
  const char *sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
                    "SELECT COUNT(*) FROM c";
  uint64_t start = now_ms();
  OK(kmb_submit_query(client, queue, sql, strlen(sql), NULL, 0, 0, 0, NULL, 2, &op, DETAIL));
  OK(kmb_queue_poll(queue, &cancelled, 1, 50, &count, DETAIL));
  CHECK(count == 0);
  OK(kmb_cancel(op, DETAIL));
  cancelled = completion_of(queue, 2);
  CHECK(cancelled.error == KMB_ERR_CANCELLED && now_ms() - start < 10000);
  kmb_completion_free(&cancelled);
  /* Closing the queue cancels what would have completed there. */
  OK(kmb_submit_subscription_next(subscription, queue, UINT64_MAX, 3, &op, DETAIL));
  OK(kmb_queue_close(queue, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_submit_subscription_next(subscription, queue, 0, 4, &op, DETAIL));
  OK(kmb_subscription_close(subscription, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}

typedef struct {
  KmbSubscription *subscription;
  KmbError error;
} Waiting;

static void *wait_for_page(void *argument) {
  Waiting *waiting = argument;
  KmbPage *page = NULL;
  waiting->error = kmb_subscription_next(waiting->subscription, UINT64_MAX, &page, NULL);
  kmb_page_free(page);
  return NULL;
}

/* A close in the middle of calls completes each of them with CLOSED, blocking ones too. */
void test_close_in_flight(const Door *door) {
  enum { PENDING = 20 };
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "in flight");
  KmbSubscription *subscriptions[PENDING];
  KmbQueue *queue = NULL;
  size_t count = 0;
  OK(kmb_queue_new(false, &queue, DETAIL));
  for (uint64_t i = 0; i < PENDING; i++) {
    OK(kmb_subscribe(client, stream_id, 0, NULL, &subscriptions[i], DETAIL));
    OK(kmb_submit_subscription_next(subscriptions[i], queue, UINT64_MAX, i, NULL, DETAIL));
  }
  Waiting waiting = {subscriptions[0], KMB_OK};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, wait_for_page, &waiting) == 0);
  struct timespec pause = {0, 50 * 1000 * 1000};
  nanosleep(&pause, NULL);
  uint64_t start = now_ms();
  OK(kmb_client_close(client, 5000, DETAIL));
  CHECK(now_ms() - start < 4000);
  /* They are all there when the close returns. */
  KmbCompletion taken[PENDING + 1];
  OK(kmb_queue_poll(queue, taken, PENDING + 1, 0, &count, DETAIL));
  CHECK(count == PENDING);
  for (size_t i = 0; i < count; i++) {
    CHECK(taken[i].error == KMB_ERR_CLOSED);
    kmb_completion_free(&taken[i]);
  }
  pthread_join(thread, NULL);
  CHECK(waiting.error == KMB_ERR_CLOSED);
  KmbPage *page = NULL;
  for (size_t i = 0; i < PENDING; i++) {
    EXPECT(KMB_ERR_CLOSED, kmb_subscription_next(subscriptions[i], 0, &page, DETAIL));
    OK(kmb_subscription_close(subscriptions[i], DETAIL));
  }
  OK(kmb_queue_close(queue, DETAIL));
}
