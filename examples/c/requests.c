/* Story: six ways to ask for memory, and what each costs before and after it is used.
 *
 * Each request is followed by up to three checkpoints: NAME-reserved (asked for, not touched), NAME-touched-20 (one byte
 * written to each of the first 20 pages, counted from the lowest address) and NAME-touched-last (and one to the last page).
 *
 * Ground truth, change at each step in KiB (reserved / anon / commit / noreserve of *own* memory):
 *
 *   main-local      1 MiB in main's frame: entering main only moves the stack pointer
 *     reserved              0 /    0 /     0 /     0
 *     touched-20        ~+964 /  +80 / ~+964 /     0   the kernel extends [stack] down to the lowest page written, at once;
 *                                                      132 were there from the start
 *     touched-last          0 /   +4 /     0 /     0
 *   global          2 MiB without contents: nothing in the file, reserved by the loader before main (row exe.bss)
 *     touched-20            0 /  +80 /     0 /     0
 *     touched-last          0 /   +4 /     0 /     0
 *   function-local  1 MiB in the frame of a function
 *     reserved             +8 /   +8 /    +8 /     0   not the array: the call's return address and saved registers, which lie
 *                                                      below main's array, on one page or two
 *     touched-20        +1088 /  +80 / +1088 /     0   the array and the 64 KiB above it
 *     touched-last          0 /   +4 /     0 /     0
 *     returned              0 /    0 /     0 /     0   the main stack never shrinks
 *   noreserve       mmap(1 MiB, MAP_PRIVATE | MAP_NORESERVE)
 *     reserved          +1024 /    0 /     0 / +1024   not counted against the commit limit (vm.overcommit_memory 0 or 1)
 *     touched-20            0 /  +80 /     0 /     0
 *     touched-last          0 /   +4 /     0 /     0
 *   malloc          malloc(1 MiB): above the threshold of 128 KiB, so an mmap of its own, one page larger than asked
 *     reserved          +1160 /   +8 / +1160 /     0   1028 for the chunk, 132 for the main heap that the first call opens
 *     touched-20            0 /  +76 /     0 /     0   the first page holds the chunk's header: it was in memory already
 *     touched-last          0 /   +4 /     0 /     0
 *   private         mmap(1 MiB, MAP_PRIVATE)
 *     reserved          +1024 /    0 / +1024 /     0
 *     touched-20            0 /  +80 /     0 /     0
 *     touched-last          0 /   +4 /     0 /     0
 *
 * How it is made exact:
 * - Every write goes through a pointer to volatile, one per page; the arrays begin on a page.
 * - Until its array is touched main calls nothing: a call writes its return address below the whole frame, and the kernel
 *   would extend the stack over the array for that. (The functions that touch are therefore always inlined.) The case also
 *   says -fno-stack-clash-protection, since that option makes the compiler itself touch every page of a large frame.
 * - The loader and the C library's start code ran on the main stack before main. Each local array has unused space above it
 *   (`apart`), so that its last page is one that nobody has written yet.
 * - The kernel joins neighbouring mappings of one kind into one region, whoever asked for them. The region without reserve
 *   is of another kind than its neighbours and lies between the loader's memory and malloc's chunk; the last mmap names an
 *   address far from everything else as a hint. So each request stays a region of its own.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memcheck.h"

enum { PAGE = 4096, FIRST_PAGES = 20, MIB = 1024 * 1024, APART_BYTES = 64 * 1024 };

#define ALWAYS_INLINE static inline __attribute__((always_inline)) void

struct local {
    _Alignas(PAGE) char memory[MIB];
    char apart[APART_BYTES];
};

static _Alignas(PAGE) char global[2 * MIB];

ALWAYS_INLINE touch_first(volatile char *memory) {
    for (size_t page = 0; page < FIRST_PAGES; page++)
        memory[page * PAGE] = 1;
}

ALWAYS_INLINE touch_last(volatile char *memory, size_t bytes) {
    memory[bytes - 1] = 1;
}

/* Takes the address of a local array away from the optimiser, so that the array stays whole. */
static inline __attribute__((always_inline)) volatile char *keep(void *memory) {
    __asm__ volatile("" : "+r"(memory) : : "memory");
    return memory;
}

__attribute__((noinline)) static void function_with_local(void) {
    struct local local;
    volatile char *memory = keep(local.memory);
    MEMCHECK_CHECKPOINT_STR("function-local-reserved");
    touch_first(memory);
    MEMCHECK_CHECKPOINT_STR("function-local-touched-20");
    touch_last(memory, sizeof local.memory);
    MEMCHECK_CHECKPOINT_STR("function-local-touched-last");
}

static void *map(uintptr_t hint, int flags) {
    return mmap((void *)hint, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

int main(void) {
    struct local local;
    volatile char *memory = keep(local.memory);
    MEMCHECK_CHECKPOINT_STR("main-local-reserved");
    touch_first(memory);
    MEMCHECK_CHECKPOINT_STR("main-local-touched-20");
    touch_last(memory, sizeof local.memory);
    MEMCHECK_CHECKPOINT_STR("main-local-touched-last");

    volatile char *table = keep(global);
    touch_first(table);
    MEMCHECK_CHECKPOINT_STR("global-touched-20");
    touch_last(table, sizeof global);
    MEMCHECK_CHECKPOINT_STR("global-touched-last");

    function_with_local();
    MEMCHECK_CHECKPOINT_STR("function-local-returned");

    volatile char *noreserve = map(0, MAP_NORESERVE);
    if (noreserve == MAP_FAILED)
        return 1;
    MEMCHECK_CHECKPOINT_STR("noreserve-reserved");
    touch_first(noreserve);
    MEMCHECK_CHECKPOINT_STR("noreserve-touched-20");
    touch_last(noreserve, MIB);
    MEMCHECK_CHECKPOINT_STR("noreserve-touched-last");

    volatile char *chunk = malloc(MIB);
    if (chunk == NULL)
        return 1;
    MEMCHECK_CHECKPOINT_STR("malloc-reserved");
    touch_first(chunk);
    MEMCHECK_CHECKPOINT_STR("malloc-touched-20");
    touch_last(chunk, MIB);
    MEMCHECK_CHECKPOINT_STR("malloc-touched-last");

    volatile char *private = map(0x300000000000, 0);
    if (private == MAP_FAILED)
        return 1;
    MEMCHECK_CHECKPOINT_STR("private-reserved");
    touch_first(private);
    MEMCHECK_CHECKPOINT_STR("private-touched-20");
    touch_last(private, MIB);
    MEMCHECK_CHECKPOINT_STR("private-touched-last");
    return sysconf(_SC_PAGESIZE) == PAGE ? 0 : 3; /* The numbers above hold for pages of 4 KiB. */
}
