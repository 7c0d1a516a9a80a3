/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"

static void test_types(void **state)
{
    (void)state;
    for (int type = -1; type <= TENSOR_TYPE_COUNT; type++) {
        bool known = type > TENSOR_NONE && type < TENSOR_TYPE_COUNT;
        assert_int_equal(strcmp(tensor_type_name(type), "?") != 0, known);
        assert_int_equal(strcmp(tensor_config_name(type), "TYPE_INVALID") != 0, known);
        assert_int_equal(tensor_type_bytes(type) > 0, known && type != TENSOR_BYTES);
        assert_int_equal(tensor_type_of(slice_of(tensor_type_name(type))), known ? type : 0);
    }
}

static void test_sizes(void **state)
{
    static const struct {
        enum tensor_type type;
        struct tensor_shape shape;
        bool elements, bytes;
        uint64_t count;
    } rows[] = {
        { TENSOR_FP32, { 0, {} }, true, true, 1 },
        { TENSOR_FP32, { 2, { 2, 3 } }, true, true, 6 },
        { TENSOR_BYTES, { 2, { 2, 3 } }, true, false, 6 },
        { TENSOR_NONE, { 1, { 1 } }, true, false, 1 },
        { TENSOR_FP32, { 2, { 0, 3 } }, true, true, 0 },
        { TENSOR_FP32, { 1, { -1 } }, false, false, 0 },
        { TENSOR_FP32, { TENSOR_RANK_MAX + 1, {} }, false, false, 0 },
        { TENSOR_UINT8, { 1, { TENSOR_BYTES_MAX } }, true, true, TENSOR_BYTES_MAX },
        { TENSOR_UINT8, { 1, { TENSOR_BYTES_MAX + 1 } }, false, false, 0 },
        { TENSOR_FP64, { 1, { TENSOR_BYTES_MAX / 4 } }, true, false, TENSOR_BYTES_MAX / 4 },
        { TENSOR_FP32, { 2, { INT64_MAX, INT64_MAX } }, false, false, 0 },
        { TENSOR_FP32, { 3, { 0, INT64_MAX, 4 } }, false, false, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t count = 0, bytes = 0;
        print_message("  %zu\n", i);
        assert_int_equal(tensor_elements(&rows[i].shape, &count), rows[i].elements);
        assert_int_equal(count, rows[i].count);
        assert_int_equal(tensor_bytes(rows[i].type, &rows[i].shape, &bytes), rows[i].bytes);
        if (rows[i].bytes)
            assert_int_equal(bytes, count * tensor_type_bytes(rows[i].type));
    }
}

static void test_fits_and_texts(void **state)
{
    const struct tensor_meta any = { .rank_any = true };
    const struct slice symbols[] = { SLICE("rows"), {} };
    struct tensor_meta meta = { .shape = { 2, { -1, 3 } }, .symbols = symbols };
    struct tensor_shape shape = { 2, { 7, 3 } };
    (void)state;
    assert_true(tensor_fits(&any, &shape));
    assert_true(tensor_fits(&meta, &shape));
    shape.dims[1] = 4;
    assert_false(tensor_fits(&meta, &shape));
    shape.rank = 1;
    assert_false(tensor_fits(&meta, &shape));
    assert_string_equal(TENSOR_META(&any), "[any]");
    assert_string_equal(TENSOR_META(&meta), "[rows,3]");
    assert_string_equal(TENSOR_SHAPE(&meta.shape), "[-1,3]");
    struct tensor_shape deep = { TENSOR_RANK_MAX + 3, {} };
    for (size_t i = 0; i < TENSOR_RANK_MAX; i++)
        deep.dims[i] = INT64_MIN;
    assert_non_null(strstr(TENSOR_SHAPE(&deep), ",...]"));
    for (size_t i = 0; i < TENSOR_RANK_MAX; i++)
        deep.dims[i] = 1;
    assert_string_equal(TENSOR_SHAPE(&deep), "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]");
}

static void test_strings(void **state)
{
    static const struct {
        struct slice bytes;
        uint64_t elements;
        const char *says; /* NULL: fine */
    } rows[] = {
        { SLICE(""), 0, NULL },
        { SLICE("\1\0\0\0a\0\0\0\0"), 2, NULL },
        { SLICE(""), 1, "end in front of element 0" },
        { SLICE("\0\0\0"), 1, "end in front of element 0" },
        { SLICE("\0\0\0\0\0"), 2, "end in front of element 1" },
        { SLICE("\2\0\0\0a"), 1, "says it has 2 bytes, and 1 are left" },
        { SLICE("\xff\xff\xff\xff"), 1, "says it has 4294967295 bytes" },
        { SLICE("\0\0\0\0\0"), 1, "1 bytes are left over behind 1 elements" },
        { SLICE("a"), 0, "left over" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        print_message("  %zu\n", i);
        int r =
            tensor_strings_check(rows[i].bytes.data, rows[i].bytes.size, rows[i].elements, &err);
        assert_int_equal(r, rows[i].says ? ERR_BAD_INPUT : 0);
        if (rows[i].says)
            assert_non_null(strstr(err.message, rows[i].says));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_fits_and_texts),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
