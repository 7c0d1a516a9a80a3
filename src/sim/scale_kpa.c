/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/scale_kpa.h"

#include <math.h>

#define SECOND INT64_C(1'000'000'000)

struct kpa_rules kpa_rules_usual(void)
{
    return (struct kpa_rules){
        .target = 2.8,
        .stable_ns = 60 * SECOND,
        .panic_ns = 6 * SECOND,
        .tick_ns = 2 * SECOND,
        .panic_threshold = 2,
        .up_rate = 1000,
        .down_rate = 2,
    };
}

void kpa_init(struct kpa *kpa, const struct kpa_rules *rules)
{
    *kpa = (struct kpa){ .rules = *rules };
}

void kpa_second(struct kpa *kpa, double mean)
{
    kpa->seconds[kpa->second++ % KPA_SECONDS] = mean;
}

static double window(const struct kpa *kpa, int64_t length_ns)
{
    uint64_t count = (uint64_t)(length_ns / SECOND), have = kpa->second - kpa->first;
    double sum = 0;

    if (count > have)
        count = have;
    for (uint64_t i = 0; i < count; i++)
        sum += kpa->seconds[(kpa->second - 1 - i) % KPA_SECONDS];
    return count ? sum / (double)count : 0;
}

static uint32_t zero(struct kpa *kpa, int64_t now_ns)
{
    if (!kpa->zero_since_ns)
        kpa->zero_since_ns = now_ns;
    return now_ns - kpa->zero_since_ns >= kpa->rules.grace_ns ? 0 : 1;
}

uint32_t kpa_decide(struct kpa *kpa, int64_t now_ns, uint32_t ready)
{
    const struct kpa_rules *rules = &kpa->rules;
    if (kpa->second == kpa->first) /* nothing was seen yet: what the activator said stays */
        return kpa->desired;
    double have = ready ? ready : 1;
    double stable = ceil(window(kpa, rules->stable_ns) / rules->target);
    double panic = ceil(window(kpa, rules->panic_ns) / rules->target);
    double most = ceil(rules->up_rate * have), least = floor(have / rules->down_rate);

    if (panic / have >= rules->panic_threshold) {
        kpa->panic_most = kpa->panic_ns ? kpa->panic_most : 0;
        kpa->panic_ns = now_ns;
    } else if (kpa->panic_ns && now_ns - kpa->panic_ns >= rules->stable_ns) {
        kpa->panic_ns = 0;
    }
    stable = fmin(fmax(stable, least), most);
    panic = fmin(fmax(panic, least), most);
    kpa->desired = (uint32_t)stable;
    if (kpa->panic_ns) {
        uint32_t now = (uint32_t)fmax(stable, panic);
        if (now < ready)
            now = ready;
        if (now > kpa->panic_most)
            kpa->panic_most = now;
        kpa->desired = kpa->panic_most;
    }
    if (kpa->desired > 0)
        kpa->zero_since_ns = 0;
    else
        kpa->desired = zero(kpa, now_ns);
    return kpa->desired;
}

uint32_t kpa_way(const struct scale_sight *sight, void *data)
{
    struct kpa *kpa = data;

    if (sight->ready + sight->starting == 0) {
        kpa->panic_ns = 0;
        kpa->zero_since_ns = 0;
        kpa->first = kpa->second;
        kpa->told_s = sight->concurrency_s;
        kpa->told_ns = sight->now_ns;
        kpa->desired = sight->waiting > 0; /* the activator */
        return kpa->desired;
    }
    if (sight->now_ns % SECOND || sight->now_ns == kpa->told_ns)
        return kpa->desired;
    kpa_second(kpa,
               (sight->concurrency_s - kpa->told_s) * 1e9 / (double)(sight->now_ns - kpa->told_ns));
    kpa->told_s = sight->concurrency_s;
    kpa->told_ns = sight->now_ns;
    if (sight->now_ns % kpa->rules.tick_ns)
        return kpa->desired;
    return kpa_decide(kpa, sight->now_ns, sight->ready);
}
