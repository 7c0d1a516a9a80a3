/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain.h -- why a client of an endpoint is sent where it is: policy/route.h's own figures, made
 * of what control knows. Loop thread only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "geo/where.h"

struct control;
struct hub_endpoint;
struct json_writer;
struct slice;

struct explain_client {
    const char *source; /* where its place is from, in words: "city", "address map" */
    struct where where;
    uint64_t seed;
    bool drawn; /* `seed` is one client's; else all of a place are meant */
};

/* Writes the members "residency" and "pops" into an open object. */
void explain_write(struct control *control, struct json_writer *w,
                   const struct hub_endpoint *endpoint, const struct explain_client *client);
