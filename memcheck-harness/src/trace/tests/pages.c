/* What touches large objects and the stack, one way for each mode. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Two pages and a bit, with a neighbour on the first page. */
__attribute__((aligned(4096))) volatile char table[9000];
volatile char beside[64];
const char fixed[100] = "constant";
static int sink;

static void *writes(void *at) {
    for (int i = 0; i < 50; i++)
        ((volatile char *)at)[0]++;
    return NULL;
}
static void handler(int signal) { table[5000] = (char)signal; }
__attribute__((noinline)) static int deep(int bytes) {
    volatile char block[bytes];
    block[0] = 1;
    block[bytes - 1] = 2;
    return block[0] + block[bytes - 1];
}
static int counted(void) {
    int sum = 0;
    for (unsigned i = 0; i < sizeof table; i++)
        sum += table[i];
    return sum;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "writes")) {
        sink = counted();               /* reading is no touch */
        table[0] = 1;
        beside[3] = 1;                  /* another object, perhaps on the same page */
        table[8999] = 2;
        for (int i = 0; i < 10; i++)
            table[4096 + i] = 1;
        return counted() == 13 ? 0 : 1;
    }
    if (!strcmp(mode, "threads")) {
        pthread_t all[4];
        for (int i = 0; i < 4; i++)
            pthread_create(&all[i], NULL, writes, (void *)&table[2000 * i]);
        for (int i = 0; i < 4; i++)
            pthread_join(all[i], NULL);
        return counted() == 200 ? 0 : 1;
    }
    if (!strcmp(mode, "read")) {
        int ends[2];
        if (pipe(ends) || write(ends[1], "0123456789", 10) != 10)
            return 2;
        long got = read(ends[0], (void *)&table[100], 64);
        if (got != 10 || table[100] != '0' || table[109] != '9')
            return 3;
        if (write(ends[1], (void *)&table[100], 10) != 10)      /* reading it is no touch */
            return 4;
        table[0] = 1;
        return 0;
    }
    if (!strcmp(mode, "readv")) {
        int ends[2];
        struct iovec vector = {(void *)&table[100], 64};
        if (pipe(ends) || write(ends[1], "0123456789", 10) != 10)
            return 2;
        return readv(ends[0], &vector, 1) == 10 ? 0 : 9;
    }
    if (!strcmp(mode, "fork")) {
        pid_t child = fork();
        if (child == 0) {
            table[1] = 7;
            _exit(table[1]);
        }
        int status;
        waitpid(child, &status, 0);
        table[1] += 1;
        return WIFEXITED(status) && WEXITSTATUS(status) == 7 && table[1] == 1 ? 0 : 1;
    }
    if (!strcmp(mode, "signals")) {
        signal(SIGUSR1, handler);
        raise(SIGUSR1);
        return table[5000] == SIGUSR1 ? 0 : 1;
    }
    if (!strcmp(mode, "own")) {                     /* its own fault is its own */
        table[0] = 1;
        *(volatile char *)(unsigned long)fixed = 1;
    }
    if (!strcmp(mode, "stack")) {
        sink = deep(40000);
        sink += deep(39000);            /* no deeper than before */
        sink += deep(60000);
        return 0;
    }
    if (!strcmp(mode, "stack-signals")) {
        signal(SIGUSR1, SIG_DFL);
        signal(SIGUSR1, handler);
        for (int i = 1; i < 12; i++) {
            sink += deep(4000 * i);
            raise(SIGUSR1);
        }
        return table[5000] == SIGUSR1 ? 0 : 1;
    }
    if (!strcmp(mode, "exec")) {
        table[0] = 1;
        execv("/proc/self/exe", (char *[]){argv[0], "writes", NULL});
    }
    return sink > 0 ? 0 : 0;
}
