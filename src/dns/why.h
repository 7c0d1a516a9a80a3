/* SPDX-License-Identifier: Apache-2.0 */
/*
 * why.h -- _why.ENDPOINT.zone: the choice for a client as text, a string of its own for each PoP.
 */
#pragma once

struct dns_client;
struct dns_entry;
struct dns_reply;
struct dns_view;

enum { DNS_WHY_POPS_MAX = 30 }; /* the best; the rest is a number */

/* TXT records: the client, then PoPs, the best first. The TTL is 0. */
void dns_why(const struct dns_view *view, const struct dns_entry *entry,
             const struct dns_client *client, struct dns_reply *reply);
