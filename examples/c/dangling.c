/* Story: dangling pointers. What a map of the memory tells of a pointer whose block was freed, and what it cannot tell.
 *
 *     dangling small     writes through a pointer to a freed block of 1000 bytes
 *     dangling large     the same with a block of 1 MiB
 *     dangling reused    the same, after another allocation was given the place of the small block
 *
 * Ground truth:
 *   used      the block is live: `main-heap.used` (small) or `mmap-chunk` (large) has it.
 *   freed     it is gone from there. The pages of a small block stay with the heap, so that the pointer still points to
 *             memory; those of a large one went back to the kernel.
 *   reused    (reused only) a second block lies where the first was: as many live bytes as at `used`.
 *   written   (not large) the write through the old pointer has succeeded: no row differs from the checkpoint before. Nobody
 *             who looks at memory alone can see this mistake; valgrind's Memcheck and AddressSanitizer are made for it.
 *   exit      (large only) SIGSEGV: nothing is mapped there any more.
 *
 * The pointers are volatile, so that the compiler does not see what happens here.
 */
#include <stdlib.h>
#include <string.h>

#include "memcheck.h"

enum { SMALL = 1000, LARGE = 1 << 20 };

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "small";
    size_t size = strcmp(mode, "large") ? SMALL : LARGE;
    /* Another block at the end: the freed one is not joined with the rest of the heap. */
    char *volatile block = malloc(size);
    char *volatile last = malloc(SMALL);
    if (block == NULL || last == NULL)
        return 2;
    memset(block, 1, size);
    memset(last, 1, SMALL);
    MEMCHECK_CHECKPOINT(used);
    free(block);
    MEMCHECK_CHECKPOINT(freed);
    char *volatile second = NULL;
    if (!strcmp(mode, "reused")) {
        second = malloc(size);
        if (second != block)
            return 3;
        memset(second, 2, size);
        MEMCHECK_CHECKPOINT(reused);
    }
    block[500] = 7;
    MEMCHECK_CHECKPOINT(written);
    int spoilt = second != NULL && second[500] == 7;
    free(second);
    free(last);
    return (second != NULL) == spoilt ? 0 : 1;
}
