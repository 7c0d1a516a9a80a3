/* SPDX-License-Identifier: Apache-2.0 */
/* docs-gen spec|errors: writes docs/spec.md or docs/errors.md from the tables to standard output.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "spec/endpoint.h"

static const char *grpc_name(int code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    return code >= 0 && (size_t)code < sizeof names / sizeof *names ? names[code] : "?";
}

static void print_errors(void)
{
    printf(
        "<!-- Made from src/base/err.h by build/src/spec/docs-gen errors. -->\n"
        "# Errors\n\n"
        "Every error answer carries its name in `Perigee-Error` and says in a sentence what was\n"
        "wrong. Bodies: control `application/problem+json` (type `urn:perigee:error:NAME`),\n"
        "Open Inference Protocol `{\"error\": \"...\"}`. HTTP's own refusals carry the nearest\n"
        "name: 411, 415, 416, 417, 426, 505 bad_input; 414, 431 too_large; 408 deadline.\n\n"
        "| name | HTTP | gRPC | meaning |\n| --- | --- | --- | --- |\n");
    for (int i = 0; i < ERR_COUNT; i++) {
        const struct err_info *info = err_info(-1 - i);
        printf("| `%s` | %d | %s | %s |\n", info->name, info->http, grpc_name(info->grpc),
               info->text);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "spec") == 0) {
        struct arena *arena = arena_new();
        fputs(endpoint_spec_docs(arena).data, stdout);
        arena_free(arena);
    } else if (argc == 2 && strcmp(argv[1], "errors") == 0) {
        print_errors();
    } else {
        fprintf(stderr, "usage: docs-gen spec|errors\n");
        return 2;
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
