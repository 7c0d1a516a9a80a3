/* SPDX-License-Identifier: Apache-2.0 */
/*
 * believed.h -- which health of a PoP is gone by: what control says of it, and over that what those
 * say who ask it. One rule for DNS, which has the word of its own node, and for `explain`, which
 * has those of all PoPs. Pure, plain data.
 *
 * Control may be cut off from a PoP that serves, and hears late of one that does not. So where
 * somebody has asked a PoP, it is up if one of them reaches it, or knows that clients may; and down
 * if none does. That it is to be drained is the operator's word, and stands beside all of them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What one who asks it says; health as in policy/route.h (enum route_health). */
struct believed_word {
    uint8_t health;
    bool elsewhere; /* down from there alone: others reach it, or it is the asker that is cut off */
};

struct believed {
    uint8_t said;  /* control's, enum route_health */
    bool draining; /* somebody who reaches it, or who knows it anyway, says so */
    uint32_t words, reached;
};

struct believed believed_of(uint8_t said);
void believed_take(struct believed *believed, struct believed_word word);
uint8_t believed_health(const struct believed *believed);

/* May clients reach it, for all that is said? */
bool believed_reached(struct believed_word word);
