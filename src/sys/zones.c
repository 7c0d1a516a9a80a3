/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/zones.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "sys/env_linux.h"

enum { LIST_BYTES_MAX = 512 * 1024, NEAREST_MAX = 3, NEAREST_WRONG = 4 };

const char *zones_folder(void)
{
    const char *told = getenv("TZDIR");
    return told && told[0] == '/' ? told : "/usr/share/zoneinfo";
}

static int file_read(struct env *env, const char *path, size_t bytes_max, struct arena *arena,
                     struct slice *ret, struct err *err)
{
    return env ? env_file_read(env, path, bytes_max, arena, ret, err)
               : disk_read(path, bytes_max, arena, ret, err);
}

/* ---- what may have been meant ---------------------------------------------------------------- */

struct nearest {
    struct slice names[NEAREST_MAX];
    unsigned wrong[NEAREST_MAX];
    size_t count;
};

static struct slice last_part(struct slice name)
{
    for (size_t i = name.size; i > 0; i--)
        if (name.data[i - 1] == '/')
            return (struct slice){ name.data + i, name.size - i };
    return name;
}

/* Its city alone is enough: "Paris". */
static unsigned wrong_of(struct slice name, struct slice zone)
{
    struct slice city = last_part(zone);
    if (slice_equal_nocase(name, zone))
        return 0;
    unsigned whole = json_distance(name, zone, NEAREST_WRONG);
    unsigned part = json_distance(last_part(name), city, NEAREST_WRONG);
    /* A short name is soon like any other. */
    if (whole > zone.size / 3)
        whole = NEAREST_WRONG;
    if (part > city.size / 3)
        part = NEAREST_WRONG;
    return whole < part ? whole : part;
}

static void nearest_add(struct nearest *nearest, struct slice zone, unsigned wrong)
{
    size_t at = nearest->count < NEAREST_MAX ? nearest->count++ : NEAREST_MAX;
    for (; at > 0 && nearest->wrong[at - 1] > wrong; at--)
        if (at < NEAREST_MAX) {
            nearest->names[at] = nearest->names[at - 1];
            nearest->wrong[at] = nearest->wrong[at - 1];
        }
    if (at < NEAREST_MAX) {
        nearest->names[at] = zone;
        nearest->wrong[at] = wrong;
    }
}

/* tzdata.zi lists all names: "Z Europe/Paris ..." and "L Europe/Paris Europe/Monaco". */
static void nearest_find(struct slice list, struct slice name, struct nearest *ret)
{
    while (list.data) {
        struct slice line = slice_cut(&list, '\n');
        struct slice kind = slice_cut(&line, ' ');
        bool link = slice_is(kind, "L");
        if (!link && !slice_is(kind, "Z"))
            continue;
        struct slice zone = slice_cut(&line, ' ');
        if (link)
            zone = slice_cut(&line, ' ');
        unsigned wrong = wrong_of(name, zone);
        if (wrong < NEAREST_WRONG && tzif_check_name(zone, NULL) == 0)
            nearest_add(ret, zone, wrong);
    }
}

static int unknown(struct env *env, struct arena *arena, struct slice name, struct err *err)
{
    struct slice list = {};
    struct nearest nearest = {};
    const char *path = arena_format(arena, "%s/tzdata.zi", zones_folder());
    if (file_read(env, path, LIST_BYTES_MAX, arena, &list, NULL) < 0)
        return err_set(err, ERR_BAD_INPUT,
                       "there is no time zone '%s' in %s; is the package tzdata installed?",
                       ERR_SLICE(name), zones_folder());
    nearest_find(list, name, &nearest);
    const char *words = "";
    for (size_t i = 0; i < nearest.count; i++)
        words = arena_format(arena, "%s%s%.*s", words,
                             i == 0                   ? "; did you mean "
                             : i + 1 == nearest.count ? " or "
                                                      : ", ",
                             SLICE_FMT(nearest.names[i]));
    return err_set(err, ERR_BAD_INPUT, "there is no time zone '%s'%s%s", ERR_SLICE(name),
                   nearest.count ? words : "; names look like Europe/Paris",
                   nearest.count ? "?" : "");
}

/* ---- reading --------------------------------------------------------------------------------- */

int zones_read(struct env *env, struct arena *arena, struct slice name, struct tzif *ret,
               struct err *err)
{
    static const struct tzif_type utc = { .name = { "UTC", 3 } };
    struct slice bytes;
    if (slice_is(name, "UTC")) {
        *ret = (struct tzif){ .types = &utc, .type_count = 1 };
        return 0;
    }
    int r = tzif_check_name(name, err);
    if (r < 0)
        return r;
    const char *path = arena_format(arena, "%s/%.*s", zones_folder(), SLICE_FMT(name));
    r = file_read(env, path, TZIF_BYTES_MAX, arena, &bytes, err);
    if (r == ERR_NOT_FOUND || r == ERR_BAD_INPUT) /* a folder, as Europe is */
        return unknown(env, arena, name, err);
    if (r == 0)
        r = tzif_parse(arena, bytes, ret, err);
    return r < 0 ? err_wrap(err, "time zone '%s'", ERR_SLICE(name)) : 0;
}
