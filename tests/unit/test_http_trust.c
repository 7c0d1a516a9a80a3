/* SPDX-License-Identifier: Apache-2.0 */
/* Who is behind a connection: raw bytes from a peer that is trusted or is not, whole and byte by
 * byte, and the client that the exchange tells. */
#include "http_peer.h"

#include <fcntl.h>
#include <netinet/in.h>

#include "http/crowd.h"
#include "http/trust.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V1 "PROXY TCP4 203.0.113.7 127.0.0.1 999 80\r\n"
#define V2 SIGNATURE "\x21\x11\x00\x13\xcb\x00\x71\x07\x7f\x00\x00\x01\x03\xe7\x00\x50" RTT
#define RTT "\xe7\x00\x04\x00\x03\xa9\x80"
#define BYTES(text)                                                                                \
    {                                                                                              \
        "" text, sizeof(text) - 1                                                                  \
    }
#define GET(more) "GET /who HTTP/1.1\r\nHost: a\r\n" more "\r\n"
#define REFUSED "400"
#define ITSELF "127.0.0.1:PORT"

/* 127.0.0.1 and 10/8 are trusted, or nobody is. */
static const struct {
    const char *name;
    struct slice bytes;
    const char *trusted, *other; /* what /who answers, or a status */
    int64_t rtt_us;              /* of the trusted; -1: as the kernel says */
} rows[] = {
    { "nothing said", BYTES(GET("")), ITSELF, ITSELF, -1 },
    { "version 1", BYTES(V1 GET("")), "203.0.113.7:999", REFUSED, -1 },
    { "version 2", BYTES(V2 GET("")), "203.0.113.7:999", REFUSED, 240'000 },
    { "unknown", BYTES("PROXY UNKNOWN\r\n" GET("")), ITSELF, REFUSED, -1 },
    { "local", BYTES(SIGNATURE "\x20\x00\x00\x00" GET("")), ITSELF, REFUSED, -1 },
    { "a wrong one", BYTES("PROXY TCP4 203.0.113.7\r\n" GET("")), REFUSED, REFUSED, -1 },
    { "a wrong binary one", BYTES(SIGNATURE "\x21\x11\x00\x01z" GET("")), REFUSED, REFUSED, -1 },
    { "twice", BYTES(V1 V1 GET("")), REFUSED, REFUSED, -1 },
    { "behind a request", BYTES(GET("") V1 GET("")), ITSELF, ITSELF, -1 },
    { "a method that begins so", BYTES("PROPFIND /who HTTP/1.1\r\nHost: a\r\n\r\n"), ITSELF, ITSELF,
      -1 },
    { "empty lines before", BYTES("\r\n\r\n" GET("")), ITSELF, ITSELF, -1 },
    { "X-Forwarded-For", BYTES(GET("X-Forwarded-For: 203.0.113.9\r\n")), "203.0.113.9:0", ITSELF,
      -1 },
    { "Forwarded", BYTES(GET("Forwarded: for=203.0.113.9\r\n")), "203.0.113.9:0", ITSELF, -1 },
    { "unknown to it", BYTES(GET("Forwarded: for=unknown\r\n")), "none", ITSELF, -1 },
    { "a wrong address", BYTES(GET("X-Forwarded-For: here\r\n")), REFUSED, ITSELF, -1 },
    { "two that differ",
      BYTES(GET("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.8\r\n")), REFUSED, ITSELF,
      -1 },
    { "headers of a client whom a proxy names", BYTES(V1 GET("X-Forwarded-For: 203.0.113.9\r\n")),
      "203.0.113.7:999", REFUSED, -1 },
    { "headers of a proxy whom a proxy names",
      BYTES("PROXY TCP4 10.0.0.1 127.0.0.1 999 80\r\n" GET("X-Forwarded-For: 203.0.113.9\r\n")),
      "203.0.113.9:0", REFUSED, -1 },
    { "IPv6", BYTES("PROXY TCP6 2001:db8::7 ::1 999 80\r\n" GET("")), "[2001:db8::7]:999", REFUSED,
      -1 },
};

struct door {
    struct peer *peer;
    int listening, fd;
    uint16_t port; /* the client's */
    uint32_t rtt_us;
};

static void on_head(struct exchange *x, void *data)
{
    struct door *door = data;
    char text[ADDRESS_TEXT_BYTES];
    exchange_set_handler(x, &peer_handler, door->peer);
    door->peer->stats.heads++;
    door->rtt_us = exchange_rtt_us(x);
    exchange_reply(x, 200, NULL, 0,
                   slice_of(arena_string(exchange_arena(x),
                                         slice_of(address_text(exchange_client(x), text)))));
}

static void door_open(struct door *door, const struct trust *trust, struct crowd *crowd)
{
    struct http_server_limits limits = http_server_limits_default();
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof name;
    *door = (struct door){ .peer = peer_new(NULL), .fd = -1 };
    http_server_free(door->peer->server);
    door->peer->server = http_server_new(door->peer->loop, &limits,
                                         &(struct http_server_events){ .on_head = on_head }, door);
    http_server_set_trust(door->peer->server, trust);
    http_server_set_crowd(door->peer->server, crowd);
    door->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(door->listening, (struct sockaddr *)&name, sizeof name), 0);
    assert_int_equal(listen(door->listening, 8), 0);
    assert_int_equal(getsockname(door->listening, (struct sockaddr *)&name, &size), 0);
    http_server_listen(door->peer->server, door->listening);
}

static int door_knock(struct door *door)
{
    const struct http_server_stats *stats = http_server_stats(door->peer->server);
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    uint64_t before = stats->accepted + stats->crowded;
    assert_int_equal(getsockname(door->listening, (struct sockaddr *)&name, &size), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &size), 0);
    door->port = ntohs(name.sin_port);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (stats->accepted + stats->crowded == before)
        loop_run_once(door->peer->loop, true);
    return fd;
}

static void door_close(struct door *door)
{
    peer_free(door->peer);
    close(door->listening);
}

/* Until a whole answer, or the end, has come. */
static void hear(struct door *door, int fd, struct peer_answer *answer)
{
    struct pollfd poll_fd = { fd, POLLIN, 0 };
    for (int i = 0; i < 50 && answer->size == 0 && !answer->closed; i++) {
        loop_run_once(door->peer->loop, false);
        if (poll(&poll_fd, 1, 20) > 0)
            (void)peer_read(fd, answer);
    }
}

static void row_check(size_t i, struct trust *trust, size_t step)
{
    struct door door;
    struct peer_answer answer = {};
    char wanted[64];
    const char *who = trust ? rows[i].trusted : rows[i].other;
    door_open(&door, trust, NULL);
    int fd = door_knock(&door);
    peer_send(door.peer, fd, rows[i].bytes, step, &answer);
    hear(&door, fd, &answer);
    print_message("  %s, %s, by %zu: %.12s\n", rows[i].name, trust ? "trusted" : "not", step,
                  answer.bytes);
    if (who[0] >= '4' && strlen(who) == 3) {
        assert_int_equal(strncmp(answer.bytes + strlen("HTTP/1.1 "), who, 3), 0);
    } else {
        snprintf(wanted, sizeof wanted, "127.0.0.1:%u", door.port);
        assert_non_null(strstr(answer.bytes, strcmp(who, ITSELF) == 0 ? wanted : who));
        if (trust && rows[i].rtt_us >= 0)
            assert_int_equal(door.rtt_us, rows[i].rtt_us);
        else
            assert_true(door.rtt_us > 0 && door.rtt_us < 5'000'000);
    }
    free(answer.bytes);
    close(fd);
    door_close(&door);
}

static void test_rows(void **state)
{
    struct trust *trust;
    (void)state;
    assert_int_equal(trust_parse(SLICE("127.0.0.1, 10.0.0.0/8"), &trust, NULL), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t step = 1; step <= 1 << 16; step <<= 16) {
            row_check(i, trust, step);
            row_check(i, NULL, step);
        }
    trust_free(trust);
}

/* The proxy itself may have as many as it likes; whom it names may not. */
static void test_crowd(void **state)
{
    struct crowd *crowd = crowd_new(2, true);
    struct trust *trust;
    struct door door;
    int fds[4];
    (void)state;
    assert_int_equal(trust_parse(SLICE("127.0.0.0/8"), &trust, NULL), 0);
    for (int round = 0; round < 2; round++) { /* those who left are forgotten */
        door_open(&door, trust, crowd);
        for (int i = 0; i < 4; i++) {
            struct peer_answer answer = {};
            bool other = i == 3;
            fds[i] = door_knock(&door);
            peer_send(door.peer, fds[i],
                      other ? SLICE("PROXY TCP4 203.0.113.8 127.0.0.1 9 80\r\n" GET(""))
                            : SLICE(V1 GET("")),
                      4096, &answer);
            hear(&door, fds[i], &answer);
            assert_int_equal(strncmp(answer.bytes, i == 2 ? "HTTP/1.1 429" : "HTTP/1.1 200", 12),
                             0);
            free(answer.bytes);
        }
        assert_int_equal(http_server_stats(door.peer->server)->crowded, 1);
        for (int i = 0; i < 4; i++)
            close(fds[i]);
        door_close(&door);
    }
    trust_free(trust);
    crowd_free(crowd);
}

/* One that ends, or waits, within its header. */
static void test_unfinished(void **state)
{
    struct trust *trust;
    (void)state;
    assert_int_equal(trust_parse(SLICE("127.0.0.1"), &trust, NULL), 0);
    for (int ends = 0; ends < 2; ends++) {
        struct door door;
        struct peer_answer answer = {};
        door_open(&door, trust, NULL);
        int fd = door_knock(&door);
        peer_send(door.peer, fd, SLICE("PROXY TCP4 203"), 4096, &answer);
        if (ends) {
            shutdown(fd, SHUT_WR);
            hear(&door, fd, &answer);
            assert_true(answer.closed);
        } else {
            http_server_drain(door.peer->server, 0, NULL, NULL);
        }
        assert_int_equal(answer.size, 0);
        free(answer.bytes);
        close(fd);
        door_close(&door);
    }
    trust_free(trust);
}

static void test_parse(void **state)
{
    static const struct {
        const char *text, *error;
    } texts[] = {
        { "10.0.0.0/8", NULL },
        { "10.0.0.0/8,::1, 192.0.2.0/24", NULL },
        { "", "no block of addresses" },
        { "10.0.0.0/8,", "no block of addresses" },
        { "10.0.0.1/8", "10.0.0.0/8 is meant" },
        { "proxy.example", "no block of addresses" },
    };
    struct address address;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct trust *trust = NULL;
        struct err err = {};
        print_message("  '%s'\n", texts[i].text);
        int r = trust_parse(slice_of(texts[i].text), &trust, &err);
        assert_int_equal(r, texts[i].error ? ERR_BAD_INPUT : 0);
        if (texts[i].error)
            assert_non_null(strstr(err.message, texts[i].error));
        assert_int_equal(address_parse(SLICE("10.9.9.9:1"), &address, NULL), 0);
        assert_int_equal(trust_has_peer(trust, &address), !texts[i].error);
        assert_int_equal(address_parse(SLICE("unix:/x"), &address, NULL), 0);
        assert_false(trust_has_peer(trust, &address));
        trust_free(trust);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_unfinished),
        cmocka_unit_test(test_parse),
    };
    return cmocka_run_group_tests_name("http_trust", tests, NULL, NULL);
}
