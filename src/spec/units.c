/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/units.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* In the order of preference where two texts are equally short. */
static const struct unit sizes[] = {
    { "GiB", UINT64_C(1) << 30 },
    { "MiB", UINT64_C(1) << 20 },
    { "KiB", UINT64_C(1) << 10 },
    { "GB", 1'000'000'000 },
    { "MB", 1'000'000 },
    { "KB", 1'000 },
    { "B", 1 },
    { "Gi", UINT64_C(1) << 30 }, /* read, never printed */
    { "Mi", UINT64_C(1) << 20 },
    { "Ki", UINT64_C(1) << 10 },
    {},
};
enum { SIZES_PRINTED = 7 };

static const struct unit times[] = {
    { "s", 1'000'000'000 },
    { "ms", 1'000'000 },
    { "us", 1'000 },
    { "m", UINT64_C(60'000'000'000) },
    { "h", UINT64_C(3'600'000'000'000) },
    { "d", UINT64_C(86'400'000'000'000) },
    {},
};
enum { TIMES_PRINTED = 6 };

static struct slice digits_of(struct slice text)
{
    size_t size = 0;
    while (size < text.size && text.data[size] >= '0' && text.data[size] <= '9')
        size++;
    return (struct slice){ text.data, size };
}

static struct slice after(struct slice text, size_t bytes)
{
    return (struct slice){ text.data + bytes, text.size - bytes };
}

static int parse_unit(struct slice text, const struct unit *units, const char *advice,
                      uint64_t *ret, struct err *err)
{
    struct slice digits = digits_of(text);
    struct slice suffix = after(text, digits.size);
    uint64_t number;

    if (digits.size == 0)
        return err_set(err, ERR_BAD_INPUT, "'%s' is not an integer with a unit: %s",
                       ERR_SLICE(text), advice);
    if (suffix.size == 0)
        return err_set(err, ERR_BAD_INPUT, "'%s' needs a unit: %s", ERR_SLICE(text), advice);
    while (units->suffix && !slice_is(suffix, units->suffix))
        units++;
    if (!units->suffix)
        return err_set(err, ERR_BAD_INPUT, "'%s' has an unknown unit; there are %s",
                       ERR_SLICE(text), advice);
    if (!slice_u64(digits, &number) || __builtin_mul_overflow(number, units->factor, &number))
        return err_set(err, ERR_BAD_INPUT, "'%s' is too big", ERR_SLICE(text));
    *ret = number;
    return 0;
}

static const char *print_shortest(char buffer[static UNITS_BYTES], uint64_t value,
                                  const struct unit *units, size_t count)
{
    int best = UNITS_BYTES;

    for (size_t i = 0; i < count; i++) {
        char text[UNITS_BYTES];
        if (value % units[i].factor != 0)
            continue;
        int size = snprintf(text, sizeof text, "%llu%s",
                            (unsigned long long)(value / units[i].factor), units[i].suffix);
        if (size < best) {
            best = size;
            memcpy(buffer, text, (size_t)size + 1);
        }
    }
    return buffer;
}

int units_parse_bytes(struct slice text, uint64_t *ret_bytes, struct err *err)
{
    return parse_unit(text, sizes, "B, KB, MB, GB or KiB, MiB, GiB (as in 64MiB)", ret_bytes, err);
}

const char *units_print_bytes(char buffer[static UNITS_BYTES], uint64_t bytes)
{
    return print_shortest(buffer, bytes, sizes, SIZES_PRINTED);
}

int units_parse_time(struct slice text, uint64_t *ret_ns, struct err *err)
{
    return parse_unit(text, times, "us, ms, s, m, h, d (as in 30s)", ret_ns, err);
}

const char *units_print_time(char buffer[static UNITS_BYTES], uint64_t ns)
{
    return print_shortest(buffer, ns - ns % 1'000, times, TIMES_PRINTED);
}

/* --- decimals -------------------------------------------------------------------------------- */

/* DIGITS[.DIGITS], scaled by 10^places; -1: not one, -2: finer than places, -3: too big. */
static int parse_decimal(struct slice text, unsigned places, uint64_t *ret)
{
    struct slice whole = digits_of(text), part = {};
    uint64_t value = 0;

    if (whole.size == 0)
        return -1;
    if (whole.size < text.size) {
        part = digits_of(after(text, whole.size + 1));
        if (text.data[whole.size] != '.' || part.size == 0 ||
            whole.size + 1 + part.size != text.size)
            return -1;
    }
    while (part.size > places && part.data[part.size - 1] == '0')
        part.size--;
    if (part.size > places)
        return -2;
    if (!slice_u64(whole, &value))
        return -3;
    for (unsigned i = 0; i < places; i++) {
        uint64_t digit = i < part.size ? (uint64_t)(part.data[i] - '0') : 0;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return -3;
    }
    *ret = value;
    return 0;
}

static int parse_number(struct slice text, struct slice number, unsigned places, const char *advice,
                        uint64_t *ret, struct err *err)
{
    switch (parse_decimal(number, places, ret)) {
    case 0:
        return 0;
    case -2:
        return err_set(err, ERR_BAD_INPUT, "'%s' has more than %u decimals", ERR_SLICE(text),
                       places);
    case -3:
        return err_set(err, ERR_BAD_INPUT, "'%s' is too big", ERR_SLICE(text));
    default:
        return err_set(err, ERR_BAD_INPUT, "'%s' is not %s", ERR_SLICE(text), advice);
    }
}

/* value / 10^places without trailing zeros. */
static int print_decimal(char buffer[static UNITS_BYTES], uint64_t value, unsigned places)
{
    uint64_t factor = 1;
    for (unsigned i = 0; i < places; i++)
        factor *= 10;
    int size = snprintf(buffer, UNITS_BYTES, "%llu", (unsigned long long)(value / factor));
    if (value % factor == 0)
        return size;
    size += snprintf(buffer + size, (size_t)(UNITS_BYTES - size), ".%0*llu", (int)places,
                     (unsigned long long)(value % factor));
    while (buffer[size - 1] == '0')
        buffer[--size] = '\0';
    return size;
}

int units_parse_cpu(struct slice text, uint64_t *ret_milli, struct err *err)
{
    static const char advice[] = "cores: a decimal or thousandths (as in 0.5 or 500m)";

    if (slice_ends(text, SLICE("m")))
        return parse_number(text, (struct slice){ text.data, text.size - 1 }, 0, advice, ret_milli,
                            err);
    return parse_number(text, text, 3, advice, ret_milli, err);
}

const char *units_print_cpu(char buffer[static UNITS_BYTES], uint64_t milli)
{
    char thousandths[UNITS_BYTES];
    int size = snprintf(thousandths, sizeof thousandths, "%llum", (unsigned long long)milli);

    if (print_decimal(buffer, milli, 3) > size)
        memcpy(buffer, thousandths, (size_t)size + 1);
    return buffer;
}

int units_parse_share(struct slice text, uint32_t *ret_ppm, struct err *err)
{
    static const char advice[] = "a share (as in 10%)";
    uint64_t ppm;

    if (digits_of(text).size == text.size && text.size)
        return err_set(err, ERR_BAD_INPUT, "'%s' needs a unit: %% (as in 10%%)", ERR_SLICE(text));
    if (!slice_ends(text, SLICE("%")))
        return err_set(err, ERR_BAD_INPUT, "'%s' is not %s", ERR_SLICE(text), advice);
    int r = parse_number(text, (struct slice){ text.data, text.size - 1 }, 4, advice, &ppm, err);
    if (r < 0)
        return r;
    if (ppm > 1'000'000)
        return err_set(err, ERR_BAD_INPUT, "'%s' is more than 100%%", ERR_SLICE(text));
    *ret_ppm = (uint32_t)ppm;
    return 0;
}

const char *units_print_share(char buffer[static UNITS_BYTES], uint32_t ppm)
{
    int size = print_decimal(buffer, ppm, 4);
    memcpy(buffer + size, "%", 2);
    return buffer;
}

int units_parse_rate(struct slice text, uint64_t *ret_micro_per_s, struct err *err)
{
    static const char advice[] = "a rate (as in 100/s)";

    if (digits_of(text).size == text.size && text.size)
        return err_set(err, ERR_BAD_INPUT, "'%s' needs a unit: /s (as in 100/s)", ERR_SLICE(text));
    if (!slice_ends(text, SLICE("/s")))
        return err_set(err, ERR_BAD_INPUT, "'%s' is not %s", ERR_SLICE(text), advice);
    return parse_number(text, (struct slice){ text.data, text.size - 2 }, 6, advice,
                        ret_micro_per_s, err);
}

const char *units_print_rate(char buffer[static UNITS_BYTES], uint64_t micro_per_s)
{
    int size = print_decimal(buffer, micro_per_s, 6);
    memcpy(buffer + size, "/s", 3);
    return buffer;
}

int units_parse_money(struct slice text, struct money *ret_money, struct err *err)
{
    static const char advice[] = "an amount and a currency (as in 50 EUR)";
    struct slice currency = text;
    struct slice amount = slice_cut(&currency, ' ');
    uint64_t micro;

    if (amount.size == text.size && digits_of(text).size == text.size && text.size)
        return err_set(err, ERR_BAD_INPUT, "'%s' needs a currency by ISO 4217 (as in 50 EUR)",
                       ERR_SLICE(text));
    bool capitals = currency.size == 3;
    for (size_t i = 0; capitals && i < 3; i++)
        capitals = currency.data[i] >= 'A' && currency.data[i] <= 'Z';
    if (!capitals)
        return err_set(err, ERR_BAD_INPUT, "'%s' is not %s", ERR_SLICE(text), advice);
    int r = parse_number(text, amount, 6, advice, &micro, err);
    if (r < 0)
        return r;
    if (micro > INT64_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' is too big", ERR_SLICE(text));
    ret_money->micro = (int64_t)micro;
    memcpy(ret_money->currency, currency.data, 3);
    ret_money->currency[3] = '\0';
    return 0;
}

const char *units_print_money(char buffer[static UNITS_BYTES], const struct money *money)
{
    uint64_t micro = money->micro < 0 ? 0 - (uint64_t)money->micro : (uint64_t)money->micro;
    char number[UNITS_BYTES];

    print_decimal(number, micro, 6);
    snprintf(buffer, UNITS_BYTES, "%s%.30s %.3s", money->micro < 0 ? "-" : "", number,
             money->currency);
    return buffer;
}

/* ---- prices and times ------------------------------------------------------------------------ */

int units_parse_price(struct slice text, int64_t *ret_pico, char ret_currency[static 4],
                      struct err *err)
{
    static const char advice[] = "an amount and a currency (as in 0.0000116 EUR)";
    struct money money;
    uint64_t pico;
    struct slice currency = text, amount = slice_cut(&currency, ' ');
    char one[8];
    if (currency.size != 3)
        return err_set(err, ERR_BAD_INPUT, "'%s' is not %s", ERR_SLICE(text), advice);
    snprintf(one, sizeof one, "1 %.3s", currency.data);
    int r = units_parse_money(slice_of(one), &money, err);
    if (r == 0)
        r = parse_number(text, amount, 12, advice, &pico, err);
    if (r < 0)
        return r;
    if (pico > INT64_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' is too big", ERR_SLICE(text));
    *ret_pico = (int64_t)pico;
    memcpy(ret_currency, money.currency, 4);
    return 0;
}

const char *units_print_price(char buffer[static UNITS_BYTES], int64_t pico, const char *currency)
{
    char number[UNITS_BYTES];
    print_decimal(number, pico < 0 ? 0 : (uint64_t)pico, 12);
    snprintf(buffer, UNITS_BYTES, "%.40s %.3s", number, currency);
    return buffer;
}

bool units_parse_instant(struct slice text, int64_t *ret_ns)
{
    struct tm utc = {};
    int read = 0;
    char copy[40] = {};
    bool day = text.size == 10;
    if ((text.size < 20 && !day) || text.size >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.size);
    if (day)
        memcpy(copy + 10, "T00:00:00Z", 10);
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2d%n", &utc.tm_year, &utc.tm_mon, &utc.tm_mday,
               &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &read) != 6 ||
        read != 19)
        return false;
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    if (utc.tm_year < 70 || utc.tm_year > 300 || utc.tm_mon < 0 || utc.tm_mon > 11 ||
        utc.tm_mday < 1 || utc.tm_mday > 31 || utc.tm_hour > 23 || utc.tm_min > 59 ||
        utc.tm_sec > 60)
        return false;
    int64_t ns = 0, unit = 100'000'000;
    const char *rest = copy + 19;
    if (*rest == '.')
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
            ns += (*rest - '0') * unit;
    if (strcmp(rest, "Z") != 0)
        return false;
    *ret_ns = (int64_t)timegm(&utc) * 1'000'000'000 + ns;
    return true;
}
