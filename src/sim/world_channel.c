/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "sim/world_part.h"

enum { UNREAD_MAX = 1024 }; /* messages under way to one end; a peer with more does not read */

struct listener {
    struct list link;
    const char *peer; /* borrowed */
    world_accept_cb on_accept;
    void *data;
};

/* One end. The ends of a pair know each other until one of them is gone. */
struct env_channel {
    struct list link;
    struct world *world;
    struct env_channel *other; /* NULL: gone */
    const char *peer;          /* borrowed: the listener's */
    const struct env_channel_events *events;
    void *data;
    struct list letters; /* under way to this end, in order */
    unsigned letter_count;
    int64_t last_ns;         /* when the last of them comes: none overtakes it */
    struct env_timer accept; /* of the peer's end */
    world_accept_cb on_accept;
    void *accept_data;
    bool closing; /* its on_closed is under way */
};

/* A message, or with `last` the news that the channel has ended. */
struct letter {
    struct list link;
    struct env_channel *to;
    struct env_timer timer;
    bool last;
    int code; /* of the end */
    const char *why;
    char *bytes;
    size_t size;
};

static void letter_free(struct letter *letter)
{
    env_timers_stop(&letter->to->world->timers, &letter->timer);
    list_remove(&letter->link);
    letter->to->letter_count--;
    free(letter->bytes);
    free(letter);
}

static void letters_free(struct env_channel *channel)
{
    struct letter *letter;

    LIST_EACH (letter, &channel->letters, struct letter, link)
        letter_free(letter);
}

static void channel_free(struct env_channel *channel)
{
    letters_free(channel);
    env_timers_stop(&channel->world->timers, &channel->accept);
    if (channel->other)
        channel->other->other = NULL;
    list_remove(&channel->link);
    free(channel);
}

static void on_last_letter(struct letter *letter)
{
    struct env_channel *channel = letter->to;
    struct err err = {};

    (void)err_set(&err, letter->code, "%s", letter->why);
    if (channel->events)
        channel->events->on_closed(channel, &err, channel->data);
    channel_free(channel);
}

static void on_letter(struct env_timer *, void *data)
{
    struct letter *letter = data;
    struct env_channel *channel = letter->to;

    world_note(channel->world, letter->last ? "channel ended" : "message", letter->size);
    if (letter->last) {
        on_last_letter(letter);
        return;
    }
    struct slice message = { letter->bytes, letter->size };
    auto_free char *bytes = take_ptr(letter->bytes);
    letter_free(letter);
    if (channel->events)
        channel->events->on_message(channel, message, channel->data);
    (void)bytes; /* lived as long as the callback */
}

static struct letter *letter_send(struct env_channel *to, struct slice bytes, int64_t delay_ns)
{
    struct world *world = to->world;
    struct letter *letter = mem_zalloc(sizeof *letter);
    int64_t at_ns = world->now_ns + delay_ns;

    letter->to = to;
    letter->bytes = mem_string(bytes);
    letter->size = bytes.size;
    to->last_ns = at_ns > to->last_ns ? at_ns : to->last_ns;
    to->letter_count++;
    list_append(&to->letters, &letter->link);
    env_timer_start(&world->env, &letter->timer, to->last_ns - world->now_ns, on_letter, letter);
    return letter;
}

static void last_letter_send(struct env_channel *to, int code, const char *why, int64_t delay_ns)
{
    struct letter *letter = letter_send(to, SLICE(""), delay_ns);

    to->closing = true;
    letter->last = true;
    letter->code = code;
    letter->why = why;
}

static int64_t draw_latency(struct world *world)
{
    return world_draw(world, world->latency_ns_min, world->latency_ns_max);
}

/* Its on_closed comes, and nothing before it. */
static void end_at_once(struct env_channel *channel, int code, const char *why)
{
    letters_free(channel);
    channel->last_ns = channel->world->now_ns;
    last_letter_send(channel, code, why, 0);
}

static struct listener *listener_find(struct world *world, const char *peer)
{
    struct listener *listener;

    LIST_EACH (listener, &world->listeners, struct listener, link)
        if (strcmp(listener->peer, peer) == 0)
            return listener;
    return NULL;
}

static struct env_channel *channel_new(struct world *world, const char *peer)
{
    struct env_channel *channel = mem_zalloc(sizeof *channel);

    channel->world = world;
    channel->peer = peer;
    list_init(&channel->letters);
    list_append(&world->channels, &channel->link);
    return channel;
}

static void on_accept_due(struct env_timer *, void *data)
{
    struct env_channel *channel = data;

    channel->on_accept(channel->world, channel, channel->accept_data);
}

static int on_open(struct env *env, const char *peer, const struct env_channel_events *events,
                   void *data, struct env_channel **ret_channel, struct err *err)
{
    struct world *world = world_of(env);
    struct listener *listener = listener_find(world, peer);
    int r = world_may_fail(world, WORLD_CHANNEL_OPEN, "channel open", err);

    if (r < 0)
        return r;
    if (!listener || !listener->on_accept)
        return err_set(err, ERR_NOT_FOUND, "nobody listens at '%s'", ERR_TEXT(peer));
    struct env_channel *near_end = channel_new(world, listener->peer);
    struct env_channel *far_end = channel_new(world, listener->peer);
    near_end->other = far_end;
    near_end->events = events;
    near_end->data = data;
    far_end->other = near_end;
    far_end->on_accept = listener->on_accept;
    far_end->accept_data = listener->data;
    env_timer_start(env, &far_end->accept, 0, on_accept_due, far_end);
    *ret_channel = near_end;
    return 0;
}

static int on_send(struct env *env, struct env_channel *channel, struct slice message,
                   struct err *err)
{
    struct world *world = world_of(env);
    struct env_channel *other = channel->other;
    int r = world_may_fail(world, WORLD_CHANNEL_SEND, "channel send", err);

    if (r < 0)
        return r;
    if (channel->closing || !other || other->closing)
        return err_set(err, ERR_INTERNAL, "the channel is closed");
    if (other->letter_count >= UNREAD_MAX)
        return err_set(err, ERR_OVERLOADED, "the peer does not read");
    (void)letter_send(other, message, draw_latency(world));
    return 0;
}

static void on_close(struct env *env, struct env_channel *channel)
{
    struct env_channel *other = channel->other;

    if (channel->closing)
        return;
    end_at_once(channel, ERR_CANCELED, "closed here");
    if (other && !other->closing) /* what was sent before still comes */
        last_letter_send(other, ERR_CANCELED, "the other process is gone",
                         draw_latency(world_of(env)));
}

void world_listen(struct world *world, const char *peer, world_accept_cb on_accept, void *data)
{
    struct listener *listener = listener_find(world, peer);

    if (!listener) {
        listener = mem_zalloc(sizeof *listener);
        list_append(&world->listeners, &listener->link);
        listener->peer = peer;
    }
    listener->on_accept = on_accept;
    listener->data = data;
}

void world_channel_events(struct env_channel *channel, const struct env_channel_events *events,
                          void *data)
{
    channel->events = events;
    channel->data = data;
}

void world_latency(struct world *world, int64_t min_ns, int64_t max_ns)
{
    world->latency_ns_min = min_ns;
    world->latency_ns_max = max_ns;
}

void world_cut(struct world *world, const char *peer)
{
    struct env_channel *channel;

    LIST_EACH (channel, &world->channels, struct env_channel, link)
        if (strcmp(channel->peer, peer) == 0 && !channel->closing)
            end_at_once(channel, ERR_INTERNAL, "the connection broke");
}

void world_channels_init(struct world *world)
{
    world->env.channel_open = on_open;
    world->env.channel_send = on_send;
    world->env.channel_close = on_close;
    list_init(&world->listeners);
    list_init(&world->channels);
    world_latency(world, 10 * ENV_US, 100 * ENV_US);
}

void world_channels_deinit(struct world *world)
{
    struct env_channel *channel;
    struct listener *listener;

    while ((channel = LIST_FIRST(&world->channels, struct env_channel, link)))
        channel_free(channel);
    LIST_EACH (listener, &world->listeners, struct listener, link)
        free(listener);
}
