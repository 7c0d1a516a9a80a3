/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One order of fields and one way to write each, so that two readers cannot see different things.
 * Under the MAC every field has its length before it: no two lists of fields are the same bytes.
 */
#include "proto/hop.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "proto/text.h"

/* ---- the MAC -------------------------------------------------------------------------------- */

static void mac_field(struct text *text, struct slice field)
{
    text_u64(text, field.size);
    text_char(text, ':');
    text_append(text, field);
}

static void mac_run(const unsigned char key[static HOP_KEY_BYTES], const struct text *text,
                    unsigned char ret[static HOP_KEY_BYTES])
{
    unsigned size = HOP_KEY_BYTES;
    if (!HMAC(EVP_sha256(), key, HOP_KEY_BYTES, (const unsigned char *)text->data, text->size, ret,
              &size) ||
        size != HOP_KEY_BYTES)
        mem_abort(text->size); /* the default provider has it: memory is what is missing */
}

static void mac_make(const struct hop *hop, const struct hop_request *request,
                     const unsigned char key[static HOP_KEY_BYTES],
                     char ret[static HOP_MAC_HEX + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[HOP_KEY_BYTES];
    struct text text;
    text_init(&text);
    TEXT_LITERAL(&text, "perigee hop v1\n");
    mac_field(&text, hop->from);
    mac_field(&text, hop->to);
    mac_field(&text, slice_of(hop->client));
    text_u64(&text, hop->deadline_ms);
    text_char(&text, ';');
    if (hop->spent_ms) { /* named: a number alone is the revision */
        TEXT_LITERAL(&text, "spent");
        text_u64(&text, hop->spent_ms);
        text_char(&text, ';');
    }
    if (hop->revision) {
        text_u64(&text, hop->revision);
        text_char(&text, ';');
    }
    if (hop->more.size) {
        TEXT_LITERAL(&text, "more");
        mac_field(&text, hop->more);
    }
    mac_field(&text, hop->id);
    mac_field(&text, request->method);
    mac_field(&text, request->target);
    mac_field(&text, request->endpoint);
    mac_field(&text, request->process_in);
    mac_run(key, &text, raw);
    text_deinit(&text);
    for (size_t i = 0; i < sizeof raw; i++) {
        ret[2 * i] = digits[raw[i] >> 4];
        ret[2 * i + 1] = digits[raw[i] & 15];
    }
    ret[HOP_MAC_HEX] = '\0';
}

void hop_key(const unsigned char secret[static HOP_KEY_BYTES], struct slice one, struct slice other,
             unsigned char ret_key[static HOP_KEY_BYTES])
{
    bool turn = slice_order(one, other) > 0;
    struct text text;
    text_init(&text);
    TEXT_LITERAL(&text, "hop|"); /* no name has a bar in it */
    text_append(&text, turn ? other : one);
    text_char(&text, '|');
    text_append(&text, turn ? one : other);
    mac_run(secret, &text, ret_key);
    text_deinit(&text);
}

/* ---- words ---------------------------------------------------------------------------------- */

static bool is_word(struct slice text, size_t most)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (c <= ' ' || c > '~' || c == ';' || c == '=' || c == '"' || c == ',')
            return false;
    }
    return text.size > 0 && text.size <= most;
}

static bool is_country(struct slice text)
{
    return text.size == 2 && text.data[0] >= 'A' && text.data[0] <= 'Z' && text.data[1] >= 'A' &&
           text.data[1] <= 'Z';
}

/* Cuts "key=VALUE" and what parts it from the next. */
static bool field_cut(struct slice *rest, const char *key, bool last, struct slice *ret)
{
    size_t size = strlen(key);
    if (rest->size <= size || memcmp(rest->data, key, size) != 0 || rest->data[size] != '=')
        return false;
    struct slice value = { rest->data + size + 1, rest->size - size - 1 };
    const char *end = value.size ? memchr(value.data, ';', value.size) : NULL;
    if (last) {
        *ret = value;
        return !end;
    }
    size_t length = end ? (size_t)(end - value.data) : 0;
    if (!end || value.size < length + 2 || end[1] != ' ')
        return false;
    *ret = (struct slice){ value.data, length };
    *rest = (struct slice){ end + 2, value.size - length - 2 };
    return true;
}

/* ---- parameters that are not known here ----------------------------------------------------- */

/* One that is known stands at its place, and nowhere else. */
static bool is_other_name(struct slice text)
{
    static const struct slice known[] = { SLICE("from"),     SLICE("to"),    SLICE("client"),
                                          SLICE("deadline"), SLICE("spent"), SLICE("revision"),
                                          SLICE("mac") };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (slice_equal(text, known[i]))
            return false;
    for (size_t i = 0; i < text.size; i++)
        if ((text.data[i] < 'a' || text.data[i] > 'z') && text.data[i] != '_')
            return false;
    return text.size > 0 && text.size <= HOP_PARAMETER_MAX;
}

/* Cuts all up to `id`. */
static bool more_cut(struct slice *rest, struct slice *ret)
{
    const char *from = rest->data;
    while (rest->size && !slice_starts(*rest, SLICE("id="))) {
        const char *equal = memchr(rest->data, '=', rest->size);
        struct slice name = { rest->data, equal ? (size_t)(equal - rest->data) : 0 }, value;
        char key[HOP_PARAMETER_MAX + 1] = "";
        if (!is_other_name(name))
            return false;
        memcpy(key, name.data, name.size);
        if (!field_cut(rest, key, false, &value) || !is_word(value, HOP_ID_MAX))
            return false;
    }
    *ret = (struct slice){ from, (size_t)(rest->data - from) };
    return true;
}

static bool more_right(struct slice more)
{
    struct slice rest = more, all;
    return more.size == 0 || (more_cut(&rest, &all) && rest.size == 0);
}

/* ---- writing -------------------------------------------------------------------------------- */

int hop_print(const struct hop *hop, const struct hop_request *request,
              const unsigned char key[static HOP_KEY_BYTES], char ret_text[static HOP_BYTES_MAX],
              struct err *err)
{
    char mac[HOP_MAC_HEX + 1], revision[32] = "", spent[32] = "";
    if (!is_word(hop->from, HOP_NAME_MAX) || !is_word(hop->to, HOP_NAME_MAX) ||
        !is_word(hop->id, HOP_ID_MAX) || hop->deadline_ms > HOP_DEADLINE_MS_MAX ||
        hop->spent_ms > HOP_DEADLINE_MS_MAX || hop->revision > HOP_REVISION_MAX ||
        !more_right(hop->more) || (hop->client[0] && !is_country(slice_of(hop->client))))
        return err_set(err, ERR_BAD_INPUT, "a " HOP_HEADER " that cannot be written");
    mac_make(hop, request, key, mac);
    if (hop->revision)
        snprintf(revision, sizeof revision, "revision=%u; ", hop->revision);
    if (hop->spent_ms)
        snprintf(spent, sizeof spent, "spent=%llu; ", (unsigned long long)hop->spent_ms);
    int size = snprintf(ret_text, HOP_BYTES_MAX,
                        "v1; from=%.*s; to=%.*s; client=%s; deadline=%llu; %s%s%.*sid=%.*s; mac=%s",
                        SLICE_FMT(hop->from), SLICE_FMT(hop->to),
                        hop->client[0] ? hop->client : "-", (unsigned long long)hop->deadline_ms,
                        spent, revision, SLICE_FMT(hop->more), SLICE_FMT(hop->id), mac);
    if (size >= HOP_BYTES_MAX) /* by `more` alone */
        return err_set(err, ERR_BAD_INPUT, "a " HOP_HEADER " of %d bytes", size);
    return size;
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool is_mac(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return text.size == HOP_MAC_HEX;
}

/* The one way to write a number. */
static bool number_read(struct slice text, uint64_t most, uint64_t *ret)
{
    return text.size > 0 && (text.data[0] != '0' || text.size == 1) && slice_u64(text, ret) &&
           *ret <= most;
}

int hop_parse(struct slice text, struct hop *ret, struct err *err)
{
    struct slice rest = text, client, deadline, spent = {}, revision = {};
    uint64_t number = 0;
    struct hop hop = {};
    if (text.size >= HOP_BYTES_MAX || !slice_starts(text, SLICE("v1; ")))
        return err_set(err, ERR_BAD_INPUT,
                       HOP_HEADER ": not of version 1; only PoPs of this fleet send it");
    rest = (struct slice){ text.data + 4, text.size - 4 };
    if (!field_cut(&rest, "from", false, &hop.from) || !field_cut(&rest, "to", false, &hop.to) ||
        !field_cut(&rest, "client", false, &client) ||
        !field_cut(&rest, "deadline", false, &deadline) ||
        (slice_starts(rest, SLICE("spent=")) && !field_cut(&rest, "spent", false, &spent)) ||
        (slice_starts(rest, SLICE("revision=")) &&
         !field_cut(&rest, "revision", false, &revision)) ||
        !more_cut(&rest, &hop.more) || !field_cut(&rest, "id", false, &hop.id) ||
        !field_cut(&rest, "mac", true, &hop.mac))
        return err_set(
            err, ERR_BAD_INPUT,
            HOP_HEADER
            ": from, to, client, deadline, spent, revision, id, mac are its fields, in this "
            "order; only PoPs of this fleet send it");
    if (!is_word(hop.from, HOP_NAME_MAX) || !is_word(hop.to, HOP_NAME_MAX) ||
        !is_word(hop.id, HOP_ID_MAX) ||
        !number_read(deadline, HOP_DEADLINE_MS_MAX, &hop.deadline_ms) ||
        (spent.data &&
         (!number_read(spent, HOP_DEADLINE_MS_MAX, &hop.spent_ms) || hop.spent_ms == 0)) ||
        (revision.data && (!number_read(revision, HOP_REVISION_MAX, &number) || number == 0)) ||
        !is_mac(hop.mac) || (!is_country(client) && !slice_is(client, "-")))
        return err_set(err, ERR_BAD_INPUT,
                       HOP_HEADER ": a field is out of form; only PoPs of this fleet send it");
    if (is_country(client))
        memcpy(hop.client, client.data, 2);
    hop.revision = (uint32_t)number;
    *ret = hop;
    return 0;
}

bool hop_verify(const struct hop *hop, const struct hop_request *request,
                const unsigned char key[static HOP_KEY_BYTES])
{
    char mac[HOP_MAC_HEX + 1];
    mac_make(hop, request, key, mac);
    return hop->mac.size == HOP_MAC_HEX && CRYPTO_memcmp(mac, hop->mac.data, HOP_MAC_HEX) == 0;
}
