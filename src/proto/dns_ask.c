/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dns_ask.h"

#include <string.h>

#include "base/err.h"

enum {
    CLASS_IN = 1,
    FLAG_ANSWER = 0x80, /* of byte 2 */
    FLAG_RECURSION = 0x01,
    FLAG_TRUNCATED = 0x02,
    OPTION_SUBNET = 8,
    OPTION_EDE = 15,
    FAMILY_4 = 1,
    FAMILY_6 = 2,
};

/* ---- asking ---------------------------------------------------------------------------------- */

static uint8_t *put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static uint8_t *put_subnet(uint8_t *at, const struct ip_block *block)
{
    bool four = ip_is4(&block->ip) && block->bits >= IP4_BITS;
    unsigned bits = four ? block->bits - IP4_BITS : block->bits, bytes = (bits + 7) / 8;
    struct ip cut = ip_cut(&block->ip, block->bits);
    at = put16(at, OPTION_SUBNET);
    at = put16(at, 4 + bytes);
    at = put16(at, four ? FAMILY_4 : FAMILY_6);
    *at++ = (uint8_t)bits;
    *at++ = 0;
    memcpy(at, cut.bytes + (four ? IP4_BITS / 8 : 0), bytes);
    return at + bytes;
}

size_t dns_ask_write(const struct dns_ask *ask, uint8_t buffer[static DNS_ASK_BYTES_MAX])
{
    uint8_t *at = buffer;
    memset(buffer, 0, DNS_HEAD_BYTES);
    (void)put16(at, ask->id);
    at[2] = FLAG_RECURSION; /* it may be a resolver */
    at[5] = 1;              /* one question */
    at[11] = 1;             /* one OPT */
    at += DNS_HEAD_BYTES;
    memcpy(at, ask->name.bytes, ask->name.size);
    at += ask->name.size;
    at = put16(at, ask->type);
    at = put16(at, CLASS_IN);
    *at++ = 0; /* the root: OPT */
    at = put16(at, DNS_OPT);
    at = put16(at, DNS_UDP_BYTES_MAX);
    memset(at, 0, 4);
    uint8_t *length = at + 4;
    at = length + 2;
    if (ask->with_subnet)
        at = put_subnet(at, &ask->subnet);
    (void)put16(length, (unsigned)(at - length - 2));
    return (size_t)(at - buffer);
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *at, *end;
};

static bool has(const struct reader *reader, size_t bytes)
{
    return (size_t)(reader->end - reader->at) >= bytes;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* A pointer ends a name: where it leads to does not matter here. */
static bool skip_name(struct reader *reader)
{
    while (has(reader, 1)) {
        uint8_t length = *reader->at++;
        if (length == 0)
            return true;
        bool pointer = (length & 0xc0) == 0xc0;
        size_t bytes = pointer ? 1 : length;
        if ((!pointer && length & 0xc0) || !has(reader, bytes))
            return false;
        reader->at += bytes;
        if (pointer)
            return true;
    }
    return false;
}

static void take_ede(struct reader options, struct dns_answer *ret)
{
    while (has(&options, 4)) {
        unsigned code = get16(options.at), bytes = get16(options.at + 2);
        options.at += 4;
        if (!has(&options, bytes))
            return;
        if (code == OPTION_EDE && bytes >= 2 && ret->ede == DNS_EDE_NONE) {
            ret->ede = (int)get16(options.at);
            ret->ede_text = (struct slice){ (const char *)options.at + 2, bytes - 2 };
        }
        options.at += bytes;
    }
}

static void take(struct dns_answer *ret, unsigned type, uint32_t ttl, struct reader data)
{
    size_t bytes = (size_t)(data.end - data.at);
    bool ip = (type == DNS_A && bytes == 4) || (type == DNS_AAAA && bytes == 16);
    bool text = type == DNS_TXT && bytes > 0 && bytes > data.at[0];
    if (ip && ret->ip_count < DNS_ASK_IPS_MAX) {
        struct ip *to = &ret->ips[ret->ip_count++];
        if (type == DNS_A)
            *to = ip_from4(data.at);
        else
            memcpy(to->bytes, data.at, sizeof to->bytes);
    }
    if (text && ret->text_count < DNS_ASK_TEXTS_MAX)
        ret->texts[ret->text_count++] = (struct slice){ (const char *)data.at + 1, data.at[0] };
    if ((ip || text) && (ret->ip_count + ret->text_count == 1 || ttl < ret->ttl))
        ret->ttl = ttl;
}

/* Of the sections: the answer's records are taken, of the others an OPT alone. */
static bool records_read(struct reader *reader, const unsigned counts[static 3],
                         struct dns_answer *ret)
{
    for (unsigned section = 0; section < 3; section++)
        for (unsigned i = 0; i < counts[section]; i++) {
            if (!skip_name(reader) || !has(reader, 10))
                return false;
            const uint8_t *head = reader->at;
            unsigned type = get16(head), class = get16(head + 2), bytes = get16(head + 8);
            uint32_t ttl = (uint32_t)get16(head + 4) << 16 | get16(head + 6);
            reader->at += 10;
            if (!has(reader, bytes))
                return false;
            struct reader data = { reader->at, reader->at + bytes };
            reader->at += bytes;
            if (section == 0 && class == CLASS_IN)
                take(ret, type, ttl, data);
            else if (section == 2 && type == DNS_OPT)
                take_ede(data, ret);
        }
    return true;
}

/* The question as it went out, but for capitals. */
static bool same_question(struct reader *reader, const struct dns_ask *ask)
{
    struct dns_name name = { .size = ask->name.size };
    if (!has(reader, (size_t)ask->name.size + 4))
        return false;
    memcpy(name.bytes, reader->at, name.size);
    dns_name_lower(name.bytes, name.size);
    bool same = dns_name_equal(&name, &ask->name) && get16(reader->at + name.size) == ask->type &&
                get16(reader->at + name.size + 2) == CLASS_IN;
    reader->at += (size_t)name.size + 4;
    return same;
}

int dns_answer_read(const struct dns_ask *ask, const uint8_t *message, size_t bytes,
                    struct dns_answer *ret, struct err *err)
{
    struct reader reader = { message, message + bytes };
    struct dns_answer answer = { .ede = DNS_EDE_NONE };
    if (!has(&reader, DNS_HEAD_BYTES) || get16(message) != ask->id || !(message[2] & FLAG_ANSWER))
        return err_set(err, ERR_NOT_FOUND, "no answer to what was asked");
    unsigned questions = get16(message + 4);
    const unsigned counts[] = { get16(message + 6), get16(message + 8), get16(message + 10) };
    answer.rcode = message[3] & 15;
    answer.truncated = message[2] & FLAG_TRUNCATED;
    reader.at += DNS_HEAD_BYTES;
    /* Who cannot read the question may leave it out. */
    if (questions > 1 || (questions == 0 && answer.rcode == DNS_NOERROR) ||
        (questions == 1 && !same_question(&reader, ask)))
        return err_set(err, ERR_NOT_FOUND, "an answer to something else");
    if (!answer.truncated && !records_read(&reader, counts, &answer))
        return err_set(err, ERR_BAD_INPUT, "the DNS answer is broken");
    *ret = answer;
    return 0;
}
