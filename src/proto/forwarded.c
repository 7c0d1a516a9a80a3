/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a header are one list (RFC 9110 5.3). Elements are kept in a ring of the last ones,
 * since a list is read forward (quoted strings hold commas) and asked backward. */
#include "proto/forwarded.h"

#include <string.h>

#include "base/err.h"

struct hop {
    bool known;
    struct ip ip;
    uint16_t port;
};

struct hops {
    struct hop last[FORWARDED_HOPS_MAX];
    size_t count; /* ever */
};

static struct hop *hop_add(struct hops *hops)
{
    struct hop *hop = &hops->last[hops->count++ % FORWARDED_HOPS_MAX];
    *hop = (struct hop){};
    return hop;
}

/* ---- one address -------------------------------------------------------------------------- */

static bool port_read(struct slice text, uint16_t *ret)
{
    uint64_t port;
    if (text.size == 0 || text.size > 5 || !slice_u64(text, &port) || port > UINT16_MAX)
        return false;
    *ret = (uint16_t)port;
    return true;
}

/* RFC 7239 6.3: an underscore, then letters, digits, dots, underscores, hyphens. */
static bool obfuscated(struct slice text)
{
    if (text.size < 2 || text.data[0] != '_')
        return false;
    for (size_t i = 1; i < text.size; i++) {
        char c = text.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}

static bool port_follows(struct slice text, uint16_t *ret)
{
    if (text.size == 0)
        return true;
    if (text.data[0] != ':')
        return false;
    struct slice port = { text.data + 1, text.size - 1 };
    return port_read(port, ret) || obfuscated(port);
}

/* "1.2.3.4", "1.2.3.4:80", "[::1]", "[::1]:80", "unknown", "_name", each of the last two with a
 * port as well; `bare`: also "::1". */
static bool node_read(struct slice text, bool bare, struct hop *hop)
{
    const char *bracket, *colon;
    if (text.size && text.data[0] == '[') {
        bracket = memchr(text.data, ']', text.size);
        if (!bracket)
            return false;
        struct slice inside = { text.data + 1, (size_t)(bracket - text.data) - 1 };
        hop->known = true;
        return memchr(inside.data, ':', inside.size) && ip_parse(inside, &hop->ip) &&
               port_follows((struct slice){ bracket + 1, text.size - inside.size - 2 }, &hop->port);
    }
    if (bare && ip_parse(text, &hop->ip)) {
        hop->known = true;
        return true;
    }
    colon = text.size ? memchr(text.data, ':', text.size) : NULL;
    struct slice name = { text.data, colon ? (size_t)(colon - text.data) : text.size };
    struct slice rest = { text.data + name.size, text.size - name.size };
    hop->known = ip_parse(name, &hop->ip);
    return (hop->known || slice_equal_nocase(name, SLICE("unknown")) || obfuscated(name)) &&
           port_follows(rest, &hop->port);
}

/* ---- X-Forwarded-For ---------------------------------------------------------------------- */

static int bad(const char *header, struct slice text, struct err *err)
{
    return err_set(err, ERR_BAD_INPUT, "%s: '%s' is no client's address", header, ERR_SLICE(text));
}

/* One that cannot be read is an error only where it is reached from the end: kept as such. */
struct list_end {
    size_t bad_at; /* count after the last unreadable one; 0: none */
    struct slice bad;
};

static void plain_read(struct slice value, struct hops *hops, struct list_end *end)
{
    while (value.size) {
        struct slice part = slice_trim(slice_cut(&value, ','));
        if (part.size == 0) /* RFC 9110 5.6.1.2: empty elements are allowed, and nothing */
            continue;
        if (!node_read(part, true, hop_add(hops))) {
            end->bad_at = hops->count;
            end->bad = part;
        }
    }
}

/* ---- Forwarded ---------------------------------------------------------------------------- */

static bool token_byte(char c)
{
    return http_name_valid((struct slice){ &c, 1 });
}

/* A token or a quoted string, unescaped into `buffer`; *text moves behind it. */
static bool value_read(struct slice *text, char *buffer, size_t room, struct slice *ret)
{
    size_t at = 0, size = 0;
    bool quoted = text->size && text->data[0] == '"';
    for (at = quoted; at < text->size; at++) {
        char c = text->data[at];
        if (quoted ? c == '"' : !token_byte(c))
            break;
        if (quoted && c == '\\' && ++at == text->size)
            return false;
        if (size < room)
            buffer[size] = text->data[at];
        size++;
    }
    if ((quoted && at == text->size) || (!quoted && at == 0))
        return false;
    at += quoted;
    *text = (struct slice){ text->data + at, text->size - at };
    *ret = (struct slice){ buffer, size < room ? size : room };
    return true;
}

static void spaces_skip(struct slice *text)
{
    while (text->size && (text->data[0] == ' ' || text->data[0] == '\t'))
        *text = (struct slice){ text->data + 1, text->size - 1 };
}

static bool sign_skip(struct slice *text, char sign)
{
    if (!text->size || text->data[0] != sign)
        return false;
    *text = (struct slice){ text->data + 1, text->size - 1 };
    return true;
}

/* forwarded-element = [ pair ] *( ";" [ pair ] ); without `for` the hop is one that does not tell.
 */
static bool element_read(struct slice *text, struct hop *hop, struct list_end *end, bool *ret_node)
{
    char buffer[128], name_buffer[16];
    bool seen = false;
    *ret_node = true;
    do {
        struct slice name, value;
        spaces_skip(text);
        if (text->size && (text->data[0] == ';' || text->data[0] == ','))
            continue;
        if (text->size == 0)
            break;
        if (text->data[0] == '"' || !value_read(text, name_buffer, sizeof name_buffer, &name) ||
            !sign_skip(text, '=') || !value_read(text, buffer, sizeof buffer, &value))
            return false;
        spaces_skip(text);
        if (!slice_equal_nocase(name, SLICE("for")))
            continue;
        if (seen) /* RFC 7239 4: each at most once in an element */
            return false;
        seen = true;
        *ret_node = node_read(value, false, hop);
        if (!*ret_node)
            end->bad = SLICE("for=");
    } while (sign_skip(text, ';'));
    return true;
}

static int fields_read(struct slice value, struct hops *hops, struct list_end *end, struct err *err)
{
    struct slice text = value;
    for (;;) {
        bool node;
        spaces_skip(&text);
        if (text.size == 0)
            return 0;
        if (sign_skip(&text, ','))
            continue;
        struct hop *hop = hop_add(hops);
        if (!element_read(&text, hop, end, &node))
            return err_set(err, ERR_BAD_INPUT, "Forwarded: '%s' is not of RFC 7239's form",
                           ERR_SLICE(value));
        if (!node)
            end->bad_at = hops->count;
        if (text.size && !sign_skip(&text, ','))
            return err_set(err, ERR_BAD_INPUT, "Forwarded: '%s' is not of RFC 7239's form",
                           ERR_SLICE(value));
    }
}

/* ---- both --------------------------------------------------------------------------------- */

static int client_of(const struct hops *hops, const struct list_end *end, const char *header,
                     forwarded_trusts_cb trusts, void *data, struct forwarded *ret, struct err *err)
{
    struct forwarded client = {};
    for (size_t left = hops->count; left > 0; left--) {
        const struct hop *hop = &hops->last[(left - 1) % FORWARDED_HOPS_MAX];
        if (hops->count - left == FORWARDED_HOPS_MAX)
            return err_set(err, ERR_BAD_INPUT, "%s names more than %d trusted proxies", header,
                           FORWARDED_HOPS_MAX);
        if (end->bad_at == left)
            return bad(header, end->bad, err);
        client =
            (struct forwarded){ hop->known ? FORWARDED_IP : FORWARDED_UNKNOWN, hop->ip, hop->port };
        if (!hop->known || !trusts(&hop->ip, data))
            break;
    }
    *ret = client;
    return 0;
}

static int header_read(const struct http_headers *headers, const char *name, bool plain,
                       forwarded_trusts_cb trusts, void *data, struct forwarded *ret,
                       struct err *err)
{
    struct hops hops = {};
    struct list_end end = {};
    for (size_t i = 0; i < headers->count; i++) {
        if (!slice_equal_nocase(headers->items[i].name, slice_of(name)))
            continue;
        int r = 0;
        if (plain)
            plain_read(headers->items[i].value, &hops, &end);
        else
            r = fields_read(headers->items[i].value, &hops, &end, err);
        if (r < 0)
            return r;
    }
    return client_of(&hops, &end, name, trusts, data, ret, err);
}

int forwarded_client(const struct http_headers *headers, forwarded_trusts_cb trusts, void *data,
                     struct forwarded *ret, struct err *err)
{
    struct forwarded one = {}, other = {};
    int r = header_read(headers, "Forwarded", false, trusts, data, &one, err);
    if (r == 0)
        r = header_read(headers, "X-Forwarded-For", true, trusts, data, &other, err);
    if (r < 0)
        return r;
    if (one.kind != FORWARDED_NONE && other.kind != FORWARDED_NONE &&
        (one.kind != other.kind || (one.kind == FORWARDED_IP && memcmp(one.ip.bytes, other.ip.bytes,
                                                                       sizeof one.ip.bytes) != 0)))
        return err_set(err, ERR_BAD_INPUT,
                       "Forwarded and X-Forwarded-For tell of different clients: the proxy must "
                       "set or remove both");
    *ret = one.kind != FORWARDED_NONE ? one : other;
    return 0;
}
