/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns.h -- DNS messages as an authoritative server meets them: bytes to a question, a reply to
 * bytes. No I/O, no clock.
 *
 * RFC 1035 (messages), 6891 (EDNS), 7871 (client subnet), 7873 (cookies), 8482 (minimal ANY), 8914
 * (extended errors), 9460 (HTTPS). The wire format is libknot's; names are in wire form and small
 * letters (dns_name.h).
 *
 * A codec is one thread's working memory: what a call needs comes from it and is given back when
 * the call returns, so that nothing is allocated for a question.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"
#include "proto/dns_name.h"

struct dns_codec;
struct err;

enum {
    DNS_UDP_BYTES_LEAST = 512, /* without EDNS */
    DNS_UDP_BYTES_MAX = 1232,  /* of an answer: passes everywhere unfragmented (flag day 2020) */
    DNS_TCP_BYTES_MAX = 65535,
    DNS_HEAD_BYTES = 12,
    DNS_COOKIE_CLIENT_BYTES = 8,
    DNS_COOKIE_SERVER_BYTES_MAX = 32,
    DNS_COOKIE_BYTES = 16,      /* of a server's cookie as we make it (RFC 9018) */
    DNS_STRING_BYTES_MAX = 255, /* of one string in a TXT record */
    DNS_RECORDS_MAX = 40,
    DNS_DATA_BYTES_MAX = 4096,
    DNS_EDE_TEXT_BYTES = 160,
};

enum dns_type {
    DNS_A = 1,
    DNS_NS = 2,
    DNS_SOA = 6,
    DNS_HINFO = 13,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_OPT = 41,
    DNS_HTTPS = 65,
    DNS_TSIG = 250,
    DNS_IXFR = 251,
    DNS_AXFR = 252,
    DNS_ANY = 255,
};

enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_NOTAUTH = 9,
    DNS_BADVERS = 16,
};

enum dns_ede { /* RFC 8914, as far as we say them */
               DNS_EDE_NONE = -1,
               DNS_EDE_OTHER = 0,
               DNS_EDE_NOT_READY = 14,
               DNS_EDE_PROHIBITED = 18,
               DNS_EDE_NOT_AUTHORITATIVE = 20,
               DNS_EDE_NOT_SUPPORTED = 21,
};

/* ---- questions ---------------------------------------------------------------------------- */

/* EDNS client subnet: where the resolver's client is. What lies behind `bits` of `ip` is 0. */
struct dns_subnet {
    bool present;
    uint16_t family; /* 1: IPv4, 2: IPv6; 0, with 0 bits: the client wants not to be known */
    uint8_t bits;    /* of the family: 0 to 32, or 0 to 128 */
    struct ip ip;
};

struct dns_cookie {
    bool present;
    uint8_t client[DNS_COOKIE_CLIENT_BYTES];
    uint8_t server[DNS_COOKIE_SERVER_BYTES_MAX]; /* as the client has it from whomever */
    uint8_t server_bytes;                        /* 0, or 8 to 32 */
};

struct dns_question {
    size_t bytes; /* of the message */
    uint16_t id;
    uint8_t opcode;
    bool recursion_desired, checking_disabled;
    uint16_t rcode;    /* DNS_NOERROR, or what it has earned whatever is asked */
    const char *fault; /* static words to that; or NULL */
    bool asked;        /* name, asked_name, type and class are set; not, and DNS_NOERROR: who
                          asks wants a cookie alone (RFC 7873 5.4) */
    uint16_t type, class;
    struct dns_name name;
    uint8_t asked_name[DNS_NAME_BYTES_MAX]; /* as written, capitals and all: goes back like this */
    bool edns, dnssec_ok;
    uint16_t payload; /* the largest answer that the asker takes over UDP, at least 512 */
    struct dns_subnet subnet;
    struct dns_cookie cookie;
};

/* ERR_PRECONDITION: libknot, which is opened here, is not on this machine. */
[[nodiscard]] int dns_codec_new(struct dns_codec **ret, struct err *err);
void dns_codec_free(struct dns_codec *codec); /* NULL is allowed */

/* ERR_BAD_INPUT: nothing may be answered (no whole head, or an answer itself). Else 0, and
 * ret->rcode says whether to look at the rest. `message` is not changed. */
[[nodiscard]] int dns_question_read(struct dns_codec *codec, const uint8_t *message, size_t bytes,
                                    struct dns_question *ret, struct err *err);

/* ---- replies ------------------------------------------------------------------------------ */

enum dns_section { DNS_ANSWER = 0, DNS_AUTHORITY = 1, DNS_ADDITIONAL = 2 };

struct dns_record {
    uint8_t section;
    uint16_t type;
    uint32_t ttl;
    const struct dns_name *owner; /* borrowed; NULL: the name that was asked */
    uint16_t data;                /* where it lies in dns_reply.data */
};

/* Plain data, built by dns_reply_...(); records by rising section. About 5 KiB. */
struct dns_reply {
    uint16_t rcode;
    bool authoritative;
    uint8_t scope_bits; /* of the subnet's family; matters where one was given */
    bool cookie_given;
    uint8_t cookie[DNS_COOKIE_BYTES];
    int ede; /* enum dns_ede */
    char ede_text[DNS_EDE_TEXT_BYTES];
    size_t count, data_bytes;
    struct dns_record records[DNS_RECORDS_MAX];
    _Alignas(2) uint8_t data[DNS_DATA_BYTES_MAX];
};

struct dns_soa {
    const struct dns_name *server, *mailbox;
    uint32_t serial, refresh, retry, expire, minimum;
};

/* RFC 9460 7: what a client may do at a name with HTTPS. */
struct dns_https {
    uint16_t priority;   /* 1 and up */
    uint16_t port;       /* 0: 443 */
    const char *alpn[4]; /* "h2", "http/1.1"; NULL ends */
    const struct ip *hints;
    size_t hint_count;
};

void dns_reply_init(struct dns_reply *reply, uint16_t rcode);
[[gnu::format(printf, 3, 4)]] void dns_reply_explain(struct dns_reply *reply, enum dns_ede ede,
                                                     const char *format, ...);

/* Each adds one record. Where there is no room any more it is left out: limits above are ours. */
void dns_reply_ip(struct dns_reply *reply, enum dns_section section, const struct dns_name *owner,
                  uint32_t ttl, const struct ip *ip); /* A or AAAA */
struct ip dns_record_ip(const struct dns_reply *reply, const struct dns_record *record); /* its */
void dns_reply_ns(struct dns_reply *reply, enum dns_section section, const struct dns_name *owner,
                  uint32_t ttl, const struct dns_name *server);
void dns_reply_soa(struct dns_reply *reply, enum dns_section section, const struct dns_name *owner,
                   uint32_t ttl, const struct dns_soa *soa);
void dns_reply_text(struct dns_reply *reply, uint32_t ttl, struct slice text); /* cut in strings */
void dns_reply_https(struct dns_reply *reply, uint32_t ttl, const struct dns_https *https);
void dns_reply_any(struct dns_reply *reply, uint32_t ttl); /* RFC 8482 4.2: an HINFO */

/* Into `buffer`, at most `room` bytes (DNS_HEAD_BYTES at least). What does not fit is truncated: TC
 * and no records (RFC 2181 9); additional records go first, and without a sign. Returns its size.
 */
size_t dns_reply_write(struct dns_codec *codec, const struct dns_question *question,
                       const struct dns_reply *reply, uint8_t *buffer, size_t room);
/* Was what was written truncated? */
bool dns_truncated(const uint8_t *message);
