/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys that this PoP has with each other one: from control or the disk, to the gateway over the
 * channel that only it and this agent have. Nothing else hears of them.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "pop/agent.h"
#include "spec/endpoint.h"

static_assert((int)HOP_KEY_BYTES == (int)MESSAGE_KEY_BYTES);

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int key_read(yyjson_val *item, struct pop_key *ret, struct err *err)
{
    struct slice name, hex;
    if (json_get_string(item, "pop", JSON_REQUIRED, &name, err) < 0 ||
        json_get_string(item, "key", JSON_REQUIRED, &hex, err) < 0 ||
        spec_check_name(name, "PoP", err) < 0)
        return ERR_BAD_INPUT;
    bool good = hex.size == 2 * sizeof ret->key && name.size < sizeof ret->pop;
    for (size_t i = 0; good && i < sizeof ret->key; i++) {
        int high = digit_of(hex.data[2 * i]), low = digit_of(hex.data[2 * i + 1]);
        good = high >= 0 && low >= 0;
        ret->key[i] = (unsigned char)((unsigned)high << 4 | (unsigned)low);
    }
    if (!good)
        return err_set(err, ERR_BAD_INPUT, "the key with PoP '%s' is none", ERR_SLICE(name));
    memcpy(ret->pop, name.data, name.size);
    return 0;
}

/* Pointers alone are sorted: qsort() leaves copies of what it moves where nobody wipes them. */
static int by_name(const void *a, const void *b)
{
    const struct pop_key *const *x = a, *const *y = b;
    return slice_order(slice_of((*x)->pop), slice_of((*y)->pop));
}

static int list_read(struct arena *arena, yyjson_val *list, struct pop_key *ret_keys,
                     struct err *err)
{
    size_t index, count = yyjson_arr_size(list);
    struct pop_key *keys = ARENA_ARRAY(arena, struct pop_key, count + 1);
    struct pop_key **sorted = ARENA_ARRAY(arena, struct pop_key *, count + 1);
    yyjson_val *item;
    yyjson_arr_foreach(list, index, count, item)
    {
        sorted[index] = &keys[index];
        if (key_read(item, &keys[index], err) < 0)
            return ERR_BAD_INPUT;
    }
    if (count > 1)
        qsort((void *)sorted, count, sizeof *sorted, by_name);
    for (size_t i = 0; i < count; i++) {
        ret_keys[i] = *sorted[i];
        if (i > 0 && strcmp(ret_keys[i - 1].pop, ret_keys[i].pop) == 0)
            return err_set(err, ERR_BAD_INPUT, "two keys with PoP '%s'", ret_keys[i].pop);
    }
    return 0;
}

int pop_keys_apply(struct pop *pop, struct slice json, struct err *err)
{
    struct arena *arena = arena_new_secret(), *kept = arena_new_secret();
    struct pop_key *keys = NULL;
    yyjson_val *root, *list;
    size_t count = 0;
    int r = json_parse(arena, json, NULL, &root, err);
    if (r == 0 && json_get_array(root, "keys", JSON_REQUIRED, &list, err) < 0)
        r = ERR_BAD_INPUT;
    if (r == 0) {
        count = yyjson_arr_size(list);
        if (count > POP_PEERS_MAX)
            r = err_set(err, ERR_BAD_INPUT, "%zu keys; at most %d", count, (int)POP_PEERS_MAX);
    }
    if (r == 0) {
        keys = ARENA_ARRAY(kept, struct pop_key, count + 1);
        r = list_read(arena, list, keys, err);
    }
    arena_free(arena);
    if (r < 0) {
        arena_free(kept);
        return r;
    }
    pop_keys_clear(pop);
    pop->keys = keys;
    pop->key_count = count;
    pop->keys_arena = kept;
    return 0;
}

struct slice pop_keys_json(const struct pop *pop, struct arena *arena)
{
    static const char digits[] = "0123456789abcdef";
    struct json_writer w;
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_key(&w, "keys");
    json_array_begin(&w);
    for (size_t i = 0; i < pop->key_count; i++) {
        char hex[2 * HOP_KEY_BYTES + 1] = {};
        for (size_t k = 0; k < HOP_KEY_BYTES; k++) {
            hex[2 * k] = digits[pop->keys[i].key[k] >> 4];
            hex[2 * k + 1] = digits[pop->keys[i].key[k] & 15];
        }
        json_object_begin(&w);
        json_member_text(&w, "pop", pop->keys[i].pop);
        json_member_text(&w, "key", hex);
        json_object_end(&w);
        explicit_bzero(hex, sizeof hex);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

const struct pop_key *pop_key_find(const struct pop *pop, struct slice name)
{
    size_t low = 0, high = pop->key_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_order(name, slice_of(pop->keys[middle].pop));
        if (order == 0)
            return &pop->keys[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

void pop_keys_clear(struct pop *pop)
{
    arena_free(take_ptr(pop->keys_arena));
    pop->keys = NULL;
    pop->key_count = 0;
}

/* ---- to the gateway ------------------------------------------------------------------------- */

/* All of them each time, ended by one without a name: only then they count, and a gateway that has
 * just started waits for it. */
void agent_keys_tell(struct agent *agent)
{
    const struct pop *pop = &agent->pop;
    if (!agent->gateway.channel)
        return;
    for (size_t i = 0; i <= pop->key_count; i++) {
        struct message_peer_key message = MESSAGE_INIT(MESSAGE_PEER_KEY);
        message.flags = i == 0 ? MESSAGE_KEYS_FIRST : 0;
        if (i < pop->key_count) {
            memcpy(message.pop, pop->keys[i].pop, sizeof message.pop);
            memcpy(message.key, pop->keys[i].key, sizeof message.key);
        }
        wire_send(&agent->gateway, &message, sizeof message, -1);
        explicit_bzero(&message, sizeof message);
    }
}

void agent_keys_changed(struct agent *agent)
{
    agent_keys_tell(agent);
    agent_mesh_changed(agent);
    keep_keys(&agent->keep);
}
