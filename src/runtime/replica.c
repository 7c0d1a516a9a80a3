/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order: close_range, namespaces and identity, parent's death, limits, Landlock, seccomp, and
 * only then the first byte of the model (SECURITY.md, Walls of a replica). The regions are mapped
 * as soon as their descriptors are ours alone, so that every later fault has a page to be told on.
 */
#include "runtime/replica.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "runtime/crash.h"
#include "runtime/model_writer.h"
#include "runtime/runtime.h"
#include "runtime/serve.h"
#include "sys/clock.h"
#include "sys/fd.h"
#include "sys/shm.h"

#define PAGE_BYTES UINT64_C(4096)
#define DESCRIPTORS_MAX 96u /* what is open, and a few for the model's files */

void replica_fail(struct replica *replica, const char *format, ...)
{
    struct err err = {};
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(err.message, sizeof err.message, format, arguments);
    va_end(arguments);
    if (replica->status) {
        (void)snprintf(replica->status->reason, sizeof replica->status->reason, "%s", err.message);
        atomic_store(&replica->status->phase, PERIGEE_PHASE_FAILED);
    }
    log_error("worker", "cannot serve", LOG_S("reason", err.message));
    _exit(EXIT_FAILURE);
}

static void require(struct replica *replica, int r, const struct err *err)
{
    if (r < 0)
        replica_fail(replica, "%s", err->message);
}

static void enter_phase(struct replica *replica, enum perigee_phase phase)
{
    atomic_store_explicit(&replica->status->phase, phase, memory_order_release);
}

/* ---- descriptors and regions ----------------------------------------------------------------- */

static void take_descriptors(struct replica *replica)
{
    int keep[REPLICA_FDS_MAX + 1];
    size_t count = PERIGEE_FD_PIPES + replica->clone.lanes;
    struct err err = {};

    memcpy(keep, replica->fds, count * sizeof *keep);
    keep[count] = replica->null_fd;
    require(replica, sandbox_close_others(keep, count + 1, &err), &err);
    if (dup2(replica->null_fd, 0) < 0 || dup2(replica->fds[PERIGEE_FD_LOG], 1) < 0 ||
        dup2(replica->fds[PERIGEE_FD_LOG], 2) < 0)
        replica_fail(replica, "arranging descriptors: %s", strerror(errno));
    fd_close(&replica->null_fd);
    fd_close(&replica->fds[PERIGEE_FD_LOG]);
    for (size_t i = 0; i < replica->clone.lanes; i++) {
        int fd = replica->fds[PERIGEE_FD_PIPES + i];
        /* A full pipe is a wake-up already: never wait for room. */
        if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
            replica_fail(replica, "arranging pipes: %s", strerror(errno));
    }
}

static void *map(struct replica *replica, enum perigee_clone_fd which, uint64_t bytes,
                 bool writable)
{
    void *memory = NULL;
    struct err err = {};

    require(replica, shm_map(replica->fds[which], bytes, writable, &memory, &err), &err);
    (void)madvise(memory, bytes, MADV_DONTDUMP);
    fd_close(&replica->fds[which]);
    return memory;
}

static void map_regions(struct replica *replica)
{
    const struct perigee_clone *clone = &replica->clone;

    replica->output = map(replica, PERIGEE_FD_OUTPUT, clone->output_bytes, true);
    struct perigee_status *status = (struct perigee_status *)(void *)replica->output;
    status->magic = PERIGEE_WORKER_MAGIC;
    status->version = PERIGEE_WORKER_VERSION;
    status->pid = getpid();
    status->syscall = -1;
    replica->status = status;
    enter_phase(replica, PERIGEE_PHASE_WALLS);
    replica->page = map(replica, PERIGEE_FD_SUBMISSION, clone->submission_bytes, false);
    replica->arena = map(replica, PERIGEE_FD_ARENA, clone->arena_bytes, false);
}

/* ---- walls ----------------------------------------------------------------------------------- */

/* The descriptor is from before the walls. Pages, as /proc/self/statm counts them. */
struct pages {
    unsigned long mapped, resident, shared, data;
};

static struct pages count_pages(struct replica *replica)
{
    struct pages pages = {};
    char text[128] = {};

    if (pread(replica->statm_fd, text, sizeof text - 1, 0) <= 0 ||
        sscanf(text, "%lu %lu %lu %*u %*u %lu", &pages.mapped, &pages.resident, &pages.shared,
               &pages.data) != 4)
        replica_fail(replica, "reading /proc/self/statm: %s", strerror(errno));
    return pages;
}

static void check_lifeline(struct replica *replica)
{
    struct pollfd lifeline = { .fd = replica->fds[PERIGEE_FD_LIFELINE], .events = POLLIN };

    /* The parent may have died before PDEATHSIG was asked for. */
    if (poll(&lifeline, 1, 0) != 0)
        _exit(EXIT_FAILURE);
    fd_close(&replica->fds[PERIGEE_FD_LIFELINE]);
}

/* What --sandbox require asks for and this machine (or a test's worker) has not. */
static void check_required(struct replica *replica, uint32_t walls)
{
    if (replica->clone.sandbox == PERIGEE_SANDBOX_REQUIRE &&
        (walls & SANDBOX_REQUIRED) != SANDBOX_REQUIRED)
        replica_fail(replica, "the sandbox is required, and walls are missing: %s",
                     replica->sandbox->probe.off);
}

static void put_up_walls(struct replica *replica)
{
    const struct perigee_clone *clone = &replica->clone;
    const struct sandbox_probe *probe = &replica->sandbox->probe;
    uint32_t walls = clone->uid != 0 ? probe->walls : probe->walls & ~(uint32_t)PERIGEE_WALL_UID;
    int folder = replica->fds[PERIGEE_FD_MODEL];
    struct pages pages = count_pages(replica);
    struct sandbox_limits limits = {
        .memory_bytes_max = clone->memory_bytes_max,
        .mapped_bytes = (uint64_t)pages.mapped * PAGE_BYTES,
        .data_bytes = (uint64_t)pages.data * PAGE_BYTES,
        .threads_max = clone->threads,
        .threads_counted = probe->threads_counted,
        .descriptors_max = DESCRIPTORS_MAX,
    };
    struct err err = {};

    check_required(replica, walls);
    if (sandbox_enter(walls, folder, clone->uid, &err) < 0)
        replica_fail(replica, "its namespaces, which stood when its template began: %s",
                     err.message);
    check_lifeline(replica);
    if (walls & PERIGEE_WALL_RLIMITS)
        require(replica, sandbox_limit(&limits, &err), &err);
    require(replica, sandbox_files(probe->landlock_abi, folder, &err), &err);
    fd_close(&replica->fds[PERIGEE_FD_MODEL]);
    require(replica, crash_watch(replica->status, &err), &err);
    if (walls & PERIGEE_WALL_SECCOMP)
        require(replica, sandbox_syscalls(replica->sandbox, &err), &err);

    replica->status->landlock_abi = (uint32_t)probe->landlock_abi;
    replica->status->walls = walls;
}

/* ---- the model ------------------------------------------------------------------------------- */

static void load(struct replica *replica, struct model_writer *writer, struct runtime_model **ret)
{
    const struct perigee_clone *clone = &replica->clone;
    struct runtime_load request = {
        .file = clone->model_file,
        .threads = clone->threads,
        .batch_max = clone->batch_max,
        .memory_bytes_max = clone->memory_bytes_max,
    };
    const struct perigee_model *model = NULL;
    size_t bytes = 0;
    uint64_t began = clock_monotonic_ns();
    struct err err = {};

    enter_phase(replica, PERIGEE_PHASE_LOADING);
    require(replica, replica->runtime->load(&request, writer, ret, &err), &err);
    require(replica, model_writer_finish(writer, &model, &bytes, &err), &err);
    memcpy(replica->output + PERIGEE_MODEL_OFFSET, model, bytes);
    replica->status->model_bytes = (uint32_t)bytes;
    replica->status->load_ns = clock_monotonic_ns() - began;
}

static void warm(struct replica *replica, struct runtime_model *model)
{
    uint64_t began = clock_monotonic_ns();
    struct err err = {};

    enter_phase(replica, PERIGEE_PHASE_WARMING);
    int r = replica->runtime->warm(model, &err);
    if (r == ERR_TOO_LARGE)
        replica_fail(replica, "%s", err.message);
    if (r < 0)
        log_info("worker", "the model refuses a run on zeros, serving without",
                 LOG_S("reason", err.message));
    replica->status->warm_ns = clock_monotonic_ns() - began;
    (void)malloc_trim(0); /* what loading needed and serving does not */
    struct pages pages = count_pages(replica);
    replica->status->memory_loaded_bytes =
        (uint64_t)(pages.resident > pages.shared ? pages.resident - pages.shared : 0) * PAGE_BYTES;
    fd_close(&replica->statm_fd);
}

void replica_run(struct replica *replica)
{
    struct runtime_model *model = NULL;
    struct model_writer *writer;
    const struct perigee_model *description = NULL;
    size_t bytes = 0;
    struct err err = {};

    take_descriptors(replica);
    uint64_t began = clock_monotonic_ns();
    map_regions(replica);
    replica->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    put_up_walls(replica);
    replica->status->walls_ns = clock_monotonic_ns() - began;
    writer = model_writer_new();
    load(replica, writer, &model);
    warm(replica, model);
    require(replica, model_writer_finish(writer, &description, &bytes, &err), &err);
    log_info("worker", "ready", LOG_U("load_us", replica->status->load_ns / 1000),
             LOG_U("warm_us", replica->status->warm_ns / 1000),
             LOG_U("memory_bytes", replica->status->memory_loaded_bytes));
    if (replica->runtime->before_ready)
        replica->runtime->before_ready(replica->output);
    serve(replica, model, description);
}
