/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h -- an endpoint as control shows it (docs/api.md), printed for people.
 */
#pragma once

#include <stdint.h>

#include "base/json.h"

struct cli;

struct slice view_text(yyjson_val *object, const char *key); /* {} unless a string */
uint64_t view_number(yyjson_val *object, const char *key);   /* 0 unless a natural number */

int view_print(struct cli *cli, yyjson_val *view); /* whole; --json or for people */
/* How far its clients are (clients.c); nothing where none are known. */
void view_clients_print(struct cli *cli, yyjson_val *clients);
/* What its schedule does next; `schedule` is the API's. */
void view_schedule_print(struct cli *cli, yyjson_val *schedule);
void view_list_print(struct cli *cli, yyjson_val *items); /* a table */
