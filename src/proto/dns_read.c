/* SPDX-License-Identifier: Apache-2.0 */
/* What can be wrong with a question, from the head on. libknot walks the message and its names; the
 * rules of RFC 7871 and 7873 that it leaves to its callers are here. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "proto/dns_codec.h"

enum { ADDITIONAL_MAX = 2, FAMILY_4 = 1, FAMILY_6 = 2, CLASS_IN = 1 };

/* ---- options ------------------------------------------------------------------------------ */

static void fault(struct dns_question *question, enum dns_rcode rcode, const char *words)
{
    if (question->rcode != DNS_NOERROR)
        return;
    question->rcode = (uint16_t)rcode;
    question->fault = words;
}

/* RFC 7871 6: exactly the bytes that the prefix needs, nothing behind its bits, no scope. */
static void read_subnet(struct dns_question *question, const uint8_t *data, size_t size)
{
    if (size < 4) {
        fault(question, DNS_FORMERR, "a client subnet that is cut off");
        return;
    }
    struct dns_subnet subnet = { .present = true,
                                 .family = knot_wire_read_u16(data),
                                 .bits = data[2] };
    unsigned most = subnet.family == FAMILY_4 ? 32 : subnet.family == FAMILY_6 ? 128 : 0;
    unsigned bytes = (subnet.bits + 7U) / 8;
    if (subnet.family > FAMILY_6 || subnet.bits > most || data[3] != 0 || size != 4 + bytes) {
        fault(question, DNS_FORMERR, "a client subnet of odd family, length or scope");
        return;
    }
    uint8_t address[16] = {};
    memcpy(address, data + 4, bytes);
    struct ip ip;
    if (subnet.family == FAMILY_4)
        ip = ip_from4(address);
    else
        memcpy(ip.bytes, address, sizeof ip.bytes);
    unsigned bits = subnet.bits + (subnet.family == FAMILY_4 ? IP4_BITS : 0);
    subnet.ip = ip_cut(&ip, bits);
    if (memcmp(subnet.ip.bytes, ip.bytes, sizeof ip.bytes) != 0)
        fault(question, DNS_FORMERR, "a client subnet with bits behind its length");
    else
        question->subnet = subnet;
}

static void read_cookie(struct dns_question *question, const uint8_t *data, size_t size)
{
    struct dns_cookie *cookie = &question->cookie;
    size_t server = size > DNS_COOKIE_CLIENT_BYTES ? size - DNS_COOKIE_CLIENT_BYTES : 0;
    if (size < DNS_COOKIE_CLIENT_BYTES || (server > 0 && server < 8) ||
        server > DNS_COOKIE_SERVER_BYTES_MAX) {
        fault(question, DNS_FORMERR, "a cookie of odd length"); /* RFC 7873 5.2.2 */
        return;
    }
    cookie->present = true;
    memcpy(cookie->client, data, DNS_COOKIE_CLIENT_BYTES);
    memcpy(cookie->server, data + DNS_COOKIE_CLIENT_BYTES, server);
    cookie->server_bytes = (uint8_t)server;
}

static void read_edns(const struct dns_codec *codec, struct dns_question *question,
                      const knot_pkt_t *packet)
{
    uint16_t payload = knot_edns_get_payload(packet->opt_rr);
    question->edns = true;
    question->dnssec_ok = knot_edns_do(packet->opt_rr);
    question->payload = payload < DNS_UDP_BYTES_LEAST ? DNS_UDP_BYTES_LEAST : payload;
    if (codec->knot->knot_edns_get_version(packet->opt_rr) != KNOT_EDNS_VERSION) {
        fault(question, DNS_BADVERS, "an EDNS version that is not 0");
        return; /* its options may be others */
    }
    uint8_t *subnet = knot_pkt_edns_option(packet, KNOT_EDNS_OPTION_CLIENT_SUBNET);
    uint8_t *cookie = knot_pkt_edns_option(packet, KNOT_EDNS_OPTION_COOKIE);
    if (subnet)
        read_subnet(question, knot_edns_opt_get_data(subnet), knot_edns_opt_get_length(subnet));
    if (cookie)
        read_cookie(question, knot_edns_opt_get_data(cookie), knot_edns_opt_get_length(cookie));
}

/* ---- the message -------------------------------------------------------------------------- */

static void read_question(struct dns_question *question, const knot_pkt_t *packet)
{
    const uint8_t *name = knot_pkt_wire_qname(packet);
    if (!name)
        return;
    question->asked = true;
    question->type = knot_pkt_qtype(packet);
    question->class = knot_pkt_qclass(packet);
    question->name.size = (uint8_t)packet->qname_size;
    assert(packet->qname_size <= DNS_NAME_BYTES_MAX);
    memcpy(question->asked_name, name, packet->qname_size);
    memcpy(question->name.bytes, name, packet->qname_size);
    dns_name_lower(question->name.bytes, packet->qname_size);
}

/* Before libknot walks through: what no question has. False: it must not walk, so that a message of
 * thousands of records costs nothing. Who asks wrongly is told so with EDNS where he has spoken it
 * (RFC 6891 7), and who asks nothing may want a cookie (RFC 7873 5.4). */
static bool head_walkable(struct dns_question *question, const uint8_t *message)
{
    unsigned questions = knot_wire_get_qdcount(message);
    unsigned additional = knot_wire_get_arcount(message);
    bool bare = knot_wire_get_ancount(message) == 0 && knot_wire_get_nscount(message) == 0 &&
                additional <= ADDITIONAL_MAX;

    if (question->opcode != KNOT_OPCODE_QUERY)
        fault(question, DNS_NOTIMP, "no query");
    else if (questions > 1 || (questions == 0 && additional == 0))
        fault(question, DNS_FORMERR, "not one question");
    else if (!bare)
        fault(question, DNS_FORMERR, "records in a question");
    return questions <= 1 && bare;
}

int dns_question_read(struct dns_codec *codec, const uint8_t *message, size_t bytes,
                      struct dns_question *ret, struct err *err)
{
    if (bytes < DNS_HEAD_BYTES || bytes > DNS_TCP_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "a message of %zu bytes", bytes);
    if (knot_wire_get_qr(message))
        return err_set(err, ERR_BAD_INPUT, "an answer in the place of a question");
    *ret = (struct dns_question){
        .bytes = bytes,
        .id = knot_wire_get_id(message),
        .opcode = knot_wire_get_opcode(message),
        .recursion_desired = knot_wire_get_rd(message) != 0,
        .checking_disabled = knot_wire_get_cd(message) != 0,
        .payload = DNS_UDP_BYTES_LEAST,
    };
    if (!head_walkable(ret, message))
        return 0;
    knot_mm_t *mm = dns_codec_reset(codec);
    /* libknot takes no const, and with KEEPWIRE changes nothing. */
    knot_pkt_t *packet = codec->knot->knot_pkt_new((void *)(uintptr_t)message, (uint16_t)bytes, mm);
    assert(packet);
    int r = codec->knot->knot_pkt_parse(packet, KNOT_PF_KEEPWIRE | KNOT_PF_NOCANON);
    if (ret->rcode == DNS_NOERROR && knot_wire_get_qdcount(message) == 1)
        read_question(ret, packet);
    if (r != KNOT_EOK)
        fault(ret, DNS_FORMERR, "it is cut off, or not well-formed");
    if (r == KNOT_EOK && knot_pkt_has_edns(packet))
        read_edns(codec, ret, packet);
    if (r == KNOT_EOK && knot_pkt_has_tsig(packet))
        fault(ret, DNS_NOTAUTH, "signed by a key that is not known");
    if (!ret->asked && !ret->cookie.present)
        fault(ret, DNS_FORMERR, "not one question");
    if (ret->asked && ret->class != CLASS_IN)
        fault(ret, DNS_REFUSED, "a class that is not IN");
    else if (ret->asked && (ret->type == DNS_AXFR || ret->type == DNS_IXFR))
        fault(ret, DNS_REFUSED, "transfers are not for anybody");
    else if (ret->asked && (ret->type == 0 || ret->type == DNS_OPT || ret->type == DNS_TSIG))
        fault(ret, DNS_FORMERR, "a type that cannot be asked");
    return 0;
}
