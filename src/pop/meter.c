/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/meter.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"

enum { ROUNDED_US = 10 }; /* by which a process's end may say less than its clock did */

struct meter_revision {
    uint64_t uid;
    struct figures sums;
    uint64_t memory_rest, reserved_rest; /* KiB-milliseconds below a second's worth */
    struct ledger_counter_mark counted;
    bool known; /* `counted` is a mark, of this life of the counters */
    bool busy;  /* requests ended in this second */
    bool changed;
};

struct meter_replica {
    struct ledger_replica_mark mark;
    bool based; /* what it had used before it was seen is not to be counted, and was not yet */
    bool told;  /* the supervisor told of it to this agent */
    bool seen;  /* it was looked at in this second */
    bool busy;  /* requests ended since it was: an agent that begins hears of them before */
};

void meter_init(struct meter *meter, uint64_t era)
{
    *meter = (struct meter){ .era = era, .fresh = true };
}

static void map_free(struct map *map)
{
    MAP_EACH (entry, map)
        free(entry->value);
    map_deinit(map);
}

void meter_deinit(struct meter *meter)
{
    map_free(&meter->replicas);
    map_free(&meter->revisions);
}

static struct meter_revision *revision_get(struct meter *meter, uint64_t uid)
{
    struct meter_revision *revision = map_get_u64(&meter->revisions, uid);
    if (revision)
        return revision;
    revision = mem_zalloc(sizeof *revision);
    revision->uid = uid;
    map_put_u64(&meter->revisions, uid, revision);
    return revision;
}

static struct meter_replica *replica_new(struct meter *meter, uint64_t id)
{
    struct meter_replica *replica = mem_zalloc(sizeof *replica);
    replica->mark.replica = id;
    map_put_u64(&meter->replicas, id, replica);
    return replica;
}

static void replica_drop(struct meter *meter, uint64_t id)
{
    free(map_remove_u64(&meter->replicas, id));
}

void meter_restore(struct meter *meter, const struct ledger_marks *marks)
{
    meter->fresh = false;
    if (marks->era != meter->era)
        return;
    for (uint32_t i = 0; i < marks->replica_count; i++) {
        replica_drop(meter, marks->replicas[i].replica);
        replica_new(meter, marks->replicas[i].replica)->mark = marks->replicas[i];
    }
    for (uint32_t i = 0; i < marks->counter_count; i++) {
        struct meter_revision *revision = revision_get(meter, marks->counters[i].revision_uid);
        revision->counted = marks->counters[i];
        revision->known = true;
    }
}

/* ---- replicas -------------------------------------------------------------------------------- */

static bool has_other(const struct meter *meter, uint64_t id, uint64_t revision_uid)
{
    MAP_EACH (entry, &meter->replicas) {
        const struct ledger_replica_mark *mark =
            &((const struct meter_replica *)entry->value)->mark;
        if (mark->replica != id && !(mark->flags & LEDGER_MARK_ENDED) &&
            mark->revision_uid >> LEDGER_REVISION_BITS == revision_uid >> LEDGER_REVISION_BITS)
            return true;
    }
    return false;
}

void meter_replica(struct meter *meter, uint64_t id, uint64_t revision_uid, uint64_t reserved_kib,
                   bool own, uint64_t age_ms, int64_t now_ms)
{
    struct meter_replica *replica = map_get_u64(&meter->replicas, id);
    if (replica) {
        replica->told = true;
        return;
    }
    struct meter_revision *revision = revision_get(meter, revision_uid);
    replica = replica_new(meter, id);
    replica->told = true;
    replica->based = !own && meter->fresh;
    replica->mark.revision_uid = revision_uid;
    replica->mark.reserved_kib = reserved_kib;
    replica->mark.memory_kib = METER_UNKNOWN;
    replica->mark.until_ms = now_ms - (own || meter->fresh ? 0 : (int64_t)age_ms);
    if (replica->based)
        return;
    revision->sums.starts++;
    revision->sums.cold_starts += !has_other(meter, id, revision_uid);
    revision->changed = true;
}

/* Whole KiB-seconds of what came and what was left; the rest stays for the next time. */
static void integrate(uint64_t *sum, uint64_t *rest, uint64_t kib, uint64_t ms)
{
    __extension__ unsigned __int128 all = (unsigned __int128)kib * ms + *rest;
    *sum += (uint64_t)(all / 1000);
    *rest = (uint64_t)(all % 1000);
}

/* The time since the look before, and the CPU time in it. */
static void count(struct meter *meter, struct meter_replica *replica, uint64_t cpu_us,
                  uint64_t memory_kib, bool runs, int64_t now_ms)
{
    struct ledger_replica_mark *mark = &replica->mark;
    struct meter_revision *revision = revision_get(meter, mark->revision_uid);
    struct figures *sums = &revision->sums;
    bool ready = mark->flags & LEDGER_MARK_READY,
         busy = ready && (runs || revision->busy || replica->busy);
    uint64_t ms = now_ms > mark->until_ms ? (uint64_t)(now_ms - mark->until_ms) : 0;
    uint64_t before = mark->memory_kib == METER_UNKNOWN ? memory_kib : mark->memory_kib;
    uint64_t after = memory_kib == METER_UNKNOWN ? before : memory_kib;
    uint64_t cpu = cpu_us > mark->cpu_us ? cpu_us - mark->cpu_us : 0;
    meter->odd += cpu_us + ROUNDED_US < mark->cpu_us;
    sums->cpu_us += cpu;
    sums->busy_us += busy ? cpu : 0;
    sums->start_us += ready ? 0 : cpu;
    sums->life_ms += ms;
    sums->idle_ms += ready && !busy ? ms : 0;
    if (before != METER_UNKNOWN)
        integrate(&sums->memory_kibs, &revision->memory_rest, before / 2 + after / 2, ms);
    integrate(&sums->reserved_kibs, &revision->reserved_rest, mark->reserved_kib, ms);
    mark->cpu_us += cpu;
    mark->until_ms += (int64_t)ms;
    mark->memory_kib = after;
    replica->busy = false;
    replica->seen = true;
    revision->changed = revision->changed || cpu || ms;
}

void meter_look(struct meter *meter, uint64_t id, const struct meter_use *use, int64_t now_ms)
{
    struct meter_replica *replica = map_get_u64(&meter->replicas, id);
    if (!replica || replica->mark.flags & LEDGER_MARK_ENDED)
        return;
    if (replica->based) {
        replica->mark.cpu_us = use->cpu_us;
        replica->mark.until_ms = now_ms;
        replica->based = false;
    }
    count(meter, replica, use->cpu_us, use->memory_kib, use->runs, now_ms);
}

void meter_ready(struct meter *meter, uint64_t id)
{
    struct meter_replica *replica = map_get_u64(&meter->replicas, id);
    if (replica)
        replica->mark.flags |= LEDGER_MARK_READY;
}

bool meter_ended(struct meter *meter, uint64_t id, uint64_t revision_uid, uint64_t cpu_us,
                 int64_t now_ms)
{
    struct meter_replica *replica = map_get_u64(&meter->replicas, id);
    if (!replica && (meter->fresh || cpu_us == 0))
        return false; /* not of this ledger's time; or it never ran */
    if (!replica) {
        meter_replica(meter, id, revision_uid, 0, true, 0, now_ms);
        replica = map_get_u64(&meter->replicas, id);
    }
    if (replica->mark.flags & LEDGER_MARK_ENDED)
        return false;
    if (replica->based)
        replica->mark.cpu_us = cpu_us;
    count(meter, replica, cpu_us, METER_UNKNOWN, false, now_ms);
    replica->mark.flags |= LEDGER_MARK_ENDED;
    replica->told = true;
    return true;
}

void meter_forget(struct meter *meter, uint64_t id)
{
    struct meter_replica *replica = map_get_u64(&meter->replicas, id);
    if (replica && replica->mark.flags & LEDGER_MARK_ENDED)
        replica_drop(meter, id);
}

void meter_told(struct meter *meter, uint64_t id)
{
    struct meter_replica *replica = map_get_u64(&meter->replicas, id);
    if (replica)
        replica->told = true;
}

void meter_forget_untold(struct meter *meter)
{
    MAP_EACH (entry, &meter->replicas)
        if (!((const struct meter_replica *)entry->value)->told)
            replica_drop(meter, entry->key.size);
}

/* ---- counts ---------------------------------------------------------------------------------- */

/* Counters that went down began anew: all of them is new. */
static uint64_t more(uint64_t total, uint64_t before, bool anew)
{
    return anew ? total : total - before;
}

void meter_counts(struct meter *meter, const struct ledger_counter_mark *totals, bool begun)
{
    struct meter_revision *revision = revision_get(meter, totals->revision_uid);
    const struct ledger_counter_mark *before = &revision->counted;
    struct figures *sums = &revision->sums;
    if (!revision->known && begun && meter->fresh) {
        revision->counted = *totals;
        revision->known = true;
        return;
    }
    bool anew = totals->requests < before->requests || totals->failures < before->failures ||
                totals->bytes_in < before->bytes_in || totals->bytes_out < before->bytes_out;
    uint64_t requests = more(totals->requests, before->requests, anew);
    uint64_t failures = more(totals->failures, before->failures, anew);
    uint64_t bytes_in = more(totals->bytes_in, before->bytes_in, anew);
    uint64_t bytes_out = more(totals->bytes_out, before->bytes_out, anew);
    bool any = requests || failures || bytes_in || bytes_out;
    sums->requests += requests;
    sums->failures += failures;
    sums->bytes_in += bytes_in;
    sums->bytes_out += bytes_out;
    revision->busy = revision->busy || any;
    revision->changed = revision->changed || any;
    revision->counted = *totals;
    revision->known = true;
}

void meter_uncounted(struct meter *meter, uint64_t uid)
{
    struct meter_revision *revision = map_get_u64(&meter->revisions, uid);
    if (revision)
        revision->known = false;
    if (revision)
        revision->counted = (struct ledger_counter_mark){};
}

void meter_second(struct meter *meter)
{
    MAP_EACH (entry, &meter->replicas) {
        struct meter_replica *replica = entry->value;
        const struct meter_revision *revision =
            map_get_u64(&meter->revisions, replica->mark.revision_uid);
        replica->busy = replica->busy || (!replica->seen && revision && revision->busy);
        replica->seen = false;
    }
    MAP_EACH (entry, &meter->revisions)
        ((struct meter_revision *)entry->value)->busy = false;
}

/* ---- windows --------------------------------------------------------------------------------- */

struct ledger_marks meter_marks(const struct meter *meter, struct arena *arena)
{
    struct ledger_marks marks = { .era = meter->era };
    marks.replicas = ARENA_ARRAY(arena, struct ledger_replica_mark, meter->replicas.count + 1);
    marks.counters = ARENA_ARRAY(arena, struct ledger_counter_mark, meter->revisions.count + 1);
    MAP_EACH (entry, &meter->replicas) {
        const struct meter_replica *replica = entry->value;
        if (marks.replica_count < LEDGER_MARKS_MAX && !replica->based)
            marks.replicas[marks.replica_count++] = replica->mark;
    }
    MAP_EACH (entry, &meter->revisions) {
        const struct meter_revision *revision = entry->value;
        if (marks.counter_count < LEDGER_MARKS_MAX && revision->known) {
            marks.counters[marks.counter_count] = revision->counted;
            marks.counters[marks.counter_count++].revision_uid = revision->uid;
        }
    }
    return marks;
}

bool meter_window(struct meter *meter, struct arena *arena, struct ledger_record *ret)
{
    struct ledger_row *rows = ARENA_ARRAY(arena, struct ledger_row, meter->revisions.count + 1);
    uint32_t used = 0;
    MAP_EACH (entry, &meter->revisions) {
        struct meter_revision *revision = entry->value;
        if (!revision->changed && !revision->known)
            free(map_remove_u64(&meter->revisions, entry->key.size)); /* the gateway has none */
        if (!entry->value || !revision->changed || used == LEDGER_ROWS_MAX)
            continue; /* a later window has those */
        static const struct figures none;
        struct ledger_row *row = &rows[used++];
        *row = (struct ledger_row){ revision->uid >> LEDGER_REVISION_BITS,
                                    revision->uid & ((1u << LEDGER_REVISION_BITS) - 1), none };
        figures_add(&row->figures, &revision->sums); /* within its bounds */
        revision->sums = none;
        revision->changed = false;
    }
    if (!used)
        return false;
    qsort(rows, used, sizeof *rows, ledger_row_order);
    ret->type = LEDGER_WINDOW;
    ret->rows = rows;
    ret->row_count = used;
    ret->marks = meter_marks(meter, arena);
    return true;
}
