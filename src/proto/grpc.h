/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.h -- the text forms of gRPC that stand in headers. Pure; any thread.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

struct err;

/* A grpc-timeout: 1 to 8 digits and H, M, S, m, u or n. What is too long for the result is
 * UINT64_MAX. */
[[nodiscard]] int grpc_timeout_parse(struct slice text, uint64_t *ret_ns, struct err *err);
