/* SPDX-License-Identifier: Apache-2.0 */
/* From the file's tree to struct fleet: PoPs first, then clients, so that links and the default
 * find every name. `where` is the value that an error is about, for its line. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/yaml.h"
#include "fleet/fleet.h"
#include "geo/cities.h"
#include "geo/country.h"
#include "spec/endpoint.h"

struct reader {
    struct arena *arena;
    const struct cities *cities;
    struct fleet *fleet;
    yyjson_val *where;
    struct err *err;
};

/* What was looked for and is not there is the fault of who wrote the file. */
static int wrong(struct reader *reader)
{
    if (reader->err)
        reader->err->code = ERR_BAD_INPUT;
    return ERR_BAD_INPUT;
}

/* ---- where something stands ----------------------------------------------------------------- */

static int number_of(yyjson_val *value, double *ret)
{
    if (!yyjson_is_num(value))
        return -1;
    *ret = yyjson_get_num(value);
    return 0;
}

static int read_coordinates(struct reader *reader, yyjson_val *row, yyjson_val *coordinates,
                            struct fleet_place *place)
{
    struct slice country;
    reader->where = coordinates;
    if (!yyjson_is_arr(coordinates) || yyjson_arr_size(coordinates) != 2 ||
        number_of(yyjson_arr_get(coordinates, 0), &place->latitude) < 0 ||
        number_of(yyjson_arr_get(coordinates, 1), &place->longitude) < 0)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "'coordinates' are two numbers, [latitude, longitude] in degrees");
    if (!spot_valid(place->latitude, place->longitude))
        return err_set(reader->err, ERR_BAD_INPUT,
                       "the coordinates [%g, %g] are out of range: a latitude is -90 to 90, a "
                       "longitude -180 to 180",
                       place->latitude, place->longitude);
    reader->where = row;
    int r = json_get_string(row, "country", JSON_REQUIRED, &country, reader->err);
    if (r < 0)
        return err_wrap(reader->err, "beside 'coordinates'");
    if ((r = country_check(country, reader->err)) < 0)
        return r;
    place->country = country_number_of(country);
    return 0;
}

static int read_city(struct reader *reader, yyjson_val *row, struct slice name,
                     struct fleet_place *place)
{
    const struct city *city;
    reader->where = json_member(row, "city");
    if (json_member(row, "country"))
        return err_set(reader->err, ERR_BAD_INPUT,
                       "'country' stands beside 'coordinates'; a city's is known (`Paris,US` says "
                       "which Paris)");
    if (!reader->cities)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "cities are not known here: '%s' needs 'coordinates' and 'country'",
                       ERR_SLICE(name));
    if (cities_look_up(reader->cities, name, &city, reader->err) < 0)
        return wrong(reader);
    place->latitude = city->latitude;
    place->longitude = city->longitude;
    place->country = city->country;
    return 0;
}

/* `city`, or `coordinates` and `country`. ret_city: empty for the latter. */
static int read_place(struct reader *reader, yyjson_val *row, struct fleet_place *place,
                      struct slice *ret_city)
{
    yyjson_val *coordinates = json_member(row, "coordinates");
    struct slice city = {};
    reader->where = row;
    int r = json_get_string(row, "city", JSON_OPTIONAL, &city, reader->err);
    if (r < 0)
        return r;
    if ((r == 1) == (coordinates != NULL))
        return err_set(reader->err, ERR_BAD_INPUT,
                       "either 'city', or 'coordinates' and 'country', say where it stands");
    r = coordinates ? read_coordinates(reader, row, coordinates, place)
                    : read_city(reader, row, city, place);
    if (r < 0)
        return r;
    place->spot = spot_at(place->latitude, place->longitude);
    *ret_city = city;
    return 0;
}

/* PoP `tokyo` and clients of Tokyo may stand beside each other; `Tokyo` and `TOKYO` may not. */
static bool place_taken(const struct fleet *fleet, struct slice name)
{
    for (size_t i = 0; i < fleet->place_count; i++)
        if (slice_equal(fleet->places[i].name, name) ||
            (i >= fleet->pop_count && slice_equal_nocase(fleet->places[i].name, name)))
            return true;
    return false;
}

/* ---- PoPs ----------------------------------------------------------------------------------- */

static int read_flavors(struct reader *reader, yyjson_val *row, struct fleet_pop *pop)
{
    yyjson_val *flavors, *flavor;
    size_t index, count;
    int r = json_get_array(row, "flavors", JSON_OPTIONAL, &flavors, reader->err);
    if (r <= 0)
        return r;
    if (yyjson_arr_size(flavors) > FLEET_FLAVORS_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "at most %d flavors", FLEET_FLAVORS_MAX);
    struct slice *names = ARENA_ARRAY(reader->arena, struct slice, yyjson_arr_size(flavors) + 1);
    yyjson_arr_foreach(flavors, index, count, flavor)
    {
        reader->where = flavor;
        if (!yyjson_is_str(flavor))
            return err_set(reader->err, ERR_BAD_INPUT, "a flavor's name must be a string, not %s",
                           json_kind(flavor));
        names[index] = json_slice(flavor);
        if ((r = spec_check_name(names[index], "flavor name", reader->err)) < 0)
            return r;
    }
    pop->flavors = names;
    pop->flavor_count = yyjson_arr_size(flavors);
    return 0;
}

/* `cpu: 4` is a number in YAML. */
static int read_cpu(struct reader *reader, yyjson_val *limits, uint64_t *ret_milli)
{
    yyjson_val *value = json_member(limits, "cpu");
    char text[JSON_NUMBER_BYTES];
    struct slice said = json_slice(value);
    if (!value)
        return 0;
    reader->where = value;
    if (yyjson_is_num(value))
        said = (struct slice){ text, json_double_text(text, yyjson_get_num(value)) };
    else if (!yyjson_is_str(value))
        return err_set(reader->err, ERR_BAD_INPUT, "'cpu' must be a number, not %s",
                       json_kind(value));
    int r = units_parse_cpu(said, ret_milli, reader->err);
    return r < 0 ? err_wrap(reader->err, "'cpu'") : 0;
}

static int read_limits(struct reader *reader, yyjson_val *row, struct fleet_pop *pop)
{
    static const char *const keys[] = { "cpu", "memory", "replicas", NULL };
    yyjson_val *limits;
    struct slice memory;
    int r = json_get_object(row, "limits", JSON_OPTIONAL, &limits, reader->err);
    if (r <= 0)
        return r;
    reader->where = limits;
    if ((r = json_check_keys(limits, keys, reader->err)) < 0 ||
        (r = read_cpu(reader, limits, &pop->cpu_milli)) < 0)
        return r;
    r = json_get_u64(limits, "replicas", JSON_OPTIONAL, &pop->replicas, reader->err);
    if (r >= 0)
        r = json_get_string(limits, "memory", JSON_OPTIONAL, &memory, reader->err);
    if (r <= 0)
        return r;
    r = units_parse_bytes(memory, &pop->memory_bytes, reader->err);
    return r < 0 ? err_wrap(reader->err, "'memory'") : 0;
}

static int read_price(struct reader *reader, yyjson_val *prices, const char *key, struct money *ret)
{
    struct slice text;
    int r = json_get_string(prices, key, JSON_OPTIONAL, &text, reader->err);
    if (r <= 0)
        return r;
    r = units_parse_money(text, ret, reader->err);
    return r < 0 ? err_wrap(reader->err, "'%s'", key) : 0;
}

static int read_prices(struct reader *reader, yyjson_val *row, struct fleet_pop *pop)
{
    static const char *const keys[] = { "cpu_hour", "gib_hour", NULL };
    yyjson_val *prices;
    reader->where = row;
    int r = json_get_object(row, "prices", JSON_OPTIONAL, &prices, reader->err);
    if (r <= 0)
        return r;
    reader->where = prices;
    r = json_check_keys(prices, keys, reader->err);
    if (r == 0)
        r = read_price(reader, prices, "cpu_hour", &pop->cpu_hour);
    return r < 0 ? r : read_price(reader, prices, "gib_hour", &pop->gib_hour);
}

static int read_pop(struct reader *reader, yyjson_val *row)
{
    static const char *const keys[] = { "name",    "city",   "coordinates", "country", "region",
                                        "flavors", "limits", "prices",      NULL };
    struct fleet *fleet = reader->fleet;
    struct fleet_pop *pop = &fleet->pops[fleet->pop_count];
    struct fleet_place *place = &fleet->places[fleet->place_count];
    reader->where = row;
    if (!yyjson_is_obj(row))
        return err_set(reader->err, ERR_BAD_INPUT, "a PoP is a mapping, not %s", json_kind(row));
    int r = json_check_keys(row, keys, reader->err);
    if (r == 0)
        r = json_get_string(row, "name", JSON_REQUIRED, &pop->name, reader->err);
    if (r < 0 || (r = spec_check_name(pop->name, "PoP name", reader->err)) < 0)
        return r;
    if (place_taken(fleet, pop->name))
        return err_set(reader->err, ERR_BAD_INPUT, "the PoP '%s' is there twice",
                       ERR_SLICE(pop->name));
    place->name = pop->name;
    if ((r = read_place(reader, row, place, &pop->city)) < 0)
        return r;
    reader->where = row;
    r = json_get_string(row, "region", JSON_OPTIONAL, &pop->region, reader->err);
    if (r == 1)
        r = spec_check_name(pop->region, "region label", reader->err);
    if (r == 0)
        r = read_flavors(reader, row, pop);
    if (r == 0)
        r = read_limits(reader, row, pop);
    if (r == 0)
        r = read_prices(reader, row, pop);
    fleet->pop_count++;
    fleet->place_count++;
    return r;
}

static int read_pops(struct reader *reader, yyjson_val *root)
{
    struct fleet *fleet = reader->fleet;
    yyjson_val *pops, *row;
    size_t index, count;
    reader->where = root;
    int r = json_get_array(root, "pops", JSON_REQUIRED, &pops, reader->err);
    if (r < 0)
        return r;
    reader->where = pops;
    if (yyjson_arr_size(pops) == 0 || yyjson_arr_size(pops) > FLEET_POPS_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "a fleet has 1 to %d PoPs, not %zu",
                       FLEET_POPS_MAX, yyjson_arr_size(pops));
    fleet->pops = ARENA_ARRAY(reader->arena, struct fleet_pop, yyjson_arr_size(pops));
    yyjson_arr_foreach(pops, index, count, row)
    {
        r = read_pop(reader, row);
        if (r < 0)
            return err_wrap(reader->err, "PoP number %zu", index + 1);
    }
    return 0;
}

/* ---- clients -------------------------------------------------------------------------------- */

/* 127.0.0.0 to 127.0.3.255 are the fleet's own. */
static bool blocks_meet(const struct ip_block *a, const struct ip_block *b)
{
    return a->bits < b->bits ? ip_block_has(a, &b->ip) : ip_block_has(b, &a->ip);
}

static int add_block(struct reader *reader, yyjson_val *value, uint16_t place)
{
    static const char own[] = "127.0.0.0/22";
    struct fleet *fleet = reader->fleet;
    struct ip_block block = {}, ours = {};
    char text[IP_TEXT_BYTES];
    reader->where = value;
    if (!yyjson_is_str(value))
        return err_set(reader->err, ERR_BAD_INPUT, "a block of addresses is a string, not %s",
                       json_kind(value));
    int r = ip_block_parse(json_slice(value), &block, reader->err);
    if (r == 0)
        r = ip_block_parse(slice_of(own), &ours, reader->err);
    if (r < 0)
        return r;
    if (blocks_meet(&block, &ours))
        return err_set(reader->err, ERR_BAD_INPUT, "'%s' overlaps %s, which the fleet itself has",
                       ERR_SLICE(json_slice(value)), own);
    for (size_t i = 0; i < fleet->client_count; i++)
        if (blocks_meet(&fleet->clients[i].block, &block))
            return err_set(reader->err, ERR_BAD_INPUT, "'%s' overlaps %s",
                           ERR_SLICE(json_slice(value)),
                           ip_block_text(&fleet->clients[i].block, text));
    if (fleet->client_count == FLEET_BLOCKS_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "at most %d blocks of addresses",
                       FLEET_BLOCKS_MAX);
    fleet->clients[fleet->client_count++] = (struct fleet_clients){ block, place };
    return 0;
}

static int read_client(struct reader *reader, yyjson_val *row)
{
    static const char *const keys[] = {
        "addresses", "name", "city", "coordinates", "country", NULL
    };
    struct fleet *fleet = reader->fleet;
    struct fleet_place *place = &fleet->places[fleet->place_count];
    yyjson_val *addresses, *address;
    size_t index, count;
    struct slice city;
    reader->where = row;
    if (!yyjson_is_obj(row))
        return err_set(reader->err, ERR_BAD_INPUT, "a row is a mapping, not %s", json_kind(row));
    int r = json_check_keys(row, keys, reader->err);
    if (r < 0 || (r = read_place(reader, row, place, &city)) < 0)
        return r;
    reader->where = row;
    place->name = city;
    r = json_get_string(row, "name", city.size ? JSON_OPTIONAL : JSON_REQUIRED, &place->name,
                        reader->err);
    if (r < 0)
        return r;
    if (place->name.size == 0 || place->name.size > CITY_NAME_BYTES_MAX ||
        slice_is(place->name, "any") || place_taken(fleet, place->name))
        return err_set(reader->err, ERR_BAD_INPUT,
                       "the place '%s' is there already, or cannot be a name: give it a 'name' of "
                       "its own",
                       ERR_SLICE(place->name));
    if ((r = json_get_array(row, "addresses", JSON_REQUIRED, &addresses, reader->err)) < 0)
        return r;
    yyjson_arr_foreach(addresses, index, count, address)
    {
        if ((r = add_block(reader, address, (uint16_t)fleet->place_count)) < 0)
            return r;
    }
    fleet->place_count++;
    return 0;
}

static int read_clients(struct reader *reader, yyjson_val *root)
{
    struct fleet *fleet = reader->fleet;
    yyjson_val *clients, *row;
    size_t index, count;
    reader->where = root;
    int r = json_get_array(root, "clients", JSON_OPTIONAL, &clients, reader->err);
    if (r <= 0)
        return r;
    reader->where = clients;
    if (yyjson_arr_size(clients) > FLEET_PLACES_MAX - FLEET_POPS_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "at most %d rows of clients",
                       FLEET_PLACES_MAX - FLEET_POPS_MAX);
    fleet->clients = ARENA_ARRAY(reader->arena, struct fleet_clients, FLEET_BLOCKS_MAX);
    yyjson_arr_foreach(clients, index, count, row)
    {
        r = read_client(reader, row);
        if (r < 0)
            return err_wrap(reader->err, "clients, number %zu", index + 1);
    }
    return 0;
}

/* ---- links ---------------------------------------------------------------------------------- */

static void links_default(struct reader *reader)
{
    struct fleet *fleet = reader->fleet;
    fleet->links =
        ARENA_ARRAY(reader->arena, struct fleet_link, fleet->place_count * fleet->pop_count);
    for (size_t place = 0; place < fleet->place_count; place++)
        for (size_t pop = 0; pop < fleet->pop_count; pop++) {
            float km = spot_km(fleet->places[place].spot, fleet->places[pop].spot);
            fleet->links[place * fleet->pop_count + pop].rtt_us =
                place == pop ? 0 : (uint32_t)(rtt_ms(km) * 1000);
        }
}

static int read_time(struct reader *reader, yyjson_val *row, const char *key, uint32_t *ret_us)
{
    struct slice text;
    uint64_t ns;
    int r = json_get_string(row, key, JSON_OPTIONAL, &text, reader->err);
    if (r <= 0)
        return r;
    if ((r = units_parse_time(text, &ns, reader->err)) < 0)
        return err_wrap(reader->err, "'%s'", key);
    if (ns / 1000 > FLEET_TIME_US_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "'%s' is more than an hour", key);
    *ret_us = (uint32_t)(ns / 1000);
    return 0;
}

static int read_bandwidth(struct reader *reader, yyjson_val *row, uint64_t *ret)
{
    struct slice text;
    uint64_t bytes;
    int r = json_get_string(row, "bandwidth", JSON_OPTIONAL, &text, reader->err);
    if (r <= 0)
        return r;
    if (!slice_ends(text, SLICE("/s")))
        return err_set(reader->err, ERR_BAD_INPUT, "'bandwidth' is bytes a second, as in 10MB/s");
    text.size -= 2;
    if ((r = units_parse_bytes(text, &bytes, reader->err)) < 0)
        return err_wrap(reader->err, "'bandwidth'");
    if (bytes < 1000 || bytes > FLEET_BANDWIDTH_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "'bandwidth' is 1KB/s to 125GB/s");
    *ret = bytes;
    return 0;
}

/* What the row says goes over what was there. */
static int read_terms(struct reader *reader, yyjson_val *row, struct fleet_link *link)
{
    struct slice loss;
    reader->where = row;
    int r = read_time(reader, row, "rtt", &link->rtt_us);
    if (r == 0)
        r = read_time(reader, row, "jitter", &link->jitter_us);
    if (r == 0)
        r = read_bandwidth(reader, row, &link->bandwidth);
    if (r == 0 && (r = json_get_string(row, "loss", JSON_OPTIONAL, &loss, reader->err)) == 1) {
        if ((r = units_parse_share(loss, &link->loss_ppm, reader->err)) < 0)
            return err_wrap(reader->err, "'loss'");
    }
    if (r == 0)
        r = json_get_bool(row, "outage", JSON_OPTIONAL, &link->outage, reader->err);
    return r < 0 ? r : 0;
}

static int apply_both(struct reader *reader, yyjson_val *row, size_t a, size_t b)
{
    struct fleet *fleet = reader->fleet;
    int r = 0;
    if (b < fleet->pop_count)
        r = read_terms(reader, row, &fleet->links[a * fleet->pop_count + b]);
    if (r == 0 && a != b && a < fleet->pop_count)
        r = read_terms(reader, row, &fleet->links[b * fleet->pop_count + a]);
    return r;
}

static int apply_any(struct reader *reader, yyjson_val *row)
{
    struct fleet *fleet = reader->fleet;
    int r = 0;
    for (size_t place = 0; place < fleet->place_count && r == 0; place++)
        for (size_t pop = 0; pop < fleet->pop_count && r == 0; pop++)
            if (place != pop)
                r = read_terms(reader, row, &fleet->links[place * fleet->pop_count + pop]);
    return r;
}

static int read_ends(struct reader *reader, yyjson_val *between, uint16_t ret[static 2])
{
    reader->where = between;
    if (!yyjson_is_arr(between) || yyjson_arr_size(between) != 2)
        return err_set(reader->err, ERR_BAD_INPUT, "'between' is two places, or any");
    for (size_t i = 0; i < 2; i++) {
        yyjson_val *name = yyjson_arr_get(between, i);
        if (!yyjson_is_str(name))
            return err_set(reader->err, ERR_BAD_INPUT, "a place's name is a string, not %s",
                           json_kind(name));
        if (fleet_place_find(reader->fleet, json_slice(name), &ret[i], reader->err) < 0)
            return wrong(reader);
    }
    if (ret[0] >= reader->fleet->pop_count && ret[1] >= reader->fleet->pop_count)
        return err_set(reader->err, ERR_BAD_INPUT, "one of the two must be a PoP");
    return 0;
}

static int read_link(struct reader *reader, yyjson_val *row, bool any)
{
    static const char *const keys[] = { "between", "rtt",    "jitter", "bandwidth",
                                        "loss",    "outage", NULL };
    uint16_t ends[2];
    reader->where = row;
    if (!yyjson_is_obj(row))
        return err_set(reader->err, ERR_BAD_INPUT, "a link is a mapping, not %s", json_kind(row));
    int r = json_check_keys(row, keys, reader->err);
    if (r < 0)
        return r;
    yyjson_val *between = json_member(row, "between");
    if (slice_is(json_slice(between), "any"))
        return any ? apply_any(reader, row) : 0;
    if (any)
        return 0;
    r = read_ends(reader, between, ends);
    return r < 0 ? r : apply_both(reader, row, ends[0], ends[1]);
}

/* Those between any two come first, wherever they stand, so that others go over them. */
static int read_links(struct reader *reader, yyjson_val *root)
{
    yyjson_val *links, *row;
    size_t index, count;
    links_default(reader);
    reader->where = root;
    int r = json_get_array(root, "links", JSON_OPTIONAL, &links, reader->err);
    if (r <= 0)
        return r;
    for (int any = 1; any >= 0; any--) {
        yyjson_arr_foreach(links, index, count, row)
        {
            r = read_link(reader, row, any);
            if (r < 0)
                return err_wrap(reader->err, "link number %zu", index + 1);
        }
    }
    return 0;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int read_head(struct reader *reader, yyjson_val *root)
{
    static const char *const keys[] = { "version", "kind", "default_place", "pops", "clients",
                                        "links",   NULL };
    uint64_t version = 1;
    struct slice kind = SLICE("fleet");
    reader->where = root;
    if (!yyjson_is_obj(root))
        return err_set(reader->err, ERR_BAD_INPUT, "a fleet file is a mapping, not %s",
                       json_kind(root));
    int r = json_get_u64(root, "version", JSON_OPTIONAL, &version, reader->err);
    if (r >= 0 && version != 1)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "this is version %llu of the form; version 1 is known here",
                       (unsigned long long)version);
    if (r >= 0)
        r = json_get_string(root, "kind", JSON_OPTIONAL, &kind, reader->err);
    if (r >= 0 && !slice_is(kind, "fleet"))
        return err_set(reader->err, ERR_BAD_INPUT, "this is of kind '%s', not fleet",
                       ERR_SLICE(kind));
    return r < 0 ? r : json_check_keys(root, keys, reader->err);
}

static int read_default(struct reader *reader, yyjson_val *root)
{
    struct slice name;
    reader->fleet->default_place = FLEET_PLACE_NONE;
    reader->where = root;
    int r = json_get_string(root, "default_place", JSON_OPTIONAL, &name, reader->err);
    if (r <= 0)
        return r;
    reader->where = json_member(root, "default_place");
    if (fleet_place_find(reader->fleet, name, &reader->fleet->default_place, reader->err) == 0)
        return 0;
    (void)wrong(reader);
    return err_wrap(reader->err, "default_place");
}

static int read_all(struct reader *reader, yyjson_val *root)
{
    struct fleet *fleet = reader->fleet;
    int r = read_head(reader, root);
    if (r < 0)
        return r;
    fleet->places = ARENA_ARRAY(reader->arena, struct fleet_place, FLEET_PLACES_MAX);
    r = read_pops(reader, root);
    if (r == 0)
        r = read_clients(reader, root);
    if (r == 0)
        r = read_default(reader, root);
    if (r == 0)
        r = read_links(reader, root);
    return r;
}

int fleet_parse(struct arena *arena, struct slice text, const struct cities *cities,
                struct fleet *ret, struct err *err)
{
    struct yaml_limits limits = { .bytes_max = FLEET_BYTES_MAX };
    struct yaml_documents documents;
    struct fleet fleet = {};
    struct reader reader = { arena, cities, &fleet, NULL, err };
    int r = yaml_parse(arena, text, &limits, &documents, err);
    if (r < 0)
        return r;
    if (documents.count != 1)
        return err_set(err, ERR_BAD_INPUT, "a fleet file has one document, not %zu",
                       documents.count);
    r = read_all(&reader, documents.items[0].root);
    if (r < 0) {
        uint32_t line = yaml_line(&documents.items[0], reader.where);
        return line ? err_wrap(err, "line %u", line) : r;
    }
    *ret = fleet;
    return 0;
}

int fleet_read(struct arena *arena, const char *path, const struct cities *cities,
               struct fleet *ret, struct err *err)
{
    auto_free char *bytes = mem_alloc(FLEET_BYTES_MAX + 1);
    FILE *file = fopen(path, "re");
    if (!file)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_BAD_INPUT, "'%s': %s",
                       ERR_TEXT(path), strerror(errno));
    size_t size = fread(bytes, 1, FLEET_BYTES_MAX + 1, file);
    bool failed = ferror(file);
    (void)fclose(file);
    if (failed)
        return err_set(err, ERR_BAD_INPUT, "'%s' cannot be read: %s", ERR_TEXT(path),
                       strerror(EIO));
    struct slice text = arena_copy(arena, (struct slice){ bytes, size });
    int r = fleet_parse(arena, text, cities, ret, err);
    return r < 0 ? err_wrap(err, "'%s'", ERR_TEXT(path)) : 0;
}
