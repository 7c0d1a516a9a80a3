/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/admission.h"

#include <stdbool.h>

#define SAMPLES_MIN 4u   /* the first runs of a model are its slowest */
#define MEAN_OF 8        /* a sample's weight is an eighth, once there are eight */
#define OUTLIER_TIMES 16 /* a sample counts as at most so many times the mean, and a millisecond */
#define WINDOW 256u
#define SAMPLE_NS_MAX UINT64_C(3'600'000'000'000) /* an hour: products stay below 2^63 */
#define LET_DOWN_MIN 16u
#define LET_DOWN_NS INT64_C(1'000'000'000)
#define SECOND_NS UINT64_C(1'000'000'000)

#define GET(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define SET(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

static uint64_t mean(uint64_t before, uint64_t sample, uint32_t samples)
{
    uint64_t most = before * OUTLIER_TIMES + 1'000'000;

    if (samples == 0)
        return sample;
    if (sample > most)
        sample = most;
    int64_t change = (int64_t)sample - (int64_t)before;
    return before +
           (uint64_t)(samples < MEAN_OF ? change / (int64_t)(samples + 1) : change / MEAN_OF);
}

static uint64_t bounded(uint64_t ns)
{
    return ns < SAMPLE_NS_MAX ? ns : SAMPLE_NS_MAX;
}

void admission_learn(struct admission *admission, uint64_t gap_ns, uint64_t run_ns)
{
    uint32_t samples = GET(admission->samples);
    uint64_t least = GET(admission->least_ns);

    gap_ns = bounded(gap_ns);
    run_ns = bounded(run_ns);
    SET(admission->gap_ns, mean(GET(admission->gap_ns), gap_ns, samples));
    SET(admission->run_ns, mean(GET(admission->run_ns), run_ns, samples));
    if (samples % WINDOW == 0) {
        SET(admission->least_before_ns, samples ? least : run_ns);
        SET(admission->least_ns, run_ns);
    } else if (run_ns < least) {
        SET(admission->least_ns, run_ns);
    }
    /* On from the last window to the one before it, not to 0, which is a beginning. */
    SET(admission->samples, samples == UINT32_MAX ? UINT32_MAX - WINDOW + 1 : samples + 1);
}

static bool known(const struct admission *admission, const struct admission_load *load)
{
    return GET(admission->samples) >= SAMPLES_MIN && load->replicas > 0;
}

uint64_t admission_run_ns(const struct admission *admission)
{
    return GET(admission->samples) >= SAMPLES_MIN ? GET(admission->run_ns) : 0;
}

uint64_t admission_gap_ns(const struct admission *admission)
{
    return GET(admission->samples) >= SAMPLES_MIN ? GET(admission->gap_ns) : 0;
}

/* Until a replica turns to it. What runs is half done, as a mean. */
static uint64_t turn_ns(const struct admission *admission, const struct admission_load *load)
{
    uint64_t half = GET(admission->run_ns) / 2;
    uint64_t before =
        ((uint64_t)load->ahead + load->running) * GET(admission->gap_ns) / load->replicas;

    if (load->ahead == 0 && load->running < load->replicas)
        return 0;
    if (load->running > 0)
        before -= before < half ? before : half;
    return before;
}

uint64_t admission_least_ns(const struct admission *admission)
{
    uint64_t now = GET(admission->least_ns), before = GET(admission->least_before_ns);

    return GET(admission->samples) < SAMPLES_MIN ? 0 : now < before ? now : before;
}

uint64_t admission_finish_ns(const struct admission *admission, const struct admission_load *load)
{
    if (!known(admission, load))
        return 0;
    return turn_ns(admission, load) +
           (load->ahead > 0 ? GET(admission->run_ns) : admission_least_ns(admission));
}

enum admission_answer admission_ask(struct admission *admission, const struct admission_load *load,
                                    int64_t left_ns, int64_t now_ns)
{
    if (left_ns <= 0)
        return ADMISSION_LATE;
    if (!known(admission, load) || admission_finish_ns(admission, load) <= (uint64_t)left_ns)
        return ADMISSION_IN_TIME;
    if (turn_ns(admission, load) > 0) /* those before it go on teaching */
        return ADMISSION_LATE;
    uint32_t let_down = GET(admission->let_down);
    if (let_down == 0)
        SET(admission->let_down_since_ns, now_ns);
    if (let_down >= LET_DOWN_MIN && now_ns - GET(admission->let_down_since_ns) >= LET_DOWN_NS) {
        SET(admission->let_down, 0);
        return ADMISSION_TRIED;
    }
    if (let_down < LET_DOWN_MIN)
        SET(admission->let_down, let_down + 1);
    return ADMISSION_LATE;
}

uint32_t admission_retry_s(const struct admission *admission, const struct admission_load *load,
                           uint32_t min_s, uint32_t max_s)
{
    if (!known(admission, load))
        return min_s;
    uint64_t ns = ((uint64_t)load->ahead + load->running) * GET(admission->gap_ns) / load->replicas;
    uint64_t seconds = (ns + SECOND_NS - 1) / SECOND_NS;
    return seconds < min_s ? min_s : seconds > max_s ? max_s : (uint32_t)seconds;
}
