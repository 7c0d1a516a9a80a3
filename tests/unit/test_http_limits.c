/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that are too many or too slow. */
#include "http_peer.h"

#include <sys/resource.h>

#include "http/crowd.h"

/* ---- too many ------------------------------------------------------------------------------ */

struct door {
    struct peer *peer;
    int listening;
    struct sockaddr_storage name;
    socklen_t size;
};

static struct door door_open(const struct http_server_limits *limits)
{
    struct door door = { .peer = peer_new(limits) };
    struct address address;
    assert_int_equal(0, address_parse(SLICE("127.0.0.1:0"), &address, NULL));
    door.listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    door.size = address_to(&address, &door.name);
    assert_int_equal(0, bind(door.listening, (struct sockaddr *)&door.name, door.size));
    assert_int_equal(0, listen(door.listening, 64));
    door.size = sizeof door.name;
    getsockname(door.listening, (struct sockaddr *)&door.name, &door.size);
    return door;
}

static void door_close(struct door *door)
{
    peer_free(door->peer);
    close(door->listening);
}

/* Returns once the server has seen it. */
static int knock(struct door *door, const char *says)
{
    const struct http_server_stats *stats = http_server_stats(door->peer->server);
    uint64_t seen = stats->accepted + stats->full + stats->crowded;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(0, connect(fd, (struct sockaddr *)&door->name, door->size));
    if (*says)
        assert_int_equal(send(fd, says, strlen(says), 0), strlen(says));
    while (stats->accepted + stats->full + stats->crowded == seen)
        loop_run_once(door->peer->loop, true);
    peer_run(door->peer, -1, NULL);
    return fd;
}

static void assert_heard(int fd, const char *begins, bool ends)
{
    struct peer_answer answer = {};
    while (peer_read(fd, &answer) && ends)
        ;
    assert_int_equal(0, strncmp(answer.bytes, begins, strlen(begins)));
    assert_int_equal(answer.closed, ends);
    free(answer.bytes);
}

/* The one idle longest makes room; where none is idle, the new one is sent away with a word. */
static void test_connections_max(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    (void)state;
    limits.connections_max = 2;
    struct door door = door_open(&limits);
    const struct http_server_stats *stats = http_server_stats(door.peer->server);
    http_server_listen(door.peer->server, door.listening);
    int idle = knock(&door, ""), busy = knock(&door, "GET /half"), third = knock(&door, "GET /h");
    assert_heard(idle, "", true);
    assert_int_equal(stats->evicted, 1);
    assert_int_equal(stats->open, 2);
    int fourth = knock(&door, R("GET /hello HTTP/1.1"));
    assert_heard(fourth, "HTTP/1.1 503 Service Unavailable\r\n", true);
    assert_int_equal(stats->full, 1);
    close(busy);
    while (stats->open == 2)
        loop_run_once(door.peer->loop, true);
    int fifth = knock(&door, R("GET /hello HTTP/1.1"));
    assert_heard(fifth, "HTTP/1.1 200 OK\r\n", false);
    close(idle);
    close(third);
    close(fourth);
    close(fifth);
    door_close(&door);
}

/* A request on its way to one that looks idle is not lost: the new one has to go. */
static void test_not_quite_idle(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    (void)state;
    limits.connections_max = 1;
    struct door door = door_open(&limits);
    const struct http_server_stats *stats = http_server_stats(door.peer->server);
    http_server_listen(door.peer->server, door.listening);
    int idle = knock(&door, "");
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(0, connect(late, (struct sockaddr *)&door.name, door.size));
    /* The listener is ready first, so that the request is not read yet when room is looked for. */
    assert_true(send(idle, R("GET /hello HTTP/1.1"), sizeof R("GET /hello HTTP/1.1") - 1, 0) > 0);
    while (!stats->full && stats->accepted < 2)
        loop_run_once(door.peer->loop, true);
    peer_run(door.peer, -1, NULL);
    assert_int_equal(stats->evicted, 0);
    assert_heard(idle, "HTTP/1.1 200 OK\r\n", false);
    assert_heard(late, "HTTP/1.1 503 Service Unavailable\r\n", true);
    close(idle);
    close(late);
    door_close(&door);
}

/* Over two servers, as two loops have them. */
static void test_one_address(void **state)
{
    (void)state;
    for (int loopback = 0; loopback <= 1; loopback++) {
        struct crowd *crowd = crowd_new(2, loopback);
        struct door one = door_open(NULL), two = door_open(NULL);
        http_server_set_crowd(one.peer->server, crowd);
        http_server_set_crowd(two.peer->server, crowd);
        http_server_listen(one.peer->server, one.listening);
        http_server_listen(two.peer->server, two.listening);
        int first = knock(&one, "GET"), second = knock(&two, "GET");
        int third = knock(&one, R("GET /hello HTTP/1.1"));
        assert_heard(third, loopback ? "HTTP/1.1 429 Too Many Requests\r\n" : "HTTP/1.1 200 OK\r\n",
                     loopback);
        assert_int_equal(http_server_stats(one.peer->server)->crowded, loopback);
        close(second);
        while (http_server_stats(two.peer->server)->open)
            loop_run_once(two.peer->loop, true);
        int fourth = knock(&one, R("GET /hello HTTP/1.1"));
        assert_heard(fourth, "HTTP/1.1 200 OK\r\n", false);
        close(first);
        close(third);
        close(fourth);
        door_close(&one);
        door_close(&two);
        crowd_free(crowd);
    }
}

/* When the server is full as well: an address that may have no more costs nobody his place. */
static void test_one_address_makes_no_room(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct crowd *crowd = crowd_new(2, true);
    (void)state;
    limits.connections_max = 2;
    struct door door = door_open(&limits);
    const struct http_server_stats *stats = http_server_stats(door.peer->server);
    http_server_set_crowd(door.peer->server, crowd);
    http_server_listen(door.peer->server, door.listening);
    int first = knock(&door, ""), second = knock(&door, "");
    int third = knock(&door, R("GET /hello HTTP/1.1"));
    assert_int_equal(stats->crowded, 1);
    assert_int_equal(stats->full + stats->evicted, 0);
    assert_int_equal(stats->open, 2);
    assert_heard(third, "HTTP/1.1 429 Too Many Requests\r\n", true);
    close(first);
    close(second);
    close(third);
    door_close(&door);
    crowd_free(crowd);
}

static void test_crowd(void **state)
{
    static const struct {
        const char *address, *same, *other; /* as same: in its /64; as other: not */
    } peers[] = {
        { "192.0.2.1", "192.0.2.1", "192.0.2.2" },
        { "[2001:db8:0:1::1]", "[2001:db8:0:1:ffff::2]", "[2001:db8:0:2::1]" },
        { "[::ffff:192.0.2.1]", "192.0.2.1", "[::192.0.2.1]" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
        struct crowd *crowd = crowd_new(1, false), *none = crowd_new(0, true);
        struct address address, same, other;
        assert_true(address_parse_ip(slice_of(peers[i].address), &address));
        assert_true(address_parse_ip(slice_of(peers[i].same), &same));
        assert_true(address_parse_ip(slice_of(peers[i].other), &other));
        assert_false(crowd_full(crowd, &address));
        assert_true(crowd_enter(crowd, &address));
        assert_true(crowd_full(crowd, &same));
        assert_false(crowd_full(crowd, &other));
        crowd_leave(crowd, &same);
        assert_false(crowd_full(crowd, &address));
        assert_false(crowd_enter(none, &address));
        assert_false(crowd_full(none, &address));
        crowd_free(crowd);
        crowd_free(none);
    }
}

/* Not one descriptor is left: a client is told so, the loop does not turn in circles, and when
 * there are some again clients are served. */
static void test_no_descriptors(void **state)
{
    struct door door = door_open(NULL);
    const struct http_server_stats *stats = http_server_stats(door.peer->server);
    struct rlimit before, few;
    int clients[3], filler[256], fillers = 0;
    (void)state;
    http_server_listen(door.peer->server, door.listening);
    for (int i = 0; i < 3; i++)
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &before);
    few = (struct rlimit){ .rlim_cur = (rlim_t)clients[2] + 40, .rlim_max = before.rlim_max };
    setrlimit(RLIMIT_NOFILE, &few);
    while ((filler[fillers] = dup(door.listening)) >= 0)
        assert_true(++fillers < 256);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(0, connect(clients[i], (struct sockaddr *)&door.name, door.size));
        while (stats->full < (uint64_t)i + 1)
            loop_run_once(door.peer->loop, true);
        assert_heard(clients[i], "HTTP/1.1 503 Service Unavailable\r\n", true);
    }
    assert_int_equal(stats->accepted, 0);
    while (fillers > 0)
        close(filler[--fillers]);
    assert_int_equal(0, connect(clients[2], (struct sockaddr *)&door.name, door.size));
    while (!stats->accepted)
        loop_run_once(door.peer->loop, true);
    setrlimit(RLIMIT_NOFILE, &before);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    door_close(&door);
}

/* ---- too slow ------------------------------------------------------------------------------ */

/* Some came in each span, and yet too little of it: 408 says how little. */
static void test_body_rate(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    (void)state;
    limits.body_ms = 15;
    limits.body_rate_min = 1 << 30;
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(POST("/echo", "Content-Length: 1000000\r\n\r\n")), 4096, &answer);
    while (!answer.closed) {
        (void)!send(fd, "a", 1, MSG_NOSIGNAL);
        loop_run_once(peer->loop, true);
        while (peer_read(fd, &answer))
            ;
    }
    assert_int_equal(0, strncmp(answer.bytes, "HTTP/1.1 408 ", 13));
    assert_int_equal(peer->stats.last_end_http, 408);
    assert_true(peer->stats.body_bytes > 0);
    assert_int_equal(http_server_stats(peer->server)->timeouts.body, 1);
    peer_done(peer, fd, &answer);
}

/* As slow as may be, and for many spans: it is taken whole. */
static void test_slow_body(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    (void)state;
    limits.body_ms = 400; /* all of the sending takes longer, no two bytes are so far apart */
    limits.body_rate_min = 2;
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(POST("/echo", "Content-Length: 20\r\n\r\n")), 4096, &answer);
    for (int i = 0; i < 20; i++) {
        peer_time_passes(25);
        peer_send(peer, fd, SLICE("a"), 1, &answer);
    }
    peer_undate(&answer);
    assert_string_equal(answer.bytes, OK("20") "\r\naaaaaaaaaaaaaaaaaaaa");
    peer_done(peer, fd, &answer);
}

/* It reads some in each span, and yet too little of it. */
static void test_answer_rate(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    char few[16];
    (void)state;
    limits.write_ms = 15;
    limits.write_rate_min = 1 << 30;
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(R("GET /hold HTTP/1.1")), 4096, &answer);
    exchange_reply(peer->held, 200, NULL, 0, (struct slice){ peer->body, PEER_BODY_MAX });
    while (!peer->stats.closed_badly) {
        (void)!read(fd, few, sizeof few);
        loop_run_once(peer->loop, true);
    }
    assert_int_equal(http_server_stats(peer->server)->timeouts.answer, 1);
    peer_done(peer, fd, &answer);
}

static void test_timeouts(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    (void)state;
    limits.idle_ms = limits.head_ms = limits.body_ms = limits.write_ms = limits.linger_ms = 15;
    static const struct {
        const char *request, *begins;
    } waits[] = {
        { "", "" },
        { "GET / HT", "HTTP/1.1 408 " },
        { POST("/echo", "Content-Length: 6\r\n\r\nabc"), "HTTP/1.1 408 " },
        { R("GET /hello HTTP/1.1"), "HTTP/1.1 200 OK\r\n" },
        { "\r\n", "" },
    };
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        struct peer *peer = peer_new(&limits);
        struct peer_answer answer = {};
        int fd = peer_connect(peer);
        print_message("  '%.20s'\n", waits[i].request);
        peer_send(peer, fd, slice_of(waits[i].request), 4096, &answer);
        peer_run_until_closed(peer, fd, &answer);
        assert_int_equal(0, strncmp(answer.bytes, waits[i].begins, strlen(waits[i].begins)));
        if (!*waits[i].begins)
            assert_int_equal(answer.size, 0);
        free(answer.bytes);
        close(fd);
        peer_free(peer);
    }
}

/* One that reads nothing is cut after write_ms, and not before as long as it reads. */
static void test_write_timeout(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    (void)state;
    limits.write_ms = 15;
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(R("GET /hold HTTP/1.1")), 4096, &answer);
    exchange_reply(peer->held, 200, NULL, 0, (struct slice){ peer->body, PEER_BODY_MAX });
    while (!peer->stats.closed_badly)
        loop_run_once(peer->loop, true);
    assert_int_equal(http_server_stats(peer->server)->timeouts.answer, 1);
    peer_done(peer, fd, &answer);
}

/* A slow reader of a long answer is not cut as long as it takes some. */
static void test_slow_reader(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    char few[16384];
    (void)state;
    limits.write_ms = 400; /* all of the reading takes longer, no one read does */
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(R("GET /hold HTTP/1.1")), 4096, &answer);
    exchange_respond(peer->held, 200, NULL, 0, HTTP_LENGTH_UNKNOWN);
    for (int i = 0; i < 20; i++) { /* the queue only grows */
        exchange_write(peer->held, &(struct iovec){ peer->body, 65536 }, 1, NULL, NULL);
        peer_time_passes(25);
        assert_true(read(fd, few, sizeof few) > 0);
        loop_run_once(peer->loop, false);
        assert_non_null(peer->held);
    }
    peer_done(peer, fd, &answer);
}

/* ---- limits as text ------------------------------------------------------------------------ */

static void test_limits(void **state)
{
    static const struct {
        const char *text, *says; /* NULL: fine */
    } texts[] = {
        { "", NULL },
        { "head_ms=5000", NULL },
        { " head_ms = 5000 , body_rate_min=0,", NULL },
        { ",", "there is no limit ''" },
        { "head_ms=5000,head_ms=6000", NULL },
        { "head_ms", "head_ms takes a number from 1 to 86400000, not ''" },
        { "head_ms=", "head_ms takes a number" },
        { "head_ms=0", "head_ms takes a number from 1" },
        { "head_ms=-1", "not '-1'" },
        { "head_ms=5s", "not '5s'" },
        { "head_ms=99999999999999999999", "head_ms takes a number" },
        { "connections_max=1000001", "to 1000000" },
        { "tail_ms=5", "there is no limit 'tail_ms'" },
        { "head_ms=1,tail=\x01", "there is no limit 'tail'" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct http_server_limits limits = http_server_limits_default();
        struct err err = {};
        print_message("  '%s'\n", texts[i].text);
        int r = http_server_limits_parse(slice_of(texts[i].text), &limits, &err);
        assert_int_equal(r, texts[i].says ? ERR_BAD_INPUT : 0);
        if (texts[i].says)
            assert_non_null(strstr(err.message, texts[i].says));
    }
    struct http_server_limits limits = http_server_limits_default();
    assert_int_equal(0,
                     http_server_limits_parse(SLICE("head_ms=7, body_rate_min=0"), &limits, NULL));
    assert_int_equal(limits.head_ms, 7);
    assert_int_equal(limits.body_rate_min, 0);
    assert_int_equal(limits.idle_ms, http_server_limits_default().idle_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_max),
        cmocka_unit_test(test_not_quite_idle),
        cmocka_unit_test(test_one_address),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_one_address_makes_no_room),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_body_rate),
        cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_answer_rate),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_write_timeout),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests_name("http_limits", tests, NULL, NULL);
}
