/* SPDX-License-Identifier: Apache-2.0 */
/* A message from anybody, and what is answered: the answer reads as a message again, keeps to its
 * room, and gives back name and number. The first byte says how much room there is. */
#include "proto/dns.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "proto/dns_cookie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dns_codec *codec;

/* Of both families, as many as there are bits for. */
static void https(struct dns_reply *reply, const struct dns_question *question, uint8_t how)
{
    struct ip hints[16];
    struct dns_https https = { .priority = 1, .port = how & 1 ? 8443 : 0, .hints = hints };
    if (how & 4)
        https.alpn[0] = "h2";
    if (how & 8)
        https.alpn[https.alpn[0] != NULL] = "http/1.1";
    for (; https.hint_count < how >> 4; https.hint_count++)
        hints[https.hint_count] =
            https.hint_count & 1 ? question->subnet.ip : ip_from4((uint8_t[]){ 192, 0, 2, how });
    dns_reply_https(reply, 20, &https);
}

static void fill(struct dns_reply *reply, const struct dns_question *question, uint8_t how)
{
    static const uint8_t four[4] = { 192, 0, 2, 1 };
    static const uint8_t secret[DNS_COOKIE_SECRET_BYTES];
    const struct dns_soa soa = { &question->name, &question->name, 1, 2, 3, 4, 5 };
    struct ip ip = ip_from4(four);
    dns_reply_init(reply, question->rcode);
    if (how & 1)
        dns_reply_explain(reply, DNS_EDE_OTHER, "%s", question->fault ? question->fault : "why");
    if (question->cookie.present) {
        reply->cookie_given = true;
        dns_cookie_make(codec, secret, &question->cookie, &ip, 1, reply->cookie);
    }
    if (!question->asked)
        return;
    for (unsigned i = 0; i < (how >> 4); i++)
        dns_reply_ip(reply, DNS_ANSWER, NULL, 20, i & 1 ? &question->subnet.ip : &ip);
    if (how & 2)
        dns_reply_text(reply, 0, (struct slice){ (const char *)question->name.bytes, 200 });
    if (how & 2)
        https(reply, question, how);
    if (how & 4)
        dns_reply_soa(reply, DNS_AUTHORITY, &question->name, 5, &soa);
    dns_reply_ip(reply, DNS_ADDITIONAL, &question->name, 5, &ip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dns_reply reply;
    struct dns_question question;
    struct err err;
    static uint8_t buffer[DNS_TCP_BYTES_MAX];
    if (!codec)
        assert(dns_codec_new(&codec, &err) == 0);
    if (size < 1 || dns_question_read(codec, data + 1, size - 1, &question, &err) < 0)
        return 0;
    assert(question.rcode == DNS_NOERROR ? question.asked || question.cookie.present
                                         : question.fault != NULL);
    assert(!question.asked ||
           (question.name.size > 0 && !question.name.bytes[question.name.size - 1]));
    if (question.asked || question.rcode != DNS_NOERROR)
        fill(&reply, &question, data[0]);
    else
        dns_reply_init(&reply, DNS_NOERROR);
    size_t room = data[0] & 8 ? 12 + (size_t)data[0] * 5 : DNS_UDP_BYTES_MAX;
    size_t bytes = dns_reply_write(codec, &question, &reply, buffer, room);
    assert(bytes >= DNS_HEAD_BYTES && bytes <= room);
    assert(memcmp(buffer, data + 1, 2) == 0 && buffer[2] & 0x80);
    struct dns_question again;
    assert(dns_question_read(codec, buffer, bytes, &again, &err) == ERR_BAD_INPUT);
    if (question.asked && room == DNS_UDP_BYTES_MAX)
        assert(memcmp(buffer + 12, question.asked_name, question.name.size) == 0);
    return 0;
}
