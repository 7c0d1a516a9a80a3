/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/https.h"

#include <string.h>

#include "base/err.h"
#include "base/ip.h"

/* What RFC 7301's registry has of such, and nothing that wants escapes in DNS. */
static bool alpn_valid(struct slice alpn)
{
    for (size_t i = 0; i < alpn.size; i++) {
        char c = alpn.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              (i && memchr("./-", c, 3) != NULL)))
            return false;
    }
    return alpn.size > 0 && alpn.size < DNS_ALPN_BYTES;
}

static int alpn_add(struct slice alpn, struct dns_https_told *ret, struct err *err)
{
    if (!alpn_valid(alpn))
        return err_set(err, ERR_BAD_INPUT,
                       "alpn: '%s' is no protocol such as h2 or http/1.1: 1 to %d of a-z, 0-9, "
                       "'.', '/' and '-'",
                       ERR_SLICE(alpn), DNS_ALPN_BYTES - 1);
    for (size_t i = 0; i < ret->alpn_count; i++)
        if (slice_is(alpn, ret->alpn[i]))
            return err_set(err, ERR_BAD_INPUT, "alpn: '%s' is there twice", ERR_SLICE(alpn));
    if (ret->alpn_count == DNS_ALPN_MAX)
        return err_set(err, ERR_BAD_INPUT, "alpn: more than %d protocols", DNS_ALPN_MAX);
    memcpy(ret->alpn[ret->alpn_count++], alpn.data, alpn.size);
    return 0;
}

static int alpn_read(struct slice value, struct dns_https_told *ret, struct err *err)
{
    int r = ret->alpn_count ? err_set(err, ERR_BAD_INPUT, "alpn is there twice") : 0;
    do {
        if (r == 0)
            r = alpn_add(slice_cut(&value, ','), ret, err);
    } while (r == 0 && value.data);
    return r;
}

static int port_read(struct slice value, struct dns_https_told *ret, struct err *err)
{
    uint64_t port;
    if (ret->port)
        return err_set(err, ERR_BAD_INPUT, "port is there twice");
    if (!slice_u64(value, &port) || port < 1 || port > UINT16_MAX)
        return err_set(err, ERR_BAD_INPUT, "port: '%s' is no number from 1 to %d", ERR_SLICE(value),
                       UINT16_MAX);
    ret->port = (uint16_t)port;
    return 0;
}

static int parameter(struct slice part, struct dns_https_told *ret, struct err *err)
{
    struct slice value = part, key = slice_cut(&value, '=');
    if (slice_is(key, "alpn") && value.data)
        return alpn_read(value, ret, err);
    if (slice_is(key, "port") && value.data)
        return port_read(value, ret, err);
    if (slice_is(key, "ipv4hint") || slice_is(key, "ipv6hint"))
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' is each answer's own: the addresses that A and "
                       "AAAA would have",
                       ERR_SLICE(key));
    return err_set(err, ERR_BAD_INPUT, "'%s' is neither alpn=PROTOCOL,.. nor port=NUMBER",
                   ERR_SLICE(part));
}

int dns_https_parse(struct slice text, struct dns_https_told *ret, struct err *err)
{
    struct dns_https_told told = { .told = true };
    int r = 0;
    while (r == 0 && text.data) {
        struct slice part = slice_cut(&text, ' ');
        if (part.size)
            r = parameter(part, &told, err);
    }
    if (r == 0 && !told.port && !told.alpn_count)
        r = err_set(err, ERR_BAD_INPUT, "it says nothing: alpn=h2,http/1.1 port=443, say");
    if (r == 0)
        *ret = told;
    return r;
}

size_t dns_https_hints(struct ip *hints, size_t four, size_t six, size_t room)
{
    size_t half = room / 2, kept = four;
    if (four + six <= room)
        return four + six;
    if (four > half)
        kept = six < room - half ? room - six : half;
    memmove(hints + kept, hints + four, (room - kept) * sizeof *hints);
    return room;
}
