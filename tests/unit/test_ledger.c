/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include <openssl/evp.h>

#include "base/arena.h"
#include "base/err.h"

#define UID(endpoint, number) ((uint64_t)(endpoint) << LEDGER_REVISION_BITS | (number))

static struct ledger_row rows[] = {
    { 1, 1, { .requests = 10, .cpu_us = 500, .busy_us = 300, .start_us = 100, .life_ms = 20 } },
    { 1, 2, { .requests = 1, .bytes_in = 7, .bytes_out = 9 } },
    { 3, 1, { .memory_kibs = 4096, .reserved_kibs = 8192, .starts = 2, .cold_starts = 1 } },
};
static struct ledger_replica_mark replicas[] = { { 7, UID(1, 1), 500, 99, 1024, 2048, 1 } };
static struct ledger_counter_mark counters[] = { { UID(1, 1), 10, 0, 0, 0 } };

static struct ledger_record window(uint64_t number)
{
    return (struct ledger_record){ .type = LEDGER_WINDOW,
                                   .id = { { 1, 2, 3 } },
                                   .first = number,
                                   .last = number,
                                   .begin_ms = 1000 * (int64_t)number,
                                   .length_ms = 1000,
                                   .offered = true,
                                   .rows = rows,
                                   .row_count = 3,
                                   .marks = { .era = 5,
                                              .replicas = replicas,
                                              .replica_count = 1,
                                              .counters = counters,
                                              .counter_count = 1 } };
}

/* A head, `count` windows, an offer. */
static struct slice ledger_of(struct arena *arena, uint64_t count)
{
    static char bytes[1 << 16];
    size_t size = 0;
    for (uint64_t i = 0; i <= count + 1; i++) {
        struct ledger_record record = window(i);
        if (i == 0 || i == count + 1)
            record.type = i ? LEDGER_OFFER : LEDGER_FILE;
        if (i == 0)
            memcpy(record.pop, "paris", 6);
        struct slice written = ledger_write(arena, &record);
        assert_true(size + written.size <= sizeof bytes);
        memcpy(bytes + size, written.data, written.size);
        size += written.size;
    }
    return (struct slice){ bytes, size };
}

static void test_round_trip(void **state)
{
    struct arena *arena = arena_new();
    struct slice bytes = ledger_of(arena, 2);
    struct ledger_reader reader;
    struct ledger_record record;
    struct err err = {};
    (void)state;
    ledger_read(&reader, bytes, true);
    assert_int_equal(ledger_next(&reader, arena, &record, &err), 1);
    assert_int_equal(record.type, LEDGER_FILE);
    assert_string_equal(record.pop, "paris");
    assert_int_equal(record.marks.era, 5);
    assert_memory_equal(record.marks.replicas, replicas, sizeof replicas);
    assert_int_equal(ledger_next(&reader, arena, &record, &err), 1);
    assert_int_equal(record.type, LEDGER_WINDOW);
    assert_int_equal(record.first, 1);
    assert_int_equal(record.begin_ms, 1000);
    assert_true(record.offered);
    assert_int_equal(record.row_count, 3);
    assert_memory_equal(record.rows, rows, sizeof rows);
    assert_memory_equal(record.marks.counters, counters, sizeof counters);
    assert_int_equal(ledger_next(&reader, arena, &record, &err), 1);
    assert_int_equal(record.first, 2);
    assert_int_equal(ledger_next(&reader, arena, &record, &err), 1);
    assert_int_equal(record.type, LEDGER_OFFER);
    assert_int_equal(ledger_next(&reader, arena, &record, &err), 0);
    assert_int_equal(reader.damages, 0);
    arena_free(arena);
}

/* Whole records that `bytes` holds, in order, of numbers that grow. */
static unsigned whole_of(struct slice bytes, struct ledger_reader *reader)
{
    struct arena *arena = arena_new();
    struct ledger_record record;
    unsigned count = 0;
    uint64_t last = 0;
    ledger_read(reader, bytes, false);
    while (ledger_next(reader, arena, &record, NULL) == 1) {
        assert_true(record.last >= last);
        last = record.last;
        count++;
    }
    arena_free(arena);
    return count;
}

/* The records before the cut are there, the one that it goes through is not, and is named. */
static void test_cut_at_every_byte(void **state)
{
    struct arena *arena = arena_new();
    struct slice bytes = ledger_of(arena, 3);
    struct ledger_reader reader;
    struct ledger_record record;
    size_t ends[8], count = 0;
    (void)state;
    ledger_read(&reader, bytes, true);
    while (ledger_next(&reader, arena, &record, NULL) == 1)
        ends[count++] = reader.at;
    assert_int_equal(count, 5);
    for (size_t cut = 0; cut <= bytes.size; cut++) {
        size_t whole = 0;
        struct err err = {};
        while (whole < count && ends[whole] <= cut)
            whole++;
        size_t end = whole ? ends[whole - 1] : 0;
        assert_int_equal(whole_of((struct slice){ bytes.data, cut }, &reader), whole);
        assert_int_equal(reader.whole_end, end);
        assert_int_equal(reader.damaged, cut - end);
        if (cut > end)
            assert_int_equal(reader.damaged_at, end);
        ledger_read(&reader, (struct slice){ bytes.data, cut }, true);
        int r = 1;
        while (r == 1)
            r = ledger_next(&reader, arena, &record, &err);
        assert_int_equal(r, cut > end ? ERR_BAD_INPUT : 0);
    }
    arena_free(arena);
}

/* Each flipped bit costs its own record, and no other. */
static void test_every_bit_flipped(void **state)
{
    struct arena *arena = arena_new();
    struct slice bytes = ledger_of(arena, 2);
    struct ledger_reader reader;
    char *copy = malloc(bytes.size);
    (void)state;
    memcpy(copy, bytes.data, bytes.size);
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        copy[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(whole_of((struct slice){ copy, bytes.size }, &reader), 3);
        assert_int_equal(reader.damages, 1);
        assert_true(reader.damaged_at <= bit / 8 && bit / 8 < reader.damaged_at + reader.damaged);
        copy[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(copy);
    arena_free(arena);
}

static void test_contradictions(void **state)
{
    static struct ledger_row bad[][2] = {
        { { 1, 1, { .cpu_us = 5, .busy_us = 6 } }, {} },
        { { 1, 1, { .cpu_us = 5, .busy_us = 3, .start_us = 3 } }, {} },
        { { 1, 1, { .life_ms = 5, .idle_ms = 6 } }, {} },
        { { 1, 1, { .starts = 1, .cold_starts = 2 } }, {} },
        { { 1, 1, { .requests = FIGURE_MAX + 1 } }, {} },
        { { 0, 1, {} }, {} },
        { { 1, 0, {} }, {} },
        { { UINT64_C(1) << 41, 1, {} }, {} },
        { { 1, 1 << 24, {} }, {} },
        { { 1, 1, {} }, { 1, 1, {} } },
        { { 2, 1, {} }, { 1, 1, {} } },
    };
    struct arena *arena = arena_new();
    struct ledger_reader reader;
    struct ledger_record record;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {};
        record = window(1);
        record.rows = bad[i];
        record.row_count = i < 9 ? 1 : 2;
        ledger_read(&reader, ledger_write(arena, &record), true);
        assert_int_equal(ledger_next(&reader, arena, &record, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, "contradict"));
    }
    struct err err = {};
    record = window(0);
    ledger_read(&reader, ledger_write(arena, &record), true);
    assert_int_equal(ledger_next(&reader, arena, &record, &err), ERR_BAD_INPUT);
    record = window(2);
    record.last = 1;
    ledger_read(&reader, ledger_write(arena, &record), true);
    assert_int_equal(ledger_next(&reader, arena, &record, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

/* As a record says: a SHA-256 of it with its own place empty. */
static void digest_again(char *record, size_t bytes)
{
    enum { CHECK_AT = 48, CHECK_BYTES = 16 };
    unsigned char whole[EVP_MAX_MD_SIZE];
    memset(record + CHECK_AT, 0, CHECK_BYTES);
    assert_int_equal(EVP_Digest(record, bytes, whole, NULL, EVP_sha256(), NULL), 1);
    memcpy(record + CHECK_AT, whole, CHECK_BYTES);
}

/* Whole, by its digest, and still none: one number changed in it, or its end left out. */
static void test_records_that_cannot_be(void **state)
{
    enum { TYPE = 8, LAST = 24, HEAD = 64, FILE_BODY = 96, WINDOW_BODY = 40 };
    static const struct {
        const char *name;
        enum ledger_type type;
        size_t offset, size;
        uint64_t value;
        size_t bytes; /* 0: all */
        const char *wanted;
    } cases[] = {
        { "before 1970", LEDGER_WINDOW, HEAD, 8, UINT64_MAX, 0, "its time" },
        { "in 300,000 years", LEDGER_WINDOW, HEAD, 8, (UINT64_C(1) << 53) + 1, 0, "its time" },
        { "of 20 years", LEDGER_WINDOW, HEAD + 8, 8, UINT64_C(630'720'000'000), 0, "its time" },
        { "offered twice", LEDGER_WINDOW, HEAD + 24, 4, 2, 0, "its time" },
        { "too many rows", LEDGER_WINDOW, HEAD + 28, 4, LEDGER_ROWS_MAX + 1, 0, "its parts" },
        { "too many replicas", LEDGER_WINDOW, HEAD + 32, 4, LEDGER_MARKS_MAX + 1, 0, "its parts" },
        { "too many counters", LEDGER_WINDOW, HEAD + 36, 4, LEDGER_MARKS_MAX + 1, 0, "its parts" },
        { "a row less", LEDGER_WINDOW, HEAD + 28, 4, 2, 0, "its parts" },
        { "a cut window", LEDGER_WINDOW, LAST, 8, 1, HEAD + WINDOW_BODY - 8, "too short" },
        { "a cut head of a file", LEDGER_FILE, LAST, 8, 1, HEAD + FILE_BODY - 8, "too short" },
        { "a file with more marks", LEDGER_FILE, HEAD + 92, 4, 2, 0, "its parts" },
        { "a file of an endless name", LEDGER_FILE, HEAD + 63, 1, 'x', 0, "its parts" },
        { "a last number beyond", LEDGER_OFFER, LAST, 8, UINT64_MAX, 0, "its numbers" },
        { "an unknown kind", LEDGER_OFFER, TYPE, 2, 9, 0, "its kind" },
        { "an offer of something", LEDGER_WINDOW, TYPE, 2, LEDGER_OFFER, 0, "its kind" },
    };
    struct arena *arena = arena_new();
    struct ledger_reader reader;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ledger_record record = window(1);
        struct err err = {};
        record.type = cases[i].type;
        memset(record.pop, 'x', sizeof record.pop - 1);
        struct slice written = ledger_write(arena, &record);
        char *bytes = (char *)(uintptr_t)written.data;
        uint32_t size = (uint32_t)(cases[i].bytes ? cases[i].bytes : written.size);
        print_message("  %s\n", cases[i].name);
        memcpy(bytes + cases[i].offset, &cases[i].value, cases[i].size);
        memcpy(bytes + 4, &size, sizeof size);
        digest_again(bytes, size);
        ledger_read(&reader, (struct slice){ bytes, size }, true);
        assert_int_equal(ledger_next(&reader, arena, &record, &err), ERR_BAD_INPUT);
        if (!strstr(err.message, cases[i].wanted))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].wanted);
        ledger_read(&reader, (struct slice){ bytes, size }, false);
        assert_int_equal(ledger_next(&reader, arena, &record, &err), 0);
        assert_int_equal(reader.damaged, size);
    }
    arena_free(arena);
}

/* What looks like the beginning of a record each eight bytes costs so many tries, and no more. */
static void test_many_false_beginnings(void **state)
{
    enum { COUNT = 6000 };
    static const uint32_t beginning[] = { LEDGER_MAGIC, 1 };
    struct arena *arena = arena_new();
    struct slice good = ledger_of(arena, 0);
    size_t bytes = COUNT * sizeof beginning + good.size;
    char *all = malloc(bytes);
    struct ledger_reader reader;
    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        memcpy(all + i * sizeof beginning, beginning, sizeof beginning);
    memcpy(all + COUNT * sizeof beginning, good.data, good.size);
    assert_int_equal(
        whole_of((struct slice){ all + 2000 * sizeof beginning, bytes - 2000 * sizeof beginning },
                 &reader),
        2);
    assert_int_equal(whole_of((struct slice){ all, bytes }, &reader), 0);
    assert_int_equal(reader.damaged, bytes);
    free(all);
    arena_free(arena);
}

/* Two that are together more than a window may be. */
static void test_merged_beyond_a_window(void **state)
{
    struct arena *arena = arena_new();
    struct ledger_record records[2] = { window(1), window(2) }, merged;
    (void)state;
    for (uint64_t i = 0; i < 2; i++) {
        records[i].rows = ARENA_ARRAY(arena, struct ledger_row, LEDGER_ROWS_MAX);
        records[i].row_count = LEDGER_ROWS_MAX;
        for (uint64_t k = 0; k < LEDGER_ROWS_MAX; k++)
            records[i].rows[k] = (struct ledger_row){ 1 + k, 1 + i, {} };
    }
    assert_false(ledger_merge(arena, records, 2, &merged));
    records[1].row_count = 0;
    for (uint64_t i = 0; i < 2; i++) /* eight years each */
        records[i].length_ms = UINT64_C(8) * 366 * 24 * 3600 * 1000;
    records[1].begin_ms = records[0].begin_ms + (int64_t)records[0].length_ms;
    assert_true(ledger_merge(arena, records, 2, &merged));
    assert_int_equal(merged.row_count, LEDGER_ROWS_MAX);
    assert_int_equal(merged.length_ms, UINT64_C(10) * 366 * 24 * 3600 * 1000);
    arena_free(arena);
}

static void sum_rows(struct figures sums[4][4], const struct ledger_record *record)
{
    for (uint32_t i = 0; i < record->row_count; i++)
        figures_add(&sums[record->rows[i].endpoint][record->rows[i].revision],
                    &record->rows[i].figures);
}

/* However windows are put together, each endpoint's sums are the same. */
static void test_merged_sums(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 200; round++) {
        struct arena *arena = arena_new();
        struct ledger_record records[12] = {}, merged;
        struct figures before[4][4] = {}, after[4][4] = {};
        size_t count = 1 + (size_t)rand() % 12;
        int64_t begin_ms = 1'000'000, first_ms = INT64_MAX;
        for (size_t i = 0; i < count; i++) {
            struct ledger_row *own = ARENA_ARRAY(arena, struct ledger_row, 16);
            records[i] = window(i + 1);
            records[i].rows = own;
            records[i].row_count = 0;
            begin_ms += rand() % 4000 - 1000; /* clocks are set back as well */
            records[i].begin_ms = begin_ms;
            first_ms = begin_ms < first_ms ? begin_ms : first_ms;
            for (uint64_t e = 1; e < 4; e++)
                for (uint64_t n = 1; n < 4; n++)
                    if (rand() % 2)
                        own[records[i].row_count++] = (struct ledger_row){
                            e, n, { .requests = (uint64_t)rand(), .cpu_us = (uint64_t)rand() }
                        };
            sum_rows(before, &records[i]);
        }
        assert_true(ledger_merge(arena, records, count, &merged));
        sum_rows(after, &merged);
        assert_memory_equal(before, after, sizeof before);
        assert_int_equal(merged.first, 1);
        assert_int_equal(merged.last, count);
        assert_int_equal(merged.begin_ms, first_ms);
        arena_free(arena);
    }
}

static void test_sums_stay_within_bounds(void **state)
{
    struct figures sum = { .cpu_us = FIGURE_MAX - 1, .busy_us = FIGURE_MAX - 10, .start_us = 9 };
    const struct figures more = { .cpu_us = 100, .busy_us = 50, .start_us = 50, .requests = 1 };
    (void)state;
    figures_add(&sum, &more);
    assert_int_equal(sum.cpu_us, FIGURE_MAX);
    assert_true(figures_right(&sum));
    assert_int_equal(sum.requests, 1);
}

static void test_hex(void **state)
{
    const uint8_t bytes[16] = { 0x00, 0x0f, 0xf0, 0xab };
    uint8_t back[16];
    char text[33];
    (void)state;
    ledger_hex(bytes, text);
    assert_string_equal(text, "000ff0ab000000000000000000000000");
    assert_true(ledger_unhex(slice_of(text), back));
    assert_memory_equal(back, bytes, 16);
    assert_false(ledger_unhex(SLICE("000ff0ab00000000000000000000000"), back));
    assert_false(ledger_unhex(SLICE("000ff0ab00000000000000000000000G"), back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_every_bit_flipped),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_records_that_cannot_be),
        cmocka_unit_test(test_many_false_beginnings),
        cmocka_unit_test(test_merged_beyond_a_window),
        cmocka_unit_test(test_merged_sums),
        cmocka_unit_test(test_sums_stay_within_bounds),
        cmocka_unit_test(test_hex),
    };
    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
