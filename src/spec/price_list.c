/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/price_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "spec/endpoint.h"
#include "spec/units.h"

enum { HOUR_S = 3600 };

static const char *const keys[] = { "version", "kind", "prices", NULL };
static const char *const row_keys[] = {
    "from", "pop", "cpu_second", "gib_second", "request", NULL
};

static int read_money(yyjson_val *item, const char *key, int64_t factor, struct price_list *list,
                      int64_t *ret, struct err *err)
{
    struct slice text;
    char currency[4];
    int r = json_get_string(item, key, JSON_OPTIONAL, &text, err);
    *ret = 0;
    if (r > 0)
        r = units_parse_price(text, ret, currency, err) < 0 ? ERR_BAD_INPUT : 1;
    if (r <= 0)
        return r < 0 ? err_wrap(err, "%s", key) : 0;
    if (list->currency[0] && strcmp(list->currency, currency) != 0)
        return err_set(err, ERR_BAD_INPUT, "%s: '%s' is in another currency than %s before it", key,
                       ERR_SLICE(text), list->currency);
    memcpy(list->currency, currency, sizeof currency);
    if (__builtin_mul_overflow(*ret, factor, ret))
        return err_set(err, ERR_BAD_INPUT, "%s: '%s' is too big", key, ERR_SLICE(text));
    return 0;
}

static int read_row(yyjson_val *item, struct price_list *list, struct price_row *ret,
                    struct err *err)
{
    struct slice from = {};
    int64_t from_ns = 0;
    *ret = (struct price_row){};
    if (!yyjson_is_obj(item))
        return err_set(err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(item));
    int r = json_check_keys(item, row_keys, err);
    if (r >= 0)
        r = json_get_string(item, "from", JSON_OPTIONAL, &from, err);
    if (r > 0 && !units_parse_instant(from, &from_ns))
        r = err_set(err, ERR_BAD_INPUT, "from: '%s' is no time such as 2026-11-29T08:00:00Z",
                    ERR_SLICE(from));
    if (r >= 0)
        r = json_get_string(item, "pop", JSON_OPTIONAL, &ret->pop, err);
    if (r > 0)
        r = spec_check_name(ret->pop, "PoP", err);
    if (r >= 0)
        r = read_money(item, "cpu_second", HOUR_S, list, &ret->price.cpu_hour, err);
    if (r >= 0)
        r = read_money(item, "gib_second", HOUR_S, list, &ret->price.gib_hour, err);
    if (r >= 0)
        r = read_money(item, "request", 1, list, &ret->price.request, err);
    ret->from_s = from_ns / 1'000'000'000;
    return r < 0 ? r : 0;
}

static int row_order(const void *a, const void *b)
{
    const struct price_row *x = a, *y = b;
    if (x->from_s != y->from_s)
        return x->from_s < y->from_s ? -1 : 1;
    return slice_order(x->pop, y->pop);
}

int price_list_parse(struct arena *arena, yyjson_val *root, struct price_list *ret, struct err *err)
{
    struct price_list list = {};
    struct slice kind = SLICE("prices");
    uint64_t version = 1;
    yyjson_val *prices, *item;
    size_t index, count;
    if (!yyjson_is_obj(root))
        return err_set(err, ERR_BAD_INPUT, "a price list must be an object, not %s",
                       json_kind(root));
    int r = json_check_keys(root, keys, err);
    if (r >= 0)
        r = json_get_u64(root, "version", JSON_OPTIONAL, &version, err);
    if (r >= 0)
        r = json_get_string(root, "kind", JSON_OPTIONAL, &kind, err);
    if (r >= 0)
        r = json_get_array(root, "prices", JSON_REQUIRED, &prices, err);
    if (r < 0)
        return r;
    if (version != 1 || !slice_is(kind, "prices"))
        return err_set(err, ERR_BAD_INPUT,
                       "version %llu of kind '%s' is not known here: version 1 "
                       "of kind 'prices' is",
                       (unsigned long long)version, ERR_SLICE(kind));
    if (yyjson_arr_size(prices) > PRICE_ROWS_MAX)
        return err_set(err, ERR_BAD_INPUT, "prices: at most %d", (int)PRICE_ROWS_MAX);
    struct price_row *rows = ARENA_ARRAY(arena, struct price_row, yyjson_arr_size(prices) + 1);
    yyjson_arr_foreach(prices, index, count,
                       item) if (read_row(item, &list, &rows[list.count++], err) <
                                 0) return err_wrap(err, "prices[%zu]", index);
    qsort(rows, list.count, sizeof *rows, row_order);
    for (size_t i = 1; i < list.count; i++)
        if (row_order(&rows[i - 1], &rows[i]) == 0)
            return err_set(err, ERR_BAD_INPUT, "prices: two from the same time on for %s%s",
                           rows[i].pop.size ? "PoP " : "all PoPs", ERR_SLICE(rows[i].pop));
    list.rows = rows;
    *ret = list;
    return 0;
}

static void write_money(struct json_writer *w, const char *key, int64_t pico, const char *currency)
{
    char text[UNITS_BYTES];
    if (pico)
        json_member_text(w, key, units_print_price(text, pico, currency));
}

struct slice price_list_json(struct arena *arena, const struct price_list *list)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "version", 1);
    json_member_text(&w, "kind", "prices");
    json_key(&w, "prices");
    json_array_begin(&w);
    for (size_t i = 0; i < list->count; i++) {
        const struct price_row *row = &list->rows[i];
        time_t seconds = (time_t)row->from_s;
        struct tm utc;
        char text[40];
        gmtime_r(&seconds, &utc);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
        json_object_begin(&w);
        json_member_text(&w, "from", text);
        if (row->pop.size)
            json_member_string(&w, "pop", row->pop);
        write_money(&w, "cpu_second", row->price.cpu_hour / HOUR_S, list->currency);
        write_money(&w, "gib_second", row->price.gib_hour / HOUR_S, list->currency);
        write_money(&w, "request", row->price.request, list->currency);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}
