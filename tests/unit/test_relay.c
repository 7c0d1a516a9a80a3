/* SPDX-License-Identifier: Apache-2.0 */
/* A relay on a thread of its own, between real sockets: a server at 127.0.2.2, clients of several
 * places. Time is compared with lower bounds alone. */
#include "fleet/relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "io/loop.h"
#include "proto/proxy.h"

#define MS INT64_C(1'000'000)
#define DEADLINE_S 20

static const char text[] =
    "pops:\n"
    "  - {name: one, coordinates: [48.85, 2.35], country: FR}\n"
    "  - {name: two, coordinates: [35.69, 139.69], country: JP}\n"
    "clients:\n"
    "  - {name: far, addresses: [127.66.0.0/16], coordinates: [1, 1], country: BR}\n"
    "  - {name: thin, addresses: [127.67.0.0/16], coordinates: [1, 1], country: BR}\n"
    "  - {name: shaky, addresses: [127.68.0.0/16], coordinates: [1, 1], country: BR}\n"
    "  - {name: away, addresses: [127.69.0.0/16], coordinates: [1, 1], country: BR}\n"
    "links:\n"
    "  - {between: any, rtt: 4ms}\n"
    "  - {between: [far, two], rtt: 240ms}\n"
    "  - {between: [thin, two], rtt: 2ms, bandwidth: 2MB/s}\n"
    "  - {between: [shaky, two], rtt: 6ms, jitter: 3ms, loss: 0.05%}\n"
    "  - {between: [away, two], outage: true}\n";

enum { FAR = 2, THIN, SHAKY, AWAY };

struct world {
    struct arena *arena;
    struct fleet fleet;
    struct loop *loop;
    struct relay *relay;
    pthread_t thread;
    int server; /* where PoP two listens */
    struct address face;
    char record[64];
};

/* ---- the relay's thread --------------------------------------------------------------------- */

struct call {
    struct world *world;
    void (*fn)(struct world *world, void *data);
    void *data;
    sem_t done;
};

static void call_run(void *data)
{
    struct call *call = data;
    call->fn(call->world, call->data);
    sem_post(&call->done);
}

/* fn(data) on the relay's thread, waited for. */
static void on_relay(struct world *world, void (*fn)(struct world *world, void *data), void *data)
{
    struct call call = { .world = world, .fn = fn, .data = data };
    sem_init(&call.done, 0, 0);
    loop_post(world->loop, call_run, &call);
    sem_wait(&call.done);
    sem_destroy(&call.done);
}

static void *relay_run(void *data)
{
    loop_run(((struct world *)data)->loop);
    return NULL;
}

static void loop_end(void *data)
{
    loop_stop(data);
}

static struct world *world_new(uint32_t connections_max, uint64_t record)
{
    struct world *world = mem_zalloc(sizeof *world);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000202) };
    socklen_t size = sizeof at;
    struct address face = {}, inside;
    struct sockaddr_storage storage = {};
    struct ip relay_ip, face_ip = fleet_face(1);
    struct err err = {};
    world->arena = arena_new();
    assert_int_equal(fleet_parse(world->arena, slice_of(text), NULL, &world->fleet, &err), 0);
    world->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(world->server, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(world->server, 64), 0);
    assert_int_equal(getsockname(world->server, (struct sockaddr *)&at, &size), 0);
    memcpy(&storage, &at, sizeof at);
    address_from(&storage, size, &inside);
    assert_true(ip_parse(SLICE("127.0.2.253"), &relay_ip));
    if (record) {
        snprintf(world->record, sizeof world->record, "/tmp/test_relay.XXXXXX");
        assert_non_null(mkdtemp(world->record));
    }
    world->loop = loop_new();
    world->relay = relay_new(world->loop, &(struct relay_config){
                                              .fleet = &world->fleet,
                                              .source = relay_ip,
                                              .connections_max = connections_max,
                                              .seed = 1,
                                              .record = record ? world->record : NULL,
                                              .record_bytes_max = record,
                                          });
    address_from_ip(&face_ip, 0, &face);
    assert_int_equal(relay_listen(world->relay, &face, &inside, 1, false, &world->face, &err), 0);
    assert_int_equal(pthread_create(&world->thread, NULL, relay_run, world), 0);
    return world;
}

static void world_free(struct world *world)
{
    loop_post(world->loop, loop_end, world->loop);
    pthread_join(world->thread, NULL);
    relay_free(world->relay);
    loop_free(world->loop);
    if (world->server >= 0)
        close(world->server);
    arena_free(world->arena);
    free(world);
}

/* ---- both ends ------------------------------------------------------------------------------ */

static int dial(const struct world *world, const char *from)
{
    struct sockaddr_in source = { .sin_family = AF_INET };
    struct sockaddr_storage face;
    struct timeval deadline = { .tv_sec = DEADLINE_S };
    struct ip ip;
    socklen_t size = address_to(&world->face, &face);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(ip_parse(slice_of(from), &ip));
    memcpy(&source.sin_addr, ip.bytes + 12, 4);
    assert_int_equal(bind(fd, (struct sockaddr *)&source, sizeof source), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline), 0);
    if (connect(fd, (struct sockaddr *)&face, size) == 0)
        return fd;
    close(fd);
    return -1;
}

static void hear(int fd, char *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = recv(fd, bytes + at, size - at, 0);
        if (n <= 0)
            fail_msg("after %zu of %zu bytes: %s", at, size, n ? strerror(errno) : "the end");
        at += (size_t)n;
    }
}

static void say(int fd, const char *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = send(fd, bytes + at, size - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

/* The PoP's end, with what the relay says first. */
static int answer(const struct world *world, struct proxy_header *ret)
{
    struct timeval deadline = { .tv_sec = DEADLINE_S };
    struct pollfd poll_fd = { world->server, POLLIN, 0 };
    char head[35];
    size_t used;
    assert_int_equal(poll(&poll_fd, 1, DEADLINE_S * 1000), 1);
    int fd = accept4(world->server, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline), 0);
    hear(fd, head, sizeof head);
    assert_int_equal(proxy_parse(head, sizeof head, ret, &used, NULL), PROXY_WHOLE);
    assert_int_equal(used, sizeof head);
    return fd;
}

static bool silent(int fd, int ms)
{
    struct pollfd poll_fd = { fd, POLLIN, 0 };
    return poll(&poll_fd, 1, ms) == 0;
}

struct pair {
    int client, server;
};

static struct pair pair_open(const struct world *world, const char *from)
{
    struct proxy_header header;
    struct pair pair = { .client = dial(world, from) };
    assert_true(pair.client >= 0);
    pair.server = answer(world, &header);
    return pair;
}

static void pair_close(const struct pair *pair)
{
    close(pair->client);
    close(pair->server);
}

/* ---- distance ------------------------------------------------------------------------------- */

static void test_who_and_how_far(void **state)
{
    struct world *world = world_new(0, 0);
    struct proxy_header header;
    struct sockaddr_in own;
    socklen_t size = sizeof own;
    char ip[IP_TEXT_BYTES];
    (void)state;
    int client = dial(world, "127.66.0.7"), server = answer(world, &header);
    assert_true(header.known && header.rtt_known);
    assert_int_equal(header.rtt_us, 240'000);
    assert_string_equal(ip_text(&header.source, ip), "127.66.0.7");
    assert_string_equal(ip_text(&header.destination, ip), "127.0.1.2");
    assert_int_equal(header.destination_port, world->face.port);
    assert_int_equal(getsockname(client, (struct sockaddr *)&own, &size), 0);
    assert_int_equal(header.source_port, ntohs(own.sin_port));
    assert_int_equal(getpeername(server, (struct sockaddr *)&own, &size), 0);
    assert_int_equal(ntohl(own.sin_addr.s_addr), 0x7f0002fd);
    close(client);
    close(server);
    world_free(world);
}

/* 480 ms to the first answer on a new connection, 240 on one that is used again. */
static void test_round_trips(void **state)
{
    struct world *world = world_new(0, 0);
    char byte;
    (void)state;
    int64_t begun = loop_now_ns();
    struct pair pair = pair_open(world, "127.66.0.1");
    for (int turn = 0; turn < 2; turn++) {
        int64_t sent = turn ? loop_now_ns() : begun;
        say(pair.client, "a", 1);
        hear(pair.server, &byte, 1);
        assert_true(loop_now_ns() - sent >= (turn ? 120 : 360) * MS);
        say(pair.server, "b", 1);
        hear(pair.client, &byte, 1);
        int64_t took = loop_now_ns() - sent;
        print_message("  turn %d: %.3f ms\n", turn, (double)took / MS);
        assert_true(took >= (turn ? 240 : 480) * MS);
    }
    pair_close(&pair);
    world_free(world);
}

struct sending {
    int fd;
    const char *bytes;
    size_t size;
};

static void *send_all(void *data)
{
    const struct sending *sending = data;
    say(sending->fd, sending->bytes, sending->size);
    shutdown(sending->fd, SHUT_WR);
    return NULL;
}

/* All arrives as it was sent, both ways at once, over each kind of link, and no sooner than the
 * bandwidth lets it. */
static void test_bytes(void **state)
{
    static const struct {
        const char *from;
        size_t bytes;
        int64_t least_ms;
    } rows[] = { { "127.0.1.1", 3'000'000, 4 },
                 { "127.67.0.1", 600'000, 300 },
                 { "127.68.0.1", 400'000, 9 },
                 { "127.90.0.1", 1'000'000, 0 } };
    struct world *world = world_new(0, 0);
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t size = rows[i].bytes;
        auto_free char *bytes = mem_alloc(size), *there = mem_alloc(size), *back = mem_alloc(size);
        pthread_t client, server;
        for (size_t k = 0; k < size; k++)
            bytes[k] = (char)(k * 2654435761u >> 13);
        int fd = dial(world, rows[i].from), peer;
        char head[35];
        int64_t begun = loop_now_ns();
        peer = accept4(world->server, NULL, NULL, SOCK_CLOEXEC);
        hear(peer, head, i == 3 ? 28 : 35); /* from nowhere: no round trip is told */
        struct sending up = { fd, bytes, size }, down = { peer, bytes, size };
        assert_int_equal(pthread_create(&client, NULL, send_all, &up), 0);
        assert_int_equal(pthread_create(&server, NULL, send_all, &down), 0);
        /* One after the other: what is not read yet waits, and nothing is lost. */
        hear(peer, there, size);
        hear(fd, back, size);
        assert_true(loop_now_ns() - begun >= rows[i].least_ms * MS);
        assert_memory_equal(bytes, there, size);
        assert_memory_equal(bytes, back, size);
        assert_int_equal(recv(peer, there, 1, 0), 0);
        assert_int_equal(recv(fd, back, 1, 0), 0);
        pthread_join(client, NULL);
        pthread_join(server, NULL);
        close(fd);
        close(peer);
    }
    world_free(world);
}

/* A peer that does not read holds up the other: what is under way is bounded. */
static void test_back_pressure(void **state)
{
    struct world *world = world_new(0, 0);
    struct pair pair = pair_open(world, "127.67.0.1");
    static char bytes[1 << 16];
    size_t all = 0;
    struct pollfd poll_fd = { pair.client, POLLOUT, 0 };
    (void)state;
    while (poll(&poll_fd, 1, 500) == 1) {
        ssize_t n = send(pair.client, bytes, sizeof bytes, MSG_DONTWAIT);
        all += n > 0 ? (size_t)n : 0;
        assert_true(all < 16 << 20);
    }
    print_message("  %zu bytes are under way\n", all);
    pair_close(&pair);
    world_free(world);
}

/* ---- ends ----------------------------------------------------------------------------------- */

static void test_half_close(void **state)
{
    struct world *world = world_new(0, 0);
    struct pair pair = pair_open(world, "127.0.1.1");
    char bytes[8];
    (void)state;
    say(pair.client, "ask", 3);
    shutdown(pair.client, SHUT_WR);
    hear(pair.server, bytes, 3);
    assert_int_equal(recv(pair.server, bytes, 1, 0), 0);
    say(pair.server, "told", 4);
    hear(pair.client, bytes, 4);
    assert_true(silent(pair.client, 30));
    shutdown(pair.server, SHUT_WR);
    assert_int_equal(recv(pair.client, bytes, 1, 0), 0);
    pair_close(&pair);
    world_free(world);
}

static void reset(int fd)
{
    struct linger linger = { .l_onoff = 1 };
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(fd);
}

/* Behind what was sent before it. */
static void test_reset(void **state)
{
    struct world *world = world_new(0, 0);
    char bytes[8];
    (void)state;
    for (int side = 0; side < 2; side++) {
        struct pair pair = pair_open(world, "127.0.1.1");
        int breaks = side ? pair.server : pair.client, hears = side ? pair.client : pair.server;
        say(breaks, "last", 4);
        hear(hears, bytes, 1); /* so that it is through, and the reset does not overtake it */
        reset(breaks);
        hear(hears, bytes, 3);
        assert_int_equal(recv(hears, bytes, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
        close(hears);
    }
    world_free(world);
}

static void test_nobody_listens(void **state)
{
    struct world *world = world_new(0, 0);
    char byte;
    (void)state;
    close(world->server);
    world->server = -1;
    int fd = dial(world, "127.0.1.1");
    if (fd >= 0) {
        assert_int_equal(recv(fd, &byte, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
        close(fd);
    }
    world_free(world);
}

static void test_too_many(void **state)
{
    struct world *world = world_new(2, 0);
    struct pair pairs[2];
    char byte;
    (void)state;
    for (int i = 0; i < 2; i++)
        pairs[i] = pair_open(world, "127.0.1.1");
    int third = dial(world, "127.0.1.1");
    assert_true(recv(third, &byte, 1, 0) <= 0);
    close(third);
    pair_close(&pairs[0]);
    /* Room comes once both ends are known to be closed. */
    for (int i = 0; i < 1000; i++) {
        third = dial(world, "127.0.1.1");
        struct pollfd poll_fd = { world->server, POLLIN, 0 };
        if (poll(&poll_fd, 1, 10) == 1)
            break;
        close(third);
    }
    struct proxy_header header;
    int server = answer(world, &header);
    close(server);
    close(third);
    pair_close(&pairs[1]);
    world_free(world);
}

/* ---- faults --------------------------------------------------------------------------------- */

static void cut(struct world *world, void *data)
{
    (void)data;
    assert_int_equal(relay_cut(world->relay, 0, 1, NULL), 0);
}

static void heal(struct world *world, void *data)
{
    (void)data;
    assert_int_equal(relay_heal(world->relay, FLEET_PLACE_NONE, FLEET_PLACE_NONE, NULL), 0);
}

static void test_cut(void **state)
{
    struct world *world = world_new(0, 0);
    struct pair old = pair_open(world, "127.0.1.1"), other = pair_open(world, "127.67.0.1");
    char bytes[8];
    (void)state;
    on_relay(world, cut, NULL);
    say(old.client, "up", 2);
    say(old.server, "down", 4);
    int new = dial(world, "127.0.1.1"); /* connects, and says nothing */
    assert_true(new >= 0);
    say(new, "new", 3);
    assert_true(silent(old.server, 100));
    assert_true(silent(old.client, 0));
    assert_true(silent(new, 0));
    assert_true(silent(world->server, 0));
    say(other.client, "fine", 4); /* links of others are not touched */
    hear(other.server, bytes, 4);
    on_relay(world, heal, NULL);
    hear(old.server, bytes, 2);
    hear(old.client, bytes, 4);
    struct proxy_header header;
    int server = answer(world, &header);
    hear(server, bytes, 3);
    close(server);
    close(new);
    pair_close(&old);
    pair_close(&other);
    world_free(world);
}

static void cut_two(struct world *world, void *data)
{
    (void)data;
    assert_int_equal(relay_cut(world->relay, 1, FLEET_PLACE_NONE, NULL), 0);
}

/* What is under way when the link is cut stays there. */
static void test_cut_under_way(void **state)
{
    struct world *world = world_new(0, 0);
    struct pair pair = pair_open(world, "127.66.0.1");
    char bytes[4];
    (void)state;
    say(pair.client, "late", 4);
    on_relay(world, cut_two, NULL);
    assert_true(silent(pair.server, 500));
    on_relay(world, heal, NULL);
    hear(pair.server, bytes, 4);
    assert_memory_equal(bytes, "late", 4);
    pair_close(&pair);
    world_free(world);
}

/* Cut in the file: from the start, until it is healed. */
static void test_outage(void **state)
{
    struct world *world = world_new(0, 0);
    struct proxy_header header;
    (void)state;
    int client = dial(world, "127.69.0.1");
    assert_true(silent(world->server, 50));
    on_relay(world, heal, NULL);
    int server = answer(world, &header);
    close(server);
    close(client);
    world_free(world);
}

static void slow(struct world *world, void *data)
{
    (void)data;
    assert_int_equal(relay_slow(world->relay, 1, FLEET_PLACE_NONE, 100'000, NULL), 0);
}

static void test_slow(void **state)
{
    struct world *world = world_new(0, 0);
    struct pair pair = pair_open(world, "127.0.1.1");
    char byte;
    (void)state;
    for (int slowed = 0; slowed < 2; slowed++) {
        int64_t begun = loop_now_ns();
        say(pair.client, "a", 1);
        hear(pair.server, &byte, 1);
        say(pair.server, "b", 1);
        hear(pair.client, &byte, 1);
        assert_true(!slowed || loop_now_ns() - begun >= 104 * MS);
        on_relay(world, slow, NULL);
    }
    pair_close(&pair);
    world_free(world);
}

static void kill_two(struct world *world, void *data)
{
    (void)data;
    relay_kill(world->relay, 1);
    assert_true(relay_killed(world->relay, 1));
}

static void revive_two(struct world *world, void *data)
{
    (void)data;
    assert_int_equal(relay_revive(world->relay, 1, NULL), 0);
}

static void test_kill(void **state)
{
    struct world *world = world_new(0, 0);
    struct pair pair = pair_open(world, "127.0.1.1");
    char byte;
    (void)state;
    on_relay(world, kill_two, NULL);
    assert_int_equal(recv(pair.client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(recv(pair.server, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(dial(world, "127.0.1.1"), -1);
    pair_close(&pair);
    on_relay(world, revive_two, NULL);
    pair = pair_open(world, "127.0.1.1");
    pair_close(&pair);
    world_free(world);
}

static void no_links(struct world *world, void *data)
{
    struct err err = {};
    (void)data;
    assert_int_equal(relay_cut(world->relay, FAR, THIN, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "one must be a PoP"));
    assert_int_equal(relay_cut(world->relay, 1, 1, &err), ERR_BAD_INPUT);
    assert_int_equal(relay_cut(world->relay, 1, 0, &err), 0);
    assert_true(relay_link_state(world->relay, 0, 1).link.outage);
    assert_true(relay_link_state(world->relay, 1, 0).link.outage);
    assert_false(relay_link_state(world->relay, FAR, 1).link.outage);
    assert_int_equal(relay_heal(world->relay, 0, FLEET_PLACE_NONE, &err), 0);
    assert_false(relay_link_state(world->relay, 1, 0).link.outage);
    assert_true(relay_link_state(world->relay, AWAY, 1).link.outage);
}

static void test_links_that_are_none(void **state)
{
    struct world *world = world_new(0, 0);
    (void)state;
    on_relay(world, no_links, NULL);
    world_free(world);
}

/* ---- what goes between PoPs ----------------------------------------------------------------- */

static void recorded(const struct world *world, const char *name, const char *wanted)
{
    char path[512], bytes[64] = "";
    snprintf(path, sizeof path, "%s/%s", world->record, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, sizeof bytes - 1, file), strlen(wanted));
    (void)fclose(file);
    assert_string_equal(bytes, wanted);
    assert_int_equal(unlink(path), 0);
}

static void test_record(void **state)
{
    struct world *world = world_new(0, 1 << 20);
    char bytes[8], folder[64];
    (void)state;
    struct pair pop = pair_open(world, "127.0.1.1"), client = pair_open(world, "127.67.0.1");
    say(pop.client, "there", 5);
    hear(pop.server, bytes, 5);
    say(pop.server, "back", 4);
    hear(pop.client, bytes, 4);
    say(client.client, "mine", 4); /* a client's own connection is its own business */
    hear(client.server, bytes, 4);
    recorded(world, "00000001.one.two.sent", "there");
    recorded(world, "00000001.one.two.answered", "back");
    memcpy(folder, world->record, sizeof folder);
    pair_close(&pop);
    pair_close(&client);
    world_free(world);
    assert_int_equal(rmdir(folder), 0); /* there was nothing else */
}

/* Two files, and eight bytes: what would be the ninth is kept of nobody, and that is said. */
static void test_recordings_are_bounded(void **state)
{
    struct world *world = world_new(0, 2 * RELAY_RECORD_FILE_BYTES + 8);
    char bytes[8], folder[64];
    (void)state;
    log_level_set(LOG_ERROR);
    struct pair first = pair_open(world, "127.0.1.1");
    say(first.client, "there", 5);
    hear(first.server, bytes, 5);
    say(first.server, "back", 4);
    hear(first.client, bytes, 4);
    say(first.client, "no", 2);
    hear(first.server, bytes, 2);
    struct pair second = pair_open(world, "127.0.1.1");
    say(second.client, "nor", 3);
    hear(second.server, bytes, 3);
    recorded(world, "00000001.one.two.sent", "there");
    recorded(world, "00000001.one.two.answered", "");
    recorded(world, RELAY_RECORD_FULL, "");
    memcpy(folder, world->record, sizeof folder);
    pair_close(&first);
    pair_close(&second);
    world_free(world);
    assert_int_equal(rmdir(folder), 0);
    log_level_set(LOG_INFO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_and_how_far),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_cut_under_way),
        cmocka_unit_test(test_outage),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_links_that_are_none),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_recordings_are_bounded),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as every program of ours does */
    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
