/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.h -- a ready replica's loop: take, check, run, answer, sleep. For ever; one thread.
 */
#pragma once

#include <perigee/worker.h>

struct replica;
struct runtime_model;

[[gnu::noreturn]] void serve(struct replica *replica, struct runtime_model *model,
                             const struct perigee_model *description);
