/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of docs/api.md between <!-- routes --> and <!-- /routes -->. */
#include <stdio.h>

#include "base/arena.h"
#include "base/slice.h"
#include "control/control.h"

int main(void)
{
    struct arena *arena = arena_new();
    struct slice text = control_docs(arena);
    fwrite(text.data, 1, text.size, stdout);
    arena_free(arena);
    return 0;
}
