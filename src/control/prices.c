/* SPDX-License-Identifier: Apache-2.0 */
#include "control/prices.h"

#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "spec/pop.h"
#include "store/digest.h"

/* ---- of PoPs' rows ------------------------------------------------------------------------ */

static bool money_take(struct price_list *list, const struct money *money, int64_t *ret_pico)
{
    if (!money->currency[0])
        return true;
    if (!list->currency[0])
        memcpy(list->currency, money->currency, sizeof list->currency);
    return strcmp(list->currency, money->currency) == 0 &&
           !__builtin_mul_overflow(money->micro, INT64_C(1'000'000), ret_pico);
}

static int pops_load(struct store *store, struct arena *arena, struct price_list *ret,
                     struct err *err)
{
    struct store_pop *pops;
    size_t count;
    int r = store->pop_list(store, arena, &pops, &count, err);
    if (r < 0)
        return r;
    struct price_row *rows = ARENA_ARRAY(arena, struct price_row, count + 1);
    struct price_list list = { .rows = rows };
    for (size_t i = 0; i < count; i++) {
        struct pop_spec spec = {};
        yyjson_val *tree;
        struct price_row row = { .pop = pops[i].name };
        if (!pops[i].spec.size || json_parse(arena, pops[i].spec, NULL, &tree, NULL) < 0 ||
            pop_spec_parse(arena, tree, &spec, NULL) < 0)
            continue;
        if (money_take(&list, &spec.prices.cpu_hour, &row.price.cpu_hour) &&
            money_take(&list, &spec.prices.gib_hour, &row.price.gib_hour) &&
            (row.price.cpu_hour || row.price.gib_hour))
            rows[list.count++] = row;
    }
    *ret = list;
    return 0;
}

static int list_load(struct store *store, struct arena *arena, struct price_list *ret,
                     struct err *err)
{
    struct slice text;
    yyjson_val *root;
    *ret = (struct price_list){};
    int r = store->prices_get(store, arena, &text, err);
    if (r < 0 || !text.size)
        return r;
    r = json_parse(arena, text, NULL, &root, err);
    return r < 0 ? r : price_list_parse(arena, root, ret, err);
}

int prices_load(struct store *store, struct arena *arena, struct price_list *ret, struct err *err)
{
    int r = list_load(store, arena, ret, err);
    return r < 0 || ret->count ? r : pops_load(store, arena, ret, err);
}

/* ---- the API ------------------------------------------------------------------------------ */

static int on_prices_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    return list_load(store, q->arena, q->data, err);
}

static void on_prices_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (err)
        request_fail(q, err);
    else
        request_reply(q, 200, price_list_json(q->arena, q->data));
}

void prices_get(struct request *q)
{
    q->data = ARENA_NEW(q->arena, struct price_list);
    request_read(q, on_prices_run, on_prices_done);
}

struct telling {
    struct price_list list; /* first: on_prices_done */
    struct store_audit audit;
};

static int on_put_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct telling *telling = q->data;
    struct slice before = {}, list = price_list_json(q->arena, &telling->list);
    int r = store->prices_get(store, q->arena, &before, err);
    if (r == 0)
        r = store->prices_put(store, list, q->now_ns, err);
    if (r < 0)
        return r;
    telling->audit.before = digest_slice(q->arena, before);
    telling->audit.after = digest_slice(q->arena, list);
    return store->audit_add(store, &telling->audit, err);
}

void prices_put(struct request *q)
{
    struct err err;
    yyjson_val *root;
    struct telling *telling = ARENA_NEW(q->arena, struct telling);
    telling->audit = request_audit(q, "prices_set");
    telling->audit.project = telling->audit.endpoint = (struct slice){};
    q->data = telling;
    if (json_parse(q->arena, (struct slice){ q->body, q->body_bytes }, NULL, &root, &err) < 0 ||
        price_list_parse(q->arena, root, &telling->list, &err) < 0)
        request_fail(q, &err);
    else
        request_write(q, on_put_run, on_prices_done);
}
