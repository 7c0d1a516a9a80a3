/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Specs by chance, and what they allow: read as docs/residency.md and docs/spec.md say it, by name
 * and in the plainest way. It shares nothing with policy/.
 */
#include <string.h>

#include "fleet.h"

const struct city cities[] = {
    { "Paris", "FR", "eu-west", 48.85F, 2.35F },
    { "Marseille", "FR", "eu-west", 43.30F, 5.37F },
    { "Frankfurt", "DE", "eu-central", 50.11F, 8.68F },
    { "Berlin", "DE", "eu-central", 52.52F, 13.40F },
    { "Amsterdam", "NL", "eu-west", 52.37F, 4.90F },
    { "Madrid", "ES", "eu-south", 40.42F, -3.70F },
    { "Milan", "IT", "eu-south", 45.46F, 9.19F },
    { "Warsaw", "PL", "eu-east", 52.23F, 21.01F },
    { "Stockholm", "SE", "eu-north", 59.33F, 18.07F },
    { "London", "GB", "uk-south", 51.51F, -0.13F },
    { "Zurich", "CH", "alps", 47.37F, 8.54F },
    { "Oslo", "NO", "eu-north", 59.91F, 10.75F },
    { "New York", "US", "us-east", 40.71F, -74.01F },
    { "Chicago", "US", "us-central", 41.88F, -87.63F },
    { "San Jose", "US", "us-west", 37.34F, -121.89F },
    { "Toronto", "CA", "ca-east", 43.65F, -79.38F },
    { "Mexico City", "MX", "latam", 19.43F, -99.13F },
    { "Sao Paulo", "BR", "latam", -23.55F, -46.63F },
    { "Tokyo", "JP", "ap-north", 35.68F, 139.69F },
    { "Seoul", "KR", "ap-north", 37.57F, 126.98F },
    { "Singapore", "SG", "ap-south", 1.35F, 103.82F },
    { "Mumbai", "IN", "ap-south", 19.08F, 72.88F },
    { "Sydney", "AU", "ap-south", -33.87F, 151.21F },
    { "Johannesburg", "ZA", "africa", -26.20F, 28.05F },
    { "Dubai", "AE", "gulf", 25.20F, 55.27F },
};
const size_t city_count = sizeof cities / sizeof *cities;

static bool in_eu(const char *country)
{
    static const char states[] = "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL "
                                 "PT RO SK SI ES SE AX GF GP MF MQ RE YT";
    return strstr(states, country) != NULL;
}

static bool names_country(const struct law_list *list, const char *country)
{
    for (unsigned i = 0; i < list->count; i++)
        if (country && (strcmp(list->names[i], country) == 0 ||
                        (strcmp(list->names[i], "EU") == 0 && in_eu(country))))
            return true;
    return false;
}

static bool is_word(const struct law_list *list, const char *word)
{
    return list->count == 1 && strcmp(list->names[0], word) == 0;
}

static bool asks(const struct law *law)
{
    for (unsigned i = 0; i < law->rules; i++)
        if (!is_word(&law->clients[i], "any") || is_word(&law->process[i], "same-country") ||
            is_word(&law->transit[i], "same-country"))
            return true;
    return false;
}

static bool holds(const struct law_list *list, const char *client, const char *pop)
{
    if (is_word(list, "any"))
        return true;
    if (is_word(list, "same-country"))
        return client && strcmp(client, pop) == 0;
    return names_country(list, pop);
}

/* By the first rule for that client; `passing`: it may also be in the rule's transit. */
static bool may(const struct law *law, const char *client, const char *pop, bool passing)
{
    if (law->rules == 0)
        return true;
    if (!client && asks(law)) {
        if (strcmp(law->unknown_client, "refuse") == 0)
            return false;
        client = law->unknown_client;
    }
    for (unsigned i = 0; i < law->rules; i++) {
        if (!is_word(&law->clients[i], "any") && !names_country(&law->clients[i], client))
            continue;
        return holds(&law->process[i], client, pop) ||
               (passing && law->transit[i].count && holds(&law->transit[i], client, pop));
    }
    return false;
}

bool law_may_process(const struct law *law, const char *client, const char *pop)
{
    return may(law, client, pop, false);
}

bool law_may_pass(const struct law *law, const char *client, const char *pop)
{
    return may(law, client, pop, true);
}

/* Some client's request may be processed there, and regions name it. */
bool law_may_place(const struct law *law, const char *name, const struct city *pop)
{
    bool held = law->rules == 0, named = law->regions.count == 0;
    for (unsigned i = 0; i < law->rules; i++)
        held =
            held || is_word(&law->process[i], "any") ||
            names_country(&law->process[i], pop->country) ||
            (is_word(&law->process[i], "same-country") &&
             (is_word(&law->clients[i], "any") || names_country(&law->clients[i], pop->country)));
    for (unsigned i = 0; i < law->regions.count; i++) {
        const char *word = law->regions.names[i];
        size_t size = strlen(word);
        named = named || strcmp(word, name) == 0 || strcmp(word, pop->region) == 0 ||
                (strncmp(word, pop->region, size) == 0 && pop->region[size] == '-');
    }
    return held && (named || names_country(&law->regions, pop->country));
}

/* ---- by chance ------------------------------------------------------------------------------- */

static void list_draw(struct fleet *fleet, struct law_list *ret)
{
    unsigned count = (unsigned)fleet_draw(fleet, 1, LAW_NAMES - 1);
    ret->count = 0;
    if (fleet_draw(fleet, 0, 2) == 0)
        ret->names[ret->count++] = "EU";
    while (ret->count < count) {
        const char *country = cities[fleet_draw(fleet, 0, (int64_t)city_count - 1)].country;
        bool there = false;
        for (unsigned i = 0; i < ret->count; i++)
            there = there || strcmp(ret->names[i], country) == 0;
        if (there)
            count--;
        else
            ret->names[ret->count++] = country;
    }
    if (ret->count == 0)
        ret->names[ret->count++] = "EU";
}

/* By the time alone: a world is else the same as without, and its figures were found so. */
static void transit_draw(const struct fleet *fleet, unsigned rule, struct law_list *ret)
{
    uint64_t dice =
        ((uint64_t)env_now_ns(fleet->env) + 7 * fleet->versions + rule) * 0x9e3779b97f4a7c15;
    const char *words[] = { "any", "same-country", "EU", cities[(dice >> 40) % city_count].country,
                            NULL }; /* not said: as process_in */
    const char *word = words[(dice >> 32) % (sizeof words / sizeof *words)];
    *ret = (struct law_list){ { word }, word != NULL };
}

void law_draw(struct fleet *fleet, struct law *ret)
{
    static const char *const words[] = { "eu",  "us",  "eu-west", "us-east", "ap-north",
                                         "p01", "p07", "latam",   "ap",      "alps" };
    *ret = (struct law){ .unknown_client = fleet_draw(fleet, 0, 1) ? "refuse" : "DE" };
    ret->rules = (unsigned)fleet_draw(fleet, 0, LAW_RULES);
    for (unsigned i = 0; i < ret->rules; i++) {
        if (fleet_draw(fleet, 0, 3) == 0 || i + 1 == LAW_RULES)
            ret->clients[i] = (struct law_list){ { "any" }, 1 };
        else
            list_draw(fleet, &ret->clients[i]);
        int64_t dice = fleet_draw(fleet, 0, 5);
        if (dice == 0)
            ret->process[i] = (struct law_list){ { "any" }, 1 };
        else if (dice == 1)
            ret->process[i] = (struct law_list){ { "same-country" }, 1 };
        else
            list_draw(fleet, &ret->process[i]);
        transit_draw(fleet, i, &ret->transit[i]);
    }
    if (fleet_draw(fleet, 0, 2) == 0) {
        list_draw(fleet, &ret->regions);
        ret->regions.names[0] =
            words[fleet_draw(fleet, 0, (int64_t)(sizeof words / sizeof *words) - 1)];
    }
}

static void list_print(const struct law_list *list, struct json_writer *w)
{
    if (is_word(list, "any") || is_word(list, "same-country")) {
        json_text(w, list->names[0]);
        return;
    }
    json_array_begin(w);
    for (unsigned i = 0; i < list->count; i++)
        json_text(w, list->names[i]);
    json_array_end(w);
}

void law_print(const struct law *law, struct json_writer *w)
{
    if (law->regions.count) {
        json_key(w, "regions");
        list_print(&law->regions, w);
    }
    if (!law->rules)
        return;
    json_key(w, "residency");
    json_object_begin(w);
    json_key(w, "rules");
    json_array_begin(w);
    for (unsigned i = 0; i < law->rules; i++) {
        json_object_begin(w);
        json_key(w, "clients");
        list_print(&law->clients[i], w);
        json_key(w, "process_in");
        list_print(&law->process[i], w);
        if (law->transit[i].count) {
            json_key(w, "transit");
            list_print(&law->transit[i], w);
        }
        json_object_end(w);
    }
    json_array_end(w);
    json_member_text(w, "unknown_client", law->unknown_client);
    json_object_end(w);
}
