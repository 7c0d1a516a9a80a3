/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/gpus.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sys/fd.h"

enum { INFORMATION_BYTES_MAX = 4096 };

/* ---- which there are ------------------------------------------------------------------------- */

static bool is_id(struct slice text)
{
    if (text.size == 0 || text.size >= GPU_ID_BYTES || !slice_starts(text, SLICE("GPU-")))
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '-'))
            return false;
    }
    return true;
}

/* "GPU UUID: \t GPU-...": until the driver has looked at it there are question marks. */
bool gpus_id_parse(struct slice text, char ret[static GPU_ID_BYTES])
{
    while (text.data && text.size) {
        struct slice line = slice_cut(&text, '\n');
        if (!slice_is(slice_trim(slice_cut(&line, ':')), "GPU UUID"))
            continue;
        line = slice_trim(line);
        if (!is_id(line))
            return false;
        (void)snprintf(ret, GPU_ID_BYTES, "%.*s", SLICE_FMT(line));
        return true;
    }
    return false;
}

static bool read_one(const char *folder, const char *name, char ret[static GPU_ID_BYTES])
{
    char path[512], text[INFORMATION_BYTES_MAX];

    if (name[0] == '.' ||
        snprintf(path, sizeof path, "%s/%s/information", folder, name) >= (int)sizeof path)
        return false;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text);
    return size > 0 && gpus_id_parse((struct slice){ text, (size_t)size }, ret);
}

void gpus_read(struct gpus *ret, const char *folder)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, NULL, alphasort);

    *ret = (struct gpus){};
    for (int i = 0; i < count; i++) {
        if (ret->count < GPUS_MAX)
            ret->count += read_one(folder, names[i]->d_name, ret->ids[ret->count]);
        free(names[i]);
    }
    free(names);
}

/* ---- who gets which -------------------------------------------------------------------------- */

static unsigned holders(const struct gpus *gpus, size_t at, const struct gpus_held *held,
                        size_t held_count)
{
    unsigned count = 0;

    for (size_t i = 0; i < held_count; i++) {
        struct slice rest = held[i].ids;
        count += rest.size == 0 && at < held[i].count;
        while (rest.data && rest.size)
            count += slice_is(slice_cut(&rest, ','), gpus->ids[at]);
    }
    return count;
}

const char *gpus_choose(const struct gpus *gpus, const struct gpus_held *held, size_t held_count,
                        uint32_t wanted, uint64_t turn, char buffer[static GPUS_TEXT_BYTES])
{
    unsigned busy[GPUS_MAX];
    bool taken[GPUS_MAX] = {};
    size_t used = 0;

    buffer[0] = '\0';
    if (wanted > gpus->count)
        return buffer;
    for (size_t i = 0; i < gpus->count; i++)
        busy[i] = holders(gpus, i, held, held_count);
    for (uint32_t n = 0; n < wanted; n++) {
        size_t best = GPUS_MAX;
        for (size_t k = 0; k < gpus->count; k++) {
            size_t i = (turn + k) % gpus->count;
            if (!taken[i] && (best == GPUS_MAX || busy[i] < busy[best]))
                best = i;
        }
        taken[best] = true;
        int more =
            snprintf(buffer + used, GPUS_TEXT_BYTES - used, "%s%s", n ? "," : "", gpus->ids[best]);
        used += (size_t)more;
        if (used >= GPUS_TEXT_BYTES) {
            buffer[0] = '\0';
            return buffer;
        }
    }
    return buffer;
}
