/* One small program; each macro plants one regression. Without any it is the program as it was. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "memcheck.h"

#ifndef STACK_KIB
#define STACK_KIB 512
#endif
#ifndef HEAP_KIB
#define HEAP_KIB 8
#endif
#ifndef BSS_KIB
#define BSS_KIB 4
#endif
#ifndef LEAK_BYTES
#define LEAK_BYTES 0
#endif

static volatile char table[BSS_KIB << 10];
static pthread_barrier_t begun, over;
static atomic_int ended_id;
static void *volatile lost;

static void *lives(void *unused) {
#ifdef ARENA
    /* The first request of a thread opens an arena for it. */
    lost = malloc(100);
#endif
    pthread_barrier_wait(&begun);
    pthread_barrier_wait(&over);
    return unused;
}

static void *ends(void *unused) {
    atomic_store(&ended_id, (int)syscall(SYS_gettid));
    return unused;
}

/* Returns when the kernel no longer knows the thread. */
static void wait_until_gone(void) {
    const struct timespec pause = {.tv_nsec = 200 * 1000};
    while (atomic_load(&ended_id) == 0 || syscall(SYS_tgkill, getpid(), atomic_load(&ended_id), 0) == 0 || errno != ESRCH)
        nanosleep(&pause, NULL);
}

int main(void) {
    pthread_attr_t attributes;
    pthread_t live, ended;
    for (int i = 0; i < HEAP_KIB; i++) {
        volatile char *block = malloc(1008);
        for (int at = 0; at < 1008; at++)
            block[at] = 1;
    }
    for (int at = 0; at < BSS_KIB << 10; at += 4096)
        table[at] = 1;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_KIB << 10);
    pthread_barrier_init(&begun, NULL, 2);
    pthread_barrier_init(&over, NULL, 2);
    if (pthread_create(&live, &attributes, lives, NULL) != 0)
        return 1;
    pthread_barrier_wait(&begun);
    if (pthread_create(&ended, NULL, ends, NULL) != 0)
        return 1;
    wait_until_gone();
#ifndef UNJOINED
    pthread_join(ended, NULL);
#endif
    MEMCHECK_CHECKPOINT(ready);
    for (int round = 0; round < 64; round++) {
        volatile char *block = LEAK_BYTES > 0 ? malloc(LEAK_BYTES) : NULL;
        for (int at = 0; at < LEAK_BYTES; at++)
            block[at] = 1;
        lost = (void *)block;
    }
    MEMCHECK_CHECKPOINT(done);
    pthread_barrier_wait(&over);
    return 0;
}
