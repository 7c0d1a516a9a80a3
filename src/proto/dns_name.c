/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dns_name.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* Lengths are below any letter, so that a name is lowered as if it were text. */
static_assert(DNS_LABEL_BYTES_MAX < 'A');

void dns_name_lower(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] |= (uint8_t)((bytes[i] >= 'A' && bytes[i] <= 'Z') << 5);
}

int dns_name_parse(struct slice text, struct dns_name *ret, struct err *err)
{
    struct dns_name name = {};
    struct slice rest = text;
    if (rest.size && rest.data[rest.size - 1] == '.')
        rest.size--;
    bool right = text.size > 0 && rest.size < DNS_NAME_BYTES_MAX - 1;
    while (right && rest.size) {
        const char *dot = memchr(rest.data, '.', rest.size);
        size_t size = dot ? (size_t)(dot - rest.data) : rest.size;
        right = size > 0 && size <= DNS_LABEL_BYTES_MAX && (!dot || size + 1 < rest.size);
        if (!right)
            break;
        name.bytes[name.size] = (uint8_t)size;
        memcpy(name.bytes + name.size + 1, rest.data, size);
        name.size = (uint8_t)(name.size + 1 + size);
        size_t used = dot ? size + 1 : size;
        rest = (struct slice){ rest.data + used, rest.size - used };
    }
    if (!right)
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' is no domain name: labels of 1 to %d bytes, at most %d in all",
                       ERR_SLICE(text), DNS_LABEL_BYTES_MAX, DNS_NAME_BYTES_MAX - 2);
    name.size++; /* the root */
    dns_name_lower(name.bytes, name.size);
    *ret = name;
    return 0;
}

static bool plain(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

const char *dns_name_text(const struct dns_name *name, char buffer[static DNS_NAME_TEXT_BYTES])
{
    static_assert(DNS_NAME_TEXT_BYTES > 4 * DNS_NAME_BYTES_MAX);
    size_t at = 0, used = 0;
    struct slice label;
    while (dns_name_label(name, &at, &label)) {
        if (used)
            buffer[used++] = '.';
        for (size_t i = 0; i < label.size; i++) {
            uint8_t byte = (uint8_t)label.data[i];
            if (plain(byte))
                buffer[used++] = (char)byte;
            else
                used += (size_t)snprintf(buffer + used, DNS_NAME_TEXT_BYTES - used, "\\%03u", byte);
        }
    }
    if (used == 0)
        buffer[used++] = '.';
    buffer[used] = '\0';
    return buffer;
}

bool dns_name_equal(const struct dns_name *a, const struct dns_name *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

bool dns_name_below(const struct dns_name *name, const struct dns_name *zone, size_t *ret_bytes)
{
    if (name->size < zone->size)
        return false;
    size_t before = (size_t)name->size - zone->size, at = 0;
    if (memcmp(name->bytes + before, zone->bytes, zone->size) != 0)
        return false;
    while (at < before) /* the same bytes may lie across labels */
        at += 1U + name->bytes[at];
    if (at != before)
        return false;
    *ret_bytes = before;
    return true;
}

bool dns_name_label(const struct dns_name *name, size_t *at, struct slice *ret_label)
{
    assert(*at < name->size);
    uint8_t length = name->bytes[*at];
    if (length == 0)
        return false;
    *ret_label = (struct slice){ (const char *)name->bytes + *at + 1, length };
    *at += 1U + length;
    return true;
}

bool dns_name_join(struct slice label, const struct dns_name *zone, struct dns_name *ret)
{
    if (label.size == 0 || label.size > DNS_LABEL_BYTES_MAX ||
        label.size + 1 + zone->size > DNS_NAME_BYTES_MAX)
        return false;
    struct dns_name name = { .size = (uint8_t)(label.size + 1 + zone->size) };
    name.bytes[0] = (uint8_t)label.size;
    memcpy(name.bytes + 1, label.data, label.size);
    memcpy(name.bytes + 1 + label.size, zone->bytes, zone->size);
    dns_name_lower(name.bytes, name.size);
    *ret = name;
    return true;
}
