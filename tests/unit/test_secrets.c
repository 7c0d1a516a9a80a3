/* SPDX-License-Identifier: Apache-2.0 */
/* A core file of agent, gateway or control has no key between PoPs, nor the secret they are of, nor
 * what containers are given. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/keys.h"
#include "gateway/mesh.h"
#include "http/client.h"
#include "io/loop.h"
#include "io/socket.h"
#include "pop/state.h"
#include "proto/sse.h"
#include "store/seal.h"

enum { KEYS = 60, HEX = 2 * HOP_KEY_BYTES, ROOM = 1 << 20 };

/* ---- what a core file would have ------------------------------------------------------------ */

struct mapping {
    unsigned long start, end;
    bool readable, resident;
};

static bool mapping_has(int fd, const struct mapping *mapping, char *buffer, const void *bytes,
                        size_t size)
{
    for (unsigned long at = mapping->start; at + size <= mapping->end; at += ROOM - size) {
        size_t wanted = mapping->end - at < ROOM ? mapping->end - at : ROOM;
        ssize_t got = pread(fd, buffer, wanted, (off_t)at);
        if (got > 0 && memmem(buffer, (size_t)got, bytes, size))
            return true;
    }
    return false;
}

/* `bytes` lie in a secret arena themselves. */
static bool dumped(const void *bytes, size_t size)
{
    struct arena *arena = arena_new_secret();
    char *buffer = arena_alloc(arena, ROOM), line[512], access[8];
    FILE *maps = fopen("/proc/self/smaps", "r");
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    struct mapping mapping = {};
    bool found = false;
    assert_non_null(maps);
    assert_true(fd >= 0);
    while (!found && fgets(line, sizeof line, maps)) {
        unsigned long start, end, kilobytes;
        if (sscanf(line, "%lx-%lx %7s", &start, &end, access) == 3)
            mapping = (struct mapping){ start, end, access[0] == 'r', false };
        else if (sscanf(line, "Rss: %lu", &kilobytes) == 1)
            mapping.resident = kilobytes > 0;
        else if (strncmp(line, "VmFlags:", 8) == 0 && !strstr(line, " dd") && mapping.readable &&
                 mapping.resident && mapping.end - mapping.start < 1UL << 30) /* no shadow */
            found = mapping_has(fd, &mapping, buffer, bytes, size);
    }
    (void)fclose(maps);
    (void)close(fd);
    arena_free(arena);
    return found;
}

/* ---- keys ----------------------------------------------------------------------------------- */

struct keys {
    struct arena *arena;
    unsigned char (*raw)[HOP_KEY_BYTES];
    char (*hex)[HEX];
};

static struct keys keys_make(void)
{
    static const char digits[] = "0123456789abcdef";
    struct arena *arena = arena_new_secret();
    struct keys keys = { arena, arena_calloc(arena, KEYS, HOP_KEY_BYTES),
                         arena_calloc(arena, KEYS, HEX) };
    assert_int_equal(getrandom(keys.raw, KEYS * HOP_KEY_BYTES, 0), KEYS * HOP_KEY_BYTES);
    for (size_t i = 0; i < KEYS; i++)
        for (size_t k = 0; k < HOP_KEY_BYTES; k++) {
            keys.hex[i][2 * k] = digits[keys.raw[i][k] >> 4];
            keys.hex[i][2 * k + 1] = digits[keys.raw[i][k] & 15];
        }
    return keys;
}

static void keys_check(const struct keys *keys)
{
    for (size_t i = 0; i < KEYS; i += 7) {
        assert_false(dumped(keys->raw[i], HOP_KEY_BYTES));
        assert_false(dumped(keys->hex[i], HEX));
    }
}

/* As control says them, which no order helps: the writer grows over them again and again. */
static struct slice keys_json_of(const struct keys *keys, struct arena *arena)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_key(&w, "keys");
    json_array_begin(&w);
    for (size_t i = 0; i < KEYS; i++) {
        char name[16];
        snprintf(name, sizeof name, "pop-%zu", (i * 37) % KEYS);
        json_object_begin(&w);
        json_member_text(&w, "pop", name);
        json_member_string(&w, "key", (struct slice){ keys->hex[i], HEX });
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

/* The test can fail: it finds what lies anywhere else, and what was left there. */
static void test_other_memory_is_dumped(void **state)
{
    struct keys keys = keys_make();
    struct arena *arena = arena_new();
    (void)state;
    keys_check(&keys);
    (void)keys_json_of(&keys, arena);
    assert_true(dumped(keys.hex[0], HEX));
    arena_free(arena);
    char *left = (char *)mem_zalloc(4096) + 2048;
    memcpy(left, keys.raw[1], HOP_KEY_BYTES);
    assert_true(dumped(keys.raw[1], HOP_KEY_BYTES));
    explicit_bzero(left, HOP_KEY_BYTES);
    free(left - 2048);
    arena_free(keys.arena);
}

static void test_json(void **state)
{
    struct keys keys = keys_make();
    struct arena *arena = arena_new_secret();
    struct err err;
    yyjson_val *root;
    (void)state;
    struct slice text = keys_json_of(&keys, arena);
    keys_check(&keys);
    assert_int_equal(json_parse(arena, text, NULL, &root, &err), 0);
    assert_int_equal(yyjson_arr_size(json_member(root, "keys")), KEYS);
    keys_check(&keys);
    assert_int_equal(
        json_parse(arena, (struct slice){ text.data, text.size - 1 }, NULL, &root, &err),
        ERR_BAD_INPUT);
    arena_free(arena);
    keys_check(&keys);
    arena_free(keys.arena);
}

static void test_the_agent(void **state)
{
    struct keys keys = keys_make();
    struct pop *pop = mem_zalloc(sizeof *pop);
    struct arena *arena = arena_new_secret();
    struct slice text = keys_json_of(&keys, arena);
    struct err err;
    (void)state;
    for (int i = 0; i < 2; i++) { /* the second takes the place of the first */
        assert_int_equal(pop_keys_apply(pop, text, &err), 0);
        keys_check(&keys);
    }
    for (size_t i = 0; i < KEYS; i++) {
        char name[16];
        snprintf(name, sizeof name, "pop-%zu", (i * 37) % KEYS);
        const struct pop_key *key = pop_key_find(pop, slice_of(name));
        assert_non_null(key);
        assert_true(memcmp(key->key, keys.raw[i], HOP_KEY_BYTES) == 0);
    }
    assert_true(pop_keys_json(pop, arena).size > KEYS * HEX);
    pop_keys_clear(pop);
    keys_check(&keys);
    arena_free(arena);
    arena_free(keys.arena);
    free(pop);
}

static void test_the_gateway(void **state)
{
    struct keys keys = keys_make();
    struct peer_keys *peers = peer_keys_new();
    struct arena *arena = arena_new_secret();
    unsigned char *found = arena_alloc(arena, HOP_KEY_BYTES);
    (void)state;
    for (size_t i = 0; i <= KEYS; i++) {
        struct message_peer_key message = MESSAGE_INIT(MESSAGE_PEER_KEY);
        message.flags = i == 0 ? MESSAGE_KEYS_FIRST : 0;
        if (i < KEYS) {
            snprintf(message.pop, sizeof message.pop, "pop-%zu", i);
            memcpy(message.key, keys.raw[i], sizeof message.key);
        }
        peer_keys_take(peers, &message);
    }
    assert_true(peer_keys_find(peers, SLICE("pop-7"), found));
    assert_true(memcmp(found, keys.raw[7], HOP_KEY_BYTES) == 0);
    keys_check(&keys);
    peer_keys_free(peers);
    keys_check(&keys);
    arena_free(arena);
    arena_free(keys.arena);
}

/* ---- on the way ------------------------------------------------------------------------------ */

struct hearer {
    const struct keys *keys;
    size_t events;
};

static bool on_keys_event(struct slice kind, struct slice id, struct slice text, void *data)
{
    struct hearer *hearer = data;
    (void)kind;
    (void)id;
    hearer->events++;
    assert_non_null(memmem(text.data, text.size, hearer->keys->hex[0], HEX));
    keys_check(hearer->keys);
    return true;
}

/* Half an event, too, and the buffer grows. */
static void test_a_stream_of_events(void **state)
{
    struct keys keys = keys_make();
    struct arena *arena = arena_new_secret();
    struct hearer hearer = { &keys, 0 };
    struct sse sse = { .on_event = on_keys_event, .data = &hearer };
    struct slice json = keys_json_of(&keys, arena);
    (void)state;
    char *text = arena_format(arena, "event: keys\nid: 1\ndata: %.*s\n\ndata: %.*s",
                              SLICE_FMT(json), SLICE_FMT(json));
    for (size_t at = 0, all = strlen(text), size; at < all; at += size) {
        size = all - at < 1000 ? all - at : 1000;
        assert_true(sse_feed(&sse, (struct slice){ text + at, size }));
    }
    assert_int_equal(hearer.events, 1);
    keys_check(&keys);
    sse_deinit(&sse);
    keys_check(&keys);
    arena_free(arena);
    arena_free(keys.arena);
}

struct caller {
    bool pauses, cancels; /* once the head is there */
    unsigned heads, done;
};

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct caller *caller = data;
    (void)response;
    caller->heads++;
    if (caller->pauses)
        http_call_pause(call);
    if (caller->cancels)
        http_call_cancel(call);
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct caller *caller = data;
    (void)call;
    (void)err;
    caller->done++;
}

/* An answer that is read at once with its head, by one who does not want it, or not yet. */
static void test_an_answer(void **state)
{
    static const struct http_call_events events = { .on_head = on_head, .on_done = on_done };
    struct keys keys = keys_make();
    struct arena *arena = arena_new_secret();
    struct slice json = keys_json_of(&keys, arena);
    char *text = arena_format(arena, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%.*s",
                              json.size, SLICE_FMT(json));
    (void)state;
    for (int pauses = 0; pauses < 2; pauses++) {
        struct caller caller = { .pauses = pauses, .cancels = !pauses };
        struct loop *loop = loop_new();
        struct http_client *client = http_client_new(loop, &(struct http_client_config){});
        struct sockaddr_storage name;
        struct address address;
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(address_parse(SLICE("127.0.0.1:0"), &address, NULL), 0);
        socklen_t size = address_to(&address, &name);
        assert_int_equal(bind(listener, (struct sockaddr *)&name, size), 0);
        assert_int_equal(listen(listener, 1), 0);
        size = sizeof name;
        assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &size), 0);
        address_from(&name, size, &address);
        const struct http_request_spec spec = { .address = &address,
                                                .method = "GET",
                                                .target = SLICE("/") };
        struct http_call *call = http_client_call(client, &spec, &events, &caller);
        loop_run_once(loop, false);
        int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_int_equal(send(accepted, text, strlen(text), MSG_NOSIGNAL), strlen(text));
        while (!caller.heads)
            loop_run_once(loop, true);
        assert_int_equal(dumped(keys.hex[0], HEX), pauses); /* as it may be long until it goes on */
        if (pauses)
            http_call_cancel(call);
        while (!caller.done)
            loop_run_once(loop, true);
        http_client_free(client);
        loop_run_once(loop, false);
        loop_free(loop);
        keys_check(&keys);
        close(accepted);
        close(listener);
    }
    arena_free(arena);
    arena_free(keys.arena);
}

/* ---- environments ---------------------------------------------------------------------------- */

static void on_nothing(struct pop *, void *)
{
}

/* From control to the disk and back. */
static void test_an_environment(void **state)
{
    static const struct pop_effects effects = { .save = on_nothing };
    struct keys keys = keys_make();
    struct pop *pop = mem_zalloc(sizeof *pop);
    struct arena *arena = arena_new_secret();
    const struct seal_key *key = seal_key_of(keys.raw[1], "it", arena);
    struct err err;
    (void)state;
    list_init(&pop->secrets);
    list_init(&pop->endpoints);
    pop->soon.place = 1; /* nothing is to follow */
    pop->effects = &effects;
    for (int i = 0; i < 2; i++) {
        const char *json =
            arena_format(arena, "{\"project\":\"default\",\"name\":\"abc\",\"value\":\"%.*s\"}",
                         HEX, keys.hex[7 * i]);
        assert_int_equal(pop_secret_apply(pop, slice_of(json), &err), 0);
        keys_check(&keys);
    }
    struct slice text = pop_secrets_json(pop, key, arena);
    pop_secrets_clear(pop);
    keys_check(&keys);
    assert_int_equal(pop_secrets_load(pop, key, text, &err), 0);
    keys_check(&keys);
    const struct pop_secret *secret = pop_secret_find(pop, SLICE("default"), SLICE("abc"));
    assert_true(secret && memcmp(secret->value.data, keys.hex[7], HEX) == 0);
    pop_secrets_clear(pop);
    keys_check(&keys);
    arena_free(arena);
    arena_free(keys.arena);
    free(pop);
}

/* The one secret that all keys are made of. */
static void test_control(void **state)
{
    struct keys keys = keys_make();
    struct control *control = mem_zalloc(sizeof *control);
    char folder[] = "/tmp/perigee-secrets-XXXXXX", path[64];
    struct err err;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/control", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/" CONTROL_KEY_FILE, folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, keys.raw[0], HOP_KEY_BYTES), HOP_KEY_BYTES);
    assert_int_equal(close(fd), 0);
    snprintf(control->start.home, sizeof control->start.home, "%s", folder);
    assert_int_equal(keys_open(control, &err), 0);
    keys_check(&keys);
    keys_close(control);
    keys_check(&keys);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/control", folder);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(folder), 0);
    free(control);
    arena_free(keys.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_memory_is_dumped),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_the_agent),
        cmocka_unit_test(test_a_stream_of_events),
        cmocka_unit_test(test_an_answer),
        cmocka_unit_test(test_an_environment),
        cmocka_unit_test(test_the_gateway),
        cmocka_unit_test(test_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
