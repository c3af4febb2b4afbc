/*
 * A loop of rounds: one that keeps 64 bytes of each round, and one that keeps nothing.
 *
 * Usage: rounds ROUNDS leak|clean
 *
 * Truth: each round asks malloc for 64 bytes and writes to them. `leak` forgets the block: main-heap.used grows by the chunk,
 * 80 bytes with glibc on 64-bit (64, a header of 8, rounded up to 16), in every round; the program asks malloc itself and prints
 * "80 bytes per round". `clean` frees it: main-heap.used is the same at every round. Nothing else allocates between rounds.
 *
 * Look at: growth. In pages the leak shows as stairs, one step in 51 rounds; malloc's own books tell it to the byte.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memcheck.h"

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int leaks = !strcmp(argv[2], "leak");
    char *volatile block = NULL;
    for (int i = atoi(argv[1]); i > 0; i--) {
        block = malloc(64);
        if (!block) return 1;
        memset(block, 1, 64);
        if (i == 1 && leaks) {
            char text[64];
            int length = snprintf(text, sizeof text, "%zu bytes per round\n", malloc_usable_size(block) + sizeof(size_t));
            if (fwrite(text, 1, (size_t)length, stderr) != (size_t)length) return 1;
        }
        if (!leaks) free(block);
        MEMCHECK_CHECKPOINT(round);
    }
    return 0;
}
