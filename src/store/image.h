/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h -- a container image: what its configuration says, and the archive that engines load.
 *
 * OCI image-spec 1.1 (config), which Docker's own form is as well. It comes from outside:
 * bounded, and nothing of it is believed that an engine does not check again. Pure; slices lie in
 * the arena, terminated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

enum {
    IMAGE_CONFIG_BYTES_MAX = 4 << 20,
    IMAGE_LAYERS_MAX = 127, /* more no overlay of an engine takes */
    IMAGE_PORTS_MAX = 16,   /* kept; which one is meant must be told with two already */
    IMAGE_WORDS_MAX = 1024, /* of entry point, command, environment, each */
};

struct image_words {
    const struct slice *items;
    size_t count;
};

struct image_config {
    struct slice system, machine; /* "linux", "amd64": as Go names them */
    struct image_words entrypoint, command, environment;
    struct slice user, folder, stop_signal; /* or empty */
    uint16_t ports[IMAGE_PORTS_MAX];        /* TCP, as EXPOSE said, rising */
    size_t port_count;
    const struct slice *layers; /* digests of what they are unpacked, the lowest first */
    size_t layer_count;
};

/* Errors say which part is wrong. */
[[nodiscard]] int image_config_parse(struct arena *arena, struct slice text,
                                     struct image_config *ret, struct err *err);

/* Can it run on this machine? `command_told`: it need not have an entry point. */
[[nodiscard]] int image_check(const struct image_config *config, struct slice machine,
                              bool command_told, struct err *err);
const char *image_machine(void); /* ours, as Go names it */

/* Where it listens: as told (0: not), else the one port that it exposes. */
[[nodiscard]] int image_port(const struct image_config *config, uint16_t told, uint16_t *ret,
                             struct err *err);

/* ---- what an engine loads -------------------------------------------------------------------- */

struct image_blob {
    struct slice digest, media_type; /* "sha256:HEX" */
    uint64_t bytes;
};

struct image_part {    /* of a docker-archive, in order */
    struct slice text; /* or, where it is empty, */
    struct slice blob; /* all of this blob */
    uint64_t bytes;
};
struct image_parts {
    struct image_part *items;
    size_t count;
    uint64_t bytes; /* of all */
};

/* Configuration and layers by their digests, as they are, and a manifest.json that names them; the
 * image gets no name. `config` is of the first. ERR_NOT_SUPPORTED: layers that not every engine
 * can load. */
[[nodiscard]] int image_archive(struct arena *arena, const struct image_blob *config_blob,
                                const struct image_config *config, const struct image_blob *layers,
                                size_t layer_count, struct image_parts *ret, struct err *err);
