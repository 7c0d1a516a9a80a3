/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and indexes as clients push them; the first line is their Content-Type. What is taken
 * names things by digests alone, in bounded number. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/digest.h"
#include "store/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct oci_manifest manifest;
    struct slice text = { (const char *)data, size };
    struct slice type = slice_cut(&text, '\n');
    enum digest_kind kind;
    struct err err;
    if (oci_manifest_parse(arena, text, type, &manifest, &err) == 0) {
        if (manifest.count > OCI_PARTS_MAX + 1 ||
            (manifest.subject.size && digest_check_any(manifest.subject, &kind, NULL) < 0))
            abort();
        for (size_t i = 0; i < manifest.count; i++)
            if (digest_check_any(manifest.parts[i].digest, &kind, NULL) < 0 ||
                memchr(manifest.parts[i].media_type.data, '\n', manifest.parts[i].media_type.size))
                abort();
    }
    arena_free(arena);
    return 0;
}
