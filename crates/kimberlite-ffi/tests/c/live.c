/* Subscriptions. */
#include "harness.h"

#include <pthread.h>
#include <time.h>

static void take(KmbSubscription *subscription, uint64_t *offset, uint64_t until) {
  while (*offset < until) {
    KmbPage *page = NULL;
    if (!OK(kmb_subscription_next(subscription, 10000, &page, DETAIL)) || page == NULL) break;
    CHECK(page->first_offset == *offset && page->count > 0);
    *offset = page->next_offset;
    kmb_page_free(page);
  }
  CHECK(*offset == until);
}

static void watched(KmbClient *client, uint64_t stream_id, uint64_t offset) {
  KmbSubscription *subscription = NULL;
  KmbQueue *queue = NULL;
  KmbPage *page = NULL;
  KmbCompletion ready;
  uint64_t watch = 0;
  size_t count = 0;
  OK(kmb_queue_new(false, &queue, DETAIL));
  OK(kmb_subscribe(client, stream_id, offset, NULL, &subscription, DETAIL));
  OK(kmb_subscription_watch(subscription, queue, 5, &watch, DETAIL));
  NAMES(KMB_ERR_INVALID_ARGUMENT, "watched",
        kmb_subscription_watch(subscription, queue, 6, NULL, DETAIL));
  for (int round = 0; round < 3; round++) {
    append_some(client, stream_id, 10);
    uint64_t until = offset + 10;
    while (offset < until) {
      ready = completion_of(queue, 5);
      CHECK(ready.kind == KMB_COMPLETION_SUBSCRIPTION_READY && ready.operation == watch);
      CHECK(ready.error == KMB_OK && ready.result == NULL && ready.detail == NULL);
      if (ready.error != KMB_OK) break;
      for (;;) {
        OK(kmb_subscription_next(subscription, 0, &page, DETAIL));
        if (page == NULL) break;
        CHECK(page->first_offset == offset);
        offset = page->next_offset;
        kmb_page_free(page);
      }
    }
  }
  OK(kmb_queue_poll(queue, &ready, 1, 50, &count, DETAIL));
  CHECK(count == 0);
  OK(kmb_cancel(watch, DETAIL));
  ready = completion_of(queue, 5);
  CHECK(ready.error == KMB_ERR_CANCELLED);
  kmb_completion_free(&ready);
  /* A close is told by a ready completion too. */
  OK(kmb_subscription_watch(subscription, queue, 7, &watch, DETAIL));
  OK(kmb_subscription_close(subscription, DETAIL));
  ready = completion_of(queue, 7);
  CHECK(ready.error == KMB_OK && ready.kind == KMB_COMPLETION_SUBSCRIPTION_READY);
  EXPECT(KMB_ERR_CLOSED, kmb_subscription_next(subscription, 0, &page, DETAIL));
  OK(kmb_queue_close(queue, DETAIL));
}

static void *closer(void *argument) {
  struct timespec pause = {0, 100 * 1000 * 1000};
  nanosleep(&pause, NULL);
  kmb_subscription_close(argument, NULL);
  return NULL;
}

/* Old events first, then new ones; an empty wait; a watch; a close that ends a waiting call. */
void test_subscription(const Door *door) {
  KmbClient *client = client_for(door);
  uint64_t stream_id = stream_for(client, "subscription");
  uint64_t offset = 0;
  KmbPage *page = NULL;
  KmbSubscription *subscription = NULL;
  append_some(client, stream_id, 100);
  EXPECT(KMB_ERR_OFFSET_OUT_OF_RANGE,
         kmb_subscribe(client, stream_id, 101, NULL, &subscription, DETAIL));
  EXPECT(KMB_ERR_STREAM_NOT_FOUND,
         kmb_subscribe(client, 1u << 30, 0, NULL, &subscription, DETAIL));
  OK(kmb_subscribe(client, stream_id, 0, NULL, &subscription, DETAIL));
  take(subscription, &offset, 100);
  OK(kmb_subscription_next(subscription, 0, &page, DETAIL));
  CHECK(page == NULL);
  uint64_t start = now_ms();
  OK(kmb_subscription_next(subscription, 60, &page, DETAIL));
  CHECK(page == NULL && now_ms() - start >= 55);
  for (int i = 0; i < 5; i++) {
    append_some(client, stream_id, 7);
    take(subscription, &offset, 107 + 7 * (uint64_t)i);
  }
  watched(client, stream_id, offset);

  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, closer, subscription) == 0);
  KmbError error;
  /* What the watched part appended comes first. */
  do {
    kmb_page_free(page);
    page = NULL;
    error = kmb_subscription_next(subscription, UINT64_MAX, &page, DETAIL);
  } while (error == KMB_OK);
  CHECK(error == KMB_ERR_CLOSED && page == NULL);
  pthread_join(thread, NULL);
  OK(kmb_subscription_close(subscription, DETAIL));
  OK(kmb_client_close(client, 5000, DETAIL));
}
