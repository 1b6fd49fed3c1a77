/* The process: logs, threads, forks, forced panics, and the end. */
#include "harness.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
  pthread_mutex_t lock;
  unsigned lines;
  int on_own_thread;
} Lines;

static void on_line(void *user_data, uint32_t level, const char *target, size_t target_len,
                    const char *message, size_t message_len) {
  Lines *lines = user_data;
  char name[32] = "";
  pthread_getname_np(pthread_self(), name, sizeof name);
  pthread_mutex_lock(&lines->lock);
  if (level >= KMB_LOG_LEVEL_ERROR && level <= KMB_LOG_LEVEL_DEBUG && target_len > 0 &&
      message_len > 0 && target != NULL && message != NULL) {
    lines->lines++;
  }
  lines->on_own_thread = strcmp(name, "kimberlite-log") == 0;
  pthread_mutex_unlock(&lines->lock);
}

static unsigned lines_of(Lines *lines) {
  pthread_mutex_lock(&lines->lock);
  unsigned count = lines->lines;
  pthread_mutex_unlock(&lines->lock);
  return count;
}

/* Log lines reach the callback on a thread of their own, and none comes after it was ended. */
void test_log(const Door *door) {
  Lines lines = {PTHREAD_MUTEX_INITIALIZER, 0, 0};
  NAMES(KMB_ERR_INVALID_ARGUMENT, "max_level", kmb_log_set_callback(on_line, &lines, 9, DETAIL));
  OK(kmb_log_set_callback(on_line, &lines, KMB_LOG_LEVEL_DEBUG, DETAIL));
  kmb_client_disconnect(client_for(door));
  uint64_t deadline = now_ms() + 10000;
  struct timespec pause = {0, 1000 * 1000};
  while (lines_of(&lines) == 0 && now_ms() < deadline) nanosleep(&pause, NULL);
  CHECK(lines_of(&lines) > 0 && lines.on_own_thread);
  OK(kmb_log_set_callback(NULL, NULL, 0, DETAIL));
  unsigned count = lines_of(&lines);
  kmb_client_disconnect(client_for(door));
  CHECK(lines_of(&lines) == count);
}

static void *one_call(void *argument) {
  KmbClient *client = argument;
  KmbStreamList *list = NULL;
  if (kmb_list_streams(client, NULL, &list, NULL) == KMB_OK) kmb_stream_list_free(list);
  return NULL;
}

/* However many clients and callers: a fixed number of threads, each with a name of ours. */
void test_threads(const Door *door) {
  enum { CLIENTS = 8, CALLERS = 8 };
  KmbClient *clients[CLIENTS];
  pthread_t callers[CALLERS];
  for (int i = 0; i < CLIENTS; i++) clients[i] = client_for(door);
  for (int i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, one_call, clients[i]);
  for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
  unsigned threads = 0, io = 0, strange = 0;
  DIR *tasks = opendir("/proc/self/task");
  struct dirent *task;
  while (tasks != NULL && (task = readdir(tasks)) != NULL) {
    char path[300], name[64] = "";
    if (task->d_name[0] == '.' || atoi(task->d_name) == (int)getpid()) continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    FILE *comm = fopen(path, "r");
    if (comm == NULL) continue;
    if (fgets(name, sizeof name, comm) != NULL) {
      threads++;
      io += strcmp(name, "kimberlite-io\n") == 0;
      strange += strncmp(name, "kimberlite-", 11) != 0;
    }
    fclose(comm);
  }
  if (tasks != NULL) closedir(tasks);
  /* Two of the runtime; of an embedded database commit, preparer and at most two for queries. */
  CHECK(io == 2 && strange == 0 && threads <= 6);
  for (int i = 0; i < CLIENTS; i++) OK(kmb_client_close(clients[i], 5000, DETAIL));
}

/* In the child of a fork every call says FORKED at once, and the parent works on. */
void test_fork(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "fork");
  append_some(client, stream_id, 1);
  KmbPage *page = NULL;
  KmbQueue *queue = NULL;
  OK(kmb_read_page(client, stream_id, 0, 1, 0, NULL, &page, DETAIL));
  /* The child answers through a pipe: its exit status belongs to Valgrind, which counts what the
     child must not free as lost. */
  int answer[2];
  CHECK(pipe(answer) == 0);
  pid_t child = fork();
  if (child == 0) {
    KmbError error = KMB_OK;
    KmbQueue *none = NULL;
    const char *address = door->address;
    int right = kmb_client_create_stream(client, "x", 1, &stream_id) == KMB_ERR_FORKED;
    const KmbDetail *why = kmb_last_error_detail();
    right = right && why->code == KMB_ERR_FORKED;
    right = right && strstr(why->message, "fork before the parent uses it") != NULL;
    right = right && kmb_client_close(client, 1000, NULL) == KMB_ERR_FORKED;
    right = right && kmb_queue_new(true, &none, NULL) == KMB_ERR_FORKED && none == NULL;
    right = right && kmb_client_connect(&address, 1, 1, NULL, &error) == NULL;
    right = right && error == KMB_ERR_FORKED;
    kmb_page_free(page);
    kmb_client_disconnect(client);
    _exit(write(answer[1], right ? "y" : "n", 1) != 1);
  }
  int status = -1;
  char right = 0;
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && read(answer[0], &right, 1) == 1 && right == 'y');
  close(answer[0]);
  close(answer[1]);
  kmb_page_free(page);
  append_some(client, stream_id, 1);
  OK(kmb_queue_new(true, &queue, DETAIL));
  OK(kmb_queue_close(queue, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}

#ifdef TEST_PANIC
KmbError kmb_test_panic(KmbDetail **detail_out);
KmbError kmb_test_submit_panic(KmbClient *client, KmbQueue *queue, uint64_t tag,
                               uint64_t *operation_out, KmbDetail **detail_out);

/* A panic becomes an error, within a call and within a submitted operation; the client works on. */
void test_panic(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "panic");
  KmbQueue *queue = NULL;
  NAMES(KMB_ERR_PANIC, "a forced panic", kmb_test_panic(DETAIL));
  OK(kmb_queue_new(false, &queue, DETAIL));
  OK(kmb_test_submit_panic(client, queue, 1, NULL, DETAIL));
  KmbCompletion completion = completion_of(queue, 1);
  CHECK(completion.error == KMB_ERR_PANIC);
  CHECK(strstr(completion.detail->message, "a forced panic") != NULL);
  kmb_completion_free(&completion);
  append_some(client, stream_id, 1);
  OK(kmb_queue_close(queue, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}
#endif

/* A shutdown closes what is open, results live on, and connecting starts anew. */
void test_shutdown(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "shutdown");
  append_some(client, stream_id, 1);
  KmbQueue *queue = NULL;
  KmbPage *page = NULL;
  KmbReader *reader = NULL;
  KmbCursor *cursor = NULL;
  KmbSubscription *subscription = NULL;
  KmbOptions *options = options_for(door);
  KmbQueryResult *result = NULL;
  KmbCompletion completion;
  size_t count = 0;
  OK(kmb_queue_new(true, &queue, DETAIL));
  OK(kmb_reader_new(client, stream_id, 0, 1, NULL, &reader, DETAIL));
  OK(kmb_query_cursor(client, TEXT("SELECT 1"), NULL, 0, 0, 0, NULL, &cursor, DETAIL));
  OK(kmb_subscribe(client, stream_id, 0, NULL, &subscription, DETAIL));
  OK(kmb_submit_subscription_next(subscription, queue, UINT64_MAX, 1, NULL, DETAIL));
  OK(kmb_read_page(client, stream_id, 0, 1, 0, NULL, &page, DETAIL));
  OK(kmb_shutdown(10000, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_queue_poll(queue, &completion, 1, 0, &count, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_cursor_next(cursor, &result, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_options_set_tenant(options, 1, DETAIL));
  EXPECT(KMB_ERR_CLOSED, kmb_reader_next(reader, &page, DETAIL));
  CHECK(page->count == 1 && memcmp(page->data, "e0", 2) == 0);
  kmb_page_free(page);
  client = client_for(door);
  OK(kmb_client_close(client, 5000, DETAIL));
}
