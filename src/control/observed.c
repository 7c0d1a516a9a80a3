/* SPDX-License-Identifier: Apache-2.0 */
#include "control/observed.h"

#include "base/arena.h"
#include "control/control_own.h"
#include "io/loop.h"
#include "policy/believed.h"
#include "policy/route.h"

/* By what control itself hears of it. */
static uint8_t said_of(const struct hub_pop *pop)
{
    enum hub_pop_state state = hub_pop_state_of(pop);
    return state == HUB_POP_READY      ? ROUTE_UP
           : state == HUB_POP_DRAINING ? ROUTE_DRAINING
                                       : ROUTE_DOWN;
}

/* Of one whose connection has ended, or who has said nothing lately, nobody knows whether it still
 * asks anybody. */
static bool heard(const struct control *control, const struct hub_pop *pop)
{
    return pop->watches && pop->reported_ms && said_of(pop) != ROUTE_DOWN &&
           loop_now_ms(control->loop) - pop->reported_ms <= OBSERVED_WORD_MS;
}

static void take(struct observed *observed, struct believed *believed, struct slice observer,
                 const struct hub_peer *peer)
{
    struct believed_word word = peer->word;
    if (word.health == ROUTE_DRAINING)
        word.health = ROUTE_UP; /* who drains control knows itself */
    believed_take(believed, word);
    if (word.health != ROUTE_DOWN) {
        observed->reached_by++;
        return;
    }
    if (observed->missed_by < OBSERVED_NAMES_MAX)
        observed->missed[observed->missed_by] = observer;
    observed->missed_by++;
}

/* Both lists are in the order of names. */
static void take_all(const struct hub_pop *observer, const struct hub_pop *const *pops,
                     size_t count, struct observed *observed, struct believed *believed)
{
    size_t at = 0;
    for (size_t i = 0; i < observer->peer_count; i++) {
        const struct hub_peer *peer = &observer->peer_list[i];
        int order = 1;
        while (at < count && (order = slice_order(pops[at]->name, peer->pop)) < 0)
            at++;
        if (at < count && order == 0 && pops[at] != observer)
            take(&observed[at], &believed[at], observer->name, peer);
    }
}

struct observed *observed_find(struct control *control, struct arena *arena,
                               const struct hub_pop *const *pops, size_t count)
{
    struct observed *observed = ARENA_ARRAY(arena, struct observed, count + 1);
    struct believed *believed = ARENA_ARRAY(arena, struct believed, count + 1);
    bool said_up = false, up = false;
    for (size_t i = 0; i < count; i++) {
        believed[i] = believed_of(said_of(pops[i]));
        believed[i].draining = slice_is(pops[i]->row.wanted, "drained"); /* heard or not */
    }
    for (size_t i = 0; i < control->hub.sorted_count; i++)
        if (heard(control, control->hub.sorted[i]))
            take_all(control->hub.sorted[i], pops, count, observed, believed);
    for (size_t i = 0; i < count; i++) {
        observed[i].health = believed_health(&believed[i]);
        up = up || observed[i].health != ROUTE_DOWN;
        said_up = said_up || believed[i].said != ROUTE_DOWN;
    }
    for (size_t i = 0; i < count && said_up && !up; i++)
        observed[i].health = believed[i].said;
    return observed;
}
