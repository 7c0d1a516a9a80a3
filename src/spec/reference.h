/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reference.h -- what a registry's things are called: PROJECT/NAME, tags, HOST/PROJECT/NAME:TAG
 * (OCI distribution-spec 1.1, "Pulling manifests"; docs/registry.md). Another registry's
 * repositories are as deep as it likes. Pure; any thread.
 */
#pragma once

#include "base/slice.h"

struct err;

enum {
    REFERENCE_NAME_MAX = 128,
    REFERENCE_TAG_MAX = 128,
    REFERENCE_HOST_MAX = 260,
    REFERENCE_PATH_MAX = 255,
};

struct reference {
    struct slice host;          /* host[:port]; empty: Perigee's own registry */
    struct slice path;          /* all of the repository's name */
    struct slice project, name; /* its two parts; empty where it is no PROJECT/NAME */
    struct slice tag, digest;   /* one of them at least; the digest decides */
};

/* The last part of a repository's name: the specification's grammar for one. Its first is a project
 * (spec_check_project_name). */
[[nodiscard]] int reference_check_name(struct slice name, struct err *err);
[[nodiscard]] int reference_check_tag(struct slice tag, struct err *err);
/* [HOST/]PATH[:TAG][@DIGEST]; without either the tag is "latest". What stands before the first '/'
 * is a host where it has a dot or a colon in it, or is "localhost"; without one the path is
 * PROJECT/NAME. Slices of `text`. */
[[nodiscard]] int reference_parse(struct slice text, struct reference *ret, struct err *err);
/* The host is Perigee's own: is it a PROJECT/NAME? Without a host reference_parse() asks it. */
[[nodiscard]] int reference_check_own(const struct reference *reference, struct err *err);
/* host[:port], as reference_parse() takes one off. */
[[nodiscard]] int reference_check_host(struct slice host, struct err *err);
