/* SPDX-License-Identifier: Apache-2.0 */
/* A backup's archive, from a memfd: names are plain, sizes hold, nothing is read behind the end. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "store/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char buffer[4096];
    struct tar_entry entry;
    struct err err;
    int fd = memfd_create("tar", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) < 0)
        abort();
    struct tar_reader reader = { .fd = fd };
    while (tar_read_next(&reader, &entry, &err) > 0) {
        if (entry.name[0] == '/' || entry.name[0] == '\0')
            abort();
        (void)!tar_read(&reader, buffer, sizeof buffer, &err);
    }
    close(fd);
    return 0;
}
