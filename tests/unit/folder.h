/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of a test's own. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDER_BYTES = 64 };

static inline void folder_make(char ret[static FOLDER_BYTES])
{
    strcpy(ret, "/tmp/perigee-test-XXXXXX");
    assert_non_null(mkdtemp(ret));
}

/* With all that is in it. 0. */
static inline int folder_remove(const char *folder)
{
    char command[FOLDER_BYTES + 16];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}
