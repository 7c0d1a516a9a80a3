/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/way.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "fleet/fleet.h"

#define MS INT64_C(1'000'000)

/* Two pieces, each at its moment, and when they are out. */
static const struct {
    const char *name;
    struct fleet_link link;
    bool opening;
    struct {
        size_t bytes;
        int64_t at_ms, out_ms;
    } pieces[2];
} rows[] = {
    { "half the round trip", { .rtt_us = 240'000 }, false, { { 100, 5, 125 }, { 1, 6, 126 } } },
    { "no distance", {}, true, { { 100, 5, 5 }, { 1, 5, 5 } } },
    { "the first pay for the handshake",
      { .rtt_us = 240'000 },
      true,
      { { 100, 0, 360 }, { 1, 500, 620 } } },
    { "what follows at once waits behind them",
      { .rtt_us = 240'000 },
      true,
      { { 100, 0, 360 }, { 1, 10, 360 } } },
    { "bandwidth", { .bandwidth = 1'000'000 }, false, { { 5000, 0, 5 }, { 1000, 0, 6 } } },
    { "an idle link sends at once",
      { .bandwidth = 1'000'000 },
      false,
      { { 5000, 0, 5 }, { 1000, 50, 51 } } },
    { "the handshake, then bandwidth",
      { .rtt_us = 100'000, .bandwidth = 1'000'000 },
      true,
      { { 5000, 0, 155 }, { 1000, 0, 156 } } },
    { "all is lost: a stall of 200 ms",
      { .rtt_us = 100'000, .loss_ppm = 1'000'000 },
      false,
      { { 1460, 0, 250 }, { 0, 1, 250 } } },
    { "or of the round trip",
      { .rtt_us = 300'000, .loss_ppm = 1'000'000 },
      false,
      { { 1460, 0, 450 }, { 0, 1, 450 } } },
    { "not before a segment is full",
      { .loss_ppm = 1'000'000 },
      false,
      { { 1459, 0, 0 }, { 1, 1, 201 } } },
    { "two segments, two stalls",
      { .loss_ppm = 1'000'000 },
      false,
      { { 2920, 0, 400 }, { 1, 401, 401 } } },
    { "the end comes behind",
      { .rtt_us = 100'000, .bandwidth = 1'000'000 },
      false,
      { { 5000, 0, 55 }, { 0, 0, 55 } } },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct way way = { .opening = rows[i].opening };
        uint64_t random = 1;
        print_message("  %s\n", rows[i].name);
        for (size_t k = 0; k < 2; k++)
            assert_int_equal(way_pass(&way, &rows[i].link, rows[i].pieces[k].bytes,
                                      rows[i].pieces[k].at_ms * MS, &random),
                             rows[i].pieces[k].out_ms * MS);
    }
}

/* Whatever the jitter: in order, never early, never later than it says. */
static void test_jitter(void **state)
{
    const struct fleet_link link = { .rtt_us = 10'000, .jitter_us = 5000 };
    struct way way = {};
    uint64_t random = 7;
    int64_t before = 0, most = 0;
    (void)state;
    for (int64_t now = 0; now < 2000 * MS; now += MS / 2) {
        int64_t out = way_pass(&way, &link, 100, now, &random);
        assert_true(out >= before);
        assert_true(out >= now + 5 * MS);
        assert_true(out <= (before > now + 10 * MS ? before : now + 10 * MS));
        most = out - now > most ? out - now : most;
        before = out;
    }
    assert_true(most > 9 * MS);
}

/* 1 % of 100,000 segments, whatever the pieces. */
static void test_loss(void **state)
{
    const struct fleet_link link = { .loss_ppm = 10'000 };
    struct way way = {};
    uint64_t random = 3;
    (void)state;
    for (size_t bytes = 0; bytes < 100'000u * WAY_SEGMENT_BYTES; bytes += 700)
        (void)way_pass(&way, &link, 700, 0, &random);
    assert_in_range(way.stalls, 900, 1100);
}

static const struct {
    uint64_t bandwidth;
    uint32_t rtt_us;
    size_t bytes;
} queues[] = {
    { 10'000'000, 240'000, 2'400'000 },
    { 1000, 240'000, WAY_QUEUE_BYTES_MIN },
    { 0, 0, WAY_QUEUE_BYTES_MIN },
    { 0, 20'000, 2'500'000 },
    { 0, 240'000, WAY_QUEUE_BYTES_MAX },
    { FLEET_BANDWIDTH_MAX, FLEET_TIME_US_MAX, WAY_QUEUE_BYTES_MAX },
};

static void test_queue(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof queues / sizeof *queues; i++) {
        struct fleet_link link = { .bandwidth = queues[i].bandwidth, .rtt_us = queues[i].rtt_us };
        assert_int_equal(way_queue_bytes(&link), queues[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests_name("way", tests, NULL, NULL);
}
