/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dns_codec.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"

/* KNOT_SONAME is that of the library whose headers these are: what they say of structs holds. */

static struct dns_knot knot;
static char missing[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void knot_open(void)
{
    void *library = dlopen(KNOT_SONAME, RTLD_NOW | RTLD_LOCAL);
    const char *why = library ? NULL : dlerror();
    if (!library) {
        (void)snprintf(missing, sizeof missing, "%s", why ? why : KNOT_SONAME);
        return;
    }
#define KNOT_LOAD(function)                                                                        \
    knot.function = (typeof(function) *)dlsym(library, #function);                                 \
    if (!knot.function)                                                                            \
        (void)snprintf(missing, sizeof missing, "it has no %s", #function);
    KNOT_FUNCTIONS(KNOT_LOAD)
#undef KNOT_LOAD
}

static void *codec_take(void *data, size_t bytes)
{
    struct dns_codec *codec = data;
    size_t whole = (bytes + 15) & ~(size_t)15;
    if (bytes > sizeof codec->memory || whole > sizeof codec->memory - codec->used)
        return NULL; /* libknot says so: KNOT_ENOMEM */
    void *taken = codec->memory + codec->used;
    codec->used += whole;
    return taken;
}

static void codec_give(void *)
{
}

int dns_codec_new(struct dns_codec **ret, struct err *err)
{
    (void)pthread_once(&once, knot_open);
    if (missing[0])
        return err_set(err, ERR_PRECONDITION,
                       "the library of DNS messages, " KNOT_SONAME ", cannot be used (%s): install "
                       "Debian's package of that name",
                       ERR_TEXT(missing));
    struct dns_codec *codec = mem_zalloc(sizeof *codec);
    codec->knot = &knot;
    codec->mm = (knot_mm_t){ .ctx = codec, .alloc = codec_take, .free = codec_give };
    *ret = codec;
    return 0;
}

void dns_codec_free(struct dns_codec *codec)
{
    free(codec);
}
