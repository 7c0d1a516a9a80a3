/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revisions with an image, in the agent's core: what control tells of them, and what the driver
 * tells of their replicas in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/json.h"
#include "pop/state_inside.h"
#include "pop_world.h"
#include "store/seal.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define CONFIG "\"config\":{\"digest\":\"sha256:" HEX "\",\"size\":7}"
#define LAYER                                                                                      \
    "{\"digest\":\"sha256:" HEX "\",\"size\":9,"                                                   \
    "\"media_type\":\"application/vnd.oci.image.layer.v1.tar\"}"
#define IMAGE "\"digest\":\"sha256:" HEX "\",\"port\":8080," CONFIG ",\"layers\":[" LAYER "]"

static int tell_of(struct world *world, const char *image, const char *scale, struct err *err)
{
    struct arena *arena = arena_new();
    const char *spec = arena_format(arena,
                                    "{\"name\":\"shop\",\"image\":\"sha256:" HEX "\","
                                    "\"command\":[\"/server\",\"x\"],\"protocol\":\"http\","
                                    "\"pids\":40,\"scale\":{%s}%s}",
                                    scale, spec_more);
    const char *json =
        arena_format(arena,
                     "{\"uid\":1,\"name\":\"shop\",\"state\":\"running\",\"target\":1,\"spec\":%s,"
                     "\"revisions\":[{\"number\":1,\"uid\":%u,\"model\":\"\",\"runtime\":\"image\","
                     "\"spec\":%s,\"image\":{%s}}]}",
                     spec, 1u << 24 | 1, spec, image);
    int r = pop_endpoint_apply(&world->pop, slice_of(json), err);
    arena_free(arena);
    return r;
}

static void tell(struct world *world, const char *scale)
{
    struct err err = {};
    if (tell_of(world, IMAGE, scale, &err) < 0)
        fail_msg("%s", err.message);
    pop_reconcile(&world->pop);
}

static struct pop_revision *shop(struct world *world)
{
    return pop_revision_find(&world->pop, 1u << 24 | 1);
}

static struct pop_replica *first(struct world *world)
{
    return LIST_FIRST(&shop(world)->replicas, struct pop_replica, link);
}

static void loaded(struct world *world)
{
    assert_int_equal(shop(world)->model_state, POP_MODEL_FETCHING);
    pop_model_fetched(shop(world), "", "", NULL);
    pop_reconcile(&world->pop);
}

static void well(struct world *world)
{
    struct pop_ready word = { .sandbox = "Podman: nnp", .memory_bytes = 5 };
    pop_replica_ready(&world->pop, first(world)->id, &word);
    pop_reconcile(&world->pop);
}

static void test_what_control_tells_of_an_image(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    const struct pop_revision *revision = shop(world);
    const struct pop_image *image = revision->image;
    assert_int_equal(revision->driver, POP_DRIVER_ENGINE);
    assert_int_equal(image->port, 8080);
    assert_int_equal(image->layer_count, 1);
    assert_int_equal(image->layers[0].bytes, 9);
    assert_true(slice_is(image->config.digest, "sha256:" HEX));
    assert_int_equal(image->spec.container.command.count, 2);
    assert_int_equal(image->spec.container.pids, 40);
    tell(world, "\"min\":2"); /* it stays what it is: a revision never changes */
    assert_ptr_equal(shop(world)->image, image);
}

static void test_what_is_wrong_with_it_is_said(void **state)
{
    static const struct {
        const char *image, *error;
    } rows[] = {
        { "", "digest" },
        { "\"digest\":\"x\",\"port\":0," CONFIG ",\"layers\":[" LAYER "]", "port 0" },
        { "\"digest\":\"x\",\"port\":65536," CONFIG ",\"layers\":[" LAYER "]", "port 65536" },
        { "\"digest\":\"x\",\"port\":80," CONFIG ",\"layers\":[]", "1 to 127 layers" },
        { "\"digest\":\"x\",\"port\":80," CONFIG ",\"layers\":[{}]", "layer 1" },
        { "\"digest\":\"x\",\"port\":80,\"config\":{\"digest\":\"../x\",\"size\":1},\"layers\":[]",
          "config" },
    };
    struct world *world = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        yyjson_val *image, *spec;
        struct pop_image *ret;
        struct err err = {};
        assert_int_equal(0, json_parse(arena, slice_of(arena_format(arena, "{%s}", rows[i].image)),
                                       NULL, &image, &err));
        assert_int_equal(0, json_parse(arena, SLICE("{}"), NULL, &spec, &err));
        assert_true(pop_image_read(image, spec, &ret, &err) < 0);
        if (!strstr(err.message, rows[i].error))
            fail_msg("'%s' says: %s", rows[i].image, err.message);
        arena_free(arena);
    }
    (void)world;
}

static void test_it_is_loaded_started_and_serves(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    assert_int_equal(world->starts, 0);
    loaded(world);
    assert_int_equal(world->starts, 1);
    well(world);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 1);
    assert_string_equal(first(world)->sandbox, "Podman: nnp");
    assert_true(shop(world)->shown);
    assert_null(shop(world)->model);
}

/* In the table it is not ready any more by the time that the gateway is to look for its end. */
static void test_one_that_is_to_end_is_taken_out_of_the_table_first(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    loaded(world);
    first(world)->target.id = first(world)->id; /* as the driver does */
    well(world);
    unsigned before = world->publishes;
    tell(world, "\"min\":1,\"max\":1");
    pop_endpoint_find(&world->pop, 1)->running = false;
    pop_reconcile(&world->pop);
    assert_int_equal(world->drains, 1);
    assert_true(world->publishes > before + 1); /* the document's own, and this */
    assert_int_equal(first(world)->state, POP_REPLICA_DRAINING);
    pop_replica_drained(&world->pop, first(world)->id);
    pop_reconcile(&world->pop);
    assert_int_equal(world->kills, 1);
}

/* It has what it had; it is not given up for it, and none is started in its place. */
static void test_one_whose_probe_fails_gets_nothing_until_it_is_well(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    loaded(world);
    well(world);
    uint64_t id = first(world)->id;
    unsigned before = world->publishes;
    pop_replica_unready(&world->pop, id, "it is ill");
    pop_reconcile(&world->pop);
    assert_int_equal(first(world)->state, POP_REPLICA_STARTING);
    assert_int_equal(pop_revision_ready(shop(world)), 0);
    assert_true(world->publishes > before);
    world->now_ns += 3600 * ENV_S;
    pop_reconcile(&world->pop);
    assert_int_equal(world->kills, 0);
    assert_int_equal(world->starts, 1);
    well(world);
    assert_int_equal(pop_revision_ready(shop(world)), 1);
    pop_replica_unready(&world->pop, 99, "nobody"); /* unknown: nothing happens */
}

/* What was asked of it before is answered: it is drained as one that is well. */
static void test_one_whose_probe_fails_is_drained_before_it_ends(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    loaded(world);
    well(world);
    pop_replica_unready(&world->pop, first(world)->id, "it is ill");
    pop_endpoint_find(&world->pop, 1)->running = false;
    pop_reconcile(&world->pop);
    assert_int_equal(first(world)->state, POP_REPLICA_DRAINING);
    assert_int_equal(world->drains, 1);
    assert_int_equal(world->kills, 0);
    well(world); /* its probes go on, and may find it well */
    assert_int_equal(first(world)->state, POP_REPLICA_DRAINING);
    pop_replica_drained(&world->pop, first(world)->id);
    pop_reconcile(&world->pop);
    assert_int_equal(world->kills, 1);
}

/* Nothing was ever sent to it. */
static void test_one_that_was_never_well_is_killed_at_once(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    loaded(world);
    pop_endpoint_find(&world->pop, 1)->running = false;
    pop_reconcile(&world->pop);
    assert_int_equal(world->drains, 0);
    assert_int_equal(world->kills, 1);
}

static void test_one_that_ends_is_started_again_with_back_off(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    loaded(world);
    pop_replica_ended(&world->pop, first(world)->id, "it ended by itself with status 3", false);
    pop_reconcile(&world->pop);
    assert_true(shop(world)->failed);
    assert_string_equal(shop(world)->message, "it ended by itself with status 3");
    assert_int_equal(world->starts, 1);
    world->now_ns += ENV_S;
    pop_reconcile(&world->pop);
    assert_int_equal(world->starts, 2);
    well(world);
    assert_false(shop(world)->failed);
    pop_replica_ended(&world->pop, first(world)->id, "it was stopped", true); /* no failure */
    pop_reconcile(&world->pop);
    assert_false(shop(world)->failed);
    pop_replica_ended(&world->pop, 99, "nobody", false);
}

/* The engine takes its time to clean up: meanwhile the next one serves. It is one death. */
static void test_a_dead_one_is_replaced_before_it_is_gone(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    loaded(world);
    uint64_t id = first(world)->id;
    pop_replica_dead(&world->pop, id); /* it never served: how it ended is to be known first */
    pop_reconcile(&world->pop);
    assert_int_equal(world->starts, 1);
    well(world);
    for (int i = 0; i < 2; i++) { /* again is harmless */
        pop_replica_dead(&world->pop, id);
        pop_reconcile(&world->pop);
    }
    assert_int_equal(pop_revision_ready(shop(world)), 0);
    assert_int_equal(world->starts, 2);
    assert_int_equal(world->kills, 0);
    assert_int_equal(shop(world)->failures, 1);
    pop_replica_ended(&world->pop, id, "it ended by itself with status 3", false);
    pop_reconcile(&world->pop);
    assert_int_equal(shop(world)->failures, 1);
    assert_false(shop(world)->failed);
    assert_int_equal(world->starts, 2);
    pop_replica_dead(&world->pop, id); /* unknown by now */
}

static void test_an_engine_that_comes_is_used_at_once(void **state)
{
    struct err none = {};
    struct world *world = *state;
    (void)err_set(&none, ERR_NOT_FOUND, "there is no container engine");
    tell(world, "\"min\":1");
    for (int i = 0; i < 30; i++) {
        pop_model_fetched(shop(world), NULL, NULL, &none);
        world->now_ns += 60 * ENV_S;
        pop_reconcile(&world->pop);
    }
    pop_model_fetched(shop(world), NULL, NULL, &none);
    assert_string_equal(shop(world)->message, "there is no container engine");
    pop_reconcile(&world->pop);
    assert_int_equal(shop(world)->model_state, POP_MODEL_ABSENT);
    pop_engine_there(&world->pop);
    pop_reconcile(&world->pop);
    loaded(world);
    assert_int_equal(world->starts, 1);
}

static void fetch_fails(struct world *world)
{
    struct err err = {};
    (void)err_set(&err, ERR_OVERLOADED, "the disk is full");
    pop_model_fetched(shop(world), NULL, NULL, &err);
    pop_reconcile(&world->pop);
}

/* An agent that comes anew, or an engine that lost it: a start from zero is not to wait for it. */
static void test_the_image_is_here_before_somebody_asks(void **state)
{
    struct world *world = *state;
    tell(world, "");
    after(world, 600);
    assert_int_equal(shop(world)->replica_count, 0);
    assert_int_equal(shop(world)->model_state, POP_MODEL_HERE);
    unsigned starts = world->starts;
    pop_model_state_move(&shop(world)->model_state, POP_MODEL_ABSENT);
    pop_reconcile(&world->pop);
    assert_int_equal(world->pop.holds, 1);
    assert_int_equal(shop(world)->model_state, POP_MODEL_FETCHING);
    fetch_fails(world);
    assert_int_equal(shop(world)->model_state, POP_MODEL_ABSENT);
    assert_int_equal(world->pop.holds, 0);
    assert_true(shop(world)->failed);
    world->now_ns += 2 * ENV_S;
    pop_reconcile(&world->pop);
    loaded(world);
    assert_false(shop(world)->failed); /* it is well again without a start */
    assert_int_equal(world->starts, starts);
    assert_int_equal(world->pop.holds, 0);
}

static void test_who_comes_meanwhile_waits_for_it(void **state)
{
    struct world *world = *state;
    tell(world, "");
    after(world, 600);
    pop_model_state_move(&shop(world)->model_state, POP_MODEL_ABSENT);
    pop_reconcile(&world->pop);
    assert_true(shop(world)->held && world->awaited == 0);
    tell(world, "\"min\":1");
    assert_int_equal(world->awaited, 1);
    assert_int_equal(world->pop.holds, 0);
    assert_int_equal(shop(world)->model_state, POP_MODEL_FETCHING);
    pop_reconcile(&world->pop);
    assert_int_equal(world->awaited, 1); /* once */
    loaded(world);
    assert_int_equal(shop(world)->replica_count, 1);
}

/* That it is here again says nothing of why it did not start. */
static void test_a_start_that_failed_is_not_forgotten_for_its_image(void **state)
{
    struct world *world = *state;
    tell(world, "\"min\":1");
    loaded(world);
    exited(world, first(world)->id, REPLICA_END_ITSELF, 1 << 8);
    assert_true(shop(world)->failed);
    pop_model_state_move(&shop(world)->model_state, POP_MODEL_ABSENT);
    world->now_ns += 2 * ENV_S;
    pop_reconcile(&world->pop);
    loaded(world);
    assert_true(shop(world)->failed);
}

static void test_an_image_is_not_held_where_it_does_not_run(void **state)
{
    struct world *world = *state;
    tell(world, "");
    after(world, 600);
    for (int how = 0; how < 2; how++) {
        pop_model_state_move(&shop(world)->model_state, POP_MODEL_ABSENT);
        struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
        endpoint->placed = how == 0;
        endpoint->running = how == 0;
        pop_reconcile(&world->pop);
        assert_int_equal(shop(world)->model_state, POP_MODEL_ABSENT);
        endpoint->placed = false;
        endpoint->running = true;
        pop_reconcile(&world->pop);
        loaded(world);
    }
}

/* By what the revision says (a newer control may say more than is understood here), and by what the
 * endpoint's residency says now. */
static void test_a_way_out_is_had_by_any_alone(void **state)
{
    static const struct {
        const char *name, *egress[2];
        enum spec_places_kind process_in[2]; /* of rules; 0: none */
        bool open;
    } rows[] = {
        { "nothing said", {}, {}, false },
        { "any", { "any" }, {}, true },
        { "any, twice", { "any", "any" }, {}, true },
        { "a destination", { "api.example:443" }, {}, false },
        { "a destination beside", { "any", "api.example:443" }, {}, false },
        { "any, of clients of anywhere", { "any" }, { SPEC_PLACES_ANY }, true },
        { "a residency that came later", { "any" }, { SPEC_PLACES_LIST }, false },
        { "one rule of two", { "any" }, { SPEC_PLACES_ANY, SPEC_PLACES_SAME_COUNTRY }, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice egress[2] = { slice_of(rows[i].egress[0]), slice_of(rows[i].egress[1]) };
        struct spec_residency_rule rules[2] = { { .process_in.kind = rows[i].process_in[0] },
                                                { .process_in.kind = rows[i].process_in[1] } };
        struct pop_image image = { .spec.container.egress.items = egress };
        struct pop_endpoint endpoint = { .spec.residency.rules = rules };
        struct pop_revision revision = { .endpoint = &endpoint, .image = &image };
        print_message("  %s\n", rows[i].name);
        for (size_t k = 0; k < 2; k++) {
            image.spec.container.egress.count += egress[k].size > 0;
            endpoint.spec.residency.count += rows[i].process_in[k] != 0;
        }
        assert_int_equal(pop_way_out(&revision), rows[i].open);
    }
}

/* One that runs keeps what it has until it has answered; it gets nothing new, and another is there
 * in its place. */
static void test_one_that_may_not_have_its_way_out_any_more_is_replaced(void **state)
{
    struct world *world = *state;
    world->pop.place.country = country_number_of(SLICE("FR"));
    spec_more = ",\"egress\":[\"any\"]";
    tell(world, "\"min\":1");
    loaded(world);
    first(world)->open = pop_way_out(shop(world)); /* as the driver does */
    assert_true(first(world)->open);
    well(world);
    tell(world, "\"min\":1");
    assert_int_equal(world->drains, 0);
    spec_more = ",\"residency\":{\"process_in\":[\"EU\"]}";
    tell(world, "\"min\":1");
    spec_more = "";
    assert_int_equal(world->drains, 1);
    assert_int_equal(world->starts, 2);
    assert_int_equal(first(world)->state, POP_REPLICA_DRAINING);
    pop_reconcile(&world->pop);
    assert_int_equal(world->drains, 1);
    assert_int_equal(world->starts, 2);
}

/* A residency takes no weaker wall, from whom began before it either. */
static void test_one_in_a_network_of_its_own_ends_with_residency(void **state)
{
    struct world *world = *state;
    world->pop.place.country = country_number_of(SLICE("FR"));
    tell(world, "\"min\":1");
    loaded(world);
    first(world)->weak = true; /* as the driver does */
    well(world);
    tell(world, "\"min\":1");
    assert_int_equal(world->drains, 0);
    spec_more = ",\"residency\":{\"process_in\":[\"EU\"]}";
    tell(world, "\"min\":1");
    spec_more = "";
    assert_int_equal(world->drains, 1);
    assert_int_equal(first(world)->state, POP_REPLICA_DRAINING);
}

/* Control hears of it, and what else the document says counts. */
static void test_a_revision_that_cannot_be_read_is_told(void **state)
{
    struct world *world = *state;
    struct err err = {};
    assert_int_equal(tell_of(world, "\"digest\":\"x\",\"port\":0," CONFIG ",\"layers\":[" LAYER "]",
                             "\"min\":1", &err),
                     0);
    pop_reconcile(&world->pop);
    assert_non_null(shop(world));
    assert_true(shop(world)->failed);
    assert_non_null(strstr(shop(world)->message, "port 0"));
    assert_int_equal(world->starts, 0);
    assert_int_equal(shop(world)->model_state, POP_MODEL_ABSENT);
    tell(world, "\"min\":1"); /* another control, which says it otherwise */
    assert_false(shop(world)->failed);
    loaded(world);
    assert_int_equal(world->starts, 1);
}

/* ---- secrets --------------------------------------------------------------------------------- */

static void give(struct world *world, const char *json)
{
    struct err err = {};
    if (pop_secret_apply(&world->pop, slice_of(json), &err) < 0)
        fail_msg("%s: %s", json, err.message);
}

static void lacks(struct world *world, const char *words)
{
    struct err err = {};
    assert_int_equal(pop_secrets_check(shop(world), &err), ERR_PRECONDITION);
    if (!strstr(err.message, words))
        fail_msg("'%s' lacks '%s'", err.message, words);
}

#define TOKEN "{\"project\":\"default\",\"name\":\"hub-token\",\"value\":\"hush\"}"

static void test_a_secret_is_waited_for_and_forgotten(void **state)
{
    struct world *world = *state;
    struct err err = {};
    spec_more = ",\"env\":{\"A\":\"1\",\"TOKEN\":{\"secret\":\"hub-token\"}}";
    tell(world, "\"min\":1");
    spec_more = "";
    lacks(world, "env.TOKEN: control has given no secret 'hub-token'");
    world->refuse = true;
    loaded(world);
    assert_true(shop(world)->failures > 0);
    give(world, "{\"project\":\"other\",\"name\":\"hub-token\",\"value\":\"x\"}");
    lacks(world, "control has given no secret");
    assert_true(shop(world)->failures > 0); /* that one is of another project */
    give(world, "{\"project\":\"default\",\"name\":\"hub-token\",\"error\":\"the key is gone\"}");
    lacks(world, "env.TOKEN: control cannot open the secret 'hub-token': the key is gone");
    world->refuse = false;
    world->starts = 0;
    give(world, TOKEN);
    assert_int_equal(pop_secrets_check(shop(world), &err), 0);
    pop_reconcile(&world->pop);
    assert_int_equal(world->starts, 1); /* at once */
    assert_int_equal(world->pop.secret_count, 2);
    world->pop.secrets_moved = false;
    give(world, TOKEN);
    assert_false(world->pop.secrets_moved); /* that was known */
    give(world, "{\"project\":\"default\",\"name\":\"hub-token\",\"error\":\"the key is gone\"}");
    assert_false(world->pop.secrets_moved); /* and is kept where control cannot open it any more */
    assert_int_equal(pop_secrets_check(shop(world), &err), 0);
    assert_int_equal(pop_secrets_keep(&world->pop,
                                      SLICE("{\"secrets\":[{\"project\":\"default\",\"name\":"
                                            "\"hub-token\"}]}"),
                                      &err),
                     0);
    assert_true(world->pop.secrets_moved);
    assert_int_equal(world->pop.secret_count, 1);
    assert_int_equal(pop_secrets_check(shop(world), &err), 0);
    assert_int_equal(pop_secrets_keep(&world->pop, SLICE("{\"secrets\":[]}"), &err), 0);
    lacks(world, "control has given no secret");
}

static void test_what_is_no_secret_is_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "[]",
        "{}",
        "{\"project\":\"default\",\"value\":\"hush\"}",
        "{\"name\":\"hub-token\",\"value\":\"hush\"}",
        "{\"project\":\"default\",\"name\":\"hub-token\",\"value\":7}",
        "{\"project\":\"default\",\"name\":\"../x\",\"value\":\"hush\"}",
        "{\"project\":\"De\",\"name\":\"hub-token\",\"value\":\"hush\"}",
        "{\"project\":\"default\",\"name\":\"hub-token\",\"value\":\"hush\"",
    };
    struct world *world = *state;
    struct err err;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(pop_secret_apply(&world->pop, slice_of(rows[i]), &err) < 0);
        assert_null(strstr(err.message, "hush"));
    }
    give(world, TOKEN);
    assert_true(pop_secrets_keep(&world->pop, SLICE("{\"secrets\":7}"), &err) < 0);
    assert_true(pop_secrets_keep(&world->pop, SLICE("{}"), &err) < 0);
    assert_int_equal(world->pop.secret_count, 1);
}

static void test_secrets_lie_sealed_on_disk(void **state)
{
    static const unsigned char bytes[SEAL_KEY_BYTES] = "a key", others[SEAL_KEY_BYTES] = "another";
    struct world *world = *state;
    struct arena *arena = arena_new_secret();
    const struct seal_key *key = seal_key_of(bytes, "pop/seal.key", arena);
    const struct seal_key *other = seal_key_of(others, "pop/seal.key", arena);
    struct err err = {};
    give(world, TOKEN);
    give(world, "{\"project\":\"default\",\"name\":\"lost-one\",\"error\":\"no\"}");
    struct slice text = pop_secrets_json(&world->pop, key, arena);
    assert_null(memmem(text.data, text.size, "hush", 4));
    assert_null(memmem(text.data, text.size, "68757368", 8));
    pop_secrets_clear(&world->pop);
    assert_int_equal(pop_secrets_load(&world->pop, other, text, &err), ERR_PRECONDITION);
    assert_non_null(strstr(err.message, "pop/seal.key is another key"));
    assert_int_equal(world->pop.secret_count, 0);
    assert_int_equal(pop_secrets_load(&world->pop, key, text, &err), 0);
    assert_int_equal(world->pop.secret_count, 1); /* what control cannot open is not there */
    const struct pop_secret *secret =
        pop_secret_find(&world->pop, SLICE("default"), SLICE("hub-token"));
    assert_true(secret && slice_is(secret->value, "hush"));
    arena_free(arena);
}

/* It may have volumes, and an image, that nobody else would name. */
static void test_what_is_not_understood_is_remembered(void **state)
{
    static const char broken[] = "\"digest\":\"x\",\"port\":0," CONFIG ",\"layers\":[" LAYER "]";
    static const char newer[] = "{\"uid\":7,\"name\":\"new\",\"state\":\"running\",\"target\":1,"
                                "\"revisions\":[],\"spec\":{\"scale\":\"by weather\"}}";
    struct world *world = *state;
    struct pop *pop = &world->pop;
    struct err err = {};
    assert_false(pop_unread(pop, 0));
    assert_int_equal(tell_of(world, broken, "", &err), 0);
    assert_true(pop_unread(pop, 1) && pop_unread(pop, 0) && !pop_unread(pop, 2));
    tell(world, "");
    assert_false(pop_unread(pop, 0));
    assert_true(pop_endpoint_apply(pop, slice_of(newer), &err) < 0);
    assert_true(pop_unread(pop, 7) && !pop_unread(pop, 1));
    assert_null(pop_endpoint_find(pop, 7));
    pop_endpoint_gone(pop, 7);
    assert_false(pop_unread(pop, 0));
    assert_true(pop_endpoint_apply(pop, slice_of(newer), &err) < 0);
    pop_sync_begin(pop);
    assert_true(pop_unread(pop, 7)); /* it is told anew just now */
    assert_true(pop_endpoint_apply(pop, slice_of(newer), &err) < 0);
    assert_true(pop_endpoint_apply(pop, SLICE("{\"uid\":"), &err) < 0); /* of which? of any */
    pop_sync(pop, NULL, 0);
    assert_true(pop_unread(pop, 7) && pop_unread(pop, 1));
    pop_sync_begin(pop);
    pop_sync(pop, NULL, 0);
    assert_false(pop_unread(pop, 0));
}

static void tell_residency(struct world *world, const char *countries)
{
    static char more[128];
    snprintf(more, sizeof more, ",\"residency\":{\"process_in\":[%s]}", countries);
    spec_more = more;
    tell(world, "\"min\":1");
    spec_more = "";
}

/* What it left here goes then: not under those that still answer, and once. */
static void test_what_the_law_bars_is_told_once_nothing_runs(void **state)
{
    const struct region_place berlin = { SLICE("berlin"), {}, country_number_of(SLICE("DE")) };
    struct world *world = *state;
    struct err err = {};
    assert_int_equal(pop_stand(&world->pop, &berlin, (struct slice){}, &err), 0);
    tell_residency(world, "\"DE\"");
    const struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
    tell_residency(world, "\"US\""); /* while its image comes */
    assert_false(pop_endpoint_barred(endpoint));
    assert_int_equal(world->barred, 0);
    tell_residency(world, "\"DE\"");
    loaded(world);
    well(world);
    tell_residency(world, "\"US\"");
    assert_int_equal(first(world)->state, POP_REPLICA_DRAINING);
    assert_false(pop_endpoint_barred(endpoint));
    uint64_t id = first(world)->id;
    pop_replica_drained(&world->pop, id);
    pop_reconcile(&world->pop);
    assert_int_equal(world->barred, 0);
    pop_replica_ended(&world->pop, id, "it was stopped", true);
    for (int i = 0; i < 2; i++) {
        pop_reconcile(&world->pop);
        assert_int_equal(world->barred, 1);
    }
    assert_true(pop_endpoint_barred(endpoint));
    assert_non_null(strstr(endpoint->barred, "'berlin' (DE)"));
    world->pop.synced = false; /* what the disk says may be old */
    assert_false(pop_endpoint_barred(endpoint));
    world->pop.synced = true;
    tell_residency(world, "\"DE\"");
    assert_false(pop_endpoint_barred(endpoint));
}

/* That it is placed elsewhere is no law, nor is what cannot be told. */
static void test_what_is_elsewhere_without_a_law_is_not_barred(void **state)
{
    static const struct {
        const char *country, *more;
    } rows[] = {
        { "DE", ",\"regions\":[\"US\"]" },
        { "", ",\"residency\":{\"process_in\":[\"US\"]}" },
        { "DE", ",\"residency\":{\"process_in\":[\"NATO\"]}" },
        { "DE", ",\"residency\":{\"process_at\":[\"US\"]}" },
    };
    struct world *world = *state;
    struct err err = {};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct region_place place = { SLICE("berlin"),
                                            {},
                                            country_number_of(slice_of(rows[i].country)) };
        assert_int_equal(pop_stand(&world->pop, &place, (struct slice){}, &err), 0);
        spec_more = rows[i].more;
        tell(world, "");
        spec_more = "";
        assert_non_null(pop_endpoint_find(&world->pop, 1)->elsewhere);
        assert_false(pop_endpoint_barred(pop_endpoint_find(&world->pop, 1)));
    }
    assert_int_equal(world->barred, 0);
}

/* An earlier agent had it, and requests of then may be on it, though nobody has probed it since. */
static void test_one_of_an_earlier_agent_is_drained_before_it_ends(void **state)
{
    struct message_replica_added added = MESSAGE_INIT(MESSAGE_REPLICA_ADDED);
    struct world *world = *state;

    tell(world, "\"min\":1");
    added.replica = UINT64_C(1) << 40 | 1;
    added.revision = 1u << 24 | 1;
    pop_replica_added(&world->pop, &added);
    pop_reconcile(&world->pop);
    pop_endpoint_find(&world->pop, 1)->running = false;
    pop_reconcile(&world->pop);
    assert_int_equal(world->drains, 1);
    assert_int_equal(world->kills, 0);
    pop_replica_drained(&world->pop, added.replica);
    pop_reconcile(&world->pop);
    assert_int_equal(world->kills, 1);
}

int main(void)
{
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_new, world_free)
    const struct CMUnitTest tests[] = {
        WORLD(test_what_control_tells_of_an_image),
        WORLD(test_what_is_wrong_with_it_is_said),
        WORLD(test_it_is_loaded_started_and_serves),
        WORLD(test_one_that_is_to_end_is_taken_out_of_the_table_first),
        WORLD(test_one_whose_probe_fails_gets_nothing_until_it_is_well),
        WORLD(test_one_whose_probe_fails_is_drained_before_it_ends),
        WORLD(test_one_that_was_never_well_is_killed_at_once),
        WORLD(test_one_of_an_earlier_agent_is_drained_before_it_ends),
        WORLD(test_one_that_ends_is_started_again_with_back_off),
        WORLD(test_a_dead_one_is_replaced_before_it_is_gone),
        WORLD(test_an_engine_that_comes_is_used_at_once),
        WORLD(test_the_image_is_here_before_somebody_asks),
        WORLD(test_who_comes_meanwhile_waits_for_it),
        WORLD(test_a_start_that_failed_is_not_forgotten_for_its_image),
        WORLD(test_an_image_is_not_held_where_it_does_not_run),
        WORLD(test_a_way_out_is_had_by_any_alone),
        WORLD(test_one_that_may_not_have_its_way_out_any_more_is_replaced),
        WORLD(test_one_in_a_network_of_its_own_ends_with_residency),
        WORLD(test_a_revision_that_cannot_be_read_is_told),
        WORLD(test_a_secret_is_waited_for_and_forgotten),
        WORLD(test_what_is_no_secret_is_refused),
        WORLD(test_secrets_lie_sealed_on_disk),
        WORLD(test_what_is_not_understood_is_remembered),
        WORLD(test_what_the_law_bars_is_told_once_nothing_runs),
        WORLD(test_what_is_elsewhere_without_a_law_is_not_barred),
    };
    return cmocka_run_group_tests_name("pop_containers", tests, NULL, NULL);
}
