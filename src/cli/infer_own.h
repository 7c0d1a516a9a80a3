/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer_own.h -- inside `infer`: what is asked and of whom (cmd_infer.c), and files as inputs
 * (infer_input.c). One thread; all of it in the command's arena.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/slice.h"
#include "cli/tensor_file.h"

struct cli;
struct err;
struct from;

enum { INPUTS_MAX = 64 };

struct input {
    struct slice name;
    struct tensor_file tensor; /* data empty: */
    struct slice json;         /* this instead, as written */
};

struct infer {
    struct cli *cli;
    const char *name, *gateway;
    const char *host_header; /* or NULL */
    struct from *from;       /* --from; NULL: not said */
    uint64_t revision;       /* 0: the one with the traffic */
    yyjson_val *metadata;    /* OIP's, of the model */
    yyjson_val *properties;  /* the model's own, from control; or NULL */
    const char *untold;      /* why control told none; NULL: it was asked, and told what there is */
    struct input inputs[INPUTS_MAX];
    size_t input_count;
};

/* All that --input says, as the model wants it. */
[[nodiscard]] int infer_inputs_read(struct infer *infer, struct err *err);
