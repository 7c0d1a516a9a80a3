/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The role that enters containers' networks (sys/netns.h): the supervisor hands it the channels, it
 * answers what comes over them, and can do nothing else (netns_confine). One thread, no loop: it
 * may not have another while it is away from home.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "bin/roles.h"
#include "contract/messages.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

enum { OTHERS = 2 }; /* the supervisor, the lifeline */

struct netns_role {
    struct netns_helper *helper;
    struct channel *supervisor;
    bool done;
};

static void on_message(struct netns_role *role, const union message *message, int *fds)
{
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    struct err err;

    switch (message->head.type) {
    case MESSAGE_NETNS:
        if (netns_helper_add(role->helper, take_fd(fds[0]), message->as_MESSAGE_NETNS.shows, &err) <
            0)
            log_warn("netns", "one that asks is refused", LOG_S("why", err.message));
        break;
    case MESSAGE_GO:
        if (channel_send(role->supervisor, &ready, sizeof ready, NULL, 0, &err) < 0)
            role->done = true;
        break;
    case MESSAGE_DRAIN:
        role->done = true;
        break;
    default:
        break; /* START, and what is nothing to it */
    }
}

static void supervisor_read(struct netns_role *role)
{
    static union message message; /* one thread; some KiB */
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count = 0;
    struct err err;
    int r;

    while (!role->done && (r = channel_receive(role->supervisor, &message, sizeof message, &size,
                                               fds, &fd_count, &err)) != 0) {
        /* One that was cut, or had no room for its descriptors: the next one is whole. */
        if (r < 0 && r != ERR_BAD_INPUT && r != ERR_OVERLOADED) {
            role->done = true;
            return;
        }
        if (r < 0 || message_check(&message, size, fd_count, &err) < 0)
            log_warn("netns", "message dropped", LOG_S("why", err.message));
        else
            on_message(role, &message, fds);
        for (size_t i = 0; r > 0 && i < fd_count; i++)
            fd_close(&fds[i]);
    }
}

static void serve(struct netns_role *role, int lifeline_fd)
{
    struct pollfd polls[NETNS_CHANNELS_MAX + OTHERS];

    while (!role->done) {
        size_t count = netns_helper_polls(role->helper, polls);
        polls[count] = (struct pollfd){ channel_fd(role->supervisor), POLLIN, 0 };
        polls[count + 1] = (struct pollfd){ lifeline_fd, POLLIN, 0 };
        if (poll(polls, count + OTHERS, -1) < 0 && errno != EINTR)
            return;
        if (polls[count + 1].revents)
            return;
        netns_helper_turn(role->helper, polls, count);
        if (polls[count].revents)
            supervisor_read(role);
    }
}

int netns_main(int channel_fd_taken, int lifeline_fd)
{
    struct netns_role role = { .supervisor = channel_new(channel_fd_taken) };
    struct err err;

    (void)signal(SIGINT, SIG_IGN); /* it is the supervisor that ends us */
    int r = netns_helper_new(true, &role.helper, &err);
    if (r == 0)
        r = netns_confine(&err);
    if (r < 0) {
        log_error("netns", "cannot serve", LOG_S("why", err.message));
        return 1;
    }
    serve(&role, lifeline_fd);
    netns_helper_free(role.helper);
    channel_free(role.supervisor);
    _exit(0); /* what exit() does in a sanitized build is not allowed any more */
}
