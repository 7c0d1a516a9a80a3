/* SPDX-License-Identifier: Apache-2.0 */
/*
 * context.h -- named places where control is, in HOME/config.yaml:
 *
 *     context: lab
 *     contexts:
 *       lab: {control: "http://127.0.0.1:8080"}
 *
 * The file is read when control is looked for and neither --control nor $PERIGEE_CONTROL says where
 * it is. One that others may write is refused: who writes it says where models and requests go.
 */
#pragma once

#include <stddef.h>

#include "base/slice.h"

struct cli;
struct err;

enum { CONTEXTS_MAX = 64 };

struct contexts {        /* all in the command's arena */
    struct slice in_use; /* empty: none */
    size_t count;
    struct context {
        struct slice name, control;
    } items[CONTEXTS_MAX];
};

/* No file: no contexts. */
[[nodiscard]] int contexts_read(struct cli *cli, struct contexts *ret, struct err *err);
[[nodiscard]] int contexts_write(struct cli *cli, const struct contexts *contexts, struct err *err);
struct context *contexts_find(struct contexts *contexts, struct slice name);

/* Where control is by the context in use. 1: *ret is set; 0: none is in use. */
[[nodiscard]] int context_control(struct cli *cli, const char **ret, struct err *err);
