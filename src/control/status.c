/* SPDX-License-Identifier: Apache-2.0 */
#include "control/status.h"

#include <stdarg.h>
#include <stdio.h>

#include "spec/units.h"

const char *status_word(enum status_state state)
{
    static const char *const words[] = {
#define STATUS_WORD(id, word, text) word,
        STATUS_STATES(STATUS_WORD)
#undef STATUS_WORD
    };
    return words[state];
}

[[gnu::format(printf, 4, 5)]] static void set(struct status *ret, enum status_state state,
                                              const char *reason, const char *format, ...)
{
    va_list arguments;
    ret->state = state;
    ret->reason = reason;
    va_start(arguments, format);
    vsnprintf(ret->message, sizeof ret->message, format, arguments);
    va_end(arguments);
}

static void decide_stopped(const struct status_input *in, struct status *ret)
{
    uint32_t left = in->target_ready + in->target_starting + in->other_ready + in->draining;
    if (left)
        set(ret, STATUS_STOPPED, "draining",
            left == 1 ? "stopped; %u replica finishes what it has"
                      : "stopped; %u replicas finish what they have",
            left);
    else
        set(ret, STATUS_STOPPED, "stopped", "stopped");
}

static void decide_failed(const struct status_input *in, struct status *ret)
{
    struct slice why = in->target_message.size ? in->target_message : in->backoff_message;
    if (why.size > STATUS_MESSAGE_BYTES - 200)
        why.size = STATUS_MESSAGE_BYTES - 200;
    if (why.size == 0)
        why = SLICE("it does not get ready");
    if (in->serving && in->serving != in->target)
        set(ret, STATUS_FAILED, "target_failed",
            "revision %llu: %.*s; revision %llu keeps the traffic", (unsigned long long)in->target,
            SLICE_FMT(why), (unsigned long long)in->serving);
    else
        set(ret, STATUS_FAILED, "target_failed", "revision %llu: %.*s",
            (unsigned long long)in->target, SLICE_FMT(why));
}

static void decide_copying(const struct status_input *in, struct status *ret)
{
    enum status_state state = in->copy_failed ? STATUS_FAILED : STATUS_DEPLOYING;
    const char *reason = in->copy_failed || in->copy_troubled ? "copy_failed" : "copying";
    if (in->serving && in->serving != in->target)
        set(ret, state, reason, "revision %llu: %s; revision %llu keeps the traffic",
            (unsigned long long)in->target, in->copying, (unsigned long long)in->serving);
    else
        set(ret, state, reason, "revision %llu: %s", (unsigned long long)in->target, in->copying);
}

static void set_ready(struct status *ret, enum status_state state, const char *reason,
                      uint32_t ready, uint64_t wanted)
{
    set(ret, state, reason, "%u of %llu replica%s ready", ready, (unsigned long long)wanted,
        wanted == 1 ? "" : "s");
}

static void set_idle(struct status *ret)
{
    set(ret, STATUS_IDLE, "idle", "at zero; the first request starts a replica and waits for it");
}

static void decide_serving(const struct status_input *in, struct status *ret)
{
    uint64_t wanted = in->replicas_min ? in->replicas_min : 1;
    if (in->idle && in->target_ready == 0)
        set_idle(ret);
    else if (in->target_ready >= wanted && in->spread_short)
        set(ret, STATUS_PARTIAL, "spread",
            "%u of %llu replicas ready, on fewer PoPs than spread asks "
            "for: there are no more that may run it",
            in->target_ready, (unsigned long long)wanted);
    else if (in->target_ready >= wanted)
        set_ready(ret, STATUS_ACTIVE, "serving", in->target_ready, wanted);
    else if (in->target_ready)
        set_ready(ret, STATUS_PARTIAL, in->target_backoff ? "backoff" : "starting",
                  in->target_ready, wanted);
    else
        set(ret, STATUS_DEPLOYING, in->target_backoff ? "backoff" : "restarting",
            "no replica is ready: %s",
            in->target_backoff ? "the next start waits for its back-off" : "one is being started");
}

/* "90% revision 1, 10% revision 2" */
static void shares_text(const struct status_input *in, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < in->share_count && used < room; i++) {
        char share[UNITS_BYTES];
        uint32_t ppm = traffic_ppm(in->shares, in->share_count, i);
        int size = snprintf(text + used, room - used, "%s%s revision %u", i ? ", " : "",
                            units_print_share(share, ppm), in->shares[i].revision);
        used += (size_t)(size > 0 ? size : 0);
    }
}

static size_t share_of(const struct status_input *in, uint64_t revision)
{
    size_t at = 0;
    while (at < in->share_count && in->shares[at].revision != revision)
        at++;
    return at;
}

/* A revision without a ready replica gets nothing: docs/traffic.md. */
static void decide_split(const struct status_input *in, struct status *ret)
{
    char shares[256];
    uint64_t wanted = in->replicas_min ? in->replicas_min : 1;
    uint32_t ready = in->share_ready[share_of(in, in->lead)], any = 0;
    /* A canary shows once that it can run, also where the others are at zero. */
    bool shown = slice_is(in->target_state, "ready") || share_of(in, in->target) == in->share_count;
    for (size_t i = 0; i < in->share_count; i++)
        any += in->share_ready[i];
    if (in->idle && shown && any == 0) {
        set_idle(ret);
        return;
    }
    shares_text(in, shares, sizeof shares);
    for (size_t i = 0; i < in->share_count; i++)
        if (in->share_ready[i] == 0) {
            set(ret, STATUS_DEPLOYING, in->target_backoff ? "backoff" : "starting",
                "revision %u is being started; its share goes to the others meanwhile: %s",
                in->shares[i].revision, shares);
            return;
        }
    set(ret, ready < wanted ? STATUS_PARTIAL : STATUS_ACTIVE,
        ready < wanted ? "starting" : "serving", "%s; %u of %llu replica%s of revision %llu ready",
        shares, ready, (unsigned long long)wanted, wanted == 1 ? "" : "s",
        (unsigned long long)in->lead);
}

void status_decide(const struct status_input *in, struct status *ret)
{
    bool failed = slice_is(in->target_state, "failed");
    /* The target may be none of those that share. */
    bool target_counts = in->share_count == 0 || share_of(in, in->target) < in->share_count;
    uint64_t next = in->share_count ? in->lead : in->target;
    if (in->stopped)
        decide_stopped(in, ret);
    else if (in->pops == 0)
        set(ret, STATUS_DEPLOYING, "no_pop", "no PoP has reported yet");
    else if (in->nowhere)
        set(ret, in->forbidden ? STATUS_FAILED : STATUS_DEPLOYING, "not_placed",
            "no PoP may and can run it: %s", in->nowhere);
    else if (in->copying)
        decide_copying(in, ret);
    else if (failed && target_counts && (in->serving != in->target || in->target_ready == 0))
        decide_failed(in, ret);
    else if (in->share_count && in->serving == in->lead)
        decide_split(in, ret);
    else if (in->serving == next && in->serving)
        decide_serving(in, ret);
    else if (in->serving)
        set(ret, STATUS_DEPLOYING, "starting",
            "revision %llu is being started; revision %llu has the traffic meanwhile",
            (unsigned long long)next, (unsigned long long)in->serving);
    else
        set(ret, STATUS_DEPLOYING, in->target_backoff ? "backoff" : "starting",
            "revision %llu is being started", (unsigned long long)next);

    if (in->pops && in->pops_silent == in->pops && !in->stopped) {
        ret->reason = "pop_silent";
        size_t used = strnlen(ret->message, sizeof ret->message);
        snprintf(ret->message + used, sizeof ret->message - used,
                 " (as last heard: no PoP has reported lately)");
    }
}
