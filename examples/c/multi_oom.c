/* Story: out of memory ten times in a row. The parent makes ten children one after another; each recurses and allocates one
 * block a level until there is no more memory below `limits.as`, says how deep it came, and ends. Children cannot leak into
 * each other: the kernel takes all of it back. What the *parent* keeps is what each later child begins with.
 *
 * Usage: multi_oom clean|leaking
 *
 * `leaking` is a parent that notes something of each round in small blocks (1024 of 1 KiB) and never frees them.
 *
 * Ground truth with limits.as = 64 MiB, at `begun` (a child's first step) and `full` (no further block), as the change from
 * one child to the next:
 *
 *   clean      begun   nothing
 *              full    nothing: every round comes as deep as the first, depth 242 with glibc 2.36 here
 *   leaking    begun   main-heap +1040 KiB anon (1024 blocks of 1040 bytes), +1056 KiB reserved (8 steps of 132 KiB; the first
 *                      time 7, as the heap had room)
 *              full    and 4 blocks less: a level takes 260 KiB of address space. The depth is mmap-chunk.count, and printed
 *
 * How it is made exact: stdout has its buffer before the first child; one round after the other, waited for; blocks of 256 KiB are above malloc's threshold, so each has a
 * mapping of its own and is counted as one; the depth comes back through a pipe, as a child has to say it before it ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memcheck.h"

enum { ROUNDS = 10, BLOCK_BYTES = 256 * 1024, NOTES = 1024, NOTE_BYTES = 1024 };

/* One block a level, each with its first byte written; at the end of memory the depth. */
__attribute__((noinline)) static int descend(int depth) {
    volatile char *block = malloc(BLOCK_BYTES);
    if (block == NULL) {
        MEMCHECK_CHECKPOINT(full);
        return depth;
    }
    block[0] = 1;
    int deepest = descend(depth + 1);
    free((void *)block);
    return deepest;
}

__attribute__((noinline)) static void keep_notes(void) {
    for (int note = 0; note < NOTES; note++) {
        char *kept = malloc(NOTE_BYTES);
        if (kept != NULL)
            memset(kept, 1, NOTE_BYTES);
        __asm__ volatile("" : : "r"(kept) : "memory");
    }
}

int main(int argc, char **argv) {
    int leaking = argc > 1 && strcmp(argv[1], "leaking") == 0;
    printf("%d rounds\n", ROUNDS);
    for (int round = 1; round <= ROUNDS; round++) {
        int ends[2], depth = 0;
        if (pipe(ends) != 0)
            return 2;
        pid_t child = fork();
        if (child < 0)
            return 2;
        if (child == 0) {
            MEMCHECK_CHECKPOINT(begun);
            depth = descend(0);
            _exit(write(ends[1], &depth, sizeof depth) == sizeof depth ? 0 : 2);
        }
        close(ends[1]);
        int told = read(ends[0], &depth, sizeof depth) == sizeof depth;
        close(ends[0]);
        int status;
        if (waitpid(child, &status, 0) != child || status != 0 || !told)
            return 2;
        printf("round %d: depth %d\n", round, depth);
        if (leaking)
            keep_notes();
    }
    return 0;
}
