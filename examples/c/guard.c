/* Story: guard pages and memory breakpoints. Four ways to stop a program where it writes, and two guard pages that stop it
 * by themselves.
 *
 *     guard ticks    calls tick() six times; each call adds 1 to `counter` (8 bytes) and writes the first byte of the next
 *                    page of `table` (6 pages).
 *     guard own      fills four pages and writes one byte too far, into a page without access (PROT_NONE) that it mapped
 *                    behind them. Its handler of SIGSEGV opens that page, and the write succeeds.
 *     guard stack    a thread of 64 KiB recurses until it runs into the guard of its stack. Its handler, on a stack of its
 *                    own, jumps out; the thread ends as if nothing had happened.
 *
 * Ground truth of `ticks`, at the third stop whichever way it is made: two pages of `table` and the page of `counter` are
 * written, and nothing else of the program differs. What differs is what we do to it, and what a stop costs (`cargo bench -p benches --bench stops`):
 *   function = "tick"                     int3 in the code: one page of code becomes private memory, the row `memcheck` of
 *                                         `cargo memcheck show`; no budget but its own sees it
 *   function = "tick", hardware = true    a debug register of the processor: nothing changes
 *   touch = "counter"                     a debug register: nothing changes; stops behind the write
 *   touch = "table"                       too large for one: its pages may not be written while the program runs, and are
 *                                         opened at each stop; stops before the write, and each other write to these pages
 *                                         costs the same
 * Ground truth of `own`:
 *   filled    20 KiB are mapped, 16 KiB written; the guard page is address space without memory.
 *   fault     the same: the signal has not been delivered yet.
 *   opened    20 KiB are written; the guard page is one of the program's own pages now.
 * Ground truth of `stack`:
 *   overflow  every page of the 64 KiB is written: a stack can be used up without one byte being reserved for it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "memcheck.h"

enum { PAGE = 4096, TICKS = 6, STACK = 64 * 1024 };

volatile long counter;
__attribute__((aligned(4096))) volatile char table[TICKS * PAGE];

static volatile char *guarded;
static sigjmp_buf out;
static volatile int jumped;

__attribute__((noinline)) void tick(int n) {
    counter += 1;
    table[n * PAGE] = 1;
}

static void opens(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    size_t at = (size_t)info->si_addr;
    mprotect((void *)(at - at % PAGE), PAGE, PROT_READ | PROT_WRITE);
}

static void jumps(int signal) {
    (void)signal;
    jumped = 1;
    siglongjmp(out, 1);
}

__attribute__((noinline)) static int recurse(int n) {
    volatile char block[512];
    block[0] = (char)n;
    return recurse(n + 1) + block[0];
}

static void *overflows(void *unused) {
    static char other[STACK];
    stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
    sigaltstack(&stack, NULL);
    if (sigsetjmp(out, 1) == 0)
        recurse(0);
    return unused;
}

static int own(void) {
    struct sigaction action = {.sa_sigaction = opens, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    guarded = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guarded == MAP_FAILED || mprotect((void *)(guarded + 4 * PAGE), PAGE, PROT_NONE))
        return 1;
    for (int page = 0; page < 4; page++)
        guarded[page * PAGE] = 1;
    MEMCHECK_CHECKPOINT(filled);
    guarded[4 * PAGE] = 1;
    MEMCHECK_CHECKPOINT(opened);
    return guarded[4 * PAGE] == 1 ? 0 : 1;
}

static int stack(void) {
    struct sigaction action = {.sa_handler = jumps, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    if (pthread_create(&thread, &attributes, overflows, NULL))
        return 1;
    pthread_join(thread, NULL);
    return jumped ? 0 : 1;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "ticks";
    if (!strcmp(mode, "own"))
        return own();
    if (!strcmp(mode, "stack"))
        return stack();
    for (int n = 0; n < TICKS; n++)
        tick(n);
    return counter == TICKS ? 0 : 1;
}
