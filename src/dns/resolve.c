/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/resolve.h"

#include <assert.h>
#include <string.h>

#include "dns/choose.h"
#include "dns/client.h"
#include "dns/view.h"
#include "dns/why.h"
#include "policy/ttl.h"

static const struct {
    uint32_t refresh, retry, expire;
} soa_times = { 3600, 600, 604'800 }; /* nobody transfers the zone: only what is usual */

static void put_soa(const struct dns_view *view, struct dns_reply *reply, enum dns_section section,
                    uint32_t ttl)
{
    struct dns_soa soa = {
        .server = &view->server,
        .mailbox = &view->mailbox,
        .serial = view->serial,
        .refresh = soa_times.refresh,
        .retry = soa_times.retry,
        .expire = soa_times.expire,
        .minimum = DNS_TTL_NEGATIVE_S,
    };
    dns_reply_soa(reply, section, &view->zone, ttl, &soa);
}

/* RFC 2308: the SOA says how long it may be remembered. */
static void negative(const struct dns_view *view, struct dns_reply *reply, enum dns_rcode rcode)
{
    reply->rcode = (uint16_t)rcode;
    put_soa(view, reply, DNS_AUTHORITY, DNS_TTL_NEGATIVE_S);
}

/* ---- addresses ---------------------------------------------------------------------------- */

static bool wanted(const struct ip *ip, uint16_t type)
{
    return type == (ip_is4(ip) ? DNS_A : DNS_AAAA);
}

static void put_host(const struct dns_entry *host, const struct dns_name *owner, uint16_t type,
                     const struct dns_asker *asker, enum dns_section section,
                     struct dns_reply *reply)
{
    for (size_t i = 0; i < host->address_count; i++)
        if (wanted(&host->addresses[i], type))
            dns_reply_ip(reply, section, owner, DNS_TTL_ZONE_S, &host->addresses[i]);
    /* Where it listens on all addresses, the one that was asked is right for who asked. */
    if (host->everywhere && asker->local_known && wanted(&asker->local, type))
        dns_reply_ip(reply, section, owner, TTL_UNSTABLE_S, &asker->local);
}

static void put_addresses(const struct dns_view *view, const struct dns_choice *choice,
                          uint16_t type, const struct dns_asker *asker, struct dns_reply *reply)
{
    uint32_t ttl = ttl_of(choice->choices, choice->count, view->stable);
    for (size_t i = 0; i < choice->count; i++) {
        const struct dns_pop *pop = &view->pops[choice->choices[i].pop];
        for (size_t k = 0; k < pop->address_count; k++)
            if (wanted(&pop->addresses[k], type))
                dns_reply_ip(reply, DNS_ANSWER, NULL, ttl, &pop->addresses[k]);
        if (pop->everywhere && asker->local_known && wanted(&asker->local, type))
            dns_reply_ip(reply, DNS_ANSWER, NULL, TTL_UNSTABLE_S, &asker->local);
    }
}

static void told_to(const struct dns_https_told *told, struct dns_https *ret)
{
    ret->priority = 1;
    ret->port = told->port;
    for (size_t i = 0; i < told->alpn_count; i++)
        ret->alpn[i] = told->alpn[i];
}

/* One record a PoP that serves TLS, the drawn one first: a client takes the least priority. */
static void put_https(const struct dns_view *view, const struct dns_choice *choice,
                      struct dns_reply *reply)
{
    enum { HTTPS_PORT = 443 };
    uint32_t ttl = ttl_of(choice->choices, choice->count, view->stable);
    uint16_t priority = 1;
    for (size_t i = 0; i < choice->count; i++) {
        const struct dns_pop *pop = &view->pops[choice->choices[i].pop];
        if (!pop->https_port)
            continue;
        struct dns_https https = {
            .priority = priority++,
            .port = pop->https_port == HTTPS_PORT ? 0 : pop->https_port,
            .alpn = { "h2", "http/1.1" },
            .hints = pop->addresses,
            .hint_count = pop->address_count,
        };
        dns_reply_https(reply, ttl, &https);
    }
}

/* ---- endpoints ---------------------------------------------------------------------------- */

static void explain_none(const struct dns_choice *choice, struct dns_reply *reply)
{
    switch (choice->none) {
    case DNS_NONE_REFUSED:
        dns_reply_explain(reply, DNS_EDE_PROHIBITED, "residency: %s",
                          residency_reason_text(choice->verdict.reason));
        break;
    case DNS_NONE_PLACED:
        dns_reply_explain(reply, DNS_EDE_NOT_READY, "no PoP with an address has it yet");
        break;
    case DNS_NONE_PERMITTED:
        dns_reply_explain(reply, DNS_EDE_PROHIBITED,
                          "residency permits none of those that have it");
        break;
    case DNS_NONE_UP:
        dns_reply_explain(reply, DNS_EDE_OTHER, "no PoP that %s is up",
                          choice->restricted ? "has it and that residency permits" : "has it");
        break;
    case DNS_NONE_OF_FAMILY: /* that is no error */
        break;
    }
}

/* ---- which of them ------------------------------------------------------------------------ */

/* Who asks for one family's addresses cannot use the others. */
static const struct dns_entry *of_family(const struct dns_entry *entry, uint16_t type)
{
    const struct dns_entry *of = type == DNS_A      ? entry->of_family[DNS_IP4]
                                 : type == DNS_AAAA ? entry->of_family[DNS_IP6]
                                                    : NULL;
    return of ? of : entry;
}

/* The longest of all choices that the answer is made of. */
static void scope(const struct dns_view *view, const struct dns_entry *entry,
                  const struct dns_question *question, const struct dns_client *client,
                  const struct dns_asker *asker, const struct dns_choice *choice,
                  struct dns_reply *reply)
{
    if (!question->subnet.present || !question->subnet.bits)
        return;
    uint8_t bits = dns_scope(view, entry, client, choice, asker->memo);
    if (bits > reply->scope_bits)
        reply->scope_bits = bits;
}

/* What would be answered of one family's addresses: behind the hints that there are. */
static void add_hints(const struct dns_view *view, const struct dns_choice *choice, uint16_t type,
                      const struct dns_asker *asker, struct dns_https *https, struct ip *hints,
                      uint32_t *ttl)
{
    struct dns_reply addresses;
    dns_reply_init(&addresses, DNS_NOERROR);
    put_addresses(view, choice, type, asker, &addresses);
    for (size_t i = 0; i < addresses.count; i++) {
        const struct dns_record *record = &addresses.records[i];
        hints[https->hint_count++] = dns_record_ip(&addresses, record);
        *ttl = record->ttl < *ttl ? record->ttl : *ttl;
    }
}

/* Where the operator says how TLS is reached: one record, with what A and AAAA would answer as
 * hints, for as short as either would last. */
static void resolve_told(const struct dns_view *view, const struct dns_entry *entry,
                         const struct dns_question *question, const struct dns_asker *asker,
                         struct dns_reply *reply)
{
    static const uint16_t types[] = { DNS_A, DNS_AAAA };
    static_assert(sizeof types / sizeof *types == DNS_FAMILIES, "all that there are");
    struct dns_client client = dns_client_of(view, question, asker);
    struct dns_choice choice;
    struct ip hints[DNS_FAMILIES * DNS_RECORDS_MAX];
    struct dns_https https = { .hints = hints };
    uint32_t ttl = TTL_STABLE_S;
    size_t four = 0;
    for (size_t i = 0; i < DNS_FAMILIES; i++) {
        const struct dns_entry *of = of_family(entry, types[i]);
        dns_choose(view, of, &client, DNS_ANSWERS_MAX, asker->memo, &choice);
        scope(view, of, question, &client, asker, &choice, reply);
        four = https.hint_count;
        add_hints(view, &choice, types[i], asker, &https, hints, &ttl);
    }
    https.hint_count = dns_https_hints(hints, four, https.hint_count - four, DNS_RECORDS_MAX);
    told_to(&view->https, &https);
    if (https.hint_count)
        dns_reply_https(reply, ttl, &https);
    else if (choice.count == 0)
        explain_none(&choice, reply);
}

static void resolve_places(const struct dns_view *view, const struct dns_entry *entry,
                           const struct dns_question *question, const struct dns_asker *asker,
                           struct dns_reply *reply)
{
    struct dns_choice choice;
    struct dns_client client = dns_client_of(view, question, asker);
    entry = of_family(entry, question->type);
    dns_choose(view, entry, &client, DNS_ANSWERS_MAX, asker->memo, &choice);
    scope(view, entry, question, &client, asker, &choice, reply);
    if (choice.count == 0)
        explain_none(&choice, reply);
    else if (question->type == DNS_HTTPS)
        put_https(view, &choice, reply);
    else
        put_addresses(view, &choice, question->type, asker, reply);
}

static void resolve_entry(const struct dns_view *view, const struct dns_entry *entry,
                          const struct dns_question *question, const struct dns_asker *asker,
                          struct dns_reply *reply)
{
    bool address = question->type == DNS_A || question->type == DNS_AAAA;
    if (question->type == DNS_ANY)
        dns_reply_any(reply, TTL_UNSTABLE_S);
    else if (entry->kind == DNS_IS_HOST && address)
        put_host(entry, NULL, question->type, asker, DNS_ANSWER, reply);
    else if (entry->kind == DNS_IS_ENDPOINT && question->type == DNS_HTTPS && view->https.told)
        resolve_told(view, entry, question, asker, reply);
    else if (entry->kind == DNS_IS_ENDPOINT &&
             (address || (question->type == DNS_HTTPS && view->tls)))
        resolve_places(view, entry, question, asker, reply);
    if (reply->count == 0)
        negative(view, reply, DNS_NOERROR);
}

/* ---- the zone itself ---------------------------------------------------------------------- */

static void put_servers(const struct dns_view *view, const struct dns_asker *asker,
                        struct dns_reply *reply)
{
    const struct dns_entry *server = dns_view_find(view, SLICE("ns1"));
    dns_reply_ns(reply, DNS_ANSWER, NULL, DNS_TTL_ZONE_S, &view->server);
    if (!server)
        return;
    put_host(server, &view->server, DNS_A, asker, DNS_ADDITIONAL, reply);
    put_host(server, &view->server, DNS_AAAA, asker, DNS_ADDITIONAL, reply);
}

static void resolve_zone(const struct dns_view *view, const struct dns_question *question,
                         const struct dns_asker *asker, struct dns_reply *reply)
{
    switch (question->type) {
    case DNS_SOA:
        put_soa(view, reply, DNS_ANSWER, DNS_TTL_ZONE_S);
        break;
    case DNS_NS:
        put_servers(view, asker, reply);
        break;
    default:
        resolve_entry(view, &view->apex, question, asker, reply);
    }
}

/* ---- names below it ----------------------------------------------------------------------- */

static void resolve_why(const struct dns_view *view, const struct dns_entry *entry,
                        const struct dns_question *question, const struct dns_asker *asker,
                        struct dns_reply *reply)
{
    if (!asker->why_allowed) {
        reply->rcode = DNS_REFUSED;
        reply->authoritative = false;
        dns_reply_explain(reply, DNS_EDE_PROHIBITED, "_why is not for this address (--why-from)");
        return;
    }
    if (question->type != DNS_TXT) {
        negative(view, reply, DNS_NOERROR);
        return;
    }
    struct dns_client client = dns_client_of(view, question, asker);
    if (question->subnet.present) /* nothing of it is for anybody else */
        reply->scope_bits = question->subnet.bits;
    dns_why(view, entry, &client, reply);
}

static void resolve_below(const struct dns_view *view, const struct dns_question *question,
                          const struct dns_asker *asker, size_t before, struct dns_reply *reply)
{
    const struct dns_entry *entry = NULL;
    struct slice first, second;
    size_t at = 0;
    bool more = dns_name_label(&question->name, &at, &first) && at < before;
    if (!more)
        entry = dns_view_find(view, first);
    if (entry) {
        resolve_entry(view, entry, question, asker, reply);
        return;
    }
    bool why = more && slice_is(first, "_why") && dns_name_label(&question->name, &at, &second) &&
               at == before;
    entry = why ? dns_view_find(view, second) : NULL;
    if (entry && entry->kind == DNS_IS_ENDPOINT)
        resolve_why(view, entry, question, asker, reply);
    else
        negative(view, reply, DNS_NXDOMAIN);
}

void dns_resolve(const struct dns_view *view, const struct dns_question *question,
                 const struct dns_asker *asker, struct dns_reply *reply)
{
    size_t before;
    assert(question->asked && question->rcode == DNS_NOERROR);
    dns_reply_init(reply, DNS_NOERROR);
    if (!view) {
        reply->rcode = DNS_SERVFAIL;
        dns_reply_explain(reply, DNS_EDE_NOT_READY, "nothing is known yet");
        return;
    }
    if (!dns_name_below(&question->name, &view->zone, &before)) {
        reply->rcode = DNS_REFUSED;
        dns_reply_explain(reply, DNS_EDE_NOT_AUTHORITATIVE, "not in this server's zone");
        return;
    }
    reply->authoritative = true;
    if (before == 0)
        resolve_zone(view, question, asker, reply);
    else
        resolve_below(view, question, asker, before, reply);
}
