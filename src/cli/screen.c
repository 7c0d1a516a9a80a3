/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "sys/fd.h"

/* The other screen and no cursor; back. */
#define ENTER "\x1b[?1049h\x1b[?25l"
#define LEAVE "\x1b[?25h\x1b[?1049l"

enum { ROWS_USUAL = 24, COLUMNS_USUAL = 80 };

static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static const int crashes[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
enum { END_COUNT = sizeof ends / sizeof *ends, CRASH_COUNT = sizeof crashes / sizeof *crashes };

struct screen {
    int signals; /* a signalfd */
    sigset_t mask_before;
    char keys[64]; /* read, and not told yet */
    size_t key_at, key_count;
};

/* For a crash's handler: there is one terminal. */
static struct termios before;
static volatile sig_atomic_t drawn;

static bool write_all(const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Safe in a signal's handler. */
static void leave(void)
{
    if (!drawn)
        return;
    drawn = 0;
    (void)!write(STDOUT_FILENO, LEAVE, sizeof LEAVE - 1);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

static void on_crash(int number)
{
    leave();
    (void)raise(number); /* SA_RESETHAND: ends the process as it would have */
}

static bool enter(void)
{
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) < 0)
        return false;
    drawn = 1;
    return write_all(ENTER, sizeof ENTER - 1);
}

bool screen_there(void)
{
    const char *term = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

int screen_open(struct screen **ret, struct err *err)
{
    sigset_t wanted;
    struct screen *screen = mem_zalloc(sizeof *screen);
    sigemptyset(&wanted);
    for (size_t i = 0; i < END_COUNT; i++)
        sigaddset(&wanted, ends[i]);
    sigaddset(&wanted, SIGTSTP);
    sigaddset(&wanted, SIGWINCH);
    sigprocmask(SIG_BLOCK, &wanted, &screen->mask_before);
    screen->signals = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    struct sigaction action = { .sa_handler = on_crash, .sa_flags = SA_RESETHAND };
    for (size_t i = 0; i < CRASH_COUNT; i++)
        sigaction(crashes[i], &action, NULL);
    if (screen->signals < 0 || tcgetattr(STDIN_FILENO, &before) < 0 || !enter()) {
        int error = errno;
        screen_close(screen);
        return err_set(err, ERR_INTERNAL, "taking the terminal: %s", strerror(error));
    }
    *ret = screen;
    return 0;
}

void screen_close(struct screen *screen)
{
    leave();
    for (size_t i = 0; i < CRASH_COUNT; i++)
        (void)signal(crashes[i], SIG_DFL);
    if (screen->signals >= 0)
        close(screen->signals);
    sigprocmask(SIG_SETMASK, &screen->mask_before, NULL);
    free(screen);
}

void screen_size(int *ret_rows, int *ret_columns)
{
    struct winsize size = {};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    *ret_rows = known && size.ws_row > 0 ? size.ws_row : ROWS_USUAL;
    *ret_columns = known && size.ws_col > 0 ? size.ws_col : COLUMNS_USUAL;
}

bool screen_draw(struct screen *screen, struct slice lines, int rows)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    (void)screen;
    if (!out)
        mem_abort(0);
    fputs("\x1b[H", out);
    for (int row = 0; row < rows && lines.size; row++) {
        struct slice line = slice_cut(&lines, '\n');
        fprintf(out, "%s%.*s\x1b[K", row ? "\r\n" : "", SLICE_FMT(line));
    }
    fputs("\x1b[J", out);
    fclose(out);
    bool there = write_all(text, size);
    free(text);
    return there;
}

/* ---- what happens ---------------------------------------------------------------------------- */

/* The shell has the terminal until we are told to go on. */
static void stand_still(void)
{
    leave();
    (void)raise(SIGSTOP);
    (void)enter();
}

static bool on_signal(struct screen *screen, struct screen_event *ret)
{
    struct signalfd_siginfo info;
    if (read(screen->signals, &info, sizeof info) != sizeof info)
        return false;
    int number = (int)info.ssi_signo;
    if (number == SIGTSTP)
        stand_still();
    *ret = number == SIGTSTP || number == SIGWINCH
               ? (struct screen_event){ .kind = SCREEN_RESIZED }
               : (struct screen_event){ .kind = SCREEN_END, .signal = number };
    return true;
}

/* "\x1b[A" and its like are one key; others of that kind are none. There is one at least. */
static int key_next(struct screen *screen)
{
    static const struct {
        const char *text;
        int key;
    } named[] = { { "\x1b[A", SCREEN_UP },       { "\x1bOA", SCREEN_UP },
                  { "\x1b[B", SCREEN_DOWN },     { "\x1bOB", SCREEN_DOWN },
                  { "\x1b[5~", SCREEN_PAGE_UP }, { "\x1b[6~", SCREEN_PAGE_DOWN } };
    struct slice rest = { screen->keys + screen->key_at, screen->key_count - screen->key_at };
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (slice_starts(rest, slice_of(named[i].text))) {
            screen->key_at += strlen(named[i].text);
            return named[i].key;
        }
    screen->key_at++;
    if (rest.data[0] != 0x1b)
        return (unsigned char)rest.data[0];
    if (rest.size > 1 && rest.data[1] == '[') /* ECMA-48: up to a final byte */
        for (screen->key_at++; screen->key_at < screen->key_count;)
            if (screen->keys[screen->key_at++] >= 0x40)
                break;
    return 0;
}

struct screen_event screen_wait(struct screen *screen, int timeout_ms)
{
    struct screen_event event = { .kind = SCREEN_TIME };
    struct pollfd fds[] = { { .fd = screen->signals, .events = POLLIN },
                            { .fd = STDIN_FILENO, .events = POLLIN } };
    if (screen->key_at < screen->key_count)
        return (struct screen_event){ .kind = SCREEN_KEY, .key = key_next(screen) };
    if (poll(fds, 2, timeout_ms > 0 ? timeout_ms : 0) <= 0)
        return event;
    if (fds[0].revents && on_signal(screen, &event))
        return event;
    if (!fds[1].revents)
        return event;
    ssize_t n = read(STDIN_FILENO, screen->keys, sizeof screen->keys);
    if (n <= 0)
        return (struct screen_event){ .kind = SCREEN_END };
    screen->key_at = 0;
    screen->key_count = (size_t)n;
    return (struct screen_event){ .kind = SCREEN_KEY, .key = key_next(screen) };
}
