/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/hop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"

static const unsigned char secret[HOP_KEY_BYTES] = "the fleet's secret";
static const struct hop hop = { SLICE("paris"), SLICE("tokyo"), "FR", 29500, SLICE("r-1"), {} };
static const struct hop_request request = { SLICE("POST"), SLICE("/v2/models/digits/infer"),
                                            SLICE("default/digits"), SLICE("FR,DE") };
#define MAC "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_key(void **)
{
    unsigned char one[HOP_KEY_BYTES], other[HOP_KEY_BYTES];
    hop_key(secret, SLICE("paris"), SLICE("tokyo"), one);
    hop_key(secret, SLICE("tokyo"), SLICE("paris"), other);
    assert_memory_equal(one, other, sizeof one);
    hop_key(secret, SLICE("paris"), SLICE("quito"), other);
    assert_memory_not_equal(one, other, sizeof one);
    hop_key(secret, SLICE("paris"), SLICE("paris"), other);
    assert_memory_not_equal(one, other, sizeof one);
}

static void test_round(void **)
{
    unsigned char key[HOP_KEY_BYTES];
    char text[HOP_BYTES_MAX];
    struct hop got;
    struct err err = {};
    hop_key(secret, hop.from, hop.to, key);
    int size = hop_print(&hop, &request, key, text, &err);
    assert_true(size > 0 && (size_t)size == strlen(text));
    assert_non_null(strstr(text, "v1; from=paris; to=tokyo; client=FR; deadline=29500; id=r-1; "));
    assert_int_equal(hop_parse(slice_of(text), &got, &err), 0);
    assert_true(slice_equal(got.from, hop.from) && slice_equal(got.to, hop.to));
    assert_true(slice_equal(got.id, hop.id) && got.deadline_ms == 29500);
    assert_string_equal(got.client, "FR");
    assert_true(hop_verify(&got, &request, key));

    struct hop unknown = { SLICE("a"), SLICE("b"), "", 0, SLICE("x"), {} };
    assert_true(hop_print(&unknown, &(struct hop_request){}, key, text, &err) > 0);
    assert_int_equal(hop_parse(slice_of(text), &got, &err), 0);
    assert_string_equal(got.client, "");
    assert_true(hop_verify(&got, &(struct hop_request){}, key));

    struct hop chosen = hop; /* with a revision, which is signed as well */
    chosen.revision = 12;
    assert_true(hop_print(&chosen, &request, key, text, &err) > 0);
    assert_non_null(strstr(text, "; deadline=29500; revision=12; id=r-1; "));
    assert_int_equal(hop_parse(slice_of(text), &got, &err), 0);
    assert_int_equal(got.revision, 12);
    assert_true(hop_verify(&got, &request, key));
    got.revision = 13;
    assert_false(hop_verify(&got, &request, key));
    got.revision = 0;
    assert_false(hop_verify(&got, &request, key));

    struct hop late = hop; /* with the time it has spent, likewise */
    late.spent_ms = 1500;
    assert_true(hop_print(&late, &request, key, text, &err) > 0);
    assert_non_null(strstr(text, "; deadline=29500; spent=1500; id=r-1; "));
    assert_int_equal(hop_parse(slice_of(text), &got, &err), 0);
    assert_int_equal(got.spent_ms, 1500);
    assert_true(hop_verify(&got, &request, key));
    got.spent_ms = 1499;
    assert_false(hop_verify(&got, &request, key));
    got.spent_ms = 0;
    assert_false(hop_verify(&got, &request, key));
    got.revision = 1500; /* one is not the other */
    assert_false(hop_verify(&got, &request, key));
    late.revision = 12;
    assert_true(hop_print(&late, &request, key, text, &err) > 0);
    assert_non_null(strstr(text, "; spent=1500; revision=12; id=r-1; "));
    assert_int_equal(hop_parse(slice_of(text), &got, &err), 0);
    assert_true(hop_verify(&got, &request, key));
}

/* What a newer version may say is ignored, and yet signed. */
static void test_more(void **)
{
    unsigned char key[HOP_KEY_BYTES];
    char text[HOP_BYTES_MAX];
    struct hop got, newer = hop;
    struct err err = {};
    hop_key(secret, hop.from, hop.to, key);
    newer.revision = 12;
    newer.more = SLICE("zone=a.b:1; at_most=7; ");
    assert_true(hop_print(&newer, &request, key, text, &err) > 0);
    assert_non_null(strstr(text, "; revision=12; zone=a.b:1; at_most=7; id=r-1; "));
    assert_int_equal(hop_parse(slice_of(text), &got, &err), 0);
    assert_true(slice_equal(got.id, hop.id) && got.revision == 12 && got.spent_ms == 0);
    assert_true(slice_equal(got.more, newer.more));
    assert_true(hop_verify(&got, &request, key));
    got.more = SLICE("zone=a.b:1; at_most=8; ");
    assert_false(hop_verify(&got, &request, key));
    got.more = (struct slice){};
    assert_false(hop_verify(&got, &request, key));
    memset(text, 'a', sizeof text); /* with the rest of it above HOP_BYTES_MAX */
    memcpy(text, "a=", 2);
    memcpy(text + 120, "; b=", 4);
    memcpy(text + 240, "; c=", 4);
    memcpy(text + 360, "; d=", 4);
    memcpy(text + 400, "; ", 2);
    newer.more = (struct slice){ text, 402 };
    char large[HOP_BYTES_MAX];
    assert_int_equal(hop_print(&newer, &request, key, large, &err), ERR_BAD_INPUT);
}

/* Each of them is one thing other than what was signed. */
static void test_forged(void **)
{
    const struct {
        const char *name;
        struct hop hop;
        struct hop_request request;
        bool other_key;
    } rows[] = {
        { "another's key", hop, request, true },
        { "from another", { SLICE("quito"), hop.to, "FR", 29500, hop.id, {} }, request, false },
        { "to another", { hop.from, SLICE("quito"), "FR", 29500, hop.id, {} }, request, false },
        { "back", { hop.to, hop.from, "FR", 29500, hop.id, {} }, request, false },
        { "another country", { hop.from, hop.to, "US", 29500, hop.id, {} }, request, false },
        { "no country", { hop.from, hop.to, "", 29500, hop.id, {} }, request, false },
        { "more time", { hop.from, hop.to, "FR", 29501, hop.id, {} }, request, false },
        { "another id", { hop.from, hop.to, "FR", 29500, SLICE("r-2"), {} }, request, false },
        { "another method",
          hop,
          { SLICE("GET"), request.target, request.endpoint, request.process_in },
          false },
        { "another target",
          hop,
          { request.method, SLICE("/"), request.endpoint, request.process_in },
          false },
        { "another endpoint",
          hop,
          { request.method, request.target, SLICE("default/d"), request.process_in },
          false },
        { "a wider list",
          hop,
          { request.method, request.target, request.endpoint, SLICE("FR,DE,US") },
          false },
        { "no list", hop, { request.method, request.target, request.endpoint, {} }, false },
        { "bytes moved from one field to the next",
          hop,
          { SLICE("POST/"), SLICE("v2/models/digits/infer"), request.endpoint, request.process_in },
          false },
    };
    unsigned char key[HOP_KEY_BYTES], other[HOP_KEY_BYTES];
    char text[HOP_BYTES_MAX];
    struct hop signed_one;
    struct err err = {};
    hop_key(secret, hop.from, hop.to, key);
    hop_key(secret, hop.from, SLICE("quito"), other);
    assert_true(hop_print(&hop, &request, key, text, &err) > 0);
    assert_int_equal(hop_parse(slice_of(text), &signed_one, &err), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hop forged = rows[i].hop;
        print_message("  %s\n", rows[i].name);
        forged.mac = signed_one.mac;
        assert_false(hop_verify(&forged, &rows[i].request, rows[i].other_key ? other : key));
    }
    signed_one.mac.size = 0;
    assert_false(hop_verify(&signed_one, &request, key));
}

static void test_parse(void **)
{
    static const struct {
        const char *text, *wanted; /* NULL: it is right */
    } rows[] = {
        { "v1; from=a; to=b; client=FR; deadline=0; id=x; mac=" MAC, NULL },
        { "v1; from=a; to=b; client=-; deadline=86400000; id=x; mac=" MAC, NULL },
        { "", "version 1" },
        { "v2; from=a; to=b; client=FR; deadline=0; id=x; mac=" MAC, "version 1" },
        { "v1;from=a; to=b; client=FR; deadline=0; id=x; mac=" MAC, "version 1" },
        { "v1; ", "fields" },
        { "v1; to=b; from=a; client=FR; deadline=0; id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; id=x", "fields" },
        { "v1; from=a;to=b; client=FR; deadline=0; id=x; mac=" MAC, "fields" },
        { "v1; from=a; to=b; client=FR; deadline=0; id=x; mac=" MAC "; more=1", "fields" },
        { "v1; from=; to=b; client=FR; deadline=0; id=x; mac=" MAC, "out of form" },
        { "v1; from=a b; to=b; client=FR; deadline=0; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=\"b\"; client=FR; deadline=0; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=FRA; deadline=0; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=fr; deadline=0; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=; deadline=0; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=-1; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=007; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=86400001; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=99999999999999999999; id=x; mac=" MAC,
          "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=0; spent=1; id=x; mac=" MAC, NULL },
        { "v1; from=a; to=b; client=FR; deadline=0; spent=0; id=x; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=0; spent=86400001; id=x; mac=" MAC,
          "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=0; revision=1; spent=1; id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; more=1; id=x; mac=" MAC, NULL },
        { "v1; from=a; to=b; client=FR; deadline=0; spent=1; revision=1; a=b; c_d=e; id=x; "
          "mac=" MAC,
          NULL },
        { "v1; from=a; to=b; client=FR; deadline=0; more=1; spent=1; id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; revision=1; revision=1; id=x; mac=" MAC,
          "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; more=; id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; More=1; id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; more; id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; =1; id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; more=1;id=x; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; more=1; mac=" MAC, "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; more=1", "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; abcdefghijklmnopqrstuvwxyzabcdefg=1; id=x; "
          "mac=" MAC,
          "order" },
        { "v1; from=a; to=b; client=FR; deadline=0; id=; mac=" MAC, "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=0; id=x; mac=0", "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=0; id=x; mac=" MAC "0", "out of form" },
        { "v1; from=a; to=b; client=FR; deadline=0; id=x; mac="
          "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
          "out of form" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hop got;
        struct err err = {};
        print_message("  '%s'\n", rows[i].text);
        int r = hop_parse(slice_of(rows[i].text), &got, &err);
        assert_int_equal(r, rows[i].wanted ? ERR_BAD_INPUT : 0);
        if (rows[i].wanted && !strstr(err.message, rows[i].wanted))
            fail_msg("'%s' does not say '%s'", err.message, rows[i].wanted);
    }
    char large[HOP_BYTES_MAX + 1];
    memset(large, 'a', sizeof large);
    memcpy(large, "v1; from=", 9);
    struct hop got;
    struct err err;
    assert_int_equal(hop_parse((struct slice){ large, sizeof large }, &got, &err), ERR_BAD_INPUT);
}

static void test_print_refuses(void **)
{
    static const struct hop rows[] = {
        { SLICE(""), SLICE("b"), "FR", 0, SLICE("x"), {} },
        { SLICE("a"), SLICE("b; to=c"), "FR", 0, SLICE("x"), {} },
        { SLICE("a"), SLICE("b"), "F", 0, SLICE("x"), {} },
        { SLICE("a"), SLICE("b"), "FR", HOP_DEADLINE_MS_MAX + 1, SLICE("x"), {} },
        { SLICE("a"), SLICE("b"), "FR", 0, SLICE("x\r\ny"), {} },
        { SLICE("a"), SLICE("b"), "FR", 0, SLICE("x"), {}, HOP_REVISION_MAX + 1 },
        { SLICE("a"), SLICE("b"), "FR", 0, SLICE("x"), {}, .more = SLICE("more") },
        { SLICE("a"), SLICE("b"), "FR", 0, SLICE("x"), {}, .more = SLICE("spent=1; ") },
        { SLICE("a"), SLICE("b"), "FR", 0, SLICE("x"), {}, .more = SLICE("more=1; id=y; ") },
    };
    char text[HOP_BYTES_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        assert_int_equal(hop_print(&rows[i], &request, secret, text, &err), ERR_BAD_INPUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key),   cmocka_unit_test(test_round),
        cmocka_unit_test(test_more),  cmocka_unit_test(test_forged),
        cmocka_unit_test(test_parse), cmocka_unit_test(test_print_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
