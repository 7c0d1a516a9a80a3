/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/told.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "pop/state.h"

void pop_told_open(struct pop_told *told)
{
    *told = (struct pop_told){ .mark = told->mark };
}

void pop_told_forget(struct pop_told *told)
{
    *told = (struct pop_told){};
}

/* Told again it may be as unreadable as now, but then all is told. */
static enum pop_told_what lose(struct pop_told *told, const char *what, const struct err *err)
{
    log_error("pop", "what control tells cannot be read, leaving it as it was", LOG_S("what", what),
              LOG_S("error", err->message));
    told->lost = true;
    told->mark = (struct watch_mark){};
    return POP_TOLD_NOTHING;
}

static int gone(struct pop *pop, struct slice data, struct err *err)
{
    struct arena *arena = arena_new();
    yyjson_val *root;
    uint64_t uid;
    int r = json_parse(arena, data, NULL, &root, err);
    if (r == 0 && json_get_u64(root, "uid", JSON_REQUIRED, &uid, err) < 0)
        r = ERR_BAD_INPUT;
    arena_free(arena);
    if (r == 0)
        pop_endpoint_gone(pop, uid);
    return r;
}

/* Nothing is taken yet: what is known stays as it is where this is not to go on from there. */
static enum pop_told_what astray(struct pop_told *told)
{
    log_warn("pop", "control goes on from what this PoP does not have, asking for all");
    pop_told_forget(told);
    return POP_TOLD_ASTRAY;
}

static enum pop_told_what begin(struct pop_told *told, struct pop *pop,
                                const struct watch_begins *begins)
{
    told->begun = true;
    told->epoch = begins->epoch;
    told->resumed = begins->resumed;
    if (told->resumed && (!told->mark.epoch || told->mark.epoch != told->epoch))
        return astray(told);
    if (!told->resumed) { /* what comes is no part of what was there before */
        told->mark = (struct watch_mark){};
        pop_sync_begin(pop);
    }
    return POP_TOLD_NOTHING;
}

static enum pop_told_what begins(struct pop_told *told, struct pop *pop, struct slice data)
{
    struct watch_begins said;
    struct err err = {};
    if (told->begun) /* said twice */
        return POP_TOLD_NOTHING;
    if (watch_begins_read(data, &said, &err) == 0)
        return begin(told, pop, &said);
    (void)lose(told, "begins", &err);
    return POP_TOLD_ASTRAY;
}

/* What was not told is here already. */
static bool knows(struct pop *pop, const struct watch_synced *said)
{
    for (size_t i = 0; i < said->uid_count; i++) {
        const struct pop_endpoint *endpoint = pop_endpoint_find(pop, said->uids[i]);
        if (!endpoint || !endpoint->wanted)
            return false;
    }
    return true;
}

static enum pop_told_what synced(struct pop_told *told, struct pop *pop, struct slice data)
{
    struct arena *arena = arena_new();
    struct watch_synced said;
    struct err err = {};
    enum pop_told_what what = POP_TOLD_ASTRAY;
    if (watch_synced_read(arena, data, &said, &err) < 0) {
        (void)lose(told, "synced", &err);
    } else if (told->resumed && !knows(pop, &said)) {
        what = astray(told);
    } else {
        pop_sync(pop, said.uids, said.uid_count);
        told->synced = true;
        if (!told->lost)
            told->mark = (struct watch_mark){ told->epoch, told->number };
        what = told->resumed ? POP_TOLD_CHANGES : POP_TOLD_ALL;
    }
    arena_free(arena);
    return what;
}

static enum pop_told_what take(struct pop_told *told, struct pop *pop, struct slice kind,
                               struct slice data)
{
    struct err err = {};
    if (slice_is(kind, "begins"))
        return begins(told, pop, data);
    if (!told->begun) /* a control of before: all of the state */
        (void)begin(told, pop, &(struct watch_begins){});
    if (slice_is(kind, "synced"))
        return synced(told, pop, data);
    if (slice_is(kind, "explain"))
        return POP_TOLD_QUESTION;
    if (slice_is(kind, "gone"))
        return gone(pop, data, &err) < 0 ? lose(told, "gone", &err) : POP_TOLD_NOTHING;
    if (slice_is(kind, "secret"))
        return pop_secret_apply(pop, data, &err) < 0 ? lose(told, "secret", &err)
                                                     : POP_TOLD_NOTHING;
    if (slice_is(kind, "secrets"))
        return pop_secrets_keep(pop, data, &err) < 0 ? lose(told, "secrets", &err)
                                                     : POP_TOLD_NOTHING;
    if (slice_is(kind, "endpoint")) {
        if (pop_endpoint_apply(pop, data, &err) < 0)
            (void)lose(told, "endpoint", &err);
        return POP_TOLD_ENDPOINT;
    }
    if (slice_is(kind, "pops"))
        return pop_peers_apply(pop, data, &err) < 0 ? lose(told, "pops", &err) : POP_TOLD_PEERS;
    if (slice_is(kind, "keys"))
        return pop_keys_apply(pop, data, &err) < 0 ? lose(told, "keys", &err) : POP_TOLD_KEYS;
    return POP_TOLD_NOTHING; /* a newer control's */
}

/* Control numbers events upwards; several may have one number (all that a watch begins with). */
enum pop_told_what pop_told_event(struct pop_told *told, struct pop *pop, struct slice kind,
                                  struct slice id, struct slice data)
{
    uint64_t number = 0;
    (void)slice_u64(id, &number);
    if (number && number < told->number) {
        log_warn("pop", "an event from control is older than the last one, ignoring",
                 LOG_SLICE("event", kind), LOG_U("id", number));
        return POP_TOLD_NOTHING;
    }
    if (number)
        told->number = number;
    if (told->synced && told->mark.epoch)
        told->mark.number = told->number;
    return take(told, pop, kind, data);
}
