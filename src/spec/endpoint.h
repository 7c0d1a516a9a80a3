/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint.h -- an endpoint's spec (docs/spec.md): read, checked, compared, printed.
 *
 * One table of options (endpoint_options) gives the parser, the range checks, the diff, the
 * printers and docs/spec.md. A spec is plain data: everything it points to lies in the arena it was
 * read into. Strings are slices, terminated as well. Pure; any thread.
 *
 * Two parts: *what runs* (any change is a new revision) and *how it is governed* (at once).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <yyjson.h>

#include "base/slice.h"
#include "spec/cron.h"

struct arena;
struct err;

#define ENDPOINT_SPEC_VERSION 1

struct spec_strings {
    const struct slice *items;
    size_t count;
};

struct spec_pair {
    struct slice key, value;
};

struct spec_pairs {
    const struct spec_pair *items; /* sorted by key */
    size_t count;
};

enum {
    SPEC_SECRETS_MAX = 16
};                     /* in an environment: of 64 KiB each they fit into what execve()
                                 * takes */
struct spec_variable { /* of an environment */
    struct slice name, value;
    bool secret; /* the value is the name of one */
};

struct spec_variables {
    const struct spec_variable *items; /* sorted by name */
    size_t count;
};

/* Countries and sets of them by name (capitals; geo/sets.h says which there are), or a word. */
enum spec_places_kind {
    SPEC_PLACES_ABSENT, /* as process_in */
    SPEC_PLACES_LIST,
    SPEC_PLACES_ANY,
    SPEC_PLACES_SAME_COUNTRY, /* as the client's; never of clients */
};

struct spec_places {
    enum spec_places_kind kind;
    struct spec_strings names; /* SPEC_PLACES_LIST: at least one */
};

/* How to see that something is well: one of the three, or whether it accepts a connection. */
struct spec_probe {
    struct slice http_path;
    struct spec_strings command;              /* run in the container: status 0 */
    uint64_t http_port, tcp_port;             /* 0: where requests go */
    uint64_t period_ns, timeout_ns, failures; /* 0: absent, see spec_probe_fill() */
};

/* Folders of a container that last, and are bounded. */
enum { SPEC_VOLUMES_MAX = 8, SPEC_VOLUME_PATH_MAX = 255 };
struct spec_volume {
    struct slice path; /* absolute, without a '/' at its end */
    uint64_t bytes;
};

struct spec_volumes {
    const struct spec_volume *items; /* no path within another */
    size_t count;
};

/* How an image runs. Of an endpoint without one all is at its default. */
struct spec_container {
    struct spec_strings command; /* instead of its entry point; none: as it says */
    uint64_t port;               /* 0: the one that it exposes */
    struct slice user;           /* "USER" or "USER:GROUP", names or numbers; empty: as it says */
    uint64_t read_only;          /* its files, but /tmp: 0 or 1 */
    uint64_t shm_bytes, pids;
    struct spec_strings egress; /* none: no way out; else "any" */
    struct spec_variables env;  /* names as a shell takes them */
    struct spec_volumes volumes;
};

struct spec_residency_rule {
    struct spec_places clients, process_in; /* never absent */
    struct spec_places transit, logs, cache;
};

struct spec_residency {
    const struct spec_residency_rule *rules; /* none: the key is absent */
    size_t count;
    struct slice unknown_client; /* a country's code; empty: refuse */
};

/* At least `min` replicas for a while whenever cron fires in its zone. */
enum { SPEC_WINDOWS_MAX = 16 };
struct spec_window {
    struct slice text; /* of the cron, as it was written */
    struct cron cron;  /* the same, read */
    struct slice zone; /* "Europe/Paris"; whether there is such a zone is control's to say */
    uint64_t for_ns;   /* whole seconds */
    uint64_t min;
};

struct spec_windows {
    const struct spec_window *items;
    size_t count;
};

/* Whom requests go to, weighed. */
#define SPEC_LATEST UINT64_C(0) /* the newest revision that there is */
enum { SPEC_SHARES_MAX = 4 };
struct spec_share {
    uint64_t revision; /* a number, or SPEC_LATEST */
    uint64_t weight;
};

struct spec_split {
    const struct spec_share *items;
    size_t count;
};

/* Enough to be exact: sizes in bytes, times in nanoseconds, cpu in thousandths. */
struct endpoint_spec {
    uint64_t version;
    struct slice kind; /* "endpoint" */
    struct slice name;
    struct slice project;
    struct spec_pairs labels;

    /* What runs. */
    struct slice model;  /* path as written (CLI) or "sha256:HEX" (stored) */
    struct slice source; /* where it came from, as the user wrote it; may be empty */
    struct slice
        image; /* in place of a model: PROJECT/NAME:TAG, path (CLI), "sha256:HEX" (stored) */
    struct slice upstream; /* "http://HOST:PORT", in place of a model */
    struct slice runtime;  /* empty: from the file */
    struct slice protocol; /* "oip", "http" */
    struct {
        uint64_t cpu_milli;
        uint64_t memory_bytes;
        struct slice accelerator; /* "none" */
    } flavor;
    struct {
        uint64_t max;      /* rows that run together at most; 0: absent, each request alone */
        uint64_t delay_ns; /* 0: absent */
    } batch;
    struct slice warmup; /* "zeros" */
    struct spec_container container;
    struct {
        struct spec_probe startup, readiness, liveness;
    } probes;

    /* How it is governed. */
    struct spec_strings regions; /* capitals: countries and sets; small: PoPs and region labels */
    struct spec_residency residency;
    struct {
        uint64_t min, max; /* over the fleet */
        struct {
            uint64_t min, max; /* max 0: absent, no bound but the PoP's own */
        } per_pop;
        uint64_t concurrency; /* 0: absent, see spec_concurrency() */
        uint64_t rps_micro;   /* a replica's requests in 1,000,000 s; 0: absent */
        uint64_t cpu_ppm;     /* of its cores; 0: absent */
        uint64_t down_delay_ns, idle_ns;
        struct spec_windows schedule;
    } scale;
    struct {
        uint64_t depth;
        uint64_t timeout_ns, cold_ns;
    } queue;
    uint64_t timeout_ns;
    struct {
        uint64_t canary_ppm; /* of the newest revision; 0: absent, it takes all */
        struct spec_split split;
        struct slice sticky; /* "none" or "address" */
    } traffic;
    struct {
        uint64_t body_bytes;
    } limits;
    struct {
        struct slice mode; /* "open" */
    } access;
    struct {
        struct spec_strings origins;
    } cors;
    struct {
        uint64_t pops; /* 0: absent, one */
    } spread;
    struct spec_strings domains;
    struct spec_strings aliases;

    struct slice unknown; /* SPEC_KEEP_UNKNOWN: what was not known, as a JSON object; else empty */
};

/* --- the table ----------------------------------------------------------------------------- */

enum option_type {
    OPTION_UINT,   /* integer */
    OPTION_BOOL,   /* true or false */
    OPTION_BYTES,  /* 64MiB */
    OPTION_TIME,   /* 30s */
    OPTION_CPU,    /* 0.5 or 500m */
    OPTION_RATE,   /* 50/s */
    OPTION_SHARE,  /* 70% */
    OPTION_TEXT,   /* any string of up to `max` bytes */
    OPTION_CHOICE, /* one of `choices` */
    OPTION_NAME,   /* as an endpoint's */
    OPTION_PROJECT,
    OPTION_NAMES,   /* list of model names */
    OPTION_HOSTS,   /* list of host names */
    OPTION_ORIGINS, /* list of scheme://host[:port] */
    OPTION_REGIONS, /* list of countries, sets, PoPs and region labels */
    OPTION_WORDS,   /* list of strings: a program and its arguments */
    OPTION_EGRESS,  /* [] or [any] */
    OPTION_LABELS,  /* map of strings */
    OPTION_ENV,     /* the same, by names of variables (variables.h) */
    OPTION_RESIDENCY,
    OPTION_SCHEDULE,
    OPTION_SPLIT,
    OPTION_VOLUMES, /* list of {path, size}; min, max: of the size */
    OPTION_ANY,     /* not-yet and reserved keys: whatever it is */
};

enum option_part { OPTION_IDENTITY, OPTION_WHAT_RUNS, OPTION_GOVERNED };
enum option_status { OPTION_LIVE, OPTION_NOT_YET, OPTION_RESERVED };

struct option {
    const char *key; /* "queue.depth" */
    enum option_type type;
    enum option_part part;
    enum option_status status;
    size_t offset;        /* in struct endpoint_spec */
    uint64_t min, max;    /* number types: the value; OPTION_TEXT: bytes; lists: max is the count */
    const char *fallback; /* default as a person writes it; NULL: none (a number is then 0) */
    const char *choices;  /* "oip|openai|http"; live ones first, those behind ';' are not yet */
    const char *help;
};

extern const struct option endpoint_options[];
extern const size_t endpoint_option_count;

/* --- reading ------------------------------------------------------------------------------- */

enum {
    SPEC_KEEP_UNKNOWN =
        1, /* a PoP that reads a newer spec: unknown and not-yet keys go to ->unknown */
    SPEC_NAME_OPTIONAL = 2, /* the name comes from elsewhere (the URL, an argument) */
};

/* Everything absent gets its default. Checks types, ranges, names and what stands across keys.
 * Errors name the key's path, e.g. "queue.depth: 7x is ...". */
[[nodiscard]] int endpoint_spec_parse(struct arena *arena, yyjson_val *tree, unsigned flags,
                                      struct endpoint_spec *ret_spec, struct err *err);

enum spec_form { SPEC_YAML, SPEC_JSON };

struct endpoint_specs {
    struct endpoint_spec *items;
    size_t count;
};

/* A file: YAML of several documents, or one JSON object (or an array of them). YAML errors say
 * the line. At least one document. */
[[nodiscard]] int endpoint_spec_parse_text(struct arena *arena, struct slice text,
                                           enum spec_form form, unsigned flags,
                                           struct endpoint_specs *ret_specs, struct err *err);

/* All defaults; name, project `default`. */
void endpoint_spec_defaults(struct endpoint_spec *ret_spec);

/* Requests one replica may hold: as told (0: not), else 4 or twice batch.max, the larger. */
#define SPEC_CONCURRENCY_MAX 128
/* The same of one address of an upstream, which is not ours to fill or to spare. */
#define SPEC_UPSTREAM_CONCURRENCY 1024
#define SPEC_UPSTREAM_CONCURRENCY_MAX 65536
uint32_t spec_concurrency(uint64_t told, uint64_t batch_max);
/* The same while runs are short: as told, else at least 8. */
uint32_t spec_places_max(uint64_t told, uint64_t batch_max);

/* What is spoken where the spec does not say: "http" where there is no model. */
struct slice spec_protocol_default(const struct endpoint_spec *spec);

/* "http://HOST[:PORT]": where it is. The slices point into url. */
struct spec_upstream {
    struct slice host;      /* a name or an address, without brackets */
    struct slice authority; /* HOST[:PORT] as written */
    uint16_t port;          /* 80 where none is written */
};
[[nodiscard]] int spec_upstream_parse(struct slice url, struct spec_upstream *ret, struct err *err);
/* Is anything said of it? */
bool spec_probe_is_there(const struct spec_probe *probe);
/* What is absent has its default: each 5 s, 2 s for an answer, 3 failures. */
struct spec_probe spec_probe_fill(const struct spec_probe *probe);
/* How it is seen that a container is ready for the first time: by probes.startup, which unless told
 * may fail 60 times, else as by probes.readiness, which bounds no start. */
struct spec_probe spec_startup_fill(const struct endpoint_spec *spec);
/* "nvidia" or "nvidia-l40s:2": so many, of that kind. count 0: "none". */
enum { SPEC_ACCELERATORS_MAX = 16 };
struct spec_accelerator {
    struct slice kind;
    uint64_t count;
};
[[nodiscard]] int spec_accelerator_parse(struct slice text, struct spec_accelerator *ret,
                                         struct err *err);
uint32_t spec_accelerators(const struct endpoint_spec *spec); /* how many a replica has */
/* Is there such a one, where `flavors` stand? Also where none is wanted. */
bool spec_accelerator_stands(const struct endpoint_spec *spec, const struct spec_strings *flavors);
[[nodiscard]] int spec_accelerator_check(const struct endpoint_spec *spec, struct err *err);

/* Says that requests may not be processed anywhere. */
bool spec_residency_restricts(const struct endpoint_spec *spec);

/* Is `image` a file or a folder, for the CLI to upload? It begins with '.' or '/'. */
bool spec_image_is_path(struct slice image);

/* What parse() checked at its end; for specs changed in code. */
[[nodiscard]] int endpoint_spec_check(const struct endpoint_spec *spec, struct err *err);

/* RFC 7396 on the JSON form: null puts a key back to its default. */
[[nodiscard]] int endpoint_spec_patch(struct arena *arena, const struct endpoint_spec *spec,
                                      yyjson_val *patch, struct endpoint_spec *ret_spec,
                                      struct err *err);

/* --- printing and comparing ------------------------------------------------------------------ */

enum { SPEC_WITH_DEFAULTS = 1 }; /* else keys that have their default value are left out */

yyjson_mut_val *endpoint_spec_tree(yyjson_mut_doc *doc, const struct endpoint_spec *spec,
                                   unsigned flags);
struct slice endpoint_spec_json(struct arena *arena, const struct endpoint_spec *spec,
                                unsigned flags);
struct slice endpoint_spec_yaml(struct arena *arena, const struct endpoint_spec *spec,
                                unsigned flags);
/* Only what runs, defaults written out, keys sorted as in the table: equal text, equal revision. */
struct slice endpoint_spec_what_runs(struct arena *arena, const struct endpoint_spec *spec);

struct spec_change {
    const char *key;
    enum option_part part;
    struct slice before, after; /* JSON text of the values, defaults written out */
};

struct spec_changes {
    const struct spec_change *items;
    size_t count;
    bool new_revision; /* one of them is of what runs */
};

struct spec_changes endpoint_spec_diff(struct arena *arena, const struct endpoint_spec *before,
                                       const struct endpoint_spec *after);

/* docs/spec.md, whole. */
struct slice endpoint_spec_docs(struct arena *arena);

/* --- names (docs/spec.md) --------------------------------------------------------------------- */

[[nodiscard]] int spec_check_endpoint_name(struct slice name, struct err *err);
[[nodiscard]] int spec_check_project_name(struct slice name, struct err *err);
/* "sha256:" and 64 small hexadecimal digits: a model as it is stored. */
bool spec_is_digest(struct slice text);
/* PoPs, keys, flavors, secrets; `what` begins the message ("PoP name"). */
[[nodiscard]] int spec_check_name(struct slice name, const char *what, struct err *err);
