/* SPDX-License-Identifier: Apache-2.0 */
/*
 * price_list.h -- what use costs, from when on, and where: the document of `perigee admin prices`
 * (docs/usage.md). Pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <yyjson.h>

#include "base/slice.h"

struct arena;
struct err;

enum { PRICE_ROWS_MAX = 1000 };

/* In millionths of millionths of the currency. */
struct price {
    int64_t cpu_hour; /* of a CPU for an hour: 3600 times what a second of it is */
    int64_t gib_hour; /* of a GiB, likewise */
    int64_t request;  /* of one that was answered */
};

struct price_row {
    int64_t from_s;   /* since 1970 */
    struct slice pop; /* empty: at each that has none of its own */
    struct price price;
};

struct price_list {               /* a price holds until the next one of the same PoP */
    char currency[4];             /* ISO 4217; empty: there are no prices */
    const struct price_row *rows; /* by time */
    size_t count;
};

/* JSON: {"version": 1, "kind": "prices", "prices": [{"from", "pop", "cpu_second", "gib_second",
 * "request"}]}. All in one currency. Unknown keys are refused, naming the nearest known one. */
[[nodiscard]] int price_list_parse(struct arena *arena, yyjson_val *root, struct price_list *ret,
                                   struct err *err);
struct slice price_list_json(struct arena *arena, const struct price_list *list);
