/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container.h -- a container as we ask an engine for it, and as the engine then says it is.
 *
 * The words of the Docker Engine API 1.41, which Docker 20.10 and Podman 4.3 both speak
 * (/containers/create, /containers/ID/json). Pure: everything lies in the arena given, or is the
 * caller's. What an engine says is from outside: bounded, and read without trust. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct engine_hidden;
struct err;

struct engine_pair {
    struct slice key, value;
};

/* A volume of the engine's that is a file system of its own, and so bounded by its device. */
struct engine_volume {
    struct slice name;   /* the engine's */
    struct slice path;   /* in the container */
    struct slice device; /* "7:0" */
};

/* What the engine's resolver in a network of its own is told to ask: the container's own loopback.
 * Docker before 25.0.5 asks from outside where the machine's resolver is a loopback address, and so
 * answers names of the world to who has no way out (CVE-2024-29018). */
#define ENGINE_DNS_NOWHERE "127.0.0.1"

enum { ENGINE_GPUS_MAX = 16, ENGINE_GPUS_BYTES = 1023 /* of their names, with commas */ };

enum engine_network {
    ENGINE_NETWORK_NONE, /* a loopback of its own and nothing else: no way out */
    ENGINE_NETWORK_OWN,  /* network.h's: no way out but to this machine's own addresses */
    ENGINE_NETWORK_OPEN, /* the engine's own network: egress is allowed */
};

#define ENGINE_LABEL_HOME "perigee.home"         /* whose it is: see engine_container.home */
#define ENGINE_LABEL_REVISION "perigee.revision" /* its uid in decimal */
#define ENGINE_LABEL_REPLICA "perigee.replica"   /* its id in decimal */
#define ENGINE_LABEL_GPUS "perigee.gpus"         /* see engine_container.gpu_ids */

struct engine_container {
    struct slice name;  /* "perigee-digits-1": for people who look with the engine's own tools */
    struct slice image; /* the digest of its configuration, "sha256:HEX" */
    struct slice home;  /* tells the containers of one Perigee from another's */
    uint64_t revision, replica;
    const struct slice *command; /* instead of the image's entry point and its arguments */
    size_t command_count;        /* 0: as the image says */
    const struct engine_pair *env;
    size_t env_count;
    const struct engine_hidden *hidden; /* hidden.h; borrowed. NULL: nothing */
    uint16_t port;                      /* told as $PORT */
    struct slice user;                  /* "1000:1000"; empty: as the image says */
    bool read_only;                     /* its root; /tmp can be written in any case */
    uint64_t memory_bytes, shm_bytes, tmp_bytes;
    uint64_t cpu_milli;
    uint32_t pids;
    uint64_t nofile, nproc; /* at or under our own hard limits: else an engine may not start it */
    const struct engine_volume *volumes;
    size_t volume_count;
    uint32_t gpus;        /* of NVIDIA's; Docker alone gives them */
    struct slice gpu_ids; /* which, "GPU-...,GPU-..."; empty: those that Docker finds */
    enum engine_network network;
    struct slice network_name;  /* of ENGINE_NETWORK_OWN */
    struct slice cgroup_parent; /* "/perigee-1-7"; empty: as the engine does it */
    const char *log_driver;     /* engine_log_driver() */
};

/* The body of POST /containers/create. */
struct slice engine_container_json(struct arena *arena, const struct engine_container *container);

/* ---- what the engine says ------------------------------------------------------------------ */

struct engine_mount {
    struct slice type, name, path; /* "volume", "bind", "tmpfs" */
};

struct engine_limit {
    bool there;
    int64_t soft, hard;
};

struct engine_seen {
    struct slice id;     /* 64 small hexadecimal digits */
    struct slice image;  /* "sha256:HEX" */
    struct slice status; /* "created", "running", "exited" ... */
    struct slice error;  /* why it could not be started, or empty */
    bool running, out_of_memory;
    int64_t pid; /* 0: it does not run */
    int64_t exit_code;
    uint64_t revision, replica; /* of our labels; 0: there are none */
    struct slice home;

    bool privileged, read_only, no_new_privileges;
    bool seccomp_off;                  /* an option says "seccomp=unconfined" */
    bool capabilities_added;           /* any */
    bool devices;                      /* any, but */
    int64_t gpus;                      /* NVIDIA's, asked for as we do */
    struct slice gpu_ids;              /* which, as in engine_container; empty: any */
    const struct engine_mount *mounts; /* but a tmpfs, which counts as its memory; those too that */
    size_t mount_count;                /* an engine makes because the image asks for them */
    const struct slice *binds;         /* "NAME:PATH:...", or "/PATH:..." of a folder */
    size_t bind_count;
    bool shares;      /* a namespace of the host, or of another container */
    bool tmp;         /* there is a tmpfs at /tmp */
    bool dns_nowhere; /* its resolver asks ENGINE_DNS_NOWHERE alone */
    int64_t pids, memory_bytes, memory_swap_bytes, cpu_milli, shm_bytes;
    struct engine_limit nofile, nproc;
    struct slice network, cgroup_parent, user;
    size_t attached_count;          /* networks that it has, "none" among them; */
    struct slice attached, address; /* the first one, and its IPv4 address there */
};

enum { ENGINE_ANSWER_BYTES_MAX = 4 << 20, ENGINE_ID_BYTES = 64 };

/* The answer of GET /containers/ID/json. Strings are in the arena. */
[[nodiscard]] int engine_seen_parse(struct arena *arena, struct slice text, struct engine_seen *ret,
                                    struct err *err);

bool engine_is_id(struct slice text);   /* fit for a path */
bool engine_is_gpus(struct slice text); /* fit for gpu_ids; empty is */
