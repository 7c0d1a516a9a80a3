/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in every form they may have, counted copies, clients that go, a boot from the disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "gateway/target.h"
#include "gateway_case.h"
#include "proto/codec_gzip.h"
#include "proto/text.h"
#include "sys/shm.h"

static const struct world_endpoint digits = {
    .name = "digits",
    .queue_depth = 16,
    .concurrency = 2,
    .queue_timeout_ms = 2000,
    .queue_cold_ms = 3000,
    .timeout_ms = 3000,
    .body_bytes_max = 4 << 20,
    .serving = 1,
    .revisions = 1,
};

enum { ROWS = 600 };
static char json_head[512];
static size_t json_bytes;
static float numbers[ROWS * WORLD_ROW];

static void begin(struct world *world, struct fake *fake)
{
    *world = (struct world){};
    case_begin(world, fake, &digits, 1, FAKE_RIGHT);
    json_bytes = (size_t)snprintf(
        json_head, sizeof json_head,
        "{\"inputs\":[{\"name\":\"image\",\"shape\":[%d,4],\"datatype\":\"FP32\","
        "\"parameters\":{\"binary_data_size\":%zu}}],\"outputs\":[{\"name\":\"label\"}]}",
        ROWS, sizeof numbers);
    for (unsigned i = 0; i < ROWS * WORLD_ROW; i++)
        numbers[i] = (float)((i * 2654435761u) >> 24);
}

static void check_labels(struct reply *reply)
{
    char *at = strstr(reply->body, "\"data\":[");

    if (reply->status != 200 || !at)
        fail_msg("%s", reply->text);
    at += 8;
    for (unsigned i = 0; i < ROWS; i++) {
        long best = 0;
        for (long k = 1; k < WORLD_ROW; k++)
            if (numbers[i * WORLD_ROW + (unsigned)k] > numbers[i * WORLD_ROW + (unsigned)best])
                best = k;
        assert_int_equal(strtol(at, &at, 10), best);
        at++;
    }
    reply_free(reply);
}

static uint64_t counter(struct world *world, const char *name)
{
    struct arena *arena = arena_new();
    void *memory;
    struct err err;

    assert_int_equal(shm_map(world->metrics_fd, gateway_region_bytes(), false, &memory, &err), 0);
    char *text = arena_string(arena, gateway_metrics_print(arena, memory, gateway_region_bytes()));
    char line[256];
    snprintf(line, sizeof line, "\n%s{project=\"default\",endpoint=\"digits\"} ", name);
    const char *at = strstr(text, line);
    uint64_t value = at ? strtoull(at + strlen(line), NULL, 10) : 0;
    shm_unmap(memory, gateway_region_bytes());
    arena_free(arena);
    return value;
}

struct wanted {
    const char *name;
    uint64_t low, high;
};

static bool is_within(struct world *world, void *data)
{
    const struct wanted *wanted = data;
    uint64_t value = counter(world, wanted->name);

    return value >= wanted->low && value <= wanted->high;
}

/* An exchange is counted when it has closed, which is after its answer. */
static void await_counter(struct world *world, const char *name, uint64_t low, uint64_t high)
{
    struct wanted wanted = { name, low, high };

    if (!world_until(world, is_within, &wanted))
        fail_msg("%s is %llu", name, (unsigned long long)counter(world, name));
}

static struct reply ask(struct world *world, const char *headers, const void *body, size_t size)
{
    char *request = malloc(size + 1024);
    int head = snprintf(request, 1024,
                        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                        "%s\r\n",
                        headers);

    memcpy(request + head, body, size);
    struct reply reply = world_ask(world, request, (size_t)head + size);
    free(request);
    return reply;
}

static char *whole_body(size_t *ret_size)
{
    char *body = malloc(json_bytes + sizeof numbers);

    memcpy(body, json_head, json_bytes);
    memcpy(body + json_bytes, numbers, sizeof numbers);
    *ret_size = json_bytes + sizeof numbers;
    return body;
}

static void test_aligned_binary_requests_are_not_copied(void **state)
{
    struct world world;
    struct fake fake;
    size_t size;
    char headers[256];
    (void)state;

    begin(&world, &fake);
    char *body = whole_body(&size);
    snprintf(headers, sizeof headers,
             "Inference-Header-Content-Length: %zu\r\nContent-Length: %zu\r\n", json_bytes, size);
    for (int i = 0; i < 1000; i++) {
        struct reply reply = ask(&world, headers, body, size);
        check_labels(&reply);
    }
    await_counter(&world, "perigee_request_body_bytes_total", 1000 * size, 1000 * size);
    world_pass(&world); /* nor do more come after it */
    assert_int_equal(counter(&world, "perigee_tensor_copied_bytes_total"), 0);
    assert_int_equal(counter(&world, "perigee_request_body_bytes_total"), 1000 * size);
    free(body);
    case_end(&world, &fake);
}

/* In chunks of odd sizes, of which one is compressed or not. */
static struct reply ask_chunked(struct world *world, const char *headers, const char *body,
                                size_t size)
{
    struct text text;
    char line[32];

    text_init(&text);
    for (size_t done = 0, part = 1; done < size; done += part, part = part * 3 + 1) {
        if (part > size - done)
            part = size - done;
        snprintf(line, sizeof line, "%zx\r\n", part);
        text_append(&text, slice_of(line));
        text_append(&text, (struct slice){ body + done, part });
        text_append(&text, SLICE("\r\n"));
    }
    text_append(&text, SLICE("0\r\n\r\n"));
    struct reply reply = ask(world, headers, text.data, text.size);
    text_deinit(&text);
    return reply;
}

static struct text deflated(enum codec codec, const char *body, size_t size)
{
    struct deflater *deflater = deflater_new(codec, 6);
    struct text text;

    text_init(&text);
    deflater_push(deflater, (struct slice){ body, size }, &text);
    deflater_finish(deflater, &text);
    deflater_free(deflater);
    return text;
}

static void test_chunked_and_compressed(void **state)
{
    struct world world;
    struct fake fake;
    size_t size;
    char headers[256];
    struct reply reply;
    (void)state;

    begin(&world, &fake);
    char *body = whole_body(&size);
    snprintf(headers, sizeof headers,
             "Inference-Header-Content-Length: %zu\r\nTransfer-Encoding: chunked\r\n", json_bytes);
    reply = ask_chunked(&world, headers, body, size);
    check_labels(&reply);
    await_counter(&world, "perigee_tensor_copied_bytes_total", 1, UINT64_MAX);
    for (int i = 0; i < 4; i++) {
        enum codec codec = i % 2 ? CODEC_GZIP : CODEC_DEFLATE;
        struct text text = deflated(codec, body, size);
        snprintf(headers, sizeof headers,
                 "Inference-Header-Content-Length: %zu\r\nContent-Encoding: %s\r\n"
                 "Content-Length: %zu\r\n",
                 json_bytes, codec_name(codec), text.size);
        if (i < 2) {
            reply = ask(&world, headers, text.data, text.size);
        } else {
            snprintf(headers, sizeof headers,
                     "Inference-Header-Content-Length: %zu\r\nContent-Encoding: %s\r\n"
                     "Transfer-Encoding: chunked\r\n",
                     json_bytes, codec_name(codec));
            reply = ask_chunked(&world, headers, text.data, text.size);
        }
        check_labels(&reply);
        text_deinit(&text);
    }
    /* What goes on behind the tensors, and what ends before them. */
    char *longer = malloc(size + 5);
    memcpy(longer, body, size);
    memset(longer + size, 'x', 5);
    snprintf(headers, sizeof headers,
             "Inference-Header-Content-Length: %zu\r\nTransfer-Encoding: chunked\r\n", json_bytes);
    reply = ask_chunked(&world, headers, longer, size + 5);
    assert_int_equal(reply.status, 400);
    reply_free(&reply);
    reply = ask_chunked(&world, headers, body, size - 7);
    assert_int_equal(reply.status, 400);
    assert_non_null(strstr(reply.text, "7 bytes before the end"));
    reply_free(&reply);
    snprintf(headers, sizeof headers, "Content-Encoding: br\r\nContent-Length: 2\r\n");
    reply = ask(&world, headers, "{}", 2);
    assert_int_equal(reply.status, 415);
    reply_free(&reply);
    free(longer);
    free(body);
    case_end(&world, &fake);
}

static void test_raw_and_compressed_answers(void **state)
{
    struct world world;
    struct fake fake;
    char headers[256];
    struct reply reply;
    (void)state;

    begin(&world, &fake);
    snprintf(headers, sizeof headers,
             "Inference-Header-Content-Length: 0\r\nContent-Length: %zu\r\n", sizeof numbers);
    reply = ask(&world, headers, numbers, sizeof numbers);
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr(reply.text, "probabilities"));
    reply_free(&reply);
    snprintf(headers, sizeof headers,
             "Inference-Header-Content-Length: 0\r\nTransfer-Encoding: chunked\r\n");
    reply = ask_chunked(&world, headers, (const char *)numbers, sizeof numbers);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    snprintf(headers, sizeof headers,
             "Inference-Header-Content-Length: 0\r\nAccept-Encoding: gzip\r\n"
             "Content-Length: %zu\r\n",
             sizeof numbers);
    reply = ask(&world, headers, numbers, sizeof numbers);
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr(reply.text, "Content-Encoding: gzip"));
    struct inflater *inflater = inflater_new(CODEC_GZIP, 1 << 20);
    struct slice in = { reply.body, reply.body_bytes };
    char *out = calloc(1, 1 << 20);
    struct err err;
    assert_true(inflater_run(inflater, &in, out, (1 << 20) - 1, &err) > 0);
    assert_non_null(strstr(out, "\"model_name\":\"digits\""));
    inflater_free(inflater);
    free(out);
    reply_free(&reply);
    case_end(&world, &fake);
}

static int send_whole(struct world *world, const char *head, const char *body, size_t size)
{
    int fd = world_connect(world);

    assert_int_equal(write(fd, head, strlen(head)), strlen(head));
    (void)!write(fd, body, size);
    return fd;
}

static void ask_some(struct world *world, int count, const char *body, size_t size)
{
    char headers[128];

    snprintf(headers, sizeof headers,
             "Inference-Header-Content-Length: %zu\r\nContent-Length: %zu\r\n", json_bytes, size);
    for (int i = 0; i < count; i++) {
        struct reply reply = ask(world, headers, body, size);
        check_labels(&reply);
    }
}

/* The gauges are written each second, by every loop for itself: that both have told of a request
 * of theirs shows that none of before is in them. */
static void nothing_is_held(struct world *world, struct fake *fake, const char *head,
                            const char *body, size_t size)
{
    int fds[WORLD_LOOPS];

    atomic_store(&fake->mode, FAKE_HELD);
    for (int i = 0; i < WORLD_LOOPS; i++)
        fds[i] = send_whole(world, head, body, size);
    await_counter(world, "perigee_running_requests", WORLD_LOOPS, WORLD_LOOPS);
    fake_release(fake);
    for (int i = 0; i < WORLD_LOOPS; i++) {
        struct reply reply = world_read(fds[i]);
        check_labels(&reply);
        close(fds[i]);
    }
    await_counter(world, "perigee_running_requests", 0, 0);
    assert_int_equal(counter(world, "perigee_queue_requests"), 0);
}

/* Slots and blocks of clients that went come back: else the ninth would hang. */
static void test_clients_that_go(void **state)
{
    struct world world;
    struct fake fake;
    size_t size;
    char request[1024];
    uint32_t taken = 0;
    (void)state;

    begin(&world, &fake);
    char *body = whole_body(&size);
    snprintf(request, sizeof request,
             "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
             "Inference-Header-Content-Length: %zu\r\nContent-Length: %zu\r\n\r\n",
             json_bytes, size);
    for (unsigned i = 0; i < 40; i++) {
        size_t part = i % 4 == 0 ? 100 : i % 4 == 1 ? size - 10 : size;
        struct linger linger = { 1, 0 };
        if (i % 4 == 0) {
            taken = atomic_load(&fake.taken);
            atomic_store(&fake.mode, FAKE_HELD);
        }
        int fd = send_whole(&world, request, body, part);
        if (i % 4 == 3) /* it, or the one before, runs when its client goes */
            fake_await_taken(&fake, taken + 1);
        if (i % 8 > 4) /* reset, instead of closed */
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
        if (i % 4 == 3) { /* the loops see that it went; and then what came first is answered */
            world_pass(&world);
            fake_release(&fake);
            ask_some(&world, WORLD_LOOPS, body, size);
        }
    }
    ask_some(&world, 20, body, size);
    nothing_is_held(&world, &fake, request, body, size);
    assert_true(counter(&world, "perigee_requests_canceled_total") > 0);
    free(body);
    case_end(&world, &fake);
}

static uint64_t memory_held(struct world *world)
{
    static const char name[] = "\nperigee_request_memory_bytes ";
    struct arena *arena = arena_new();
    void *memory;
    struct err err;

    assert_int_equal(shm_map(world->metrics_fd, gateway_region_bytes(), false, &memory, &err), 0);
    char *text = arena_string(arena, gateway_metrics_print(arena, memory, gateway_region_bytes()));
    const char *at = strstr(text, name);
    uint64_t value = at ? strtoull(at + strlen(name), NULL, 10) : 0;
    shm_unmap(memory, gateway_region_bytes());
    arena_free(arena);
    return value;
}

static bool much_is_held(struct world *world, void *data)
{
    return (*(uint64_t *)data = memory_held(world)) >= 1 << 20;
}

static bool no_memory_is_held(struct world *world, void *data)
{
    return (*(uint64_t *)data = memory_held(world)) == 0;
}

/* A client that sends and never reads holds memory that is counted, for so long. */
static void test_an_answer_that_is_not_read_is_counted(void **state)
{
    enum { MANY = 30'000, BYTES = MANY * WORLD_ROW * 4 };
    struct world world;
    struct fake fake;
    int small = 16384;
    char head[512], json[256];
    float *rows = malloc(BYTES);
    uint64_t held = 0;
    (void)state;

    begin(&world, &fake);
    for (int i = 0; i < WORLD_LOOPS; i++) /* what is accepted inherits it */
        setsockopt(world.listeners[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    for (int i = 0; i < MANY * WORLD_ROW; i++)
        rows[i] = 1.17549435e-38f * (float)(i + 1);
    int json_size = snprintf(json, sizeof json,
                             "{\"inputs\":[{\"name\":\"image\",\"shape\":[%d,4],\"datatype\":"
                             "\"FP32\",\"parameters\":{\"binary_data_size\":%d}}]}",
                             MANY, BYTES);
    int size = snprintf(head, sizeof head,
                        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                        "Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n%s",
                        json_size, json_size + BYTES, json);
    int fd = world_connect(&world);
    assert_int_equal(write(fd, head, (size_t)size), size);
    for (size_t done = 0; done < BYTES;) {
        ssize_t n = write(fd, (char *)rows + done, BYTES - done);
        assert_true(n > 0);
        done += (size_t)n;
    }
    (void)world_until(&world, much_is_held, &held);
    assert_true(held >= 1 << 20);
    close(fd);
    (void)world_until(&world, no_memory_is_held, &held);
    assert_int_equal(held, 0);
    free(rows);
    case_end(&world, &fake);
}

static int file_of(const void *data, size_t size)
{
    char path[] = "/tmp/gateway-test-XXXXXX";
    int fd = mkstemp(path);

    unlink(path);
    assert_int_equal(write(fd, data, size), size);
    return fd;
}

/* What a boot may have ended is not taken for ready; what others run is. */
static void test_containers_of_before_the_boot(void **state)
{
    static const struct {
        uint32_t kind, flags;
        const char *authority;
    } rows[] = {
        { TABLE_TARGET_SOCKET, 0, "" },
        { TABLE_TARGET_ADDRESS, 0, "" }, /* by address: another may have it now */
        { TABLE_TARGET_ADDRESS, TABLE_TARGET_READY, "upstream.test:80" },
    };
    struct table_target targets[] = { { .id = 1 }, { .id = 2 }, { .id = 3 } };
    struct table_source_revision revisions[3] = {};
    struct arena *arena = arena_new();
    struct slice bytes;
    struct err err;
    (void)state;

    for (uint32_t i = 0; i < 3; i++) {
        targets[i].kind = rows[i].kind;
        targets[i].flags = TABLE_TARGET_READY;
        targets[i].port = 80;
        assert_true(ip_parse(SLICE("127.0.0.1"), &targets[i].ip));
        revisions[i] = (struct table_source_revision){ .uid = i + 1,
                                                       .number = i + 1,
                                                       .reach_kind = TABLE_REACH_HTTP,
                                                       .authority = slice_of(rows[i].authority),
                                                       .targets = &targets[i],
                                                       .target_count = 1 };
    }
    struct table_source_endpoint endpoint = { .uid = 1,
                                              .name = SLICE("shop"),
                                              .project = SLICE("default"),
                                              .revisions = revisions,
                                              .revision_count = 3,
                                              .serving_number = 3,
                                              .state = TABLE_ENDPOINT_RUNNING,
                                              .queue_depth = 4,
                                              .concurrency = 2,
                                              .queue_timeout_us = 1'000'000,
                                              .queue_cold_us = 3'000'000,
                                              .timeout_us = 1'000'000,
                                              .body_bytes_max = 1 << 20 };
    struct table_source source = {
        .number = 3, .zone = SLICE("perigee.test"), .endpoints = &endpoint, .endpoint_count = 1
    };
    if (table_build(arena, &source, &bytes, &err) < 0)
        fail_msg("%s", err.message);
    char *table = arena_alloc(arena, bytes.size);
    memcpy(table, bytes.data, bytes.size);
    targets_forget(table);
    const struct table_head *head = (const struct table_head *)table;
    for (uint32_t i = 0; i < 3; i++) {
        const struct table_target *target = table_targets(head, table_reach(head, i));
        assert_int_equal(target->id, i + 1);
        assert_int_equal(target->flags, rows[i].flags);
    }
    arena_free(arena);
}

/* Agent and control are dead, the machine has booted: the file of before serves. */
static void test_a_table_from_the_disk(void **state)
{
    struct world world = {};
    struct fake fake = {};
    struct arena *arena = arena_new();
    struct table_source_revision revision = {
        .uid = WORLD_REVISION(0, 1), .number = 1, .runtime = SLICE("onnx"), .model = fake_model()
    };
    struct table_source_endpoint endpoint = {
        .uid = 1,
        .name = SLICE("digits"),
        .project = SLICE("default"),
        .revisions = &revision,
        .revision_count = 1,
        .serving_number = 1,
        .state = TABLE_ENDPOINT_RUNNING,
        .queue_depth = 4,
        .concurrency = 2,
        .queue_timeout_us = 1'000'000,
        .queue_cold_us = 3'000'000,
        .timeout_us = 1'000'000,
        .body_bytes_max = 1 << 20,
    };
    struct table_source source = {
        .number = 3, .zone = SLICE("perigee.test"), .endpoints = &endpoint, .endpoint_count = 1
    };
    unsigned char key[TABLE_KEY_BYTES] = { 9 };
    union message message = { .as_MESSAGE_TABLE_DISK = MESSAGE_INIT(MESSAGE_TABLE_DISK) };
    struct slice bytes;
    struct err err;
    (void)state;

    assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
    char *file = arena_alloc(arena, bytes.size + TABLE_MAC_BYTES);
    memcpy(file, bytes.data, bytes.size);
    assert_int_equal(table_mac(key, bytes, (unsigned char *)file + bytes.size, &err), 0);
    int fds[2] = { file_of(file, bytes.size + TABLE_MAC_BYTES), file_of(key, sizeof key) };
    file[200] ^= 1;
    int wrong[2] = { file_of(file, bytes.size + TABLE_MAC_BYTES), fds[1] };
    world_start(&world, 1);
    world_send(&world, &message, wrong, 2); /* refused, with a line in the log */
    world_send(&world, &message, fds, 2);
    fake_start(&world, &fake, 7, WORLD_REVISION(0, 1), 2);
    world_go(&world);
    struct reply reply = world_infer(&world, "",
                                     "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],"
                                     "\"datatype\":\"FP32\",\"data\":[9,1,7,2]}]}");
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    close(fds[0]);
    close(fds[1]);
    close(wrong[0]);
    arena_free(arena);
    case_end(&world, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aligned_binary_requests_are_not_copied),
        cmocka_unit_test(test_chunked_and_compressed),
        cmocka_unit_test(test_raw_and_compressed_answers),
        cmocka_unit_test(test_clients_that_go),
        cmocka_unit_test(test_an_answer_that_is_not_read_is_counted),
        cmocka_unit_test(test_containers_of_before_the_boot),
        cmocka_unit_test(test_a_table_from_the_disk),
    };
    return cmocka_run_group_tests_name("gateway_bodies", tests, NULL, NULL);
}
