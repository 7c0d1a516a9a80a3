/* SPDX-License-Identifier: Apache-2.0 */
/* Which container engine there is. Models want none, so that none is no fault. */
#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/doctor.h"
#include "http/fetch.h"
#include "replica/engine/engine.h"
#include "sys/volume.h"

enum { ANSWER_MS = 5'000, ANSWER_BYTES_MAX = 1 << 20 };

static int ask(struct doctor *doctor, const struct address *address, const char *path,
               struct slice *ret, struct err *err)
{
    struct fetch_request request = {
        .method = "GET",
        .url = arena_format(doctor->cli->arena, "http://engine%s", path),
        .unix_path = address->path,
        .body_fd = -1,
        .timeout_ms = ANSWER_MS,
        .answer_bytes_max = ANSWER_BYTES_MAX,
    };
    struct fetch_answer answer;
    int r = fetch(doctor->cli->arena, &request, &answer, err);

    if (r == 0 && answer.status != 200)
        r = err_set(err, ERR_INTERNAL, "it answers %d", answer.status);
    *ret = r == 0 ? answer.body : (struct slice){};
    return r;
}

static void tell(struct doctor *doctor, const struct address *address,
                 const struct engine_version *version, const struct engine_info *info)
{
    char lacks[128];
    bool whole = engine_info_whole(info, lacks, sizeof lacks);

    doctor_say(doctor, whole ? DOCTOR_OK : DOCTOR_WARN,
               "%s %s at %s, API %s, control groups v%u by %s%s%s%s", version->name,
               version->version, address->path, version->api, info->cgroup_version,
               info->cgroup_driver, info->rootless ? ", rootless" : "", whole ? "" : "; without ",
               whole ? "" : lacks);
    if (!whole)
        doctor_advise(doctor, "a container is not run without them: let the kernel have these "
                              "control groups, and the engine seccomp");
    struct err err;
    if (info->rootless)
        doctor_say(doctor, DOCTOR_OK, "no volumes: an engine without root mounts none");
    else if (volume_possible(&err) < 0)
        doctor_say(doctor, DOCTOR_OK, "no volumes: %s", err.message);
}

void doctor_engine(struct doctor *doctor)
{
    struct address address;
    struct engine_version version;
    struct engine_info info;
    struct slice text;
    struct err err;

    if (engine_find((struct slice){}, &address, &err) < 0) {
        const char *host = getenv("DOCKER_HOST");
        bool told = host && *host;
        doctor_say(doctor, told ? DOCTOR_WARN : DOCTOR_OK, "%s%s", err.message,
                   told ? "" : "; models need none");
        if (told)
            doctor_advise(doctor, "set DOCKER_HOST to unix:// and the path of its socket, or to "
                                  "nothing");
        return;
    }
    int r = ask(doctor, &address, "/version", &text, &err);
    if (r == 0)
        r = engine_version_parse(text, &version, &err);
    if (r == 0)
        r = ask(doctor, &address, "/info", &text, &err);
    if (r == 0)
        r = engine_info_parse(text, &info, &err);
    if (r == 0) {
        tell(doctor, &address, &version, &info);
        return;
    }
    doctor_say(doctor, DOCTOR_WARN, "%s: %s", address.path, err.message);
    doctor_advise(doctor, "only the engine's own user and group may ask it: run this as one of "
                          "them, or look whether the engine runs");
}
