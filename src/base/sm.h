/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sm.h -- state machines as tables: a state is a row, a move that no row allows is a fault of ours.
 *
 *     #define REPLICA_STATES(X) X(PENDING, SM_TO(STARTING) | SM_TO(GONE)) ...
 *     SM_DECLARE(replica_state, REPLICA_STATES)        in the header
 *     SM_DEFINE(replica_state, REPLICA_STATES)         in one .c
 *
 * makes enum replica_state, replica_state_name(state), replica_state_may(from, to) and
 * replica_state_move(&state, to), which asserts. Any thread; no lock.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define SM_TO(state) (UINT32_C(1) << (state))
#define SM_ENUM_ROW(state, to) state,
#define SM_NAME_ROW(state, to) #state,
#define SM_MOVES_ROW(state, to) (to),

#define SM_DECLARE(name, STATES)                                                                   \
    enum name { STATES(SM_ENUM_ROW) name##_count };                                                \
    const char *name##_name(enum name state);                                                      \
    bool name##_may(enum name from, enum name to);                                                 \
    static inline void name##_move(enum name *state, enum name to)                                 \
    {                                                                                              \
        assert(name##_may(*state, to));                                                            \
        *state = to;                                                                               \
    }

#define SM_DEFINE(name, STATES)                                                                    \
    static_assert(name##_count <= 32, "the moves are bits of 32");                                 \
    const char *name##_name(enum name state)                                                       \
    {                                                                                              \
        static const char *const names[] = { STATES(SM_NAME_ROW) };                                \
        assert((unsigned)state < name##_count);                                                    \
        return names[state];                                                                       \
    }                                                                                              \
    bool name##_may(enum name from, enum name to)                                                  \
    {                                                                                              \
        static const uint32_t moves[] = { STATES(SM_MOVES_ROW) };                                  \
        assert((unsigned)from < name##_count && (unsigned)to < name##_count);                      \
        return (moves[from] & SM_TO(to)) != 0;                                                     \
    }
