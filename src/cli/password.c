/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A password, or another secret, from a file, from standard input, or asked for on a terminal,
 * where what is typed is not shown. Whatever ends the question, the terminal shows again what is
 * typed: it is the shell's after us.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "sys/fd.h"

struct question {
    struct termios shown, hidden;
    sigset_t ends, before;
    const struct cli_secret *ask;
};

static void show(const struct question *question)
{
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &question->shown);
    fputs("\n", stderr);
}

static void hide(const struct question *question)
{
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &question->hidden);
    fputs(question->ask->prompt, stderr);
}

/* Ends the process as it would have, or stops it for a while. */
static void give_in(const struct question *question, int signals)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    show(question);
    (void)raise((int)info.ssi_signo);
    sigprocmask(SIG_SETMASK, &question->before, NULL);
    sigprocmask(SIG_BLOCK, &question->ends, NULL);
    hide(question);
}

static int read_line(const struct question *question, int signals, char *line, size_t *ret_used,
                     struct err *err)
{
    struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
                            { .fd = signals, .events = POLLIN } };
    size_t used = 0;
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return err_set(err, ERR_INTERNAL, "the terminal cannot be asked");
        if (fds[1].revents) {
            give_in(question, signals);
            used = 0; /* the terminal has dropped what was typed */
            continue;
        }
        if (!fds[0].revents)
            continue;
        if (used > question->ask->bytes_max || read(STDIN_FILENO, line + used, 1) != 1 ||
            line[used] == '\n')
            break;
        used++;
    }
    *ret_used = used;
    return 0;
}

static int ask_line(const struct cli_secret *ask, struct arena *secret, struct slice *ret,
                    struct err *err)
{
    struct question question = { .ask = ask };
    char *line = arena_alloc(secret, ask->bytes_max + 2);
    size_t used = 0;
    if (tcgetattr(STDIN_FILENO, &question.shown) < 0)
        return err_set(err, ERR_INTERNAL, "the terminal cannot be asked");
    question.hidden = question.shown;
    question.hidden.c_lflag &= ~(tcflag_t)ECHO;
    sigemptyset(&question.ends);
    for (size_t i = 0; i < 5; i++)
        sigaddset(&question.ends, (const int[]){ SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP }[i]);
    sigprocmask(SIG_BLOCK, &question.ends, &question.before);
    auto_close int signals = signalfd(-1, &question.ends, SFD_CLOEXEC | SFD_NONBLOCK);
    hide(&question);
    int r = signals < 0
                ? err_set(err, ERR_INTERNAL, "the terminal cannot be asked: %s", strerror(errno))
                : read_line(&question, signals, line, &used, err);
    show(&question);
    sigprocmask(SIG_SETMASK, &question.before, NULL);
    *ret = (struct slice){ line, used };
    return r;
}

int cli_read_secret(struct cli *cli, const struct cli_secret *ask, struct arena *secret,
                    struct slice *ret, struct err *err)
{
    struct arena *own = cli->arena;
    int r;
    if (strcmp(ask->path, "-") == 0 && isatty(STDIN_FILENO)) {
        r = ask_line(ask, secret, ret, err);
    } else {
        cli->arena = secret;
        r = cli_read(cli, ask->path, ask->bytes_max + 2, ret, err);
        cli->arena = own;
    }
    if (r < 0)
        return err_wrap(err, "%s", ask->what);
    if (ret->size && ret->data[ret->size - 1] == '\n')
        ret->size--;
    if (ret->size && ret->data[ret->size - 1] == '\r')
        ret->size--;
    return ret->size ? 0 : err_set(err, ERR_BAD_INPUT, "%s: there is nothing in it", ask->what);
}
