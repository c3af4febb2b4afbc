/* A target that makes children in every way there is: one way per first argument. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A USDT probe (systemtap's SDT version 3 note) without sys/sdt.h. */
#define PROBE(name)                                                                                         \
    __asm__ volatile("990: nop\n"                                                                           \
                     ".pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n"                               \
                     ".4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n992: .balign 4\n"            \
                     "993: .8byte 990b, _.stapsdt.base, 0\n"                                                \
                     ".asciz \"memcheck\"\n.asciz \"" name "\"\n.asciz \"\"\n994: .balign 4\n.popsection\n" \
                     ".ifndef _.stapsdt.base\n"                                                             \
                     ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                \
                     ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n"             \
                     ".size _.stapsdt.base, 1\n.popsection\n.endif\n" ::: "memory")

extern char **environ;
static char *self;
volatile int variable;
static char stack[64 << 10] __attribute__((aligned(16)));

__attribute__((noinline)) int work(int n) { PROBE("work"); return n + variable; }

static void nap(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}
static void handled(int signal) { (void)signal; }
static void *nothing(void *unused) { return unused; }
static void *late(void *unused) {
    nap(20);
    work(1);
    _exit(3);
    return unused;
}
static void *execs(void *unused) {
    execl(self, self, "leaf", NULL);
    return unused;
}

/* Passes one place of every kind. */
static int all_kinds(void) {
    pthread_t thread;
    PROBE("child");
    work(1);
    variable = 1;
    getppid();
    raise(SIGUSR1);
    if (!pthread_create(&thread, NULL, nothing, NULL)) pthread_join(thread, NULL);
    return write(1, "a line\n", 7) == 7 ? 5 : 6;
}

static int in_shared_memory(void *unused) {
    (void)unused;
    PROBE("child");
    return work(1);
}

/* Waits for all children; the last one's exit code. */
static int wait_all(void) {
    int status = 0;
    while (wait(&status) > 0) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    int count = argc > 2 ? atoi(argv[2]) : 1;
    pid_t pid;
    self = argv[0];
    signal(SIGUSR1, handled);
    if (!strcmp(mode, "leaf")) { work(1); PROBE("leaf"); return 4; }
    work(0);
    if (!strcmp(mode, "fork")) {
        for (int i = 0; i < count; i++) if (!fork()) _exit(all_kinds());
    } else if (!strcmp(mode, "spawn")) {
        char *arguments[] = {self, "leaf", NULL};
        for (int i = 0; i < count; i++)
            if (posix_spawn(&pid, argc > 3 ? argv[3] : self, NULL, NULL, arguments, environ)) return 98;
    } else if (!strcmp(mode, "vfork")) {
        if (!vfork()) { work(1); execl(self, self, "leaf", NULL); _exit(97); }
    } else if (!strcmp(mode, "clone")) {
        if (clone(in_shared_memory, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) < 0) return 96;
    } else if (!strcmp(mode, "daemon")) {
        if (!fork()) {
            if (!fork()) { setsid(); nap(50); PROBE("late"); _exit(0); }
            _exit(0);
        }
        wait(NULL);
        return 0;
    } else if (!strcmp(mode, "exec-thread")) {
        if (!fork()) {
            pthread_t thread;
            pthread_create(&thread, NULL, execs, NULL);
            for (;;) pause();
        }
    } else if (!strcmp(mode, "zombie")) {
        if (!fork()) {
            pthread_t thread;
            pthread_create(&thread, NULL, late, NULL);
            pthread_exit(NULL);
        }
    } else if (!strcmp(mode, "killed")) {
        if (!(pid = fork())) for (;;) pause();
        kill(pid, SIGKILL);
    } else if (!strcmp(mode, "crash")) {
        if (!fork()) abort();
    }
    int last = wait_all();
    work(2);
    PROBE("done");
    return last;
}
