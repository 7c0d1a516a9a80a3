/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regions.h -- at which PoPs replicas of an endpoint may be: its `regions`. Pure, any thread.
 *
 * Capitals are countries and sets of them; small letters PoPs' names and region labels, of which
 * `us` matches us and us-east. None: everywhere.
 */
#pragma once

#include <stdbool.h>

#include "policy/residency.h"

struct regions {
    bool everywhere;            /* no regions are named */
    struct countries countries; /* of those in capitals; never COUNTRY_UNKNOWN */
    const struct slice *names;  /* in small letters; borrowed from the spec */
    size_t name_count;
};

/* Where a PoP is, as `regions` sees it. */
struct region_place {
    struct slice name;
    struct slice region; /* its label, or empty */
    country_number country;
};

[[nodiscard]] int regions_compile(struct arena *arena, const struct endpoint_spec *spec,
                                  countries_find_cb find, void *data, struct regions *ret,
                                  struct err *err);
bool regions_hold(const struct regions *regions, const struct region_place *pop);

/* Why no replica may be there, in words that follow on the endpoint's name; NULL: it may. A PoP
 * that does not say in which country it stands has no endpoint with residency. */
const char *regions_refusal(struct arena *arena, const struct regions *regions,
                            const struct residency *residency, const struct region_place *pop);

/* Of these words those of the law: why nothing may be processed there, whoever asks. NULL: it may
 * be for some, or it is not said in which country the PoP stands. */
const char *residency_bars(struct arena *arena, const struct residency *residency,
                           const struct region_place *pop);

/* The same as yes or no, for many PoPs: `process` is what residency_processable() said. */
bool regions_allow(const struct regions *regions, const struct residency *residency,
                   const struct countries *process, const struct region_place *pop);

/* Where a replica may ever get a request: some rule allows the country, whoever the client is. */
struct countries residency_processable(const struct residency *residency);
bool residency_may_process(const struct residency *residency, country_number pop);
/* May what a replica at `here` writes be kept at `there` (COUNTRY_UNKNOWN: nobody says where that
 * is)? Of which request a line is, nobody knows: so only where the rules let lines be written there
 * of all that may be processed here. Where nothing may be, none. */
bool residency_may_write(const struct residency *residency, country_number here,
                         country_number there);
