/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runfiles.h -- the few files that the supervisor writes: HOME/run/addresses.json while it runs,
 * HOME/instances for ever.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct env;
struct err;
struct supervisor_address;

/* {"gateway": ["127.0.0.1:8000"], "tls": [], ...}; 0600, all or nothing. */
[[nodiscard]] int runfiles_addresses(const char *home, const struct supervisor_address *addresses,
                                     size_t count, struct err *err);
void runfiles_remove(const char *home);

/* Instances of roles are numbered on through all lives of the home: a thousand are set aside on
 * disk at each start. With a disk that cannot be written the clock gives a number instead. */
void runfiles_instances(struct env *env, const char *home, uint64_t *ret_base);
