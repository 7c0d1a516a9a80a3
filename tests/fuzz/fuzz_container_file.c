/* SPDX-License-Identifier: Apache-2.0 */
/* An image in a file: what is found lies within it, whatever it says. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/image_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct image_file file;
    struct err err;
    int fd = memfd_create("image", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    if (image_file_read(arena, fd, SLICE("amd64"), &file, &err) == 0) {
        if (file.layer_count != file.config.layer_count || file.layer_count > IMAGE_LAYERS_MAX)
            abort();
        for (size_t i = 0; i < file.layer_count; i++)
            if (file.layers[i].offset + file.layers[i].blob.bytes > size)
                abort();
    }
    close(fd);
    arena_free(arena);
    return 0;
}
