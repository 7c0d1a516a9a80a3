/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/health.h"

#define WINDOW_NS INT64_C(1'000'000'000)

static void fall(struct health *health)
{
    health->well_since_ns = 0;
    health->seen = health->failed = 0;
    health->lasting_ns = health->refused_ns = 0;
    if (health->up_since_ns == 0)
        return;
    health->up_since_ns = 0;
    if (health->falls < 16)
        health->falls++;
}

static int64_t back_ns(const struct health *health)
{
    int64_t ns = HEALTH_BACK_NS;

    if (health->falls == 0)
        return 0;
    for (uint32_t i = 1; i < health->falls && ns < HEALTH_BACK_MAX_NS; i++)
        ns *= 2;
    return ns < HEALTH_BACK_MAX_NS ? ns : HEALTH_BACK_MAX_NS;
}

bool health_up(struct health *health, int64_t now_ns)
{
    if (health->beat_ns == 0)
        return false;
    if (now_ns - health->beat_ns >= HEALTH_SILENT_NS) {
        fall(health);
        return false;
    }
    if (health->up_since_ns == 0 && health->well_since_ns != 0 &&
        now_ns - health->well_since_ns >= back_ns(health))
        health->up_since_ns = now_ns;
    if (health->up_since_ns != 0 && now_ns - health->up_since_ns >= HEALTH_CALM_NS)
        health->falls = 0;
    return health->up_since_ns != 0;
}

void health_beat(struct health *health, int64_t now_ns)
{
    (void)health_up(health, now_ns); /* a silence before it counts */
    health->beat_ns = now_ns;
    health->refused_ns = 0;
    if (health->well_since_ns == 0) { /* what failed before says nothing of it since */
        health->well_since_ns = health->window_ns = now_ns;
        health->seen = health->failed = 0;
        health->lasting_ns = 0;
    }
}

void health_probed(struct health *health, bool failed, int64_t now_ns)
{
    if (now_ns - health->window_ns >= WINDOW_NS) {
        health->window_ns = now_ns;
        health->seen = health->failed = 0;
    }
    health->seen++;
    if (!failed)
        return;
    if (health->failed++ == 0)
        health->failing_ns = now_ns;
    int64_t first_ns = health->failing_ns;
    if (health->lasting_ns && health->lasting_ns < first_ns)
        first_ns = health->lasting_ns;
    if (now_ns - first_ns >= HEALTH_FAILING_NS && health->seen >= HEALTH_SEEN_MIN &&
        (uint64_t)health->failed * 100 >= (uint64_t)health->seen * HEALTH_FAILED_PERCENT)
        fall(health);
}

void health_refused(struct health *health, int64_t now_ns)
{
    health_probed(health, true, now_ns);
    if (health->refused_ns == 0)
        health->refused_ns = now_ns;
    else if (now_ns - health->refused_ns >= HEALTH_FAILING_NS)
        fall(health);
}

void health_seen(struct health *health, bool failed, int64_t now_ns)
{
    if (!failed || now_ns - health->lasted_ns >= HEALTH_LASTING_NS)
        health->lasting_ns = 0;
    if (failed && health->lasting_ns == 0)
        health->lasting_ns = now_ns;
    if (failed)
        health->lasted_ns = now_ns;
    health_probed(health, failed, now_ns);
}

int64_t health_due_ns(const struct health *health)
{
    if (health->beat_ns == 0)
        return INT64_MAX;
    int64_t silent = health->beat_ns + HEALTH_SILENT_NS;
    if (health->up_since_ns != 0)
        return silent;
    if (health->well_since_ns == 0)
        return INT64_MAX;
    int64_t back = health->well_since_ns + back_ns(health);
    return back < silent ? back : silent;
}

bool health_calm(const struct health *health, int64_t now_ns)
{
    return health->up_since_ns != 0 && now_ns - health->up_since_ns >= HEALTH_CALM_NS;
}
