/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.h -- what an endpoint's schedule does next, for clients. It is the PoPs' agents that act
 * by it (pop/schedule.c); placement has given each of them its share. Loop thread only.
 */
#pragma once

struct arena;
struct endpoint_spec;
struct err;
struct hub_endpoint;

/* Each zone is known here. Any thread. ERR_BAD_INPUT names those that may have been meant. */
[[nodiscard]] int schedule_check(struct arena *arena, const struct endpoint_spec *spec,
                                 struct err *err);
void schedule_forget(struct hub_endpoint *endpoint); /* its spec is another, or it goes */
