/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/countries.h"
#include "base/err.h"

/* A block as written, as printed (NULL: as written), or a part of what is wrong with it. */
static const struct {
    const char *text, *printed, *error;
    unsigned bits;
} blocks[] = {
    { "203.0.113.0/24", NULL, NULL, 120 },
    { "203.0.113.7", NULL, NULL, 128 },
    { "203.0.113.7/32", "203.0.113.7", NULL, 128 },
    { "0.0.0.0/0", NULL, NULL, 96 },
    { "::/0", NULL, NULL, 0 },
    { "2001:DB8::/32", "2001:db8::/32", NULL, 32 },
    { "2001:db8::1", NULL, NULL, 128 },
    { "2001:db8:8000::/33", NULL, NULL, 33 },
    { "::ffff:10.0.0.0/8", "10.0.0.0/8", NULL, 104 }, /* mapped is IPv4 */
    { "::ffff:0:0/96", NULL, "0 to 32 bits", 0 },
    { "203.0.113.1/24", NULL, "203.0.113.0/24 is meant", 0 },
    { "2001:db8::1/32", NULL, "2001:db8::/32 is meant", 0 },
    { "10.0.0.0/33", NULL, "0 to 32 bits", 0 },
    { "::/129", NULL, "0 to 128 bits", 0 },
    { "10.0.0.0/", NULL, "0 to 32 bits", 0 },
    { "10.0.0.0/-1", NULL, "0 to 32 bits", 0 },
    { "10.0.0.0/08a", NULL, "0 to 32 bits", 0 },
    { "10.0.0/8", NULL, "no block of addresses", 0 },
    { "010.0.0.1", NULL, "no block of addresses", 0 },
    { "", NULL, "no block of addresses", 0 },
    { "/8", NULL, "no block of addresses", 0 },
    { "Paris", NULL, "no block of addresses", 0 },
    { "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa", NULL, "no block of addresses", 0 },
};

static void test_blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        struct err err = {};
        struct ip_block block;
        char text[IP_TEXT_BYTES];
        int r = ip_block_parse(slice_of(blocks[i].text), &block, &err);
        print_message("  %s: %s\n", blocks[i].text, r < 0 ? err.message : "taken");
        assert_int_equal(r, blocks[i].error ? ERR_BAD_INPUT : 0);
        if (blocks[i].error) {
            assert_non_null(strstr(err.message, blocks[i].error));
            continue;
        }
        assert_int_equal(block.bits, blocks[i].bits);
        assert_string_equal(ip_block_text(&block, text),
                            blocks[i].printed ? blocks[i].printed : blocks[i].text);
    }
}

static const struct {
    const char *block, *ip;
    bool inside;
} members[] = {
    { "203.0.113.0/24", "203.0.113.255", true },
    { "203.0.113.0/24", "203.0.114.0", false },
    { "0.0.0.0/0", "255.255.255.255", true },
    { "0.0.0.0/0", "2001:db8::1", false },
    { "::/0", "1.2.3.4", true },
    { "2001:db8:8000::/33", "2001:db8:ffff::1", true },
    { "2001:db8:8000::/33", "2001:db8:7fff::1", false },
    { "10.1.2.3", "10.1.2.3", true },
    { "10.1.2.3", "10.1.2.2", false },
    { "10.0.0.0/8", "::ffff:10.9.9.9", true },
};

static void test_members(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        struct err err;
        struct ip_block block;
        struct ip ip;
        print_message("  %s in %s\n", members[i].ip, members[i].block);
        assert_int_equal(ip_block_parse(slice_of(members[i].block), &block, &err), 0);
        assert_true(ip_parse(slice_of(members[i].ip), &ip));
        assert_int_equal(ip_block_has(&block, &ip), members[i].inside);
    }
}

static void test_countries(void **state)
{
    struct countries set = {}, any = countries_any();
    char code[3];
    (void)state;
    assert_true(countries_empty(&set));
    for (char a = 'A'; a <= 'Z'; a++)
        for (char b = 'A'; b <= 'Z'; b++) {
            char wanted[3] = { a, b };
            country_number country = country_number_of(slice_of(wanted));
            assert_false(countries_has(&set, country));
            assert_true(countries_has(&any, country));
            countries_add(&set, country);
            assert_true(countries_has(&set, country));
            country_code_of(country, code);
            assert_string_equal(code, wanted);
        }
    assert_false(countries_has(&set, COUNTRY_UNKNOWN));
    assert_true(countries_has(&any, COUNTRY_UNKNOWN));
    assert_false(countries_has(&any, COUNTRY_NUMBER_MAX + 1));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(
            country_number_of(slice_of(((const char *[]){ "", "de", "DEU", "D1" })[i])),
            COUNTRY_UNKNOWN);
    countries_intersect(&any, &set);
    assert_memory_equal(&any, &set, sizeof set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_countries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
