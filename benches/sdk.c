/* The work of src/bin/throughput.rs by the C ABI: a piece of it for each line of standard input. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "kimberlite-ffi.h"

enum { BATCH = 1000, EVENT_BYTES = 100, PAGE = 10000, MAX_COUNT = 1000000 };

/* A client, a stream, and what is appended to it. */
typedef struct {
    KmbClient *client;
    uint64_t stream;
    char name[64];
    uint8_t *events[BATCH];
    uint8_t packed[BATCH * EVENT_BYTES];
    uint32_t lens[BATCH];
} Work;

static Work work;
static double micros[MAX_COUNT];
/* What is read is put here, so that no compiler leaves the reading out. */
volatile int64_t seen;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void require(KmbError error) {
    if (error != KMB_OK) {
        fprintf(stderr, "%s\n", kmb_error_message(error));
        exit(1);
    }
}

static void open_client(const char *address, const char *token, const char *stream) {
    KmbError error;
    work.client = kmb_client_connect(&address, 1, 1, token, &error);
    require(error);
    require(kmb_client_create_stream(work.client, stream, KMB_DATA_CLASS_NON_PHI, &work.stream));
    snprintf(work.name, sizeof work.name, "%s", stream);
    for (int i = 0; i < BATCH; i++) {
        work.events[i] = calloc(1, EVENT_BYTES);
        if (work.events[i] == NULL) exit(1);
    }
}

static void append_some(size_t count) {
    KmbAppended appended;
    for (size_t i = 0; i < count; i++) {
        memcpy(work.packed + i * EVENT_BYTES, work.events[i], EVENT_BYTES);
        work.lens[i] = EVENT_BYTES;
    }
    require(kmb_append(work.client, work.stream, KMB_ANY_OFFSET, work.packed, count * EVENT_BYTES,
                       work.lens, count, NULL, &appended, NULL));
}

/* Packs and appends batches, one in flight. */
static size_t append_batches(size_t batches) {
    for (size_t i = 0; i < batches; i++) append_some(BATCH);
    return batches * BATCH;
}

/* Reads the stream in pages of 10,000; copies their data where that is wanted. */
static size_t pages(int copied) {
    KmbReader *reader;
    KmbPage *page;
    size_t events = 0;
    require(kmb_reader_new(work.client, work.stream, 0, PAGE, NULL, &reader, NULL));
    for (;;) {
        require(kmb_reader_next(reader, &page, NULL));
        if (page == NULL) break;
        events += page->data_len / EVENT_BYTES;
        if (copied) {
            uint8_t *copy = malloc(page->data_len);
            if (copy == NULL) exit(1);
            memcpy(copy, page->data, page->data_len);
            seen = copy[page->data_len - 1];
            free(copy);
        }
        kmb_page_free(page);
    }
    require(kmb_reader_close(reader, NULL));
    return events;
}

/* Reads the stream by SQL and looks at every cell. */
static size_t query(void) {
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT id, timestamp, data FROM %s", work.name);
    KmbCursor *cursor;
    KmbQueryResult *result;
    size_t rows = 0;
    require(kmb_query_cursor(work.client, sql, strlen(sql), NULL, 0, KMB_AT_NOW, 0, NULL, &cursor,
                             NULL));
    for (;;) {
        require(kmb_cursor_next(cursor, &result, NULL));
        if (result == NULL) break;
        for (size_t row = 0; row < result->row_count; row++) {
            int64_t id, timestamp;
            const uint8_t *data;
            size_t data_len;
            require(kmb_query_result_get_i64(result, row, 0, &id));
            require(kmb_query_result_get_i64(result, row, 1, &timestamp));
            require(kmb_query_result_get_bytes(result, row, 2, &data, &data_len, NULL));
            seen = id + timestamp + (int64_t)data_len;
        }
        rows += result->row_count;
        kmb_query_result_free(result);
    }
    require(kmb_cursor_close(cursor, NULL));
    return rows;
}

static void read_one(uint64_t offset) {
    KmbPage *page;
    require(kmb_read_page(work.client, work.stream, offset, 1, 0, NULL, &page, NULL));
    kmb_page_free(page);
}

static int by_size(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void latency(const char *what, int count) {
    int is_append = strcmp(what, "append") == 0;
    if (count < 1 || count > MAX_COUNT) exit(2);
    for (int i = -count / 10; i < count; i++) {
        double start = seconds_now();
        if (is_append) {
            append_some(1);
        } else {
            read_one(0);
        }
        if (i >= 0) micros[i] = (seconds_now() - start) * 1e6;
    }
    qsort(micros, (size_t)count, sizeof *micros, by_size);
    printf("%.3f %.3f\n", micros[(count - 1) / 2], micros[(count - 1) * 99L / 100]);
}

/* What the memory of every SDK is measured after. */
static void everything(void) {
    append_batches(100);
    pages(1);
    query();
    for (uint64_t offset = 0; offset < 1000; offset++) read_one(offset);
#ifdef __GLIBC__
    /* Which freed megabyte the allocator keeps is chance. */
    malloc_trim(0);
#endif
    puts("0");
}

int main(void) {
    char line[512], what[64], address[128], token[128], stream[64];
    int count;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "remote %127s %127s %63s", address, token, stream) == 3) {
            open_client(address, token, stream);
            everything();
            fflush(stdout);
            continue;
        }
        if (strcmp(line, "small\n") == 0) {
            /* C has no managed heap. */
            puts("0");
            fflush(stdout);
            continue;
        }
        if (work.client == NULL) open_client("memory:", NULL, "events");
        double start = seconds_now();
        size_t done = 0;
        if (sscanf(line, "latency %63s %d", what, &count) == 2) {
            latency(what, count);
        } else if (sscanf(line, "append %d", &count) == 1) {
            done = append_batches((size_t)count);
        } else if (strcmp(line, "pages\n") == 0) {
            done = pages(0);
        } else if (strcmp(line, "query\n") == 0) {
            done = query();
        } else {
            fprintf(stderr, "no work: %s", line);
            return 2;
        }
        if (done > 0) printf("%f\n", (double)done / (seconds_now() - start));
        fflush(stdout);
    }
    kmb_client_disconnect(work.client);
    return 0;
}
