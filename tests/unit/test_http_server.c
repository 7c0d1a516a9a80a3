/* SPDX-License-Identifier: Apache-2.0 */
/* Raw requests and the exact answers, whole and byte by byte; and what rows cannot say. */
#include "http_peer.h"

#define PLAIN(status, size)                                                                        \
    "HTTP/1.1 " status "\r\nContent-Length: " size                                                 \
    "\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"

/* clang-format off */
static const struct {
    const char *name, *request, *answer;
    bool closed;
} rows[] = {
    { "a GET", R("GET /hello HTTP/1.1"), HELLO, false },
    { "two, pipelined", R("GET /hello HTTP/1.1") R("GET /hello HTTP/1.1"), HELLO HELLO, false },
    { "three with bodies between",
      POST("/echo", "Content-Length: 2\r\n\r\nab") R("GET /hello HTTP/1.1")
      POST("/echo", CHUNKED "1\r\nc\r\n0\r\n\r\n"),
      OK("2") "\r\nab" HELLO OK("1") "\r\nc", false },
    { "HEAD has the length alone", R("HEAD /hello HTTP/1.1"), OK("5") "\r\n", false },
    { "HEAD of an error of ours", "HEAD /hello HTTP/1.1\r\n\r\n",
      PLAIN("400 Bad Request", "17"), true },
    { "204 has nothing", R("GET /empty HTTP/1.1"), "HTTP/1.1 204 No Content\r\n\r\n", false },
    { "1.0 closes", "GET /hello HTTP/1.0\r\n\r\n", BYE, true },
    { "1.0 may stay", "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      OK("5") "Connection: keep-alive\r\n\r\nhello", false },
    { "1.0 knows no chunks", "POST /stream HTTP/1.0\r\nContent-Length: 2\r\n\r\nab",
      "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab", true },
    { "asked to close", "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", BYE, true },
    { "nothing is answered after close",
      "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" R("GET /hello HTTP/1.1"), BYE,
      true },
    { "a body", POST("/echo", "Content-Length: 3\r\n\r\nabc"), OK("3") "\r\nabc", false },
    { "no body", R("POST /echo HTTP/1.1"), OK("0") "\r\n", false },
    { "chunks in", POST("/echo", CHUNKED "2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n"), OK("3") "\r\nabc",
      false },
    { "trailers in", POST("/trailers", CHUNKED "0\r\nX-T: there\r\n\r\n"), OK("5") "\r\nthere",
      false },
    { "no body, chunks out", R("POST /stream HTTP/1.1"),
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false },
    { "trailers out where taken", POST("/stream", "TE: trailers\r\n\r\n"),
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-End: yes\r\n\r\n", false },
    { "405 says what is allowed", R("DELETE /get-only HTTP/1.1"),
      "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 2\r\nAllow: GET\r\n\r\nno", false },
    { "a hint before the answer", R("GET /hint HTTP/1.1"),
      "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" OK("1") "\r\na", false },
    { "no hint in 1.0", "GET /hint HTTP/1.0\r\n\r\n", OK("1") "Connection: close\r\n\r\na", true },
    { "a short body nobody takes is dropped",
      POST("/deny", "Content-Length: 3\r\n\r\nabc") R("GET /hello HTTP/1.1"),
      "HTTP/1.1 451 Unavailable For Legal Reasons\r\nContent-Length: 6\r\n\r\ndenied" HELLO,
      false },
    { "a chunked one closes", POST("/deny", CHUNKED "3\r\nabc\r\n0\r\n\r\n"),
      "HTTP/1.1 451 Unavailable For Legal Reasons\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"
      "denied", true },
    { "an expected one closes", POST("/deny", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"),
      "HTTP/1.1 451 Unavailable For Legal Reasons\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"
      "denied", true },
    { "too large is said before it is read",
      POST("/echo", "Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"),
      "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge",
      true },
    { "chunks too large are cut", POST("/echo", CHUNKED "fffffff\r\n"),
      "HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\nbad body",
      true },
    { "a chunk that is none", POST("/echo", CHUNKED "2\r\nab\r\nx\r\n"),
      "HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\nConnection: close\r\n\r\nbad body", true },
    { "an answer shorter than it says is cut", R("GET /short HTTP/1.1"), OK("10") "\r\nshort",
      true },
    { "no HTTP", "hello\r\n\r\n", PLAIN("501 Not Implemented", "40"), true },
    { "no host", "GET / HTTP/1.1\r\n\r\n", PLAIN("400 Bad Request", "17") "there is no Host\n",
      true },
    { "another version", R("GET / HTTP/3.0"), NULL, true },
};
/* clang-format on */

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t step = 1; step <= 1 << 16; step <<= 16) {
            struct peer *peer = peer_new(NULL);
            struct peer_answer answer = {};
            int fd = peer_connect(peer);
            print_message("  %s, by %zu\n", rows[i].name, step);
            peer_send(peer, fd, slice_of(rows[i].request), step, &answer);
            peer_undate(&answer);
            size_t size = rows[i].answer ? strlen(rows[i].answer) : 0;
            /* Our own words in refusals are not compared byte by byte. */
            if (rows[i].answer && strstr(rows[i].answer, "text/plain") && answer.size > size)
                answer.bytes[size] = 0;
            if (rows[i].answer)
                assert_string_equal(answer.bytes, rows[i].answer);
            assert_int_equal(answer.closed, rows[i].closed);
            free(answer.bytes);
            close(fd);
            peer_free(peer);
        }
}

static void test_continue(void **state)
{
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    int fd = peer_connect(peer);
    (void)state;
    peer_send(peer, fd,
              SLICE("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                    "Content-Length: 3\r\n\r\n"),
              4096, &answer);
    assert_string_equal(answer.bytes, "HTTP/1.1 100 Continue\r\n\r\n");
    answer.size = 0;
    peer_send(peer, fd, SLICE("abc"), 4096, &answer);
    peer_undate(&answer);
    assert_string_equal(answer.bytes, OK("3") "\r\nabc");
    peer_done(peer, fd, &answer);
}

/* Echo while it comes: chunks in, chunks out, both at once. */
static void test_stream(void **state)
{
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    int fd = peer_connect(peer);
    (void)state;
    peer_send(peer, fd, SLICE(POST("/stream", CHUNKED)), 4096, &answer);
    peer_send(peer, fd, SLICE("3\r\nabc\r\n"), 4096, &answer);
    peer_undate(&answer);
    assert_string_equal(answer.bytes,
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    answer.size = 0;
    peer_send(peer, fd, SLICE("2\r\nde\r\n0\r\n\r\n"), 4096, &answer);
    assert_string_equal(answer.bytes, "2\r\nde\r\n0\r\n\r\n");
    assert_int_equal(peer->stats.written, 2);
    assert_int_equal(peer->stats.closed_well, 1);
    peer_done(peer, fd, &answer);
}

/* A body behind its head is read to its place: nothing of it is copied. */
static void test_placement(void **state)
{
    enum { BYTES = 200'000 };
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    auto_free char *body = mem_alloc(BYTES);
    int fd = peer_connect(peer);
    char head[128];
    (void)state;
    memset(body, 'b', BYTES);
    snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
             BYTES);
    peer_send(peer, fd, slice_of(head), 4096, &answer);
    peer_send(peer, fd, (struct slice){ body, BYTES }, BYTES, &answer);
    assert_int_equal(peer->stats.body_bytes, BYTES);
    assert_int_equal(peer->stats.copied_bytes, 0);
    assert_memory_equal(peer->body, body, BYTES);
    assert_int_equal(http_server_stats(peer->server)->body_copied_bytes, 0);

    /* A large chunk as well, but for what came with its size. */
    peer->stats.body_bytes = 0;
    peer_send(peer, fd, SLICE(POST("/echo", CHUNKED "30d40\r\n")), 4096, &answer);
    peer_send(peer, fd, (struct slice){ body, BYTES }, BYTES, &answer);
    peer_send(peer, fd, SLICE("\r\n0\r\n\r\n"), 4096, &answer);
    assert_int_equal(peer->stats.body_bytes, BYTES);
    assert_true(peer->stats.copied_bytes < 8192);
    peer_done(peer, fd, &answer);
}

/* No space: the kernel keeps the bytes; resumed: they come. */
static void test_pause(void **state)
{
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    int fd = peer_connect(peer);
    (void)state;
    peer->no_space = true;
    peer_send(peer, fd, SLICE(POST("/hold", "Content-Length: 6\r\n\r\nabc")), 4096, &answer);
    peer_send(peer, fd, SLICE("def"), 4096, &answer);
    assert_int_equal(peer->body_bytes, 0);
    peer->no_space = false;
    peer->space_max = 2;
    exchange_body_resume(peer->held);
    peer_run(peer, fd, &answer);
    assert_int_equal(peer->body_bytes, 6);
    assert_memory_equal(peer->body, "abcdef", 6);
    assert_int_equal(peer->stats.ends, 1);
    exchange_reply(peer->held, 200, NULL, 0, SLICE("x"));
    peer_run(peer, fd, &answer);
    assert_int_equal(peer->stats.closed_well, 1);
    peer_done(peer, fd, &answer);
}

/* A client that goes away while its request waits, and while it is being answered. */
static void test_gone(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    (void)state;
    limits.gone_ms = 10;
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(R("GET /hold HTTP/1.1")), 4096, &answer);
    assert_non_null(peer->held);
    close(fd);
    while (!peer->stats.closed_badly)
        loop_run_once(peer->loop, true);
    assert_null(peer->held);

    /* within a body */
    fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(POST("/hold", "Content-Length: 6\r\n\r\nabc")), 4096, &answer);
    close(fd);
    peer_run(peer, -1, NULL);
    assert_int_equal(peer->stats.closed_badly, 2);
    assert_int_equal(peer->stats.ends, 0);

    /* it reads nothing: on_written comes with an error, before on_closed */
    fd = peer_connect(peer);
    peer_send(peer, fd, SLICE(R("GET /hold HTTP/1.1")), 4096, &answer);
    exchange_respond(peer->held, 200, NULL, 0, PEER_BODY_MAX);
    exchange_write(peer->held, &(struct iovec){ peer->body, PEER_BODY_MAX }, 1, peer_written, peer);
    assert_true(exchange_write_bytes(peer->held) > 0);
    peer_run(peer, -1, NULL);
    assert_int_equal(peer->stats.written_badly, 0);
    close(fd);
    peer_run(peer, -1, NULL);
    assert_int_equal(peer->stats.written_badly, 1);
    assert_int_equal(peer->stats.closed_badly, 3);
    free(answer.bytes);
    peer_free(peer);
}

/* Its body has no place yet, so that no read sees its end: whatever of it has come. */
static void test_gone_while_paused(void **state)
{
    static const struct {
        const char *name, *head, *rest;
        bool reset;
    } sent[] = {
        { "nothing of the body", "", "" },
        { "a part of it with the head", "abc", "" },
        { "all of it with the head", "abcdef", "" },
        { "a part of it behind the head", "", "abc" },
        { "parts in both", "abc", "de" },
        { "a part, and a reset", "", "abc", true },
    };
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    char request[256];
    (void)state;
    limits.gone_ms = 10;
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
        print_message("  %s\n", sent[i].name);
        struct peer *peer = peer_new(&limits);
        int fd = peer_connect(peer);
        peer->no_space = true;
        snprintf(request, sizeof request, POST("/hold", "Content-Length: 6\r\n\r\n%s"),
                 sent[i].head);
        peer_send(peer, fd, slice_of(request), 4096, &answer);
        peer_send(peer, fd, slice_of(sent[i].rest), 4096, &answer);
        assert_non_null(peer->held);
        if (sent[i].reset) /* what it was sent is not read, and it closes */
            exchange_inform(peer->held, 103, NULL, 0);
        close(fd);
        while (!peer->stats.closed_badly)
            loop_run_once(peer->loop, true);
        assert_null(peer->held);
        assert_int_equal(http_server_stats(peer->server)->timeouts.gone, 1);
        peer_free(peer);
    }

    /* One that stays is looked at as often as may be, and is served. */
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer);
    peer->no_space = true;
    peer_send(peer, fd, SLICE(POST("/hold", "Content-Length: 6\r\n\r\nabc")), 4096, &answer);
    for (int looks = 0; looks < 4; looks++) {
        peer_time_passes(15);
        peer_run(peer, fd, &answer);
        assert_non_null(peer->held);
    }
    peer->no_space = false;
    exchange_body_resume(peer->held);
    peer_send(peer, fd, SLICE("def"), 4096, &answer);
    assert_int_equal(peer->body_bytes, 6);
    exchange_reply(peer->held, 200, NULL, 0, SLICE("x"));
    peer_run(peer, fd, &answer);
    assert_int_equal(peer->stats.closed_well, 1);
    peer_done(peer, fd, &answer);
}

/* A client that ends its side still gets its answers, also of what it pipelined. */
static void test_half_close(void **state)
{
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    int fd = peer_connect(peer);
    (void)state;
    struct slice bytes = SLICE(R("GET /hello HTTP/1.1") R("GET /hello HTTP/1.1"));
    assert_int_equal(send(fd, bytes.data, bytes.size, 0), bytes.size);
    shutdown(fd, SHUT_WR);
    peer_run(peer, fd, &answer);
    peer_undate(&answer);
    assert_string_equal(answer.bytes, HELLO HELLO); /* its end was seen after both */
    assert_true(answer.closed);
    peer_done(peer, fd, &answer);
}

/* Whose second request has come, and its end behind it, is waited for as ever: what `gone_ms` is
 * for is a body that waits for a place. The clock is a client that ends its side and is cut. */
static void test_half_close_behind_a_second_request(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    (void)state;
    limits.gone_ms = 10;
    struct peer *peer = peer_new(&limits);
    int fd = peer_connect(peer), other = peer_connect(peer);
    peer_send(peer, fd, SLICE(R("GET /hold HTTP/1.1") R("GET /hello HTTP/1.1")), 4096, &answer);
    struct exchange *first = peer->held;
    assert_non_null(first);
    shutdown(fd, SHUT_WR);
    for (uint64_t gone = 1; gone <= 3; gone++) {
        peer_send(peer, other, SLICE(R("GET /hold HTTP/1.1")), 4096, &answer);
        shutdown(other, SHUT_WR);
        while (http_server_stats(peer->server)->timeouts.gone < gone)
            loop_run_once(peer->loop, true);
        close(other);
        other = peer_connect(peer);
    }
    close(other);
    exchange_respond(first, 200, NULL, 0, 0);
    exchange_end(first, NULL, 0);
    peer_run(peer, fd, &answer);
    assert_non_null(strstr(answer.bytes, "200 OK"));
    assert_non_null(strstr(answer.bytes, "hello"));
    peer_done(peer, fd, &answer);
}

/* A client still sending what nobody wants gets its answer, and not a reset. */
static void test_linger(void **state)
{
    enum { BYTES = 500'000 };
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    auto_free char *body = mem_zalloc(BYTES);
    int fd = peer_connect(peer);
    (void)state;
    peer_send(peer, fd, SLICE(POST("/deny", "Content-Length: 5000000\r\n\r\n")), 4096, &answer);
    peer_send(peer, fd, (struct slice){ body, BYTES }, BYTES, &answer);
    peer_undate(&answer);
    assert_non_null(strstr(answer.bytes, "Connection: close\r\n\r\ndenied"));
    assert_int_equal(http_server_stats(peer->server)->open, 1);
    peer_send(peer, fd, (struct slice){ body, BYTES }, BYTES, &answer);
    peer_send(peer, fd, (struct slice){ body, BYTES }, BYTES, &answer);
    assert_int_equal(http_server_stats(peer->server)->open, 0); /* enough is enough */
    peer_done(peer, fd, &answer);
}

/* More than one read of pipelined requests: all answered, in order, in bounded memory. */
static void test_pipeline(void **state)
{
    enum { COUNT = 2000, BYTES = sizeof R("GET /hello HTTP/1.1") - 1 };
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    auto_free char *requests = mem_alloc(COUNT * BYTES);
    int fd = peer_connect(peer);
    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        memcpy(requests + i * BYTES, R("GET /hello HTTP/1.1"), BYTES);
    peer_send(peer, fd, (struct slice){ requests, COUNT * BYTES }, COUNT * BYTES, &answer);
    assert_int_equal(peer->stats.closed_well, COUNT);
    size_t seen = 0;
    for (const char *at = answer.bytes; (at = strstr(at, "\r\n\r\nhello")); at++)
        seen++;
    assert_int_equal(seen, COUNT);
    peer_done(peer, fd, &answer);
}

static void refuse(struct arena *arena, const struct http_request *request, const struct err *err,
                   struct http_refusal *ret, void *data)
{
    (void)data;
    ret->headers = ARENA_NEW(arena, struct http_header);
    ret->headers[0] = HTTP_HEADER("Perigee-Error", slice_of(err_info(err->code)->name));
    ret->count = 1;
    ret->body = slice_of(arena_format(arena, "{%.*s}", SLICE_FMT(request->target)));
}

static void test_refusal(void **state)
{
    struct http_server_limits limits = http_server_limits_default();
    struct peer_answer answer = {};
    (void)state;
    struct peer *peer = peer_new(NULL);
    http_server_free(peer->server);
    peer->server = http_server_new(
        peer->loop, &limits,
        &(struct http_server_events){ .on_head = peer_head, .on_refusal = refuse }, peer);
    int fd = peer_connect(peer);
    peer_send(peer, fd, SLICE("GET /x HTTP/1.1\r\n\r\n"), 4096, &answer);
    peer_undate(&answer);
    assert_string_equal(answer.bytes, "HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n"
                                      "Connection: close\r\nPerigee-Error: bad_input\r\n\r\n{/x}");
    peer_done(peer, fd, &answer);
}

static void set(void *data)
{
    *(bool *)data = true;
}

static void test_drain(void **state)
{
    struct peer *peer = peer_new(NULL);
    struct peer_answer idle = {}, busy = {};
    int idle_fd = peer_connect(peer), busy_fd = peer_connect(peer);
    bool drained = false;
    (void)state;
    peer_send(peer, idle_fd, SLICE(R("GET /hello HTTP/1.1")), 4096, &idle);
    peer_send(peer, busy_fd, SLICE(R("GET /hold HTTP/1.1")), 4096, &busy);
    http_server_drain(peer->server, 0, set, &drained);
    assert_false(drained);
    peer_run(peer, idle_fd, &idle);
    assert_true(idle.closed);
    assert_false(drained);
    exchange_reply(peer->held, 200, NULL, 0, SLICE("hello"));
    peer_run(peer, busy_fd, &busy);
    peer_undate(&busy);
    assert_string_equal(busy.bytes, BYE);
    assert_true(drained);
    free(idle.bytes);
    free(busy.bytes);
    close(idle_fd);
    close(busy_fd);
    peer_free(peer);
}

/* With some grace an idle connection is asked once more, and told that it was the last time; one
 * that asks nothing is closed when the grace is over. */
static void test_drain_with_grace(void **state)
{
    struct peer *peer = peer_new(NULL);
    struct peer_answer first = {}, last = {}, silent = {};
    int fd = peer_connect(peer), silent_fd = peer_connect(peer);
    bool drained = false;
    (void)state;
    peer_send(peer, fd, SLICE(R("GET /hello HTTP/1.1")), 4096, &first);
    peer_send(peer, silent_fd, SLICE(R("GET /hello HTTP/1.1")), 4096, &silent);
    http_server_drain(peer->server, 200, set, &drained);
    peer_send(peer, fd, SLICE(R("GET /hello HTTP/1.1")), 4096, &last);
    peer_run(peer, fd, &last);
    peer_undate(&last);
    assert_string_equal(last.bytes, BYE);
    assert_true(last.closed);
    assert_false(drained);
    peer_run_until_closed(peer, silent_fd, &silent);
    peer_run(peer, -1, &silent);
    assert_true(drained);
    free(first.bytes);
    free(last.bytes);
    free(silent.bytes);
    close(fd);
    close(silent_fd);
    peer_free(peer);
}

/* The server goes with exchanges under way: each hears of it. peer_free() counts. */
static void test_freed(void **state)
{
    struct peer *peer = peer_new(NULL);
    struct peer_answer answer = {};
    int fd = peer_connect(peer), other = peer_connect(peer);
    (void)state;
    peer_send(peer, fd, SLICE(R("GET /hold HTTP/1.1")), 4096, &answer);
    exchange_respond(peer->held, 200, NULL, 0, PEER_BODY_MAX);
    exchange_write(peer->held, &(struct iovec){ peer->body, PEER_BODY_MAX }, 1, peer_written, peer);
    peer_free(peer);
    free(answer.bytes);
    close(fd);
    close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_linger),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_with_grace),
        cmocka_unit_test(test_half_close_behind_a_second_request),
        cmocka_unit_test(test_freed),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_gone_while_paused),
    };
    return cmocka_run_group_tests_name("http_server", tests, NULL, NULL);
}
