/* SPDX-License-Identifier: Apache-2.0 */
/* References as a spec has them: what is taken has a host that is none of ours to escape from, and
 * a repository that is a path without tricks; of ours, of two names. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "spec/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reference reference;
    struct err err;
    if (reference_parse((struct slice){ (const char *)data, size }, &reference, &err) < 0)
        return 0;
    bool own = reference_check_own(&reference, NULL) == 0;
    if ((!own && !reference.host.size) || own != (reference.project.size >= 3) ||
        own != (reference.name.size > 0) ||
        memmem(reference.path.data, reference.path.size, "..", 2) ||
        (reference.tag.size && reference_check_tag(reference.tag, NULL) < 0) ||
        (!reference.tag.size && !reference.digest.size) || reference.path.size == 0 ||
        reference.path.size > REFERENCE_PATH_MAX ||
        (reference.host.size && (memchr(reference.host.data, '/', reference.host.size) ||
                                 memchr(reference.host.data, '@', reference.host.size))))
        abort();
    return 0;
}
