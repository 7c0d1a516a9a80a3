/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies where, as the kernel says it (mountinfo). A line is ID PARENT DEVICE ROOT PATH OPTIONS,
 * words that may be there, "-", KIND SOURCE SUPER-OPTIONS. Of one path the last lies on top.
 */
#include <string.h>

#include "base/err.h"
#include "replica/engine/walls.h"

enum { ROUNDED_BYTES = 64 << 10 }; /* what is bounded in bytes the kernel counts in pages */

struct mount {
    struct slice device, root, options, kind, super;
};

static bool line_read(struct slice line, struct slice path, struct mount *ret)
{
    struct slice words[6], rest = line;

    for (size_t i = 0; i < 6; i++)
        words[i] = slice_cut(&rest, ' ');
    if (!slice_equal(words[4], path))
        return false;
    *ret = (struct mount){ .device = words[2], .root = words[3], .options = words[5] };
    while (rest.size && !slice_is(slice_cut(&rest, ' '), "-"))
        ;
    ret->kind = slice_cut(&rest, ' ');
    (void)slice_cut(&rest, ' ');
    ret->super = rest;
    return true;
}

static bool find(struct slice mounts, struct slice path, struct mount *ret)
{
    bool found = false;

    while (mounts.size)
        found |= line_read(slice_cut(&mounts, '\n'), path, ret);
    return found;
}

static bool has(struct slice options, const char *word)
{
    while (options.size)
        if (slice_is(slice_cut(&options, ','), word))
            return true;
    return false;
}

/* "size=65536k" */
static bool bounded(const struct mount *mount, uint64_t most)
{
    struct slice options = mount->super;
    uint64_t kib;

    while (options.size) {
        struct slice option = slice_cut(&options, ','), name = slice_cut(&option, '=');
        if (slice_is(name, "size") && option.size && option.data[option.size - 1] == 'k' &&
            slice_u64((struct slice){ option.data, option.size - 1 }, &kib))
            return kib <= (most + ROUNDED_BYTES) / 1024;
    }
    return false;
}

static bool is_memory(struct slice mounts, struct slice path, uint64_t most)
{
    struct mount mount;

    return find(mounts, path, &mount) && slice_is(mount.kind, "tmpfs") &&
           has(mount.options, "nosuid") && has(mount.options, "nodev") && bounded(&mount, most);
}

static bool is_volume(struct slice mounts, const struct engine_volume *volume)
{
    struct mount mount;

    return find(mounts, volume->path, &mount) && slice_equal(mount.device, volume->device) &&
           slice_is(mount.root, "/") && has(mount.options, "nosuid") && has(mount.options, "nodev");
}

int engine_walls_mounts(const struct engine_container *want, struct slice mounts, struct err *err)
{
    struct mount root;
    const char *missing =
        !find(mounts, SLICE("/"), &root)                         ? "a root of its own"
        : want->read_only && !has(root.options, "ro")            ? "its root can be written"
        : !is_memory(mounts, SLICE("/tmp"), want->tmp_bytes)     ? "a /tmp of its own, bounded"
        : !is_memory(mounts, SLICE("/dev/shm"), want->shm_bytes) ? "a bound on its shared memory"
                                                                 : NULL;
    if (missing)
        return err_set(err, ERR_PRECONDITION, ENGINE_WALL_MISSING "%s, says the kernel", missing);
    for (size_t i = 0; i < want->volume_count; i++)
        if (!is_volume(mounts, &want->volumes[i]))
            return err_set(err, ERR_PRECONDITION,
                           ENGINE_WALL_MISSING
                           "its volume '%s' is not what was made for it, says the kernel",
                           ERR_SLICE(want->volumes[i].path));
    return 0;
}
