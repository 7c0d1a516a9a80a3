/* SPDX-License-Identifier: Apache-2.0 */
/* Stateless over the bytes so far: a header is short and comes in one segment, so that reading it
 * again after a second read costs less than a state machine would to understand. */
#include "proto/proxy.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* The longest line of version 1, its CRLF included. */
enum { V1_BYTES_MAX = 107, V2_HEAD_BYTES = 16, V2_IP4_BYTES = 12, V2_IP6_BYTES = 36 };

enum v2_command { V2_LOCAL = 0x20, V2_PROXY = 0x21 };
enum v2_family { V2_UNSPEC = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };
enum v2_tlv { TLV_CRC32C = 0x03 };

static const char v1_signature[] = "PROXY ";
static const char v2_signature[PROXY_SIGNATURE_BYTES] = "\r\n\r\n\0\r\nQUIT\n";
static_assert(sizeof v1_signature - 1 <= PROXY_SIGNATURE_BYTES);

/* PROXY_ABSENT, PROXY_MORE, or PROXY_WHOLE: all of the signature is there. */
static int signature_look(const char *data, size_t size, const char *signature, size_t bytes)
{
    if (memcmp(data, signature, size < bytes ? size : bytes) != 0)
        return PROXY_ABSENT;
    return size < bytes ? PROXY_MORE : PROXY_WHOLE;
}

/* ---- version 1 ---------------------------------------------------------------------------- */

static int v1_bad(struct slice line, struct err *err)
{
    return err_set(err, ERR_BAD_INPUT, "'%s' is no PROXY header", ERR_SLICE(line));
}

/* Decimal without a sign or leading zeros. */
static bool port_read(struct slice text, uint16_t *ret)
{
    uint64_t port;
    if (text.size > 5 || (text.size > 1 && text.data[0] == '0') || !slice_u64(text, &port) ||
        port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

/* Behind the signature, without the CRLF. One space between two parts, as the specification has
 * it. Behind UNKNOWN may stand anything. */
static bool v1_read(struct slice text, struct proxy_header *header)
{
    struct slice family = slice_cut(&text, ' ');
    if (slice_is(family, "UNKNOWN"))
        return true;
    bool four = slice_is(family, "TCP4");
    if (!four && !slice_is(family, "TCP6"))
        return false;
    struct slice source = slice_cut(&text, ' '), destination = slice_cut(&text, ' ');
    struct slice source_port = slice_cut(&text, ' ');
    if (!ip_parse(source, &header->source) || !ip_parse(destination, &header->destination) ||
        !port_read(source_port, &header->source_port) ||
        !port_read(text, &header->destination_port))
        return false;
    /* TCP6 with ::ffff:192.0.2.1 is allowed; TCP4 with a colon is not. */
    bool dotted =
        !memchr(source.data, ':', source.size) && !memchr(destination.data, ':', destination.size);
    bool colons =
        memchr(source.data, ':', source.size) && memchr(destination.data, ':', destination.size);
    header->known = true;
    return four ? dotted : colons;
}

static int v1_parse(const char *data, size_t size, struct proxy_header *ret, size_t *ret_used,
                    struct err *err)
{
    struct proxy_header header = {};
    size_t seen = size < V1_BYTES_MAX ? size : V1_BYTES_MAX;
    const char *end = memchr(data, '\n', seen);
    if (!end && size < V1_BYTES_MAX)
        return PROXY_MORE;
    if (!end)
        return err_set(err, ERR_BAD_INPUT, "a PROXY header of version 1 has at most %d bytes",
                       V1_BYTES_MAX);
    struct slice line = { data, (size_t)(end - data) };
    if (line.data[line.size - 1] != '\r' || memchr(line.data, '\0', line.size))
        return v1_bad(line, err);
    line.size--;
    struct slice text = { line.data + sizeof v1_signature - 1,
                          line.size - (sizeof v1_signature - 1) };
    if (!v1_read(text, &header))
        return v1_bad(line, err);
    *ret = header;
    *ret_used = line.size + 2;
    return PROXY_WHOLE;
}

size_t proxy_write1(char buffer[static PROXY_WRITE_BYTES], const struct proxy_header *header)
{
    char source[IP_TEXT_BYTES], destination[IP_TEXT_BYTES];
    bool four = ip_is4(&header->source) && ip_is4(&header->destination);
    int size;
    if (!header->known)
        size = snprintf(buffer, PROXY_WRITE_BYTES, "PROXY UNKNOWN\r\n");
    else if (four)
        size =
            snprintf(buffer, PROXY_WRITE_BYTES, "PROXY TCP4 %s %s %u %u\r\n",
                     ip_text(&header->source, source), ip_text(&header->destination, destination),
                     header->source_port, header->destination_port);
    else
        size = snprintf(buffer, PROXY_WRITE_BYTES, "PROXY TCP6 %s%s %s%s %u %u\r\n",
                        ip_is4(&header->source) ? "::ffff:" : "", ip_text(&header->source, source),
                        ip_is4(&header->destination) ? "::ffff:" : "",
                        ip_text(&header->destination, destination), header->source_port,
                        header->destination_port);
    assert(size > 0 && size <= V1_BYTES_MAX);
    return (size_t)size;
}

/* ---- version 2 ---------------------------------------------------------------------------- */

static uint16_t u16_read(const unsigned char *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t u32_read(const unsigned char *at)
{
    return (uint32_t)u16_read(at) << 16 | u16_read(at + 2);
}

static void u16_write(unsigned char *at, uint16_t value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static void u32_write(unsigned char *at, uint32_t value)
{
    u16_write(at, (uint16_t)(value >> 16));
    u16_write(at + 2, (uint16_t)value);
}

/* Castagnoli's polynomial, reflected; bit by bit: headers with it are few. */
static uint32_t crc32c(const unsigned char *bytes, size_t size, size_t hole)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= i >= hole && i < hole + 4 ? 0u : bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return ~crc;
}

/* All of the header, whose TLVs begin at `at`. */
static int tlvs_read(const unsigned char *bytes, size_t size, size_t at,
                     struct proxy_header *header, struct err *err)
{
    while (at < size) {
        size_t length = size - at >= 3 ? u16_read(bytes + at + 1) : 0;
        if (size - at < 3 || length > size - at - 3)
            return err_set(err, ERR_BAD_INPUT, "a PROXY header's TLV goes beyond its end");
        unsigned type = bytes[at];
        at += 3;
        if ((type == PROXY_TLV_RTT || type == TLV_CRC32C) && length != 4)
            return err_set(err, ERR_BAD_INPUT,
                           "a PROXY header's TLV 0x%02X has 4 bytes, this one has %zu", type,
                           length);
        if (type == PROXY_TLV_RTT) {
            header->rtt_known = true;
            header->rtt_us = u32_read(bytes + at);
        } else if (type == TLV_CRC32C && u32_read(bytes + at) != crc32c(bytes, size, at)) {
            return err_set(err, ERR_BAD_INPUT, "a PROXY header's checksum is wrong");
        }
        at += length;
    }
    return 0;
}

static struct ip ip_read(const unsigned char *at, size_t bytes)
{
    struct ip ip;
    if (bytes == 4)
        return ip_from4(at);
    memcpy(ip.bytes, at, sizeof ip.bytes);
    return ip;
}

/* The addresses behind the head; returns where the TLVs begin, 0: there is no room for them. */
static size_t v2_addresses(const unsigned char *bytes, size_t size, struct proxy_header *header)
{
    const unsigned char *at = bytes + V2_HEAD_BYTES;
    size_t room = bytes[13] == V2_TCP4 ? V2_IP4_BYTES : V2_IP6_BYTES;
    size_t each = bytes[13] == V2_TCP4 ? 4 : 16;
    if (size - V2_HEAD_BYTES < room)
        return 0;
    header->source = ip_read(at, each);
    header->destination = ip_read(at + each, each);
    header->source_port = u16_read(at + 2 * each);
    header->destination_port = u16_read(at + 2 * each + 2);
    header->known = true;
    return V2_HEAD_BYTES + room;
}

static int v2_parse(const char *data, size_t size, struct proxy_header *ret, size_t *ret_used,
                    struct err *err)
{
    const unsigned char *bytes = (const unsigned char *)data;
    struct proxy_header header = {};
    if (size < V2_HEAD_BYTES)
        return PROXY_MORE;
    size_t all = V2_HEAD_BYTES + (size_t)u16_read(bytes + 14);
    if (bytes[12] != V2_LOCAL && bytes[12] != V2_PROXY)
        return err_set(err, ERR_BAD_INPUT,
                       "a PROXY header with version and command 0x%02X is none of version 2",
                       bytes[12]);
    if (all > PROXY_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "a PROXY header of %zu bytes; at most %d are taken", all,
                       PROXY_BYTES_MAX);
    if (size < all)
        return PROXY_MORE;
    *ret_used = all;
    /* LOCAL says that the connection is the proxy's own: whatever follows is to be ignored. Of
     * other families (datagrams, Unix sockets) we know no form: the same. */
    bool addressed = bytes[12] == V2_PROXY && (bytes[13] == V2_TCP4 || bytes[13] == V2_TCP6);
    if (addressed) {
        size_t tlvs = v2_addresses(bytes, all, &header);
        if (!tlvs)
            return err_set(err, ERR_BAD_INPUT, "a PROXY header ends within its addresses");
        int r = tlvs_read(bytes, all, tlvs, &header, err);
        if (r < 0)
            return r;
    }
    *ret = header;
    return PROXY_WHOLE;
}

static size_t ip_write(unsigned char *at, const struct ip *ip, bool four)
{
    size_t size = four ? 4 : 16;
    memcpy(at, four ? ip->bytes + 12 : ip->bytes, size);
    return size;
}

size_t proxy_write2(char buffer[static PROXY_WRITE_BYTES], const struct proxy_header *header)
{
    unsigned char *bytes = (unsigned char *)buffer;
    bool four = ip_is4(&header->source) && ip_is4(&header->destination);
    size_t at = V2_HEAD_BYTES;
    memcpy(bytes, v2_signature, sizeof v2_signature);
    bytes[12] = header->known ? V2_PROXY : V2_LOCAL;
    bytes[13] = !header->known ? V2_UNSPEC : four ? V2_TCP4 : V2_TCP6;
    if (header->known) {
        at += ip_write(bytes + at, &header->source, four);
        at += ip_write(bytes + at, &header->destination, four);
        u16_write(bytes + at, header->source_port);
        u16_write(bytes + at + 2, header->destination_port);
        at += 4;
    }
    if (header->known && header->rtt_known) {
        bytes[at] = PROXY_TLV_RTT;
        u16_write(bytes + at + 1, 4);
        u32_write(bytes + at + 3, header->rtt_us);
        at += 7;
    }
    u16_write(bytes + 14, (uint16_t)(at - V2_HEAD_BYTES));
    return at;
}

/* ---- both --------------------------------------------------------------------------------- */

int proxy_parse(const char *data, size_t size, struct proxy_header *ret, size_t *ret_used,
                struct err *err)
{
    assert(size > 0);
    int one = signature_look(data, size, v1_signature, sizeof v1_signature - 1);
    if (one == PROXY_WHOLE)
        return v1_parse(data, size, ret, ret_used, err);
    int two = signature_look(data, size, v2_signature, sizeof v2_signature);
    if (two == PROXY_WHOLE)
        return v2_parse(data, size, ret, ret_used, err);
    return one == PROXY_MORE || two == PROXY_MORE ? PROXY_MORE : PROXY_ABSENT;
}
