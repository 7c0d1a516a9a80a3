/* SPDX-License-Identifier: Apache-2.0 */
/* What control tells an agent: endpoints (behind an e), the list of PoPs (behind a p), keys (k), a
 * secret (s), the list of those that are kept (l), and secrets as they lie on disk (d). */
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "bare_pop.h"
#include "store/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int secrets_load(struct pop *pop, struct slice text, struct err *err)
{
    static const unsigned char bytes[SEAL_KEY_BYTES];
    struct arena *secret = arena_new_secret();
    int r = pop_secrets_load(pop, seal_key_of(bytes, "it", secret), text, err);
    arena_free(secret);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char first[] =
        "{\"uid\":1,\"name\":\"digits\",\"state\":\"running\",\"target\":1,\"revisions\":[],"
        "\"spec\":{\"name\":\"digits\",\"model\":\"m\",\"regions\":[\"eu\"]}}";
    struct env env = BARE_ENV;
    struct pop pop;
    struct err err;
    if (size == 0)
        return 0;
    log_level_set(LOG_ERROR);
    pop_init(&pop, &env, 1, &bare_effects, NULL);
    pop.name = "berlin";
    if (pop_endpoint_apply(&pop, slice_of(first), &err) < 0)
        abort();
    struct slice text = { (const char *)data + 1, size - 1 };
    (void)!(data[0] == 'p'   ? pop_peers_apply(&pop, text, &err)
            : data[0] == 'k' ? pop_keys_apply(&pop, text, &err)
            : data[0] == 's' ? pop_secret_apply(&pop, text, &err)
            : data[0] == 'l' ? pop_secrets_keep(&pop, text, &err)
            : data[0] == 'd' ? secrets_load(&pop, text, &err)
                             : pop_endpoint_apply(&pop, text, &err));
    for (size_t i = 0; i < pop.key_count; i++)
        if (pop_key_find(&pop, slice_of(pop.keys[i].pop)) != &pop.keys[i])
            abort();
    if (pop.peer_count > POP_PEERS_MAX || !pop_endpoint_find(&pop, 1))
        abort();
    pop_deinit(&pop);
    return 0;
}
