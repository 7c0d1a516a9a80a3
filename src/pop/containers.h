/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containers.h -- the agent's shell around the driver of container engines (replica/engine/): what
 * runs the replicas of revisions that have an image.
 *
 *   engine_here.c      which engine there is: found, asked who it is, looked through for what an
 *                      earlier agent left; asked again with back-off while it is away
 *   images.c           a revision's image: its blobs, given to the engine
 *   volumes.c          its folders that last; volumes_make.c, volumes_keep.c: which stay
 *   networks.c         networks of endpoints, where those of containers cannot be entered
 *   container.c        the life of one replica: container_begin.c, how it is begun or taken over;
 *                      container_ready.c, how it is reached, and from when on it is in the table
 *   containers_kept.c  those that run, noted for the next agent
 *   container_probe.c  whether it is well
 *
 * An engine is asked for once it is of use: a revision has an image, or this home had containers
 * before. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "pop/state.h"
#include "replica/engine/engine.h"

#define CONTAINERS_FILE "pop/containers" /* in the home: it has had some, and which run */

struct agent;
struct arena;
struct container;
struct container_probe;
struct engine_container;
struct engine_kept;
struct engine_list;
struct engine_listed;
struct engine_watch;
struct http_client;
struct image_fetch;
struct network_make;
struct timer;
struct usage_replica;
struct volumes_make;
struct work_pool;

enum agent_engine_state {
    AGENT_ENGINE_NONE,
    AGENT_ENGINE_ASKED,
    AGENT_ENGINE_HERE,
    AGENT_ENGINE_AWAY
};

struct agent_containers {
    struct http_client *client; /* of probes; NULL until there is one */
    enum agent_engine_state state;
    struct engine *engine;   /* NULL: none was found */
    struct address address;  /* where it is */
    struct work_pool *pool;  /* reads layers and blobs; NULL until there is an engine */
    struct engine_call *ask; /* who it is, what it can */
    struct engine_watch *watch;
    struct engine_version version;
    struct engine_info info;
    struct timer *again;
    uint32_t failures;
    char why[504];              /* AWAY: why */
    char home[80];              /* labels of what is this home's */
    bool marked;                /* the home's file is there */
    bool met;                   /* it was here once */
    bool listed;                /* ... and has said which containers there are */
    bool ending;                /* nothing is started any more */
    bool groups_left;           /* all have ended but for their control groups */
    struct list fetches;        /* struct image_fetch */
    struct list all;            /* struct container */
    struct list volumes;        /* struct agent_volume */
    uint64_t volume_bytes;      /* of all, on the disk */
    uint64_t gpu_turn;          /* see gpus_choose() */
    bool volumes_posted;        /* it is looked soon for those that nobody needs */
    unsigned volumes_ending;    /* the engine is asked to forget them */
    char no_way_in[256];        /* why containers' networks cannot be entered; empty: they can */
    bool networks;              /* one was made at the engine */
    bool networks_posted;       /* it is looked soon for those that nobody needs */
    unsigned networks_ending;   /* it is asked for those that nobody needs */
    char (*given)[DIGEST_TEXT]; /* images that the engine has from us; NULL: not looked yet */
    size_t given_count;
    struct timer *end_timer; /* of agent_containers_end() */
    int64_t end_at_ms;
    struct timer *look_timer; /* until it is looked for what is left; NULL: nothing was */
    int64_t look_ms;          /* ... and then so much later again; 0: not */
    void (*on_ended)(struct agent *agent);
};

/* engine_here.c */
void agent_containers_open(struct agent *agent); /* at GO */
void agent_containers_close(struct agent *agent);
/* Of use from here on; again is harmless. */
void agent_engine_want(struct agent *agent);
bool agent_engine_here(const struct agent *agent);
void agent_engine_at(struct agent *agent, const struct address *address); /* there it is asked */
/* Control has told everything: what nobody knows goes. */
void agent_containers_look(struct agent *agent);
void agent_containers_left(struct agent *agent); /* it is tried again */
/* All of them end, within a bound; `on_ended` (NULL: it is told later) then, perhaps at once. */
void agent_containers_end(struct agent *agent, void (*on_ended)(struct agent *agent));
void agent_containers_gone(struct agent *agent); /* one has, or its group */

/* images.c */
/* Ends in pop_model_fetched(). */
void agent_image_fetch(struct agent *agent, uint64_t revision);
void agent_image_awaited(struct agent *agent, uint64_t revision); /* ... no longer ahead of need */
void agent_images_engine(struct agent *agent); /* the engine is there, or away for now */
void agent_images_close(struct agent *agent);

/* images_given.c */
void agent_image_given(struct agent *agent, struct slice digest); /* the engine has it from us */
/* Its revision is no more: the engine need not have it, unless another one does. */
void agent_image_gone(struct agent *agent, const struct pop_revision *revision);
/* Once the engine is here and control has told everything: what was given before and no revision
 * needs goes. Again is harmless. */
void agent_images_look(struct agent *agent);

/* volumes.c, volumes_make.c, volumes_keep.c */
/* What a revision's spec has under `volumes` is there and known to the engine, or err says why not.
 * Not from inside. */
typedef void (*volumes_made_cb)(const struct err *err, void *data);
struct volumes_make *agent_volumes_make(struct agent *agent, const struct pop_revision *revision,
                                        volumes_made_cb on_made, void *data);
void volumes_make_forget(struct volumes_make *make); /* on_made is not called */
/* Made before: with devices from here on. ERR_NOT_FOUND: it was not. */
[[nodiscard]] int agent_volumes_attach(struct agent *agent, const struct pop_revision *revision,
                                       struct err *err);
/* As a container is to have them, in the arena. One without a device has no name. */
void agent_volumes_tell(const struct agent *agent, struct arena *arena,
                        const struct pop_revision *revision, struct engine_container *ret);
/* How many bytes there are on the disk, in all and of each endpoint: control hears of it. */
void agent_volumes_count(struct agent *agent);
/* Once control has told everything: those that no revision needs go, or that may not be here, and
 * where the engine is here it forgets them. */
void agent_volumes_look(struct agent *agent);
void agent_volumes_soon(struct agent *agent); /* ... on the loop's next turn */
void agent_volumes_gone(struct agent *agent, const struct pop_revision *revision); /* soon is */
/* No container is left: the engine forgets them, what is in them stays. False: it is under way, and
 * agent_containers_gone() follows. */
bool agent_volumes_end(struct agent *agent);
void agent_volumes_close(struct agent *agent);

/* networks.c */
enum { AGENT_NETWORK_BYTES = 64 };
/* From here on they cannot be entered, or can be again (NULL). */
void agent_networks_no_way_in(struct agent *agent, const char *why);
/* Are the revision's containers to have the endpoint's own network? */
bool agent_network_wanted(const struct agent *agent, const struct pop_revision *revision);
const char *agent_network_name(const struct agent *agent, const struct pop_revision *revision,
                               char ret[static AGENT_NETWORK_BYTES]);
/* Who forbids that its containers are reached in the weaker way; NULL: nobody. */
const char *agent_network_forbids(const struct agent *agent, const struct pop_revision *revision);
/* ERR_PRECONDITION: they can be reached in a weaker way alone, and that is forbidden. */
[[nodiscard]] int agent_network_allowed(const struct agent *agent,
                                        const struct pop_revision *revision, struct err *err);
/* It is there, or err says why not. Not from inside. */
typedef void (*network_made_cb)(const struct err *err, void *data);
struct network_make *agent_network_make(struct agent *agent, const struct pop_revision *revision,
                                        network_made_cb on_made, void *data);
void network_make_forget(struct network_make *make); /* on_made is not called */
void agent_networks_look(struct agent *agent);       /* those that nobody needs go */
void agent_networks_gone(struct agent *agent);       /* a revision is: soon it is looked */
bool agent_networks_end(struct agent *agent);        /* as agent_volumes_end() */

/* container_begin.c */
[[nodiscard]] int agent_container_start(struct agent *agent, struct pop_replica *replica,
                                        struct err *err);
/* One that an earlier agent began, of that revision. False: it is one that may not be any more. */
bool agent_container_adopt(struct agent *agent, struct pop_revision *revision,
                           const struct engine_listed *item);
/* The same before the engine has said a word; takes the pidfd. */
void agent_container_resume(struct agent *agent, struct pop_revision *revision,
                            const struct engine_kept *kept, int pidfd);
/* The control group above a container ("/perigee-HOME/ID"); empty: the engine names it. */
void agent_container_group(const struct agent *agent, uint64_t replica, char *ret, size_t room);

/* container.c */
void agent_container_kill(struct agent *agent, const struct pop_replica *replica,
                          enum replica_end end, const char *text);
/* The engine has it, of those that were resumed; and those that it has not end. */
void agent_container_heard(struct agent *agent, uint64_t replica);
void agent_containers_unheard(struct agent *agent, const struct engine_list *list);
/* Those that run, in the arena. */
struct engine_kept *agent_containers_running(const struct agent *agent, struct arena *arena,
                                             size_t *ret_count);
/* Once all that an earlier agent left are shown to who enters networks, or of no use, that one is
 * told so. */
void agent_containers_shown(struct agent *agent);
bool agent_container_known(const struct agent *agent, uint64_t replica);
void agent_containers_stop(struct agent *agent, int64_t grace_ms); /* all */
void agent_containers_kill(struct agent *agent);   /* all, without the engine; it removes them */
void agent_containers_forget(struct agent *agent); /* all, as they are */

/* container_ready.c */
/* What the helper saw of one that was shown (inside.c). */
void agent_container_shown(struct agent *agent, uint64_t replica, const struct err *err);

/* containers_kept.c */
void agent_containers_note(struct agent *agent);   /* which run, or do not any more */
void agent_containers_resume(struct agent *agent); /* at GO: those of the agent before */

/* container_probe.c */
/* Well with the first good answer; not well with each bad one after `failures` in a row. Not from
 * inside; may be freed in it. */
typedef void (*container_probe_cb)(struct container_probe *probe, bool well, const char *why,
                                   void *data);
struct container_place { /* that is probed */
    uint64_t replica;    /* in whose network; 0: `ip` is reached from here */
    struct ip ip;
    uint16_t port;
    struct slice id;                    /* the engine's */
    const struct engine_hidden *hidden; /* from what it says; outlives the probe */
};
/* `hasty`: it has just been started, see prober.h. */
struct container_probe *container_probe_new(struct agent *agent,
                                            const struct container_place *place,
                                            const struct spec_probe *spec, bool hasty,
                                            container_probe_cb on_seen, void *data);
void container_probe_free(struct container_probe *probe); /* NULL is allowed */
