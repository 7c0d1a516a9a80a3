/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Level-triggered: each time all keys of a PoP. With 300 PoPs that is 300 times a HMAC for each
 * that watches, 0.15 s in all when one joins; several that join within KEYS_SOON_MS cost it once.
 */
#include "control/keys.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/watch.h"
#include "io/timer.h"
#include "proto/hop.h"
#include "sys/env_linux.h"

enum { KEYS_SOON_MS = 50 };

struct keys {
    struct arena *memory; /* of this struct; a secret one */
    unsigned char secret[HOP_KEY_BYTES];
    char *told; /* who was there when agents were told; NULL: not yet */
    struct timer *soon;
};

static bool has_key(const struct hub_pop *pop)
{
    bool joined = pop->row.secret.size > 0 || pop->row.spec.size == 0; /* or it is that of `up` */
    return joined && hub_pop_state_of(pop) != HUB_POP_RETIRED;
}

/* A name and the secret it joined with; no name has a blank in it. */
static struct slice identity_of(struct arena *arena, const struct hub_pop *pop)
{
    return slice_of(
        arena_format(arena, "%.*s %.*s", SLICE_FMT(pop->name), SLICE_FMT(pop->row.secret)));
}

static struct slice identities(struct control *control, struct arena *arena)
{
    size_t bytes = 0, used = 0;
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        bytes += pop->name.size + pop->row.secret.size + 2;
    }
    char *all = arena_alloc(arena, bytes + 1);
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        if (!has_key(pop))
            continue;
        struct slice one = identity_of(arena, pop);
        memcpy(all + used, one.data, one.size);
        used += one.size;
        all[used++] = '\n';
    }
    all[used] = '\0';
    return (struct slice){ all, used };
}

static void on_soon(void *data)
{
    watch_pop_keys(data);
}

void keys_look(struct control *control)
{
    struct keys *keys = control->keys;
    if (!keys)
        return;
    struct arena *arena = arena_new();
    struct slice now = identities(control, arena);
    if (!keys->told || !slice_is(now, keys->told)) {
        free(keys->told);
        keys->told = mem_string(now);
        if (!keys->soon)
            keys->soon = timer_new(control->loop, on_soon, control);
        if (!timer_running(keys->soon))
            timer_start(keys->soon, KEYS_SOON_MS);
    }
    arena_free(arena);
}

struct slice keys_json(struct control *control, const struct hub_pop *pop, struct arena *arena)
{
    static const char digits[] = "0123456789abcdef";
    struct json_writer w;
    struct slice own = identity_of(arena, pop);
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_key(&w, "keys");
    json_array_begin(&w);
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *other = entry->value;
        unsigned char key[HOP_KEY_BYTES];
        char hex[2 * HOP_KEY_BYTES + 1];
        if (!control->keys || !has_key(other) || !has_key(pop))
            continue;
        hop_key(control->keys->secret, own, identity_of(arena, other), key);
        for (size_t i = 0; i < sizeof key; i++) {
            hex[2 * i] = digits[key[i] >> 4];
            hex[2 * i + 1] = digits[key[i] & 15];
        }
        hex[sizeof hex - 1] = '\0';
        json_object_begin(&w);
        json_member_string(&w, "pop", other->name);
        json_member_text(&w, "key", hex);
        json_object_end(&w);
        explicit_bzero(key, sizeof key);
        explicit_bzero(hex, sizeof hex);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

/* ---- life ----------------------------------------------------------------------------------- */

/* One that is lost, as by a restore of another home, is made anew: agents hear the keys that follow
 * from it as soon as they watch. */
int keys_open(struct control *control, struct err *err)
{
    struct arena *arena = arena_new_secret();
    struct slice bytes = {};
    const char *path = arena_format(arena, "%s/" CONTROL_KEY_FILE, control->start.home);
    struct keys *keys = control->keys = ARENA_NEW(arena, struct keys);
    keys->memory = arena;
    int r = disk_read(path, sizeof keys->secret, arena, &bytes, err);
    if (r == 0 && bytes.size != sizeof keys->secret)
        r = err_set(err, ERR_BAD_INPUT,
                    "%s has %zu bytes, not %d; remove it, and a new one is made", path, bytes.size,
                    (int)HOP_KEY_BYTES);
    if (r == 0)
        memcpy(keys->secret, bytes.data, sizeof keys->secret);
    if (r == ERR_NOT_FOUND) {
        env_random(control->env, keys->secret, sizeof keys->secret);
        r = disk_replace(path, (struct slice){ (const char *)keys->secret, sizeof keys->secret },
                         err); /* 0600 */
    }
    return r < 0 ? err_wrap(err, "the secret that PoPs' keys are made of") : 0;
}

void keys_close(struct control *control)
{
    struct keys *keys = take_ptr(control->keys);
    if (!keys)
        return;
    timer_free(keys->soon);
    free(keys->told);
    arena_free(keys->memory);
}
