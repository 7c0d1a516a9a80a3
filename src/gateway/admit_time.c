/* SPDX-License-Identifier: Apache-2.0 */
/* When a request that came now would have a place, and its answer. */
#include "gateway/admit.h"
#include "gateway/admit_own.h"
#include "gateway/depth.h"
#include "gateway/dispatch.h"
#include "gateway/request.h"
#include "gateway/target.h"
#include "io/loop.h"
#include "spec/units.h"

static void load_of(const struct request *request, struct admission_load *ret)
{
    const struct revision_side *side = request->side;
    const struct revision *revision = request->revision;
    const struct lane *lane;

    *ret = (struct admission_load){ .ahead = atomic_load(&revision->waiting),
                                    .replicas = side->lane_count };
    if (request->waiter.class == QUEUE_INTERACTIVE) {
        uint32_t behind = atomic_load(&revision->waiting_batch);
        ret->ahead -= behind < ret->ahead ? behind : ret->ahead;
    }
    LIST_EACH (lane, &side->lanes, struct lane, link)
        ret->running += place_running(&lane->replica->place);
    ret->running += targets_running(side);
}

int admit_deadline(struct request *request, struct err *err)
{
    char needs[UNITS_BYTES], has[UNITS_BYTES];
    struct admission *admission = &request->revision->admission;
    struct admission_load load;

    if (!request->deadline_ns || request->tried)
        return 0;
    int64_t now = loop_now_ns(), left = request->deadline_ns - now;
    if (left <= 0)
        return err_set(err, ERR_DEADLINE, "the request's deadline passed before it could run");
    if (request->http) /* its requests are not alike: what one took says nothing of the next */
        return 0;
    load_of(request, &load);
    switch (admission_ask(admission, &load, left, now)) {
    case ADMISSION_IN_TIME:
        return 0;
    case ADMISSION_TRIED:
        request->tried = true;
        return 0;
    case ADMISSION_LATE:
        break;
    }
    request->shed = SHED_deadline;
    return err_set(err, ERR_OVERLOADED,
                   "the deadline cannot be met: an answer takes about %s now, %s are left",
                   units_print_time(needs, admission_finish_ns(admission, &load)),
                   units_print_time(has, (uint64_t)left));
}

void admit_prospect(const struct request *request, struct admit_prospect *ret)
{
    const struct admission *admission = &request->revision->admission;
    struct admission_load load;

    *ret = (struct admit_prospect){ .ready = request->side->lane_count > 0 };
    bool free = admit_room(request->side);
    ret->full = depth_full(request) && !free;
    if (!ret->ready)
        return;
    if (free && !request->deadline_ns)
        return;
    load_of(request, &load);
    uint64_t finish = admission_finish_ns(admission, &load), least = admission_least_ns(admission);
    ret->finish_ms = (float)finish / 1e6f;
    ret->wait_ms = free ? 0 : (float)(finish > least ? finish - least : 0) / 1e6f;
    ret->late = request->deadline_ns && finish > 0 &&
                loop_now_ns() + (int64_t)finish > request->deadline_ns;
}

float admit_cold_ms(const struct revision *revision)
{
    int64_t since = atomic_load(&revision->cold_since_ns);

    return since ? (float)(loop_now_ns() - since) / 1e6f : 0;
}

uint64_t admit_gap_ns(const struct flight *first, size_t count, int64_t now_ns)
{
    struct replica *replica = first->lane->replica;
    int64_t before = atomic_load_explicit(&replica->completed_ns, memory_order_relaxed);

    atomic_store_explicit(&replica->completed_ns, now_ns, memory_order_relaxed);
    if (before < first->submitted_ns)
        before = first->submitted_ns;
    return now_ns > before ? (uint64_t)(now_ns - before) / count : 0;
}

uint32_t admit_retry_after_s(const struct request *request)
{
    struct admission_load load;

    if (!request->side)
        return gateway_retry_after_s_min;
    load_of(request, &load);
    return admission_retry_s(&request->revision->admission, &load, gateway_retry_after_s_min,
                             gateway_retry_after_s_max);
}
