/* SPDX-License-Identifier: Apache-2.0 */
/*
 * units.h -- sizes, times, cpu, shares, rates and money as people write them (docs/spec.md).
 *
 * Reading is exact or an error that shows the units; printing gives the shortest text that reads
 * back as the same value. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

#define UNITS_BYTES 48 /* room for any printed value */

struct money {
    int64_t micro;    /* millionths */
    char currency[4]; /* ISO 4217 */
};

[[nodiscard]] int units_parse_bytes(struct slice text, uint64_t *ret_bytes, struct err *err);
[[nodiscard]] int units_parse_time(struct slice text, uint64_t *ret_ns, struct err *err);
[[nodiscard]] int units_parse_cpu(struct slice text, uint64_t *ret_milli, struct err *err);
[[nodiscard]] int units_parse_share(struct slice text, uint32_t *ret_ppm, struct err *err);
[[nodiscard]] int units_parse_rate(struct slice text, uint64_t *ret_micro_per_s, struct err *err);
[[nodiscard]] int units_parse_money(struct slice text, struct money *ret_money, struct err *err);
/* Money in millionths of millionths, not below 0. */
[[nodiscard]] int units_parse_price(struct slice text, int64_t *ret_pico,
                                    char ret_currency[static 4], struct err *err);
/* RFC 3339 in UTC ("2026-11-29T08:00:00Z"), or a day; false when it is none. */
bool units_parse_instant(struct slice text, int64_t *ret_ns);

const char *units_print_bytes(char buffer[static UNITS_BYTES], uint64_t bytes);
const char *units_print_time(char buffer[static UNITS_BYTES], uint64_t ns); /* whole us */
const char *units_print_cpu(char buffer[static UNITS_BYTES], uint64_t milli);
const char *units_print_share(char buffer[static UNITS_BYTES], uint32_t ppm);
const char *units_print_rate(char buffer[static UNITS_BYTES], uint64_t micro_per_s);
const char *units_print_price(char buffer[static UNITS_BYTES], int64_t pico, const char *currency);
const char *units_print_money(char buffer[static UNITS_BYTES], const struct money *money);
