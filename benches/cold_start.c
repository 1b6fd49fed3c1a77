/* Prints how long it takes, in microseconds, to load the library, to connect and to get a first answer:
 *
 *     cold_start LIBRARY ADDRESS [TOKEN [CA_FILE]]
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kimberlite-ffi.h"

static double micros_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void *find(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s is not in the library\n", name);
        exit(1);
    }
    return found;
}

/* ISO C has no cast from an object pointer to a function pointer, which POSIX needs here. */
#define FIND(variable, name)                             \
    do {                                                 \
        void *found_ = find(library, name);              \
        memcpy(&(variable), &found_, sizeof(variable));  \
    } while (0)

int main(int count, char **words) {
    if (count < 3) {
        fprintf(stderr, "usage: cold_start LIBRARY ADDRESS [TOKEN [CA_FILE]]\n");
        return 2;
    }
    double start = micros_now();
    void *library = dlopen(words[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    KmbError (*options_new)(KmbOptions **, KmbDetail **);
    KmbError (*add_address)(KmbOptions *, const char *, size_t, KmbDetail **);
    KmbError (*set_tenant)(KmbOptions *, uint64_t, KmbDetail **);
    KmbError (*set_token)(KmbOptions *, const char *, size_t, KmbDetail **);
    KmbError (*set_string)(KmbOptions *, const char *, size_t, const char *, size_t, KmbDetail **);
    KmbError (*connect)(const KmbOptions *, KmbClient **, KmbDetail **);
    KmbError (*list)(KmbClient *, const KmbCallOptions *, KmbStreamList **, KmbDetail **);
    void (*disconnect)(KmbClient *);
    FIND(options_new, "kmb_options_new");
    FIND(add_address, "kmb_options_add_address");
    FIND(set_tenant, "kmb_options_set_tenant");
    FIND(set_token, "kmb_options_set_auth_token");
    FIND(set_string, "kmb_options_set_string");
    FIND(connect, "kmb_connect");
    FIND(list, "kmb_list_streams");
    FIND(disconnect, "kmb_client_disconnect");

    KmbOptions *options;
    KmbClient *client;
    KmbStreamList *streams;
    KmbError error = options_new(&options, NULL);
    if (error == KMB_OK) error = add_address(options, words[2], strlen(words[2]), NULL);
    if (error == KMB_OK) error = set_tenant(options, 1, NULL);
    if (error == KMB_OK && count > 3) {
        error = set_token(options, words[3], strlen(words[3]), NULL);
    }
    if (error == KMB_OK && count > 4) {
        error = set_string(options, "tls_ca_file", 11, words[4], strlen(words[4]), NULL);
    }
    if (error == KMB_OK) error = connect(options, &client, NULL);
    if (error == KMB_OK) error = list(client, NULL, &streams, NULL);
    double end = micros_now();
    if (error != KMB_OK) {
        fprintf(stderr, "error %u\n", (unsigned)error);
        return 1;
    }
    printf("%.0f\n", end - start);
    disconnect(client);
    return 0;
}
