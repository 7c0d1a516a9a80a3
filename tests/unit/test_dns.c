/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/err.h"
#include "proto/dns_cookie.h"

static struct dns_codec *codec;

/* ---- questions ---------------------------------------------------------------------------- */

#define HEAD "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
#define HEAD_OPT "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
#define NAME "\6DIGITS\7perigee\4test\0"
#define ASK_A NAME "\0\1\0\1"
/* OPT: the root, type 41, payload 1232, rcode 0, version, flags; then the options' bytes. */
#define OPT_OF(version, bytes) "\0\0\51\4\xd0\0" version "\0\0" bytes
#define OPT(bytes) OPT_OF("\0", bytes)
#define SUBNET(bytes, family, source, scope) "\0\x8\0" bytes "\0" family source scope

#define ROW(text) text, sizeof(text) - 1

static const struct {
    const char *name, *message;
    size_t bytes;
    int result;
    uint16_t rcode;
    bool asked;
    const char *subnet; /* as a block; NULL: none */
} questions[] = {
    { "one question", ROW(HEAD ASK_A), 0, DNS_NOERROR, true, NULL },
    { "nothing", "", 0, ERR_BAD_INPUT, 0, false, NULL },
    { "half a head", ROW("\x12\x34\x01\x00\x00\x01"), ERR_BAD_INPUT, 0, false, NULL },
    { "an answer", ROW("\x12\x34\x81\x00\x00\x01\0\0\0\0\0\0" ASK_A), ERR_BAD_INPUT, 0, false,
      NULL },
    { "a head alone", ROW(HEAD), 0, DNS_FORMERR, false, NULL },
    { "cut in the name", ROW(HEAD "\6DIGI"), 0, DNS_FORMERR, false, NULL },
    { "cut before the class", ROW(HEAD NAME "\0\1\0"), 0, DNS_FORMERR, false, NULL },
    { "a name that points at itself", ROW(HEAD "\xc0\x0c\0\1\0\1"), 0, DNS_FORMERR, false, NULL },
    { "two that point at each other", ROW(HEAD "\xc0\x0e\xc0\x0c\0\1\0\1"), 0, DNS_FORMERR, false,
      NULL },
    { "a label of another kind", ROW(HEAD "\x46xxxxxx\0\0\1\0\1"), 0, DNS_FORMERR, false, NULL },
    { "more behind it", ROW(HEAD ASK_A "more"), 0, DNS_FORMERR, true, NULL },
    { "two questions", ROW("\x12\x34\x01\0\0\2\0\0\0\0\0\0" ASK_A ASK_A), 0, DNS_FORMERR, false,
      NULL },
    { "no question", ROW("\x12\x34\x01\0\0\0\0\0\0\0\0\0"), 0, DNS_FORMERR, false, NULL },
    { "an answer's records", ROW("\x12\x34\x01\0\0\1\0\1\0\0\0\0" ASK_A), 0, DNS_FORMERR, false,
      NULL },
    { "thousands said to come", ROW("\x12\x34\x01\0\0\1\0\0\0\0\xff\xff" ASK_A), 0, DNS_FORMERR,
      false, NULL },
    { "one said to come", ROW(HEAD_OPT ASK_A), 0, DNS_FORMERR, true, NULL },
    { "class chaos", ROW(HEAD NAME "\0\x10\0\3"), 0, DNS_REFUSED, true, NULL },
    { "class any", ROW(HEAD NAME "\0\1\0\xff"), 0, DNS_REFUSED, true, NULL },
    { "a transfer", ROW(HEAD NAME "\0\xfc\0\1"), 0, DNS_REFUSED, true, NULL },
    { "type OPT", ROW(HEAD NAME "\0\x29\0\1"), 0, DNS_FORMERR, true, NULL },
    { "status", ROW("\x12\x34\x10\0\0\1\0\0\0\0\0\0" ASK_A), 0, DNS_NOTIMP, false, NULL },
    { "notify", ROW("\x12\x34\x20\0\0\1\0\0\0\0\0\0" ASK_A), 0, DNS_NOTIMP, false, NULL },
    { "update", ROW("\x12\x34\x28\0\0\1\0\0\0\0\0\0" ASK_A), 0, DNS_NOTIMP, false, NULL },
    { "EDNS", ROW(HEAD_OPT ASK_A OPT("\0\0")), 0, DNS_NOERROR, true, NULL },
    { "status with EDNS", ROW("\x12\x34\x10\0\0\1\0\0\0\0\0\1" ASK_A OPT("\0\0")), 0, DNS_NOTIMP,
      false, NULL },
    { "EDNS alone", ROW("\x12\x34\x01\0\0\0\0\0\0\0\0\1" OPT("\0\0")), 0, DNS_FORMERR, false,
      NULL },
    { "a cookie alone",
      ROW("\x12\x34\x01\0\0\0\0\0\0\0\0\1" OPT("\0\x0c\0\x0a\0\x8"
                                               "12345678")),
      0, DNS_NOERROR, false, NULL },
    { "half a cookie alone",
      ROW("\x12\x34\x01\0\0\0\0\0\0\0\0\1" OPT("\0\x08\0\x0a\0\4"
                                               "1234")),
      0, DNS_FORMERR, false, NULL },
    { "EDNS of version 1", ROW(HEAD_OPT ASK_A OPT_OF("\1", "\0\0")), 0, DNS_BADVERS, true, NULL },
    { "two OPT", ROW("\x12\x34\x01\0\0\1\0\0\0\0\0\2" ASK_A OPT("\0\0") OPT("\0\0")), 0,
      DNS_FORMERR, true, NULL },
    { "options longer than said", ROW(HEAD_OPT ASK_A OPT("\0\4\0\x8\0\xff")), 0, DNS_FORMERR, true,
      NULL },
    { "an option nobody knows", ROW(HEAD_OPT ASK_A OPT("\0\6\xff\xfe\0\2hi")), 0, DNS_NOERROR, true,
      NULL },
    { "a subnet", ROW(HEAD_OPT ASK_A OPT("\0\x0b" SUBNET("\7", "\1", "\x18", "\0") "\xcb\0\x71")),
      0, DNS_NOERROR, true, "203.0.113.0/24" },
    { "a subnet of 20 bits",
      ROW(HEAD_OPT ASK_A OPT("\0\x0b" SUBNET("\7", "\1", "\x14", "\0") "\xcb\0\x70")), 0,
      DNS_NOERROR, true, "203.0.112.0/20" },
    { "a subnet of 0 bits", ROW(HEAD_OPT ASK_A OPT("\0\x08" SUBNET("\4", "\1", "\0", "\0"))), 0,
      DNS_NOERROR, true, "0.0.0.0/0" },
    { "a subnet of no family", ROW(HEAD_OPT ASK_A OPT("\0\x08" SUBNET("\4", "\0", "\0", "\0"))), 0,
      DNS_NOERROR, true, "::/0" },
    { "a subnet in IPv6",
      ROW(HEAD_OPT ASK_A OPT("\0\x0c" SUBNET("\x8", "\2", "\x20", "\0") "\x20\1\xd\xb8")), 0,
      DNS_NOERROR, true, "2001:db8::/32" },
    { "a subnet with bits behind it",
      ROW(HEAD_OPT ASK_A OPT("\0\x0b" SUBNET("\7", "\1", "\x14", "\0") "\xcb\0\x71")), 0,
      DNS_FORMERR, true, NULL },
    { "a subnet too long",
      ROW(HEAD_OPT ASK_A OPT("\0\x0c" SUBNET("\x8", "\1", "\x18", "\0") "\xcb\0\x71\0")), 0,
      DNS_FORMERR, true, NULL },
    { "a subnet too short",
      ROW(HEAD_OPT ASK_A OPT("\0\x0a" SUBNET("\6", "\1", "\x18", "\0") "\xcb\0")), 0, DNS_FORMERR,
      true, NULL },
    { "a subnet of 33 bits",
      ROW(HEAD_OPT ASK_A OPT("\0\x0d" SUBNET("\x9", "\1", "\x21", "\0") "\xcb\0\x71\0\0")), 0,
      DNS_FORMERR, true, NULL },
    { "a subnet of 255 bits", ROW(HEAD_OPT ASK_A OPT("\0\x08" SUBNET("\4", "\2", "\xff", "\0"))), 0,
      DNS_FORMERR, true, NULL },
    { "a subnet of family 3", ROW(HEAD_OPT ASK_A OPT("\0\x08" SUBNET("\4", "\3", "\0", "\0"))), 0,
      DNS_FORMERR, true, NULL },
    { "a subnet with a scope",
      ROW(HEAD_OPT ASK_A OPT("\0\x0b" SUBNET("\7", "\1", "\x18", "\x18") "\xcb\0\x71")), 0,
      DNS_FORMERR, true, NULL },
    { "half a subnet", ROW(HEAD_OPT ASK_A OPT("\0\6\0\x8\0\2\0\1")), 0, DNS_FORMERR, true, NULL },
    { "a cookie",
      ROW(HEAD_OPT ASK_A OPT("\0\x0c\0\x0a\0\x8"
                             "12345678")),
      0, DNS_NOERROR, true, NULL },
    { "a cookie too short",
      ROW(HEAD_OPT ASK_A OPT("\0\x0b\0\x0a\0\7"
                             "1234567")),
      0, DNS_FORMERR, true, NULL },
    { "a server's half too short",
      ROW(HEAD_OPT ASK_A OPT("\0\x0d\0\x0a\0\x9"
                             "123456789")),
      0, DNS_FORMERR, true, NULL },
};

static void test_questions(void **)
{
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        struct dns_question question;
        struct err err = {};
        char text[IP_TEXT_BYTES];
        print_message("  %s\n", questions[i].name);
        int r = dns_question_read(codec, (const uint8_t *)questions[i].message, questions[i].bytes,
                                  &question, &err);
        assert_int_equal(r, questions[i].result);
        if (r < 0)
            continue;
        assert_int_equal(question.rcode, questions[i].rcode);
        assert_int_equal(question.asked, questions[i].asked);
        assert_int_equal(question.rcode != DNS_NOERROR, question.fault != NULL);
        assert_int_equal(question.id, 0x1234);
        assert_int_equal(question.subnet.present, questions[i].subnet != NULL);
        if (questions[i].subnet) {
            struct ip_block block = { question.subnet.ip, question.subnet.bits };
            block.bits += question.subnet.family == 1 ? IP4_BITS : 0;
            assert_string_equal(ip_block_text(&block, text), questions[i].subnet);
        }
    }
}

/* ---- replies ------------------------------------------------------------------------------ */

static struct dns_name name_of(const char *text)
{
    struct dns_name name;
    struct err err;
    assert_int_equal(dns_name_parse(slice_of(text), &name, &err), 0);
    return name;
}

static struct ip ip_of(const char *text)
{
    struct ip ip;
    assert_true(ip_parse(slice_of(text), &ip));
    return ip;
}

static struct dns_question ask(const char *message, size_t bytes)
{
    struct dns_question question;
    struct err err;
    assert_int_equal(dns_question_read(codec, (const uint8_t *)message, bytes, &question, &err), 0);
    return question;
}

static size_t write(const struct dns_question *question, const struct dns_reply *reply,
                    uint8_t *buffer, size_t room)
{
    memset(buffer, 0xee, DNS_TCP_BYTES_MAX);
    size_t bytes = dns_reply_write(codec, question, reply, buffer, room);
    assert_true(bytes <= room);
    for (size_t i = room; i < DNS_TCP_BYTES_MAX; i++)
        assert_int_equal(buffer[i], 0xee);
    return bytes;
}

static void has(const uint8_t *buffer, size_t bytes, const char *part, size_t part_bytes,
                bool wanted)
{
    assert_int_equal(memmem(buffer, bytes, part, part_bytes) != NULL, wanted);
}

static void test_addresses_in_their_order(void **)
{
    static uint8_t buffer[DNS_TCP_BYTES_MAX];
    struct dns_question question =
        ask(ROW(HEAD_OPT ASK_A OPT("\0\x0b" SUBNET("\7", "\1", "\x18", "\0") "\xcb\0\x71")));
    struct dns_reply reply;
    struct ip second = ip_of("10.0.0.9"), first = ip_of("192.0.2.1"), six = ip_of("2001:db8::1");
    dns_reply_init(&reply, DNS_NOERROR);
    reply.authoritative = true;
    reply.scope_bits = 20;
    dns_reply_ip(&reply, DNS_ANSWER, NULL, 20, &first);
    dns_reply_ip(&reply, DNS_ANSWER, NULL, 20, &second);
    dns_reply_ip(&reply, DNS_ANSWER, NULL, 5, &six);
    size_t bytes = write(&question, &reply, buffer, DNS_UDP_BYTES_MAX);
    static const char records[] = "\xc0\xc\0\1\0\1\0\0\0\x14\0\4\xc0\0\2\1"
                                  "\xc0\xc\0\1\0\1\0\0\0\x14\0\4\xa\0\0\x9"
                                  "\xc0\xc\0\x1c\0\1\0\0\0\5\0\x10\x20\1\xd\xb8";
    assert_memory_equal(buffer, "\x12\x34\x85\0\0\1\0\3\0\0\0\1", DNS_HEAD_BYTES);
    assert_memory_equal(buffer + DNS_HEAD_BYTES, ASK_A, sizeof ASK_A - 1); /* capitals and all */
    assert_memory_equal(buffer + DNS_HEAD_BYTES + sizeof ASK_A - 1, records, sizeof records - 1);
    has(buffer, bytes, ROW("\0\x8\0\7\0\1\x18\x14\xcb\0\x71"), true);
    assert_false(dns_truncated(buffer));
}

static const struct {
    const char *name;
    size_t room;
    bool truncated, additional, explained;
} rooms[] = {
    { "all of it", 512, false, true, true },
    { "without what was only additional", 110, false, false, true },
    { "nothing but that it is truncated", 90, true, false, true },
    { "no words either", 60, true, false, false },
    { "no EDNS", 37, true, false, false },
    { "no question", 30, true, false, false },
    { "a head", 12, true, false, false },
};

static void test_what_does_not_fit(void **)
{
    static uint8_t buffer[DNS_TCP_BYTES_MAX];
    struct dns_question question = ask(ROW(HEAD_OPT ASK_A OPT("\0\0")));
    struct dns_name server = name_of("ns1.perigee.test");
    struct ip ip = ip_of("192.0.2.1"), glue = ip_of("192.0.2.77");
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        struct dns_reply reply;
        print_message("  %s\n", rooms[i].name);
        dns_reply_init(&reply, DNS_NOERROR);
        dns_reply_explain(&reply, DNS_EDE_OTHER, "%s", "some words");
        for (int k = 0; k < 2; k++)
            dns_reply_ip(&reply, DNS_ANSWER, NULL, 20, &ip);
        dns_reply_ip(&reply, DNS_ADDITIONAL, &server, 20, &glue);
        size_t bytes = write(&question, &reply, buffer, rooms[i].room);
        assert_int_equal(dns_truncated(buffer), rooms[i].truncated);
        has(buffer, bytes, ROW("\xc0\0\2\1"), !rooms[i].truncated);
        has(buffer, bytes, ROW("\xc0\0\2\x4d"), rooms[i].additional);
        has(buffer, bytes, ROW("some words"), rooms[i].explained);
    }
}

static void test_kinds_of_records(void **)
{
    static uint8_t buffer[DNS_TCP_BYTES_MAX];
    struct dns_question question = ask(ROW(HEAD ASK_A));
    struct dns_name zone = name_of("perigee.test"), server = name_of("NS1.perigee.test."),
                    mailbox = name_of("hostmaster.perigee.test");
    struct ip hints[] = { ip_of("2001:db8::1"), ip_of("192.0.2.1"), ip_of("192.0.2.2") };
    struct dns_soa soa = { &server, &mailbox, 7, 3600, 600, 86400, 5 };
    struct dns_https https = {
        .priority = 1, .port = 8443, .alpn = { "h2", "http/1.1" }, .hints = hints, .hint_count = 3
    };
    char text[300];
    memset(text, 'x', sizeof text);
    struct dns_reply reply;
    dns_reply_init(&reply, DNS_NXDOMAIN);
    dns_reply_text(&reply, 0, (struct slice){ text, sizeof text });
    dns_reply_text(&reply, 0, SLICE(""));
    dns_reply_https(&reply, 20, &https);
    dns_reply_any(&reply, 20);
    dns_reply_soa(&reply, DNS_AUTHORITY, &zone, 5, &soa);
    dns_reply_ns(&reply, DNS_AUTHORITY, &zone, 5, &server);
    size_t bytes = write(&question, &reply, buffer, DNS_TCP_BYTES_MAX);
    assert_int_equal(buffer[3] & 15, DNS_NXDOMAIN);
    has(buffer, bytes, ROW("\1\x2e\xffxxxxx"), true);
    has(buffer, bytes, ROW("xxx\x2dxxxx"), true);
    has(buffer, bytes, ROW("\0\x10\0\1\0\0\0\0\0\1\0"), true); /* an empty text is one string */
    has(buffer, bytes,
        ROW("\0\1\0\0\1\0\xc\2h2\x8http/1.1\0\3\0\2\x20\xfb\0\4\0\x8\xc0\0\2\1\xc0\0\2\2"
            "\0\6\0\x10\x20\1\xd\xb8"),
        true);
    has(buffer, bytes, ROW("\7RFC8482\0"), true);
    has(buffer, bytes, ROW("\3ns1\xc0\x13\xahostmaster\xc0\x13\0\0\0\7"), true); /* compressed */
}

static void test_what_went_wrong_is_said(void **)
{
    static uint8_t buffer[DNS_TCP_BYTES_MAX];
    struct dns_reply reply;
    dns_reply_init(&reply, DNS_BADVERS);
    dns_reply_explain(&reply, DNS_EDE_PROHIBITED, "not in %s", "US");
    struct dns_question question = ask(ROW(HEAD_OPT ASK_A OPT_OF("\1", "\0\0")));
    size_t bytes = write(&question, &reply, buffer, DNS_UDP_BYTES_MAX);
    has(buffer, bytes, ROW("\0\0\x29\4\xd0\1\0\0\0\0\xf\0\xf\0\xb\0\x12not in US"), true);
    question = ask(ROW(HEAD ASK_A)); /* without EDNS there is no place for words */
    bytes = write(&question, &reply, buffer, DNS_UDP_BYTES_MAX);
    assert_int_equal(bytes, sizeof(HEAD ASK_A) - 1);
}

/* ---- names -------------------------------------------------------------------------------- */

static const struct {
    const char *name, *zone;
    int before; /* bytes; -1: not below it */
} belows[] = {
    { "perigee.test", "perigee.test", 0 },
    { "digits.Perigee.Test.", "perigee.test", 7 },
    { "_why.digits.perigee.test", "perigee.test", 12 },
    { "test", "perigee.test", -1 },
    { "xperigee.test", "perigee.test", -1 },
    { "digits.perigee.test", ".", 20 },
    { "a\7perigee.test", "perigee.test", -1 }, /* the same bytes in the midst of a label */
};

static void test_below(void **)
{
    for (size_t i = 0; i < sizeof belows / sizeof *belows; i++) {
        struct dns_name name = name_of(belows[i].name), zone = name_of(belows[i].zone);
        size_t before = 99;
        print_message("  %s in %s\n", belows[i].name, belows[i].zone);
        assert_int_equal(dns_name_below(&name, &zone, &before), belows[i].before >= 0);
        assert_int_equal(before, belows[i].before < 0 ? 99 : belows[i].before);
    }
}

static void test_names(void **)
{
    static const char *const wrong[] = {
        "", "a..b", ".a", "x234567890123456789012345678901234567890123456789012345678901234.test"
    };
    char text[DNS_NAME_TEXT_BYTES];
    struct dns_name name, zone = name_of("Perigee.test"), joined;
    struct err err;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(dns_name_parse(slice_of(wrong[i]), &name, &err), ERR_BAD_INPUT);
    assert_string_equal(dns_name_text(&zone, text), "perigee.test");
    assert_true(dns_name_join(SLICE("Digits"), &zone, &joined));
    name = name_of("digits.perigee.test");
    assert_true(dns_name_equal(&joined, &name));
    assert_false(dns_name_equal(&joined, &zone));
    size_t at = 0;
    struct slice label;
    assert_true(dns_name_label(&name, &at, &label));
    assert_true(slice_is(label, "digits"));
    assert_true(dns_name_label(&name, &at, &label) && dns_name_label(&name, &at, &label));
    assert_false(dns_name_label(&name, &at, &label));
}

/* ---- cookies ------------------------------------------------------------------------------ */

static const struct {
    const char *name, *client;
    int32_t later_s;
    bool other_half, changed, right;
} cookies[] = {
    { "ours", "203.0.113.7", 0, false, false, true },
    { "an hour old", "203.0.113.7", 3600, false, false, true },
    { "older", "203.0.113.7", 3601, false, false, false },
    { "of a clock before ours", "203.0.113.7", -300, false, false, true },
    { "of the future", "203.0.113.7", -301, false, false, false },
    { "from another address", "203.0.113.8", 0, false, false, false },
    { "with another client's half", "203.0.113.7", 0, true, false, false },
    { "changed", "203.0.113.7", 0, false, true, false },
};

static void test_cookies(void **)
{
    static const uint8_t secret[DNS_COOKIE_SECRET_BYTES] = "0123456789abcde";
    const uint32_t now_s = 1'700'000'000;
    for (size_t i = 0; i < sizeof cookies / sizeof *cookies; i++) {
        struct dns_cookie cookie = { .present = true, .client = "abcdefg", .server_bytes = 16 };
        struct ip client = ip_of("203.0.113.7");
        print_message("  %s\n", cookies[i].name);
        dns_cookie_make(codec, secret, &cookie, &client, now_s, cookie.server);
        client = ip_of(cookies[i].client);
        cookie.client[0] ^= cookies[i].other_half;
        cookie.server[15] ^= cookies[i].changed;
        assert_int_equal(
            dns_cookie_right(codec, secret, &cookie, &client, now_s + (uint32_t)cookies[i].later_s),
            cookies[i].right);
        cookie.server_bytes = 8;
        assert_false(dns_cookie_right(codec, secret, &cookie, &client, now_s));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_addresses_in_their_order),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_kinds_of_records),
        cmocka_unit_test(test_what_went_wrong_is_said),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_cookies),
    };
    struct err err;
    if (dns_codec_new(&codec, &err) < 0)
        return 1;
    int failed = cmocka_run_group_tests_name("dns", tests, NULL, NULL);
    dns_codec_free(codec);
    return failed;
}
