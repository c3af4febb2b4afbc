/* Story: a program that crashes is still measured. The checkpoint `exit` stops at the delivery of the fatal signal, when
 * all memory is there.
 *
 * Ground truth:
 *   loaded   one block of 300 KiB from malloc, written in full. It is above the threshold of 128 KiB, so it is a mapping of
 *            its own (304 KiB with its header); the first malloc has opened the main heap of 132 KiB as well.
 *   exit     SIGSEGV is about to be delivered: the same memory. The case expects this end: exit = { signal = "SIGSEGV" }.
 *
 * Outside the tool the program ends with SIGSEGV too: a shell prints "Segmentation fault" and sees status 139.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "memcheck.h"

enum { BLOCK_BYTES = 300 * 1024 };

/* Volatile, so that the compiler does not see the null pointer and remove what follows. */
static volatile int *volatile nowhere;

int main(void) {
    volatile char *block = malloc(BLOCK_BYTES);
    if (block == NULL)
        return 1;
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(loaded);
    return *nowhere;
}
