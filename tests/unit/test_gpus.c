/* SPDX-License-Identifier: Apache-2.0 */
/* Which GPUs a replica gets. */
#include "pop/gpus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h> /* after the above */

#include "folder.h"

#define A "GPU-aaaaaaaa-1111-2222-3333-444444444444"
#define B "GPU-bbbbbbbb-1111-2222-3333-444444444444"
#define C "GPU-cccccccc-1111-2222-3333-444444444444"

static const struct gpus three = { { A, B, C }, 3 };

static void test_those_that_the_fewest_have(void **state)
{
    static const struct {
        const char *name;
        const char *held[4]; /* "1": one that the engine gave it */
        uint32_t wanted;
        const char *chosen;
        uint64_t turn;
    } rows[] = {
        { "the first of all", {}, 1, A },
        { "one that is free", { A }, 1, B },
        { "whichever that is", { A, C }, 1, B },
        { "two that are free", { B }, 2, A "," C },
        { "of one who has two", { A "," B }, 1, C },
        { "none is free: the first", { A, B, C }, 1, A },
        { "what the fewest have", { A, B, C, A }, 1, B },
        { "one free, and one that is not", { A, B }, 2, C "," A },
        { "all of them", { A }, 3, B "," C "," A },
        { "more than there are: the engine says so", {}, 4, "" },
        { "none is wanted", {}, 0, "" },
        { "somebody has what is not here any more", { "GPU-gone", A }, 1, B },
        { "the engine gives the first", { "1" }, 1, B },
        { "... and as many as are wanted", { "2" }, 1, C },
        { "... or more than there are by now", { "4" }, 1, A },
        { "of free ones whose turn it is", {}, 1, B, 1 },
        { "... in the circle", { B }, 1, A, 9 },
        { "... behind the one that is not free", { B }, 1, C, 4 },
        { "... and the next one", {}, 2, C "," A, 2 },
        { "a part of a name is none", { "GPU-aaaaaaaa" }, 1, A },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gpus_held held[4] = {};
        char buffer[GPUS_TEXT_BYTES];
        size_t count = 0;
        for (; count < 4 && rows[i].held[count]; count++) {
            const char *has = rows[i].held[count];
            bool named = has[0] == 'G';
            held[count].ids = named ? slice_of(has) : (struct slice){};
            held[count].count = named ? 1 : (uint32_t)(has[0] - '0');
        }
        print_message("  %s\n", rows[i].name);
        assert_string_equal(gpus_choose(&three, held, count, rows[i].wanted, rows[i].turn, buffer),
                            rows[i].chosen);
    }
}

/* Replicas that come and go, by chance: as long as there are enough, none is had twice. */
static void test_none_is_shared_while_one_is_free(void **state)
{
    struct gpus gpus = { .count = 8 };
    char has[16][GPUS_TEXT_BYTES] = {};
    unsigned needs[16] = {}, total = 0, seed = 7;
    (void)state;

    for (size_t i = 0; i < gpus.count; i++)
        snprintf(gpus.ids[i], sizeof gpus.ids[i], "GPU-%zu", i);
    for (unsigned round = 0; round < 2000; round++) {
        seed = seed * 1103515245 + 12345;
        unsigned who = seed >> 16 & 15, wanted = 1 + (seed >> 20 & 3);
        struct gpus_held held[16] = {};
        unsigned busy[8] = {};
        for (unsigned k = 0; k < 16; k++)
            held[k].ids = slice_of(has[k]);
        if (needs[who]) { /* it ends */
            total -= needs[who];
            needs[who] = 0;
            has[who][0] = '\0';
            continue;
        }
        if (total + wanted > gpus.count)
            continue;
        needs[who] = wanted;
        total += wanted;
        assert_true(gpus_choose(&gpus, held, 16, wanted, round, has[who])[0]);
        for (unsigned k = 0; k < 16; k++)
            for (struct slice rest = slice_of(has[k]); rest.data && rest.size;)
                busy[slice_cut(&rest, ',').data[4] - '0']++;
        for (size_t i = 0; i < gpus.count; i++)
            assert_true(busy[i] <= 1);
    }
}

static void test_what_the_driver_says_of_one(void **state)
{
    static const struct {
        const char *name, *text, *id; /* NULL: it has none */
    } rows[] = {
        { "one", "Model: \t\t NVIDIA L40S\nIRQ:   \t\t 90\nGPU UUID: \t " A "\nVideo BIOS: \t 9\n",
          A },
        { "without an end", "GPU UUID: " A, A },
        { "not looked at yet", "Model: x\nGPU UUID: \t GPU-?-?-?-?-?\n", NULL },
        { "none", "Model: x\n", NULL },
        { "nothing", "", NULL },
        { "another's words", "GPU UUID: GPU-a,GPU-b\n", NULL },
        { "quotes", "GPU UUID: GPU-\"\n", NULL },
        { "too long", "GPU UUID: GPU-0123456789012345678901234567890123456789012345678\n", NULL },
        { "not a GPU's", "GPU UUID: MIG-1\n", NULL },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char id[GPU_ID_BYTES] = "";
        print_message("  %s\n", rows[i].name);
        assert_int_equal(gpus_id_parse(slice_of(rows[i].text), id), rows[i].id != NULL);
        assert_string_equal(id, rows[i].id ? rows[i].id : "");
    }
}

static void put(const char *folder, const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(0, mkdir(path, 0755));
    snprintf(path, sizeof path, "%s/%s/information", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(0, fclose(file));
}

static void test_they_are_read_by_their_place_on_the_bus(void **state)
{
    char folder[FOLDER_BYTES];
    struct gpus gpus = { .count = 7 };
    (void)state;

    folder_make(folder);
    gpus_read(&gpus, folder);
    assert_int_equal(gpus.count, 0);
    put(folder, "0000:c1:00.0", "GPU UUID: " C "\n");
    put(folder, "0000:17:00.0", "GPU UUID: " A "\n");
    put(folder, "0000:61:00.0", "Model: asleep\n");
    gpus_read(&gpus, folder);
    assert_int_equal(gpus.count, 2);
    assert_string_equal(gpus.ids[0], A);
    assert_string_equal(gpus.ids[1], C);
    assert_int_equal(0, folder_remove(folder));
    gpus_read(&gpus, folder);
    assert_int_equal(gpus.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_those_that_the_fewest_have),
        cmocka_unit_test(test_none_is_shared_while_one_is_free),
        cmocka_unit_test(test_what_the_driver_says_of_one),
        cmocka_unit_test(test_they_are_read_by_their_place_on_the_bus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
