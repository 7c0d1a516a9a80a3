/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/follow.h"

#include <math.h>
#include <string.h>

#include "base/map.h"
#include "dns/view.h"

/* Of arrays. */
#define SAME(a, b, count) bytes_same((a), (b), (count) * sizeof *(a))

/* Of numbers too: one that is written in two ways counts as changed, which is no harm. */
static bool bytes_same(const void *a, const void *b, size_t bytes)
{
    return bytes == 0 || memcmp(a, b, bytes) == 0;
}

/* All that a candidate is chosen by, but for what an endpoint has there. */
static bool pops_same(const struct dns_view *a, const struct dns_view *b)
{
    const struct route_pops *x = &a->route, *y = &b->route;
    size_t count = x->count;
    return count == y->count && a->map == b->map && SAME(x->x, y->x, count) &&
           SAME(x->y, y->y, count) && SAME(x->z, y->z, count) &&
           SAME(x->country, y->country, count) && SAME(x->health, y->health, count);
}

static bool law_same(const struct dns_entry *a, const struct dns_entry *b)
{
    const struct residency *x = &a->residency, *y = &b->residency;
    return x->count == y->count && x->unknown_client == y->unknown_client &&
           SAME(x->rules, y->rules, x->count);
}

static bool hides_same(const bool *a, const bool *b, size_t count)
{
    return a && b ? SAME(a, b, count) : a == b;
}

/* False: not by a number. */
static bool moved(float a, float b, float *sum_ms)
{
    if (bytes_same(&a, &b, sizeof a))
        return true;
    *sum_ms += fabsf(a - b);
    return isfinite(a) && isfinite(b);
}

/* Who can hide starts, and that there is one to be hidden. */
static bool warm_same(const struct dns_entry *entry, const struct dns_entry *before)
{
    const struct route_endpoint *a = &entry->warm, *b = &before->warm;
    return a->count == b->count && SAME(a->pop, b->pop, a->count);
}

/* By how much at most any place's total is another one, in steps and rounded up; 0: all that is
 * chosen by but waits and weights is the same. False: rows say nothing any more. */
static bool drift_of(const struct dns_entry *entry, const struct dns_entry *before, float *ret)
{
    const struct route_endpoint *a = &entry->calm, *b = &before->calm;
    float most_ms = 0;
    if (a->count != b->count || !SAME(a->pop, b->pop, a->count) ||
        !SAME(a->wait_ms, b->wait_ms, a->count) || !warm_same(entry, before))
        return false;
    for (size_t i = 0; i < a->count; i++) {
        float sum_ms = 0;
        if (!moved(a->service_ms[i], b->service_ms[i], &sum_ms) ||
            !moved(a->start_ms[i], b->start_ms[i], &sum_ms))
            return false;
        most_ms = sum_ms > most_ms ? sum_ms : most_ms;
    }
    bool same = most_ms == 0 && SAME(entry->route.start_ms, before->route.start_ms, a->count) &&
                hides_same(entry->route.hides, before->route.hides, a->count);
    /* Two more than it is: sums of figures that differ are rounded. */
    *ret = same ? 0 : ceilf(most_ms * DNS_DRIFT_STEPS_PER_MS) + 2;
    return true;
}

static void entry_follow(struct dns_view *view, struct dns_entry *entry,
                         const struct dns_entry *before)
{
    float drift;
    if (before && entry->kind == before->kind && law_same(entry, before) &&
        drift_of(entry, before, &drift) && drift + (float)before->drift <= (float)UINT16_MAX) {
        entry->memo_id = before->memo_id;
        entry->drift = (uint16_t)(before->drift + (uint16_t)drift);
    } else {
        entry->memo_id = ++view->memo_ids;
    }
}

static void whole_follow(struct dns_view *view, struct dns_entry *entry,
                         const struct dns_entry *before)
{
    entry_follow(view, entry, before);
    for (int i = 0; i < DNS_FAMILIES; i++)
        if (entry->of_family[i])
            entry_follow(view, entry->of_family[i], before ? before->of_family[i] : NULL);
}

void dns_view_follow(struct dns_view *view, const struct dns_view *before)
{
    bool same = pops_same(view, before);
    view->follows = before;
    view->memo_ids = before->memo_ids;
    whole_follow(view, &view->apex, same ? &before->apex : NULL);
    MAP_EACH (row, dns_view_entries(view)) {
        struct dns_entry *entry = row->value;
        whole_follow(view, entry, same ? dns_view_find(before, slice_of(entry->label)) : NULL);
    }
}
