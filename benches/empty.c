/* An empty program of C's runtime: what a process takes that does nothing with the database. It
 * answers each line with a 0, the bytes of the managed heap that C does not have. */

#include <stdio.h>

int main(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        puts("0");
        fflush(stdout);
    }
    return 0;
}
