/* Targets for points at system calls, signals, lines of output, threads and libraries: one behaviour per first argument. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static void handler(int signal) { (void)signal; handled++; }

static void on(int signal, int flags) {
    struct sigaction action = {0};
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(signal, &action, NULL);
}

static int ends[2];

/* Sends five signals to a reader that is blocked in read, then the byte it waits for. */
static void *disturb(void *reader) {
    for (int i = 0; i < 5; i++) {
        usleep(3000);
        pthread_kill(*(pthread_t *)reader, SIGUSR1);
        while (handled <= i) usleep(1000);
    }
    (void)!write(ends[1], "x", 1);
    return NULL;
}

/* One read that succeeds. With SA_RESTART it is one call; without, each signal ends one with EINTR. */
static int reads(int flags) {
    int calls = 0;
    char byte;
    pthread_t self = pthread_self(), other;
    if (pipe(ends)) return 1;
    on(SIGUSR1, flags);
    pthread_create(&other, NULL, disturb, &self);
    for (;;) {
        calls++;
        if (read(ends[0], &byte, 1) == 1) break;
        if (errno != EINTR) return 2;
    }
    pthread_join(other, NULL);
    printf("%d\n", calls);
    return 0;
}

static void *named(void *name) {
    prctl(PR_SET_NAME, name);
    return NULL;
}

static pthread_barrier_t barrier;
static void *waits(void *unused) {
    pthread_barrier_wait(&barrier);
    return unused;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "pause")) { prctl(PR_SET_NAME, "one"); prctl(PR_GET_DUMPABLE); prctl(PR_SET_NAME, "two"); pause(); }
    if (!strcmp(mode, "reads")) return reads(0);
    if (!strcmp(mode, "reads-restarted")) return reads(SA_RESTART);
    if (!strcmp(mode, "signals")) {
        on(SIGUSR1, 0);
        on(SIGRTMIN + 3, 0);
        for (int i = 0; i < 3; i++) raise(SIGUSR1);
        raise(SIGRTMIN + 3);
        return handled == 4 ? 0 : 1;
    }
    if (!strcmp(mode, "lines")) {
        (void)!write(1, "begin\nrea", 9);
        (void)!write(2, "ready on 1\n", 11);
        struct iovec parts[] = {{"dy o", 4}, {"", 0}, {"n 80", 4}, {"\nmore\n", 6}};
        (void)!writev(1, parts, 4);
        (void)!write(1, "ready on 81\nready on 82\n", 24);
        return 0;
    }
    if (!strcmp(mode, "buffered")) { printf("ready on %d\n", 80); for (;;) pause(); }
    if (!strcmp(mode, "prompt")) { (void)!write(1, "ready on 80", 11); for (;;) pause(); }
    if (!strcmp(mode, "tty")) {
        printf("%d%d\n", isatty(1), isatty(2));
        fprintf(stderr, "err\n");
        printf("ready on %d\n", 80);
        pause();
    }
    if (!strcmp(mode, "threads")) {
        pthread_t t;
        pthread_create(&t, NULL, named, "worker-a");
        pthread_join(t, NULL);
        pthread_create(&t, NULL, named, "worker-b");
        pthread_join(t, NULL);
        pthread_barrier_init(&barrier, NULL, 2);
        pthread_create(&t, NULL, waits, NULL);
        pthread_setname_np(t, "worker-c");
        pthread_barrier_wait(&barrier);
        pthread_join(t, NULL);
        return 0;
    }
    if (!strcmp(mode, "library")) return dlopen(argv[2], RTLD_NOW) ? 0 : 1;
    if (!strcmp(mode, "children")) {
        if (!fork()) { (void)!write(1, "ready on 1\n", 11); raise(SIGUSR2); _exit(0); }
        return 0;
    }
    return 9;
}
