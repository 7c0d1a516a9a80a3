/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/pop.h"

#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/ip.h"
#include "base/json.h"

enum { CITY_BYTES_MAX = 63 };

static const char *const keys[] = { "name",   "city",      "country", "latitude", "longitude",
                                    "region", "addresses", "flavors", "limits",   "prices",
                                    "kind",   "port",      NULL };
static const char *const limit_keys[] = { "cpu", "memory", "replicas", NULL };
static const char *const price_keys[] = { "cpu_hour", "gib_hour", NULL };

const char *pop_kind_word(enum pop_kind kind)
{
    return kind == POP_KIND_DNS ? "dns" : "pop";
}

int pop_kind_parse(struct slice word, enum pop_kind *ret, struct err *err)
{
    bool dns = slice_is(word, "dns");
    if (!dns && !slice_is(word, "pop"))
        return err_set(err, ERR_BAD_INPUT, "kind: pop or dns, not '%s'", ERR_SLICE(word));
    *ret = dns ? POP_KIND_DNS : POP_KIND_POP;
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_place(yyjson_val *tree, struct pop_spec *ret, struct err *err)
{
    int north = json_get_double(tree, "latitude", JSON_OPTIONAL, &ret->latitude, err);
    int east =
        north < 0 ? north : json_get_double(tree, "longitude", JSON_OPTIONAL, &ret->longitude, err);
    if (east < 0)
        return east;
    if (north != east)
        return err_set(err, ERR_BAD_INPUT, "latitude and longitude stand together, or neither");
    ret->located = north > 0;
    if (ret->latitude < -90 || ret->latitude > 90)
        return err_set(err, ERR_BAD_INPUT, "latitude: %g is out of range: -90 to 90 degrees",
                       ret->latitude);
    if (ret->longitude < -180 || ret->longitude > 180)
        return err_set(err, ERR_BAD_INPUT, "longitude: %g is out of range: -180 to 180 degrees",
                       ret->longitude);
    return 0;
}

static int read_words(yyjson_val *tree, struct pop_spec *ret, struct err *err)
{
    struct slice country = {}, kind = SLICE("pop");
    int r = json_get_string(tree, "name", JSON_OPTIONAL, &ret->name, err);
    if (r >= 0)
        r = json_get_string(tree, "kind", JSON_OPTIONAL, &kind, err);
    if (r >= 0)
        r = pop_kind_parse(kind, &ret->kind, err);
    if (r >= 0)
        r = json_get_string(tree, "city", JSON_OPTIONAL, &ret->city, err);
    if (r >= 0)
        r = json_get_string(tree, "region", JSON_OPTIONAL, &ret->region, err);
    if (r >= 0)
        r = json_get_string(tree, "country", JSON_OPTIONAL, &country, err);
    if (r < 0)
        return r;
    if (ret->name.size && spec_check_name(ret->name, "PoP", err) < 0)
        return ERR_BAD_INPUT;
    if (ret->region.size && spec_check_name(ret->region, "region label", err) < 0)
        return ERR_BAD_INPUT;
    if (ret->city.size > CITY_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "city: at most %d bytes", (int)CITY_BYTES_MAX);
    ret->country = country_number_of(country);
    if (country.size && ret->country == COUNTRY_UNKNOWN)
        return err_set(err, ERR_BAD_INPUT,
                       "country: '%s' is no country's code: two capitals, such as DE",
                       ERR_SLICE(country));
    return 0;
}

static int read_port(yyjson_val *tree, struct pop_spec *ret, struct err *err)
{
    int r = json_get_u64(tree, "port", JSON_OPTIONAL, &ret->port, err);
    if (r > 0 && (ret->port == 0 || ret->port > UINT16_MAX))
        return err_set(err, ERR_BAD_INPUT, "port: 1 to 65535");
    return r < 0 ? r : 0;
}

static int read_strings(struct arena *arena, yyjson_val *tree, const char *key, size_t most,
                        int (*check)(struct slice text, struct err *err), struct spec_strings *ret,
                        struct err *err)
{
    yyjson_val *list, *item;
    size_t index, count;
    int r = json_get_array(tree, key, JSON_OPTIONAL, &list, err);
    if (r <= 0)
        return r;
    if (yyjson_arr_size(list) > most)
        return err_set(err, ERR_BAD_INPUT, "%s: at most %zu", key, most);
    struct slice *items = ARENA_ARRAY(arena, struct slice, yyjson_arr_size(list) + 1);
    yyjson_arr_foreach(list, index, count, item)
    {
        items[index] = json_slice(item);
        if (!yyjson_is_str(item))
            return err_set(err, ERR_BAD_INPUT, "%s: must be strings, not %s", key, json_kind(item));
        if (check(items[index], err) < 0)
            return err_wrap(err, "%s", key);
    }
    *ret = (struct spec_strings){ items, yyjson_arr_size(list) };
    return 0;
}

static int check_address(struct slice text, struct err *err)
{
    struct ip ip;
    if (ip_parse(text, &ip))
        return 0;
    return err_set(err, ERR_BAD_INPUT, "'%s' is no address without a port, such as 203.0.113.7",
                   ERR_SLICE(text));
}

static int check_flavor(struct slice text, struct err *err)
{
    return spec_check_name(text, "flavor", err);
}

static int read_limits(yyjson_val *tree, struct pop_spec *ret, struct err *err)
{
    yyjson_val *limits;
    struct slice cpu = {}, memory = {};
    int r = json_get_object(tree, "limits", JSON_OPTIONAL, &limits, err);
    if (r <= 0)
        return r;
    r = json_check_keys(limits, limit_keys, err);
    if (r >= 0)
        r = json_get_string(limits, "cpu", JSON_OPTIONAL, &cpu, err);
    if (r > 0)
        r = units_parse_cpu(cpu, &ret->limits.cpu_milli, err);
    if (r >= 0)
        r = json_get_string(limits, "memory", JSON_OPTIONAL, &memory, err);
    if (r > 0)
        r = units_parse_bytes(memory, &ret->limits.memory_bytes, err);
    if (r >= 0)
        r = json_get_u64(limits, "replicas", JSON_OPTIONAL, &ret->limits.replicas, err);
    if (r > 0 && (ret->limits.replicas == 0 || ret->limits.replicas > POP_REPLICAS_LIMIT))
        r = err_set(err, ERR_BAD_INPUT, "replicas: 1 to %d", (int)POP_REPLICAS_LIMIT);
    return r < 0 ? err_wrap(err, "limits") : 0;
}

static int read_price(yyjson_val *prices, const char *key, struct money *ret, struct err *err)
{
    struct slice text;
    int r = json_get_string(prices, key, JSON_OPTIONAL, &text, err);
    if (r > 0)
        r = units_parse_money(text, ret, err);
    return r < 0 ? err_wrap(err, "prices.%s", key) : 0;
}

static int read_prices(yyjson_val *tree, struct pop_spec *ret, struct err *err)
{
    yyjson_val *prices;
    int r = json_get_object(tree, "prices", JSON_OPTIONAL, &prices, err);
    if (r <= 0)
        return r;
    r = json_check_keys(prices, price_keys, err);
    if (r >= 0)
        r = read_price(prices, "cpu_hour", &ret->prices.cpu_hour, err);
    if (r >= 0)
        r = read_price(prices, "gib_hour", &ret->prices.gib_hour, err);
    if (r >= 0 && ret->prices.cpu_hour.currency[0] && ret->prices.gib_hour.currency[0] &&
        strcmp(ret->prices.cpu_hour.currency, ret->prices.gib_hour.currency) != 0)
        r = err_set(err, ERR_BAD_INPUT, "prices: one currency, not two");
    return r < 0 ? r : 0;
}

/* What it cannot have means nothing there, and would be missed elsewhere. */
static int check_dns(const struct pop_spec *spec, struct err *err)
{
    const char *key =
        spec->addresses.count                                                          ? "addresses"
        : spec->flavors.count                                                          ? "flavors"
        : spec->limits.cpu_milli || spec->limits.memory_bytes || spec->limits.replicas ? "limits"
        : *spec->prices.cpu_hour.currency || *spec->prices.gib_hour.currency           ? "prices"
                                                                                       : NULL;
    if (spec->kind == POP_KIND_DNS && key)
        return err_set(err, ERR_BAD_INPUT,
                       "%s: not of a DNS server, which runs no replicas and has no gateway", key);
    return 0;
}

int pop_spec_parse(struct arena *arena, yyjson_val *tree, struct pop_spec *ret, struct err *err)
{
    struct pop_spec spec = {};
    if (!yyjson_is_obj(tree))
        return err_set(err, ERR_BAD_INPUT, "a PoP must be an object, not %s", json_kind(tree));
    int r = json_check_keys(tree, keys, err);
    if (r >= 0)
        r = read_words(tree, &spec, err);
    if (r >= 0)
        r = read_place(tree, &spec, err);
    if (r >= 0)
        r = read_port(tree, &spec, err);
    if (r >= 0)
        r = read_strings(arena, tree, "addresses", POP_ADDRESSES_MAX, check_address,
                         &spec.addresses, err);
    if (r >= 0)
        r = read_strings(arena, tree, "flavors", POP_FLAVORS_MAX, check_flavor, &spec.flavors, err);
    if (r >= 0)
        r = read_limits(tree, &spec, err);
    if (r >= 0)
        r = read_prices(tree, &spec, err);
    if (r >= 0)
        r = check_dns(&spec, err);
    if (r < 0)
        return r;
    *ret = spec;
    return 0;
}

/* ---- printing -------------------------------------------------------------------------------- */

static void write_strings(struct json_writer *w, const char *key, const struct spec_strings *list)
{
    if (list->count == 0)
        return;
    json_key(w, key);
    json_array_begin(w);
    for (size_t i = 0; i < list->count; i++)
        json_string(w, list->items[i]);
    json_array_end(w);
}

static void write_limits(struct json_writer *w, const struct pop_spec *spec)
{
    char text[UNITS_BYTES];
    if (!spec->limits.cpu_milli && !spec->limits.memory_bytes && !spec->limits.replicas)
        return;
    json_key(w, "limits");
    json_object_begin(w);
    if (spec->limits.cpu_milli)
        json_member_text(w, "cpu", units_print_cpu(text, spec->limits.cpu_milli));
    if (spec->limits.memory_bytes)
        json_member_text(w, "memory", units_print_bytes(text, spec->limits.memory_bytes));
    if (spec->limits.replicas)
        json_member_u64(w, "replicas", spec->limits.replicas);
    json_object_end(w);
}

static void write_prices(struct json_writer *w, const struct pop_spec *spec)
{
    char text[UNITS_BYTES];
    if (!spec->prices.cpu_hour.currency[0] && !spec->prices.gib_hour.currency[0])
        return;
    json_key(w, "prices");
    json_object_begin(w);
    if (spec->prices.cpu_hour.currency[0])
        json_member_text(w, "cpu_hour", units_print_money(text, &spec->prices.cpu_hour));
    if (spec->prices.gib_hour.currency[0])
        json_member_text(w, "gib_hour", units_print_money(text, &spec->prices.gib_hour));
    json_object_end(w);
}

struct slice pop_spec_json(struct arena *arena, const struct pop_spec *spec)
{
    struct json_writer w;
    char country[3];
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    if (spec->name.size)
        json_member_string(&w, "name", spec->name);
    if (spec->kind != POP_KIND_POP)
        json_member_text(&w, "kind", pop_kind_word(spec->kind));
    if (spec->city.size)
        json_member_string(&w, "city", spec->city);
    country_code_of(spec->country, country);
    if (country[0])
        json_member_text(&w, "country", country);
    if (spec->located) {
        json_member_double(&w, "latitude", spec->latitude);
        json_member_double(&w, "longitude", spec->longitude);
    }
    if (spec->region.size)
        json_member_string(&w, "region", spec->region);
    write_strings(&w, "addresses", &spec->addresses);
    if (spec->port)
        json_member_u64(&w, "port", spec->port);
    write_strings(&w, "flavors", &spec->flavors);
    write_limits(&w, spec);
    write_prices(&w, spec);
    json_object_end(&w);
    return json_end(&w);
}

/* ---- what follows from it -------------------------------------------------------------------- */

double pop_spec_price(const struct pop_spec *spec, uint64_t cpu_milli, uint64_t memory_bytes)
{
    double cores = (double)cpu_milli / 1000;
    double gib = (double)memory_bytes / (double)(UINT64_C(1) << 30);
    return (cores * (double)spec->prices.cpu_hour.micro +
            gib * (double)spec->prices.gib_hour.micro) /
           1e6;
}

uint32_t pop_spec_room(const struct pop_spec *spec, uint64_t cpu_milli, uint64_t memory_bytes)
{
    uint64_t room = spec->limits.replicas ? spec->limits.replicas : POP_REPLICAS_LIMIT;
    if (spec->limits.cpu_milli && cpu_milli && spec->limits.cpu_milli / cpu_milli < room)
        room = spec->limits.cpu_milli / cpu_milli;
    if (spec->limits.memory_bytes && memory_bytes &&
        spec->limits.memory_bytes / memory_bytes < room)
        room = spec->limits.memory_bytes / memory_bytes;
    return (uint32_t)room;
}
