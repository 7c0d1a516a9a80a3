/* SPDX-License-Identifier: Apache-2.0 */
/*
 * screen.h -- the whole terminal, for a command that draws: keys one at a time, no echo, the other
 * screen of the terminal, so that what stood there comes back.
 *
 * It is restored by screen_close(), and by whatever else ends the process but SIGKILL: a signal
 * that asks it to end comes as an event, one that crashes it is caught for that alone. Ctrl-Z
 * gives the terminal back for as long as the process stands still. One at a time; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct err;
struct screen;

enum screen_event_kind { SCREEN_TIME, SCREEN_KEY, SCREEN_RESIZED, SCREEN_END };
enum { SCREEN_UP = 256, SCREEN_DOWN, SCREEN_PAGE_UP, SCREEN_PAGE_DOWN };

struct screen_event {
    enum screen_event_kind kind;
    int key;    /* SCREEN_KEY: a character, or one of SCREEN_UP... */
    int signal; /* SCREEN_END: 0: the terminal has gone */
};

/* Is there one to draw on, at both ends? */
bool screen_there(void);
[[nodiscard]] int screen_open(struct screen **ret, struct err *err);
void screen_close(struct screen *screen);
void screen_size(int *ret_rows, int *ret_columns);
/* Lines, each ended by '\n'; those that do not fit are left out. False: the terminal has gone. */
bool screen_draw(struct screen *screen, struct slice lines, int rows);
/* The next thing that happens, SCREEN_TIME after so long at the latest. */
struct screen_event screen_wait(struct screen *screen, int timeout_ms);
