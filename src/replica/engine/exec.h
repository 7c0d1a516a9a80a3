/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h -- a command inside a container that runs, to its end: for probes. It costs some 90 ms, as
 * a runtime is started for it; and Podman keeps two small processes for five minutes after each, to
 * say its status (exit_command_delay in containers.conf). Loop thread only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct engine;
struct engine_exec;
struct err;
struct loop;

/* exit_code is meant where err is NULL: 0 is well. ERR_DEADLINE: it took longer, and goes on. */
typedef void (*engine_exec_cb)(int exit_code, const struct err *err, void *data);

/* `container` is its id. What it writes is not kept. on_done is called once, not from inside, and
 * there is nothing left to free then; after engine_exec_free() not at all. */
struct engine_exec *engine_exec(struct engine *engine, struct loop *loop, struct slice container,
                                const struct slice *command, size_t count, int64_t timeout_ms,
                                engine_exec_cb on_done, void *data);
void engine_exec_free(struct engine_exec *exec);
