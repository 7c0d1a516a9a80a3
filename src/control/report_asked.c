/* SPDX-License-Identifier: Apache-2.0 */
/* From where a PoP's clients came, as it reports it: member "demand". */
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "contract/asked.h"
#include "control/report.h"
#include "policy/rtt.h"

static uint64_t number_of(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);
    return yyjson_is_uint(value) ? yyjson_get_uint(value) : 0;
}

static int list_of(yyjson_val *object, const char *key, yyjson_val **ret, size_t *ret_count,
                   struct err *err)
{
    *ret = NULL;
    int r = json_get_array(object, key, JSON_OPTIONAL, ret, err);
    *ret_count = r > 0 ? yyjson_arr_size(*ret) : 0;
    if (*ret_count > REPORT_ASKED_MAX)
        return err_set(err, ERR_TOO_LARGE, "demand: '%s' has more than %d items", key,
                       (int)REPORT_ASKED_MAX);
    return r < 0 ? r : 0;
}

/* Where it stands is coarse, whatever is said: the middle of its field. */
static int read_asked_at(yyjson_val *item, struct report_asked *ret, struct err *err)
{
    struct slice country = {};
    double latitude = 0, longitude = 0;
    if (json_get_string(item, "country", JSON_OPTIONAL, &country, err) < 0)
        return ERR_BAD_INPUT;
    int located = json_get_double(item, "latitude", JSON_OPTIONAL, &latitude, err);
    if (located < 0 || json_get_double(item, "longitude", JSON_OPTIONAL, &longitude, err) < 0)
        return ERR_BAD_INPUT;
    if (!spot_valid(latitude, longitude))
        return err_set(err, ERR_BAD_INPUT, "demand: clients stand nowhere on Earth");
    ret->cell = asked_cell_of(country_number_of(country), located > 0, latitude, longitude);
    ret->requests = number_of(item, "requests");
    return 0;
}

int report_asked_read(struct arena *arena, yyjson_val *root, struct report *ret, struct err *err)
{
    yyjson_val *demand, *endpoints, *clients, *item, *client;
    size_t index, count, at, client_count, all = 0;
    int r = json_get_object(root, "demand", JSON_OPTIONAL, &demand, err);
    if (r <= 0)
        return r;
    ret->asked_ms = number_of(demand, "window_ms");
    if ((r = list_of(demand, "endpoints", &endpoints, &count, err)) < 0)
        return r;
    yyjson_arr_foreach(endpoints, index, count, item)
    {
        if ((r = list_of(item, "clients", &clients, &client_count, err)) < 0)
            return r;
        all += client_count;
    }
    if (all > REPORT_ASKED_MAX)
        return err_set(err, ERR_TOO_LARGE, "demand: more than %d places of clients",
                       (int)REPORT_ASKED_MAX);
    ret->asked = ARENA_ARRAY(arena, struct report_asked, all + 1);
    yyjson_arr_foreach(endpoints, index, count, item)
    {
        uint64_t uid = number_of(item, "uid");
        clients = json_member(item, "clients");
        yyjson_arr_foreach(clients, at, client_count, client)
        {
            struct report_asked *asked = &ret->asked[ret->asked_count++];
            asked->uid = uid;
            if (read_asked_at(client, asked, err) < 0)
                return ERR_BAD_INPUT;
        }
    }
    return 0;
}
