/* Story: checkpoints in a program that knows nothing of us. There is no marker in this file: the case stops at `exec`, at
 * `main`, at functions by their names and at `exit`.
 *
 * Ground truth:
 *   exec         the kernel has mapped the program and the loader; neither has run. One thread, no heap.
 *   main         the loader has mapped the C library and relocated everything. No heap yet.
 *   load         entry of load_stage, first call: still no heap.
 *   load-again   entry of load_stage, second call (hit = 2): the first stage holds 64 blocks of 1000 bytes. A block takes
 *                1008 bytes of the heap, so that makes 63 KiB, and the first malloc has opened a heap of 132 KiB.
 *   serve        entry of serve: 128 blocks, 126 KiB: the heap still has its first size.
 *   exit         entry of exit_group: serve has freed all blocks, yet the heap's pages stay with the process.
 *
 * What to look at: `main-heap` in each stage; its `anon` grows as blocks are written and does not shrink at `exit`.
 *
 * The functions are not static and not inlined, so that they have a symbol and an entry.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES = 2, BLOCKS = 64, BLOCK_BYTES = 1000 };

struct stage {
    char *blocks[BLOCKS];
};

static struct stage stages[STAGES];

int load_stage(struct stage *stage);
int serve(void);

__attribute__((noinline)) int load_stage(struct stage *stage) {
    for (size_t i = 0; i < BLOCKS; i++) {
        stage->blocks[i] = malloc(BLOCK_BYTES);
        if (stage->blocks[i] == NULL)
            return 0;
        memset(stage->blocks[i], 1, BLOCK_BYTES);
    }
    return 1;
}

__attribute__((noinline)) int serve(void) {
    size_t sum = 0;
    for (size_t s = 0; s < STAGES; s++)
        for (size_t i = 0; i < BLOCKS; i++) {
            sum += (unsigned char)stages[s].blocks[i][BLOCK_BYTES - 1];
            free(stages[s].blocks[i]);
        }
    return sum == (size_t)STAGES * BLOCKS;
}

int main(void) {
    for (size_t s = 0; s < STAGES; s++)
        if (!load_stage(&stages[s]))
            return 1;
    return serve() ? 0 : 1;
}
