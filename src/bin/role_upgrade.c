/* SPDX-License-Identifier: Apache-2.0 */
/* perigee upgrade: asks the supervisor to become another program, and says how far it is. The other
 * end is supervisor/upgrade.h; and the start of that program in the supervisor's place. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "bin/roles.h"
#include "cli/cli.h"
#include "contract/messages.h"
#include "supervisor/handover.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"
#include "sys/channel.h"
#include "sys/fd.h"

static int upgrade_run(struct cli *cli, struct err *err);

/* clang-format off */
static const struct cli_option options[] = {
    { "--binary", "PATH", "The program to become; what stands at the running one's path unless told.", false },
    {},
};

const struct cli_command upgrade_command = {
    "upgrade", NULL, "",
    "Put another version of Perigee in place of the running one, without losing a request.",
    options,
    "  perigee upgrade\n"
    "  perigee upgrade --binary /srv/perigee-0.2.0/bin/perigee\n",
    0, 0, upgrade_run,
};
/* clang-format on */

int up_resume(const char *text)
{
    uint64_t fd;
    struct err err = {};
    int r = slice_u64(slice_of(text), &fd) && fd > STDERR_FILENO && fd < INT_MAX
                ? 0
                : err_set(&err, ERR_BAD_INPUT, "%s is for Perigee itself; unset it",
                          HANDOVER_ENVIRONMENT);
    (void)unsetenv(HANDOVER_ENVIRONMENT);
    if (r == 0)
        r = supervisor_resume((int)fd, &err);
    if (r == 0)
        return 0;
    (void)fprintf(stderr, "perigee: %s\n", err.message);
    return 1;
}

static int supervisor_connect(struct cli *cli, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", cli->home, UPGRADE_SOCKET);
    auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(err, ERR_INTERNAL, "making a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return errno == ENOENT || errno == ECONNREFUSED
                   ? err_set(err, ERR_NOT_FOUND,
                             "Perigee does not run on the home '%s'; `perigee up` starts it, and "
                             "--home DIR names another home",
                             ERR_TEXT(cli->home))
                   : err_set(err, ERR_FORBIDDEN, "asking Perigee on the home '%s': %s",
                             ERR_TEXT(cli->home), strerror(errno));
    *ret_fd = take_fd(fd);
    return 0;
}

/* As this process sees the path: the supervisor may stand in another folder. */
static int read_binary(const struct cli *cli, struct message_upgrade *message, struct err *err)
{
    const char *given = cli_option_value(cli, "--binary");
    char path[PATH_MAX];
    if (!given)
        return 0;
    if (!realpath(given, path))
        return err_set(err, ERR_NOT_FOUND, "--binary: '%s' cannot be opened: %s", ERR_TEXT(given),
                       strerror(errno));
    if (strlen(path) >= sizeof message->binary)
        return err_set(err, ERR_BAD_INPUT, "--binary: the path has more than %zu bytes",
                       sizeof message->binary - 1);
    memcpy(message->binary, path, strlen(path) + 1);
    return 0;
}

static int wait_state(struct channel *channel, struct message_upgrade_state *ret, struct err *err)
{
    union message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct pollfd poll_fd = { channel_fd(channel), POLLIN, 0 };
    int r;
    do {
        (void)poll(&poll_fd, 1, -1);
        r = channel_receive(channel, &message, sizeof message, &size, fds, &fd_count, err);
    } while (r == 0);
    if (r < 0)
        return err_set(err, ERR_INTERNAL,
                       "Perigee ended meanwhile, or is of a version that cannot be upgraded this "
                       "way; its log says more");
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    r = message_check(&message, size, 0, err);
    if (r == 0 && message.head.type != MESSAGE_UPGRADE_STATE)
        r = err_set(err, ERR_INTERNAL, "Perigee said %s", message_name(message.head.type));
    if (r == 0)
        *ret = message.as_MESSAGE_UPGRADE_STATE;
    return r;
}

static void say_step(struct cli *cli, struct json_writer *w, const char *text)
{
    if (cli->json) {
        json_string(w, arena_copy(cli->arena, slice_of(text)));
        return;
    }
    printf("  ");
    cli_print_text(stdout, slice_of(text));
    printf("\n");
    (void)fflush(stdout);
}

static int follow(struct cli *cli, struct channel *channel, struct err *err)
{
    struct message_upgrade_state state;
    struct json_writer w;
    struct cli_progress progress;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_key(&w, "steps");
    json_array_begin(&w);
    cli_progress_begin(&progress, "upgrade");
    int r;
    do {
        r = wait_state(channel, &state, err);
        if (r == 0 && state.state == UPGRADE_STEP)
            say_step(cli, &w, state.text);
    } while (r == 0 && state.state != UPGRADE_DONE && state.state != UPGRADE_FAILED);
    cli_progress_end(&progress);
    if (r == 0 && state.state == UPGRADE_FAILED)
        r = err_set(err, ERR_PRECONDITION, "%s; version %s serves as before", state.text,
                    state.version);
    json_array_end(&w);
    json_member_text(&w, "version", r == 0 ? state.version : "");
    json_object_end(&w);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_print_written(cli, &w);
    printf("Perigee %s serves now.\n", state.version);
    return 0;
}

static int upgrade_run(struct cli *cli, struct err *err)
{
    struct message_upgrade message = MESSAGE_INIT(MESSAGE_UPGRADE);
    int fd = -1;
    int r = read_binary(cli, &message, err);
    if (r == 0)
        r = supervisor_connect(cli, &fd, err);
    if (r < 0)
        return r;
    struct channel *channel = channel_new(fd);
    r = channel_send(channel, &message, sizeof message, NULL, 0, err);
    if (r == 0 || r == ERR_CANCELED) /* it may have said no, and why, before it was asked */
        r = follow(cli, channel, err);
    channel_free(channel);
    return r;
}
