/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/rtt.h"

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

float spot_km(struct spot a, struct spot b)
{
    float x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
    return spot_chord_km(x * x + y * y + z * z);
}

float rtt_ms(float km)
{
    return RTT_BASE_MS + RTT_MS_PER_KM * km;
}
