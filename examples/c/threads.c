/* Story: threads that nobody joins keep their stacks.
 *
 * Usage: threads COUNT joined|unjoined
 *
 * COUNT threads (0 to 64) each fill a buffer of 100 KiB on their stack, wait until all are there, and end. In the
 * variant `joined` the main thread then collects them with pthread_join; in the variant `unjoined` it forgets to.
 *
 * Checkpoints, and what is true at each (COUNT threads, stack limit S, 8 MiB by default):
 *   start    no thread but the main one.
 *   spawned  COUNT live threads, all parked; each has S of reserved stack plus a guard of one page, and a little more
 *            than 100 KiB of it in memory: the buffer, the thread's descriptor above it, a few frames below it.
 *   ended    the threads are gone, also for the kernel, and none is joined yet: both variants look the same. Each
 *            stack is still reserved. The C library gave most pages back (it keeps about 16 KiB below the last frame).
 *   done     unjoined: nothing changed, the stacks are lost for good. joined: the same stacks now wait in the C
 *            library's cache for the next thread, which is not a leak.
 *
 * What to look at: the rows thread-stack.live, .exited and .cached, and how small the `anon` of a leaked stack is
 * beside its `reserved`.
 *
 * How it is made repeatable:
 * - The threads start one after the other, and only the main thread allocates (pthread_create: the stack, the TLS vector).
 * - They return from their start function: pthread_exit would load libgcc_s for its unwinder.
 * - A thread that has ended can still be seen by the kernel for a moment, also after pthread_join. The main thread waits
 *   until tgkill with signal 0 says that the thread id is gone. Unlike a look into /proc/self/task this opens no file
 *   and allocates nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "memcheck.h"

enum { THREADS_MAX = 64, BUFFER_BYTES = 100 * 1024 };

static pthread_t handles[THREADS_MAX];
static atomic_int ids[THREADS_MAX];
static atomic_int parked; /* threads that have filled their buffer */
static atomic_int gate;   /* 0: closed, 1: open */

/* The plain system call: what a wait costs in stack does not depend on the C library's version. */
static void wait_while(atomic_int *word, int value) {
    while (atomic_load(word) == value)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(atomic_int *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *work(void *argument) {
    atomic_int *id = argument;
    volatile char buffer[BUFFER_BYTES];
    for (size_t i = 0; i < sizeof buffer; i++)
        buffer[i] = 1;
    atomic_store(id, (int)syscall(SYS_gettid));
    atomic_fetch_add(&parked, 1);
    wake_all(&parked);
    wait_while(&gate, 0);
    return buffer[0] == 1 ? NULL : argument;
}

/* Returns when the kernel no longer knows the thread. */
static void wait_until_gone(int id) {
    const struct timespec pause = {.tv_nsec = 200 * 1000};
    while (syscall(SYS_tgkill, getpid(), id, 0) == 0 || errno != ESRCH)
        nanosleep(&pause, NULL);
}

static int usage(void) {
    static const char text[] = "usage: threads COUNT joined|unjoined   (COUNT from 0 to 64)\n";
    return write(STDERR_FILENO, text, sizeof text - 1) < 0 ? 3 : 2;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return usage();
    char *end = NULL;
    long count = strtol(argv[1], &end, 10);
    int joined = strcmp(argv[2], "joined") == 0;
    if (end == argv[1] || *end != '\0' || count < 0 || count > THREADS_MAX || (!joined && strcmp(argv[2], "unjoined") != 0))
        return usage();

    MEMCHECK_CHECKPOINT(start);

    for (int i = 0; i < count; i++) {
        if (pthread_create(&handles[i], NULL, work, &ids[i]) != 0)
            return 1;
        wait_while(&parked, i);
    }
    MEMCHECK_CHECKPOINT(spawned);

    atomic_store(&gate, 1);
    wake_all(&gate);
    for (int i = 0; i < count; i++)
        wait_until_gone(atomic_load(&ids[i]));
    MEMCHECK_CHECKPOINT(ended);

    for (int i = 0; joined && i < count; i++)
        if (pthread_join(handles[i], NULL) != 0)
            return 1;
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
