/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logring.h -- the last 16 KiB that a replica wrote, and how much of it the agent has been told.
 * Plain memory, the owner's. One thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LOGRING_BYTES (16u * 1024u)

struct logring {
    uint64_t written, told; /* bytes ever; told counts those lost as well */
    char bytes[LOGRING_BYTES];
};

void logring_write(struct logring *ring, const char *data, size_t size);
/* Copies at most `room` bytes not told yet; *ret_dropped says how many were lost before them. */
size_t logring_take(struct logring *ring, char *data, size_t room, uint64_t *ret_dropped);
void logring_rewind(struct logring *ring); /* for a new listener: all that is left is told again */
