/* SPDX-License-Identifier: Apache-2.0 */
/* What endpoints have of volumes at a PoP, as it reports it: member "volumes". */
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "control/report.h"

static uint64_t number_of(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);
    return yyjson_is_uint(value) ? yyjson_get_uint(value) : 0;
}

static int by_endpoint(const void *a, const void *b)
{
    uint64_t one = ((const struct hub_volumes *)a)->endpoint_uid;
    uint64_t two = ((const struct hub_volumes *)b)->endpoint_uid;
    return (one > two) - (one < two);
}

/* Of what is said twice the first that is found counts. */
int report_volumes_read(struct arena *arena, yyjson_val *root, struct report *ret, struct err *err)
{
    yyjson_val *volumes, *item;
    size_t index, count;
    int r = json_get_array(root, "volumes", JSON_OPTIONAL, &volumes, err);
    if (r <= 0)
        return r;
    if (yyjson_arr_size(volumes) > REPORT_VOLUMES_MAX)
        return err_set(err, ERR_TOO_LARGE, "'volumes' has more than %d items",
                       (int)REPORT_VOLUMES_MAX);
    ret->volumes = ARENA_ARRAY(arena, struct hub_volumes, yyjson_arr_size(volumes) + 1);
    yyjson_arr_foreach(volumes, index, count, item)
    {
        struct hub_volumes row = { number_of(item, "endpoint_uid"), number_of(item, "bytes") };
        if (row.endpoint_uid && row.bytes)
            ret->volumes[ret->volumes_count++] = row;
    }
    qsort(ret->volumes, ret->volumes_count, sizeof *ret->volumes, by_endpoint);
    return 0;
}

uint64_t report_volumes_of(const struct hub_volumes *volumes, size_t count, uint64_t endpoint_uid)
{
    const struct hub_volumes key = { .endpoint_uid = endpoint_uid };
    const struct hub_volumes *found =
        count ? bsearch(&key, volumes, count, sizeof key, by_endpoint) : NULL;
    return found ? found->bytes : 0;
}
