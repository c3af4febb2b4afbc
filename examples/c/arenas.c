/* The arenas of malloc: what a thread's first malloc costs, and when a second thread pays again.
 *
 * A thread that allocates while others are alive gets an arena of its own: glibc reserves 64 MiB of address space for it (after
 * reserving twice as much and giving back what is not aligned), makes 132 KiB of it writable, and the thread writes to a few
 * pages. To top and pmap the process has grown by 64 MiB and by the 8 MiB of the thread's stack; of memory it has a few KiB
 * more. The arena of a thread that has ended is given to the next one that needs one.
 *
 *   ./arenas alive N   N threads started in turn, each allocates 1000 bytes and stays: N arenas.
 *   ./arenas turn N    N threads one after another, each allocates, keeps the block and ends: 1 arena, handed on.
 *
 * With MALLOC_ARENA_MAX=1 in the environment all threads use the main heap: no arena at all.
 *
 *   start      no thread, no arena
 *   first      the first thread has allocated: 1 arena, 64 MiB reserved, 132 KiB of it committed
 *   loaded     all N have allocated
 *
 * Repeatable: a thread is started when the one before has allocated (alive) or was joined (turn). glibc makes the first eight
 * arenas, main included, whatever the number of processors is; then at most eight for each processor. So N is below eight where a
 * snapshot is compared; with more, MALLOC_ARENA_MAX makes the limit the same everywhere. N is at most 100. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "memcheck.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int allocated, stay;
static volatile char *volatile kept[100];

static void *session(void *slot) {
    volatile char *block = malloc(1000);
    if (!block) abort();
    for (int i = 0; i < 1000; i++) block[i] = 1;
    *(volatile char *volatile *)slot = block;
    pthread_mutex_lock(&lock);
    allocated++;
    pthread_cond_broadcast(&changed);
    while (stay) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return NULL;
}

int main(int argc, char **argv) {
    int alive = argc > 1 && !strcmp(argv[1], "alive");
    int n = argc > 2 ? atoi(argv[2]) : 1;
    if (n < 1 || n > 100) return 2;
    pthread_t threads[100];
    stay = alive;
    MEMCHECK_CHECKPOINT(start);
    for (int i = 0; i < n; i++) {
        if (pthread_create(&threads[i], NULL, session, (void *)&kept[i])) return 1;
        pthread_mutex_lock(&lock);
        while (allocated <= i) pthread_cond_wait(&changed, &lock);
        pthread_mutex_unlock(&lock);
        if (!alive) pthread_join(threads[i], NULL);
        if (i == 0) MEMCHECK_CHECKPOINT(first);
    }
    MEMCHECK_CHECKPOINT(loaded);
    pthread_mutex_lock(&lock);
    stay = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (int i = 0; alive && i < n; i++) pthread_join(threads[i], NULL);
    return 0;
}
