/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults_maps.h -- no memory for what is shared, when a test says so: mmap of a descriptor fails.
 * For tests that link faults_maps.c, which stands between our code and the C library (meson.build
 * has the linker do it): what the library maps for itself is left alone. Any thread may map.
 */
#pragma once

#include <stdbool.h>

/* From the n-th on (1: the next) so many fail. */
#define FAULTS_MAPS_ALL 1'000'000'000L
void faults_maps_arm(long nth, long count);
bool faults_maps_end(void); /* disarms; whether the n-th came */

/* What is open and mapped of memory that is shared, to compare: what failed leaves nothing. */
struct faults_maps_kept {
    unsigned fds, maps;
};
struct faults_maps_kept faults_maps_kept(void);
void faults_maps_kept_check(struct faults_maps_kept before); /* fails the test */
