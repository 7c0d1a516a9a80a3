/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "base/slice.h"
#include "contract/ring.h"
#include "runtime/answer.h"
#include "runtime/model_writer.h"

#define SLOT_BYTES (PERIGEE_ANSWER_BYTES + 1024)

static void test_placing(void **state)
{
    char *slot = aligned_alloc(4096, 16384);
    struct answer answer;
    struct runtime_job job = { .status = PERIGEE_DONE };
    static const int64_t dims[] = { 5 };

    (void)state;
    answer_begin(&answer, slot, SLOT_BYTES);
    assert_int_equal(answer_room(&answer), 1024);
    char *first = answer_place(&answer, 5);
    char *second = answer_place(&answer, 64);
    assert_ptr_equal(first, slot + PERIGEE_ANSWER_BYTES);
    assert_ptr_equal(second, first + 64);
    assert_int_equal(answer_room(&answer), 1024 - 128);
    assert_null(answer_place(&answer, 1024 - 127));
    assert_null(answer_place(&answer, UINT64_MAX));
    answer_unplace(&answer, second);
    assert_ptr_equal(answer_place(&answer, 1024 - 64), second);
    assert_int_equal(answer_room(&answer), 0);
    assert_non_null(answer_place(&answer, 0));
    assert_null(answer_place(&answer, 1));

    answer_add(&answer, 3, PERIGEE_UINT8, dims, 1, first, 5);
    answer_finish(&answer, &job);
    const struct perigee_answer *head = (const struct perigee_answer *)(const void *)slot;
    struct err err = {};
    assert_int_equal(head->output_count, 1);
    assert_int_equal(head->message_bytes, 0);
    assert_int_equal(head->outputs[0].index, 3);
    assert_int_equal(tensor_check(&head->outputs[0], SLOT_BYTES, &err), 0);
    free(slot);
}

static void test_messages(void **state)
{
    char *slot = aligned_alloc(4096, 16384), text[2000];
    const struct perigee_answer *head = (const struct perigee_answer *)(const void *)slot;
    struct answer answer;
    struct runtime_job job = {};

    (void)state;
    answer_begin(&answer, slot, SLOT_BYTES);
    job_fail(&job, PERIGEE_FAULT, "a\x1b[31m\nb\xff%s\n", "c");
    answer_finish(&answer, &job);
    assert_int_equal(head->output_count, 0);
    assert_int_equal(head->message_bytes, 10);
    assert_memory_equal(head->message, "a [31m b c", 10);

    for (size_t i = 0; i < sizeof text - 2; i += 2) /* cut inside a character */
        memcpy(text + i, "\xc3\xa9", 2);
    text[sizeof text - 2] = 0;
    job_fail(&job, PERIGEE_FAULT, "x%s", text);
    answer_finish(&answer, &job);
    assert_true(head->message_bytes > 1000 && head->message_bytes <= sizeof head->message);
    assert_true(utf8_valid((struct slice){ head->message, head->message_bytes }));

    answer_too_large(&answer, &job, "y", 99999);
    assert_int_equal(job.status, PERIGEE_TOO_LARGE);
    assert_non_null(strstr(job.message, "output_bytes_max"));
    free(slot);
}

static void test_model(void **state)
{
    struct model_writer *writer = model_writer_new();
    const struct perigee_model *model = NULL;
    struct model_io io = {
        .name = "image", .datatype = PERIGEE_FP32, .rank = 2, .dims = { -7, 64 }, .symbols = { "n" }
    };
    struct err err = {};
    size_t bytes = 0;
    char *huge = malloc(PERIGEE_MODEL_BYTES_MAX + 1);

    (void)state;
    memset(huge, 'x', PERIGEE_MODEL_BYTES_MAX);
    huge[PERIGEE_MODEL_BYTES_MAX] = 0;
    assert_int_equal(model_platform(writer, "test", &err), 0);
    assert_int_equal(model_input(writer, &io, &err), 0);
    assert_int_equal(model_output(writer, &io, &err), 0);
    assert_int_equal(model_property(writer, "key", "value", &err), 0);
    assert_true(model_property(writer, "key", "\xff", &err) < 0);
    assert_true(model_property(writer, "key", huge, &err) < 0);
    model_batch(writer, 4);
    assert_int_equal(model_writer_finish(writer, &model, &bytes, &err), 0);
    assert_int_equal(model->property_count, 1);
    assert_int_equal(model->inputs[0].dims[0], -1);
    assert_int_equal(model->inputs[0].symbols[0].bytes, 1);
    assert_int_equal(model->inputs[0].symbols[1].bytes, 0);

    io.rank = 17;
    assert_true(model_input(writer, &io, &err) < 0);
    io.rank = 1;
    io.name = huge;
    assert_true(model_input(writer, &io, &err) < 0);
    io.name = "image"; /* twice: found at the end */
    assert_int_equal(model_input(writer, &io, &err), 0);
    assert_true(model_writer_finish(writer, &model, &bytes, &err) < 0);
    for (unsigned i = 2; i < PERIGEE_TENSORS_MAX; i++)
        assert_int_equal(model_input(writer, &io, &err), 0);
    assert_true(model_input(writer, &io, &err) < 0);
    model_writer_free(writer);
    model_writer_free(NULL);
    free(huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placing),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
