/* SPDX-License-Identifier: Apache-2.0 */
/*
 * from.h -- `infer --from`: a client that stands elsewhere. It asks our DNS, goes where that says,
 * and, as clients do, to the next address where one cannot be reached or closes before its first
 * byte; to those of a fresh answer when all have.
 *
 * Where it stands is told by where its sockets are bound: of an address of this machine (127/8 in
 * a network in a box), or of a city there. What cannot be bound (a documentation prefix) is told to
 * DNS as a client subnet, and HTTP comes from that place's address if the box has one, else from
 * this machine.
 */
#pragma once

#include <stdio.h>

struct cli;
struct err;
struct fetch_answer;
struct fetch_request;
struct from; /* in the command's arena */

/* Flags beside --from; ends with NULL. */
extern const char *const from_flags[];

/* By --from, --dns, --zone: finds the place and asks DNS; with a url (NULL: none) it goes there, as
 * a client that chose a PoP by itself. */
[[nodiscard]] int from_open(struct cli *cli, const char *endpoint, const char *url,
                            struct from **ret, struct err *err);
const char *from_host(const struct from *from); /* "digits.perigee.test" */
/* Who asked whom for what, what was answered, and why (_why) where that is told. */
void from_print(const struct from *from, FILE *out);
/* As fetch(); request->url is the path alone. Says on stderr where it had to go on to another. */
[[nodiscard]] int from_fetch(struct from *from, struct fetch_request *request,
                             struct fetch_answer *ret, struct err *err);
