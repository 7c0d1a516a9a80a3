/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtt.h -- a round trip from coordinates, where none was measured. Pure, any thread.
 *
 * RTT = 14.4 ms + 0.0157 ms for each km of the great circle: fitted on the published round trips
 * between ten metropolitan sites of one public cloud; 0.0157 ms/km is 1.56 times light in fibre.
 */
#pragma once

#include <stdbool.h>

#define RTT_BASE_MS 14.4f
#define RTT_MS_PER_KM 0.0157f
#define EARTH_RADIUS_KM 6371.0088f /* mean radius (IUGG) */

/* A place on the sphere as a unit vector: the distance of two is one dot product away. */
struct spot {
    float x, y, z;
};

/* Degrees, north and east positive. */
bool spot_valid(double latitude, double longitude);
struct spot spot_at(double latitude, double longitude);
float spot_km(struct spot a, struct spot b);
float rtt_ms(float km);
