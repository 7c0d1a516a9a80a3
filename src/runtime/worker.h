/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h -- the worker contract for a runtime written in C: template, replica, serving.
 *
 * A worker's main is `return worker_main(argc, argv, &my_runtime);`. The process is a template
 * until it clones; what runs in a clone never returns here. One thread.
 */
#pragma once

struct runtime;

int worker_main(int argc, char **argv, const struct runtime *runtime);
