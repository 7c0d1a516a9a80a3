/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/why.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "dns/choose.h"
#include "dns/client.h"
#include "dns/view.h"

[[gnu::format(printf, 2, 3)]] static void say(struct dns_reply *reply, const char *format, ...)
{
    char text[DNS_STRING_BYTES_MAX + 1];
    va_list values;
    va_start(values, format);
    (void)vsnprintf(text, sizeof text, format, values);
    va_end(values);
    dns_reply_text(reply, 0, slice_of(text));
}

static void say_client(const struct dns_client *client, struct dns_reply *reply)
{
    static const char *const sources[] = {
        [WHERE_UNKNOWN] = "not known",
        [WHERE_MAP] = "address map",
        [WHERE_MMDB] = "MMDB",
        [WHERE_DEFAULT] = "default",
    };
    char text[IP_TEXT_BYTES], code[3];
    struct ip_block block = { ip_cut(&client->ip, client->source_bits), client->source_bits };
    country_code_of(client->where.country, code);
    if (client->where.located)
        say(reply, "client %s, country %s, at %.2f %.2f%s (%s)", ip_block_text(&block, text),
            *code ? code : "unknown", client->where.latitude, client->where.longitude,
            client->where.midst ? ", the midst of its country" : "", sources[client->where.source]);
    else
        say(reply, "client %s, country %s, place unknown (%s)", ip_block_text(&block, text),
            *code ? code : "unknown", sources[client->where.source]);
}

static void say_pop(const struct dns_view *view, const struct route_choice *row,
                    struct dns_reply *reply)
{
    const char *name = view->pops[row->pop].name;
    if (row->exclusion != ROUTE_ALLOWED) {
        say(reply, "%s: %s", name, route_exclusion_text(row->exclusion));
        return;
    }
    char hidden[48] = "";
    if (row->start_felt_ms < row->start_ms)
        (void)snprintf(hidden, sizeof hidden, " (of %.1f: hidden)", (double)row->start_ms);
    say(reply,
        "%s: %.1f ms = rtt %.1f (%s) + wait %.1f + service %.1f + start %.1f%s; share %.0f %%",
        name, (double)row->total_ms, (double)row->rtt_ms, route_rtt_source_text(row->rtt_source),
        (double)row->wait_ms, (double)row->service_ms, (double)row->start_felt_ms, hidden,
        (double)row->share * 100);
}

void dns_why(const struct dns_view *view, const struct dns_entry *entry,
             const struct dns_client *client, struct dns_reply *reply)
{
    struct route_choice rows[ROUTE_POPS_MAX]; /* 48 KiB */
    struct dns_choice choice;
    size_t count = view->route.count;
    say_client(client, reply);
    dns_choose(view, entry, client, 1, NULL, &choice);
    if (choice.restricted && choice.verdict.reason != RESIDENCY_ALLOWED) {
        say(reply, "residency refuses: %s", residency_reason_text(choice.verdict.reason));
        return;
    }
    if (choice.restricted)
        say(reply, "residency: rule %u holds", choice.verdict.rule + 1);
    struct route_query query = dns_route_query(client, choice.restricted, &choice.verdict);
    route_explain(&view->route, &entry->route, &query, rows);
    qsort(rows, count, sizeof *rows, route_compare);
    for (size_t i = 0; i < count && i < DNS_WHY_POPS_MAX; i++)
        say_pop(view, &rows[i], reply);
    if (count > DNS_WHY_POPS_MAX)
        say(reply, "and %zu more", count - DNS_WHY_POPS_MAX);
    if (view->observer[0])
        say(reply, "health and load as %s measures them", view->observer);
    else if (count > 1)
        say(reply, "health as control says; no load is known");
}
