/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

struct ip ip_from4(const uint8_t bytes[static 4])
{
    struct ip ip;
    memcpy(ip.bytes, mapped, 12);
    memcpy(ip.bytes + 12, bytes, 4);
    return ip;
}

bool ip_is4(const struct ip *ip)
{
    return memcmp(ip->bytes, mapped, 12) == 0;
}

bool ip_parse(struct slice text, struct ip *ret)
{
    char copy[IP_TEXT_BYTES];
    uint8_t four[4];
    if (text.size == 0 || text.size >= sizeof copy || memchr(text.data, '\0', text.size))
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    if (inet_pton(AF_INET, copy, four) == 1) {
        *ret = ip_from4(four);
        return true;
    }
    return inet_pton(AF_INET6, copy, ret->bytes) == 1;
}

const char *ip_text(const struct ip *ip, char buffer[static IP_TEXT_BYTES])
{
    if (ip_is4(ip))
        (void)inet_ntop(AF_INET, ip->bytes + 12, buffer, IP_TEXT_BYTES);
    else
        (void)inet_ntop(AF_INET6, ip->bytes, buffer, IP_TEXT_BYTES);
    return buffer;
}

struct ip ip_cut(const struct ip *ip, unsigned bits)
{
    struct ip cut = *ip;
    for (unsigned at = 0; at < 16; at++) {
        unsigned kept = bits > at * 8 ? bits - at * 8 : 0;
        if (kept < 8)
            cut.bytes[at] &= (uint8_t)(0xff00u >> kept);
    }
    return cut;
}

static bool read_bits(struct slice text, unsigned *ret)
{
    unsigned bits = 0;
    if (text.size == 0 || text.size > 3)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        bits = bits * 10 + (unsigned)(text.data[i] - '0');
    }
    *ret = bits;
    return true;
}

int ip_block_parse(struct slice text, struct ip_block *ret, struct err *err)
{
    const char *stroke = text.size ? memchr(text.data, '/', text.size) : NULL;
    struct slice address = { text.data, stroke ? (size_t)(stroke - text.data) : text.size };
    struct ip ip;
    unsigned bits = 0;
    if (!ip_parse(address, &ip))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no block of addresses, such as 203.0.113.0/24",
                       ERR_SLICE(text));
    unsigned most = ip_is4(&ip) ? 32 : 128;
    if (!stroke)
        bits = most;
    else if (!read_bits((struct slice){ stroke + 1, text.size - address.size - 1 }, &bits) ||
             bits > most)
        return err_set(err, ERR_BAD_INPUT, "'%s': behind the / stands a length of 0 to %u bits",
                       ERR_SLICE(text), most);
    bits += 128 - most;
    struct ip cut = ip_cut(&ip, bits);
    if (memcmp(cut.bytes, ip.bytes, sizeof ip.bytes) != 0) {
        char meant[IP_TEXT_BYTES];
        return err_set(err, ERR_BAD_INPUT, "'%s' has bits behind its length; %s is meant",
                       ERR_SLICE(text),
                       ip_block_text(&(struct ip_block){ cut, (uint8_t)bits }, meant));
    }
    *ret = (struct ip_block){ ip, (uint8_t)bits };
    return 0;
}

bool ip_block_has(const struct ip_block *block, const struct ip *ip)
{
    struct ip cut = ip_cut(ip, block->bits);
    return memcmp(cut.bytes, block->ip.bytes, sizeof cut.bytes) == 0;
}

const char *ip_block_text(const struct ip_block *block, char buffer[static IP_TEXT_BYTES])
{
    bool four = ip_is4(&block->ip) && block->bits >= IP4_BITS;
    ip_text(&block->ip, buffer);
    size_t used = strlen(buffer);
    if (block->bits < 128)
        snprintf(buffer + used, IP_TEXT_BYTES - used, "/%u",
                 four ? block->bits - IP4_BITS : block->bits);
    return buffer;
}
