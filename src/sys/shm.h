/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shm.h -- regions of shared memory, by direction: one side writes, the others map read-only.
 *
 * Read-only is given as an O_RDONLY reopening of the memfd, so that mapping for writing is EACCES
 * (ARCHITECTURE.md, Memory between processes). Regions do not grow: seals GROW, SHRINK, SEAL.
 * Sparse: pages cost when touched.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

[[nodiscard]] int shm_create(const char *name, size_t bytes, int *ret_fd, struct err *err);
[[nodiscard]] int shm_reopen_readonly(int fd, int *ret_fd, struct err *err);

/* `bytes` must be the region's whole size; checked against the descriptor and its seals. */
[[nodiscard]] int shm_map(int fd, size_t bytes, bool writable, void **ret_memory, struct err *err);
void shm_unmap(void *memory, size_t bytes); /* NULL is allowed */

/* An immutable copy of `data` in a memfd sealed against writing as well (tables). */
[[nodiscard]] int shm_publish(const char *name, const void *data, size_t bytes, int *ret_fd,
                              struct err *err);
/* Maps such a memfd read-only, refusing one that lacks a seal or is larger than `bytes_max`. */
[[nodiscard]] int shm_map_published(int fd, size_t bytes_max, const void **ret_data,
                                    size_t *ret_bytes, struct err *err);
/* The same, and unmaps what `valid` refuses. */
[[nodiscard]] int shm_map_checked(int fd, size_t bytes_max,
                                  int (*valid)(struct slice bytes, struct err *err),
                                  struct slice *ret, struct err *err);
/* Gives whole pages back; they read as zeros (writers only). */
void shm_punch(void *memory, size_t bytes);
/* The same by descriptor, for who has it not mapped. */
void shm_punch_fd(int fd, uint64_t offset, uint64_t bytes);
