/* SPDX-License-Identifier: Apache-2.0 */
/* Where a client of `infer --from` stands. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/from_own.h"
#include "cli/view.h"
#include "geo/cities.h"
#include "http/fetch.h"
#include "policy/rtt.h"
#include "sys/fd.h"
#include "sys/home.h"

enum {
    NEAR_KM = 50, /* a city is that place */
    PLACE_BYTES_MAX = 4 << 20,
};

yyjson_val *from_places(struct cli *cli)
{
    struct fetch_answer answer;
    struct err ignored;
    yyjson_val *root;
    struct fetch_request request = {
        .method = "GET",
        .url = "http://localhost/api/v1/fleet",
        .unix_path = arena_format(cli->arena, "%s/run/fleet.sock", cli->home),
        .body_fd = -1,
        .timeout_ms = 10'000,
        .answer_bytes_max = PLACE_BYTES_MAX,
    };
    if (access(request.unix_path, F_OK) < 0 || fetch(cli->arena, &request, &answer, &ignored) < 0 ||
        answer.status != 200 || json_parse(cli->arena, answer.body, NULL, &root, &ignored) < 0)
        return NULL;
    return json_member(root, "places");
}

/* Can sockets be bound to it? */
static bool is_ours(const struct ip *ip)
{
    struct address address;
    struct sockaddr_storage storage;
    address_from_ip(ip, 0, &address);
    socklen_t size = address_to(&address, &storage);
    auto_close int fd = socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&storage, size) == 0;
}

/* The first address of a block that is no network's own. */
static struct ip first_of(const struct ip_block *block)
{
    struct ip ip = block->ip;
    if (block->bits < 128)
        ip.bytes[15] |= 1;
    return ip;
}

bool from_face_of(yyjson_val *place, struct ip *ret)
{
    return ip_parse(view_text(place, "face"), ret);
}

/* As whom its clients come: bound where that is possible, else by subnet. False: it has none. */
static bool stand_at(struct from *from, yyjson_val *place)
{
    size_t index, count;
    yyjson_val *item;
    struct ip_block block;
    struct err ignored;
    struct ip face = {};
    bool some = false;
    yyjson_arr_foreach(json_member(place, "clients"), index, count, item)
    {
        if (ip_block_parse(json_slice(item), &block, &ignored) < 0)
            continue;
        struct ip first = first_of(&block);
        if (is_ours(&first)) {
            from->bound = true;
            from->source = first;
            return true;
        }
        if (!some)
            from->subnet = (struct ip_block){ first, 128 };
        some = true;
    }
    if (!some && from_face_of(place, &face) && is_ours(&face)) {
        from->bound = some = true; /* who stands where a PoP does */
        from->source = face;
    } else {
        from->with_subnet = some;
    }
    return some;
}

static struct spot spot_of(yyjson_val *place)
{
    return spot_at(yyjson_get_num(json_member(place, "latitude")),
                   yyjson_get_num(json_member(place, "longitude")));
}

static yyjson_val *place_near(const struct from *from, const struct city *city)
{
    struct spot spot = spot_at(city->latitude, city->longitude);
    yyjson_val *item, *best = NULL;
    float best_km = NEAR_KM;
    size_t index, count;
    yyjson_arr_foreach(from->places, index, count, item)
    {
        struct spot other = spot_of(item);
        float km = spot_km(spot, other);
        bool clients = yyjson_arr_size(json_member(item, "clients")) > 0;
        if (km < best_km || (clients && best && km <= best_km)) {
            best = item;
            best_km = km;
        }
    }
    return best;
}

/* By its name; clients of that name before a PoP. */
static yyjson_val *place_named(const struct from *from, struct slice name)
{
    yyjson_val *item, *best = NULL;
    size_t index, count;
    yyjson_arr_foreach(from->places, index, count, item)
    {
        if (!slice_equal_nocase(view_text(item, "name"), name))
            continue;
        if (!best || yyjson_arr_size(json_member(item, "clients")))
            best = item;
    }
    return best;
}

static const char *place_names(struct from *from)
{
    const char *all = NULL;
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(from->places, index, count, item)
    {
        struct slice name = view_text(item, "name");
        if (yyjson_arr_size(json_member(item, "clients")))
            all = all ? arena_format(from->cli->arena, "%s, %.*s", all, SLICE_FMT(name))
                      : arena_string(from->cli->arena, name);
    }
    return all ? all : "none";
}

static int stand_in_city(struct from *from, struct err *err)
{
    struct cities *cities;
    const struct city *city = NULL;
    char libdir[HOME_PATH_BYTES];
    struct slice name = slice_of(from->text);
    if (!from->places)
        return err_set(err, ERR_NOT_FOUND,
                       "--from %s: a city is a place of a network in a box, and none runs with the "
                       "home %s; an address is taken without one",
                       ERR_TEXT(from->text), from->cli->home);
    yyjson_val *place = place_named(from, name);
    int r = place ? 0 : home_libdir(libdir, err);
    if (!place && r == 0) {
        r = cities_open(arena_format(from->cli->arena, "%s/" CITIES_FILE, libdir), &cities, err);
        if (r == 0 && (r = cities_look_up(cities, name, &city, err)) == 0)
            place = place_near(from, city);
        if (r == 0 || city)
            cities_free(cities);
    }
    if (r < 0)
        return err_wrap(err, "--from");
    if (!place || !stand_at(from, place))
        return err_set(err, ERR_NOT_FOUND, "--from: no clients stand in %s; there are: %s",
                       ERR_TEXT(from->text), ERR_TEXT(place_names(from)));
    return 0;
}

int from_stand(struct from *from, struct err *err)
{
    struct ip ip;
    size_t index, count, i, blocks;
    yyjson_val *place, *item;
    struct ip_block block;
    struct err ignored;
    if (!ip_parse(slice_of(from->text), &ip))
        return stand_in_city(from, err);
    from->bound = is_ours(&ip);
    from->source = ip;
    from->with_subnet = !from->bound;
    from->subnet = (struct ip_block){ ip, 128 };
    if (from->bound)
        return 0;
    /* The box may have a client there whose connections it knows. */
    yyjson_arr_foreach(from->places, index, count, place)
    {
        yyjson_arr_foreach(json_member(place, "clients"), i, blocks, item)
        {
            if (ip_block_parse(json_slice(item), &block, &ignored) == 0 &&
                ip_block_has(&block, &ip)) {
                (void)stand_at(from, place);
                from->with_subnet = true;
                from->subnet = (struct ip_block){ ip, 128 };
            }
        }
    }
    return 0;
}
