/* SPDX-License-Identifier: Apache-2.0 */
/* The client against the server of http_peer.h on one loop, and against raw answers. */
#include "http/client.h"
#include "http_peer.h"
#include "io/work.h"

struct reply {
    struct peer *peer;
    int status;
    char body[4096];
    size_t size, heads;
    unsigned done, written;
    int code;        /* of the error */
    int pause_after; /* pieces, then http_call_pause(); -1: never */
    bool cancel;
    int64_t length;
};

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct reply *reply = data;
    (void)call;
    reply->heads++;
    reply->status = response->status;
    reply->length = (int64_t)response->content_length;
}

static void on_body(struct http_call *call, struct slice bytes, void *data)
{
    struct reply *reply = data;
    assert_true(reply->size + bytes.size < sizeof reply->body);
    memcpy(reply->body + reply->size, bytes.data, bytes.size);
    reply->size += bytes.size;
    if (reply->pause_after > 0 && --reply->pause_after == 0)
        http_call_pause(call);
    if (reply->cancel)
        http_call_cancel(call);
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct reply *reply = data;
    (void)call;
    reply->done++;
    reply->code = err ? err->code : 0;
    if (err)
        print_message("    %s\n", err->message);
}

static const struct http_call_events events = { on_head, on_body, on_done };

static void on_sent(struct http_call *call, const struct err *err, void *data)
{
    struct reply *reply = data;
    (void)call;
    (void)err;
    reply->written++;
}

static int listen_any(struct address *ret)
{
    struct sockaddr_storage name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(0, address_parse(SLICE("127.0.0.1:0"), ret, NULL));
    socklen_t size = address_to(ret, &name);
    assert_int_equal(0, bind(fd, (struct sockaddr *)&name, size));
    assert_int_equal(0, listen(fd, 16));
    size = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &size);
    address_from(&name, size, ret);
    return fd;
}

/* A client, a server, and a listener that is not the server's until it is given it. */
struct pair {
    struct peer *peer;
    struct http_client *client; /* NULL once a test has freed it */
    struct address address;
    int fd; /* -1 likewise */
};

static struct pair pair_new(const struct http_server_limits *limits,
                            const struct http_client_config *config)
{
    struct pair pair = { .peer = peer_new(limits) };
    pair.fd = listen_any(&pair.address);
    pair.client = http_client_new(pair.peer->loop, config);
    return pair;
}

/* The same, and the server listens. */
static struct pair pair_served(const struct http_server_limits *limits,
                               const struct http_client_config *config)
{
    struct pair pair = pair_new(limits, config);
    http_server_listen(pair.peer->server, pair.fd);
    return pair;
}

static void pair_free(struct pair *pair)
{
    if (pair->client)
        http_client_free(pair->client);
    peer_free(pair->peer);
    if (pair->fd >= 0)
        close(pair->fd);
}

static void run_until(struct pair *pair, const unsigned *count, unsigned wanted)
{
    while (*count < wanted)
        loop_run_once(pair->peer->loop, true);
}

static struct http_call *get(struct pair *pair, const char *method, const char *target,
                             const char *body, struct reply *reply)
{
    return http_client_call(pair->client,
                            &(struct http_request_spec){
                                .address = &pair->address,
                                .method = method,
                                .target = slice_of(target),
                                .body = slice_of(body),
                            },
                            &events, reply);
}

static void test_calls(void **state)
{
    struct pair pair = pair_served(NULL, &(struct http_client_config){});
    struct reply reply = {};
    (void)state;

    get(&pair, "GET", "/hello", NULL, &reply);
    assert_int_equal(reply.done, 0);
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.code, 0);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "hello");

    /* over the same connection */
    reply = (struct reply){};
    get(&pair, "POST", "/echo", "what is said", &reply);
    run_until(&pair, &reply.done, 1);
    assert_string_equal(reply.body, "what is said");
    assert_int_equal(http_server_stats(pair.peer->server)->accepted, 1);

    reply = (struct reply){};
    get(&pair, "HEAD", "/hello", NULL, &reply);
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.size, 0);
    assert_int_equal(reply.status, 200);

    reply = (struct reply){};
    get(&pair, "GET", "/hint", NULL, &reply); /* 103 is not for us */
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.heads, 1);
    assert_string_equal(reply.body, "a");

    reply = (struct reply){};
    struct http_request_spec hint = {
        .address = &pair.address, .method = "GET", .target = SLICE("/hint"), .informed = true
    };
    http_client_call(pair.client, &hint, &events, &reply); /* now it is */
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.heads, 2);
    assert_int_equal(reply.status, 200);

    reply = (struct reply){};
    get(&pair, "GET", "/short", NULL, &reply);
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.code, ERR_OVERLOADED);
    pair_free(&pair);
}

/* Where nobody can reach. */
static void test_no_dialer(void **state)
{
    struct pair pair = pair_new(NULL, &(struct http_client_config){});
    struct reply reply = {};
    struct http_request_spec spec = { .address = &pair.address, .method = "GET", .scope = 7 };
    (void)state;
    http_client_call(pair.client, &spec, &events, &reply);
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.code, ERR_NOT_SUPPORTED);
    pair_free(&pair);
}

/* One that is a connection's last ends it, whatever the server would do. */
static void test_last(void **state)
{
    struct pair pair = pair_new(NULL, &(struct http_client_config){});
    struct reply reply = {};
    (void)state;
    struct http_request_spec spec = {
        .address = &pair.address, .method = "GET", .target = SLICE("/"), .last = true
    };
    http_client_call(pair.client, &spec, &events, &reply);
    loop_run_once(pair.peer->loop, false);
    loop_run_once(pair.peer->loop, false);
    int accepted = accept4(pair.fd, NULL, NULL, SOCK_CLOEXEC);
    char head[512] = "";
    assert_true(recv(accepted, head, sizeof head - 1, 0) > 0);
    assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_int_equal(send(accepted, ok, sizeof ok - 1, MSG_NOSIGNAL), sizeof ok - 1);
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.code, 0);
    loop_run_once(pair.peer->loop, false);
    assert_int_equal(recv(accepted, head, sizeof head, MSG_DONTWAIT), 0);
    close(accepted);
    pair_free(&pair);
}

struct left {
    unsigned count;
    struct address address;
};

static void on_left(const struct address *address, void *data)
{
    struct left *left = data;
    left->count++;
    left->address = *address;
}

/* A kept connection that the server closed meanwhile is not used again, seen or unseen; seen, it is
 * told. */
static void test_kept(void **state)
{
    struct left left = {};
    struct http_server_limits limits = http_server_limits_default();
    struct reply reply = {};
    (void)state;
    limits.idle_ms = 5;
    struct pair pair =
        pair_served(&limits, &(struct http_client_config){ .on_left = on_left, .data = &left });
    for (unsigned i = 1; i <= 3; i++) {
        get(&pair, "GET", "/hello", NULL, &reply);
        run_until(&pair, &reply.done, i);
        assert_int_equal(reply.code, 0);
        assert_in_range(left.count, i > 1, i - 1);
        assert_true(left.count == 0 || address_equal(&left.address, &pair.address));
        if (i == 2) /* both sides find it in the same pass: the loop stands while time passes */
            peer_time_passes(10);
        else
            while (http_server_stats(pair.peer->server)->open)
                loop_run_once(pair.peer->loop, true);
    }
    /* In the same pass libuv looks at timers or at sockets first: the third request may come before
     * the server's idle time is looked at, and is answered there. */
    assert_in_range(http_server_stats(pair.peer->server)->accepted, 2, 3);
    pair_free(&pair);
}

static void test_streaming(void **state)
{
    struct pair pair = pair_served(NULL, &(struct http_client_config){});
    struct reply reply = { .pause_after = 1 };
    (void)state;
    struct http_call *call = http_client_call(pair.client,
                                              &(struct http_request_spec){
                                                  .address = &pair.address,
                                                  .method = "POST",
                                                  .target = SLICE("/stream"),
                                                  .streamed = true,
                                                  .content_length = HTTP_LENGTH_UNKNOWN,
                                              },
                                              &events, &reply);
    http_call_write(call, &(struct iovec){ (void *)"one,", 4 }, 1, on_sent, &reply);
    run_until(&pair, &pair.peer->stats.written, 1);
    while (reply.size < 4)
        loop_run_once(pair.peer->loop, true);
    assert_int_equal(reply.written, 1);
    http_call_write(call, &(struct iovec){ (void *)"two", 3 }, 1, on_sent, &reply);
    http_call_end(call);
    run_until(&pair, &pair.peer->stats.closed_well, 1);
    for (int i = 0; i < 5; i++)
        loop_run_once(pair.peer->loop, false);
    assert_int_equal(reply.size, 4); /* paused */
    assert_int_equal(reply.done, 0);
    http_call_resume(call);
    run_until(&pair, &reply.done, 1);
    assert_string_equal(reply.body, "one,two");
    assert_int_equal(reply.length, (int64_t)HTTP_LENGTH_UNKNOWN);
    assert_int_equal(reply.written, 2);
    pair_free(&pair);
}

/* Cancel while connecting, while waiting, within an answer; a client freed with a call under way.
 */
static void test_cancel(void **state)
{
    struct pair pair = pair_served(NULL, &(struct http_client_config){});
    struct reply replies[4] = { {}, {}, { .cancel = true }, {} };
    (void)state;
    http_call_cancel(get(&pair, "GET", "/hello", NULL, &replies[0]));
    assert_int_equal(replies[0].done, 0);
    run_until(&pair, &replies[0].done, 1);
    assert_int_equal(replies[0].code, ERR_CANCELED);

    struct http_call *call = get(&pair, "GET", "/hold", NULL, &replies[1]);
    run_until(&pair, &pair.peer->stats.heads, 1);
    http_call_cancel(call);
    run_until(&pair, &replies[1].done, 1);
    assert_int_equal(replies[1].code, ERR_CANCELED);
    run_until(&pair, &pair.peer->stats.closed_badly, 1);

    get(&pair, "GET", "/hello", NULL, &replies[2]);
    run_until(&pair, &replies[2].done, 1);
    assert_int_equal(replies[2].code, ERR_CANCELED);

    get(&pair, "GET", "/hold", NULL, &replies[3]);
    run_until(&pair, &pair.peer->stats.heads, 3);
    http_client_free(take_ptr(pair.client));
    assert_int_equal(replies[3].done, 1);
    pair_free(&pair);
}

static void test_failures(void **state)
{
    struct pair pair = pair_new(NULL, &(struct http_client_config){ .head_ms = 20 });
    struct reply reply = {};
    (void)state;
    /* nobody accepts: no answer in time */
    get(&pair, "GET", "/hello", NULL, &reply);
    run_until(&pair, &reply.done, 1);
    assert_int_equal(reply.code, ERR_DEADLINE);
    close(pair.fd);
    pair.fd = -1;
    get(&pair, "GET", "/hello", NULL, &reply); /* nobody listens */
    run_until(&pair, &reply.done, 2);
    assert_int_equal(reply.code, ERR_OVERLOADED);
    http_client_call(pair.client,
                     &(struct http_request_spec){
                         .host = SLICE("no.such.host"),
                         .port = 1,
                         .method = "GET",
                         .target = SLICE("/"),
                     },
                     &events, &reply); /* no pool to look it up */
    run_until(&pair, &reply.done, 3);
    assert_int_equal(reply.code, ERR_BAD_INPUT);
    pair_free(&pair);
}

/* A name is looked up on the pool's thread. */
static void test_resolve(void **state)
{
    struct work_pool *pool = work_pool_new("resolve", 1);
    struct pair pair = pair_served(NULL, &(struct http_client_config){ .pool = pool });
    struct reply reply = {}, canceled = {};
    struct http_request_spec spec = {
        .host = SLICE("localhost"),
        .port = pair.address.port,
        .method = "GET",
        .target = SLICE("/hello"),
    };
    (void)state;
    http_client_call(pair.client, &spec, &events, &reply);
    run_until(&pair, &reply.done, 1);
    assert_string_equal(reply.body, "hello");
    struct http_call *call = http_client_call(pair.client, &spec, &events, &canceled);
    loop_run_once(pair.peer->loop, false);
    http_call_cancel(call);
    run_until(&pair, &canceled.done, 1);
    http_client_free(take_ptr(pair.client));
    work_pool_free(pool);
    loop_run_once(pair.peer->loop, false); /* what the pool reported last */
    pair_free(&pair);
}

/* clang-format off */
static const struct {
    const char *name, *answer;
    int status, code;
    const char *body;
} raw_rows[] = {
    { "until the end", "HTTP/1.1 200 OK\r\n\r\nabc", 200, 0, "abc" },
    { "1.0", "HTTP/1.0 200 OK\r\n\r\nabc", 200, 0, "abc" },
    { "a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 200, 0, "ab" },
    { "more than its length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", 200, 0, "ab" },
    { "less than its length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", 200,
      ERR_OVERLOADED, "abc" },
    { "chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200, 0,
      "a" },
    { "chunks without an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
      200, ERR_OVERLOADED, "a" },
    { "a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", 200,
      ERR_INTERNAL, "a" },
    { "both framings",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 0, ERR_INTERNAL,
      "" },
    { "no body in 204", "HTTP/1.1 204 No Content\r\n\r\n", 204, 0, "" },
    { "100 first",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
      404, 0, "" },
    { "101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 0,
      ERR_INTERNAL, "" },
    { "no HTTP", "SSH-2.0-x\r\n", 0, ERR_INTERNAL, "" },
    { "nothing", "", 0, ERR_OVERLOADED, "" },
};
/* clang-format on */

static void test_raw(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof raw_rows / sizeof *raw_rows; i++) {
        struct pair pair = pair_new(NULL, &(struct http_client_config){});
        struct reply reply = {};
        print_message("  %s\n", raw_rows[i].name);
        get(&pair, "POST", "/", "x", &reply);
        loop_run_once(pair.peer->loop, false);
        loop_run_once(pair.peer->loop, false);
        int accepted = accept4(pair.fd, NULL, NULL, SOCK_CLOEXEC);
        assert_true(accepted >= 0);
        for (const char *at = raw_rows[i].answer; *at; at++) {
            (void)!send(accepted, at, 1, MSG_NOSIGNAL); /* it may have hung up on bad ones */
            loop_run_once(pair.peer->loop, false);
        }
        shutdown(accepted, SHUT_WR);
        run_until(&pair, &reply.done, 1);
        close(accepted);
        assert_int_equal(reply.code, raw_rows[i].code);
        assert_int_equal(reply.status, raw_rows[i].status);
        assert_string_equal(reply.body, raw_rows[i].body);
        pair_free(&pair);
    }
}

/* Where it dials from is what the server sees; a Unix socket has no such thing. */
static void test_source(void **state)
{
    struct http_client_config config = {};
    struct reply reply = {};
    (void)state;
    assert_int_equal(setenv(HTTP_SOURCE_ENVIRONMENT, "127.0.1.7", 1), 0);
    config.source = http_source_of_environment();
    struct pair pair = pair_served(NULL, &config);
    get(&pair, "GET", "/hold", NULL, &reply);
    run_until(&pair, &pair.peer->stats.heads, 1);
    const struct address *seen = exchange_peer(pair.peer->held);
    assert_memory_equal(seen->ip, "\x7f\0\1\7", 4);
    assert_int_not_equal(seen->port, 0);
    pair_free(&pair);
    assert_int_equal(setenv(HTTP_SOURCE_ENVIRONMENT, "nowhere", 1), 0);
    assert_int_equal(http_source_of_environment().kind, ADDRESS_NONE);
    assert_int_equal(unsetenv(HTTP_SOURCE_ENVIRONMENT), 0);
    assert_int_equal(http_source_of_environment().kind, ADDRESS_NONE);
}

static const struct {
    const char *url, *authority, *host, *base;
    unsigned port;
} urls[] = {
    { "http://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", "", 8080 },
    { "http://a.b/x/", "a.b", "a.b", "/x", 80 },
    { "http://[::1]:1/", "[::1]:1", "::1", "", 1 },
    { "unix:/run/x", "localhost", "localhost", "", 0 },
    { "https://a", NULL, NULL, NULL, 0 },
    { "http://", NULL, NULL, NULL, 0 },
    { "http://a:x", NULL, NULL, NULL, 0 },
    { "a:80", NULL, NULL, NULL, 0 },
};

static void test_urls(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct http_url url;
        struct err err;
        print_message("  %s\n", urls[i].url);
        int r = http_url_parse(slice_of(urls[i].url), &url, &err);
        assert_int_equal(r < 0, urls[i].host == NULL);
        if (r < 0)
            continue;
        assert_true(slice_is(url.authority, urls[i].authority));
        assert_true(slice_is(url.host, urls[i].host));
        assert_true(slice_is(url.base, urls[i].base));
        assert_int_equal(url.port, urls[i].port);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),     cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_cancel),    cmocka_unit_test(test_failures),
        cmocka_unit_test(test_resolve),   cmocka_unit_test(test_raw),
        cmocka_unit_test(test_urls),      cmocka_unit_test(test_kept),
        cmocka_unit_test(test_no_dialer), cmocka_unit_test(test_last),
        cmocka_unit_test(test_source),
    };
    return cmocka_run_group_tests_name("http_client", tests, NULL, NULL);
}
