/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's process, whole, in this one: HTTP in, rings and messages out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <poll.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "gateway_case.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

static void begin(struct world *world, struct fake *fake, const struct world_endpoint *endpoint)
{
    *world = (struct world){};
    case_begin(world, fake, endpoint, 1, FAKE_RIGHT);
}

static void expect(struct reply *reply, int status, const char *part)
{
    case_answer(reply, status, part);
    reply_free(reply);
}

static void infer(struct world *world, const char *headers, const char *body, int status,
                  const char *part)
{
    struct reply reply = world_infer(world, headers, body);

    expect(&reply, status, part);
}

/* The gateway asks for its end; another takes its place. */
static void replaced(struct world *world, struct fake *fake, struct fake *next, uint32_t end)
{
    union message message;

    world_expect(world, false, MESSAGE_REPLICA_KILL, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_KILL.end, end);
    fake_exit(world, fake);
    fake_start(world, next, 8, WORLD_REVISION(0, 1), 2);
}

/* ---- calls ---------------------------------------------------------------------------- */

#define GET(path, headers) "GET " path " HTTP/1.1\r\n" headers "\r\n"
#define POST(path, headers, body, length)                                                          \
    "POST " path " HTTP/1.1\r\n" headers "Content-Length: " length "\r\n\r\n" body
#define LOCAL "Host: localhost:8000\r\n"

/* clang-format off */
static const struct {
    const char *name, *request;
    int status;
    const char *part;
} calls[] = {
    { "live", GET("/v2/health/live", LOCAL), 200, "true" },
    { "ready", GET("/v2/health/ready", LOCAL), 200, "true" },
    { "server", GET("/v2", LOCAL), 200, "\"extensions\"" },
    { "metadata", GET("/v2/models/digits", LOCAL), 200, "\"probabilities\"" },
    { "metadata of a version", GET("/v2/models/digits/versions/1", LOCAL), 200, "\"1\"" },
    { "no such version", GET("/v2/models/digits/versions/9", LOCAL), 404, "not_found" },
    { "model ready", GET("/v2/models/digits/ready", LOCAL), 200, "true" },
    { "config", GET("/v2/models/digits/config", LOCAL), 200, "TYPE_FP32" },
    { "stats", GET("/v2/models/digits/stats", LOCAL), 200, "model_stats" },
    { "stats of all", GET("/v2/models/stats", LOCAL), 200, "digits" },
    { "no such model", GET("/v2/models/nothing", LOCAL), 404, "nothing" },
    { "no such path", GET("/v3", LOCAL), 404, "not_found" },
    { "not by this method", GET("/v2/models/digits/infer", LOCAL), 405, "llow: POST" },
    { "infer without a length", "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL "\r\n", 411, "send a Content-Length" },
    { "index", POST("/v2/repository/index", LOCAL, "{}", "2"), 200, "READY" },
    { "index of the ready", POST("/v2/repository/index", LOCAL, "{\"ready\":true}", "14"), 200,
      "digits" },
    { "trace", GET("/v2/trace/setting", LOCAL), 501, "not_supported" },
    { "shared memory", GET("/v2/systemsharedmemory/status", LOCAL), 200, "[]" },
    { "own host", GET("/v2/models/digits", "Host: digits.localhost\r\n"), 200, "image" },
    { "own host in the zone", GET("/v2/models/digits", "Host: DIGITS.perigee.test:8000\r\n"), 200,
      "image" },
    { "a domain", GET("/v2/models/digits", "Host: ml.example.com\r\n"), 200, "image" },
    { "an alias", GET("/v2/models/org%2FDigits", LOCAL), 200, "image" },
    { "unknown under the zone", GET("/v2", "Host: other.perigee.test\r\n"), 404, "not_found" },
    { "own host answers for its own name", GET("/v2/models/other", "Host: digits.localhost\r\n"), 404,
      "not_found" },
    { "a host none of ours", GET("/v2", "Host: evil.example\r\n"), 421, "misdirected" },
    { "an address", GET("/v2", "Host: 192.168.1.2:8000\r\n"), 200, "perigee" },
    { "by header", GET("/v2/models/digits", LOCAL "Perigee-Endpoint: digits\r\n"), 200, "image" },
    { "by a wrong header", GET("/v2", LOCAL "Perigee-Endpoint: nothing\r\n"), 404, "nothing" },
    { "a foreign page", GET("/v2", LOCAL "Origin: https://evil.example\r\n"), 403,
      "a page of 'https://evil.example' may not" },
    { "a foreign page of no origin", GET("/v2", LOCAL "Origin: null\r\n"), 403, "forbidden" },
    { "from another site", GET("/v2", LOCAL "Sec-Fetch-Site: cross-site\r\n"), 403,
      "a page of another site may not" },
    { "its own page", GET("/v2", LOCAL "Origin: http://localhost:8000\r\n"), 200, "perigee" },
    { "a page that is named", GET("/v2/models/digits", LOCAL "Origin: https://app.example\r\n"), 200,
      "Access-Control-Allow-Origin: https://app.example" },
    { "a preflight", "OPTIONS /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
      "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n\r\n", 204,
      "Access-Control-Allow-Methods" },
    { "a foreign preflight", "OPTIONS /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
      "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n", 403,
      "forbidden" },
    { "an id is kept", GET("/v2", LOCAL "X-Request-Id: abc.DEF-1_2\r\n"), 200,
      "X-Request-Id: abc.DEF-1_2" },
    { "a header misspelt", POST("/v2/models/digits/infer", LOCAL "perigee-proces-in: EU\r\n", "{}",
      "2"), 501, "perigee-proces-in" },
    { "a residency", POST("/v2/models/digits/infer", LOCAL "Perigee-Process-In: EU\r\n", "{}", "2"),
      451, "Connection: close" },
    { "a residency, why", POST("/v2/models/digits/infer", LOCAL "Perigee-Process-In: EU\r\n", "{}", "2"),
      451, "at PoP 'local' (without a country); permitted PoPs: paris" },
    { "a residency of another", POST("/v2/models/digits/infer", LOCAL "Perigee-Process-In: CH\r\n", "{}",
      "2"), 451, "no PoP is permitted" },
    { "a residency of no country", POST("/v2/models/digits/infer", LOCAL "Perigee-Process-In: UK\r\n",
      "{}", "2"), 400, "Perigee-Process-In: 'UK' is no country's code; the United" },
    { "a residency twice", POST("/v2/models/digits/infer", LOCAL
      "Perigee-Process-In: any\r\nPerigee-Process-In: EU\r\n", "{}", "2"), 400, "came twice" },
    { "a residency where no endpoint is asked", GET("/v2", LOCAL "Perigee-Process-In: EU\r\n"), 451,
      "this PoP: the request (Perigee-Process-In)" },
    { "no JSON", POST("/v2/models/digits/infer", LOCAL, "{\"a", "3"), 400, "bad_input" },
    { "too large", "POST /v2/models/digits/infer HTTP/1.1\r\n" LOCAL
      "Content-Length: 5000000\r\n\r\n", 413, "too_large" },
    { "a wrong length of JSON", POST("/v2/models/digits/infer", LOCAL
      "Inference-Header-Content-Length: 9\r\n", "{}", "2"), 400, "Inference-Header" },
    { "not HTTP", "GET /v2 HTTP/1.1\r\nHost localhost\r\n\r\n", 400, "bad_input" },
};

/* clang-format on */

static void test_calls(void **state)
{
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &case_digits);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        print_message("  %s\n", calls[i].name);
        struct reply reply = world_ask(&world, calls[i].request, strlen(calls[i].request));
        expect(&reply, calls[i].status, calls[i].part);
    }
    case_end(&world, &fake);
}

/* ---- inference ------------------------------------------------------------------------ */

static struct reply ask_binary(struct world *world, uint32_t rows, const char *more, size_t step)
{
    char json[512];
    int json_size =
        snprintf(json, sizeof json,
                 "{\"inputs\":[{\"name\":\"image\",\"shape\":[%u,4],\"datatype\":\"FP32\","
                 "\"parameters\":{\"binary_data_size\":%u}}],"
                 "\"parameters\":{\"binary_data_output\":true}}",
                 rows, rows * 16);
    char *request = malloc(2048 + rows * 16ul);
    int size = snprintf(request, 2048,
                        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: digits.localhost\r\n%s"
                        "Inference-Header-Content-Length: %d\r\nContent-Length: %zu\r\n\r\n%s",
                        more, json_size, (size_t)json_size + rows * 16ul, json);
    for (uint32_t i = 0; i < rows * 4; i++) {
        float value = (float)((i * 2654435761u) >> 24);
        memcpy(request + size + i * 4, &value, 4);
    }
    size_t all = (size_t)size + rows * 16ul;
    int fd = world_connect(world);
    for (size_t done = 0; done < all;) {
        size_t part = step && done >= (size_t)size && all - done > step ? step : all - done;
        if (done < (size_t)size)
            part = (size_t)size - done;
        ssize_t n = write(fd, request + done, part);
        assert_true(n > 0);
        done += (size_t)n;
        if (step) /* the next part is a read of its own */
            world_pass(world);
    }
    struct reply reply = world_read(fd);
    close(fd);
    free(request);
    return reply;
}

static void check_binary(struct reply *reply, uint32_t rows)
{
    const char *length = strcasestr(reply->text, "inference-header-content-length:");

    if (reply->status != 200 || !length)
        fail_msg("%s", reply->text);
    size_t json = strtoul(length + 32, NULL, 10);
    assert_int_equal(reply->body_bytes, json + rows * 8ul + rows * 16ul);
    const char *labels = reply->body + json, *numbers = labels + rows * 8ul;
    for (uint32_t i = 0; i < rows; i++) {
        float row[4];
        int64_t label, best = 0;
        memcpy(row, numbers + i * 16ul, 16);
        memcpy(&label, labels + i * 8ul, 8);
        for (int64_t k = 0; k < 4; k++) {
            assert_true(row[k] == (float)(((i * 4 + (uint32_t)k) * 2654435761u) >> 24));
            best = row[k] > row[best] ? k : best;
        }
        assert_int_equal(label, best);
    }
    reply_free(reply);
}

static void test_infer(void **state)
{
    struct world world;
    struct fake fake;
    struct reply reply;
    (void)state;

    begin(&world, &fake, &case_digits);
    for (int i = 0; i < 20; i++) {
        reply = world_infer(&world, "", CASE_ROW);
        expect(&reply, 200, "\"data\":[2]");
    }
    reply = world_infer(&world, "", CASE_ROW);
    assert_non_null(strstr(reply.text, "Server-Timing: queue;dur="));
    assert_non_null(strstr(reply.text, "Perigee-Revision: 1"));
    assert_non_null(strstr(reply.text, "Perigee-Pop: local"));
    expect(&reply, 200, "[0.0,1.0,7.0,2.0]");
    static const uint32_t rows[] = { 1, 3, 64, 5000, 30'000 };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        reply = ask_binary(&world, rows[i], "", 0);
        check_binary(&reply, rows[i]);
        reply = ask_binary(&world, rows[i], "", 60'000);
        check_binary(&reply, rows[i]);
    }
    infer(&world, "",
          "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\","
          "\"data\":[0,1,7,2]}],\"parameters\":{\"priority\":1}}",
          200, "\"data\":[2]");
    infer(&world, "",
          "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,3],\"datatype\":\"FP32\","
          "\"data\":[0,1,7]}]}",
          400, "shape");
    atomic_store(&fake.mode, FAKE_REFUSES);
    infer(&world, "", CASE_ROW, 400, "the model's own words");
    case_end(&world, &fake);
}

struct line {
    const char *wanted;
    bool tell;
};

static bool line_is_there(struct world *world, void *data)
{
    const struct line *line = data;
    struct arena *arena = arena_new();
    void *memory;
    struct err err;

    assert_int_equal(shm_map(world->metrics_fd, gateway_region_bytes(), false, &memory, &err), 0);
    struct slice text = gateway_metrics_print(arena, memory, gateway_region_bytes());
    char *copy = arena_string(arena, text);
    bool found = strstr(copy, line->wanted) != NULL;
    if (!found && line->tell)
        print_error("no '%s' in:\n%s", line->wanted, copy);
    shm_unmap(memory, gateway_region_bytes());
    arena_free(arena);
    return found;
}

/* It comes when the exchange has closed, which is after its answer. */
static void metrics_has(struct world *world, const char *wanted)
{
    struct line line = { wanted, false };

    if (world_until(world, line_is_there, &line))
        return;
    line.tell = true;
    assert_true(line_is_there(world, &line));
}

static void test_counters_and_copies(void **state)
{
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &case_digits);
    for (int i = 0; i < 100; i++) {
        struct reply reply = ask_binary(&world, 500, "", 0);
        check_binary(&reply, 500);
    }
    case_end(&world, &(struct fake){});
    fake_free(&fake);
}

static void test_metrics_survive(void **state)
{
    struct world world;
    struct fake fake;
    struct reply reply;
    union message message;
    (void)state;

    begin(&world, &fake, &case_digits);
    for (int i = 0; i < 3; i++) {
        reply = ask_binary(&world, 5, "", 0);
        check_binary(&reply, 5);
    }
    infer(&world, "", "{", 400, NULL);
    metrics_has(&world,
                "perigee_requests_total{project=\"default\",endpoint=\"digits\",code=\"200\"} 3");
    metrics_has(&world, "error=\"bad_input\"} 1");
    /* The next gateway: the other lane set, the same replica, the same counters. */
    world_stop(&world);
    world_start(&world, 2);
    world_table(&world, 1, &case_digits, 1);
    fake_added(&world, &fake, 2);
    world_go(&world);
    world_expect(&world, true, MESSAGE_REPLICA_READY, &message);
    for (int i = 0; i < 2; i++) {
        reply = ask_binary(&world, 5, "", 0);
        check_binary(&reply, 5);
    }
    metrics_has(&world,
                "perigee_requests_total{project=\"default\",endpoint=\"digits\",code=\"200\"} 5");
    metrics_has(&world, "perigee_gateway_starts_total 2");
    reply = world_ask(&world, GET("/v2/models/digits/stats", LOCAL),
                      strlen(GET("/v2/models/digits/stats", LOCAL)));
    expect(&reply, 200, "\"inference_count\":5");
    case_end(&world, &fake);
}

/* ---- replicas that fail --------------------------------------------------------------- */

static void test_timeout_then_kill_then_again(void **state)
{
    struct world world;
    struct fake fake, next = {};
    (void)state;

    begin(&world, &fake, &case_digits);
    atomic_store(&fake.mode, FAKE_SILENT);
    infer(&world, "", CASE_ROW, 504, "deadline");
    replaced(&world, &fake, &next, REPLICA_END_TIMEOUT);
    infer(&world, "", CASE_ROW, 200, "\"data\":[2]"); /* waits until it is ready */
    infer(&world, "Perigee-Timeout: 20s\r\n", CASE_ROW, 200, NULL);
    atomic_store(&next.mode, FAKE_SILENT);
    infer(&world, "Perigee-Timeout: 100ms\r\n", CASE_ROW, 504, "deadline passed");
    case_end(&world, &next);
}

struct asker {
    struct world *world;
    pthread_t thread;
    const char *headers;
    struct reply reply;
};

static void *asker_run(void *data)
{
    struct asker *asker = data;

    asker->reply = world_infer(asker->world, asker->headers, CASE_ROW);
    return NULL;
}

static void ask_all(struct world *world, struct asker *askers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        askers[i] = (struct asker){ .world = world, .headers = "" };
        pthread_create(&askers[i].thread, NULL, asker_run, &askers[i]);
    }
}

static unsigned count_status(struct asker *askers, size_t count, int status)
{
    unsigned found = 0;

    for (size_t i = 0; i < count; i++)
        found += askers[i].reply.status == status;
    return found;
}

static void join_all(struct asker *askers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pthread_join(askers[i].thread, NULL);
}

static void test_a_dead_replica_is_tried_again_once(void **state)
{
    struct world world;
    struct fake fake, next = {}, third = {};
    struct asker askers[2];
    (void)state;

    begin(&world, &fake, &case_digits);
    atomic_store(&fake.mode, FAKE_SILENT);
    ask_all(&world, askers, 2);
    fake_await_taken(&fake, 2);
    fake_exit(&world, &fake);
    fake_start(&world, &next, 8, WORLD_REVISION(0, 1), 2);
    join_all(askers, 2);
    assert_int_equal(count_status(askers, 2, 200), 2);
    for (int i = 0; i < 2; i++)
        reply_free(&askers[i].reply);
    atomic_store(&next.mode, FAKE_SILENT);
    ask_all(&world, askers, 1);
    fake_await_taken(&next, 3);
    atomic_store(&third.mode, FAKE_SILENT);
    fake_exit(&world, &next);
    fake_start(&world, &third, 9, WORLD_REVISION(0, 1), 2);
    fake_await_taken(&third, 1);
    fake_exit(&world, &third);
    join_all(askers, 1);
    expect(&askers[0].reply, 502, "replica_died");
    case_end(&world, &(struct fake){});
}

static void test_liars(void **state)
{
    struct world world;
    struct fake fake, next = {};
    struct asker asker[1];
    (void)state;

    begin(&world, &fake, &case_digits);
    atomic_store(&fake.mode, FAKE_NONSENSE);
    infer(&world, "", CASE_ROW, 500, "contradicts");
    atomic_store(&fake.mode, FAKE_ODD_STATUS);
    infer(&world, "", CASE_ROW, 500, "contradicts");
    atomic_store(&fake.mode, FAKE_OTHER_TICKET);
    infer(&world, "", CASE_ROW, 504, "deadline"); /* dropped; so the time runs out */
    atomic_store(&fake.mode, FAKE_LIAR);
    ask_all(&world, asker, 1);
    replaced(&world, &fake, &next, REPLICA_END_LIED);
    join_all(asker, 1);
    expect(&asker[0].reply, 200, "\"data\":[2]");
    case_end(&world, &next);
}

/* Its pipe is always readable: the loop would do nothing else. */
static void test_a_flood_of_wake_ups(void **state)
{
    struct world world;
    struct fake fake, next = {};
    struct asker asker[1];
    (void)state;

    begin(&world, &fake, &case_digits);
    atomic_store(&fake.mode, FAKE_FLOOD);
    ask_all(&world, asker, 1);
    replaced(&world, &fake, &next, REPLICA_END_LIED);
    join_all(asker, 1);
    expect(&asker[0].reply, 200, "\"data\":[2]");
    case_end(&world, &next);
}

/* ---- queues --------------------------------------------------------------------------- */

struct answer {
    int status;
    const char *part;
};

/* One connection for each loop: all of them go by the new table. */
static bool all_answer(struct world *world, void *data)
{
    const struct answer *answer = data;
    bool right = true;

    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        struct reply reply = world_infer(world, "", CASE_ROW);
        right = right && reply.status == answer->status && strstr(reply.text, answer->part);
        reply_free(&reply);
    }
    return right;
}

static void await_answer(struct world *world, int status, const char *part)
{
    struct answer answer = { status, part };

    if (!world_until(world, all_answer, &answer))
        fail_msg("never answered %d with '%s'", status, part);
}

static void test_full_late_and_cold(void **state)
{
    struct world world = {};
    struct fake fake = {};
    struct asker askers[12];
    union message message;
    (void)state;

    world_start(&world, 1);
    world_table(&world, 1, &case_digits, 1);
    world_go(&world);
    /* Nothing runs: demand is told at once, and queue.cold passes. */
    ask_all(&world, askers, 1);
    world_expect(&world, true, MESSAGE_DEMAND, &message);
    assert_int_equal(message.as_MESSAGE_DEMAND.revision, WORLD_REVISION(0, 1));
    assert_int_equal(message.as_MESSAGE_DEMAND.waiting, 1);
    world_expect(&world, false, MESSAGE_ARENA_WANT, &message);
    world_expect(&world, true, MESSAGE_DEMAND, &message); /* again */
    join_all(askers, 1);
    expect(&askers[0].reply, 504, "starting");
    /* A start within it: requests wait for model, arena, replica, and are answered. */
    ask_all(&world, askers, 3);
    world_await_waiting(&world, WORLD_REVISION(0, 1), 3);
    fake_start(&world, &fake, 7, WORLD_REVISION(0, 1), 2);
    join_all(askers, 3);
    assert_int_equal(count_status(askers, 3, 200), 3);
    assert_non_null(strstr(askers[0].reply.text, "cold;dur="));
    for (int i = 0; i < 3; i++)
        reply_free(&askers[i].reply);
    /* 2 run, 4 wait, the others are told to come again; who waits too long is late. */
    atomic_store(&fake.mode, FAKE_SILENT);
    ask_all(&world, askers, 12);
    join_all(askers, 12);
    assert_int_equal(count_status(askers, 12, 503), 6);
    assert_int_equal(count_status(askers, 12, 504), 6);
    for (int i = 0; i < 12; i++) {
        if (askers[i].reply.status == 503)
            assert_non_null(strstr(askers[i].reply.text, "Retry-After: 1"));
        reply_free(&askers[i].reply);
    }
    world_expect(&world, false, MESSAGE_REPLICA_KILL, &message);
    fake_exit(&world, &fake);
    /* A stopped endpoint; then one that failed, with its words; then none. */
    struct world_endpoint changed = case_digits;
    ask_all(&world, askers, 1);
    world_await_waiting(&world, WORLD_REVISION(0, 1), 1);
    changed.state = TABLE_ENDPOINT_STOPPED;
    world_table(&world, 2, &changed, 1);
    join_all(askers, 1);
    expect(&askers[0].reply, 503, "stopped");
    changed = case_digits;
    changed.message = "the file is no ONNX model";
    changed.serving = 0;
    world_table(&world, 3, &changed, 1);
    await_answer(&world, 503, "the file is no ONNX model");
    infer(&world, "", CASE_ROW, 503, "the file is no ONNX model");
    world_table(&world, 4, &changed, 0);
    await_answer(&world, 404, "digits");
    infer(&world, "", CASE_ROW, 404, "digits");
    case_end(&world, &fake);
}

static void test_many_at_once(void **state)
{
    struct world_endpoint deep = case_digits;
    struct world world;
    struct fake fake, second = {};
    enum { ASKERS = 64 };
    static struct asker askers[ASKERS];
    union message message;
    (void)state;

    deep.queue_depth = 1000;
    deep.queue_timeout_ms = deep.timeout_ms = 20'000;
    begin(&world, &fake, &deep);
    fake_start(&world, &second, 8, WORLD_REVISION(0, 1), 2);
    world_expect(&world, true, MESSAGE_REPLICA_READY, &message);
    for (int round = 0; round < 3; round++) {
        uint32_t taken = atomic_load(&fake.taken), second_taken = atomic_load(&second.taken);
        atomic_store(&fake.mode, FAKE_HELD);
        atomic_store(&second.mode, FAKE_HELD);
        ask_all(&world, askers, ASKERS);
        fake_await_taken(&fake, taken + 1);
        fake_await_taken(&second, second_taken + 1);
        fake_release(&fake);
        fake_release(&second);
        join_all(askers, ASKERS);
        assert_int_equal(count_status(askers, ASKERS, 200), ASKERS);
        for (int i = 0; i < ASKERS; i++)
            reply_free(&askers[i].reply);
    }
    assert_true(atomic_load(&fake.served) > 0 && atomic_load(&second.served) > 0);
    /* One is drained: nothing new goes there, and that it is empty is told. */
    struct err err;
    union message drain = { .as_MESSAGE_REPLICA_DRAIN = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN) };
    drain.as_MESSAGE_REPLICA_DRAIN.replica = 8;
    assert_int_equal(
        channel_send(world.agent, &drain, message_size(MESSAGE_REPLICA_DRAIN), NULL, 0, &err), 0);
    world_expect(&world, true, MESSAGE_REPLICA_DRAINED, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_DRAINED.replica, 8);
    uint32_t served = atomic_load(&second.served);
    ask_all(&world, askers, 8);
    join_all(askers, 8);
    assert_int_equal(count_status(askers, 8, 200), 8);
    assert_int_equal(atomic_load(&second.served), served);
    for (int i = 0; i < 8; i++)
        reply_free(&askers[i].reply);
    fake_exit(&world, &second);
    case_end(&world, &fake);
}

/* A new revision serves: who waited for the old one, which has nothing to run on, goes over. */
static void test_waiters_follow_the_traffic(void **state)
{
    struct world_endpoint two = case_digits;
    struct world world;
    struct fake fake, next = {};
    struct asker askers[3];
    union message message;
    (void)state;

    two.revisions = 2;
    begin(&world, &fake, &two);
    fake_exit(&world, &fake);
    ask_all(&world, askers, 3);
    world_await_waiting(&world, WORLD_REVISION(0, 1), 3);
    struct world of_next = world; /* whose arena is another */
    struct err err;
    assert_int_equal(shm_create("next", WORLD_ARENA_BYTES, &of_next.arena_fd, &err), 0);
    fake_prepare(&of_next, &next, 9, WORLD_REVISION(0, 2));
    fake_begin(&world, &next, 2);
    fd_close(&of_next.arena_fd);
    world_expect(&world, true, MESSAGE_REPLICA_READY, &message);
    two.serving = 2;
    world_table(&world, 2, &two, 1);
    join_all(askers, 3);
    for (int i = 0; i < 3; i++) {
        case_answer(&askers[i].reply, 200, "Perigee-Revision: 2");
        reply_free(&askers[i].reply);
    }
    infer(&world, "", CASE_ROW, 200, "\"model_version\":\"2\"");
    case_end(&world, &next);
}

static int repository_ask(struct world *world, const char *request, uint32_t op,
                          struct message_repository *ret)
{
    union message message;
    int fd = world_connect(world);

    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    world_expect(world, true, MESSAGE_REPOSITORY, &message);
    *ret = message.as_MESSAGE_REPOSITORY;
    assert_true(ret->op == op && ret->endpoint == 1);
    return fd;
}

static void repository_done(struct world *world, const struct message_repository *asked, int code,
                            uint64_t table)
{
    union message done = { .as_MESSAGE_REPOSITORY_DONE = MESSAGE_INIT(MESSAGE_REPOSITORY_DONE) };
    struct err err;

    done.as_MESSAGE_REPOSITORY_DONE.request = asked->request;
    done.as_MESSAGE_REPOSITORY_DONE.table = table;
    done.as_MESSAGE_REPOSITORY_DONE.code = code;
    snprintf(done.as_MESSAGE_REPOSITORY_DONE.text, 504, "not now");
    assert_int_equal(
        channel_send(world->agent, &done, message_size(MESSAGE_REPOSITORY_DONE), NULL, 0, &err), 0);
}

static void test_load_and_unload(void **state)
{
    static const char load[] = POST("/v2/repository/models/digits/load", LOCAL, "{}", "2");
    static const char unload[] = POST("/v2/repository/models/digits/unload", LOCAL, "", "0");
    struct message_repository loaded, unloaded;
    struct world world;
    struct fake fake;
    (void)state;

    begin(&world, &fake, &case_digits);
    int first = repository_ask(&world, load, REPOSITORY_LOAD, &loaded);
    int second = repository_ask(&world, unload, REPOSITORY_UNLOAD, &unloaded);
    repository_done(&world, &loaded, 0, 1000);
    repository_done(&world, &unloaded, ERR_CONFLICT, 0);
    struct reply reply = world_read(second);
    expect(&reply, 409, "not now");
    close(second);
    /* The end of the load was read before that. Its table is to come: nobody hears of it yet. */
    world_pass(&world);
    assert_int_equal(poll(&(struct pollfd){ .fd = first, .events = POLLIN }, 1, 0), 0);
    world_table(&world, 1000, &case_digits, 1);
    reply = world_read(first);
    expect(&reply, 200, NULL);
    close(first);
    int fd = repository_ask(&world, load, REPOSITORY_LOAD, &loaded); /* the agent dies meanwhile */
    world_agent_again(&world);
    reply = world_read(fd);
    expect(&reply, 503, "restarting");
    close(fd);
    case_end(&world, &fake);
}

/* A gateway of the same lane set died with a request in the replica: its slot is not given to
 * another before that ended. */
static void test_requests_of_a_dead_gateway(void **state)
{
    struct world world = { .flags = MESSAGE_BESIDE };
    struct fake fake = {};
    union message message;
    struct err err;
    (void)state;

    world_start(&world, 1);
    world_table(&world, 1, &case_digits, 1);
    world_go(&world);
    fake_prepare(&world, &fake, 7, WORLD_REVISION(0, 1));
    atomic_store(&fake.submission->lanes[WORLD_LOOPS + 1].head, 1);
    atomic_store(&fake.submission->lanes[0].head, 1); /* the other set has its own slots */
    atomic_store(&fake.mode, FAKE_SILENT);
    fake_begin(&world, &fake, 2);
    assert_false(world_maybe(&world, true, MESSAGE_REPLICA_READY, 150, &message));
    /* The dead gateway may have been killed between publishing and waking. */
    assert_int_not_equal(atomic_load(&fake.submission->wake), 0);
    struct perigee_completion_lane *lanes = (void *)(fake.output + PERIGEE_COMPLETIONS_OFFSET);
    atomic_store(&lanes[WORLD_LOOPS + 1].head, 1);
    atomic_store(&fake.mode, FAKE_RIGHT);
    world_expect(&world, true, MESSAGE_REPLICA_READY, &message);
    infer(&world, "", CASE_ROW, 200, "\"data\":[2]");
    /* Drained is what neither this gateway uses nor the one that ends beside it. */
    message = (union message){ .as_MESSAGE_REPLICA_DRAIN = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN) };
    message.as_MESSAGE_REPLICA_DRAIN.replica = fake.id;
    assert_int_equal(
        channel_send(world.agent, &message, message_size(MESSAGE_REPLICA_DRAIN), NULL, 0, &err), 0);
    assert_false(world_maybe(&world, true, MESSAGE_REPLICA_DRAINED, 150, &message));
    atomic_store(&lanes[0].head, 1);
    world_expect(&world, true, MESSAGE_REPLICA_DRAINED, &message);
    case_end(&world, &fake);
}

/* It would take the replica for one that serves. */
static void test_a_new_agent_hears_what_is_drained(void **state)
{
    struct world world;
    struct fake fake;
    union message message = { .as_MESSAGE_REPLICA_DRAIN = MESSAGE_INIT(MESSAGE_REPLICA_DRAIN) };
    struct err err;
    (void)state;

    begin(&world, &fake, &case_digits);
    message.as_MESSAGE_REPLICA_DRAIN.replica = fake.id;
    assert_int_equal(
        channel_send(world.agent, &message, message_size(MESSAGE_REPLICA_DRAIN), NULL, 0, &err), 0);
    world_expect(&world, true, MESSAGE_REPLICA_DRAINED, &message);
    world_agent_again(&world);
    world_expect(&world, true, MESSAGE_REPLICA_DRAINED, &message);
    assert_int_equal(message.as_MESSAGE_REPLICA_DRAINED.replica, fake.id);
    case_end(&world, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_infer),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_counters_and_copies),
        cmocka_unit_test(test_metrics_survive),
        cmocka_unit_test(test_timeout_then_kill_then_again),
        cmocka_unit_test(test_a_dead_replica_is_tried_again_once),
        cmocka_unit_test(test_liars),
        cmocka_unit_test(test_a_flood_of_wake_ups),
        cmocka_unit_test(test_full_late_and_cold),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_waiters_follow_the_traffic),
        cmocka_unit_test(test_load_and_unload),
        cmocka_unit_test(test_requests_of_a_dead_gateway),
        cmocka_unit_test(test_a_new_agent_hears_what_is_drained),
    };
    return cmocka_run_group_tests_name("gateway", tests, NULL, NULL);
}
