/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/codec_gzip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/err.h"
#include "proto/text.h"

static const struct {
    const char *header;
    enum codec wanted;
} accepts[] = {
    { "", CODEC_IDENTITY },
    { "gzip", CODEC_GZIP },
    { "deflate", CODEC_DEFLATE },
    { "gzip, deflate, br", CODEC_GZIP },
    { "deflate, gzip", CODEC_GZIP },
    { "deflate;q=1.0, gzip;q=0.5", CODEC_DEFLATE },
    { "GZIP;Q=0.5", CODEC_GZIP },
    { "gzip;q=0", CODEC_IDENTITY },
    { "gzip;q=0, deflate;q=0.001", CODEC_DEFLATE },
    { "br", CODEC_IDENTITY },
    { "*", CODEC_GZIP },
    { "*;q=0", CODEC_IDENTITY },
    { "identity, gzip;q=0.5", CODEC_IDENTITY },
    { "gzip;q=0, *", CODEC_DEFLATE },
    { "identity;q=0.5, gzip;q=0.5", CODEC_GZIP },
    { "gzip;q=nonsense", CODEC_IDENTITY },
    { "gzip ; q=0.8 ,", CODEC_GZIP },
    { ",,;", CODEC_IDENTITY },
    { "gzip;q", CODEC_GZIP },
    { "gzip;x=1", CODEC_GZIP },
    { "gzip;qq1", CODEC_GZIP },
    { "gzip;q=9", CODEC_GZIP },
    { "gzip;q=0.12345", CODEC_GZIP },
    { "gzip;q=0.5;q=0", CODEC_IDENTITY },
    { "gzip;q=0.1.2", CODEC_IDENTITY },
    { "gzip;q=1, deflate;q=0.5", CODEC_GZIP },
};

static void test_accept(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof accepts / sizeof *accepts; i++) {
        print_message("  '%s'\n", accepts[i].header);
        assert_int_equal(codec_accepted(slice_of(accepts[i].header)), accepts[i].wanted);
    }
}

static void test_content_encoding(void **state)
{
    enum codec codec;
    struct err err;

    (void)state;
    assert_int_equal(codec_parse(SLICE(" X-GZip "), &codec, &err), 0);
    assert_int_equal(codec, CODEC_GZIP);
    assert_int_equal(codec_parse(SLICE(""), &codec, &err), 0);
    assert_int_equal(codec, CODEC_IDENTITY);
    assert_int_equal(codec_parse(SLICE("br"), &codec, &err), ERR_BAD_INPUT);
    assert_int_equal(err_http(&err), 415);
    assert_int_equal(codec_parse(SLICE("gzip, gzip"), &codec, &err), ERR_BAD_INPUT);
}

static void pack(enum codec codec, struct slice plain, struct text *ret)
{
    struct deflater *deflater = deflater_new(codec, 6);

    deflater_push(deflater, (struct slice){ plain.data, plain.size / 2 }, ret);
    deflater_push(deflater,
                  (struct slice){ plain.data + plain.size / 2, plain.size - plain.size / 2 }, ret);
    deflater_finish(deflater, ret);
    deflater_free(deflater);
}

/* `piece` bytes at a time, into `room` bytes at a time. */
static int unpack(enum codec codec, struct slice packed, size_t piece, size_t room, uint64_t max,
                  struct text *ret, struct err *err)
{
    struct inflater *inflater = inflater_new(codec, max);
    int r = 0;

    while (packed.size > 0 && r == 0) {
        struct slice in = { packed.data, packed.size < piece ? packed.size : piece };
        int64_t n;

        packed.data += in.size;
        packed.size -= in.size;
        do {
            n = inflater_run(inflater, &in, text_room(ret, room), room, err);
            if (n < 0)
                r = (int)n;
            else
                ret->size += (size_t)n;
        } while (n == (int64_t)room);
        if (r == 0)
            assert_int_equal(in.size, 0);
    }
    if (r == 0)
        r = inflater_finish(inflater, err);
    inflater_free(inflater);
    return r;
}

static void test_round_trip(void **state)
{
    struct text plain = {};

    (void)state;
    for (int i = 0; i < 30000; i++) {
        text_u64(&plain, (uint64_t)i * 7919 % 1000);
        text_char(&plain, ',');
    }
    for (enum codec codec = CODEC_GZIP; codec <= CODEC_DEFLATE; codec++)
        for (size_t piece = 1; piece < 200000; piece = piece * 7 + 1)
            for (size_t room = 1; room < 200000; room = room * 31 + 1) {
                struct text packed = {}, back = {};
                struct err err;

                pack(codec, text_slice(&plain), &packed);
                assert_int_equal(
                    unpack(codec, text_slice(&packed), piece, room, plain.size, &back, &err), 0);
                assert_true(slice_equal(text_slice(&plain), text_slice(&back)));
                text_deinit(&packed);
                text_deinit(&back);
            }
    text_deinit(&plain);
}

static void test_forms(void **state)
{
    struct text packed = {}, back = {};
    struct err err;

    (void)state;
    /* Raw deflate: zlib's form without its two bytes in front and the checksum behind. */
    pack(CODEC_DEFLATE, SLICE("hello hello hello"), &packed);
    assert_int_equal(unpack(CODEC_DEFLATE, (struct slice){ packed.data + 2, packed.size - 6 }, 1,
                            100, 100, &back, &err),
                     0);
    assert_true(slice_equal(text_slice(&back), SLICE("hello hello hello")));

    /* Two members of gzip are one text. */
    packed.size = back.size = 0;
    pack(CODEC_GZIP, SLICE("one,"), &packed);
    pack(CODEC_GZIP, SLICE("two"), &packed);
    assert_int_equal(unpack(CODEC_GZIP, text_slice(&packed), 5, 100, 100, &back, &err), 0);
    assert_true(slice_equal(text_slice(&back), SLICE("one,two")));

    /* Nothing, packed. */
    packed.size = back.size = 0;
    pack(CODEC_GZIP, SLICE(""), &packed);
    assert_int_equal(unpack(CODEC_GZIP, text_slice(&packed), 5, 100, 0, &back, &err), 0);
    assert_int_equal(back.size, 0);
    text_deinit(&packed);
    text_deinit(&back);
}

static void test_bad(void **state)
{
    struct text packed = {}, back = {};
    struct err err;

    (void)state;
    pack(CODEC_GZIP, SLICE("hello hello hello"), &packed);
    for (size_t i = 0; i < packed.size; i++)
        assert_int_equal(
            unpack(CODEC_GZIP, (struct slice){ packed.data, i }, 100, 100, 100, &back, &err),
            ERR_BAD_INPUT);
    assert_int_equal(unpack(CODEC_DEFLATE, text_slice(&packed), 100, 100, 100, &back, &err),
                     ERR_BAD_INPUT);
    text_char(&packed, 'x');
    assert_int_equal(unpack(CODEC_GZIP, text_slice(&packed), 100, 100, 100, &back, &err),
                     ERR_BAD_INPUT);
    packed.size = 0;
    pack(CODEC_DEFLATE, SLICE("hello"), &packed);
    text_char(&packed, 'x');
    assert_int_equal(unpack(CODEC_DEFLATE, text_slice(&packed), 100, 100, 100, &back, &err),
                     ERR_BAD_INPUT);
    packed.size--; /* another behind it: gzip may have several, deflate may not */
    pack(CODEC_DEFLATE, SLICE("hello"), &packed);
    assert_int_equal(unpack(CODEC_DEFLATE, text_slice(&packed), 100, 100, 100, &back, &err),
                     ERR_BAD_INPUT);
    assert_int_equal(unpack(CODEC_GZIP, SLICE("not gzip at all"), 100, 100, 100, &back, &err),
                     ERR_BAD_INPUT);
    print_message("  %s\n", err.message);
    text_deinit(&packed);
    text_deinit(&back);
}

static void test_bomb(void **state)
{
    static char zeros[1 << 20];
    struct text packed = {}, back = {};
    struct err err;

    (void)state;
    pack(CODEC_GZIP, (struct slice){ zeros, sizeof zeros }, &packed);
    assert_true(packed.size < 2000);
    assert_int_equal(unpack(CODEC_GZIP, text_slice(&packed), 4096, 4096, 100000, &back, &err),
                     ERR_TOO_LARGE);
    assert_true(back.size <= 100000 + 4096);
    text_deinit(&packed);
    text_deinit(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept),     cmocka_unit_test(test_content_encoding),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_bad),        cmocka_unit_test(test_bomb),
    };
    return cmocka_run_group_tests_name("codec_gzip", tests, NULL, NULL);
}
