/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was given to the engine goes from there once no revision needs it, or sooner, where its disk
 * has no room for another one. A file of the home knows it, so that what could not be removed while
 * the engine or the agent was away is removed later.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "pop/agent.h"
#include "pop/images_inside.h"
#include "replica/engine/container.h"
#include "store/digest.h"
#include "sys/env_linux.h"

#define GIVEN_FILE "pop/images"

enum { ASK_MS = 30'000, GIVEN_MAX = 4096 };

/* ---- the file -------------------------------------------------------------------------------- */

static const char *file_of(const struct agent *agent, struct arena *arena)
{
    return arena_format(arena, "%s/" GIVEN_FILE, agent->start.home);
}

static void add(struct agent_containers *containers, struct slice digest)
{
    char *row = containers->given[containers->given_count++];

    snprintf(row, sizeof containers->given[0], "%.*s", SLICE_FMT(digest));
}

/* One that is not there, or that cannot be read, names none. */
static void read_once(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;
    struct slice text;

    if (containers->given)
        return;
    containers->given = mem_zalloc(GIVEN_MAX * sizeof containers->given[0]);
    struct arena *arena = arena_new();
    if (disk_read(file_of(agent, arena), GIVEN_MAX * DIGEST_TEXT, arena, &text, NULL) == 0)
        while (text.size && containers->given_count < GIVEN_MAX) {
            struct slice line = slice_cut(&text, '\n');
            if (digest_check(line, NULL) == 0)
                add(containers, line);
        }
    arena_free(arena);
}

static void save(const struct agent *agent)
{
    const struct agent_containers *containers = &agent->containers;
    size_t room = containers->given_count * DIGEST_TEXT + 1, used = 0;
    struct arena *arena = arena_new();
    char *text = arena_alloc(arena, room);
    struct err err;

    for (size_t i = 0; i < containers->given_count; i++)
        used += (size_t)snprintf(text + used, room - used, "%s\n", containers->given[i]);
    if (disk_replace(file_of(agent, arena), (struct slice){ text, used }, &err) < 0)
        log_warn("pop", "not noted which images the engine has", LOG_S("why", err.message));
    arena_free(arena);
}

static size_t find(const struct agent_containers *containers, struct slice digest)
{
    size_t i = 0;

    while (i < containers->given_count && !slice_is(digest, containers->given[i]))
        i++;
    return i;
}

void agent_image_given(struct agent *agent, struct slice digest)
{
    struct agent_containers *containers = &agent->containers;

    read_once(agent);
    if (find(containers, digest) < containers->given_count)
        return;
    if (containers->given_count == GIVEN_MAX) {
        log_warn("pop", "too many images are at the engine: this one may stay there",
                 LOG_SLICE("image", digest));
        return;
    }
    add(containers, digest);
    save(agent);
}

static void forget(struct agent *agent, struct slice digest)
{
    struct agent_containers *containers = &agent->containers;
    size_t i = find(containers, digest);

    if (i == containers->given_count)
        return;
    containers->given_count--;
    memmove(containers->given[i], containers->given[containers->given_count], DIGEST_TEXT);
    save(agent);
}

/* ---- removing -------------------------------------------------------------------------------- */

struct gone {
    struct agent *agent; /* whose engine asks, and so lives */
    char digest[DIGEST_TEXT];
    char target[256];
    uint64_t room_for; /* a revision whose image waits for its room; 0: none */
};

static void over(struct gone *gone, const struct err *err, bool known_no_more)
{
    bool asks = !err || err->code != ERR_CANCELED; /* else there is no engine any more */

    if (known_no_more)
        forget(gone->agent, slice_of(gone->digest));
    if (gone->room_for && asks)
        agent_images_room_made(gone->agent, gone->room_for, known_no_more);
    free(gone);
}

static void on_dropped(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct gone *gone = data;
    (void)answer;

    if (err && err->code != ERR_NOT_FOUND && err->code != ERR_CANCELED)
        log_info("pop", "an image that no revision needs stays at the engine for now",
                 LOG_S("why", err->message));
    over(gone, err, !err || err->code == ERR_NOT_FOUND);
}

static bool has_name(const struct engine_answer *answer, bool *ret_known)
{
    static const struct json_limits limits = { .bytes_max = ENGINE_ANSWER_BYTES_MAX,
                                               .duplicates_allowed = true };
    struct arena *arena = arena_new();
    yyjson_val *root;

    *ret_known = json_parse(arena, answer->body, &limits, &root, NULL) == 0;
    bool named = *ret_known && yyjson_arr_size(json_member(root, "RepoTags")) > 0;
    arena_free(arena);
    return named;
}

/* Ours have no name: one that has is somebody else's as well. */
static void on_seen(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct gone *gone = data;
    bool known = false, named = !err && has_name(answer, &known);

    if (named || !known) {
        over(gone, err, named || (err && err->code == ERR_NOT_FOUND));
        return;
    }
    gone->target[strlen(gone->target) - strlen("/json")] = '\0';
    engine_ask(gone->agent->containers.engine, ENGINE_DELETE, gone->target, (struct slice){},
               ASK_MS, on_dropped, gone);
}

/* What is not understood may be of it. */
static bool needed(const struct agent *agent, struct slice digest,
                   const struct pop_revision *dropped)
{
    const struct pop_endpoint *endpoint;
    const struct pop_revision *revision;

    if (pop_unread(&agent->pop, 0))
        return true;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if (revision != dropped && revision->image &&
                slice_equal(revision->image->config.digest, digest))
                return true;
    return false;
}

static void go(struct agent *agent, struct slice digest, uint64_t room_for)
{
    struct gone *gone = mem_zalloc(sizeof *gone);

    gone->agent = agent;
    gone->room_for = room_for;
    snprintf(gone->digest, sizeof gone->digest, "%.*s", SLICE_FMT(digest));
    snprintf(gone->target, sizeof gone->target, "/images/%s/json", gone->digest);
    engine_ask(agent->containers.engine, ENGINE_GET, gone->target, (struct slice){}, ASK_MS,
               on_seen, gone);
}

static void drop(struct agent *agent, struct slice digest, const struct pop_revision *dropped)
{
    if (!needed(agent, digest, dropped))
        go(agent, digest, 0);
}

void agent_image_gone(struct agent *agent, const struct pop_revision *dropped)
{
    if (dropped->image && agent_engine_here(agent))
        drop(agent, dropped->image->config.digest, dropped);
}

void agent_images_look(struct agent *agent)
{
    struct agent_containers *containers = &agent->containers;

    if (!agent_engine_here(agent) || !agent->pop.synced)
        return;
    read_once(agent);
    for (size_t i = 0; i < containers->given_count; i++)
        drop(agent, slice_of(containers->given[i]), NULL);
}

/* ---- making room ----------------------------------------------------------------------------- */

/* Nothing of it runs here, and it is not held ahead of need (reconcile.c). */
static bool revision_rests(const struct pop_revision *revision)
{
    const struct pop_endpoint *endpoint = revision->endpoint;
    uint32_t number = revision->number;
    bool carries = number == endpoint->serving || number == endpoint->target ||
                   number == pop_endpoint_lead(endpoint) || pop_endpoint_shares(endpoint, number);
    bool may = revision->wanted && endpoint->wanted && endpoint->running && !endpoint->elsewhere &&
               (!endpoint->placed || endpoint->replicas > 0);

    return revision->replica_count == 0 && revision->model_state != POP_MODEL_FETCHING &&
           !(carries && may) &&
           pop_replicas_wanted(endpoint, revision, env_now_ns(endpoint->pop->env)) == 0;
}

/* When traffic last left one of the revisions that have it. False: one of them is of use now, or
 * none has it, and it goes without this. */
static bool rests(const struct agent *agent, struct slice digest, int64_t *ret_left_ns)
{
    const struct pop_endpoint *endpoint;
    const struct pop_revision *revision;
    bool any = false;

    *ret_left_ns = 0;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            if (!revision->image || !slice_equal(revision->image->config.digest, digest))
                continue;
            if (!revision_rests(revision))
                return false;
            any = true;
            if (revision->left_ns > *ret_left_ns)
                *ret_left_ns = revision->left_ns;
        }
    return any;
}

/* Who asks for one of them from now on asks the engine first. */
static void absent(struct agent *agent, struct slice digest)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;

    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if (revision->image && slice_equal(revision->image->config.digest, digest) &&
                revision->model_state == POP_MODEL_HERE)
                pop_model_state_move(&revision->model_state, POP_MODEL_ABSENT);
}

bool agent_image_make_room(struct agent *agent, uint64_t revision)
{
    struct agent_containers *containers = &agent->containers;
    size_t best = SIZE_MAX;
    int64_t left_ns, best_ns = INT64_MAX;

    if (!agent->pop.synced || pop_unread(&agent->pop, 0))
        return false;
    read_once(agent);
    for (size_t i = 0; i < containers->given_count; i++)
        if (rests(agent, slice_of(containers->given[i]), &left_ns) && left_ns < best_ns) {
            best = i;
            best_ns = left_ns;
        }
    if (best == SIZE_MAX)
        return false;
    struct slice digest = slice_of(containers->given[best]);
    log_info("pop", "an image makes room at the engine for another one",
             LOG_SLICE("image", digest));
    absent(agent, digest);
    go(agent, digest, revision);
    return true;
}
