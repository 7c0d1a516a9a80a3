/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection is in one of three states: it waits for a question (idle), reads one, or writes an
 * answer, in which it reads no more. Its timer is the state's.
 */
#include "dns/tcp.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "dns/peer.h"
#include "dns/server.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/fd.h"

enum {
    LISTENERS_MAX = 16,
    LENGTH_BYTES = 2,
    SMALL_BYTES = 512,
    ACCEPTS_A_TURN = 64,
    NET_BITS_6 = 64
};

struct dns_tcp {
    struct dns_server *server;
    struct loop *loop;
    struct watch *watches[LISTENERS_MAX];
    int fds[LISTENERS_MAX];
    unsigned listener_count;
    struct list idle, busy; /* connections; who is longest in that state first */
    unsigned count;
    struct metric_series *open;
    uint8_t answer[DNS_TCP_BYTES_MAX];
};

struct connection {
    struct list link;
    struct dns_tcp *tcp;
    struct stream *stream;
    struct timer *timer;
    struct dns_arrival arrival; /* but its times */
    struct ip net;
    size_t have, want; /* of the length and what it says; 0: not known */
    uint8_t length[LENGTH_BYTES];
    uint8_t small[SMALL_BYTES], *message; /* `small`, or the heap's where it is larger */
    bool writing, ended;
    struct stream_write write;
    uint8_t *answer; /* on its way: length and message */
    size_t answer_bytes;
};

static void connection_close(struct connection *connection, const char *reason);

/* ---- states ------------------------------------------------------------------------------- */

static void message_forget(struct connection *connection)
{
    if (connection->message != connection->small)
        free(connection->message);
    connection->message = connection->small;
    connection->have = connection->want = 0;
}

static void state_set(struct connection *connection, bool idle)
{
    struct dns_tcp *tcp = connection->tcp;
    list_remove(&connection->link);
    list_append(idle ? &tcp->idle : &tcp->busy, &connection->link);
    timer_start(connection->timer, idle ? DNS_TCP_IDLE_MS : DNS_TCP_SLOW_MS);
}

static void on_timer(void *data)
{
    struct connection *connection = data;
    bool idle = connection->have == 0 && !connection->writing;
    connection_close(connection, idle ? "idle" : "slow");
}

/* ---- answering ---------------------------------------------------------------------------- */

static void on_written(struct stream_write *, const struct err *err, void *data)
{
    struct connection *connection = data;
    free(take_ptr(connection->answer));
    connection->writing = false;
    if (!connection->stream) { /* closed meanwhile */
        free(connection);
        return;
    }
    if (err || connection->ended) {
        connection_close(connection, err ? "wrong" : "done");
        return;
    }
    state_set(connection, true);
    stream_read_start(connection->stream);
}

static void answer(struct connection *connection)
{
    struct dns_tcp *tcp = connection->tcp;
    connection->arrival.now_ns = loop_now_ns();
    connection->arrival.wall_s = (uint32_t)loop_wall_s();
    size_t bytes = dns_server_answer(tcp->server, &connection->arrival, connection->message,
                                     connection->want, tcp->answer, sizeof tcp->answer);
    message_forget(connection);
    if (bytes == 0) { /* who sends no questions has no business here */
        connection_close(connection, "wrong");
        return;
    }
    connection->answer = mem_alloc(LENGTH_BYTES + bytes);
    connection->answer[0] = (uint8_t)(bytes >> 8);
    connection->answer[1] = (uint8_t)bytes;
    memcpy(connection->answer + LENGTH_BYTES, tcp->answer, bytes);
    connection->writing = true;
    connection->write = (struct stream_write){ .on_written = on_written, .data = connection };
    state_set(connection, false);
    stream_read_stop(connection->stream);
    struct iovec all = { connection->answer, LENGTH_BYTES + bytes };
    stream_write(connection->stream, &connection->write, &all, 1);
}

/* ---- reading ------------------------------------------------------------------------------ */

static void on_space(void *data, struct iovec *ret_space)
{
    struct connection *connection = data;
    size_t have = connection->have;
    if (connection->writing)
        *ret_space = (struct iovec){};
    else if (have < LENGTH_BYTES)
        *ret_space = (struct iovec){ connection->length + have, LENGTH_BYTES - have };
    else
        *ret_space = (struct iovec){ connection->message + have - LENGTH_BYTES,
                                     LENGTH_BYTES + connection->want - have };
}

static void on_read(void *data, size_t bytes)
{
    struct connection *connection = data;
    if (connection->have == 0)
        state_set(connection, false); /* its first byte: from here on time runs */
    connection->have += bytes;
    if (connection->have == LENGTH_BYTES) {
        connection->want = (size_t)connection->length[0] << 8 | connection->length[1];
        if (connection->want < DNS_HEAD_BYTES) {
            connection_close(connection, "wrong");
            return;
        }
        if (connection->want > SMALL_BYTES)
            connection->message = mem_alloc(connection->want);
    }
    if (connection->want && connection->have == LENGTH_BYTES + connection->want)
        answer(connection);
}

static void on_read_end(void *data, const struct err *err)
{
    struct connection *connection = data;
    connection->ended = true;
    if (err || !connection->writing)
        connection_close(connection, err ? "wrong" : "done");
}

static const struct stream_reader reader = { on_space, on_read, on_read_end };

/* ---- life --------------------------------------------------------------------------------- */

/* What is being written goes with its callback: the stream's word that it is done with it. */
static void connection_close(struct connection *connection, const char *reason)
{
    struct dns_tcp *tcp = connection->tcp;
    metric_add(dns_server_series(tcp->server, DNS_CLOSED, reason), 1);
    metric_set(tcp->open, --tcp->count);
    list_remove(&connection->link);
    timer_free(connection->timer);
    message_forget(connection);
    stream_close(take_ptr(connection->stream));
    if (!connection->writing)
        free(connection);
}

static unsigned count_of(const struct list *list, const struct ip *net)
{
    struct list *all = (struct list *)list; /* only looked at */
    const struct connection *connection;
    unsigned count = 0;
    LIST_EACH (connection, all, struct connection, link)
        count += memcmp(connection->net.bytes, net->bytes, sizeof net->bytes) == 0;
    return count;
}

static bool make_room(struct dns_tcp *tcp, const struct ip *net)
{
    if (count_of(&tcp->idle, net) + count_of(&tcp->busy, net) >= DNS_TCP_ADDRESS_MAX)
        return false;
    if (tcp->count < DNS_TCP_CONNECTIONS_MAX)
        return true;
    /* Of those that dribble the slowest: they keep nobody out who asks at once. */
    struct list *from = list_empty(&tcp->idle) ? &tcp->busy : &tcp->idle;
    connection_close(LIST_OWNER(from->next, struct connection, link), "full");
    return true;
}

static void accepted(struct dns_tcp *tcp, int fd_taken, const struct sockaddr_storage *peer)
{
    auto_close int fd = fd_taken;
    struct dns_arrival arrival = { .tcp = true };
    if (!dns_peer_ip(peer, &arrival.address))
        return;
    struct ip net =
        ip_is4(&arrival.address) ? arrival.address : ip_cut(&arrival.address, NET_BITS_6);
    if (!make_room(tcp, &net)) {
        metric_add(dns_server_series(tcp->server, DNS_CLOSED, "away"), 1);
        return;
    }
    arrival.local_known = dns_local_ip(fd, &arrival.local);
    struct connection *connection = mem_zalloc(sizeof *connection);
    connection->tcp = tcp;
    connection->arrival = arrival;
    connection->net = net;
    connection->message = connection->small;
    list_init(&connection->link);
    connection->timer = timer_new(tcp->loop, on_timer, connection);
    connection->stream = stream_open(tcp->loop, take_fd(fd), NULL);
    stream_set_reader(connection->stream, &reader, connection);
    metric_set(tcp->open, ++tcp->count);
    state_set(connection, true);
    stream_read_start(connection->stream);
}

static void on_accept(struct watch *watch, unsigned, void *data)
{
    struct dns_tcp *tcp = data;
    int listener = -1;
    for (unsigned i = 0; i < tcp->listener_count; i++)
        if (tcp->watches[i] == watch)
            listener = tcp->fds[i];
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage peer = {};
        socklen_t size = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            accepted(tcp, fd, &peer);
            continue;
        }
        if ((errno == EMFILE || errno == ENFILE) && !list_empty(&tcp->idle)) {
            connection_close(LIST_OWNER(tcp->idle.next, struct connection, link), "full");
            return; /* its descriptor is free once the loop has come round */
        }
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

struct dns_tcp *dns_tcp_new(struct loop *loop, struct dns_server *server)
{
    struct dns_tcp *tcp = mem_zalloc(sizeof *tcp);
    tcp->loop = loop;
    tcp->server = server;
    tcp->open = dns_server_series(server, DNS_CONNECTIONS, NULL);
    metric_set(tcp->open, 0); /* of a process that was killed */
    list_init(&tcp->idle);
    list_init(&tcp->busy);
    return tcp;
}

void dns_tcp_listen(struct dns_tcp *tcp, int fd)
{
    assert(tcp->listener_count < LISTENERS_MAX);
    tcp->fds[tcp->listener_count] = fd;
    tcp->watches[tcp->listener_count++] = watch_new(tcp->loop, fd, WATCH_READ, on_accept, tcp);
}

void dns_tcp_free(struct dns_tcp *tcp)
{
    if (!tcp)
        return;
    for (unsigned i = 0; i < tcp->listener_count; i++)
        watch_free(tcp->watches[i]);
    while (!list_empty(&tcp->idle))
        connection_close(LIST_OWNER(tcp->idle.next, struct connection, link), "done");
    while (!list_empty(&tcp->busy))
        connection_close(LIST_OWNER(tcp->busy.next, struct connection, link), "done");
    free(tcp);
}
