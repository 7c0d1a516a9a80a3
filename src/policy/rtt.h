/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtt.h -- a round trip from coordinates, where none was measured. Pure, any thread.
 *
 * RTT = 14.4 ms + 0.0157 ms for each km of the great circle: fitted on the published round trips
 * between ten metropolitan sites of one public cloud; 0.0157 ms/km is 1.56 times light in fibre.
 */
#pragma once

#include <math.h>
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

/* Kilometres from the square of the chord between two unit vectors. Inline and without a branch, so
 * that a loop over hundreds of places is vector instructions, in which asinf() would be a call.
 * asin is Abramowitz and Stegun's 4.4.46: in float arithmetic right within 3 m (fabsf(): a chord
 * rounded to more than 2). By the chord, not by acos of the dot product, which knows nothing of
 * short distances in float. */
static inline float spot_chord_km(float squared)
{
    float half = sqrtf(squared) / 2;
    float series = -0.0012624911f;
    series = series * half + 0.0066700901f;
    series = series * half - 0.0170881256f;
    series = series * half + 0.0308918810f;
    series = series * half - 0.0501743046f;
    series = series * half + 0.0889789874f;
    series = series * half - 0.2145988016f;
    series = series * half + 1.5707963050f;
    return 2 * EARTH_RADIUS_KM * fabsf(1.5707963268f - sqrtf(fabsf(1 - half)) * series);
}
