/* Prints the latencies of the C ABI on a `memory:` database: `WORK P50 P99` in microseconds. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kimberlite-ffi.h"

enum { COUNT = 20000, EVENT_BYTES = 100 };

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int by_size(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void report(const char *work, double *seconds) {
    qsort(seconds, COUNT, sizeof *seconds, by_size);
    printf("%s %.3f %.3f\n", work, seconds[COUNT / 2] * 1e6, seconds[COUNT / 100 * 99] * 1e6);
}

static void require(KmbError error) {
    if (error != KMB_OK) {
        fprintf(stderr, "%s\n", kmb_error_message(error));
        exit(1);
    }
}

int main(void) {
    static double seconds[COUNT];
    const char *addresses[] = {"memory:"};
    KmbError error;
    KmbClient *client = kmb_client_connect(addresses, 1, 1, NULL, &error);
    require(error);
    uint64_t stream;
    require(kmb_client_create_stream(client, "overhead", 1, &stream));

    uint8_t event[EVENT_BYTES];
    memset(event, 'x', sizeof event);
    uint32_t len = EVENT_BYTES;
    for (int i = -COUNT / 10; i < COUNT; i++) {
        KmbAppended appended;
        double start = seconds_now();
        require(kmb_append(client, stream, UINT64_MAX, event, EVENT_BYTES, &len, 1, NULL, &appended,
                           NULL));
        if (i >= 0) seconds[i] = seconds_now() - start;
    }
    report("append", seconds);
    for (int i = -COUNT / 10; i < COUNT; i++) {
        KmbPage *page;
        double start = seconds_now();
        require(kmb_read_page(client, stream, 0, 1, 0, NULL, &page, NULL));
        kmb_page_free(page);
        if (i >= 0) seconds[i] = seconds_now() - start;
    }
    report("read", seconds);
    kmb_client_disconnect(client);
    return 0;
}
