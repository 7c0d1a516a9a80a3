/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.h -- a spec to control, as `deploy` and `apply` do it: what runs is uploaded, the spec is
 * put, and it is waited for. All of it in the command's arena; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct cli;
struct endpoint_spec;
struct err;

struct put {
    const char *name;
    const char *header; /* "If-None-Match: *", "If-Match: ..." or NULL */
    const char *etag;   /* of what is there; NULL: nothing is */
    bool dry_run, wait;
    int64_t timeout_ms; /* how long at most */
};

/* A model or an image given as a path is uploaded, and the spec keeps the digest and what was
 * written. `folder`: paths are below it; NULL: below the current one. */
[[nodiscard]] int put_upload(struct cli *cli, struct endpoint_spec *spec, const char *folder,
                             struct err *err);
/* What is there now: flags not given keep its values. 0: none, 1: *ret is set. */
[[nodiscard]] int put_present(struct cli *cli, const char *name, struct endpoint_spec *ret,
                              const char **ret_etag, struct err *err);
/* Prints what comes of it. */
[[nodiscard]] int put_spec(struct cli *cli, const struct put *put, struct slice json,
                           struct err *err);
