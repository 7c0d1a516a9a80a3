/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/rtt.h"

#include <math.h>

bool spot_valid(double latitude, double longitude)
{
    return latitude >= -90 && latitude <= 90 && longitude >= -180 && longitude <= 180;
}

struct spot spot_at(double latitude, double longitude)
{
    double north = latitude * M_PI / 180, east = longitude * M_PI / 180;
    return (struct spot){
        .x = (float)(cos(north) * cos(east)),
        .y = (float)(cos(north) * sin(east)),
        .z = (float)sin(north),
    };
}

/* By the chord, not by acos of the dot product, which knows nothing of short distances in float. */
float spot_km(struct spot a, struct spot b)
{
    float x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
    float half = sqrtf(x * x + y * y + z * z) / 2;
    return 2 * EARTH_RADIUS_KM * asinf(half < 1 ? half : 1);
}

float rtt_ms(float km)
{
    return RTT_BASE_MS + RTT_MS_PER_KM * km;
}
