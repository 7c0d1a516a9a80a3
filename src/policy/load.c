/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/load.h"

#include <math.h>

#define SECOND_NS 1'000'000'000.0f
#define GAP_MAX_S 5.0f      /* a longer silence counts as this much */
#define ARRIVALS_TAU_S 0.7f /* what is asked for is averaged over */
#define QUEUE_TAU_S 1.0f
#define DRAIN_S 2.0f /* what waits is to be gone after */
/* A step is how many times too much is asked for, to the power of GAIN. With route.h's draws what
 * a PoP is asked for falls about as its price rises, so that a gain of 1 would meet the target at
 * once, and swing with reports a second and a half old. Found by simulation, as are the others. */
#define PRICE_FIRST_MS 20.0f /* where twice too much is asked for and there is none */
#define PRICE_LEAST_MS 0.1f  /* below it there is none */
#define STEP_MOST 4.0f       /* times a second */
#define STEP_LEAST 0.6f
#define GAIN 0.7f
#define TARGET_LEAST 0.4f

/* NAN is 0. */
static float bounded(float value, float most)
{
    return value > 0 ? value < most ? value : most : 0;
}

float load_target(uint32_t places)
{
    float target = 1 - 0.9f / sqrtf(places > 0 ? (float)places : 1);
    return target > TARGET_LEAST ? target : TARGET_LEAST;
}

/* The part of the way to what was just reported, after `seconds`. */
static float toward(float seconds, float tau)
{
    return 1 - expf(-seconds / tau);
}

bool load_learn(struct load *load, const struct load_report *report, int64_t now_ns)
{
    bool first = load->at_ns == 0;
    float capacity = bounded(report->capacity_per_s, LOAD_RATE_MAX);
    float arrivals = bounded(report->arrivals_per_s, LOAD_RATE_MAX);

    if (!first && now_ns <= load->at_ns)
        return false;
    float seconds = first ? 0 : bounded((float)(now_ns - load->at_ns) / SECOND_NS, GAP_MAX_S);
    load->at_ns = now_ns;
    load->arrivals_per_s = first ? arrivals
                                 : load->arrivals_per_s + toward(seconds, ARRIVALS_TAU_S) *
                                                              (arrivals - load->arrivals_per_s);
    if (report->places == 0 || capacity == 0) {
        load->wait_ms = INFINITY;
        load->weight = 0;
        return true;
    }
    float waiting = (float)report->waiting, chance = sqrtf((float)report->places);
    float queue = bounded((waiting - chance) / capacity * 1000, LOAD_WAIT_MAX_MS);
    float target = load_target(report->places);
    float asked = (load->arrivals_per_s + waiting / DRAIN_S) / capacity;
    float step = powf(asked / target, GAIN);

    step = powf(step < STEP_MOST ? step > STEP_LEAST ? step : STEP_LEAST : STEP_MOST, seconds);
    if (load->price_ms == 0 && asked > target)
        load->price_ms = PRICE_FIRST_MS * fminf(asked / target - 1, 1);
    else
        load->price_ms *= step;
    if (load->price_ms < PRICE_LEAST_MS)
        load->price_ms = 0;

    load->queue_ms =
        first ? queue : load->queue_ms + toward(seconds, QUEUE_TAU_S) * (queue - load->queue_ms);
    load->price_ms = bounded(load->price_ms, LOAD_WAIT_MAX_MS);
    load->wait_ms = bounded(load->price_ms + load->queue_ms, LOAD_WAIT_MAX_MS);
    float room = target * capacity - load->arrivals_per_s;
    load->weight = room > 0.05f * capacity ? room : 0.05f * capacity;
    return true;
}
