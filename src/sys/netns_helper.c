/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One that asks is answered before it is heard again, so that who does not read its answers holds
 * up itself alone, and at most one answer of each waits with its descriptors. What is asked of a
 * replica that may be shown yet is put aside, so that others are not held up by it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "base/map.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

enum { MESSAGES_A_TURN = 64, ASIDE_MAX = 8192, GONE_MAX = 8192 };

struct aside { /* a WANT for a replica that may be shown yet */
    struct channel *from;
    uint64_t replica, request;
};

struct netns_helper {
    struct channel *channels[NETNS_CHANNELS_MAX]; /* NULL: free */
    struct channel *shows;                        /* the one of them that may */
    struct map replicas;                          /* id -> its pidfd + 1 */
    int home_fd;
    uint64_t home_cookie;
    bool waits;                    /* for the first TOLD */
    struct map gone;               /* while it does: those that will not be shown */
    struct aside aside[ASIDE_MAX]; /* oldest first */
    size_t aside_count;
};

/* ---- replicas -------------------------------------------------------------------------------- */

static void forget(struct netns_helper *helper, uint64_t replica)
{
    int fd = (int)(intptr_t)map_remove_u64(&helper->replicas, replica) - 1;
    fd_close(&fd);
}

/* Nobody need wait for it, if not forever: it may be shown again. */
static void gone(struct netns_helper *helper, uint64_t replica)
{
    forget(helper, replica);
    if (helper->waits && helper->gone.count < GONE_MAX)
        (void)map_put_u64(&helper->gone, replica, helper);
}

/* Those whose process has ended: its pidfd is readable. */
static void sweep(struct netns_helper *helper)
{
    MAP_EACH (entry, &helper->replicas) {
        struct pollfd ended = { (int)(intptr_t)entry->value - 1, POLLIN, 0 };
        if (poll(&ended, 1, 0) == 1)
            gone(helper, entry->key.size);
    }
}

/* The kernel's name of a socket's network namespace. 0: it says none (before Linux 5.14). */
static uint64_t cookie_of(int socket_fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;

    if (getsockopt(socket_fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0)
        return 0;
    return cookie;
}

static uint64_t cookie_home(void)
{
    auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd < 0 ? 0 : cookie_of(fd);
}

static int of_home(const struct netns_helper *helper, int socket_fd, struct err *err)
{
    uint64_t cookie = cookie_of(socket_fd);

    if (cookie && cookie == helper->home_cookie)
        return err_set(err, ERR_PRECONDITION, "it has the machine's own network");
    return 0;
}

/* Is it one that can be entered? What listens on this machine's own loopback is no container. */
static int show(struct netns_helper *helper, uint64_t replica, int *fd, struct err *err)
{
    int socket_fd = -1;

    gone(helper, replica); /* until it is kept below */
    if (helper->replicas.count == NETNS_REPLICAS_MAX)
        sweep(helper);
    if (helper->replicas.count == NETNS_REPLICAS_MAX)
        return err_set(err, ERR_OVERLOADED, "more than %d replicas cannot be reached",
                       NETNS_REPLICAS_MAX);
    int r = netns_socket(helper->home_fd, *fd, &socket_fd, err);
    if (r == 0)
        r = of_home(helper, socket_fd, err);
    fd_close(&socket_fd);
    if (r < 0 && r != ERR_INTERNAL) /* which passes: the next that asks may get in */
        return r;
    (void)map_remove_u64(&helper->gone, replica);
    (void)map_put_u64(&helper->replicas, replica, (void *)(intptr_t)(take_fd(*fd) + 1));
    return r;
}

/* ---- answers --------------------------------------------------------------------------------- */

static int say(struct channel *to, struct netns_message *message, int fd, const struct err *why)
{
    struct err err;

    if (message->code < 0)
        (void)snprintf(message->text, sizeof message->text, "%.199s", why->message);
    return channel_send(to, message, sizeof *message, &fd, fd >= 0, &err);
}

static int on_show(struct netns_helper *helper, struct channel *from,
                   const struct netns_message *asked, int *fd)
{
    struct netns_message message = { NETNS_MAGIC, NETNS_SHOWN, asked->replica };
    struct err err;

    message.code = show(helper, asked->replica, fd, &err);
    return say(from, &message, -1, &err);
}

static int want_refuse(struct channel *to, const struct netns_message *asked, const struct err *why)
{
    struct netns_message message = { NETNS_MAGIC, NETNS_SOCKET, asked->replica, asked->request };

    message.code = why->code;
    return say(to, &message, -1, why);
}

static int want_answer(struct netns_helper *helper, struct channel *from,
                       const struct netns_message *asked)
{
    struct netns_message message = { NETNS_MAGIC, NETNS_SOCKET, asked->replica, asked->request };
    intptr_t known = (intptr_t)map_get_u64(&helper->replicas, asked->replica);
    auto_close int fd = -1;
    struct err err;

    if (known == 0)
        message.code = err_set(&err, ERR_NOT_FOUND, "there is no such replica");
    else
        message.code = netns_socket(helper->home_fd, (int)known - 1, &fd, &err);
    if (message.code == 0) /* where it could not be looked at */
        message.code = of_home(helper, fd, &err);
    if (message.code < 0)
        fd_close(&fd);
    if (message.code == ERR_NOT_FOUND && known)
        gone(helper, asked->replica);
    message.count = fd >= 0;
    return say(from, &message, fd, &err);
}

/* Is there nothing yet that it could be answered by? */
static bool undecided(const struct netns_helper *helper, uint64_t replica)
{
    return helper->waits && !map_get_u64(&helper->replicas, replica) &&
           !map_get_u64(&helper->gone, replica);
}

static int on_want(struct netns_helper *helper, struct channel *from,
                   const struct netns_message *asked)
{
    struct err err;

    if (!undecided(helper, asked->replica))
        return want_answer(helper, from, asked);
    if (helper->aside_count == ASIDE_MAX) {
        (void)err_set(&err, ERR_OVERLOADED, "%d wait already until it is said which there are",
                      ASIDE_MAX);
        return want_refuse(from, asked, &err);
    }
    helper->aside[helper->aside_count++] = (struct aside){ from, asked->replica, asked->request };
    return 0;
}

static void aside_forget(struct netns_helper *helper, const struct channel *from)
{
    size_t kept = 0;

    for (size_t i = 0; i < helper->aside_count; i++)
        if (helper->aside[i].from != from)
            helper->aside[kept++] = helper->aside[i];
    helper->aside_count = kept;
}

/* Who shows hears that it was in vain, and all else goes on. */
static int on_show_lost(struct netns_helper *helper, struct channel *from,
                        const struct netns_message *asked, struct err *err)
{
    struct netns_message message = { NETNS_MAGIC, NETNS_SHOWN, asked->replica };

    if (from != helper->shows || asked->type != NETNS_SHOW)
        return err->code;
    forget(helper, asked->replica);
    message.code = err_set(err, ERR_INTERNAL, "no descriptor is left to enter its network by");
    return say(from, &message, -1, err);
}

static int on_message(struct netns_helper *helper, struct channel *from,
                      const struct netns_message *message, int *fds)
{
    bool shows = from == helper->shows;
    struct err err;

    if (message->type == NETNS_WANT)
        return on_want(helper, from, message);
    if (shows && message->type == NETNS_SHOW)
        return on_show(helper, from, message, &fds[0]);
    if (shows && message->type == NETNS_FORGET) {
        gone(helper, message->replica);
    } else if (shows && message->type == NETNS_TOLD) {
        helper->waits = false;
        map_deinit(&helper->gone);
    } else {
        return err_set(&err, ERR_FORBIDDEN, "it may not say that");
    }
    return 0;
}

/* ---- channels -------------------------------------------------------------------------------- */

/* One message; 1: there may be more. */
static int receive(struct netns_helper *helper, struct channel *from)
{
    struct netns_message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count = 0;
    struct err err;

    int r = channel_receive(from, &message, sizeof message, &size, fds, &fd_count, &err);
    if (r == ERR_OVERLOADED && netns_message_check(&message, size, 1, &err) == 0) {
        (void)err_set(&err, ERR_OVERLOADED, "no room for a descriptor");
        r = on_show_lost(helper, from, &message, &err);
        return r < 0 ? r : 1;
    }
    if (r <= 0)
        return r;
    r = netns_message_check(&message, size, fd_count, &err);
    if (r == 0)
        r = on_message(helper, from, &message, fds);
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    return r < 0 ? r : 1;
}

static void cut(struct netns_helper *helper, struct channel *channel)
{
    size_t slot = 0;

    while (helper->channels[slot] != channel)
        slot++;
    helper->channels[slot] = NULL;
    if (channel == helper->shows)
        helper->shows = NULL;
    aside_forget(helper, channel);
    channel_free(channel);
}

/* One that does not read waits on. Returns one whose answer could not be sent, or NULL. */
static struct channel *aside_answer(struct netns_helper *helper)
{
    struct channel *failed = NULL;
    size_t kept = 0;

    for (size_t i = 0; i < helper->aside_count; i++) {
        const struct aside one = helper->aside[i];
        struct netns_message asked = { .replica = one.replica, .request = one.request };
        if (failed || undecided(helper, one.replica) || channel_wants_write(one.from))
            helper->aside[kept++] = one;
        else if (want_answer(helper, one.from, &asked) < 0)
            failed = one.from;
    }
    helper->aside_count = kept;
    return failed;
}

/* Who would wait for an answer that is lost is cut off, as at its turn: it asks anew. */
static void aside_look(struct netns_helper *helper)
{
    struct channel *failed;

    while ((failed = aside_answer(helper)))
        cut(helper, failed);
}

/* One that says what it may not, or does not read, is cut off. */
static void channel_turn(struct netns_helper *helper, struct channel *channel, short events)
{
    struct err err;
    int r = channel_flush(channel, &err);

    for (int i = 0; r >= 0 && i < MESSAGES_A_TURN && !channel_wants_write(channel); i++) {
        r = receive(helper, channel);
        if (r == 0)
            break;
    }
    /* Its end is behind what it has said, and that is not heard while it is held up. */
    if (r < 0 || (events & (POLLHUP | POLLERR) && channel_wants_write(channel)))
        cut(helper, channel);
}

int netns_helper_new(bool waits, struct netns_helper **ret_helper, struct err *err)
{
    struct netns_helper *helper = mem_zalloc(sizeof *helper);
    int r = netns_home(&helper->home_fd, err);

    helper->waits = waits;
    helper->home_cookie = cookie_home();
    if (helper->home_cookie == 0)
        log_warn("netns", "this kernel does not tell networks apart (Linux 5.14 and later do): a "
                          "container in the machine's own network would not be noticed");
    if (r < 0)
        free(helper);
    else
        *ret_helper = helper;
    return r;
}

void netns_helper_free(struct netns_helper *helper)
{
    if (!helper)
        return;
    for (size_t i = 0; i < NETNS_CHANNELS_MAX; i++)
        channel_free(helper->channels[i]);
    MAP_EACH (entry, &helper->replicas) {
        int fd = (int)(intptr_t)entry->value - 1;
        fd_close(&fd);
    }
    map_deinit(&helper->replicas);
    map_deinit(&helper->gone);
    fd_close(&helper->home_fd);
    free(helper);
}

int netns_helper_add(struct netns_helper *helper, int fd, bool shows, struct err *err)
{
    size_t slot = 0;

    if (shows && helper->shows)
        cut(helper, helper->shows);
    while (slot < NETNS_CHANNELS_MAX && helper->channels[slot])
        slot++;
    if (slot == NETNS_CHANNELS_MAX) {
        fd_close(&fd);
        return err_set(err, ERR_OVERLOADED, "more than %d ask for sockets", NETNS_CHANNELS_MAX);
    }
    helper->channels[slot] = channel_new(fd);
    if (shows)
        helper->shows = helper->channels[slot];
    return 0;
}

bool netns_helper_shown_to(const struct netns_helper *helper)
{
    return helper->shows != NULL;
}

size_t netns_helper_polls(struct netns_helper *helper,
                          struct pollfd ret_polls[static NETNS_CHANNELS_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < NETNS_CHANNELS_MAX; i++) {
        struct channel *channel = helper->channels[i];
        ret_polls[i] = (struct pollfd){ -1, 0, 0 };
        if (!channel)
            continue;
        ret_polls[i].fd = channel_fd(channel);
        ret_polls[i].events = channel_wants_write(channel) ? 0 : POLLIN;
        if (channel_wants_write(channel))
            ret_polls[i].events |= POLLOUT;
        count = i + 1;
    }
    return count;
}

void netns_helper_turn(struct netns_helper *helper, const struct pollfd *polls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (helper->channels[i] && polls[i].revents &&
            channel_fd(helper->channels[i]) == polls[i].fd)
            channel_turn(helper, helper->channels[i], polls[i].revents);
    aside_look(helper);
}

void netns_serve(const int *channel_fds, size_t count, int lifeline_fd)
{
    struct pollfd polls[NETNS_CHANNELS_MAX + 1];
    struct netns_helper *helper;
    struct err err;

    if (netns_helper_new(false, &helper, &err) < 0) {
        log_error("netns", "cannot serve", LOG_S("why", err.message));
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (netns_helper_add(helper, channel_fds[i], i == 0, &err) < 0)
            log_error("netns", "cannot serve all", LOG_S("why", err.message));
    while (helper->shows) {
        size_t used = netns_helper_polls(helper, polls);
        polls[used] = (struct pollfd){ lifeline_fd, POLLIN, 0 };
        if (poll(polls, used + 1, -1) < 0 && errno != EINTR)
            break;
        if (polls[used].revents)
            break;
        netns_helper_turn(helper, polls, used);
    }
    netns_helper_free(helper);
}
