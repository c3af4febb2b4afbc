/* A small TCP server, and the client that loads it: what stays of a load when the load is over.
 *
 * The server has three workers, each with a cache of its own; connection i belongs to worker i modulo 3. It listens on a port
 * of the loopback device that the kernel chooses, and writes the port to TMPDIR/memcheck-server.PID (or /tmp).
 *
 *   ./server                  serves until it is killed
 *   ./server load PID         six connections one after another, 16 blocks of 16 KiB each into the cache
 *   ./server purge PID        empties all caches
 *
 * The client is what [[case.step]] runs: /proc/PID/exe is the server's own file. A connection ends with a "b": the worker
 * closes it when it has done everything, and the client waits for that; so when the client has ended, nothing happens any more.
 *
 *   ready      three workers, each has allocated its buffer: 3 arenas
 *   loaded     6 × 16 blocks of 16 KiB: 1536 KiB more in the arenas
 *   settled    the caches are empty, the server waits: free memory at the end of an arena goes back to the kernel, all but the
 *              top, of up to 128 KiB
 *
 * Repeatable: only one connection exists at a time, and each worker serves always the same ones. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "memcheck.h"

enum { WORKERS = 3, CONNECTIONS = 6, BLOCKS = 16, BLOCK = 16384 };

struct worker {
    pthread_t thread;
    int inbox[2]; /* a pipe of connected sockets */
    char *cache[CONNECTIONS * BLOCKS];
    int blocks;
};
static struct worker workers[WORKERS];
static pthread_barrier_t started;

static void must(int ok) { if (!ok) { perror("server"); exit(1); } }

static void whole(int from, char *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t n = read(from, bytes + done, length - done);
        must(n > 0);
        done += (size_t)n;
    }
}

static void *work(void *argument) {
    struct worker *self = argument;
    volatile char *buffer = malloc(BLOCK);
    must(buffer != NULL);
    for (int i = 0; i < BLOCK; i++) buffer[i] = 1;
    pthread_barrier_wait(&started);
    for (int socket; read(self->inbox[0], &socket, sizeof socket) == sizeof socket; close(socket)) {
        for (char command; whole(socket, &command, 1), command != 'b';) {
            if (command == 'p') while (self->blocks) free(self->cache[--self->blocks]);
            if (command == 's') {
                whole(socket, (char *)buffer, BLOCK);
                char *block = malloc(BLOCK);
                must(block != NULL);
                memcpy(block, (char *)buffer, BLOCK);
                self->cache[self->blocks++] = block;
            }
            must(write(socket, "k", 1) == 1);
        }
    }
    return NULL;
}

static void port_file(char *path, size_t size, int pid) {
    const char *directory = getenv("TMPDIR");
    snprintf(path, size, "%s/memcheck-server.%d", directory ? directory : "/tmp", pid);
}

static _Noreturn void serve(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    must(listener >= 0 && !bind(listener, (struct sockaddr *)&address, length) && !listen(listener, 8));
    must(!getsockname(listener, (struct sockaddr *)&address, &length));
    for (int i = 0; i < WORKERS; i++) {
        /* In turn: each has its arena before the next begins. */
        pthread_barrier_init(&started, NULL, 2);
        must(!pipe(workers[i].inbox) && !pthread_create(&workers[i].thread, NULL, work, &workers[i]));
        pthread_barrier_wait(&started);
    }
    char path[4096];
    port_file(path, sizeof path, getpid());
    FILE *file = fopen(path, "w");
    must(file && fprintf(file, "%d\n", ntohs(address.sin_port)) > 0 && !fclose(file));
    MEMCHECK_CHECKPOINT(ready);
    for (int i = 0;; i++) {
        int connection = accept(listener, NULL, NULL);
        must(connection >= 0 && write(workers[i % WORKERS].inbox[1], &connection, sizeof connection) == sizeof connection);
    }
}

static void tell(int socket, char command, const char *block) {
    char answer;
    must(write(socket, &command, 1) == 1);
    if (block) must(write(socket, block, BLOCK) == BLOCK);
    if (command != 'b') whole(socket, &answer, 1);
}

static int drive(const char *what, int pid) {
    char path[4096];
    port_file(path, sizeof path, pid);
    FILE *file = fopen(path, "r");
    int port;
    must(file && fscanf(file, "%d", &port) == 1);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    static char block[BLOCK], end;
    for (int i = 0; i < CONNECTIONS; i++) {
        int connection = socket(AF_INET, SOCK_STREAM, 0);
        int now = 1;
        must(connection >= 0 && !connect(connection, (struct sockaddr *)&address, sizeof address));
        must(!setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now));
        if (!strcmp(what, "load"))
            for (int j = 0; j < BLOCKS; j++) tell(connection, 's', block);
        if (!strcmp(what, "purge")) tell(connection, 'p', NULL);
        tell(connection, 'b', NULL);
        must(read(connection, &end, 1) == 0);
        close(connection);
    }
    if (!strcmp(what, "purge")) unlink(path);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3) return drive(argv[1], atoi(argv[2]));
    serve();
}
