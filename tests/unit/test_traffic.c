/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows; and for many seeds: shares come out as the weights say, and a change of weights, or of who
 * is ready, moves no client that need not move. Bounds are five standard deviations.
 */
#include "policy/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <math.h>
#include <stdio.h>

#include "base/slice.h"

enum { DRAWS = 20'000, SEEDS = 20 };

static const struct {
    const char *name;
    struct traffic_share shares[TRAFFIC_SHARES_MAX];
    size_t count;
    uint32_t serves; /* the revision; 0: none */
} rows[] = {
    { "none", {}, 0, 0 },
    { "one", { { 3, 1, true } }, 1, 3 },
    { "one that is not ready", { { 3, 1, false } }, 1, 0 },
    { "one without a weight", { { 3, 0, true } }, 1, 0 },
    { "the ready one has all", { { 1, 999'999, false }, { 2, 1, true } }, 2, 2 },
    { "a weight of 0 has nothing", { { 1, 0, true }, { 2, 1, true } }, 2, 2 },
    { "nothing for who is not ready or has none", { { 1, 0, true }, { 2, 9, false } }, 2, 0 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (uint64_t point = 0; point < 100; point++) {
            int at = traffic_choose(rows[i].shares, rows[i].count, point);
            uint32_t serves = at == TRAFFIC_NONE ? 0 : rows[i].shares[at].revision;
            if (serves != rows[i].serves)
                fail_msg("%s: revision %u", rows[i].name, serves);
        }
}

static uint64_t next(uint64_t *random)
{
    *random = *random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *random ^ *random >> 29;
}

static bool near(double found, double share, double draws)
{
    return fabs(found - draws * share) <= 5 * sqrt(draws * share * (1 - share)) + 1e-9;
}

static void test_shares(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t random = seed;
        struct traffic_share shares[TRAFFIC_SHARES_MAX];
        uint64_t found[TRAFFIC_SHARES_MAX] = {}, all = 0;
        size_t count = 2 + next(&random) % (TRAFFIC_SHARES_MAX - 1);
        for (size_t i = 0; i < count; i++) {
            shares[i] = (struct traffic_share){ (uint32_t)(seed + i), 1 + next(&random) % 1000,
                                                i == 0 || next(&random) % 4 > 0 };
            all += shares[i].ready ? shares[i].weight : 0;
        }
        for (int i = 0; i < DRAWS; i++)
            found[traffic_choose(shares, count, next(&random))]++;
        for (size_t i = 0; i < count; i++) {
            double share = shares[i].ready ? (double)shares[i].weight / (double)all : 0;
            if (!near((double)found[i], share, DRAWS))
                fail_msg("seed %d: %d of %d draws, not %.4f", (int)seed, (int)found[i], DRAWS,
                         share);
        }
    }
}

static struct ip client(uint64_t number)
{
    return ip_from4(
        (uint8_t[4]){ 10, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number });
}

/* A canary that grows takes clients of the stable one alone, and as many as it grew; back again
 * each has what it had. */
static void test_sticky_moves_the_change_alone(void **state)
{
    static const uint32_t steps[] = { 1, 5, 10, 50, 99 }; /* of 100 */
    (void)state;
    for (uint64_t uid = 1; uid <= SEEDS; uid++) {
        for (size_t step = 1; step < sizeof steps / sizeof *steps; step++) {
            struct traffic_share before[] = { { 1, 100 - steps[step - 1], true },
                                              { 2, steps[step - 1], true } };
            struct traffic_share after[] = { { 1, 100 - steps[step], true },
                                             { 2, steps[step], true } };
            int moved = 0;
            for (uint64_t i = 0; i < DRAWS; i++) {
                struct ip ip = client(i);
                uint64_t point = traffic_point(uid, &ip);
                int was = traffic_choose(before, 2, point), is = traffic_choose(after, 2, point);
                if (was == 1 && is == 0)
                    fail_msg("client %d left the canary that grew", (int)i);
                moved += was != is;
            }
            double share = (steps[step] - steps[step - 1]) / 100.0;
            if (!near(moved, share, DRAWS))
                fail_msg("uid %d: %d moved, not %.2f of %d", (int)uid, moved, share, DRAWS);
        }
    }
}

/* Where one of three is not ready its clients go to the others; theirs stay. */
static void test_sticky_keeps_those_of_others(void **state)
{
    struct traffic_share all[] = { { 4, 50, true }, { 7, 30, true }, { 9, 20, true } };
    struct traffic_share less[] = { { 4, 50, true }, { 7, 30, false }, { 9, 20, true } };
    int moved[3] = {};
    (void)state;
    for (uint64_t i = 0; i < DRAWS; i++) {
        struct ip ip = client(i);
        uint64_t point = traffic_point(11, &ip);
        int was = traffic_choose(all, 3, point), is = traffic_choose(less, 3, point);
        if (was != 1)
            assert_int_equal(is, was);
        else
            moved[is]++;
    }
    assert_int_equal(moved[1], 0);
    double sum = moved[0] + moved[2];
    assert_true(near(sum, 0.3, DRAWS));
    assert_true(near(moved[0], 50.0 / 70, sum));
}

static void test_points(void **state)
{
    static const struct {
        const char *one, *other;
        uint64_t one_uid, other_uid;
        bool same;
    } points[] = {
        { "192.0.2.1", "192.0.2.1", 1, 1, true },
        { "192.0.2.1", "192.0.2.2", 1, 1, false },
        { "192.0.2.1", "192.0.2.1", 1, 2, false }, /* another endpoint draws anew */
        { "2001:db8::1", "2001:db8::ffff:2", 1, 1, true },
        { "2001:db8::1", "2001:db8:0:1::1", 1, 1, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct ip one, other;
        assert_true(ip_parse(slice_of(points[i].one), &one));
        assert_true(ip_parse(slice_of(points[i].other), &other));
        bool same =
            traffic_point(points[i].one_uid, &one) == traffic_point(points[i].other_uid, &other);
        assert_int_equal(same, points[i].same);
    }
    struct ip ip;
    assert_true(ip_parse(SLICE("192.0.2.1"), &ip));
    /* The same in every process and release, or clients would move at each start. */
    assert_true(traffic_point(7, &ip) == UINT64_C(0xe95410fc5d16ba79));
}

static void test_amounts(void **state)
{
    static const struct {
        uint32_t weights[3], set, replicas[3], ppm[3];
    } amounts[] = {
        { { 90, 10, 0 }, 1, { 1, 1, 0 }, { 900'000, 100'000, 0 } },
        { { 90, 10, 0 }, 10, { 9, 1, 0 }, { 900'000, 100'000, 0 } },
        { { 1, 1, 1 }, 4, { 2, 2, 2 }, { 333'333, 333'333, 333'333 } },
        { { 5, 1, 0 }, 0, { 0, 0, 0 }, { 833'333, 166'667, 0 } },
        { { 0, 0, 0 }, 4, { 0, 0, 0 }, { 0, 0, 0 } },
    };
    (void)state;
    for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++) {
        struct traffic_share shares[3];
        for (size_t k = 0; k < 3; k++)
            shares[k] = (struct traffic_share){ (uint32_t)k + 1, amounts[i].weights[k], true };
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(traffic_replicas(shares, 3, k, amounts[i].set),
                             amounts[i].replicas[k]);
            assert_int_equal(traffic_ppm(shares, 3, k), amounts[i].ppm[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_sticky_moves_the_change_alone),
        cmocka_unit_test(test_sticky_keeps_those_of_others),
        cmocka_unit_test(test_points),
        cmocka_unit_test(test_amounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
