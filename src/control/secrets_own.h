/* SPDX-License-Identifier: Apache-2.0 */
/* secrets_own.h -- what secrets.c and secrets_told.c share. */
#pragma once

#include "control/secrets.h"
#include "store/seal.h"
#include "store/store.h"

struct timer;

struct secrets {
    struct arena *arena;       /* of the rows */
    struct store_secret *rows; /* by project, then name */
    size_t count;
    struct arena *key_arena;    /* a secret one; NULL: nothing was sealed yet */
    const struct seal_key *key; /* NULL: it is not there; why says more */
    char why[504];
    struct timer *soon; /* agents are told what they are to forget */
};

/* What is sealed for one cannot be opened as another. */
struct slice secrets_purpose(struct arena *arena, struct slice project, struct slice name);
/* NULL: there is none. */
const struct store_secret *secrets_row(const struct secrets *secrets, struct slice project,
                                       struct slice name);
/* Another key may open what the one before did not, so agents are to hear of each once more. */
void secrets_untold(struct control *control);
