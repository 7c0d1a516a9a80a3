/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Challenges and their parameters are separated by the same commas: what has a '=' behind its first
 * word is a parameter of the challenge before, all else begins one.
 */
#include "proto/challenge.h"

#include <stdbool.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"

static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token68(char c)
{
    return is_token(c) || c == '/' || c == '=';
}

static struct slice take(struct slice *rest, bool (*fits)(char c))
{
    size_t size = 0;
    while (size < rest->size && fits(rest->data[size]))
        size++;
    struct slice taken = { rest->data, size };
    *rest = (struct slice){ rest->data + size, rest->size - size };
    return taken;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_between(char c)
{
    return is_blank(c) || c == ',';
}

/* Behind the first '"'. False: it does not end, or has a control character in it. */
static bool take_quoted(struct arena *arena, struct slice *rest, struct slice *ret)
{
    size_t at = 0, used = 0, end = 0;
    while (end < rest->size && rest->data[end] != '"')
        end += rest->data[end] == '\\' ? 2 : 1;
    if (end >= rest->size)
        return false;
    char *text =
        arena_alloc(arena, end + 1); /* of what it has alone: a header may have thousands */
    for (; at < end; at++) {
        at += rest->data[at] == '\\';
        unsigned char c = (unsigned char)rest->data[at];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
        text[used++] = (char)c;
    }
    *rest = (struct slice){ rest->data + at + 1, rest->size - at - 1 };
    *ret = (struct slice){ text, used };
    return true;
}

/* name = value. False: what comes is none, and *rest stays. */
static bool take_parameter(struct arena *arena, struct slice *rest, struct slice *ret_name,
                           struct slice *ret_value)
{
    struct slice left = *rest, name = take(&left, is_token), value;
    (void)take(&left, is_blank);
    if (name.size == 0 || left.size == 0 || left.data[0] != '=')
        return false;
    left = (struct slice){ left.data + 1, left.size - 1 };
    (void)take(&left, is_blank);
    if (left.size && left.data[0] == '"') {
        left = (struct slice){ left.data + 1, left.size - 1 };
        if (!take_quoted(arena, &left, &value))
            return false;
    } else {
        value = take(&left, is_token);
        if (value.size == 0)
            return false;
    }
    if (left.size && !is_between(left.data[0]))
        return false;
    *rest = left;
    *ret_name = name;
    *ret_value = value;
    return true;
}

/* The first of a name stands. */
static int keep(struct arena *arena, struct challenge *challenge, struct slice name,
                struct slice value, struct err *err)
{
    struct {
        const char *name;
        struct slice *field;
    } const known[] = {
        { "realm", &challenge->realm },
        { "service", &challenge->service },
        { "scope", &challenge->scope },
        { "error", &challenge->error },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].field->size || !slice_equal_nocase(name, slice_of(known[i].name)))
            continue;
        if (value.size > CHALLENGE_VALUE_MAX)
            return err_set(err, ERR_TOO_LARGE, "a challenge's '%s' has more than %d bytes",
                           known[i].name, (int)CHALLENGE_VALUE_MAX);
        *known[i].field = arena_copy(arena, value);
    }
    return 0;
}

int challenge_find(struct arena *arena, struct slice header, const char *scheme,
                   struct challenge *ret, struct err *err)
{
    struct challenge found = {};
    struct slice rest = header, name, value;
    bool begun = false, ours = false, had = false;
    int r = 0;
    while (r == 0) {
        (void)take(&rest, is_between);
        if (rest.size == 0)
            break;
        if (begun && take_parameter(arena, &rest, &name, &value)) {
            r = ours ? keep(arena, &found, name, value, err) : 0;
            continue;
        }
        name = take(&rest, is_token);
        if (name.size == 0 || (rest.size && !is_between(rest.data[0])))
            return err_set(err, ERR_BAD_INPUT, "WWW-Authenticate: '%s' is no list of challenges",
                           ERR_SLICE(header));
        begun = true;
        ours = !had && slice_equal_nocase(name, slice_of(scheme));
        had = had || ours;
        struct slice left = rest;
        (void)take(&left, is_blank);
        if (!take_parameter(arena, &(struct slice){ left.data, left.size }, &name, &value)) {
            (void)take(&left, is_token68); /* in place of parameters */
            if (!left.size || left.data[0] == ',')
                rest = left;
        }
    }
    if (r < 0 || !had)
        return r;
    *ret = found;
    return 1;
}
