/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/split.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

enum { WEIGHT_MAX = 1'000'000, REVISION_MAX = 0xffffff };

static const char key[] = "traffic.split";
static const char *const share_keys[] = { "revision", "weight", NULL };

struct reader {
    yyjson_val **where;
    struct err *err;
};

static int number_read(const struct reader *reader, yyjson_val *value, const char *name,
                       uint64_t min, uint64_t max, uint64_t *ret)
{
    *reader->where = value;
    if (!yyjson_is_uint(value))
        return err_set(reader->err, ERR_BAD_INPUT, "%s: must be an integer%s, not %s", name,
                       min ? " or latest" : "",
                       yyjson_is_int(value) ? "one below 0" : json_kind(value));
    *ret = yyjson_get_uint(value);
    if (*ret < min || *ret > max)
        return err_set(reader->err, ERR_BAD_INPUT, "%s: %llu is not within %llu to %llu", name,
                       (unsigned long long)*ret, (unsigned long long)min, (unsigned long long)max);
    return 0;
}

static int share_read(const struct reader *reader, yyjson_val *value, struct spec_share *ret)
{
    *reader->where = value;
    if (!yyjson_is_obj(value))
        return err_set(reader->err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(value));
    int r = json_check_keys(value, share_keys, reader->err);
    if (r < 0)
        return r;
    yyjson_val *revision = json_member(value, "revision"), *weight = json_member(value, "weight");
    if (!revision || !weight)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "'%s' is missing, as in {revision: 3, weight: 90}",
                       revision ? "weight" : "revision");
    ret->revision = SPEC_LATEST;
    if (!slice_is(json_slice(revision), "latest"))
        r = number_read(reader, revision, "revision", 1, REVISION_MAX, &ret->revision);
    return r < 0 ? r : number_read(reader, weight, "weight", 0, WEIGHT_MAX, &ret->weight);
}

static bool named_before(const struct spec_share *shares, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (shares[i].revision == shares[at].revision)
            return true;
    return false;
}

int spec_split_read(struct arena *arena, yyjson_val *value, struct spec_split *ret,
                    yyjson_val **ret_where, struct err *err)
{
    const struct reader reader = { ret_where, err };
    size_t count = yyjson_arr_size(value), index = 0;
    uint64_t sum = 0;
    *ret_where = value;
    if (!yyjson_is_arr(value))
        return err_set(err, ERR_BAD_INPUT, "%s: must be a list of {revision, weight}, not %s", key,
                       json_kind(value));
    if (count == 0 || count > SPEC_SHARES_MAX)
        return err_set(err, ERR_BAD_INPUT, "%s: %zu entries; there can be 1 to %d", key, count,
                       (int)SPEC_SHARES_MAX);
    struct spec_share *shares = ARENA_ARRAY(arena, struct spec_share, count);
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(value, &iter);
    for (yyjson_val *at; (at = yyjson_arr_iter_next(&iter)); index++) {
        if (share_read(&reader, at, &shares[index]) < 0)
            return err_wrap(err, "%s[%zu]", key, index);
        if (named_before(shares, index))
            return err_set(err, ERR_BAD_INPUT, "%s[%zu]: that revision is there twice", key, index);
        sum += shares[index].weight;
    }
    *ret_where = value;
    if (sum == 0)
        return err_set(err, ERR_BAD_INPUT, "%s: all weights are 0: some revision must serve", key);
    *ret = (struct spec_split){ shares, count };
    return 0;
}

yyjson_mut_val *spec_split_value(const struct spec_split *split, yyjson_mut_doc *doc)
{
    if (split->count == 0)
        return yyjson_mut_null(doc);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (size_t i = 0; i < split->count; i++) {
        const struct spec_share *share = &split->items[i];
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, list);
        if (share->revision == SPEC_LATEST)
            yyjson_mut_obj_add_str(doc, object, "revision", "latest");
        else
            yyjson_mut_obj_add_uint(doc, object, "revision", share->revision);
        yyjson_mut_obj_add_uint(doc, object, "weight", share->weight);
    }
    return list;
}
