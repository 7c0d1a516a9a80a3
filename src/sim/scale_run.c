/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/scale_run.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"

#define SECOND INT64_C(1'000'000'000)

struct copy { /* a replica; of those that are gone only the place stays */
    int64_t since_ns, ready_ns;
    uint32_t running;
    bool here, ready, ends;
};

struct end { /* of a request */
    int64_t at_ns, service_ns;
    uint32_t copy;
};

struct run {
    const struct scale_trace *trace;
    const struct scale_world *world;
    struct copy copies[SCALE_RUN_REPLICAS_MAX];
    size_t top;       /* copies beyond were never used */
    struct end *ends; /* a heap: the first is the earliest */
    size_t end_count;
    size_t next, first; /* requests that are to come; of those that wait, the first */
    double *waits;
    struct scale_sight sight;
    struct scale_result *result;
    uint64_t arrivals_told;
    int64_t second_ns; /* of the series */
};

/* ---- requests that run ----------------------------------------------------------------------- */

static void swap(struct end *a, struct end *b)
{
    struct end kept = *a;
    *a = *b;
    *b = kept;
}

static void end_add(struct run *run, const struct end *end)
{
    size_t i = run->end_count++;
    for (run->ends[i] = *end; i > 0 && run->ends[(i - 1) / 2].at_ns > run->ends[i].at_ns;
         i = (i - 1) / 2)
        swap(&run->ends[i], &run->ends[(i - 1) / 2]);
}

static struct end end_take(struct run *run)
{
    struct end first = run->ends[0];
    run->ends[0] = run->ends[--run->end_count];
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < run->end_count; child++)
            if (run->ends[child].at_ns < run->ends[least].at_ns)
                least = child;
        if (least == i)
            return first;
        swap(&run->ends[i], &run->ends[least]);
        i = least;
    }
}

static struct copy *place_find(struct run *run)
{
    struct copy *best = NULL;
    for (size_t i = 0; i < run->top; i++) {
        struct copy *copy = &run->copies[i];
        if (copy->here && copy->ready && !copy->ends && copy->running < run->world->concurrency &&
            (!best || copy->running < best->running))
            best = copy;
    }
    return best;
}

static void serve(struct run *run)
{
    while (run->first < run->next) {
        struct copy *copy = place_find(run);
        if (!copy)
            break;
        const struct scale_request *request = &run->trace->requests[run->first];
        run->waits[run->first++] = (double)(run->sight.now_ns - request->at_ns) / 1e6;
        copy->running++;
        run->sight.running++;
        end_add(run, &(struct end){ run->sight.now_ns + request->service_ns, request->service_ns,
                                    (uint32_t)(copy - run->copies) });
    }
    run->sight.waiting = (uint32_t)(run->next - run->first);
}

/* ---- replicas -------------------------------------------------------------------------------- */

static void gone(struct run *run, struct copy *copy)
{
    run->result->replica_s += (double)(run->sight.now_ns - copy->since_ns) / 1e9;
    copy->here = false;
}

static void start(struct run *run)
{
    for (size_t i = 0; i < SCALE_RUN_REPLICAS_MAX; i++) {
        if (run->copies[i].here)
            continue;
        if (i >= run->top)
            run->top = i + 1;
        run->copies[i] = (struct copy){ .since_ns = run->sight.now_ns,
                                        .ready_ns = run->sight.now_ns + run->world->start_ns,
                                        .here = true };
        run->sight.starting++;
        run->result->starts++;
        return;
    }
}

/* The one that loses least: one that starts (the youngest), else the one with least in it. */
static void stop(struct run *run)
{
    struct copy *victim = NULL;
    for (size_t i = 0; i < run->top; i++) {
        struct copy *copy = &run->copies[i];
        if (!copy->here || copy->ends)
            continue;
        bool better = !victim || (!copy->ready && victim->ready) ||
                      (!copy->ready && copy->ready_ns > victim->ready_ns) ||
                      (copy->ready && victim->ready && copy->running < victim->running);
        if (better)
            victim = copy;
    }
    assert(victim);
    if (victim->ready)
        run->sight.ready--;
    else
        run->sight.starting--;
    victim->ends = true;
    if (victim->running == 0)
        gone(run, victim);
}

static void decide(struct run *run, const struct scale_way *way)
{
    run->sight.oldest_ns =
        run->sight.waiting ? run->sight.now_ns - run->trace->requests[run->first].at_ns : 0;
    uint32_t desired = way->decide(&run->sight, way->data);
    if (desired > SCALE_RUN_REPLICAS_MAX / 2)
        desired = SCALE_RUN_REPLICAS_MAX / 2;
    while (run->sight.ready + run->sight.starting < desired)
        start(run);
    while (run->sight.ready + run->sight.starting > desired)
        stop(run);
    if (desired > run->result->most)
        run->result->most = desired;
    serve(run);
}

static int64_t readies(struct run *run, bool now)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < run->top; i++) {
        struct copy *copy = &run->copies[i];
        if (!copy->here || copy->ready || copy->ends)
            continue;
        if (now && copy->ready_ns <= run->sight.now_ns) {
            copy->ready = true;
            run->sight.starting--;
            run->sight.ready++;
        } else if (copy->ready_ns < next) {
            next = copy->ready_ns;
        }
    }
    return next;
}

/* ---- time ------------------------------------------------------------------------------------ */

static void series_add(struct run *run)
{
    struct scale_result *result = run->result;
    if (result->series_count == SCALE_SERIES_MAX)
        return;
    uint32_t here = 0;
    for (size_t i = 0; i < run->top; i++)
        here += run->copies[i].here;
    result->series[result->series_count].replicas = (float)here;
    result->series[result->series_count].ready = (float)run->sight.ready;
    result->series[result->series_count].concurrency =
        (float)(run->sight.running + run->sight.waiting);
    result->series[result->series_count++].arrivals =
        (float)(run->sight.arrivals - run->arrivals_told);
    run->arrivals_told = run->sight.arrivals;
}

static void time_set(struct run *run, int64_t now_ns)
{
    while (run->second_ns <= now_ns) {
        series_add(run);
        run->second_ns += SECOND;
    }
    run->sight.concurrency_s +=
        (double)(now_ns - run->sight.now_ns) / 1e9 * (run->sight.running + run->sight.waiting);
    run->sight.now_ns = now_ns;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool done(const struct run *run)
{
    if (run->next < run->trace->count || run->end_count || run->first < run->next)
        return false;
    return run->sight.ready + run->sight.starting == 0 ||
           run->sight.now_ns >
               run->trace->requests[run->trace->count - 1].at_ns + SCALE_HOUR_S * SECOND;
}

static void arrive(struct run *run, const struct scale_way *way)
{
    run->next++;
    run->sight.arrivals++;
    if (run->sight.ready == 0)
        run->result->cold++;
    serve(run);
    if (run->sight.waiting == 1 && run->sight.ready + run->sight.starting == 0)
        decide(run, way);
}

static void complete(struct run *run)
{
    struct end end = end_take(run);
    struct copy *copy = &run->copies[end.copy];
    copy->running--;
    run->sight.running--;
    run->sight.done++;
    run->sight.busy_ns += (uint64_t)end.service_ns;
    if (copy->ends && copy->running == 0)
        gone(run, copy);
    serve(run);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void waits_sum(struct run *run)
{
    size_t count = run->trace->count;
    struct scale_result *result = run->result;
    for (size_t i = 0; i < count; i++)
        result->wait_mean_ms += run->waits[i] / (double)count;
    qsort(run->waits, count, sizeof *run->waits, by_size);
    result->wait_p50_ms = run->waits[count / 2];
    result->wait_p99_ms = run->waits[(count * 99 - 1) / 100];
    result->wait_max_ms = run->waits[count - 1];
}

void scale_run(const struct scale_trace *trace, const struct scale_world *world,
               const struct scale_way *way, struct scale_result *ret)
{
    struct run run = { .trace = trace, .world = world, .result = ret, .second_ns = SECOND };
    int64_t tick_ns = way->tick_ns, ready_ns = INT64_MAX;

    *ret = (struct scale_result){};
    run.ends = mem_alloc((SCALE_RUN_REPLICAS_MAX * world->concurrency + 1) * sizeof *run.ends);
    run.waits = mem_alloc(trace->count * sizeof *run.waits);
    while (!done(&run)) {
        int64_t arrival_ns = run.next < trace->count ? trace->requests[run.next].at_ns : INT64_MAX;
        int64_t end_ns = run.end_count ? run.ends[0].at_ns : INT64_MAX;
        int64_t now_ns = earlier(earlier(arrival_ns, end_ns), earlier(tick_ns, ready_ns));
        time_set(&run, now_ns);
        if (now_ns == end_ns) {
            complete(&run);
        } else if (now_ns == ready_ns) {
            (void)readies(&run, true);
            serve(&run);
        } else if (now_ns == arrival_ns) {
            arrive(&run, way);
        } else {
            tick_ns += way->tick_ns;
            decide(&run, way);
        }
        ready_ns = readies(&run, false);
    }
    for (size_t i = 0; i < run.top; i++)
        if (run.copies[i].here)
            gone(&run, &run.copies[i]);
    waits_sum(&run);
    free(run.ends);
    free(run.waits);
}
