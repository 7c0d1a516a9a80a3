/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop.h -- what an operator says of a PoP: where it stands, what it can run, what that costs. Read,
 * checked, printed. Plain data: what it points to lies in the arena it was read into. Pure; any
 * thread.
 *
 * A PoP says nothing of this itself: control believes what stands here, so that no PoP can move to
 * another country by a report.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <yyjson.h>

#include "base/countries.h"
#include "base/slice.h"
#include "spec/endpoint.h"
#include "spec/units.h"

struct arena;
struct err;

enum pop_kind {
    POP_KIND_POP,
    POP_KIND_DNS, /* answers DNS, and runs nothing: neither placed on nor named */
};

enum { POP_ADDRESSES_MAX = 8, POP_FLAVORS_MAX = 16, POP_REPLICAS_LIMIT = 1000 };

struct pop_spec {
    struct slice name;
    enum pop_kind kind;
    struct slice city;      /* for people; may be empty */
    country_number country; /* COUNTRY_UNKNOWN: endpoints without residency alone */
    bool located;
    double latitude, longitude;    /* degrees, north and east positive */
    struct slice region;           /* a label such as eu-west; may be empty */
    struct spec_strings addresses; /* of its gateway, as clients reach it, without ports */
    uint64_t port;                 /* of it there; 0: where the PoP says that it listens */
    struct spec_strings flavors;   /* accelerators that stand there; none: CPU alone */
    struct {
        uint64_t cpu_milli;    /* 0: not bounded by control */
        uint64_t memory_bytes; /* likewise */
        uint64_t replicas;     /* likewise */
    } limits;
    struct {
        struct money cpu_hour, gib_hour; /* currency empty: free */
    } prices;
};

const char *pop_kind_word(enum pop_kind kind);
[[nodiscard]] int pop_kind_parse(struct slice word, enum pop_kind *ret, struct err *err);

/* JSON as the API takes it and pop_spec_json() prints it. The country is two capitals; whether
 * there is such a one is not looked at. Unknown keys are refused, naming the nearest known one. */
[[nodiscard]] int pop_spec_parse(struct arena *arena, yyjson_val *tree, struct pop_spec *ret,
                                 struct err *err);
struct slice pop_spec_json(struct arena *arena, const struct pop_spec *spec);

/* What a replica of this size costs an hour there, in units of the prices' currency; 0: free. */
double pop_spec_price(const struct pop_spec *spec, uint64_t cpu_milli, uint64_t memory_bytes);
/* How many of them fit by the limits. */
uint32_t pop_spec_room(const struct pop_spec *spec, uint64_t cpu_milli, uint64_t memory_bytes);
