/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/believed.h"

#include "policy/route.h"

struct believed believed_of(uint8_t said)
{
    return (struct believed){ .said = said };
}

bool believed_reached(struct believed_word word)
{
    return word.health != ROUTE_DOWN || word.elsewhere;
}

void believed_take(struct believed *believed, struct believed_word word)
{
    believed->words++;
    believed->reached += believed_reached(word);
    believed->draining = believed->draining || word.health == ROUTE_DRAINING;
}

uint8_t believed_health(const struct believed *believed)
{
    if (believed->words == 0)
        return believed->said;
    if (believed->reached == 0)
        return ROUTE_DOWN;
    return believed->draining || believed->said == ROUTE_DRAINING ? ROUTE_DRAINING : ROUTE_UP;
}
