/* SPDX-License-Identifier: Apache-2.0 */
/* tool.h -- what the benchmark's programs share. What they cannot go on without ends them. */
#pragma once
#include <stdint.h>

#include "base/slice.h"

int64_t tool_now_ns(void);
[[gnu::noreturn]] void tool_fail(const char *what); /* with errno's text */

/* The next of a fixed course of chance, from 0 up to 1. */
double tool_part(void);

/* A file's bytes, to be freed by the caller. */
struct slice tool_file(const char *path);
