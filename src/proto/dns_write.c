/* SPDX-License-Identifier: Apache-2.0 */
/* Records lie in the reply as libknot's knot_rdata_t, so that they are copied once, to the wire. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "proto/dns_codec.h"

enum { SVCB_ALPN = 1, SVCB_PORT = 3, SVCB_HINT4 = 4, SVCB_HINT6 = 6 };

/* ---- records ------------------------------------------------------------------------------ */

void dns_reply_init(struct dns_reply *reply, uint16_t rcode)
{
    reply->rcode = rcode;
    reply->authoritative = reply->cookie_given = false;
    reply->scope_bits = 0;
    reply->ede = DNS_EDE_NONE;
    reply->ede_text[0] = '\0';
    reply->count = reply->data_bytes = 0;
}

void dns_reply_explain(struct dns_reply *reply, enum dns_ede ede, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    reply->ede = (int)ede;
    (void)vsnprintf(reply->ede_text, sizeof reply->ede_text, format, values);
    va_end(values);
}

/* Room for a record's data, or NULL. */
static uint8_t *add(struct dns_reply *reply, enum dns_section section, enum dns_type type,
                    const struct dns_name *owner, uint32_t ttl, size_t bytes)
{
    size_t whole = knot_rdata_size((uint16_t)bytes);
    if (reply->count == DNS_RECORDS_MAX || bytes > DNS_DATA_BYTES_MAX ||
        whole > DNS_DATA_BYTES_MAX - reply->data_bytes)
        return NULL;
    assert(reply->count == 0 || reply->records[reply->count - 1].section <= section);
    reply->records[reply->count++] = (struct dns_record){
        .section = (uint8_t)section,
        .type = (uint16_t)type,
        .ttl = ttl,
        .owner = owner,
        .data = (uint16_t)reply->data_bytes,
    };
    knot_rdata_t *data = (knot_rdata_t *)(reply->data + reply->data_bytes);
    reply->data_bytes += whole;
    data->len = (uint16_t)bytes;
    if (bytes & 1)
        data->data[bytes] = 0;
    return data->data;
}

void dns_reply_ip(struct dns_reply *reply, enum dns_section section, const struct dns_name *owner,
                  uint32_t ttl, const struct ip *ip)
{
    bool four = ip_is4(ip);
    uint8_t *data = add(reply, section, four ? DNS_A : DNS_AAAA, owner, ttl, four ? 4 : 16);
    if (data)
        memcpy(data, four ? ip->bytes + 12 : ip->bytes, four ? 4 : 16);
}

struct ip dns_record_ip(const struct dns_reply *reply, const struct dns_record *record)
{
    const knot_rdata_t *data = (const knot_rdata_t *)(reply->data + record->data);
    struct ip ip;
    assert(record->type == DNS_A || record->type == DNS_AAAA);
    if (record->type == DNS_A)
        return ip_from4(data->data);
    memcpy(ip.bytes, data->data, sizeof ip.bytes);
    return ip;
}

void dns_reply_ns(struct dns_reply *reply, enum dns_section section, const struct dns_name *owner,
                  uint32_t ttl, const struct dns_name *server)
{
    uint8_t *data = add(reply, section, DNS_NS, owner, ttl, server->size);
    if (data)
        memcpy(data, server->bytes, server->size);
}

void dns_reply_soa(struct dns_reply *reply, enum dns_section section, const struct dns_name *owner,
                   uint32_t ttl, const struct dns_soa *soa)
{
    const uint32_t numbers[] = { soa->serial, soa->refresh, soa->retry, soa->expire, soa->minimum };
    uint8_t *data = add(reply, section, DNS_SOA, owner, ttl,
                        (size_t)soa->server->size + soa->mailbox->size + sizeof numbers);
    if (!data)
        return;
    memcpy(data, soa->server->bytes, soa->server->size);
    data += soa->server->size;
    memcpy(data, soa->mailbox->bytes, soa->mailbox->size);
    data += soa->mailbox->size;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        knot_wire_write_u32(data + i * sizeof *numbers, numbers[i]);
}

void dns_reply_text(struct dns_reply *reply, uint32_t ttl, struct slice text)
{
    size_t strings = text.size ? (text.size + DNS_STRING_BYTES_MAX - 1) / DNS_STRING_BYTES_MAX : 1;
    uint8_t *data = add(reply, DNS_ANSWER, DNS_TXT, NULL, ttl, text.size + strings);
    while (data && strings-- > 0) {
        size_t part = text.size < DNS_STRING_BYTES_MAX ? text.size : DNS_STRING_BYTES_MAX;
        *data++ = (uint8_t)part;
        if (part)
            memcpy(data, text.data, part);
        data += part;
        text = (struct slice){ text.data + part, text.size - part };
    }
}

void dns_reply_any(struct dns_reply *reply, uint32_t ttl)
{
    static const char data[] = "\007RFC8482"; /* the system: no more; then an empty string */
    uint8_t *to = add(reply, DNS_ANSWER, DNS_HINFO, NULL, ttl, sizeof data);
    if (to)
        memcpy(to, data, sizeof data);
}

/* ---- HTTPS -------------------------------------------------------------------------------- */

static uint8_t *parameter(uint8_t *at, uint16_t key, size_t bytes)
{
    knot_wire_write_u16(at, key);
    knot_wire_write_u16(at + 2, (uint16_t)bytes);
    return at + 4;
}

static uint8_t *put_hints(uint8_t *at, const struct dns_https *https, bool four)
{
    size_t count = 0, each = four ? 4 : 16;
    for (size_t i = 0; i < https->hint_count; i++)
        count += ip_is4(&https->hints[i]) == four;
    if (count == 0)
        return at;
    at = parameter(at, four ? SVCB_HINT4 : SVCB_HINT6, count * each);
    for (size_t i = 0; i < https->hint_count; i++) {
        if (ip_is4(&https->hints[i]) != four)
            continue;
        memcpy(at, https->hints[i].bytes + (four ? 12 : 0), each);
        at += each;
    }
    return at;
}

void dns_reply_https(struct dns_reply *reply, uint32_t ttl, const struct dns_https *https)
{
    enum { ALPN_MAX = 4, ALPN_BYTES_MAX = 32, HINTS_MAX = DNS_RECORDS_MAX };
    uint8_t data[3 + 4 + ALPN_MAX * (1 + ALPN_BYTES_MAX) + 6 + 8 + HINTS_MAX * 16], *at = data;
    size_t alpn_bytes = 0;
    assert(https->hint_count <= HINTS_MAX);
    for (size_t i = 0; i < ALPN_MAX && https->alpn[i]; i++) {
        assert(strlen(https->alpn[i]) <= ALPN_BYTES_MAX);
        alpn_bytes += 1 + strlen(https->alpn[i]);
    }
    knot_wire_write_u16(at, https->priority);
    at[2] = 0; /* the target: the name itself */
    at += 3;
    if (alpn_bytes)
        at = parameter(at, SVCB_ALPN, alpn_bytes);
    for (size_t i = 0; i < ALPN_MAX && https->alpn[i]; i++) {
        size_t length = strlen(https->alpn[i]);
        *at++ = (uint8_t)length;
        memcpy(at, https->alpn[i], length);
        at += length;
    }
    if (https->port) {
        at = parameter(at, SVCB_PORT, 2);
        knot_wire_write_u16(at, https->port);
        at += 2;
    }
    at = put_hints(at, https, true);
    at = put_hints(at, https, false);
    uint8_t *to = add(reply, DNS_ANSWER, DNS_HTTPS, NULL, ttl, (size_t)(at - data));
    if (to)
        memcpy(to, data, (size_t)(at - data));
}

/* ---- the message -------------------------------------------------------------------------- */

static void put_subnet(struct dns_codec *codec, knot_rrset_t *opt,
                       const struct dns_question *question, const struct dns_reply *reply)
{
    const struct dns_subnet *subnet = &question->subnet;
    uint8_t data[4 + 16], *address = data + 4;
    size_t bytes = (subnet->bits + 7U) / 8;
    knot_wire_write_u16(data, subnet->family);
    data[2] = subnet->bits;
    data[3] = reply->scope_bits;
    memcpy(address, subnet->ip.bytes + (subnet->family == 1 ? 12 : 0), bytes);
    int r = codec->knot->knot_edns_add_option(opt, KNOT_EDNS_OPTION_CLIENT_SUBNET,
                                              (uint16_t)(4 + bytes), data, &codec->mm);
    assert(r == KNOT_EOK);
}

static void put_cookie(struct dns_codec *codec, knot_rrset_t *opt,
                       const struct dns_question *question, const struct dns_reply *reply)
{
    uint8_t data[DNS_COOKIE_CLIENT_BYTES + DNS_COOKIE_BYTES];
    memcpy(data, question->cookie.client, DNS_COOKIE_CLIENT_BYTES);
    memcpy(data + DNS_COOKIE_CLIENT_BYTES, reply->cookie, DNS_COOKIE_BYTES);
    int r = codec->knot->knot_edns_add_option(opt, KNOT_EDNS_OPTION_COOKIE, sizeof data, data,
                                              &codec->mm);
    assert(r == KNOT_EOK);
}

static void put_explanation(struct dns_codec *codec, knot_rrset_t *opt,
                            const struct dns_reply *reply)
{
    uint8_t data[2 + DNS_EDE_TEXT_BYTES];
    size_t length = strlen(reply->ede_text);
    knot_wire_write_u16(data, (uint16_t)reply->ede);
    memcpy(data + 2, reply->ede_text, length);
    int r = codec->knot->knot_edns_add_option(opt, KNOT_EDNS_OPTION_EDE, (uint16_t)(2 + length),
                                              data, &codec->mm);
    assert(r == KNOT_EOK);
}

static void make_opt(struct dns_codec *codec, const struct dns_question *question,
                     const struct dns_reply *reply, bool explained, knot_rrset_t *opt)
{
    int r = codec->knot->knot_edns_init(opt, DNS_UDP_BYTES_MAX, KNOT_EDNS_RCODE_HI(reply->rcode),
                                        KNOT_EDNS_VERSION, &codec->mm);
    assert(r == KNOT_EOK);
    if (question->dnssec_ok)
        knot_edns_set_do(opt);
    if (question->subnet.present)
        put_subnet(codec, opt, question, reply);
    if (question->cookie.present && reply->cookie_given)
        put_cookie(codec, opt, question, reply);
    if (explained && reply->ede != DNS_EDE_NONE)
        put_explanation(codec, opt, reply);
}

static void put_head(const struct dns_knot *knot, knot_pkt_t *packet,
                     const struct dns_question *question, const struct dns_reply *reply)
{
    knot->knot_pkt_clear(packet);
    uint8_t *wire = packet->wire;
    if (question->asked)
        (void)knot->knot_pkt_put_question(packet, question->asked_name, question->class,
                                          question->type);
    knot_wire_set_id(wire, question->id);
    knot_wire_set_qr(wire);
    knot_wire_set_opcode(wire, question->opcode);
    if (reply->authoritative)
        knot_wire_set_aa(wire);
    if (question->recursion_desired)
        knot_wire_set_rd(wire);
    if (question->checking_disabled)
        knot_wire_set_cd(wire);
    /* Without EDNS there is no place for the upper half: what has one is a format error there. */
    knot_wire_set_rcode(wire, KNOT_EDNS_RCODE_LO(reply->rcode));
}

/* False: they do not fit. */
static bool put_records(const struct dns_knot *knot, knot_pkt_t *packet,
                        const struct dns_question *question, const struct dns_reply *reply)
{
    for (size_t i = 0; i < reply->count; i++) {
        const struct dns_record *record = &reply->records[i];
        bool additional = record->section == DNS_ADDITIONAL;
        const uint8_t *owner = record->owner ? record->owner->bytes : question->asked_name;
        knot_rdata_t *data = (knot_rdata_t *)(uintptr_t)(reply->data + record->data);
        knot_rrset_t set;
        knot_rrset_init(&set, (knot_dname_t *)(uintptr_t)owner, record->type, KNOT_CLASS_IN,
                        record->ttl);
        set.rrs.count = 1;
        set.rrs.size = (uint32_t)knot_rdata_size(data->len);
        set.rrs.rdata = data;
        if (packet->current != (knot_section_t)record->section)
            (void)knot->knot_pkt_begin(packet, (knot_section_t)record->section);
        int r = knot->knot_pkt_put_rotate(
            packet, record->owner ? KNOT_COMPR_HINT_NONE : KNOT_COMPR_HINT_QNAME, &set, 0,
            additional ? KNOT_PF_NOTRUNC : 0);
        if (r != KNOT_EOK && !additional)
            return false;
    }
    return true;
}

size_t dns_reply_write(struct dns_codec *codec, const struct dns_question *question,
                       const struct dns_reply *reply, uint8_t *buffer, size_t room)
{
    assert(room >= DNS_HEAD_BYTES && room <= DNS_TCP_BYTES_MAX);
    const struct dns_knot *knot = codec->knot;
    knot_pkt_t *packet = knot->knot_pkt_new(buffer, (uint16_t)room, dns_codec_reset(codec));
    assert(packet);
    put_head(knot, packet, question, reply);
    knot_rrset_t opt;
    bool with_opt = question->edns;
    for (int explained = 1; with_opt && explained >= 0; explained--) {
        make_opt(codec, question, reply, explained, &opt);
        if (knot->knot_pkt_reserve(packet, (uint16_t)knot_edns_wire_size(&opt)) == KNOT_EOK)
            break;
        with_opt = explained > 0;
    }
    if (!put_records(knot, packet, question, reply)) {
        uint16_t reserved = packet->reserved;
        put_head(knot, packet, question, reply);
        if (with_opt && packet->reserved == 0)
            (void)knot->knot_pkt_reserve(packet, reserved);
        knot_wire_set_tc(packet->wire);
    }
    if (with_opt) {
        (void)knot->knot_pkt_reclaim(packet, (uint16_t)knot_edns_wire_size(&opt));
        if (packet->current != KNOT_ADDITIONAL)
            (void)knot->knot_pkt_begin(packet, KNOT_ADDITIONAL);
        int r = knot->knot_pkt_put_rotate(packet, KNOT_COMPR_HINT_NONE, &opt, 0, KNOT_PF_NOTRUNC);
        assert(r == KNOT_EOK);
    }
    return packet->size;
}

bool dns_truncated(const uint8_t *message)
{
    return knot_wire_get_tc(message) != 0;
}
