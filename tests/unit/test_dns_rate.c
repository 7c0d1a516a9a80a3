/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#define S INT64_C(1'000'000'000)

static unsigned passed(struct dns_rate *rate, const char *text, unsigned tries, int64_t from_ns,
                       int64_t step_ns)
{
    struct ip ip;
    unsigned passed = 0;
    assert_true(ip_parse(slice_of(text), &ip));
    for (unsigned i = 0; i < tries; i++)
        passed += dns_rate_pass(rate, &ip, from_ns + i * step_ns);
    return passed;
}

static const struct {
    const char *name, *first, *second; /* 1,000 of the first at once, then one of the second */
    int64_t later_ns;
    bool pass;
} rows[] = {
    { "the same", "203.0.113.1", "203.0.113.1", 0, false },
    { "one beside it", "203.0.113.1", "203.0.113.255", 0, false },
    { "another prefix", "203.0.113.1", "203.0.114.1", 0, true },
    { "a moment later", "203.0.113.1", "203.0.113.1", S / DNS_RATE_PER_S, true },
    { "not quite", "203.0.113.1", "203.0.113.1", S / DNS_RATE_PER_S / 2, false },
    { "one customer's IPv6", "2001:db8:0:1::1", "2001:db8:0:2::2", 0, false },
    { "another's", "2001:db8:0:100::1", "2001:db8:0:200::1", 0, true },
};

static void test_prefixes(void **)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dns_rate *rate = dns_rate_new();
        print_message("  %s\n", rows[i].name);
        assert_int_equal(passed(rate, rows[i].first, 1000, 50 * S, 0), DNS_RATE_BURST);
        assert_int_equal(passed(rate, rows[i].second, 1, 50 * S + rows[i].later_ns, 0),
                         rows[i].pass);
        dns_rate_free(rate);
    }
}

static void test_rate(void **)
{
    struct dns_rate *rate = dns_rate_new();
    unsigned burst = DNS_RATE_BURST, each = DNS_RATE_PER_S;
    /* Ten times the rate for ten seconds. */
    unsigned got = passed(rate, "203.0.113.1", each * 100, 9 * S, S / (each * 10));
    assert_in_range(got, burst + each * 10 - 2, burst + each * 10 + 2);
    assert_int_equal(passed(rate, "203.0.113.1", 1000, 100 * S, 0), burst); /* and forgotten */
    dns_rate_free(rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_prefixes),
                                        cmocka_unit_test(test_rate) };
    return cmocka_run_group_tests_name("dns_rate", tests, NULL, NULL);
}
