/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/entrance.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

enum {
    DIALS_MAX = 4096,
    MESSAGES_A_TURN = 64,
    AGAIN_MS_MIN = 50, /* between two words that there is no channel */
    AGAIN_MS_MAX = 5000,
};

struct entrance {
    struct http_dialer dialer; /* the first: who has it has all */
    struct loop *loop;
    struct channel *channel; /* NULL: not there */
    struct watch *watch;
    struct list dials;   /* waiting for a socket, oldest first */
    struct list others;  /* connecting, or about to be told of their end */
    unsigned dial_count; /* of `dials` */
    uint64_t request;    /* the last one's number */
    bool told;           /* all that were there are shown */
    struct timer *lost;  /* tells it; NULL: nobody is told */
    unsigned losses;     /* told since the last channel that lasted */
    int64_t opened_ms;   /* when the last one came */
    struct map shown;    /* replica -> its pidfd + 1, borrowed */
    struct map gone;     /* until told: forgotten ones */
    struct entrance_events events;
    void *data;
};

typedef void (*dialed_cb)(struct stream *stream, const struct err *err, void *data);

struct dial {
    struct entrance *entrance;
    struct list link;
    uint64_t request, replica;
    struct address address;
    struct stream_connect *connect;
    struct loop_task task; /* tells the end */
    struct err err;
    dialed_cb on_connected;
    void *data;
};

/* ---- ends ------------------------------------------------------------------------------------ */

static void dial_end(struct dial *dial, struct stream *stream, const struct err *err)
{
    dialed_cb on_connected = dial->on_connected;
    void *data = dial->data;
    struct err kept = err ? *err : (struct err){};

    loop_task_cancel(&dial->task);
    list_remove(&dial->link);
    free(dial);
    on_connected(stream, err ? &kept : NULL, data);
}

static void on_end_task(void *data)
{
    struct dial *dial = data;

    dial_end(dial, NULL, &dial->err);
}

/* Not now: nothing comes from inside the call that it ends. */
static void dial_end_soon(struct dial *dial)
{
    list_remove(&dial->link);
    list_append(&dial->entrance->others, &dial->link);
    loop_defer(dial->entrance->loop, &dial->task);
}

static void dial_unlist(struct dial *dial)
{
    list_remove(&dial->link);
    list_append(&dial->entrance->others, &dial->link);
    dial->entrance->dial_count--;
}

static void on_connected(struct stream *stream, const struct err *err, void *data)
{
    struct dial *dial = data;

    dial->connect = NULL;
    dial_end(dial, stream, err);
}

/* ---- the channel ----------------------------------------------------------------------------- */

static void channel_interest(struct entrance *entrance)
{
    bool waits = channel_wants_write(entrance->channel);

    watch_set(entrance->watch, WATCH_READ | (waits ? WATCH_WRITE : 0));
}

static void channel_cut(struct entrance *entrance)
{
    watch_free(take_ptr(entrance->watch));
    channel_free(take_ptr(entrance->channel));
}

/* The first time at once. */
static int64_t again_ms(const struct entrance *entrance)
{
    int64_t ms = entrance->losses ? AGAIN_MS_MIN : 0;

    for (unsigned i = 1; i < entrance->losses && ms < AGAIN_MS_MAX; i++)
        ms *= 2;
    return ms < AGAIN_MS_MAX ? ms : AGAIN_MS_MAX;
}

/* Not where the next channel has come meanwhile: who asks for one then replaces that. */
static void on_lost_timer(void *data)
{
    struct entrance *entrance = data;

    if (entrance->channel)
        return;
    entrance->losses += entrance->losses < UINT_MAX;
    timer_start(entrance->lost, again_ms(entrance));
    entrance->events.on_lost(entrance->data);
}

/* The next channel is the helper's that takes its place: what waits is asked there. */
static void channel_lost(struct entrance *entrance, const char *phrase, const struct err *err)
{
    if (err->code != ERR_CANCELED)
        log_warn("netns", phrase, LOG_S("why", err->message));
    channel_cut(entrance);
    if (loop_now_ms(entrance->loop) - entrance->opened_ms >= AGAIN_MS_MAX)
        entrance->losses = 0;
    if (entrance->lost)
        timer_start(entrance->lost, again_ms(entrance));
}

static bool shows(const struct entrance *entrance)
{
    return entrance->events.on_shown != NULL;
}

/* 0: also where there is no channel (any more): the next one hears it. Else it was not said, and
 * the channel is as good as before. */
static int say(struct entrance *entrance, struct netns_message *message, int fd, struct err *err)
{
    if (!entrance->channel)
        return 0;
    message->magic = NETNS_MAGIC;
    int r = channel_send(entrance->channel, message, sizeof *message, &fd, fd >= 0, err);
    if (r == ERR_CANCELED) {
        channel_lost(entrance, "who enters networks does not listen, going on without", err);
        return 0;
    }
    channel_interest(entrance);
    return r;
}

static void say_want(struct dial *dial)
{
    struct netns_message message = {
        .type = NETNS_WANT, .replica = dial->replica, .request = dial->request, .count = 1
    };
    struct err err;

    if (say(dial->entrance, &message, -1, &err) == 0)
        return;
    dial->err = err;
    dial_unlist(dial);
    loop_defer(dial->entrance->loop, &dial->task);
}

static void say_or_warn(struct entrance *entrance, struct netns_message *message, int fd)
{
    struct err err;

    if (say(entrance, message, fd, &err) < 0)
        log_warn("netns", "who enters networks was not told, going on",
                 LOG_U("replica", message->replica), LOG_S("why", err.message));
}

static void say_show(struct entrance *entrance, uint64_t replica, int pidfd)
{
    struct netns_message message = { .type = NETNS_SHOW, .replica = replica };

    say_or_warn(entrance, &message, pidfd);
}

static void say_forget(struct entrance *entrance, uint64_t replica)
{
    struct netns_message message = { .type = NETNS_FORGET, .replica = replica };

    say_or_warn(entrance, &message, -1);
}

/* ---- what the helper says -------------------------------------------------------------------- */

/* One that nobody waits for any more is closed by the caller. */
static void on_sockets(struct entrance *entrance, const struct netns_message *message, int *fds,
                       size_t fd_count)
{
    struct dial *dial;

    LIST_EACH (dial, &entrance->dials, struct dial, link) {
        if (dial->request != message->request)
            continue;
        dial_unlist(dial);
        if (fd_count == 0) {
            entrance->dialer.missed += message->code != ERR_NOT_FOUND;
            (void)err_set(&dial->err, ERR_OVERLOADED, "its network cannot be entered: %s",
                          message->text);
            loop_defer(entrance->loop, &dial->task);
            return;
        }
        dial->connect = stream_connect_over(entrance->loop, take_fd(fds[0]), &dial->address,
                                            on_connected, dial);
        return;
    }
}

static void on_shown(struct entrance *entrance, const struct netns_message *message)
{
    struct err err;

    if (!map_get_u64(&entrance->shown, message->replica))
        return; /* it was forgotten meanwhile */
    if (message->code < 0)
        (void)err_set(&err, (enum err_code)message->code, "%s", message->text);
    entrance->events.on_shown(message->replica, message->code < 0 ? &err : NULL, entrance->data);
}

static bool right(const struct entrance *entrance, const struct netns_message *message,
                  size_t fd_count)
{
    bool sockets = message->type == NETNS_SOCKET && (message->code < 0) == (fd_count == 0);

    return sockets || (message->type == NETNS_SHOWN && shows(entrance));
}

/* One message; false: there is none now, or no channel any more. */
static bool receive(struct entrance *entrance)
{
    struct netns_message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count = 0;
    struct err err;

    int r =
        channel_receive(entrance->channel, &message, sizeof message, &size, fds, &fd_count, &err);
    if (r == 0)
        return false;
    if (r == ERR_OVERLOADED && message.type == NETNS_SOCKET &&
        netns_message_check(&message, size, 1, &err) == 0) {
        message.code = ERR_INTERNAL;
        snprintf(message.text, sizeof message.text, "no descriptor is left for a socket");
        on_sockets(entrance, &message, fds, 0);
        return true;
    }
    if (r > 0)
        r = netns_message_check(&message, size, fd_count, &err);
    if (r == 0 && !right(entrance, &message, fd_count))
        r = err_set(&err, ERR_BAD_INPUT, "an answer that cannot be");
    if (r == 0 && message.type == NETNS_SOCKET)
        on_sockets(entrance, &message, fds, fd_count);
    else if (r == 0)
        on_shown(entrance, &message);
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    if (r == 0)
        return entrance->channel != NULL;
    channel_lost(entrance, "who enters networks is not understood, going on without", &err);
    return false;
}

static void on_event(struct watch *watch, unsigned events, void *data)
{
    struct entrance *entrance = data;
    struct err err;
    (void)watch;

    if (events & WATCH_WRITE && channel_flush(entrance->channel, &err) < 0) {
        channel_lost(entrance, "who enters networks does not listen, going on without", &err);
        return;
    }
    for (int i = 0; i < MESSAGES_A_TURN && receive(entrance); i++)
        ;
    if (entrance->channel)
        channel_interest(entrance);
}

static void say_told(struct entrance *entrance)
{
    struct netns_message told = { .type = NETNS_TOLD };

    if (entrance->told)
        say_or_warn(entrance, &told, -1);
}

void entrance_open(struct entrance *entrance, int fd)
{
    struct dial *dial;

    channel_cut(entrance);
    entrance->opened_ms = loop_now_ms(entrance->loop);
    entrance->channel = channel_new(fd);
    entrance->watch = watch_new(entrance->loop, fd, WATCH_READ, on_event, entrance);
    MAP_EACH (entry, &entrance->shown)
        say_show(entrance, entry->key.size, (int)(intptr_t)entry->value - 1);
    MAP_EACH (entry, &entrance->gone)
        say_forget(entrance, entry->key.size);
    say_told(entrance);
    LIST_EACH (dial, &entrance->dials, struct dial, link)
        say_want(dial);
}

/* ---- dialing --------------------------------------------------------------------------------- */

static void *dial_begin(const struct http_dialer *self, struct loop *loop, uint64_t scope,
                        const struct address *address, dialed_cb on_connected_cb, void *data)
{
    struct entrance *entrance = (struct entrance *)(uintptr_t)self;
    struct dial *dial = mem_zalloc(sizeof *dial);

    dial->entrance = entrance;
    dial->request = ++entrance->request;
    dial->replica = scope;
    dial->address = *address;
    dial->on_connected = on_connected_cb;
    dial->data = data;
    loop_task_init(&dial->task, on_end_task, dial);
    if (entrance->dial_count == DIALS_MAX) {
        entrance->dialer.missed++;
        (void)err_set(&dial->err, ERR_OVERLOADED, "%d connections wait to be made already",
                      DIALS_MAX);
        list_append(&entrance->others, &dial->link);
        loop_defer(loop, &dial->task);
        return dial;
    }
    list_append(&entrance->dials, &dial->link);
    entrance->dial_count++;
    say_want(dial);
    return dial;
}

static bool dial_waits(void *dialing)
{
    const struct dial *dial = dialing;

    return !dial->connect && dial->err.code == 0;
}

static void dial_cancel(void *dialing)
{
    struct dial *dial = dialing;

    if (dial->connect) {
        stream_connect_cancel(dial->connect);
        return;
    }
    if (dial->err.code == 0) { /* else its end is under way */
        dial->entrance->dial_count--;
        dial->entrance->dialer.missed++;
    }
    (void)err_set(&dial->err, ERR_CANCELED, "the connection was taken back");
    dial_end_soon(dial);
}

/* ---- showing --------------------------------------------------------------------------------- */

void entrance_told(struct entrance *entrance)
{
    if (entrance->told)
        return;
    entrance->told = true;
    map_deinit(&entrance->gone);
    say_told(entrance);
}

void entrance_show(struct entrance *entrance, uint64_t replica, int pidfd)
{
    (void)map_remove_u64(&entrance->gone, replica);
    (void)map_put_u64(&entrance->shown, replica, (void *)(intptr_t)(pidfd + 1));
    say_show(entrance, replica, pidfd);
}

void entrance_forget(struct entrance *entrance, uint64_t replica)
{
    bool was_shown = map_remove_u64(&entrance->shown, replica);
    bool waited_for = !entrance->told && !map_put_u64(&entrance->gone, replica, entrance);

    if (was_shown || waited_for)
        say_forget(entrance, replica);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct entrance *entrance_new(struct loop *loop, const struct entrance_events *events, void *data)
{
    struct entrance *entrance = mem_zalloc(sizeof *entrance);

    entrance->dialer = (struct http_dialer){ dial_begin, dial_cancel, dial_waits };
    entrance->loop = loop;
    if (events)
        entrance->events = *events;
    entrance->data = data;
    if (entrance->events.on_lost)
        entrance->lost = timer_new(loop, on_lost_timer, entrance);
    list_init(&entrance->dials);
    list_init(&entrance->others);
    return entrance;
}

const struct http_dialer *entrance_dialer(struct entrance *entrance)
{
    return &entrance->dialer;
}

void entrance_free(struct entrance *entrance)
{
    struct dial *dial;
    struct err err;

    if (!entrance)
        return;
    timer_free(entrance->lost);
    channel_cut(entrance);
    (void)err_set(&err, ERR_CANCELED, "the connection was taken back");
    while ((dial = LIST_FIRST(&entrance->dials, struct dial, link)))
        dial_end(dial, NULL, &err);
    while ((dial = LIST_FIRST(&entrance->others, struct dial, link))) {
        list_remove(&dial->link);
        if (dial->connect) /* and on_connected() needs nothing of this one */
            stream_connect_cancel(dial->connect);
        else
            dial_end(dial, NULL, &err);
    }
    map_deinit(&entrance->shown);
    map_deinit(&entrance->gone);
    free(entrance);
}
