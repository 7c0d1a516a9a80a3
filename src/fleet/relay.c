/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners, links as they are now, and faults. */
#include "fleet/relay.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "fleet/relay_own.h"
#include "io/alarm.h"
#include "io/loop.h"
#include "sys/fd.h"

enum { BACKLOG = 1024 };

/* ---- timers --------------------------------------------------------------------------------- */

static void alarm_aim(struct relay *relay)
{
    int64_t next = env_timers_next_ns(&relay->timers);
    if (next == relay->alarm_ns)
        return;
    relay->alarm_ns = next;
    alarm_set(relay->alarm, next);
}

static void on_alarm(void *data)
{
    struct relay *relay = data;
    relay->alarm_ns = INT64_MAX;
    (void)env_timers_run(&relay->timers, loop_now_ns());
    alarm_aim(relay);
}

/* One that is stopped lets the alarm come in vain, once. */
void relay_timer(struct relay *relay, struct env_timer *timer, int64_t due_ns, env_timer_cb on_due,
                 void *data)
{
    env_timers_start(&relay->timers, timer, due_ns, on_due, data);
    if (due_ns < relay->alarm_ns)
        alarm_aim(relay);
}

/* ---- listeners ------------------------------------------------------------------------------ */

static bool on_gate(const struct address *peer, bool full, struct slice *ret_words, void *data)
{
    struct relay *relay = ((struct relay_port *)data)->relay;
    (void)peer;
    (void)ret_words;
    if (!full && relay->stats.open < relay->connections_max)
        return true;
    relay->stats.refused++;
    return false;
}

static void on_accepted(struct stream *stream, void *data)
{
    line_open(data, stream);
}

/* Accepted sockets have the listener's buffers. */
static int port_open(struct relay_port *port, struct err *err)
{
    struct sockaddr_storage sockaddr;
    socklen_t size = address_to(&port->face, &sockaddr);
    int one = 1, bytes = RELAY_BUFFER_BYTES;
    char text[ADDRESS_TEXT_BYTES];
    auto_close int fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0 ||
        bind(fd, (struct sockaddr *)&sockaddr, size) < 0 || listen(fd, BACKLOG) < 0)
        return err_set(err, errno == EADDRINUSE ? ERR_CONFLICT : ERR_INTERNAL,
                       "listening at %s: %s", address_text(&port->face, text), strerror(errno));
    size = sizeof sockaddr;
    if (getsockname(fd, (struct sockaddr *)&sockaddr, &size) == 0)
        address_from(&sockaddr, size, &port->face);
    port->fd = take_fd(fd);
    port->listener = listener_new(port->relay->loop, port->fd, on_accepted, port);
    listener_set_gate(port->listener, on_gate);
    return 0;
}

static void port_close(struct relay_port *port)
{
    listener_free(take_ptr(port->listener));
    fd_close(&port->fd);
}

int relay_listen(struct relay *relay, const struct address *face, const struct address *inside,
                 size_t pop, bool control, struct address *ret_face, struct err *err)
{
    assert(pop < relay->fleet->pop_count);
    if (relay->ports_count == RELAY_PORTS_MAX)
        return err_set(err, ERR_BAD_INPUT, "at most %d listeners", RELAY_PORTS_MAX);
    auto_free struct relay_port *port = mem_zalloc(sizeof *port);
    *port = (struct relay_port){
        .relay = relay,
        .face = *face,
        .inside = *inside,
        .pop = pop,
        .control = control,
        .fd = -1,
    };
    int r = port_open(port, err);
    if (r < 0)
        return r;
    if (ret_face)
        *ret_face = port->face;
    if (!port->inside.port)
        port->inside.port = port->face.port;
    relay->ports_count++;
    list_append(&relay->ports, &port->link);
    (void)take_ptr(port);
    return 0;
}

/* ---- faults --------------------------------------------------------------------------------- */

typedef void (*link_change_cb)(struct relay_link *link, uint32_t value);

static void change_cut(struct relay_link *link, uint32_t value)
{
    (void)value;
    link->link.outage = true;
}

static void change_slow(struct relay_link *link, uint32_t value)
{
    link->slowed_us = value;
}

static void change_heal(struct relay_link *link, uint32_t value)
{
    (void)value;
    link->link.outage = false;
    link->slowed_us = 0;
}

static bool between(size_t place, size_t pop, uint16_t a, uint16_t b)
{
    if (a == FLEET_PLACE_NONE)
        return true;
    if (b == FLEET_PLACE_NONE)
        return place == a || pop == a;
    return (place == a && pop == b) || (place == b && pop == a);
}

/* Lines whose link changed do as it says now. */
static void lines_follow(struct relay *relay)
{
    struct line *line;
    struct list *at = relay->lines.next;
    while (at != &relay->lines) {
        line = LIST_OWNER(at, struct line, link);
        at = at->next; /* it may end */
        if (!line->terms)
            continue;
        if (line->terms->link.outage)
            line_cut(line);
        else
            line_heal(line);
    }
}

static int change(struct relay *relay, uint16_t place, uint16_t other, link_change_cb apply,
                  uint32_t value, struct err *err)
{
    const struct fleet *fleet = relay->fleet;
    if (place != FLEET_PLACE_NONE && other != FLEET_PLACE_NONE && place >= fleet->pop_count &&
        other >= fleet->pop_count)
        return err_set(err, ERR_BAD_INPUT,
                       "there is no link between '%s' and '%s': one must be a "
                       "PoP",
                       ERR_SLICE(fleet->places[place].name), ERR_SLICE(fleet->places[other].name));
    if (place != FLEET_PLACE_NONE && place == other)
        return err_set(err, ERR_BAD_INPUT, "'%s' and itself have no link between them",
                       ERR_SLICE(fleet->places[place].name));
    for (size_t from = 0; from < fleet->place_count; from++)
        for (size_t pop = 0; pop < fleet->pop_count; pop++)
            if (from != pop && between(from, pop, place, other))
                apply(&relay->links[from * fleet->pop_count + pop], value);
    lines_follow(relay);
    return 0;
}

int relay_cut(struct relay *relay, uint16_t place, uint16_t other, struct err *err)
{
    return change(relay, place, other, change_cut, 0, err);
}

int relay_slow(struct relay *relay, uint16_t place, uint16_t other, uint32_t more_rtt_us,
               struct err *err)
{
    if (more_rtt_us > FLEET_TIME_US_MAX)
        return err_set(err, ERR_BAD_INPUT, "a round trip of more than an hour");
    return change(relay, place, other, change_slow, more_rtt_us, err);
}

int relay_heal(struct relay *relay, uint16_t place, uint16_t other, struct err *err)
{
    return change(relay, place, other, change_heal, 0, err);
}

/* Clients who stand where it does are others. */
static bool dialled_by(const struct line *line, size_t pop)
{
    struct ip source, face = fleet_face(pop), inside = fleet_inside(pop);
    return address_ip(&line->client->peer, &source) &&
           (memcmp(&source, &face, sizeof source) == 0 ||
            memcmp(&source, &inside, sizeof source) == 0);
}

/* What it dialled goes as well: its processes are dead. */
void relay_kill(struct relay *relay, size_t pop)
{
    struct relay_port *port;
    assert(pop < relay->fleet->pop_count);
    relay->killed[pop] = true;
    LIST_EACH (port, &relay->ports, struct relay_port, link)
        if (port->pop == pop && !port->control)
            port_close(port);
    struct list *at = relay->lines.next;
    while (at != &relay->lines) {
        struct line *line = LIST_OWNER(at, struct line, link);
        at = at->next;
        if ((line->port->pop == pop && !line->port->control) || dialled_by(line, pop))
            line_reset(line);
    }
}

int relay_revive(struct relay *relay, size_t pop, struct err *err)
{
    struct relay_port *port;
    assert(pop < relay->fleet->pop_count);
    LIST_EACH (port, &relay->ports, struct relay_port, link) {
        int r = port->pop == pop && port->fd < 0 ? port_open(port, err) : 0;
        if (r < 0)
            return r;
    }
    relay->killed[pop] = false;
    return 0;
}

/* ---- looking at it -------------------------------------------------------------------------- */

struct relay_link_state relay_link_state(const struct relay *relay, size_t place, size_t pop)
{
    assert(place < relay->fleet->place_count && pop < relay->fleet->pop_count);
    const struct relay_link *link = &relay->links[place * relay->fleet->pop_count + pop];
    struct relay_link_state state = {
        .link = link->link,
        .slowed_us = link->slowed_us,
        .connections = link->connections,
        .bytes = link->bytes,
        .stalls = link->stalls,
    };
    state.link.rtt_us += link->slowed_us;
    return state;
}

bool relay_killed(const struct relay *relay, size_t pop)
{
    return relay->killed[pop];
}

struct relay_stats relay_stats(const struct relay *relay)
{
    return relay->stats;
}

/* ---- life ----------------------------------------------------------------------------------- */

struct relay *relay_new(struct loop *loop, const struct relay_config *config)
{
    struct relay *relay = mem_zalloc(sizeof *relay);
    const struct fleet *fleet = config->fleet;
    relay->loop = loop;
    relay->fleet = fleet;
    address_from_ip(&config->source, 0, &relay->source);
    relay->connections_max =
        config->connections_max ? config->connections_max : RELAY_CONNECTIONS_MAX;
    relay->record = config->record;
    relay->record_left = config->record_bytes_max ? config->record_bytes_max : RELAY_RECORD_BYTES;
    relay->random = config->seed;
    list_init(&relay->ports);
    list_init(&relay->lines);
    relay->links = mem_zalloc(fleet->place_count * fleet->pop_count * sizeof *relay->links);
    for (size_t i = 0; i < fleet->place_count * fleet->pop_count; i++)
        relay->links[i].link = fleet->links[i];
    relay->alarm = alarm_new(loop, on_alarm, relay);
    relay->alarm_ns = INT64_MAX;
    return relay;
}

void relay_free(struct relay *relay)
{
    struct relay_port *port;
    struct line *line;
    if (!relay)
        return;
    LIST_EACH (port, &relay->ports, struct relay_port, link)
        port_close(port);
    while ((line = LIST_FIRST(&relay->lines, struct line, link)))
        line_reset(line);
    /* Writes and connects that were called off report within this pass or the next. */
    for (int i = 0; i < 3; i++)
        loop_run_once(relay->loop, false);
    while ((port = LIST_FIRST(&relay->ports, struct relay_port, link))) {
        list_remove(&port->link);
        free(port);
    }
    alarm_free(relay->alarm);
    env_timers_deinit(&relay->timers);
    free(relay->links);
    free(relay);
}
