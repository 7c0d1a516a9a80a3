/* SPDX-License-Identifier: Apache-2.0 */
/* The server over real sockets on a loop of its own, with no view: every answer is SERVFAIL. */
#include "dns/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "dns/rate.h"
#include "dns/tcp.h"
#include "dns/udp.h"
#include "io/loop.h"
#include "sys/fd.h"

#define HEAD "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
#define HEAD_OPT "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
#define ASK "\6digits\7perigee\4test\0\0\1\0\1"
#define COOKIE                                                                                     \
    "\0\0\51\4\xd0\0\0\0\0\0\x0c\0\x0a\0\x8"                                                       \
    "12345678"

static struct dns_server server;
static struct metrics metrics;
static void *region;
static struct loop *loop;
static struct dns_tcp *tcp;
static int listener;
static struct sockaddr_in there;

static int set_up(void **)
{
    struct err err;
    region = mem_zalloc(DNS_REGION_BYTES);
    metrics_attach(&metrics, &dns_metrics, region, DNS_REGION_BYTES);
    assert_int_equal(dns_server_init(&server, &metrics, &err), 0);
    loop = loop_new();
    tcp = dns_tcp_new(loop, &server);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    there =
        (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof there;
    assert_int_equal(bind(listener, (struct sockaddr *)&there, sizeof there), 0);
    assert_int_equal(listen(listener, 512), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&there, &size), 0);
    dns_tcp_listen(tcp, listener);
    return 0;
}

static int tear_down(void **)
{
    dns_tcp_free(tcp);
    loop_free(loop);
    fd_close(&listener);
    dns_server_deinit(&server);
    memset(&server, 0, sizeof server);
    metrics_deinit(&metrics);
    free(region);
    return 0;
}

static uint64_t counted(enum dns_metrics_row row, const char *label)
{
    return atomic_load(&dns_server_series(&server, row, label)->words[0]);
}

/* ---- one message -------------------------------------------------------------------------- */

static size_t answer(const char *message, size_t bytes, const struct dns_arrival *arrival,
                     uint8_t buffer[static DNS_UDP_BYTES_MAX])
{
    return dns_server_answer(&server, arrival, (const uint8_t *)message, bytes, buffer,
                             DNS_UDP_BYTES_MAX);
}

static void test_a_flood_is_not_made_larger(void **)
{
    static const char plain[] = HEAD_OPT ASK COOKIE;
    uint8_t buffer[DNS_UDP_BYTES_MAX];
    struct dns_arrival arrival = { .address = ip_from4((uint8_t[]){ 203, 0, 113, 1 }),
                                   .now_ns = 1,
                                   .wall_s = 1'700'000'000 };
    char with_cookie[sizeof plain + 16];
    for (unsigned i = 0; i < DNS_RATE_BURST + 100; i++) {
        size_t bytes = answer(plain, sizeof plain - 1, &arrival, buffer);
        assert_true(bytes > 0 && (i < DNS_RATE_BURST || bytes <= 3 * (sizeof plain - 1)));
    }
    assert_int_equal(counted(DNS_LIMITED, NULL), 100);
    /* With the cookie of an answer it is heard again, whatever its prefix does. */
    memcpy(with_cookie, plain, sizeof plain - 1);
    size_t bytes = answer(plain, sizeof plain - 1, &arrival, buffer);
    const uint8_t *given = memmem(buffer, bytes, "12345678", 8);
    assert_non_null(given);
    memcpy(with_cookie + sizeof plain - 1, given + 8, 16);
    with_cookie[sizeof plain - 1 - 8 - 5] += 16; /* of the options, and of the cookie */
    with_cookie[sizeof plain - 1 - 8 - 1] += 16;
    (void)answer(with_cookie, sizeof plain - 1 + 16, &arrival, buffer);
    assert_int_equal(counted(DNS_LIMITED, NULL), 101);
    assert_int_equal(counted(DNS_COOKIES, "right"), 1);
    arrival.address = ip_from4((uint8_t[]){ 203, 0, 113, 2 }); /* stolen */
    (void)answer(with_cookie, sizeof plain - 1 + 16, &arrival, buffer);
    assert_int_equal(counted(DNS_LIMITED, NULL), 102);
}

static void test_what_is_not_answered(void **)
{
    uint8_t buffer[DNS_UDP_BYTES_MAX];
    struct dns_arrival arrival = { .address = ip_from4((uint8_t[]){ 203, 0, 113, 1 }) };
    static const char reply[] = "\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00" ASK;
    assert_int_equal(answer(reply, sizeof reply - 1, &arrival, buffer), 0);
    assert_int_equal(answer(reply, 11, &arrival, buffer), 0);
    assert_int_equal(answer(HEAD, 12, &arrival, buffer), 12); /* that there is no question */
    assert_int_equal(buffer[3] & 15, DNS_FORMERR);
    assert_int_equal(counted(DNS_DROPPED, NULL), 2);
}

/* ---- sockets ------------------------------------------------------------------------------ */

static int dial_from(uint32_t address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(address) };
    assert_int_equal(bind(fd, (struct sockaddr *)&here, sizeof here), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&there, sizeof there), 0);
    struct timeval soon = { .tv_usec = 1000 };
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon), 0);
    return fd;
}

static int dial(void)
{
    return dial_from(INADDR_LOOPBACK);
}

/* Turns the loop until `bytes` came (or the end: fewer). */
static size_t hear(int fd, void *buffer, size_t bytes)
{
    size_t have = 0;
    while (have < bytes) {
        loop_run_once(loop, false);
        ssize_t n = recv(fd, (char *)buffer + have, bytes - have, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return have;
        have += n > 0 ? (size_t)n : 0;
    }
    return have;
}

static void say(int fd, const char *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

static void test_questions_one_after_the_other(void **)
{
    static const char one[] = "\0\x25" HEAD ASK;
    enum { SIZE = sizeof one - 1 };
    uint8_t buffer[2 * SIZE];
    auto_close int fd = dial();
    say(fd, one, SIZE);
    say(fd, one, SIZE);
    assert_int_equal(hear(fd, buffer, 2 * SIZE), 2 * SIZE);
    assert_memory_equal(buffer, "\0\x25\x12\x34\x81\2", 6); /* SERVFAIL */
    assert_memory_equal(buffer + SIZE, "\0\x25\x12\x34\x81\2", 6);
    for (size_t i = 0; i < SIZE; i++) { /* a byte at a time */
        say(fd, one + i, 1);
        loop_run_once(loop, false);
    }
    assert_int_equal(hear(fd, buffer, SIZE), SIZE);
    (void)shutdown(fd, SHUT_WR);
    assert_int_equal(hear(fd, buffer, 1), 0);
    assert_int_equal(counted(DNS_CONNECTIONS, NULL), 0);
    assert_int_equal(counted(DNS_CLOSED, "done"), 1);
}

static void test_lengths_that_are_wrong(void **)
{
    static const struct {
        const char *bytes;
        size_t size;
    } wrong[] = { { "\0\0", 2 }, { "\0\x0b", 2 }, { "\0\x0c\x12\x34\x81\0\0\0\0\0\0\0\0\0", 14 } };
    char byte;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        auto_close int fd = dial();
        say(fd, wrong[i].bytes, wrong[i].size);
        assert_int_equal(hear(fd, &byte, 1), 0);
        assert_int_equal(counted(DNS_CLOSED, "wrong"), i + 1);
    }
}

static void test_large_messages(void **)
{
    enum { SIZE = 65535 };
    auto_free char *message = mem_zalloc(2 + SIZE);
    uint8_t buffer[14];
    memcpy(message, "\xff\xff" HEAD ASK, 2 + 12 + 25);
    auto_close int fd = dial();
    for (size_t at = 0; at < 2 + SIZE; at += 4097) {
        say(fd, message + at, 2 + SIZE - at < 4097 ? 2 + SIZE - at : 4097);
        loop_run_once(loop, false);
    }
    assert_int_equal(hear(fd, buffer, sizeof buffer), sizeof buffer);
    assert_int_equal(buffer[5] & 15, DNS_FORMERR); /* more behind the question */
}

static void test_one_address_has_so_many(void **)
{
    int fds[DNS_TCP_ADDRESS_MAX + 1];
    char byte;
    for (unsigned i = 0; i < DNS_TCP_ADDRESS_MAX; i++) {
        fds[i] = dial();
        loop_run_once(loop, false);
    }
    fds[DNS_TCP_ADDRESS_MAX] = dial();
    assert_int_equal(hear(fds[DNS_TCP_ADDRESS_MAX], &byte, 1), 0);
    assert_int_equal(counted(DNS_CLOSED, "away"), 1);
    assert_int_equal(counted(DNS_CONNECTIONS, NULL), DNS_TCP_ADDRESS_MAX);
    for (unsigned i = 0; i <= DNS_TCP_ADDRESS_MAX; i++)
        fd_close(&fds[i]);
}

static void test_who_dribbles_keeps_nobody_out(void **)
{
    static const char one[] = "\0\x25" HEAD ASK;
    enum { SIZE = sizeof one - 1 };
    int fds[DNS_TCP_CONNECTIONS_MAX];
    uint8_t buffer[SIZE];
    for (unsigned i = 0; i < DNS_TCP_CONNECTIONS_MAX; i++) {
        fds[i] = dial_from(INADDR_LOOPBACK + 1 + i / DNS_TCP_ADDRESS_MAX);
        say(fds[i], one, 1);
        while (counted(DNS_CONNECTIONS, NULL) <= i)
            loop_run_once(loop, false);
    }
    for (unsigned i = 0; i < 2 * DNS_TCP_CONNECTIONS_MAX; i++) /* all have been heard */
        loop_run_once(loop, false);
    auto_close int fd = dial();
    say(fd, one, SIZE);
    assert_int_equal(hear(fd, buffer, SIZE), SIZE);
    assert_int_equal(counted(DNS_CLOSED, "full"), 1);
    assert_int_equal(hear(fds[0], buffer, 1), 0); /* the first of them has gone */
    assert_int_equal(counted(DNS_CLOSED, "slow"), 0);
    for (unsigned i = 0; i < DNS_TCP_CONNECTIONS_MAX; i++)
        fd_close(&fds[i]);
}

/* Takes the 4 s that such a message has. */
static void test_what_dribbles_is_cut(void **)
{
    static const char one[] = "\0\x25" HEAD ASK;
    auto_close int fd = dial(), other = dial();
    uint8_t buffer[sizeof one];
    int64_t began = loop_now_ns();
    for (size_t i = 0; i < sizeof one - 2; i++) {
        int64_t until = loop_now_ns() + INT64_C(200'000'000);
        if (send(fd, one + i, 1, MSG_NOSIGNAL) < 0)
            break;
        while (loop_now_ns() < until) {
            loop_run_once(loop, false);
            if (recv(fd, buffer, 1, MSG_DONTWAIT) == 0)
                goto cut;
            (void)poll(NULL, 0, 5);
        }
    }
    fail_msg("it may dribble for ever");
cut:
    assert_in_range((uint64_t)(loop_now_ns() - began), UINT64_C(3'900'000'000),
                    UINT64_C(8'000'000'000));
    assert_int_equal(counted(DNS_CLOSED, "slow"), 1);
    say(other, one, sizeof one - 1); /* who asks at once is answered meanwhile and after */
    assert_int_equal(hear(other, buffer, sizeof one - 1), sizeof one - 1);
}

static void test_datagrams(void **)
{
    enum { ASKED = 200 };
    uint8_t buffer[DNS_UDP_BYTES_MAX];
    struct sockaddr_in here = { .sin_family = AF_INET };
    socklen_t size = sizeof here;
    auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&here, sizeof here), 0); /* on all addresses */
    assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &size), 0);
    struct dns_udp *udp = dns_udp_new(loop, &server, fd);
    auto_close int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    here.sin_addr.s_addr = htonl(0x7f000105); /* 127.0.1.5, and from there comes the answer */
    assert_int_equal(connect(client, (struct sockaddr *)&here, sizeof here), 0);
    struct timeval soon = { .tv_usec = 1000 };
    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon), 0);
    for (unsigned i = 0; i < ASKED; i++)
        say(client, HEAD ASK, sizeof(HEAD ASK) - 1);
    say(client, "short", 5);
    for (unsigned i = 0; i < ASKED; i++)
        assert_int_equal(hear(client, buffer, 37), 37);
    assert_int_equal(counted(DNS_DROPPED, NULL), 1);
    dns_udp_free(udp);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_flood_is_not_made_larger),
        CASE(test_what_is_not_answered),
        CASE(test_questions_one_after_the_other),
        CASE(test_lengths_that_are_wrong),
        CASE(test_large_messages),
        CASE(test_one_address_has_so_many),
        CASE(test_who_dribbles_keeps_nobody_out),
        CASE(test_what_dribbles_is_cut),
        CASE(test_datagrams),
    };
    return cmocka_run_group_tests_name("dns_server", tests, NULL, NULL);
}
