/* SPDX-License-Identifier: Apache-2.0 */
/* References as a spec has them: what is taken has a host that is none of ours to escape from, and
 * a repository of two names. */
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
    if (reference_check_name(reference.name, NULL) < 0 || reference.project.size < 3 ||
        (reference.tag.size && reference_check_tag(reference.tag, NULL) < 0) ||
        (!reference.tag.size && !reference.digest.size) ||
        memchr(reference.name.data, '/', reference.name.size) ||
        (reference.host.size && (memchr(reference.host.data, '/', reference.host.size) ||
                                 memchr(reference.host.data, '@', reference.host.size))))
        abort();
    return 0;
}
