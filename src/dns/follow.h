/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.h -- a new view after another: of which entries what the memo knows still holds. Pure.
 *
 * A fleet under load has a new view about once a second, and nearly all that differs are waits and
 * weights, by which no row of the memo was found (memo.h: as if nobody waited). What a run or a
 * start takes moves a little as well: by how much at most, summed up over views, is an entry's
 * drift, and a row's bound is worth that much less. Rows whose bound says too little are found
 * anew, one at a time as they are asked for, and not all of them each second.
 *
 * What a hidden start costs is by the run of who hides it, and who that is runs decide, too. So a
 * row's bound is of starts hidden as well as they can be, and who hides those of its places has to
 * be better than all others that could (memo.h, warm_bound_ms).
 */
#pragma once

struct dns_view;

enum { DNS_DRIFT_STEPS_PER_MS = 64 };

/* Before `view` is used; `before` is only read. A memo of `before` is one of `view` from then on
 * (dns_server_set_view). What has changed otherwise has no rows: an entry whose law, whose places,
 * room at one or who can hide starts is another; all, where a PoP came, went, moved or is up or
 * down now. */
void dns_view_follow(struct dns_view *view, const struct dns_view *before);
