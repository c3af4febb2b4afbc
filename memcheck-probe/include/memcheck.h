/* memcheck.h: checkpoint markers for cargo memcheck, for C and C++. Self-contained; nothing to link.
 *
 *     MEMCHECK_CHECKPOINT(spawned);          a bare word
 *     MEMCHECK_CHECKPOINT_STR("touch-20");   any name of letters, digits, '_', '-' and '.'
 *
 * Each use becomes one `nop` and a note in `.note.stapsdt`, a section that is not loaded: a SystemTap probe (USDT) of the
 * provider `memcheck`, readable by gdb, perf, bpftrace and SystemTap too. It survives `strip`. The compiler finishes
 * pending stores before the marker and rereads memory after it; nothing else is changed.
 *
 * Where ptrace is refused: compile with -DMEMCHECK_COOPERATIVE, and markers stop their process by themselves when
 * `cargo memcheck --cooperative` asks for it; they are no single `nop` then.
 *
 * x86-64 and aarch64 Linux with GNU C or Clang; elsewhere the macros do nothing.
 * Format: https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation
 */
#ifndef MEMCHECK_H
#define MEMCHECK_H

#if defined(__linux__) && defined(__ELF__) && defined(__LP64__) && defined(__GNUC__) \
    && (defined(__x86_64__) || defined(__aarch64__))

/* GCC estimates the size of an asm statement by its lines, and inlines less around a long one; `asm inline` (GCC 9) counts it
 * as one instruction, so that a marked program is optimised like an unmarked one. */
#if !defined(__clang__) && __GNUC__ >= 9
#define MEMCHECK_ASM_ __asm__ __volatile__ __inline__
#else
#define MEMCHECK_ASM_ __asm__ __volatile__
#endif

#ifdef MEMCHECK_COOPERATIVE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __cplusplus
extern "C" {
#else
/* Strict C99 does not declare it. */
extern long syscall(long, ...);
#endif
/* One for the whole program, however many files include this: the thread that is at a marker, others wait for it. */
__attribute__((weak, visibility("hidden"))) int memcheck_stopping_;
#ifdef __cplusplus
}
#endif
__attribute__((unused)) static void memcheck_cooperate_(const char *line)
{
    const char *value = getenv("MEMCHECK_COOPERATE");
    char *rest;
    long channel;
    int me, owner = 0;
    size_t length = strlen(line);
    /* Children have the variable and the descriptor, too; the tool waits for the one that it launched. */
    if (value == NULL || (long)getpid() != syscall(SYS_getsid, 0))
        return;
    /* Digits alone are a descriptor. */
    channel = strtol(value, &rest, 10);
    if (*value < '0' || *value > '9' || *rest != 0 || channel > 0x7fffffff)
        return;
    me = (int)syscall(SYS_gettid);
    while (!__atomic_compare_exchange_n(&memcheck_stopping_, &owner, me, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        if (owner == me)
            return;
        owner = 0;
        syscall(SYS_sched_yield);
    }
    if (write((int)channel, line, length) == (ssize_t)length)
        raise(SIGSTOP);
    __atomic_store_n(&memcheck_stopping_, 0, __ATOMIC_RELEASE);
}
#define MEMCHECK_COOPERATE_(name) memcheck_cooperate_(name "\n")
#else
#define MEMCHECK_COOPERATE_(name) ((void)0)
#endif

/* Numeric labels are local, so a marker may be inlined, unrolled or instantiated any number of times. The note belongs to the
 * section group of the code ("?"), and goes when the linker drops that code. */
#define MEMCHECK_CHECKPOINT_STR(name)                                   \
    do {                                                                \
        MEMCHECK_ASM_(                                                  \
            "990: nop\n"                                                \
            ".pushsection .note.stapsdt,\"?\",\"note\"\n"               \
            ".balign 4\n"                                               \
            ".4byte 992f-991f,994f-993f,3\n"                            \
            "991: .asciz \"stapsdt\"\n"                                 \
            "992: .balign 4\n"                                          \
            "993: .8byte 990b,_.stapsdt.base,0\n"                       \
            ".asciz \"memcheck\"\n"                                     \
            ".asciz \"" name "\"\n"                                     \
            ".asciz \"\"\n"                                             \
            "994: .balign 4\n"                                          \
            ".popsection\n"                                             \
            ".ifndef _.stapsdt.base\n"                                  \
            ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
            ".weak _.stapsdt.base\n"                                    \
            ".hidden _.stapsdt.base\n"                                  \
            "_.stapsdt.base: .space 1\n"                                \
            ".size _.stapsdt.base,1\n"                                  \
            ".popsection\n"                                             \
            ".endif\n"                                                  \
            : : : "memory");                                            \
        MEMCHECK_COOPERATE_(name);                                      \
    } while (0)

#else

/* The concatenation still refuses what is not a string. */
#define MEMCHECK_CHECKPOINT_STR(name) ((void)("" name))

#endif

#define MEMCHECK_CHECKPOINT(name) MEMCHECK_CHECKPOINT_STR(#name)

#endif
