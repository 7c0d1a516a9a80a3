/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reference.h -- what a registry's things are called: PROJECT/NAME, tags, HOST/PROJECT/NAME:TAG
 * (OCI distribution-spec 1.1, "Pulling manifests"; interfaces.md 2). Pure; any thread.
 */
#pragma once

#include "base/slice.h"

struct err;

enum { REFERENCE_NAME_MAX = 128, REFERENCE_TAG_MAX = 128, REFERENCE_HOST_MAX = 260 };

struct reference {
    struct slice host; /* host[:port]; empty: Perigee's own registry */
    struct slice project, name;
    struct slice tag, digest; /* one of them at least; the digest decides */
};

/* The last part of a repository's name: the specification's grammar for one. Its first is a project
 * (spec_check_project_name). */
[[nodiscard]] int reference_check_name(struct slice name, struct err *err);
[[nodiscard]] int reference_check_tag(struct slice tag, struct err *err);
/* [HOST/]PROJECT/NAME[:TAG][@DIGEST]; without either the tag is "latest". What stands before the
 * first '/' is a host where it has a dot or a colon in it, or is "localhost". Slices of `text`. */
[[nodiscard]] int reference_parse(struct slice text, struct reference *ret, struct err *err);
