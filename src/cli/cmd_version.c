/* SPDX-License-Identifier: Apache-2.0 */
#include <png.h>
#include <stdio.h>
#include <jpeglib.h> /* after stdio.h */
#include <string.h>
#include <zlib.h>

#include <perigee/worker.h>

#include "base/arena.h"
#include "base/version.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "http/fetch.h"
#include "spec/endpoint.h"
#include "store/store.h"
#include "sys/env_linux.h"
#include "sys/home.h"

#define TEXT_OF(number) TEXT_OF_INNER(number)
#define TEXT_OF_INNER(number) #number
#ifdef LIBJPEG_TURBO_VERSION
#define JPEG_TEXT "libjpeg-turbo " TEXT_OF(LIBJPEG_TURBO_VERSION)
#else
#define JPEG_TEXT "libjpeg " TEXT_OF(JPEG_LIB_VERSION)
#endif

/* "onnx" for each perigee-worker-onnx that is there. */
static size_t workers_list(struct cli *cli, struct slice **ret)
{
    char libdir[HOME_PATH_BYTES];
    struct slice *names;
    size_t count = 0, workers = 0;
    if (home_libdir(libdir, NULL) < 0 || disk_list(libdir, cli->arena, &names, &count, NULL) < 0)
        return 0;
    *ret = names;
    for (size_t i = 0; i < count; i++)
        if (slice_starts(names[i], SLICE("perigee-worker-")))
            (*ret)[workers++] = (struct slice){ names[i].data + 15, names[i].size - 15 };
    return workers;
}

static void libraries(struct cli *cli, const char *ret[static 7])
{
    uint32_t yyjson = yyjson_version();
    const char *curl = fetch_library();
    size_t i = 0;
    ret[i++] = store_library();
    ret[i++] =
        arena_format(cli->arena, "yyjson %u.%u.%u", yyjson >> 16, yyjson >> 8 & 255, yyjson & 255);
    /* With all that it is made of it is a line of its own length. */
    ret[i++] = curl ? arena_format(cli->arena, "%.*s", (int)strcspn(curl, " "), curl)
                    : "libcurl: not here";
    ret[i++] = arena_format(cli->arena, "zlib %s", zlibVersion());
    ret[i++] = arena_format(cli->arena, "libpng %s", png_get_libpng_ver(NULL));
    ret[i++] = JPEG_TEXT;
    ret[i] = NULL;
}

static int version_json(struct cli *cli, const char *const *names, const struct slice *workers,
                        size_t worker_count)
{
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "version", PERIGEE_VERSION);
    json_member_text(&w, "api", "v1");
    json_member_u64(&w, "schema", store_schema());
    json_member_u64(&w, "spec", ENDPOINT_SPEC_VERSION);
    json_member_u64(&w, "worker_contract", PERIGEE_WORKER_VERSION);
    json_key(&w, "workers");
    json_array_begin(&w);
    for (size_t i = 0; i < worker_count; i++)
        json_string(&w, workers[i]);
    json_array_end(&w);
    json_key(&w, "libraries");
    json_array_begin(&w);
    for (; *names; names++)
        json_text(&w, *names);
    json_array_end(&w);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}

int cmd_version(struct cli *cli, struct err *err)
{
    const char *names[7];
    struct slice *workers = NULL;
    size_t worker_count = workers_list(cli, &workers);
    (void)err;
    libraries(cli, names);
    if (cli->json)
        return version_json(cli, names, workers, worker_count);
    printf("Perigee %s\n", PERIGEE_VERSION);
    printf("database schema %u, spec version %d, API v1, worker contract %u\n", store_schema(),
           ENDPOINT_SPEC_VERSION, PERIGEE_WORKER_VERSION);
    printf("workers:");
    for (size_t i = 0; i < worker_count; i++) {
        putchar(' ');
        cli_print_text(stdout, workers[i]);
    }
    printf("%s\nlibraries:\n", worker_count ? "" : " none");
    for (size_t i = 0; names[i]; i++)
        printf("  %s\n", names[i]);
    return 0;
}
