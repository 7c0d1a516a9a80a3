/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/logring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

static struct logring ring;

static void take(const char *wanted, uint64_t wanted_dropped)
{
    char data[64];
    uint64_t dropped;
    size_t size = logring_take(&ring, data, sizeof data, &dropped);
    assert_int_equal(size, strlen(wanted));
    assert_memory_equal(data, wanted, size);
    assert_int_equal(dropped, wanted_dropped);
}

static void test_ring(void **state)
{
    (void)state;
    static char much[3 * LOGRING_BYTES];
    char data[LOGRING_BYTES];
    uint64_t dropped;
    take("", 0);
    logring_write(&ring, "one ", 4);
    logring_write(&ring, "two", 3);
    take("one two", 0);
    take("", 0);
    logring_rewind(&ring);
    take("one two", 0);

    /* More than it holds: the end stays, and the loss is counted. */
    memset(much, 'a', sizeof much);
    much[sizeof much - 1] = 'z';
    logring_write(&ring, much, sizeof much);
    assert_int_equal(logring_take(&ring, data, sizeof data, &dropped), LOGRING_BYTES);
    assert_int_equal(dropped, 2 * LOGRING_BYTES);
    assert_int_equal(data[LOGRING_BYTES - 1], 'z');
    assert_int_equal(data[0], 'a');
    logring_write(&ring, "end", 3); /* across the edge: 7 + 3 rings + 3 */
    take("end", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_ring) };
    return cmocka_run_group_tests_name("logring", tests, NULL, NULL);
}
