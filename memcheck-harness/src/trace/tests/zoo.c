/* Targets for the tracer's tests: one program, one behaviour per first argument. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
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

static volatile int sink;

#ifdef LIBRARY
__attribute__((noinline)) void in_library(void) { PROBE("in-library"); sink++; }
#else
#ifdef WITH_LIBRARY
void in_library(void);
#endif

__attribute__((noinline)) void work(int n) { sink += n; PROBE("work"); }

/* Begins with an instruction that is not emulated: every pass needs a single step. */
#ifdef __x86_64__
__asm__(".globl stepped\n.type stepped,@function\nstepped: lock incl counter(%rip)\nret\n.size stepped, .-stepped\n");
#else
__asm__(".globl stepped\n.type stepped,%function\nstepped: ret\n.size stepped, .-stepped\n");
#endif
int counter;
void stepped(void);

static int loops;
static void *many(void *unused) {
    for (int i = 0; i < loops; i++) PROBE("many");
    return unused;
}
static void *steps(void *unused) {
    for (int i = 0; i < loops; i++) stepped();
    return unused;
}
static void *sleeper(void *unused) {
    for (;;) pause();
    return unused;
}
static void *churn(void *unused) {
    for (;;) {
        pthread_t t;
        if (!pthread_create(&t, NULL, many, NULL)) pthread_join(t, NULL);
    }
    return unused;
}
static void run_threads(int count, void *(*body)(void *), int join) {
    pthread_t threads[64];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], &attr, body, NULL)) exit(99);
    for (int i = 0; join && i < count; i++) pthread_join(threads[i], NULL);
}
static void nap(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) && errno == EINTR) {}
}
static int order[16], seen;
static void record(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (seen < 16) order[seen++] = (sig - SIGRTMIN) * 100 + info->si_value.sival_int + (info->si_code == SI_QUEUE ? 0 : 10000);
}
static void handled(int sig) { sink = sig; }
static void on(int sig, void (*handler)(int)) {
    struct sigaction action = {0};
    action.sa_handler = handler;
    sigaction(sig, &action, NULL);
}
/* Touches `loops` pages of its own, one every 3 ms, passes a probe, and touches as many again. */
static char *pages;
static volatile int grown;
static void *grow(void *unused) {
    for (int i = 0; i < 2 * loops; i++) {
        nap(3);
        if (i == loops) PROBE("grown");
        pages[i << 12] = 1;
        grown = i + 1;
    }
    return unused;
}
/* Never rests. */
static void *breathe(void *unused) {
    for (;;) {
        memset(pages, 1, 8 << 12);
        nap(2);
        madvise(pages, 8 << 12, MADV_DONTNEED);
        nap(2);
    }
    return unused;
}
static void *nothing(void *unused) { return unused; }

static void *alone(void *unused) {
    nap(20);
    PROBE("alone");
    return unused;
}
static void *beside_vfork(void *unused) {
    while (!sink) nap(1);
    PROBE("alone");
    return unused;
}
static char *self;
static void *exec_plain(void *unused) {
    execl(self, self, "plain", NULL);
    return unused;
}
static int vfork_body(void) {
    work(1);
    stepped();
    nap(5);
    _exit(4);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "plain";
    self = argv[0];
    if (argc > 2) loops = atoi(argv[2]);
    if (!strcmp(mode, "plain")) {
        for (int i = 0; i < 3; i++) work(i);
#ifdef WITH_LIBRARY
        in_library();
#endif
        printf("done\n");
        return 3;
    }
    if (!strcmp(mode, "many")) { run_threads(8, many, 1); return 0; }
    if (!strcmp(mode, "steps")) { run_threads(4, steps, 1); return counter == 4 * loops ? 0 : 1; }
    if (!strcmp(mode, "crash")) { *(volatile int *)8 = 1; return 0; }
    if (!strcmp(mode, "abort")) abort();
    if (!strcmp(mode, "term")) { raise(SIGTERM); return 0; }
    if (!strcmp(mode, "hang")) { on(SIGTERM, SIG_IGN); for (;;) pause(); }
    if (!strcmp(mode, "sleep")) { nap(loops); return 0; }
    if (!strcmp(mode, "env")) { extern char **environ; for (char **e = environ; *e; e++) puts(*e); return 0; }
    if (!strcmp(mode, "fork")) {
        pid_t child = fork();
        if (!child) { work(1); stepped(); _exit(7); }
        int status;
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 98;
        work(1);
        stepped();
        return WEXITSTATUS(status);
    }
    if (!strcmp(mode, "vfork")) {
        if (loops) run_threads(4, steps, 0);
        pid_t child = vfork();
        if (!child) vfork_body();
        int status;
        waitpid(child, &status, 0);
        work(1);
        char *args[] = {"true", NULL};
        pid_t spawned;
        int other;
        if (posix_spawnp(&spawned, "true", NULL, NULL, args, NULL)) return 97;
        waitpid(spawned, &other, 0);
        return WIFEXITED(status) && WEXITSTATUS(status) == 4 && other == 0 ? 0 : 96;
    }
    if (!strcmp(mode, "vfork-long")) {
        /* The main thread sits in vfork while another thread passes a probe. */
        pthread_t t;
        pthread_create(&t, NULL, beside_vfork, NULL);
        if (!vfork()) { sink = 1; nap(loops); _exit(0); }
        pthread_join(t, NULL);
        return 0;
    }
    if (!strcmp(mode, "daemon")) {
        if (!fork()) {
            setsid();
            pid_t daemon = fork();
            if (!daemon) for (;;) pause();
            printf("%d\n", daemon);
            fflush(stdout);
            _exit(0);
        }
        wait(NULL);
        PROBE("ready");
        return 0;
    }
    if (!strcmp(mode, "grow") || !strcmp(mode, "breathe")) {
        pages = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        run_threads(1, *mode == 'g' ? grow : breathe, 0);
        PROBE("ready");
        int seen_here = grown;
        if (*mode == 'b') nap(60);
        return seen_here;
    }
    if (!strcmp(mode, "sleepers")) { run_threads(20, sleeper, 0); nap(5); PROBE("ready"); return 0; }
    if (!strcmp(mode, "brief")) {
        for (int i = 0; i < loops; i++) {
            pthread_t t;
            if (pthread_create(&t, NULL, nothing, NULL) || pthread_join(t, NULL)) return 1;
        }
        return 0;
    }
    if (!strcmp(mode, "churn")) { run_threads(3, churn, 0); nap(10); for (int i = 0; i < 5; i++) { PROBE("ready"); nap(1); } return 0; }
    if (!strcmp(mode, "rt")) {
        struct sigaction action = {0};
        action.sa_sigaction = record;
        action.sa_flags = SA_SIGINFO;
        sigset_t set;
        sigemptyset(&set);
        for (int s = 1; s <= 2; s++) { sigaction(SIGRTMIN + s, &action, NULL); sigaddset(&set, SIGRTMIN + s); }
        sigprocmask(SIG_BLOCK, &set, NULL);
        for (int i = 1; i <= 3; i++)
            for (int s = 2; s >= 1; s--) sigqueue(getpid(), SIGRTMIN + s, (union sigval){.sival_int = i});
        PROBE("ready");
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        for (int i = 0; i < seen; i++) printf("%d ", order[i]);
        return 0;
    }
    if (!strcmp(mode, "stop")) {
        pid_t parent = getpid();
        if (!fork()) { nap(30); kill(parent, SIGCONT); _exit(0); }
        on(SIGCONT, handled);
        raise(SIGSTOP);
        while (!sink) nap(1);
        PROBE("ready");
        wait(NULL);
        return 0;
    }
    if (!strcmp(mode, "trap")) {
        on(SIGTRAP, handled);
#ifdef __x86_64__
        __asm__ volatile("int3");
#endif
        work(1);
        int own = sink >= SIGTRAP;
        sink = 0;
        raise(SIGTRAP);
        return own && sink == SIGTRAP ? 0 : 1;
    }
    if (!strcmp(mode, "flood")) {
        static char block[1 << 20];
        memset(block, 'x', sizeof block);
        for (int i = 0; i < loops; i++)
            if (write(1, block, sizeof block) != sizeof block) return 1;
        (void)!write(1, "END", 3);
        return 0;
    }
    if (!strcmp(mode, "zombie")) {
        pthread_t t;
        pthread_create(&t, NULL, alone, NULL);
        pthread_detach(t);
        syscall(SYS_exit, 0);
    }
    if (!strcmp(mode, "exec")) exec_plain(NULL);
    if (!strcmp(mode, "exec-thread")) {
        pthread_t t, other;
        pthread_create(&other, NULL, sleeper, NULL);
        pthread_create(&t, NULL, exec_plain, NULL);
        for (;;) pause();
    }
    if (!strcmp(mode, "mask")) {
        sigset_t set;
        sigprocmask(SIG_BLOCK, NULL, &set);
        for (int s = 1; s < 65; s++) if (sigismember(&set, s) == 1) return 1;
        for (int s = 1; s < 65; s++) {
            struct sigaction action;
            if (!sigaction(s, NULL, &action) && action.sa_handler != SIG_DFL) return 2;
        }
        for (int fd = 3; fd < 200; fd++) if (fcntl(fd, F_GETFD) != -1) return 3;
        return getsid(0) == getpid() ? 0 : 4;
    }
    return 90;
}
#endif
