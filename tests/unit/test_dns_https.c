/* SPDX-License-Identifier: Apache-2.0 */
/* Which hints an HTTPS record has where there are more addresses than it takes. */
#include "dns/https.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <stdio.h>

#include "base/err.h"
#include "base/ip.h"
#include "dns/resolve.h"
#include "dns/view.h"

enum { EACH = DNS_POP_ADDRESSES_MAX, SIDE = DNS_ANSWERS_MAX };

static struct ip four(unsigned number)
{
    return ip_from4((uint8_t[]){ 192, 0, 2, (uint8_t)number });
}

static struct ip six(unsigned number)
{
    return (struct ip){ { 0x20, 1, 0xd, 0xb8, [15] = (uint8_t)number } };
}

static const struct {
    size_t four, six, room, kept_four, kept;
} rows[] = {
    { 0, 0, 8, 0, 0 },     { 8, 0, 8, 8, 8 }, { 0, 8, 8, 0, 8 },     { 3, 5, 8, 3, 8 },
    { 9, 0, 8, 8, 8 },     { 0, 9, 8, 0, 8 }, { 9, 1, 8, 7, 8 },     { 1, 9, 8, 1, 8 },
    { 9, 9, 8, 4, 8 },     { 4, 9, 8, 4, 8 }, { 5, 4, 8, 4, 8 },     { 4, 5, 8, 4, 8 },
    { 9, 3, 8, 5, 8 },     { 9, 9, 7, 3, 7 }, { 32, 8, 40, 32, 40 }, { 32, 32, 40, 20, 40 },
    { 36, 9, 40, 31, 40 },
};

static void test_both_families_stay(void **)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ip hints[80];
        for (size_t k = 0; k < rows[i].four + rows[i].six; k++)
            hints[k] = k < rows[i].four ? four((unsigned)k) : six((unsigned)(k - rows[i].four));
        print_message("  %zu and %zu of %zu\n", rows[i].four, rows[i].six, rows[i].room);
        assert_int_equal(dns_https_hints(hints, rows[i].four, rows[i].six, rows[i].room),
                         rows[i].kept);
        for (size_t k = 0; k < rows[i].kept; k++) { /* the first ones, in their order */
            struct ip wanted =
                k < rows[i].kept_four ? four((unsigned)k) : six((unsigned)(k - rows[i].kept_four));
            assert_memory_equal(hints[k].bytes, wanted.bytes, sizeof wanted.bytes);
        }
    }
}

/* Eight PoPs as good as each other, with all addresses that one may have: half of them IPv4 alone,
 * the others IPv6. */
static void test_a_record_of_many_has_both(void **)
{
    static struct ip addresses[2 * SIDE][EACH];
    static struct dns_reply reply;
    char names[2 * SIDE][8];
    struct dns_source_pop pops[2 * SIDE];
    struct dns_source_place places[2 * SIDE];
    for (unsigned i = 0; i < 2 * SIDE; i++) {
        for (unsigned k = 0; k < EACH; k++)
            addresses[i][k] = i < SIDE ? four(i * EACH + k) : six(i * EACH + k);
        (void)snprintf(names[i], sizeof names[i], "p%u", i);
        pops[i] = (struct dns_source_pop){ .name = slice_of(names[i]),
                                           .addresses = addresses[i],
                                           .address_count = EACH };
        places[i] = (struct dns_source_place){ .pop = i, .weight = 1 };
    }
    const struct dns_source_endpoint digits = { SLICE("digits"), SLICE("default"), places, 2 * SIDE,
                                                NULL };
    const struct dns_https_told told = { .told = true, .port = 443 };
    const struct dns_source source = { .zone = SLICE("perigee.test"),
                                       .pops = pops,
                                       .pop_count = 2 * SIDE,
                                       .endpoints = &digits,
                                       .endpoint_count = 1,
                                       .https = &told };
    struct dns_question question = { .asked = true, .type = DNS_HTTPS, .class = 1 };
    struct dns_asker asker = { .address = four(99) };
    struct dns_view *view;
    struct err err;
    assert_int_equal(dns_view_build(&source, &view, &err), 0);
    assert_int_equal(dns_name_parse(SLICE("digits.perigee.test"), &question.name, &err), 0);
    dns_resolve(view, &question, &asker, &reply);
    assert_int_equal(reply.count, 1);
    assert_int_equal(reply.records[0].type, DNS_HTTPS);
    /* Behind its length priority and target, the port, then as many of each. */
    const uint8_t *data = reply.data + reply.records[0].data + 2 + 3 + 6;
    enum { HALF = DNS_RECORDS_MAX / 2 };
    assert_memory_equal(data, ((uint8_t[]){ 0, 4, 0, HALF * 4 }), 4);
    data += 4 + HALF * 4;
    assert_memory_equal(data, ((uint8_t[]){ 0, 6, HALF * 16 >> 8, HALF * 16 & 255 }), 4);
    dns_view_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_both_families_stay),
                                        cmocka_unit_test(test_a_record_of_many_has_both) };
    return cmocka_run_group_tests_name("dns_https", tests, NULL, NULL);
}
