/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slice.h"

#include <string.h>

#include <assert.h>
#include <strings.h>

int slice_order(struct slice a, struct slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || strncasecmp(a.data, b.data, a.size) == 0);
}

bool slice_starts(struct slice a, struct slice prefix)
{
    return a.size >= prefix.size && slice_equal((struct slice){ a.data, prefix.size }, prefix);
}

bool slice_ends(struct slice a, struct slice suffix)
{
    return a.size >= suffix.size &&
           slice_equal((struct slice){ a.data + a.size - suffix.size, suffix.size }, suffix);
}

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice a)
{
    while (a.size && blank(a.data[0])) {
        a.data++;
        a.size--;
    }
    while (a.size && blank(a.data[a.size - 1]))
        a.size--;
    return a;
}

struct slice slice_cut(struct slice *rest, char separator)
{
    struct slice all = *rest;
    const char *found = all.size ? memchr(all.data, separator, all.size) : NULL;
    if (!found) {
        *rest = (struct slice){};
        return all;
    }
    size_t before = (size_t)(found - all.data);
    *rest = (struct slice){ found + 1, all.size - before - 1 };
    return (struct slice){ all.data, before };
}

#define ONES (~UINT64_C(0) / 255)

/* A high bit in the first byte that is `c`; behind that one, bytes may be wrong. */
static uint64_t bytes_equal(uint64_t word, unsigned char c)
{
    uint64_t other = word ^ ONES * c;

    return (other - ONES) & ~other & ONES * 0x80;
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "eight characters are read as one word");

/* A high bit in the first byte that is not plain. */
static uint64_t odd_bytes(const char *from)
{
    uint64_t word;

    memcpy(&word, from, sizeof word);
    uint64_t controls = (word - ONES * 0x20) & ~word & ONES * 0x80;
    return (word & ONES * 0x80) | controls | bytes_equal(word, '"') | bytes_equal(word, '\\') |
           bytes_equal(word, 0x7f);
}

size_t slice_plain(struct slice a)
{
    size_t at = 0;

    while (a.size >= 8 && at < a.size) {
        size_t from = a.size - at < 8 ? a.size - 8 : at; /* the last eight overlap */
        uint64_t odd = odd_bytes(a.data + from);
        if (odd)
            return from + (size_t)__builtin_ctzll(odd) / 8;
        at = from + 8;
    }
    for (; at < a.size; at++) {
        unsigned char c = (unsigned char)a.data[at];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
            break;
    }
    return at;
}

bool slice_u64(struct slice a, uint64_t *ret)
{
    uint64_t value = 0;
    if (a.size == 0)
        return false;
    for (size_t i = 0; i < a.size; i++) {
        unsigned digit = (unsigned char)a.data[i] - (unsigned)'0';
        if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *ret = value;
    return true;
}

static bool continues(struct slice a, size_t index)
{
    return index < a.size && ((unsigned char)a.data[index] & 0xc0) == 0x80;
}

size_t utf8_length(struct slice a)
{
    if (a.size == 0)
        return 0;
    unsigned char c = (unsigned char)a.data[0];
    unsigned char next = a.size > 1 ? (unsigned char)a.data[1] : 0;
    if (c < 0x80)
        return 1;
    if (c < 0xc2)
        return 0;
    if (c < 0xe0)
        return continues(a, 1) ? 2 : 0;
    if (c < 0xf0) {
        if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f)) /* overlong, surrogates */
            return 0;
        return continues(a, 1) && continues(a, 2) ? 3 : 0;
    }
    if (c > 0xf4 || (c == 0xf0 && next < 0x90) || (c == 0xf4 && next > 0x8f))
        return 0;
    return continues(a, 1) && continues(a, 2) && continues(a, 3) ? 4 : 0;
}

size_t utf8_write(char out[static 4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

bool utf8_valid(struct slice a)
{
    while (a.size) {
        size_t length = utf8_length(a);
        if (length == 0)
            return false;
        a.data += length;
        a.size -= length;
    }
    return true;
}
