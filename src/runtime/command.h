/* SPDX-License-Identifier: Apache-2.0 */
/* command.h -- the one command of a template (struct perigee_clone), checked. Any thread. */
#pragma once

#include <stddef.h>

#include <perigee/worker.h>

/* What is wrong with one of so many bytes and descriptors, in a few words; NULL: it may be obeyed.
 * What `size` does not have of the struct is 0. */
const char *command_fault(const struct perigee_clone *command, size_t size, size_t fd_count);
