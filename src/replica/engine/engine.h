/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h -- a container engine that already runs, over its Unix socket: Docker (20.10 and later)
 * or Podman (`podman system service`, 4.3 and later), which speak the same API.
 *
 * Ownership: the caller owns the engine, the engine its calls. Each call's callback runs exactly
 * once, never before the call has returned, and with ERR_CANCELED when the engine is freed or the
 * call is taken back. Loop thread only. Everything that an engine says is bounded.
 *
 * The engine never pulls: images are given to it (engine_load), and containers are made of their
 * configuration's digest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "io/address.h"

struct arena;
struct engine;
struct engine_call;
struct engine_groups;
struct loop;
struct work_pool;

/* Where an engine is: `told` (unix:PATH, the flag), else $DOCKER_HOST, else the first that is there
 * of the usual sockets of Podman and Docker. ERR_NOT_FOUND says what to install. */
[[nodiscard]] int engine_find(struct slice told, struct address *ret, struct err *err);

/* `pool`: one thread at least, reads what is loaded. Both outlive the engine. */
struct engine *engine_new(struct loop *loop, struct work_pool *pool, const struct address *address);
void engine_free(struct engine *engine); /* NULL is allowed */
/* What is left of containers at the kernel, to be removed; the engine's. */
struct engine_groups *engine_groups(struct engine *engine);

/* ---- calls ----------------------------------------------------------------------------------- */

struct engine_answer {
    int status;
    struct slice body; /* at most ENGINE_ANSWER_BYTES_MAX; lives until the callback returns */
};
/* err is set where there was no answer, or one of 400 and more: with the engine's own words, and
 * ERR_NOT_FOUND for 404, ERR_CONFLICT for 409. `answer` is NULL where there was none. */
typedef void (*engine_cb)(const struct engine_answer *answer, const struct err *err, void *data);

enum engine_method { ENGINE_GET, ENGINE_POST, ENGINE_DELETE };

/* `target` begins behind the version: "/containers/json". `json` is a body, or empty; copied. */
struct engine_call *engine_ask(struct engine *engine, enum engine_method method, const char *target,
                               struct slice json, int64_t timeout_ms, engine_cb on_done,
                               void *data);
void engine_cancel(struct engine_call *call);
void engine_forget(struct engine_call *call); /* the same, and on_done is not called */

/* The same for what has no end, or none soon: logs, events. on_bytes may be called until on_done.
 * `answer` has no body; timeout_ms 0: none. */
typedef void (*engine_bytes_cb)(struct slice bytes, void *data);
struct engine_call *engine_follow(struct engine *engine, enum engine_method method,
                                  const char *target, struct slice json, int64_t timeout_ms,
                                  engine_bytes_cb on_bytes, engine_cb on_done, void *data);

/* ---- who it is ------------------------------------------------------------------------------- */

struct engine_version {
    char name[32];                /* "Podman", "Docker" */
    char version[64];             /* "4.3.1" */
    char api[16];                 /* "1.41", the one used */
    char system[16], machine[16]; /* "linux", "amd64" */
    bool podman;
};
/* 1.41 is used, or the oldest that a newer engine still speaks. */
enum { ENGINE_API_MINOR = 41 };

/* What the engine says of itself (GET /version). ERR_NOT_SUPPORTED: older than we use. Pure. */
[[nodiscard]] int engine_version_parse(struct slice text, struct engine_version *ret,
                                       struct err *err);

/* From here on that version is asked for: a newer engine answers as it did then. */
void engine_use(struct engine *engine, const struct engine_version *version);
/* Which of its log drivers bounds its file and can still be followed: Docker's usual one stands
 * still once its file was begun anew. */
const char *engine_log_driver(const struct engine *engine);

/* ---- what it can (GET /info) ----------------------------------------------------------------- */

struct engine_info {
    bool seccomp, memory, pids, cpu; /* it can bound a container by these */
    bool rootless;
    unsigned cgroup_version;
    char cgroup_driver[16]; /* "cgroupfs", "systemd" */
    char root[256];         /* the folder of its images and containers; empty: not said */
};
[[nodiscard]] int engine_info_parse(struct slice text, struct engine_info *ret, struct err *err);
/* False: "memory, pids" says what is missing. */
bool engine_info_whole(const struct engine_info *info, char *lacks, size_t room);

/* Has its disk room for an image that comes as so many bytes? While it is given, the archive and
 * what it unpacks to are there at once; what is packed needs more, which nobody knows beforehand.
 * `first_bytes` come into `folder` before (NULL: none do), and count where that is the same disk.
 * ERR_OVERLOADED: no. Where the disk cannot be asked the engine may see. */
[[nodiscard]] int engine_info_room(const struct engine_info *info, uint64_t bytes,
                                   const char *folder, uint64_t first_bytes, struct err *err);

/* ---- images ---------------------------------------------------------------------------------- */

struct engine_piece {   /* of a docker-archive */
    struct slice bytes; /* copied; or, where it is empty, */
    int fd;             /* a file from its start on; borrowed until on_done */
    uint64_t size;      /* of the file */
};
/* POST /images/load. err is set where a line of the answer tells an error, whatever the status. */
struct engine_call *engine_load(struct engine *engine, const struct engine_piece *pieces,
                                size_t count, int64_t timeout_ms, engine_cb on_done, void *data);
