/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"

static struct perigee_model model = { .platform = { sizeof model, 4 } };
static const struct slice origins[] = { SLICE("https://app.example"), SLICE("https://b.example") };
static const struct slice domains_a[] = { SLICE("ml.example.com"), SLICE("a.example.com") };
static const struct slice domains_b[] = { SLICE("ml.example.com") };
static const struct slice aliases_a[] = { SLICE("org/Digits"), SLICE("d") };
static char model_bytes[sizeof model + 4];
static struct table_source_revision revisions[] = {
    { .uid = 7 << 8 | 3, .number = 3, .runtime = SLICE("onnx"), .message = SLICE("it broke") },
    { .uid = 7 << 8 | 1, .number = 1, .runtime = SLICE("onnx"), .digest = SLICE("sha256:aa") },
};

#define ENDPOINT_LIMITS                                                                            \
    .state = TABLE_ENDPOINT_RUNNING, .queue_depth = 8, .concurrency = 4,                           \
    .queue_timeout_us = 30'000'000, .queue_cold_us = 300'000'000, .timeout_us = 60'000'000,        \
    .body_bytes_max = 1 << 20, .queue_bytes_max = 1 << 24

static struct residency_rule rules[] = {
    { .process.scope = RESIDENCY_SAME_COUNTRY },
    { .clients.scope = RESIDENCY_ANY, .process.scope = RESIDENCY_ANY },
};
static const struct ip pop_addresses[] = { { { 1 } }, { { 2 } } };
static const struct table_source_pop pops[] = {
    { SLICE("paris"), SLICE("eu-west"), 7, TABLE_POP_LOCATED | TABLE_POP_UP, 48.5f, 2.5f,
      pop_addresses, 2, 9000 },
    { .name = SLICE("local"), .country = COUNTRY_UNKNOWN },
};
/* Out of order, one twice, one of a PoP that nobody has told of. */
static const struct table_source_placement placements[] = {
    { SLICE("paris"), 3 },
    { SLICE("gone"), 1 },
    { SLICE("local"), 2 },
    { SLICE("paris"), 9 },
};

static const struct table_target revision_targets[] = {
    { .id = 11, .ip = { { 1 } }, .port = 80, .flags = TABLE_TARGET_READY },
    { .id = 12, .ip = { { 2 } }, .port = 65535, .kind = TABLE_TARGET_SOCKET },
};

static struct table_source_endpoint endpoints[] = {
    { .uid = 9,
      .name = SLICE("zebra"),
      .project = SLICE("default"),
      .domains = domains_b,
      .domain_count = 1,
      ENDPOINT_LIMITS },
    { .uid = 7,
      .name = SLICE("digits"),
      .project = SLICE("default"),
      .revisions = revisions,
      .revision_count = 2,
      .serving_number = 1,
      .origins = origins,
      .origin_count = 2,
      .domains = domains_a,
      .domain_count = 2,
      .aliases = aliases_a,
      .alias_count = 2,
      .rules = rules,
      .rule_count = 2,
      .unknown_client = 99,
      .placements = placements,
      .placement_count = 4,
      ENDPOINT_LIMITS },
    { .uid = 8,
      .name = SLICE("digits"),
      .project = SLICE("lab"),
      ENDPOINT_LIMITS,
      .rules = rules,
      .rule_count = 1,
      .elsewhere = SLICE("it is not for here") },
};

static struct slice build(struct arena *arena)
{
    struct table_source source = { .number = 5,
                                   .zone = SLICE("perigee.test"),
                                   .pop = SLICE("local"),
                                   .pops = pops,
                                   .pop_count = 2,
                                   .endpoints = endpoints,
                                   .endpoint_count = 3 };
    struct slice bytes;
    struct err err;

    memcpy(model_bytes, &model, sizeof model);
    memcpy(model_bytes + sizeof model, "onnx", 4);
    revisions[1].model = (struct slice){ model_bytes, sizeof model_bytes };
    for (size_t i = 0; i < 2; i++)
        if (revisions[i].number == 3) {
            revisions[i].reach_kind = TABLE_REACH_HTTP;
            revisions[i].retried = true;
            revisions[i].authority = SLICE("up:80");
            revisions[i].targets = revision_targets;
            revisions[i].target_count = 2;
        }
    assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
    return bytes;
}

static const struct {
    const char *name;
    enum { BY_NAME, BY_ALIAS, BY_HOST } by;
    struct slice project, text;
    uint64_t uid; /* 0: none */
} finds[] = {
    { "by name", BY_NAME, SLICE("default"), SLICE("digits"), 7 },
    { "of another project", BY_NAME, SLICE("lab"), SLICE("digits"), 8 },
    { "the last", BY_NAME, SLICE("default"), SLICE("zebra"), 9 },
    { "a part of a name", BY_NAME, SLICE("default"), SLICE("digit"), 0 },
    { "more than a name", BY_NAME, SLICE("default"), SLICE("digitss"), 0 },
    { "nothing", BY_NAME, SLICE("default"), SLICE(""), 0 },
    { "capitals", BY_NAME, SLICE("default"), SLICE("Digits"), 0 },
    { "by alias", BY_ALIAS, SLICE("default"), SLICE("org/Digits"), 7 },
    { "an alias elsewhere", BY_ALIAS, SLICE("lab"), SLICE("d"), 0 },
    { "the lower uid has a domain", BY_HOST, SLICE(""), SLICE("ml.example.com"), 7 },
    { "a domain", BY_HOST, SLICE(""), SLICE("a.example.com"), 7 },
    { "no domain", BY_HOST, SLICE(""), SLICE("b.example.com"), 0 },
};

static void test_find(void **state)
{
    struct arena *arena = arena_new();
    const struct table_head *table = (const void *)build(arena).data;
    (void)state;

    for (size_t i = 0; i < sizeof finds / sizeof *finds; i++) {
        print_message("  %s\n", finds[i].name);
        uint32_t row =
            finds[i].by == BY_NAME    ? table_find_endpoint(table, finds[i].project, finds[i].text)
            : finds[i].by == BY_ALIAS ? table_find_alias(table, finds[i].project, finds[i].text)
                                      : table_find_host(table, finds[i].text);
        assert_int_equal(row == TABLE_NONE ? 0 : table_endpoint(table, row)->uid, finds[i].uid);
    }
    const struct table_endpoint *digits =
        table_endpoint(table, table_find_endpoint(table, SLICE("default"), SLICE("digits")));
    assert_int_equal(table_revision(table, digits->serving)->number, 1);
    assert_non_null(table_model(table, table_revision(table, digits->serving)));
    uint32_t row = table_find_revision(table, digits, 3);
    assert_true(slice_is(table_text(table, table_revision(table, row)->message), "it broke"));
    assert_null(table_model(table, table_revision(table, row)));
    assert_int_equal(table_find_revision(table, digits, 2), TABLE_NONE);
    assert_true(table_origin_allowed(table, digits, SLICE("https://b.example")));
    assert_false(table_origin_allowed(table, digits, SLICE("https://c.example")));
    assert_true(slice_is(table_text(table, table->zone), "perigee.test"));
    arena_free(arena);
}

/* Of version 4: how a revision is reached, and where. */
static void targets(struct table_head *table, struct slice bytes)
{
    uint32_t row = table_find_endpoint(table, SLICE("default"), SLICE("digits"));
    const struct table_endpoint *digits = table_endpoint(table, row);
    row = table_find_revision(table, digits, 3);
    struct table_reach *reach = (struct table_reach *)(uintptr_t)table_reach(table, row);
    struct err err;

    assert_true(table_reach_http(table, row));
    assert_false(table_reach_http(table, digits->serving));
    assert_int_equal(reach->target_count, 2);
    assert_true(slice_is(table_text(table, reach->authority), "up:80"));
    struct table_target *rows = (struct table_target *)(uintptr_t)table_targets(table, reach);
    assert_memory_equal(rows, revision_targets, sizeof revision_targets);
#define WRONG(field, wrong)                                                                        \
    do {                                                                                           \
        typeof(field) right_ = (field);                                                            \
        (field) = (wrong);                                                                         \
        assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);                                 \
        (field) = right_;                                                                          \
    } while (0)
    WRONG(reach->kind, 2);
    WRONG(reach->target_first, 1);
    WRONG(reach->target_count, 3);
    WRONG(reach->authority.bytes, UINT32_MAX);
    WRONG(rows[1].id, 0);
    WRONG(rows[1].port, 0);
    WRONG(rows[1].port, 65536);
    WRONG(rows[1].kind, 2);
    WRONG(rows[1].flags, 4);
    WRONG(table->reaches.count, 1);
    WRONG(table->targets.count, 1);
    WRONG(table->targets.offset, UINT32_MAX);
#undef WRONG
    reach->flags = 4; /* a newer agent's: nothing to us */
    assert_int_equal(table_check(bytes, &err), 0);
    assert_true(table_retried(table, table_revision(table, row)));
    assert_false(table_retried(table, table_revision(table, digits->serving)));
}

/* Those before refuse a table of version 5 with another flag. */
static void old_readers_take(const struct table_head *table)
{
    assert_int_equal(table->version, 5);
    for (uint32_t i = 0; i < table->reaches.count; i++)
        assert_int_equal(table_reach(table, i)->flags & ~TABLE_REACH_BY_MODEL, 0);
}

/* What is there of a version, and what of the ones before it. */
static void versions(struct table_head *table, struct slice bytes, uint32_t row)
{
    struct err err = {};

    /* Where a gateway listens is of version 3. */
    assert_int_equal(table_pop_port(table, 0), TABLE_PORT_DEFAULT);
    assert_int_equal(table_pop_port(table, 1), 9000);
    uint32_t *ports = (uint32_t *)((char *)table + table->ports.offset);
    ports[1] = 65536;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    ports[1] = 0;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    ports[1] = 65535;
    table->ports.count = 1;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    table->ports.count = 2;
    old_readers_take(table);
    targets(table, bytes);
    table->version = 4;
    assert_int_equal(table_check(bytes, &err), 0);
    assert_null(table_reach(table, 0));
    table->version = 3;
    assert_int_equal(table_check(bytes, &err), 0);
    table->ports.count = 1;
    table->version = 2;
    assert_int_equal(table_check(bytes, &err), 0);
    assert_int_equal(table_pop_port(table, 1), TABLE_PORT_DEFAULT);

    /* The version before those had no residency. */
    table->version = 1;
    assert_int_equal(table_check(bytes, &err), 0);
    assert_null(table_residency(table, row));
    assert_null(table_pop(table, 0));
    table->version = TABLE_VERSION + 1;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "version 6, this program reads 1 to 5"));
}

static void test_residency(void **state)
{
    struct arena *arena = arena_new();
    struct slice bytes = build(arena);
    struct table_head *table = (void *)(uintptr_t)bytes.data;
    struct err err;
    (void)state;

    uint32_t row = table_find_endpoint(table, SLICE("default"), SLICE("digits"));
    const struct table_residency *residency = table_residency(table, row);
    assert_int_equal(residency->rule_count, 2);
    assert_memory_equal(table_rules(table, residency), rules, sizeof rules);
    assert_int_equal(residency->unknown_client, 99);
    assert_int_equal(residency->elsewhere.bytes, 0);
    residency = table_residency(table, table_find_endpoint(table, SLICE("lab"), SLICE("digits")));
    assert_int_equal(residency->rule_count, 1);
    assert_memory_equal(table_rules(table, residency), rules, sizeof *rules);
    assert_true(slice_is(table_text(table, residency->elsewhere), "it is not for here"));
    residency =
        table_residency(table, table_find_endpoint(table, SLICE("default"), SLICE("zebra")));
    assert_int_equal(residency->rule_count, 0);
    assert_true(slice_is(table_text(table, table_pop(table, 0)->name), "local"));
    assert_true(slice_is(table_text(table, table_pop(table, 1)->region), "eu-west"));
    assert_int_equal(table_pop(table, 1)->country, 7);
    assert_null(table_pop(table, 2));
    assert_int_equal(table_pop(table, 0)->address_count, 0);
    assert_int_equal(table_pop(table, 1)->flags, TABLE_POP_LOCATED | TABLE_POP_UP);
    assert_true(table_pop(table, 1)->latitude == 48.5f && table_pop(table, 1)->longitude == 2.5f);
    assert_int_equal(table_pop(table, 1)->address_count, 2);
    assert_memory_equal(table_addresses(table, table_pop(table, 1)), pop_addresses,
                        sizeof pop_addresses);

    residency = table_residency(table, row);
    assert_int_equal(residency->placement_count, 2);
    const struct table_placement *placed = table_placements(table, residency);
    assert_true(placed[0].pop == 0 && placed[0].replicas == 2);
    assert_true(placed[1].pop == 1 && placed[1].replicas == 3);
    /* What a damaged table says is not believed. */
    struct table_placement *written = (struct table_placement *)(uintptr_t)placed;
    written[1].pop = 2;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    written[1].pop = 0;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    written[1].pop = 1;
    assert_int_equal(table_check(bytes, &err), 0);
    struct table_pop *paris = (struct table_pop *)(uintptr_t)table_pop(table, 1);
    paris->latitude = NAN;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    paris->latitude = 48.5f;
    paris->address_count = 3;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    paris->address_count = 2;
    paris->flags = 8;
    assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
    paris->flags = TABLE_POP_UP;
    assert_int_equal(table_check(bytes, &err), 0);

    versions(table, bytes, row);
    arena_free(arena);
}

#define IN(range) offsetof(struct table_head, range)
#define SECOND(type, member) (sizeof(struct type) + offsetof(struct type, member))

static const struct {
    const char *name, *error;
    size_t range, offset; /* of a 32-bit word: from where a range of the head begins; 0: the head */
    uint32_t value;
} bad_words[] = {
    { "a version before the first", "version 0, ", 0, offsetof(struct table_head, version), 0 },
    { "a version after the last", "reads 1 to ", 0, offsetof(struct table_head, version),
      TABLE_VERSION + 1 },
    { "an endpoint without a name", "a name of endpoint 0 ", IN(endpoints),
      offsetof(struct table_endpoint, name.bytes), 0 },
    { "an endpoint without a project", "a name of endpoint 0 ", IN(endpoints),
      offsetof(struct table_endpoint, project.bytes), 0 },
    { "another's revision", "endpoint 1 serves what is not its own", IN(endpoints),
      SECOND(table_endpoint, serving), 0 },
    { "no request at a time", "endpoint 0 has a limit", IN(endpoints),
      offsetof(struct table_endpoint, concurrency), 0 },
    { "a split of an unknown kind", "the shares of endpoint 0 ", IN(splits),
      offsetof(struct table_split, flags), UINT32_MAX },
    { "a canary of another", "the shares of endpoint 1 ", IN(splits), SECOND(table_split, canary),
      0 },
    { "a PoP beyond the pole", "PoP 0 is outside", IN(pops), offsetof(struct table_pop, latitude),
      0x42b60000 /* 91 */ },
    { "a PoP beyond the date line", "PoP 0 is outside", IN(pops),
      offsetof(struct table_pop, longitude), 0x43480000 /* 200 */ },
    { "a PoP at a place that is no number", "PoP 0 is outside", IN(pops),
      offsetof(struct table_pop, longitude), 0x7fc00000 },
    { "an authority that is elsewhere", "how revision 0 is reached", IN(reaches),
      offsetof(struct table_reach, authority.offset), UINT32_MAX },
    { "a scope that is none", "rule 0 is none", IN(rules),
      offsetof(struct residency_rule, process.scope), 3 },
    { "clients of the same country", "rule 0 is none", IN(rules),
      offsetof(struct residency_rule, clients.scope), RESIDENCY_SAME_COUNTRY },
    { "a word for later", "rule 0 is none", IN(rules),
      offsetof(struct residency_rule, cache.reserved), 1 },
};

static void test_bad_words(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_words / sizeof *bad_words; i++) {
        struct arena *arena = arena_new();
        struct slice bytes = build(arena);
        char *data = (char *)(uintptr_t)bytes.data;
        size_t at = bad_words[i].offset;
        struct err err;
        print_message("  %s\n", bad_words[i].name);
        if (bad_words[i].range)
            at += ((const struct table_range *)(const void *)(data + bad_words[i].range))->offset;
        memcpy(data + at, &bad_words[i].value, sizeof bad_words[i].value);
        assert_int_equal(table_check(bytes, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, bad_words[i].error));
        arena_free(arena);
    }
}

/* A head that is longer in each version, at an address that rows may have. */
static void test_bad_sizes(void **state)
{
    static const size_t heads[] = { TABLE_HEAD_BYTES_1, TABLE_HEAD_BYTES_2, TABLE_HEAD_BYTES_3,
                                    TABLE_HEAD_BYTES_4 };
    struct arena *arena = arena_new();
    struct slice bytes = build(arena);
    char *odd = arena_alloc(arena, bytes.size + 8);
    struct err err;
    (void)state;
    for (uint32_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct table_head head;
        memcpy(&head, bytes.data, sizeof head);
        head.version = i + 2;
        assert_int_equal(table_check((struct slice){ (const char *)&head, heads[i] }, &err),
                         ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, "bytes are no table"));
    }
    memcpy(odd + 4, bytes.data, bytes.size);
    assert_int_equal(table_check((struct slice){ odd + 4, bytes.size }, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "bytes are no table"));
    assert_int_equal(table_check((struct slice){ bytes.data, TABLE_BYTES_MAX + 1 }, &err),
                     ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "bytes are no table"));
    arena_free(arena);
}

static void test_a_source_of_equal_names_is_refused(void **state)
{
    struct arena *arena = arena_new();
    struct table_source_endpoint two[] = { endpoints[0], endpoints[0] };
    struct table_source source = { .endpoints = two, .endpoint_count = 2 };
    struct slice bytes;
    struct err err;
    (void)state;

    assert_int_equal(table_build(arena, &source, &bytes, &err), ERR_BAD_INPUT);
    source.endpoint_count = 0;
    assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
    arena_free(arena);
}

/* Whatever one byte becomes, the check says no or every accessor stays inside (ASan watches). */
static void test_flipped_bytes(void **state)
{
    struct arena *arena = arena_new();
    struct slice bytes = build(arena);
    unsigned refused = 0;
    (void)state;

    for (size_t i = 0; i < bytes.size; i += i < 4096 ? 1 : 37)
        for (unsigned bit = 0; bit < 8; bit += 3) {
            char *copy = malloc(bytes.size);
            struct err err;
            memcpy(copy, bytes.data, bytes.size);
            copy[i] ^= (char)(1u << bit);
            if (table_check((struct slice){ copy, bytes.size }, &err) < 0)
                refused++;
            else
                (void)table_find_endpoint((const void *)copy, SLICE("default"), SLICE("digits"));
            free(copy);
        }
    assert_true(refused > 100);
    for (size_t cut = 0; cut < bytes.size; cut += 41)
        assert_int_equal(table_check((struct slice){ bytes.data, cut }, NULL), ERR_BAD_INPUT);
    arena_free(arena);
}

static void test_file(void **state)
{
    struct arena *arena = arena_new();
    struct slice bytes = build(arena), opened;
    unsigned char key[TABLE_KEY_BYTES] = { 1, 2, 3 };
    char *file = arena_alloc(arena, bytes.size + TABLE_MAC_BYTES);
    struct slice whole = { file, bytes.size + TABLE_MAC_BYTES };
    struct err err;
    (void)state;

    memcpy(file, bytes.data, bytes.size);
    assert_int_equal(table_mac(key, bytes, (unsigned char *)file + bytes.size, &err), 0);
    assert_int_equal(table_open_file(key, whole, &opened, &err), 0);
    assert_int_equal(opened.size, bytes.size);
    key[0] ^= 1;
    assert_int_equal(table_open_file(key, whole, &opened, &err), ERR_BAD_INPUT);
    key[0] ^= 1;
    file[100] ^= 1;
    assert_int_equal(table_open_file(key, whole, &opened, &err), ERR_BAD_INPUT);
    assert_int_equal(table_open_file(key, (struct slice){ file, 20 }, &opened, &err),
                     ERR_BAD_INPUT);
    assert_int_equal(table_open_file(key,
                                     (struct slice){ file, TABLE_BYTES_MAX + TABLE_MAC_BYTES + 1 },
                                     &opened, &err),
                     ERR_BAD_INPUT);
    file[0] ^= 1; /* no table, and its MAC is right */
    bytes.data = file;
    assert_int_equal(table_mac(key, bytes, (unsigned char *)file + bytes.size, &err), 0);
    assert_int_equal(table_open_file(key, whole, &opened, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

static int written(const char *name, const void *bytes, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    return fd; /* at its end: it is read from its beginning all the same */
}

static void test_read_file(void **state)
{
    struct arena *arena = arena_new();
    struct slice bytes = build(arena), read;
    unsigned char key[TABLE_KEY_BYTES] = { 4, 5, 6 }, mac[TABLE_MAC_BYTES];
    struct err err;
    char *data;
    (void)state;

    assert_int_equal(table_mac(key, bytes, mac, &err), 0);
    int key_fd = written("key", key, sizeof key);
    int short_fd = written("short", key, sizeof key - 1);
    int table_fd = written("table", bytes.data, bytes.size);
    assert_int_equal(table_read_file(table_fd, key_fd, &data, &read, &err), ERR_BAD_INPUT);
    assert_int_equal(write(table_fd, mac, sizeof mac), sizeof mac);
    assert_int_equal(table_read_file(table_fd, short_fd, &data, &read, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "too short"));
    assert_int_equal(table_read_file(table_fd, -1, &data, &read, &err), ERR_BAD_INPUT);
    assert_int_equal(ftruncate(short_fd, 1 << 20), 0);
    assert_int_equal(table_read_file(table_fd, short_fd, &data, &read, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "odd size"));
    assert_int_equal(table_read_file(table_fd, key_fd, &data, &read, &err), 0);
    assert_ptr_equal(data, read.data);
    assert_int_equal(read.size, bytes.size);
    assert_memory_equal(data, bytes.data, bytes.size);
    free(data);
    close(key_fd);
    close(short_fd);
    close(table_fd);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_residency),
        cmocka_unit_test(test_bad_words),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_a_source_of_equal_names_is_refused),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_read_file),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
