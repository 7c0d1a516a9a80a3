/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volumes_inside.h -- what the files of volumes share among themselves: a volume's file, and its
 * device. Loop thread only, but for volume_file_of().
 *
 * A file's name says whose it is: the endpoint's uid, the path and the size; so all revisions that
 * want the same share it, and it stays as long as one is known.
 */
#pragma once

#include <stdint.h>

#include "base/list.h"
#include "pop/agent.h"
#include "sys/volume.h"

struct err;

enum {
    VOLUME_ASK_MS = 30'000, /* of the engine */
    VOLUME_FILE_BYTES = 64,
    VOLUME_NAME_BYTES = 96,
    VOLUME_PATH_BYTES = MESSAGE_PATH_BYTES + 96
};

struct agent_volume { /* one with a device */
    struct list link; /* of agent->containers.volumes */
    char file[VOLUME_FILE_BYTES];
    char name[VOLUME_NAME_BYTES]; /* at the engine */
    struct volume_device device;
};

/* Both return the buffer. */
const char *volume_file_of(uint64_t endpoint, const struct spec_volume *volume,
                           char ret[static VOLUME_FILE_BYTES]);
const char *volume_path_of(const struct agent *agent, const char *file,
                           char ret[static VOLUME_PATH_BYTES]); /* file "": their folder */
uint64_t volume_endpoint(const char *file);                     /* whose it is; 0: nobody's */

struct agent_volume *volume_find(const struct agent *agent, const char *file); /* NULL: none */
/* Its device, found or made; the file is there. NULL: err says why not. */
struct agent_volume *volume_attached(struct agent *agent, const char *file, struct err *err);
void volume_free(struct agent_volume *volume); /* the device goes unless it is in use */
