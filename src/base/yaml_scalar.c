/* SPDX-License-Identifier: Apache-2.0 */
#include "base/yaml_scalar.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"

static bool is_any(struct slice text, const char *const *words)
{
    for (; *words; words++)
        if (slice_is(text, *words))
            return true;
    return false;
}

static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
static const char *const trues[] = { "true", "True", "TRUE", NULL };
static const char *const falses[] = { "false", "False", "FALSE", NULL };
static const char *const specials[] = { ".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
                                        "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
                                        ".NaN",  ".NAN",  NULL };

static size_t digits_at(struct slice text, size_t at)
{
    size_t begun = at;
    while (at < text.size && text.data[at] >= '0' && text.data[at] <= '9')
        at++;
    return at - begun;
}

/* 0o17, 0x1F: without a sign. */
static bool scan_radix(struct slice text, uint64_t *ret)
{
    if (text.size < 3 || text.data[0] != '0' || (text.data[1] != 'o' && text.data[1] != 'x'))
        return false;
    unsigned bits = text.data[1] == 'o' ? 3 : 4;
    uint64_t value = 0;
    for (size_t i = 2; i < text.size; i++) {
        char c = text.data[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit >= 1u << bits || value >> (64 - bits))
            return false; /* too big for a number: text */
        value = value << bits | digit;
    }
    *ret = value;
    return true;
}

/* [-+]? [0-9]+ */
static bool scan_int(struct slice text, yyjson_val *ret)
{
    size_t sign = text.size && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0;
    uint64_t magnitude;

    if (digits_at(text, sign) == 0 || sign + digits_at(text, sign) != text.size)
        return false;
    if (!slice_u64((struct slice){ text.data + sign, text.size - sign }, &magnitude))
        return false; /* does not fit: a float, below */
    if (text.data[0] != '-') {
        unsafe_yyjson_set_uint(ret, magnitude);
        return true;
    }
    if (magnitude > (uint64_t)1 << 63)
        return false;
    unsafe_yyjson_set_sint(ret, (int64_t)(0 - magnitude));
    return true;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool scan_float(struct slice text, double *ret)
{
    size_t at = text.size && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0;
    size_t whole = digits_at(text, at), part = 0;
    char copy[400];

    at += whole;
    if (at < text.size && text.data[at] == '.') {
        part = digits_at(text, ++at);
        at += part;
    }
    if (whole + part == 0)
        return false;
    if (at < text.size && (text.data[at] == 'e' || text.data[at] == 'E')) {
        at++;
        if (at < text.size && (text.data[at] == '-' || text.data[at] == '+'))
            at++;
        size_t exponent = digits_at(text, at);
        if (exponent == 0)
            return false;
        at += exponent;
    }
    if (at != text.size || text.size >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    *ret = strtod(copy, NULL);
    return true;
}

static int plain_value(struct slice text, yyjson_val *ret, struct err *err)
{
    uint64_t whole;
    double real;

    if (is_any(text, nulls)) {
        unsafe_yyjson_set_null(ret);
    } else if (is_any(text, trues) || is_any(text, falses)) {
        unsafe_yyjson_set_bool(ret, is_any(text, trues));
    } else if (scan_int(text, ret)) {
    } else if (scan_radix(text, &whole)) {
        unsafe_yyjson_set_uint(ret, whole);
    } else if (scan_float(text, &real)) {
        if (!isfinite(real))
            return err_set(err, ERR_BAD_INPUT, "the number '%s' is too big", ERR_SLICE(text));
        unsafe_yyjson_set_real(ret, real);
    } else if (is_any(text, specials)) {
        return err_set(err, ERR_BAD_INPUT, "'%s' has no place here; quote it if it is text",
                       ERR_SLICE(text));
    } else {
        unsafe_yyjson_set_strn(ret, text.data, text.size);
    }
    return 0;
}

int yaml_scalar_value(struct slice text, bool plain, struct slice tag, yyjson_val *ret_value,
                      struct err *err)
{
    static const struct {
        const char *tag;
        yyjson_type type;
    } tags[] = {
        { "tag:yaml.org,2002:null", YYJSON_TYPE_NULL },
        { "tag:yaml.org,2002:bool", YYJSON_TYPE_BOOL },
        { "tag:yaml.org,2002:int", YYJSON_TYPE_NUM },
        { "tag:yaml.org,2002:float", YYJSON_TYPE_NUM },
    };

    if (slice_is(tag, "tag:yaml.org,2002:str") || slice_is(tag, "!") || (!tag.size && !plain)) {
        unsafe_yyjson_set_strn(ret_value, text.data, text.size);
        return 0;
    }
    if (!tag.size)
        return plain_value(text, ret_value, err);
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (!slice_is(tag, tags[i].tag))
            continue;
        int r = plain_value(text, ret_value, err);
        if (r == 0 && yyjson_get_type(ret_value) != tags[i].type)
            return err_set(err, ERR_BAD_INPUT, "'%s' is not what its tag says", ERR_SLICE(text));
        return r;
    }
    return err_set(err, ERR_BAD_INPUT, "the tag '%s' is not known here", ERR_SLICE(tag));
}
