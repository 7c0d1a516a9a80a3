/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only what is safe in a signal handler: no allocation, no stdio, own digits. The handler runs on a
 * stack of its own, so that an overflow of the first thread's stack can still be named.
 */
#include "runtime/crash.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <perigee/worker.h>

#include "base/err.h"
#include "sys/syscalls.h"

#define STACK_BYTES 65536

static struct perigee_status *page;
static volatile sig_atomic_t dying;
static _Alignas(16) char stack[STACK_BYTES];

static const struct {
    int signal;
    const char *words;
} signals[] = {
    { SIGSYS, "made a system call that is not allowed" },
    { SIGSEGV, "touched memory that is not there (SIGSEGV)" },
    { SIGBUS, "touched memory that cannot be had (SIGBUS)" },
    { SIGABRT, "gave up (SIGABRT)" },
    { SIGFPE, "divided by zero or overflowed (SIGFPE)" },
    { SIGILL, "ran an instruction this processor does not have (SIGILL)" },
};
#define SIGNALS (sizeof signals / sizeof *signals)

static size_t append(char *text, size_t room, size_t at, const char *more)
{
    while (*more && at + 1 < room)
        text[at++] = *more++;
    text[at] = 0;
    return at;
}

static size_t append_number(char *text, size_t room, size_t at, unsigned value)
{
    char digits[12];
    size_t begin = sizeof digits;

    digits[--begin] = 0;
    do {
        digits[--begin] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return append(text, room, at, &digits[begin]);
}

static const char *phase_words(uint32_t phase)
{
    switch (phase) {
    case PERIGEE_PHASE_WALLS:
        return " while putting up its walls";
    case PERIGEE_PHASE_LOADING:
        return " while loading the model";
    case PERIGEE_PHASE_WARMING:
        return " in its first run";
    case PERIGEE_PHASE_READY:
        return " while serving";
    default:
        return "";
    }
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!dying) {
        uint32_t phase = atomic_load(&page->phase);
        const char *words = "died";
        size_t at = 0, room = sizeof page->reason;

        dying = 1;
        for (size_t i = 0; i < SIGNALS; i++) {
            if (signals[i].signal == number)
                words = signals[i].words;
        }
        page->signal = number;
        at = append(page->reason, room, at, "the worker ");
        at = append(page->reason, room, at, words);
        if (number == SIGSYS) {
            page->syscall = info->si_syscall;
            at = append(page->reason, room, at, ": ");
            at = append(page->reason, room, at, syscall_name(info->si_syscall));
            at = append(page->reason, room, at, " (");
            at = append_number(page->reason, room, at, (unsigned)info->si_syscall);
            at = append(page->reason, room, at, ")");
        }
        append(page->reason, room, at, phase_words(phase));
        atomic_store(&page->phase, PERIGEE_PHASE_FAILED);
        (void)!write(STDERR_FILENO, page->reason, strlen(page->reason));
        (void)!write(STDERR_FILENO, "\n", 1);
    }
    /* The action is the default one again (SA_RESETHAND). Whoever stands between the kernel and
     * this handler (ThreadSanitizer does) may have blocked what we did not. */
    const uint64_t none = 0;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
    (void)syscall(SYS_tgkill, getpid(), gettid(), number);
    _exit(128 + number);
}

int crash_watch(struct perigee_status *status, struct err *err)
{
    stack_t own = { .ss_sp = stack, .ss_size = sizeof stack };
    struct sigaction action = {
        .sa_sigaction = on_signal,
        .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESETHAND),
    };
    sigset_t none;

    page = status;
    if (sigaltstack(&own, NULL) != 0)
        return err_set(err, ERR_INTERNAL, "sigaltstack: %s", strerror(errno));
    for (size_t i = 0; i < SIGNALS; i++) {
        if (sigaction(signals[i].signal, &action, NULL) != 0)
            return err_set(err, ERR_INTERNAL, "sigaction: %s", strerror(errno));
    }
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL); /* seccomp's SIGSYS is not to be blocked */
    (void)signal(SIGPIPE, SIG_IGN);
    return 0;
}
