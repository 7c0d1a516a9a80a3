/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/version.h"
#include "contract/messages.h"
#include "sys/channel.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/spawn.h"

enum { CALM_EVERY_MS = 5, CALM_TRIES = 1000, VISITORS_MAX = 8 };

#define ANSWER_WITHIN_NS (5 * ENV_S)

struct visitor { /* a `perigee upgrade` */
    struct upgrade *upgrade;
    struct list link;
    struct channel *channel;
    struct env_linux_watch *watch;
    bool stranger; /* another user: hears that it may not ask */
};

struct upgrade {
    struct env_linux *world;
    const struct upgrade_host *host;
    void *data;
    int lifeline_fd; /* borrowed */
    int socket_fd;
    struct env_linux_watch *socket_watch;
    struct list visitors;
    unsigned visitor_count;
    struct visitor *asker; /* for whom it is; NULL: a signal, or who asked has gone */
    /* the try under way */
    bool trying;
    char path[MESSAGE_PATH_BYTES];
    int binary_fd;
    struct channel *probe; /* NULL once it has ended */
    struct env_linux_watch *probe_watch;
    uint64_t probe_id;
    bool answered;
    struct message_upgrade_checked answer;
    unsigned calm_tries;
    struct env_timer timer;
};

static struct env *env_of(const struct upgrade *upgrade)
{
    return env_linux_env(upgrade->world);
}

/* ---- a try ---------------------------------------------------------------------------------- */

static void try_end(struct upgrade *upgrade)
{
    env_timer_stop(env_of(upgrade), &upgrade->timer);
    fd_close(&upgrade->binary_fd);
    upgrade->trying = false;
}

static void try_failed(struct upgrade *upgrade, const struct err *err)
{
    try_end(upgrade);
    upgrade->host->failed(err->message, upgrade->data);
}

static void on_calm_due(struct env_timer *, void *data)
{
    struct upgrade *upgrade = data;
    struct err err = {};
    if (upgrade->host->calm(upgrade->data)) {
        if (upgrade->host->become(upgrade->binary_fd, upgrade->data, &err) < 0)
            try_failed(upgrade, &err);
        return;
    }
    if (upgrade->calm_tries++ == CALM_TRIES) {
        (void)err_set(&err, ERR_OVERLOADED, "a process does not read its messages");
        try_failed(upgrade, &err);
        return;
    }
    env_timer_start(env_of(upgrade), &upgrade->timer, CALM_EVERY_MS * ENV_MS, on_calm_due, upgrade);
}

static void probe_read(struct upgrade *upgrade)
{
    union message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err;
    if (channel_receive(upgrade->probe, &message, sizeof message, &size, fds, &fd_count, &err) <= 0)
        return;
    if (message_check(&message, size, fd_count, &err) == 0 &&
        message.head.type == MESSAGE_UPGRADE_CHECKED) {
        upgrade->answered = true;
        upgrade->answer = message.as_MESSAGE_UPGRADE_CHECKED;
    }
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
}

static void on_probe_event(uint32_t, void *data)
{
    struct upgrade *upgrade = data;
    probe_read(upgrade);
    env_linux_unwatch(take_ptr(upgrade->probe_watch)); /* one word, or its end */
}

static void on_probe_late(struct env_timer *, void *data)
{
    const struct upgrade *upgrade = data;
    env_process_kill(env_of(upgrade), upgrade->probe_id, SIGKILL);
}

static void on_probe_exited(uint64_t, const struct env_linux_exit *, void *data)
{
    struct upgrade *upgrade = data;
    const struct message_upgrade_checked *answer = &upgrade->answer;
    struct err err = {};
    if (!upgrade->answered)
        probe_read(upgrade);
    env_linux_unwatch(take_ptr(upgrade->probe_watch));
    channel_free(take_ptr(upgrade->probe));
    env_timer_stop(env_of(upgrade), &upgrade->timer);
    int r = 0;
    if (!upgrade->answered)
        r = err_set(&err, ERR_BAD_INPUT,
                    "'%s' is no Perigee that can follow this one: it did not say that it reads the "
                    "state",
                    ERR_TEXT(upgrade->path));
    else if (answer->code != 0)
        r = err_set(&err, ERR_PRECONDITION, "'%s' (version %s) cannot follow this one: %s",
                    ERR_TEXT(upgrade->path), ERR_TEXT(answer->version), ERR_TEXT(answer->text));
    if (r < 0) {
        try_failed(upgrade, &err);
        return;
    }
    upgrade->calm_tries = 0;
    env_timer_start(env_of(upgrade), &upgrade->timer, 0, on_calm_due, upgrade);
}

static int probe_start(struct upgrade *upgrade, struct err *err)
{
    struct message_empty check = MESSAGE_INIT(MESSAGE_UPGRADE_CHECK);
    const char *arguments[] = { "perigee", "role", "successor", NULL };
    char program[64];
    int fds[2] = { -1, -1 }, state_fd = -1;
    pid_t pid;
    int r = upgrade->host->snapshot(&state_fd, upgrade->data, err);
    auto_close int state = state_fd;
    if (r == 0)
        r = channel_pair(fds, err);
    if (r < 0)
        return r;
    auto_close int theirs = fds[1];
    struct spawn_detail detail = { theirs, upgrade->lifeline_fd, 0 };
    struct env_spawn spawn = { program, arguments, (const char *const *)environ, &detail };
    (void)snprintf(program, sizeof program, "/proc/%d/fd/%d", (int)getpid(), upgrade->binary_fd);
    (void)fcntl(theirs, F_SETFL, 0); /* it has nothing else to do than to wait */
    upgrade->probe = channel_new(fds[0]);
    upgrade->answered = false;
    r = channel_send(upgrade->probe, &check, sizeof check, &state, 1, err);
    if (r == 0)
        r = env_linux_spawn(upgrade->world, &spawn, on_probe_exited, upgrade, &upgrade->probe_id,
                            &pid, err);
    if (r < 0) {
        channel_free(take_ptr(upgrade->probe));
        const char *why = strrchr(err->message, ':');
        char text[128];
        (void)snprintf(text, sizeof text, "%.120s", why ? why + 2 : err->message);
        return err_set(err, ERR_BAD_INPUT, "'%s' cannot be run: %s", ERR_TEXT(upgrade->path), text);
    }
    upgrade->probe_watch =
        env_linux_watch(upgrade->world, fds[0], EPOLLIN, on_probe_event, upgrade);
    env_timer_start(env_of(upgrade), &upgrade->timer, ANSWER_WITHIN_NS, on_probe_late, upgrade);
    return 0;
}

/* Where the running program was started from, whatever stands there now. */
static int own_path(char path[static MESSAGE_PATH_BYTES], struct err *err)
{
    static const char deleted[] = " (deleted)";
    ssize_t length = readlink("/proc/self/exe", path, MESSAGE_PATH_BYTES - 1);
    if (length < 0)
        return err_set(err, ERR_INTERNAL, "/proc/self/exe: %s", strerror(errno));
    path[length] = '\0';
    if ((size_t)length > sizeof deleted && strcmp(path + length + 1 - sizeof deleted, deleted) == 0)
        path[(size_t)length + 1 - sizeof deleted] = '\0';
    return 0;
}

static int try_begin(struct upgrade *upgrade, const char *path, struct err *err)
{
    struct stat st;
    int r = 0;
    if (*path)
        (void)snprintf(upgrade->path, sizeof upgrade->path, "%s", path);
    else
        r = own_path(upgrade->path, err);
    if (r < 0)
        return r;
    if (upgrade->path[0] != '/')
        return err_set(err, ERR_BAD_INPUT, "'%s' is no absolute path", ERR_TEXT(upgrade->path));
    upgrade->binary_fd = open(upgrade->path, O_PATH | O_CLOEXEC);
    if (upgrade->binary_fd < 0 || fstat(upgrade->binary_fd, &st) < 0)
        return err_set(err, ERR_NOT_FOUND, "'%s' cannot be opened: %s", ERR_TEXT(upgrade->path),
                       strerror(errno));
    if (!S_ISREG(st.st_mode) || access(upgrade->path, X_OK) < 0)
        return err_set(err, ERR_BAD_INPUT, "'%s' is no program that this user may run",
                       ERR_TEXT(upgrade->path));
    return probe_start(upgrade, err);
}

static const char *busy_why(const struct upgrade *upgrade)
{
    return upgrade->trying || upgrade->asker ? "an upgrade is under way already"
                                             : upgrade->host->busy(upgrade->data);
}

static void begin(struct upgrade *upgrade, const char *path)
{
    struct err err = {};
    upgrade->trying = true;
    upgrade->binary_fd = -1;
    if (try_begin(upgrade, path, &err) < 0)
        try_failed(upgrade, &err);
    else
        log_info("supervisor", "an upgrade begins", LOG_S("program", upgrade->path));
}

void upgrade_begin(struct upgrade *upgrade)
{
    const char *busy = busy_why(upgrade);
    if (busy)
        log_warn("supervisor", "no upgrade now, ignoring", LOG_S("why", busy));
    else
        begin(upgrade, "");
}

/* ---- who asks -------------------------------------------------------------------------------- */

static void visitor_cut(struct visitor *visitor)
{
    struct upgrade *upgrade = visitor->upgrade;
    if (upgrade->asker == visitor)
        upgrade->asker = NULL;
    env_linux_unwatch(visitor->watch);
    channel_free(visitor->channel);
    list_remove(&visitor->link);
    upgrade->visitor_count--;
    free(visitor);
}

static void visitor_say(struct visitor *visitor, const struct message_upgrade_state *state)
{
    struct err err;
    int r = channel_send(visitor->channel, state, sizeof *state, NULL, 0, &err);
    if (r < 0 || state->state == UPGRADE_DONE || state->state == UPGRADE_FAILED)
        visitor_cut(visitor);
}

static void visitor_refuse(struct visitor *visitor, const char *why)
{
    struct message_upgrade_state no = MESSAGE_INIT(MESSAGE_UPGRADE_STATE);
    no.state = UPGRADE_FAILED;
    (void)snprintf(no.text, sizeof no.text, "%s", why);
    (void)snprintf(no.version, sizeof no.version, "%s", PERIGEE_VERSION);
    visitor_say(visitor, &no);
}

static void visitor_asks(struct visitor *visitor, const struct message_upgrade *message)
{
    struct upgrade *upgrade = visitor->upgrade;
    const char *busy = busy_why(upgrade);
    char text[128];
    if (visitor->stranger) {
        (void)snprintf(text, sizeof text,
                       "only user %u, who runs this Perigee, and root may ask for an upgrade",
                       (unsigned)geteuid());
        visitor_refuse(visitor, text);
        return;
    }
    if (busy) {
        visitor_refuse(visitor, busy);
        return;
    }
    upgrade->asker = visitor;
    begin(upgrade, message->binary);
}

static void on_visitor(uint32_t, void *data)
{
    struct visitor *visitor = data;
    union message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err;
    int r =
        channel_receive(visitor->channel, &message, sizeof message, &size, fds, &fd_count, &err);
    for (size_t i = 0; r > 0 && i < fd_count; i++)
        fd_close(&fds[i]);
    if (r == 0)
        return;
    if (r < 0 || message_check(&message, size, 0, &err) < 0 || message.head.type != MESSAGE_UPGRADE)
        visitor_cut(visitor); /* what it has begun goes on */
    else
        visitor_asks(visitor, &message.as_MESSAGE_UPGRADE);
}

static struct visitor *visitor_new(struct upgrade *upgrade, int fd)
{
    struct visitor *visitor = mem_zalloc(sizeof *visitor);
    visitor->upgrade = upgrade;
    visitor->channel = channel_new(fd);
    visitor->watch = env_linux_watch(upgrade->world, fd, EPOLLIN, on_visitor, visitor);
    list_append(&upgrade->visitors, &visitor->link);
    upgrade->visitor_count++;
    return visitor;
}

/* The socket's mode says the same, and the home's; but those are others' to change. */
static bool stranger(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
           (peer.uid != geteuid() && peer.uid != 0);
}

static void on_socket(uint32_t, void *data)
{
    struct upgrade *upgrade = data;
    int fd = accept4(upgrade->socket_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (upgrade->visitor_count == VISITORS_MAX) /* the one that is there longest has not asked */
        visitor_cut(LIST_FIRST(&upgrade->visitors, struct visitor, link) == upgrade->asker
                        ? LIST_OWNER(upgrade->visitors.previous, struct visitor, link)
                        : LIST_FIRST(&upgrade->visitors, struct visitor, link));
    visitor_new(upgrade, fd)->stranger = stranger(fd);
}

void upgrade_tell(struct upgrade *upgrade, const struct message_upgrade_state *state)
{
    if (upgrade->asker)
        visitor_say(upgrade->asker, state);
}

/* ---- life ----------------------------------------------------------------------------------- */

static int socket_open(const char *home, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", home, UPGRADE_SOCKET);
    auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || length >= (int)sizeof address.sun_path)
        return err_set(err, ERR_INTERNAL, "making '%s/%s': %s", home, UPGRADE_SOCKET,
                       strerror(fd < 0 ? errno : ENAMETOOLONG));
    (void)unlink(address.sun_path); /* of one that was killed: the home is ours alone */
    mode_t mask = umask(0177);
    int r = bind(fd, (const struct sockaddr *)&address, sizeof address);
    (void)umask(mask);
    if (r < 0 || listen(fd, 8) < 0)
        return err_set(err, ERR_INTERNAL, "listening on '%s': %s", address.sun_path,
                       strerror(errno));
    *ret_fd = take_fd(fd);
    return 0;
}

int upgrade_new(struct env_linux *world, const char *home, int lifeline_fd, int socket_fd,
                int client_fd, const struct upgrade_host *host, void *data, struct upgrade **ret,
                struct err *err)
{
    if (socket_fd < 0) {
        int r = socket_open(home, &socket_fd, err);
        if (r < 0)
            return r;
    }
    struct upgrade *upgrade = mem_zalloc(sizeof *upgrade);
    upgrade->world = world;
    upgrade->host = host;
    upgrade->data = data;
    upgrade->lifeline_fd = lifeline_fd;
    upgrade->socket_fd = socket_fd;
    upgrade->binary_fd = -1;
    list_init(&upgrade->visitors);
    upgrade->socket_watch = env_linux_watch(world, socket_fd, EPOLLIN, on_socket, upgrade);
    if (client_fd >= 0)
        upgrade->asker = visitor_new(upgrade, client_fd);
    *ret = upgrade;
    return 0;
}

void upgrade_free(struct upgrade *upgrade, const char *home)
{
    char path[MESSAGE_PATH_BYTES + 32];
    if (!upgrade)
        return;
    (void)snprintf(path, sizeof path, "%s/%s", home, UPGRADE_SOCKET);
    (void)unlink(path);
    try_end(upgrade);
    while (!list_empty(&upgrade->visitors))
        visitor_cut(LIST_FIRST(&upgrade->visitors, struct visitor, link));
    env_linux_unwatch(upgrade->socket_watch);
    env_linux_unwatch(upgrade->probe_watch);
    channel_free(upgrade->probe);
    fd_close(&upgrade->socket_fd);
    free(upgrade);
}

int upgrade_socket_fd(const struct upgrade *upgrade)
{
    return upgrade->socket_fd;
}

int upgrade_client_fd(const struct upgrade *upgrade)
{
    return upgrade->asker ? channel_fd(upgrade->asker->channel) : -1;
}
