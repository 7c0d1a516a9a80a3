/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events out of a stream, however it is cut. */
#include "proto/sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <stdio.h>
#include <string.h>

struct heard {
    char text[512];
    size_t stop_after, count;
};

static bool on_event(struct slice kind, struct slice id, struct slice text, void *data)
{
    struct heard *heard = data;
    size_t used = strlen(heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "[%.*s %.*s %.*s]", SLICE_FMT(kind),
             SLICE_FMT(id), SLICE_FMT(text));
    return ++heard->count != heard->stop_after;
}

static const struct {
    const char *name, *stream, *wanted;
    size_t stop_after;
} rows[] = {
    { "one", "event: e\nid: 1\ndata: x\n\n", "[e 1 x]", 0 },
    { "two", "id: 1\ndata: x\n\nid: 2\ndata: y\n\n", "[message 1 x][message 2 y]", 0 },
    { "the id stays", "id: 7\ndata: x\n\ndata: y\n\n", "[message 7 x][message 7 y]", 0 },
    { "CR LF", "event: e\r\ndata: x\r\n\r\ndata: y\r\n\r\n", "[e  x][message  y]", 0 },
    { "CR", "event: e\rdata: x\r\rdata: y\r\r.", "[e  x][message  y]", 0 },
    { "comments", ": watching\n\n: ping\n\ndata: x\n\n: ping\n\n", "[message  x]", 0 },
    { "several lines", "data: a\ndata: b\n\n", "[message  a\nb]", 0 },
    { "the kind behind the data", "data: aaaaaaaaaaaaaa\nevent: late\ndata: bbbbbbbbbb\n\n",
      "[late  aaaaaaaaaaaaaa\nbbbbbbbbbb]", 0 },
    { "no blank", "data:x\n\n", "[message  x]", 0 },
    { "two blanks", "data:  x\n\n", "[message   x]", 0 },
    { "no colon", "data\n\n", "[message  ]", 0 },
    { "unknown fields", "retry: 5\nfoo: bar\ndata: x\n\n", "[message  x]", 0 },
    { "half an event", "data: x\n\ndata: y\n", "[message  x]", 0 },
    { "no more than wanted", "data: x\n\ndata: y\n\n", "[message  x]", 1 },
    { "an id that is too long",
      "id: 0123456789012345678901234567890123456789012345678901234567890123456789\ndata: x\n\n",
      "[message  x]", 0 },
};

/* In pieces of 1, 2, 3 ... bytes: the same. */
static void test_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t all = strlen(rows[i].stream);
        print_message("  %s\n", rows[i].name);
        for (size_t piece = 1; piece <= all; piece++) {
            struct heard heard = { .stop_after = rows[i].stop_after };
            struct sse sse = { .on_event = on_event, .data = &heard };
            bool more = true;
            for (size_t at = 0; at < all && more; at += piece) {
                size_t size = all - at < piece ? all - at : piece;
                more = sse_feed(&sse, (struct slice){ rows[i].stream + at, size });
            }
            assert_string_equal(heard.text, rows[i].wanted);
            assert_int_equal(sse.ended, rows[i].stop_after != 0);
            sse_deinit(&sse);
        }
    }
}

static void test_begins_anew(void **state)
{
    struct heard heard = {};
    struct sse sse = { .on_event = on_event, .data = &heard };
    (void)state;
    assert_true(sse_feed(&sse, SLICE("id: 3\ndata: x\n\ndata: hal")));
    sse_again(&sse);
    assert_string_equal(sse.last_id, "3");
    assert_true(sse_feed(&sse, SLICE("data: y\n\n")));
    assert_string_equal(heard.text, "[message 3 x][message 3 y]");
    sse_deinit(&sse);
}

static void test_is_bounded(void **state)
{
    struct heard heard = {};
    struct sse sse = { .on_event = on_event, .data = &heard };
    static char junk[1 << 20];
    size_t pieces = 0;
    (void)state;
    memset(junk, 'x', sizeof junk);
    while (sse_feed(&sse, (struct slice){ junk, sizeof junk }) && pieces < 100)
        pieces++;
    assert_true(sse.too_large);
    assert_in_range(pieces, 1, SSE_EVENT_BYTES_MAX / sizeof junk);
    sse_deinit(&sse);
    sse = (struct sse){ .on_event = on_event, .data = &heard, .event_bytes_max = 10 };
    assert_true(sse_feed(&sse, (struct slice){ junk, 10 }));
    assert_false(sse_feed(&sse, (struct slice){ junk, 1 }));
    assert_true(sse.too_large);
    sse_deinit(&sse);
}

/* Also where the pieces made the buffer grow, and another event has begun behind it. */
static void test_nothing_is_left(void **state)
{
    static const char secret[] = "0123456789abcdef0123456789abcdef";
    char stream[256];
    (void)state;
    snprintf(stream, sizeof stream, "event: keys\nid: 1\ndata: %s\n\nda", secret);
    for (size_t piece = 1; piece <= strlen(stream); piece++) {
        struct heard heard = {};
        struct sse sse = { .on_event = on_event, .data = &heard };
        for (size_t at = 0, size; at < strlen(stream); at += size) {
            size = strlen(stream) - at < piece ? strlen(stream) - at : piece;
            assert_true(sse_feed(&sse, (struct slice){ stream + at, size }));
        }
        assert_non_null(strstr(heard.text, secret));
        assert_int_equal(sse.used, 2);
        for (size_t i = sse.used; i + 8 <= sse.room; i++)
            assert_null(memmem(secret, sizeof secret - 1, sse.buffer + i, 8));
        sse_deinit(&sse);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_begins_anew),
        cmocka_unit_test(test_is_bounded),
        cmocka_unit_test(test_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
