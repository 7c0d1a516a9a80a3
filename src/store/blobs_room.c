/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many uploads there are that are not whole, in all and into one repository. Clients leave some
 * behind; those hold no place that another one wants: what nobody has gone on with for some minutes
 * gives way, the one that was left first. The time is the disk's own, by which files change.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/err.h"
#include "store/blobs_inside.h"
#include "sys/fd.h"

struct rooms {
    struct blobs *blobs;
    const char *name;    /* the one that was just made */
    struct slice owner;  /* of its name; empty: none */
    int64_t idle_ns;     /* what changed before this is idle */
    uint64_t all, owned; /* how many there are */
    bool owned_only;     /* of its owner's one is to give way */
    char oldest[256];    /* which could, locked by oldest_fd */
    int oldest_fd;
    int64_t oldest_ns;
};

static int64_t changed_ns(const struct stat *st)
{
    return st->st_mtim.tv_sec * INT64_C(1'000'000'000) + st->st_mtim.tv_nsec;
}

/* The end of "ID.session", where ids have owners. */
static struct slice owner_of(const char *name)
{
    struct slice id = slice_of(name), kind = slice_of(".session");
    if (!slice_ends(id, kind) || id.size - kind.size <= BLOB_SESSION_OWNER)
        return (struct slice){};
    return (struct slice){ id.data + id.size - kind.size - BLOB_SESSION_OWNER, BLOB_SESSION_OWNER };
}

/* One that is being written is locked, and one changed meanwhile is not idle. */
static void consider(struct rooms *rooms, const char *name)
{
    struct stat st;
    auto_close int fd =
        openat(rooms->blobs->uploads_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        changed_ns(&st) >= rooms->idle_ns ||
        (rooms->oldest_fd >= 0 && changed_ns(&st) >= rooms->oldest_ns))
        return;
    fd_close(&rooms->oldest_fd);
    rooms->oldest_fd = take_fd(fd);
    rooms->oldest_ns = changed_ns(&st);
    snprintf(rooms->oldest, sizeof rooms->oldest, "%s", name);
}

static void look(struct rooms *rooms, void (*at)(struct rooms *rooms, const char *name))
{
    int fd = openat(rooms->blobs->uploads_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close(&fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.')
            at(rooms, entry->d_name);
    closedir(dir);
}

static bool is_owned(const struct rooms *rooms, const char *name)
{
    return rooms->owner.size && slice_equal(owner_of(name), rooms->owner);
}

static void count(struct rooms *rooms, const char *name)
{
    rooms->all++;
    rooms->owned += is_owned(rooms, name);
}

static void choose(struct rooms *rooms, const char *name)
{
    if (strcmp(name, rooms->name) != 0 && (!rooms->owned_only || is_owned(rooms, name)))
        consider(rooms, name);
}

int blobs_make_room(struct blobs *blobs, const char *name, int fd, struct err *err)
{
    struct rooms rooms = { .blobs = blobs, .name = name, .owner = owner_of(name), .oldest_fd = -1 };
    struct stat st;
    if (fstat(fd, &st) < 0)
        return blobs_failed(blobs, "looking at", name, err);
    rooms.idle_ns = changed_ns(&st) - BLOB_IDLE_S * INT64_C(1'000'000'000);
    look(&rooms, count);
    rooms.owned_only = rooms.owned > blobs->limits.repository_uploads_max;
    if (!rooms.owned_only && rooms.all <= blobs->limits.uploads_max)
        return 0;
    look(&rooms, choose);
    bool made = rooms.oldest_fd >= 0 && unlinkat(blobs->uploads_fd, rooms.oldest, 0) == 0;
    fd_close(&rooms.oldest_fd);
    if (made)
        return 0;
    (void)unlinkat(blobs->uploads_fd, name, 0);
    return err_set(err, ERR_OVERLOADED,
                   "%llu uploads%s are not whole yet (%s): go on with them, or give them up; one "
                   "that nobody goes on with gives way after %d minutes",
                   (unsigned long long)((rooms.owned_only ? rooms.owned : rooms.all) - 1),
                   rooms.owned_only ? " into this repository" : "",
                   rooms.owned_only ? "repository_uploads_max" : "uploads_max", BLOB_IDLE_S / 60);
}
