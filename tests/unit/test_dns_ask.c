/* SPDX-License-Identifier: Apache-2.0 */
/* A client's questions are what the server reads, and the server's answers what a client reads. */
#include "proto/dns_ask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/err.h"

static struct dns_ask ask_of(const char *name, uint16_t type, const char *subnet)
{
    struct dns_ask ask = { .id = 0x1234, .type = type, .with_subnet = subnet != NULL };
    struct err err;
    assert_int_equal(dns_name_parse(slice_of(name), &ask.name, &err), 0);
    if (subnet)
        assert_int_equal(ip_block_parse(slice_of(subnet), &ask.subnet, &err), 0);
    return ask;
}

static const struct {
    const char *name, *subnet;
    uint16_t type, family;
    uint8_t bits;
} questions[] = {
    { "digits.perigee.test", NULL, DNS_A, 0, 0 },
    { "digits.perigee.test", "203.0.113.7", DNS_A, 1, 32 },
    { "digits.perigee.test", "203.0.113.0/25", DNS_AAAA, 1, 25 },
    { "_why.digits.perigee.test", "2001:db8::/33", DNS_TXT, 2, 33 },
    { "perigee.test", "0.0.0.0/0", DNS_A, 1, 0 },
};

static void test_the_server_reads_what_is_asked(void **)
{
    struct dns_codec *codec;
    struct err err;
    assert_int_equal(dns_codec_new(&codec, &err), 0);
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        struct dns_ask ask = ask_of(questions[i].name, questions[i].type, questions[i].subnet);
        uint8_t message[DNS_ASK_BYTES_MAX];
        struct dns_question read;
        size_t bytes = dns_ask_write(&ask, message);
        assert_int_equal(dns_question_read(codec, message, bytes, &read, &err), 0);
        assert_true(read.asked && read.rcode == DNS_NOERROR && read.edns && read.id == ask.id);
        assert_true(dns_name_equal(&read.name, &ask.name) && read.type == ask.type);
        assert_int_equal(read.subnet.present, ask.with_subnet);
        assert_int_equal(read.subnet.bits, questions[i].bits);
        assert_int_equal(read.subnet.family, questions[i].family);
        if (ask.with_subnet && questions[i].bits)
            assert_memory_equal(&read.subnet.ip, &ask.subnet.ip, sizeof read.subnet.ip);
    }
    dns_codec_free(codec);
}

static size_t answer_of(const struct dns_ask *ask, const struct dns_reply *reply, uint8_t *buffer,
                        size_t room)
{
    struct dns_codec *codec;
    struct dns_question question;
    uint8_t message[DNS_ASK_BYTES_MAX];
    struct err err;
    size_t bytes = dns_ask_write(ask, message);
    assert_int_equal(dns_codec_new(&codec, &err), 0);
    assert_int_equal(dns_question_read(codec, message, bytes, &question, &err), 0);
    bytes = dns_reply_write(codec, &question, reply, buffer, room);
    dns_codec_free(codec);
    return bytes;
}

static void test_what_is_answered_is_read(void **)
{
    struct dns_ask ask = ask_of("digits.perigee.test", DNS_A, "203.0.113.0/24");
    static struct dns_reply reply;
    uint8_t message[DNS_UDP_BYTES_MAX];
    struct dns_answer answer;
    struct err err;
    struct ip four, six;
    assert_true(ip_parse(SLICE("192.0.2.7"), &four) && ip_parse(SLICE("2001:db8::7"), &six));
    dns_reply_init(&reply, DNS_NOERROR);
    dns_reply_ip(&reply, DNS_ANSWER, NULL, 20, &four);
    dns_reply_ip(&reply, DNS_ANSWER, NULL, 5, &six);
    dns_reply_ns(&reply, DNS_AUTHORITY, NULL, 1, &ask.name);
    size_t bytes = answer_of(&ask, &reply, message, sizeof message);
    assert_int_equal(dns_answer_read(&ask, message, bytes, &answer, &err), 0);
    assert_int_equal(answer.ip_count, 2);
    assert_int_equal(answer.ttl, 5);
    assert_memory_equal(&answer.ips[0], &four, sizeof four);
    assert_memory_equal(&answer.ips[1], &six, sizeof six);
    assert_true(answer.rcode == DNS_NOERROR && !answer.truncated && answer.ede == DNS_EDE_NONE);

    /* What is cut off is broken; what has another number, or name, is another's. */
    for (size_t part = 0; part < bytes; part++)
        assert_true(dns_answer_read(&ask, message, part, &answer, &err) < 0);
    message[0] ^= 1;
    assert_int_equal(dns_answer_read(&ask, message, bytes, &answer, &err), ERR_NOT_FOUND);
    message[0] ^= 1;
    message[DNS_HEAD_BYTES + 1] ^= 0x20; /* a capital is none */
    assert_int_equal(dns_answer_read(&ask, message, bytes, &answer, &err), 0);
    message[DNS_HEAD_BYTES + 1] = 'x';
    assert_int_equal(dns_answer_read(&ask, message, bytes, &answer, &err), ERR_NOT_FOUND);
}

static void test_why_there_is_nothing(void **)
{
    struct dns_ask ask = ask_of("_why.digits.perigee.test", DNS_TXT, NULL);
    static struct dns_reply reply;
    uint8_t message[DNS_UDP_BYTES_MAX];
    struct dns_answer answer;
    struct err err;
    dns_reply_init(&reply, DNS_NXDOMAIN);
    dns_reply_explain(&reply, DNS_EDE_PROHIBITED, "residency: denied");
    size_t bytes = answer_of(&ask, &reply, message, sizeof message);
    assert_int_equal(dns_answer_read(&ask, message, bytes, &answer, &err), 0);
    assert_int_equal(answer.rcode, DNS_NXDOMAIN);
    assert_int_equal(answer.ede, DNS_EDE_PROHIBITED);
    assert_true(slice_is(answer.ede_text, "residency: denied"));
    dns_reply_init(&reply, DNS_NOERROR);
    dns_reply_text(&reply, 0, SLICE("client"));
    dns_reply_text(&reply, 0, SLICE("tokyo: 14.4 ms"));
    bytes = answer_of(&ask, &reply, message, sizeof message);
    assert_int_equal(dns_answer_read(&ask, message, bytes, &answer, &err), 0);
    assert_int_equal(answer.text_count, 2);
    assert_true(slice_is(answer.texts[1], "tokyo: 14.4 ms"));
    /* Where it does not fit, it says so. */
    bytes = answer_of(&ask, &reply, message, 60);
    assert_int_equal(dns_answer_read(&ask, message, bytes, &answer, &err), 0);
    assert_true(answer.truncated && answer.text_count == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_server_reads_what_is_asked),
        cmocka_unit_test(test_what_is_answered_is_read),
        cmocka_unit_test(test_why_there_is_nothing),
    };
    return cmocka_run_group_tests_name("dns_ask", tests, NULL, NULL);
}
