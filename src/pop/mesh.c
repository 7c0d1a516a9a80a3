/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/mesh.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "policy/believed.h"

/* What load.h makes of figures in peer_load.h's bounds is in those of contract/mesh.h. */
#define COLD_WEIGHT 1.0f /* of a place without a replica that is ready */

/* ---- who is there ------------------------------------------------------------------------ */

void pop_mesh_init(struct pop_mesh *mesh)
{
    *mesh = (struct pop_mesh){};
    list_init(&mesh->peers);
}

static void lines_free(struct pop_mesh_peer *peer)
{
    MAP_EACH (entry, &peer->lines) {
        free(entry->value);
        peer->mesh->line_count--;
    }
    map_deinit(&peer->lines);
    peer->life = peer->number = 0;
}

static void peer_free(struct pop_mesh_peer *peer)
{
    list_remove(&peer->link);
    peer->mesh->peer_count--;
    lines_free(peer);
    free(peer->reached);
    free(peer);
}

void pop_mesh_deinit(struct pop_mesh *mesh)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        peer_free(peer);
}

struct pop_mesh_peer *pop_mesh_find(struct pop_mesh *mesh, struct slice name)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        if (slice_is(name, peer->name))
            return peer;
    return NULL;
}

/* Those that come together are asked one after the other, not all in one moment. */
static struct pop_mesh_peer *peer_new(struct pop_mesh *mesh, struct slice name, int64_t now_ns)
{
    struct pop_mesh_peer *peer = mem_zalloc(sizeof *peer);
    memcpy(peer->name, name.data, name.size);
    peer->key = peer_load_name(name);
    peer->mesh = mesh;
    peer->due_ns = now_ns + (int64_t)(mesh->peer_count % 100) * 2'000'000;
    peer->since_ns = now_ns;
    peer->shown_health = MESH_UNSAID;
    list_append(&mesh->peers, &peer->link);
    mesh->peer_count++;
    return peer;
}

static void peer_set(struct pop_mesh *mesh, const struct table_source_pop *pop, bool self,
                     const struct address *own, int64_t now_ns)
{
    struct pop_mesh_peer *peer = pop_mesh_find(mesh, pop->name);
    if (pop->name.size >= MESH_NAME_BYTES || mesh->peer_count >= MESH_POPS_MAX ||
        (self ? own->kind == ADDRESS_NONE : pop->address_count == 0))
        return;
    if (!peer)
        peer = peer_new(mesh, pop->name, now_ns);
    peer->listed = true;
    peer->self = self;
    peer->beside = mesh->beside && slice_is(pop->name, mesh->beside);
    peer->draining = pop->flags & TABLE_POP_DRAINING;
    if (pop->flags & TABLE_POP_UP)
        peer->told_ns = 0;
    else if (peer->told_ns == 0)
        peer->told_ns = now_ns;
    peer->address_count = 0;
    if (self)
        peer->addresses[peer->address_count++] = *own;
    for (size_t i = 0; !self && i < pop->address_count && i < POP_ADDRESSES_MAX; i++)
        address_from_ip(&pop->addresses[i], pop->port ? pop->port : TABLE_PORT_DEFAULT,
                        &peer->addresses[peer->address_count++]);
    if (peer->address_at >= peer->address_count)
        peer->address_at = 0;
}

void pop_mesh_set(struct pop_mesh *mesh, const struct table_source_pop *pops, size_t count,
                  struct slice self, const struct address *own,
                  void (*on_gone)(struct pop_mesh_peer *peer), int64_t now_ns)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        peer->listed = false;
    for (size_t i = 0; i < count; i++)
        peer_set(mesh, &pops[i], slice_equal(pops[i].name, self), own, now_ns);
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        if (peer->listed)
            continue;
        on_gone(peer);
        peer_free(peer);
    }
    mesh->dirty = true;
}

bool pop_mesh_needed(const struct pop_mesh *mesh)
{
    const struct pop_mesh_peer *peer;
    LIST_EACH (peer, &((struct pop_mesh *)(uintptr_t)mesh)->peers, struct pop_mesh_peer, link)
        if (!peer->self)
            return true;
    return false;
}

/* ---- what they answer -------------------------------------------------------------------- */

static void line_put(struct pop_mesh_peer *peer, const struct peer_load_row *row)
{
    struct pop_mesh_line *line = map_get_u64(&peer->lines, row->endpoint);
    if (!line) {
        if (peer->mesh->line_count >= MESH_LINES_MAX || peer->lines.count >= PEER_LOAD_ROWS_MAX)
            return; /* none takes the room of the others, one delta after the other */
        line = mem_zalloc(sizeof *line);
        (void)map_put_u64(&peer->lines, row->endpoint, line);
        peer->mesh->line_count++;
    }
    line->row = *row;
}

static void lines_keep(struct pop_mesh_peer *peer, struct slice report, uint32_t count)
{
    struct map old = peer->lines; /* what load.h has learned stays with those that stay */
    peer->lines = (struct map){};
    peer->mesh->line_count -= old.count;
    for (uint32_t i = 0; i < count; i++) {
        struct peer_load_row row = peer_load_row(report, i);
        struct pop_mesh_line *line = map_remove_u64(&old, row.endpoint);
        if (line) {
            (void)map_put_u64(&peer->lines, row.endpoint, line);
            peer->mesh->line_count++;
        }
        line_put(peer, &row);
    }
    MAP_EACH (entry, &old)
        free(entry->value);
    map_deinit(&old);
}

static void lines_learn(struct pop_mesh_peer *peer, int64_t now_ns)
{
    MAP_EACH (entry, &peer->lines) {
        struct pop_mesh_line *line = entry->value;
        const struct load_report report = {
            .arrivals_per_s = line->row.arrivals_per_s,
            .capacity_per_s = line->row.capacity_per_s,
            .places = line->row.places,
            .waiting = line->row.waiting,
        };
        (void)load_learn(&line->load, &report, now_ns);
    }
}

static void reached_take(struct pop_mesh_peer *peer, struct slice report,
                         const struct peer_load_head *head)
{
    peer->reached_count = peer_load_reached(head);
    if (peer->reached_count == 0)
        return;
    peer->reached = mem_resize(peer->reached, peer->reached_count, sizeof *peer->reached);
    memcpy(peer->reached, report.data + peer_load_bytes(head->version, head->count, 0),
           peer->reached_count * sizeof *peer->reached);
}

static int report_take(struct pop_mesh_peer *peer, struct slice report, struct err *err)
{
    int r = peer_load_check(report, err);
    if (r < 0)
        return r;
    struct peer_load_head head = peer_load_head(report);
    if (head.flags & PEER_LOAD_WHOLE) {
        lines_keep(peer, report, head.count);
    } else if (head.life != peer->life || head.since != peer->number) {
        peer->life = peer->number = 0; /* the next one is asked for as a whole */
        return err_set(err, ERR_BAD_INPUT, "a report of load that goes upon another one");
    } else {
        for (uint32_t i = 0; i < head.count; i++) {
            struct peer_load_row row = peer_load_row(report, i);
            line_put(peer, &row);
        }
    }
    peer->life = head.life;
    peer->number = head.number;
    reached_take(peer, report, &head);
    return 0;
}

int pop_mesh_heard(struct pop_mesh_peer *peer, struct slice report, float rtt_ms, int64_t now_ns,
                   struct err *err)
{
    int r = report_take(peer, report, err);
    if (r < 0) {
        peer->odd++;
        pop_mesh_missed(peer, true, now_ns);
        return r;
    }
    peer->failures = 0;
    peer->refused = false;
    peer->heard++;
    peer->due_ns = now_ns + MESH_EVERY_NS;
    health_beat(&peer->health, now_ns);
    health_probed(&peer->health, false, now_ns);
    if (rtt_ms >= 0 && rtt_ms <= MESH_MS_MAX)
        peer->rtts_ms[peer->rtt_count++ % MESH_RTTS] = rtt_ms;
    lines_learn(peer, now_ns);
    return 0;
}

void pop_mesh_missed(struct pop_mesh_peer *peer, bool refused, int64_t now_ns)
{
    peer->failed++;
    peer->failures++;
    peer->refused = peer->refused || refused;
    if (peer->address_count)
        peer->address_at = (peer->address_at + 1) % peer->address_count;
    peer->due_ns = now_ns + (peer->failures < MESH_AGAIN_MAX ? MESH_AGAIN_NS : MESH_EVERY_NS);
    if (refused)
        health_refused(&peer->health, now_ns);
    else
        health_probed(&peer->health, true, now_ns);
}

/* Down it is once it has been so for as long as silence is borne. */
void pop_mesh_busy(struct pop_mesh_peer *peer, int64_t now_ns)
{
    peer->failed++;
    peer->failures++;
    peer->due_ns = now_ns + (peer->failures < MESH_AGAIN_MAX ? MESH_DOUBT_NS : MESH_EVERY_NS);
}

void pop_mesh_seen(struct pop_mesh *mesh, struct slice name, uint32_t seen, uint32_t failed,
                   int64_t now_ns)
{
    enum { COUNTED_MAX = 2 * HEALTH_SEEN_MIN }; /* of one message: a share is what counts */
    struct pop_mesh_peer *peer = pop_mesh_find(mesh, name);
    if (!peer || seen == 0 || failed > seen)
        return;
    uint32_t count = seen < COUNTED_MAX ? seen : COUNTED_MAX;
    uint32_t bad = (uint32_t)((uint64_t)failed * count / seen);
    for (uint32_t i = 0; i < count; i++) /* good ones first: no fall but by the whole */
        health_seen(&peer->health, i >= count - bad, now_ns);
    if (failed && peer->due_ns != INT64_MAX && peer->due_ns > now_ns)
        peer->due_ns = now_ns; /* is it so? */
}

void pop_mesh_left(struct pop_mesh *mesh, const struct address *address, int64_t now_ns)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        if (!address_equal(&peer->addresses[peer->address_at], address))
            continue;
        peer->left++;
        bool due = peer->due_ns <= now_ns || peer->due_ns == INT64_MAX;
        /* One that ends each connection after its answer is asked twice a second, not ever more. */
        bool late = peer->left_ns && now_ns - peer->left_ns < MESH_EVERY_NS;
        if (!due && !late)
            peer->due_ns = peer->left_ns = now_ns;
    }
}

void pop_mesh_stalled(struct pop_mesh *mesh, int64_t gap_ns, int64_t now_ns)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        int64_t beat_ns = peer->health.beat_ns + gap_ns;
        int64_t refused_ns = peer->health.refused_ns + gap_ns;
        if (peer->health.beat_ns)
            peer->health.beat_ns = beat_ns < now_ns ? beat_ns : now_ns;
        if (peer->health.refused_ns)
            peer->health.refused_ns = refused_ns < now_ns ? refused_ns : now_ns;
    }
}

/* ---- what is told ------------------------------------------------------------------------ */

float pop_mesh_rtt_ms(const struct pop_mesh_peer *peer)
{
    float least = NAN;
    for (unsigned i = 0; i < MESH_RTTS && i < peer->rtt_count; i++)
        least = isnan(least) || peer->rtts_ms[i] < least ? peer->rtts_ms[i] : least;
    return least;
}

const char *pop_mesh_health_word(uint32_t health)
{
    static const char *const words[] = { "up", "draining", "down" };
    return health < MESH_UNSAID ? words[health] : "unknown";
}

uint32_t pop_mesh_health(struct pop_mesh_peer *peer, int64_t now_ns)
{
    if (peer->heard == 0 && now_ns - peer->since_ns < HEALTH_SILENT_NS)
        return MESH_UNSAID;
    if (!health_up(&peer->health, now_ns))
        return MESH_DOWN;
    return peer->draining ? MESH_DRAINING : MESH_UP;
}

/* ---- whom others reach ------------------------------------------------------------------- */

/* Whoever is cut off with us says nothing of whether we are. That we stand beside one is believed
 * where its round trip is as short as that: one by mistake would be no witness of deaths. */
static bool ours(const struct pop_mesh_peer *peer)
{
    return peer->self || (peer->beside && !(pop_mesh_rtt_ms(peer) > MESH_BESIDE_MS));
}

/* It has said so itself: one that it does not know may be as dead as it looks from here. */
static bool reaches(const struct pop_mesh_peer *witness, uint64_t key)
{
    uint32_t low = 0, high = witness->reached_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (witness->reached[middle] == key)
            return true;
        if (witness->reached[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* The nearest that are up, whatever they say; of 300 PoPs three are enough, and few can be asked
 * often. */
static size_t witnesses_of(struct pop_mesh *mesh, int64_t now_ns,
                           struct pop_mesh_peer *ret[static MESH_WITNESSES])
{
    struct pop_mesh_peer *peer;
    float rtts_ms[MESH_WITNESSES];
    size_t count = 0;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        float rtt_ms = pop_mesh_rtt_ms(peer);
        if (ours(peer) || pop_mesh_health(peer, now_ns) >= MESH_DOWN)
            continue;
        size_t at = count;
        while (at > 0 && rtt_ms < rtts_ms[at - 1])
            at--;
        if (at == MESH_WITNESSES)
            continue;
        count += count < MESH_WITNESSES;
        for (size_t i = count - 1; i > at; i--) {
            ret[i] = ret[i - 1];
            rtts_ms[i] = rtts_ms[i - 1];
        }
        ret[at] = peer;
        rtts_ms[at] = rtt_ms;
    }
    return count;
}

/* When it last gave a sign, or was first known. */
static int64_t last_word_ns(const struct pop_mesh_peer *peer)
{
    return peer->health.beat_ns ? peer->health.beat_ns : peer->since_ns;
}

/* Does one of them say so; or has none spoken since it fell silent? Then nobody knows yet who is
 * cut off: they are asked now, and fall silent too where it is us. One that speaks is not silent,
 * and is down for what it did, or for a while yet (policy/health.h). */
static bool vouched(const struct pop_mesh_peer *peer, struct pop_mesh_peer *const *witnesses,
                    size_t count, int64_t now_ns)
{
    int64_t fell_ns = last_word_ns(peer) + HEALTH_SILENT_NS;
    bool spoken = peer->refused || count == 0 || now_ns < fell_ns;
    for (size_t i = 0; i < count; i++) {
        if (reaches(witnesses[i], peer->key))
            return true;
        spoken = spoken || witnesses[i]->health.beat_ns >= fell_ns;
    }
    return !spoken;
}

/* Of any other: the best. */
static uint32_t best_health(struct pop_mesh *mesh, int64_t now_ns, bool *ret_unsaid)
{
    struct pop_mesh_peer *peer;
    uint32_t best = MESH_DOWN;
    *ret_unsaid = false;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        uint32_t health = ours(peer) ? MESH_DOWN : pop_mesh_health(peer, now_ns);
        best = health < best ? health : best;
        *ret_unsaid = *ret_unsaid || health == MESH_UNSAID;
    }
    return best;
}

/* Who was never heard here, nor by control when we began, has not fallen silent: it was before. */
static bool silent_since(const struct pop_mesh_peer *peer, int64_t since_ns)
{
    bool before = peer->health.beat_ns == 0 && peer->told_ns != 0;
    return !ours(peer) && !peer->refused && !before && last_word_ns(peer) >= since_ns;
}

/* Nobody is up: those who fell silent in one moment with another one are as cut off as we are. */
static void cut_find(struct pop_mesh *mesh)
{
    struct pop_mesh_peer *peer;
    int64_t since_ns = INT64_MIN;
    size_t together = 0;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        if (silent_since(peer, since_ns))
            since_ns = last_word_ns(peer);
    since_ns -= since_ns > INT64_MIN ? MESH_TOGETHER_NS : 0;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        together += silent_since(peer, since_ns);
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        peer->cut = peer->cut || (together > 1 && silent_since(peer, since_ns));
}

/* Until it is up again, or is known to be dead: it refuses, or another is up and it stays away. */
static void cut_end(struct pop_mesh *mesh, bool any_up, int64_t now_ns)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        if (peer->refused || pop_mesh_health(peer, now_ns) != MESH_DOWN ||
            (any_up && peer->failures > 0))
            peer->cut = false;
}

/* Does control, which may be cut off with us, hear of any other? */
static bool control_hears(struct pop_mesh *mesh)
{
    const struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        if (!ours(peer) && peer->told_ns == 0)
            return true;
    return false;
}

void pop_mesh_doubt(struct pop_mesh *mesh, int64_t now_ns)
{
    struct pop_mesh_peer *peer, *witnesses[MESH_WITNESSES];
    size_t count = witnesses_of(mesh, now_ns, witnesses);
    bool doubt = false, unsaid, hears = control_hears(mesh);
    bool any_up = best_health(mesh, now_ns, &unsaid) < MESH_DOWN;
    if (!any_up && !unsaid)
        cut_find(mesh);
    cut_end(mesh, any_up, now_ns);
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        bool missed = hears && peer->told_ns && now_ns - peer->told_ns >= MESH_TOLD_NS;
        peer->elsewhere = peer->cut && !missed;
        if (peer->self || pop_mesh_health(peer, now_ns) != MESH_DOWN)
            continue;
        if (!peer->elsewhere)
            peer->elsewhere = vouched(peer, witnesses, count, now_ns);
        doubt = doubt || peer->elsewhere;
    }
    for (size_t i = 0; doubt && i < count; i++)
        if (witnesses[i]->due_ns != INT64_MAX && witnesses[i]->due_ns > now_ns + MESH_DOUBT_NS)
            witnesses[i]->due_ns = now_ns + MESH_DOUBT_NS;
}

static bool calm(const struct pop_mesh_peer *peer, int64_t now_ns)
{
    return health_calm(&peer->health, now_ns);
}

bool pop_mesh_ripe(struct pop_mesh *mesh, int64_t now_ns)
{
    struct pop_mesh_peer *peer;
    bool ripe = mesh->dirty || now_ns - mesh->published_ns >= MESH_EVERY_NS;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        uint32_t health = pop_mesh_health(peer, now_ns);
        ripe = ripe || health != peer->shown_health || calm(peer, now_ns) != peer->shown_calm ||
               peer->elsewhere != peer->shown_elsewhere;
    }
    return ripe;
}

static uint32_t reach(const struct pop_mesh_peer *peer)
{
    const struct believed_word word = { (uint8_t)peer->shown_health, peer->shown_elsewhere };
    return peer->self || believed_reached(word) ? MESH_UP : MESH_DOWN;
}

bool pop_mesh_news(struct pop_mesh *mesh)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        if (reach(peer) != peer->reported)
            return true;
    return false;
}

void pop_mesh_reported(struct pop_mesh *mesh)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        peer->reported = reach(peer);
}

int64_t pop_mesh_due_ns(const struct pop_mesh *mesh)
{
    const struct pop_mesh_peer *peer;
    int64_t due_ns = mesh->published_ns + MESH_EVERY_NS;
    LIST_EACH (peer, &((struct pop_mesh *)(uintptr_t)mesh)->peers, struct pop_mesh_peer, link) {
        int64_t health_ns = peer->shown_health == MESH_UNSAID ? peer->since_ns + HEALTH_SILENT_NS
                                                              : health_due_ns(&peer->health);
        due_ns = peer->due_ns < due_ns ? peer->due_ns : due_ns;
        due_ns = health_ns < due_ns ? health_ns : due_ns;
    }
    return due_ns;
}

/* Without a replica nobody waits for a place: the start is what it costs. */
static struct mesh_load load_of(const struct pop_mesh_line *line, uint32_t pop)
{
    struct mesh_load load = {
        .endpoint = line->row.endpoint,
        .pop = pop,
        .wait_ms = line->load.wait_ms,
        .service_ms = line->row.service_ms,
        .start_ms = line->row.start_ms,
        .weight = line->load.weight,
        .last_start_ms = line->row.last_start_ms,
    };
    if (line->row.places == 0) {
        load.wait_ms = isinf(line->row.start_ms) ? INFINITY : 0;
        load.weight = COLD_WEIGHT;
    }
    return load;
}

bool pop_mesh_own(struct pop_mesh *mesh, struct arena *arena, struct mesh_load **ret,
                  size_t *ret_count)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        if (!peer->self || peer->heard == 0)
            continue;
        *ret_count = 0;
        *ret = ARENA_ARRAY(arena, struct mesh_load, peer->lines.count + 1);
        MAP_EACH (entry, &peer->lines)
            (*ret)[(*ret_count)++] = load_of(entry->value, 0);
        return true;
    }
    return false;
}

int pop_mesh_print(struct pop_mesh *mesh, struct slice self, struct arena *arena, int64_t now_ns,
                   struct slice *ret, struct err *err)
{
    struct mesh_pop *pops = ARENA_ARRAY(arena, struct mesh_pop, mesh->peer_count + 1);
    struct mesh_load *loads = ARENA_ARRAY(arena, struct mesh_load, mesh->line_count + 1);
    struct mesh_source source = {
        .number = ++mesh->number,
        .at_ns = now_ns,
        .flags = MESH_BLIND,
        .self = self,
        .pops = pops,
        .loads = loads,
    };
    struct pop_mesh_peer *peer;
    bool ours_down = false, elsewhere = false;
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link) {
        peer->shown_health = pop_mesh_health(peer, now_ns);
        peer->shown_calm = calm(peer, now_ns);
        peer->shown_elsewhere = peer->elsewhere;
        if (peer->shown_health == MESH_UNSAID)
            continue;
        uint32_t row = (uint32_t)source.pop_count++;
        struct mesh_pop *pop = &pops[row];
        memcpy(pop->name, peer->name, sizeof pop->name);
        pop->rtt_ms = peer->self ? 0 : pop_mesh_rtt_ms(peer);
        pop->health = peer->shown_health;
        pop->calm = peer->shown_calm;
        pop->elsewhere = pop->health == MESH_DOWN && peer->shown_elsewhere;
        if (pop->health != MESH_DOWN)
            source.flags = 0;
        ours_down = ours_down || (ours(peer) && pop->health == MESH_DOWN);
        elsewhere = elsewhere || pop->elsewhere;
        MAP_EACH (entry, &peer->lines)
            loads[source.load_count++] = load_of(entry->value, row);
    }
    if (elsewhere && !ours_down) /* cut off, which who does not reach itself cannot tell */
        source.flags = 0;
    mesh->published_ns = now_ns;
    mesh->dirty = false;
    return mesh_build(arena, &source, ret, err);
}
