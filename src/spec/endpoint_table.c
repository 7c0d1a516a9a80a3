/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/endpoint.h"

/*
 * Every key of the spec, in the order of printing. A key that nothing acts upon yet stands here as
 * well, so that it is refused by its name and not called unknown: its row becomes live together
 * with the code that acts upon it. Groups ("scale") are not rows; "flavor" is one for its short
 * form, a name.
 */

#define AT(member) offsetof(struct endpoint_spec, member)
#define LIVE(key, type, part, member, min, max, fallback, choices, help)                           \
    {                                                                                              \
        key, OPTION_##type, OPTION_##part, OPTION_LIVE, AT(member), min, max, fallback, choices,   \
            help                                                                                   \
    }
#define NOT_YET(key, part, help)                                                                   \
    {                                                                                              \
        key, OPTION_ANY, OPTION_##part, OPTION_NOT_YET, 0, 0, 0, NULL, NULL, help                  \
    }
#define RESERVED(key, help)                                                                        \
    {                                                                                              \
        key, OPTION_ANY, OPTION_GOVERNED, OPTION_RESERVED, 0, 0, 0, NULL, NULL, help               \
    }

#define PROBE(word, member, when, seldom)                                                          \
    LIVE("probes." word ".http.path", TEXT, WHAT_RUNS, probes.member.http_path, 1, 1024, NULL,     \
         NULL, when ": GET of this path is answered 200 to 399."),                                 \
        LIVE("probes." word ".http.port", UINT, WHAT_RUNS, probes.member.http_port, 1, 65'535,     \
             NULL, NULL, "At this port. Absent: where requests go."),                              \
        LIVE("probes." word ".tcp.port", UINT, WHAT_RUNS, probes.member.tcp_port, 1, 65'535, NULL, \
             NULL,                                                                                 \
             when ": it accepts a connection here. Without `http`, `tcp` and `exec`: where "       \
                  "requests go."),                                                                 \
        LIVE("probes." word ".exec.command", WORDS, WHAT_RUNS, probes.member.command, 1, 64, NULL, \
             NULL, when ": this program ends with status 0 in the container. Costs some 90 ms."),  \
        LIVE("probes." word ".period", TIME, WHAT_RUNS, probes.member.period_ns, 10 * MILLISECOND, \
             DAY, NULL, NULL, "How often; with `exec` 5s at least. Absent: 5s."),                  \
        LIVE("probes." word ".timeout", TIME, WHAT_RUNS, probes.member.timeout_ns, MILLISECOND,    \
             300'000 * MILLISECOND, NULL, NULL, "How long an answer may take. Absent: 2s."),       \
        LIVE("probes." word ".failures", UINT, WHAT_RUNS, probes.member.failures, 1, 1000, NULL,   \
             NULL, seldom),                                                                        \
        NOT_YET("probes." word ".grpc", WHAT_RUNS, "gRPC's health check."),                        \
        NOT_YET("probes." word ".infer", WHAT_RUNS, "An inference.")

#define MILLISECOND UINT64_C(1'000'000)
#define DAY UINT64_C(86'400'000'000'000)
#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* clang-format off */
const struct option endpoint_options[] = {
    LIVE("version", UINT, IDENTITY, version, 1, ENDPOINT_SPEC_VERSION, "1", NULL,
         "Of this form. A higher one is refused by number."),
    LIVE("kind", CHOICE, IDENTITY, kind, 0, 0, "endpoint", "endpoint",
         "What the document describes."),
    LIVE("name", NAME, IDENTITY, name, 3, 40, NULL, NULL,
         "Unique in its project; small letters, digits and single hyphens, beginning with a letter."),
    LIVE("project", PROJECT, IDENTITY, project, 3, 20, "default", NULL,
         "Made by its first use."),
    LIVE("labels", LABELS, GOVERNED, labels, 0, 64, NULL, NULL,
         "Selects in lists (`-l team=vision`). Keys of up to 63 characters, values of up to 256 bytes."),

    LIVE("model", TEXT, WHAT_RUNS, model, 1, 4096, NULL, NULL,
         "A file or folder, which the CLI uploads; `oci://PROJECT/NAME:TAG` of the registry, or of another one with its host, looked up "
         "when it is deployed; or `sha256:HEX` of one uploaded before."),
    LIVE("source", TEXT, GOVERNED, source, 1, 4096, NULL, NULL,
         "Where the model or image came from, as it was written; kept for people, the CLI sets it."),
    LIVE("image", TEXT, WHAT_RUNS, image, 1, 4096, NULL, NULL,
         "In place of a model: a container image. `PROJECT/NAME:TAG` of the registry, or `HOST/PATH:TAG` of another one, looked up when it is deployed; a file (`docker save`, or an OCI layout in a tar) or a folder (an OCI layout) whose path begins with `.` or `/`, which the CLI uploads; or `sha256:HEX` of a manifest pushed before."),
    LIVE("command", WORDS, WHAT_RUNS, container.command, 1, 64, NULL, NULL,
         "Of an image: the program and its arguments, instead of its entry point. Absent: as the image says."),
    LIVE("port", UINT, WHAT_RUNS, container.port, 1, 65'535, NULL, NULL,
         "Of an image: where it listens, which it is told as `$PORT`. Absent: the one port that it exposes."),
    LIVE("user", TEXT, WHAT_RUNS, container.user, 1, 64, NULL, NULL,
         "Of an image: as whom it runs, `USER` or `USER:GROUP`, names or numbers. Absent: as the image says."),
    LIVE("read_only", BOOL, WHAT_RUNS, container.read_only, 0, 1, "true", NULL,
         "Of an image: nothing but /tmp can be written, which is in memory."),
    LIVE("shm", BYTES, WHAT_RUNS, container.shm_bytes, 64 * KIB, 1024 * GIB, "64MiB", NULL,
         "Of an image: the size of /dev/shm, a part of flavor.memory."),
    LIVE("pids", UINT, WHAT_RUNS, container.pids, 1, 4'194'304, "512", NULL,
         "Of an image: processes and threads at most."),
    LIVE("egress", EGRESS, WHAT_RUNS, container.egress, 0, 64, NULL, NULL,
         "Of an image: whom it may call. `[]`: nobody; `[any]`: anybody. A list of destinations is not acted upon yet."),
    LIVE("volumes", VOLUMES, WHAT_RUNS, container.volumes, 16 * MIB, 1024 * GIB, NULL, NULL,
         "Of an image: folders that last, `{path: /cache, size: 1GiB}` each, eight at most; see below."),
    LIVE("upstream", TEXT, WHAT_RUNS, upstream, 1, 512, NULL, NULL,
         "In place of a model: something that already runs, `http://host:port`. It is probed, not started and not scaled (docs/upstream.md)."),
    LIVE("runtime", NAME, WHAT_RUNS, runtime, 3, 40, NULL, NULL,
         "What runs the model; by default it is seen from the file."),
    LIVE("protocol", CHOICE, WHAT_RUNS, protocol, 0, 0, "oip", "oip|http;openai",
         "What the endpoint speaks. Of an image or an upstream it is `http` unless told: everything under its host is theirs; with `oip` it is reachable by its model name as well."),
    NOT_YET("flavor", WHAT_RUNS, "A flavor by its name."),
    LIVE("flavor.cpu", CPU, WHAT_RUNS, flavor.cpu_milli, 1, 1'024'000, "1", NULL,
         "Cores of a replica: a weight and a ceiling, not a reservation; rounded up, the threads a model runs with."),
    LIVE("flavor.memory", BYTES, WHAT_RUNS, flavor.memory_bytes, 16 * MIB, 4096 * GIB, "512MiB", NULL,
         "The most memory a replica may take."),
    LIVE("flavor.accelerator", TEXT, WHAT_RUNS, flavor.accelerator, 1, 64, "none", NULL,
         "Of an image: a kind of GPU, and how many: `none`, `nvidia` (any of them), `nvidia-l40s:2`. It is placed where such a one stands (`pops create --flavor`); with Docker alone."),
    NOT_YET("flavor.accelerator_memory", WHAT_RUNS, "Memory on the accelerator."),
    NOT_YET("flavor.fallback", WHAT_RUNS, "What to run on where there is no accelerator."),
    LIVE("batch.max", UINT, WHAT_RUNS, batch.max, 1, 1024, NULL, NULL,
         "Rows that run together at most: what waits while the model runs is run as one, where the first dimension of all inputs and outputs is open. Each answer is as if it had run alone, if the model keeps rows apart. Absent: each request runs alone."),
    LIVE("batch.delay", TIME, WHAT_RUNS, batch.delay_ns, 0, 1'000 * MILLISECOND, NULL, NULL,
         "How long a request waits for others to run with, while there is room. Absent: an idle replica runs it at once."),
    LIVE("env", ENV, WHAT_RUNS, container.env, 0, 256, NULL, NULL,
         "Of an image: variables of its environment, strings, 64 KiB in all; or `{secret: NAME}`, 16 of them at most: the value of one that was told with `perigee secrets set NAME`."),
    PROBE("startup", startup, "Of an image, whether it is ready for the first time", "So many in a row, and it is ended. Absent: 60."),
    PROBE("readiness", readiness, "Of an image or an upstream, whether requests go to it", "So many in a row, and it is not well. Absent: 3."),
    PROBE("liveness", liveness, "Of an image, whether it is to be ended and another started", "So many in a row, and it is ended. Absent: 3."),
    LIVE("warmup", CHOICE, WHAT_RUNS, warmup, 0, 0, "zeros", "zeros;*",
         "What a replica runs once before it is ready, where its inputs allow."),

    LIVE("regions", REGIONS, GOVERNED, regions, 1, 64, NULL, NULL,
         "Where replicas may be. Capitals: countries (ISO 3166-1) and sets of them (EU, EEA, the operator's); small: PoPs and region labels (`us` matches us and us-east). Absent: everywhere."),
    LIVE("residency", RESIDENCY, GOVERNED, residency, 1, 64, NULL, NULL,
         "Where requests may be processed, pass, be logged and cached; see below. Absent: anywhere."),
    LIVE("scale.min", UINT, GOVERNED, scale.min, 0, 1000, "0", NULL,
         "Replicas at least, over the fleet; each PoP that placement chose then has one at least. 0: none where nobody asks."),
    LIVE("scale.max", UINT, GOVERNED, scale.max, 1, 1000, "8", NULL,
         "Replicas at most, over the fleet."),
    LIVE("scale.per_pop.min", UINT, GOVERNED, scale.per_pop.min, 0, 1000, "0", NULL,
         "Replicas at least at each PoP that placement chose; as many as its limits leave room for."),
    LIVE("scale.per_pop.max", UINT, GOVERNED, scale.per_pop.max, 1, 1000, NULL, NULL,
         "Replicas at most at each PoP. Absent: its cores, and its share of max."),
    LIVE("scale.concurrency", UINT, GOVERNED, scale.concurrency, 1, SPEC_UPSTREAM_CONCURRENCY_MAX, NULL, NULL,
         "Requests one replica may hold, 128 at most; more wait in the queue. Absent: 4, or twice batch.max, the larger; at least 8 while runs take under 20 us. Of an upstream: requests at each of its addresses; absent: 1024."),
    LIVE("scale.rps", RATE, GOVERNED, scale.rps_micro, 1'000, 1'000'000'000'000, NULL, NULL,
         "Requests a second that one replica should have: scales by that instead of by requests at a time."),
    LIVE("scale.cpu", SHARE, GOVERNED, scale.cpu_ppm, 10'000, 1'000'000, NULL, NULL,
         "Share of its flavor's cores that one replica should have in use: scales by that instead."),
    LIVE("scale.down_delay", TIME, GOVERNED, scale.down_delay_ns, 0, DAY, "0s", NULL,
         "Fewer replicas only once fewer were enough for so long; 5 s at least."),
    LIVE("scale.idle", TIME, GOVERNED, scale.idle_ns, 0, DAY, "120s", NULL,
         "Without a request for so long: down to min, to none where that is 0. The next request waits until a replica is ready, for queue.cold at most."),
    LIVE("scale.schedule", SCHEDULE, GOVERNED, scale.schedule, 0, SPEC_WINDOWS_MAX, NULL, NULL,
         "More replicas at least at times of the day; see below."),
    LIVE("queue.depth", UINT, GOVERNED, queue.depth, 0, 65'536, "256", NULL,
         "Requests that may wait, per PoP; one more is answered 503 with Retry-After, or, if it is "
         "interactive, the newest batch request in its place."),
    LIVE("queue.timeout", TIME, GOVERNED, queue.timeout_ns, MILLISECOND, DAY, "30s", NULL,
         "The longest wait for a replica while one is ready; then 504."),
    LIVE("queue.cold", TIME, GOVERNED, queue.cold_ns, MILLISECOND, DAY, "5m", NULL,
         "The longest wait while none is ready; then 504."),
    LIVE("timeout", TIME, GOVERNED, timeout_ns, MILLISECOND, DAY, "60s", NULL,
         "One request, from the moment a replica takes it to its last byte; then 504."),
    LIVE("traffic.canary", SHARE, GOVERNED, traffic.canary_ppm, 1'000, 1'000'000, NULL, NULL,
         "Share of the requests that a new revision gets once it is ready; the one before keeps the rest, until this key is taken away, or is 100%. Absent: a new revision takes all."),
    LIVE("traffic.split", SPLIT, GOVERNED, traffic.split, 0, SPEC_SHARES_MAX, NULL, NULL,
         "Revisions with their weights, instead of canary; see below."),
    LIVE("traffic.sticky", CHOICE, GOVERNED, traffic.sticky, 0, 0, NULL, "none|address;key",
         "`address`: a client's address (of IPv6 its first 64 bits) decides which of the revisions serves it, the same each time. Absent: none."),
    NOT_YET("traffic.shadow", GOVERNED, "A revision that gets copies of requests, and whose answers nobody sees."),
    LIVE("limits.body", BYTES, GOVERNED, limits.body_bytes, 1, 16 * GIB, "64MiB", NULL,
         "The largest request body; a larger one is answered 413."),
    NOT_YET("limits.rate", GOVERNED, "Requests per second and key: `100/s`."),
    NOT_YET("limits.burst", GOVERNED, "How many at once beyond the rate."),
    NOT_YET("limits.concurrent", GOVERNED, "Requests of one key at a time."),
    LIVE("access.mode", CHOICE, GOVERNED, access.mode, 0, 0, "open", "open;keys|jwt|mtls",
         "Who may infer. `open` is the default on loopback."),
    LIVE("cors.origins", ORIGINS, GOVERNED, cors.origins, 0, 64, NULL, NULL,
         "Origins whose web pages may infer (`https://example.com`)."),
    LIVE("spread.pops", UINT, GOVERNED, spread.pops, 1, 100, NULL, NULL,
         "Over how many PoPs at least, where so many may run it. Absent: one."),
    NOT_YET("budget", GOVERNED, "What a month may cost."),
    NOT_YET("logging", GOVERNED, "How long request logs are kept."),
    LIVE("domains", HOSTS, GOVERNED, domains, 0, 64, NULL, NULL,
         "Further hosts of the endpoint."),
    LIVE("aliases", NAMES, GOVERNED, aliases, 0, 64, NULL, NULL,
         "Further model names; letters, digits and `-` `_` `.` `/`."),

    RESERVED("goal", "Reserved for later."),
    RESERVED("steps", "Reserved for later."),
    RESERVED("rollout", "Reserved for later."),
    RESERVED("slo", "Reserved for later."),
};
/* clang-format on */

const size_t endpoint_option_count = sizeof endpoint_options / sizeof *endpoint_options;
