/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h -- the command line: one table of commands, each a row with its options and examples.
 *
 * Ordinary blocking code, one thread. Exit codes: 0 ok, 1 failed, 2 usage. Parsing, --help,
 * completion and docs/cli.md are made from the rows. Text from outside is escaped before it is
 * printed (cli_print_*, json for --json).
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"
#include "base/slice.h"

struct arena;
struct err;
struct mmdb;
struct cli;

struct cli_option {
    const char *name;  /* "--model" */
    const char *value; /* "SOURCE"; NULL: a switch */
    const char *help;
    bool many; /* may be given several times */
};

struct cli_command {
    const char *name, *alias;         /* alias NULL: none */
    const char *arguments;            /* "NAME", "[NAME]", "NAME [FILE...]" ; "" none */
    const char *summary;              /* one line */
    const struct cli_option *options; /* ends with a row whose name is NULL; may be NULL */
    const char *examples;             /* lines */
    uint32_t arguments_min, arguments_max;
    int (*run)(struct cli *cli, struct err *err); /* 0, or an error; cli->exit_code may be set */
};

extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;
extern const char *const cli_reserved[]; /* commands to come, refused as "not yet"; ends in NULL */
extern const struct cli_option cli_options_common[]; /* --json, --control, --home, --project ... */

enum { CLI_ARGUMENTS_MAX = 64, CLI_VALUES_MAX = 64, CLI_COMMANDS_MAX = 64 };

struct cli {
    struct arena *arena;
    const struct cli_command *command;
    const struct cli_command *extra; /* of bin/: up */
    size_t extra_count;
    const char *arguments[CLI_ARGUMENTS_MAX + 1];
    size_t argument_count;
    struct {
        const struct cli_option *option;
        const char *value;
    } values[CLI_VALUES_MAX];
    size_t value_count;
    bool json, color, terminal; /* of stdout */
    int columns;                /* of the terminal; 80 elsewhere */
    const char *home;           /* resolved, in the arena */
    const char *project;
    bool project_given;      /* by the flag or the environment */
    const char *control_url; /* resolved by control_open(); NULL before */
    const char *control_unix;
    int exit_code;
};

/* `extra`: further commands (up) with rows of the same form. */
int cli_main(int argc, char **argv, const struct cli_command *extra, size_t extra_count);

/* Of an option given: its (last) value, "" for a switch, NULL when it was not given. */
const char *cli_option_value(const struct cli *cli, const char *name);
/* The i-th value of a `many` option; NULL behind the last. */
const char *cli_option_nth(const struct cli *cli, const char *name, size_t index);
bool cli_option_u64(const struct cli *cli, const char *name, uint64_t *ret, struct err *err);

/* For what a command finds wrong in how it was called: exit code 2 when r is an error. Returns r.
 */
int cli_usage(struct cli *cli, int r);

/* Of a command with actions ("pops drain NAME"); the first one is meant where none is said. */
struct cli_action {
    const char *word;
    bool named; /* it wants a name: cli->arguments[1] */
    int (*run)(struct cli *cli, struct err *err);
};
/* What was asked for; `name`: what the name is called, as in --help. */
[[nodiscard]] int cli_act(struct cli *cli, const struct cli_action *actions, size_t count,
                          const char *name, int (*check)(struct slice name, struct err *err),
                          struct err *err);

int cli_help(FILE *out, const struct cli *cli, const struct cli_command *command);
int cli_docs(FILE *out, const struct cli *cli); /* docs/cli.md, whole */
/* Asks on a terminal, true with --yes; without a terminal and --yes an error. */
[[nodiscard]] int cli_confirm(struct cli *cli, const char *question, struct err *err);

/* A whole file, also a pipe's or /proc's; "-" is standard input. Terminated. */
[[nodiscard]] int cli_read(struct cli *cli, const char *path, uint64_t bytes_max, struct slice *ret,
                           struct err *err);
/* What nobody is to see, in a secret arena: of a file, or of standard input ("-"), where a terminal
 * is asked for a line and does not show it. The end of the last line is none of it; that nothing is
 * left is an error. */
struct cli_secret {
    const char *path, *prompt; /* "Password: " */
    const char *what;          /* begins errors */
    size_t bytes_max;
};
[[nodiscard]] int cli_read_secret(struct cli *cli, const struct cli_secret *ask,
                                  struct arena *secret, struct slice *ret, struct err *err);
/* Says on stderr if that MMDB is old, or of the future. */
void cli_warn_mmdb(const char *path, const struct mmdb *mmdb);

/* ---- output (output.c) ----------------------------------------------------------------------- */

/* Outside text, control characters as \xNN; at most `width` columns (0: all). */
void cli_print_text(FILE *out, struct slice text);
/* Words broken at blanks to stay within `columns`, a longer word alone whole; the text begins in
 * column `at`, its further lines in `indent`. Ends the line. */
void cli_wrap(FILE *out, struct slice text, size_t columns, size_t at, size_t indent);
/* Outside text, escaped: wrapped to the terminal. */
void cli_print_wrapped(struct cli *cli, FILE *out, struct slice text, size_t at, size_t indent);
/* Columns as wide as needed, all together at most the terminal's (80 where there is none): cells of
 * the last one are cut before others. */
struct cli_table;
struct cli_table *cli_table_new(struct cli *cli, const char *const *titles, size_t columns);
/* The last one is wrapped instead: its words are what somebody asked for. */
void cli_table_wrap(struct cli_table *table);
void cli_table_row(struct cli_table *table, const struct slice *cells);
void cli_table_print(struct cli_table *table, FILE *out);
void cli_print_json(struct cli *cli,
                    yyjson_val *value); /* pretty on a terminal, one line elsewhere */
/* Ends the writer and prints its JSON as cli_print_json() does. 0. */
int cli_print_written(struct cli *cli, struct json_writer *writer);
const char *cli_ago(struct cli *cli, struct slice rfc3339); /* "3m ago" */
enum cli_color { CLI_PLAIN, CLI_GREEN, CLI_YELLOW, CLI_RED, CLI_DIM, CLI_BOLD };
const char *cli_color(const struct cli *cli, enum cli_color color); /* "" without a terminal */

/* Progress on stderr for what takes over a second: text and seconds, or a bar once a total is
 * known. Silent without a terminal. A thread draws it; begin and end are on the caller's. */
struct cli_progress {
    const char *what;
    int64_t started_ns;
    pthread_t thread;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    uint64_t done, total;
    char text[128];
    bool running, ended, drawn;
};
void cli_progress_begin(struct cli_progress *progress, const char *what);
void cli_progress_set(struct cli_progress *progress, uint64_t done, uint64_t total);
void cli_progress_text(struct cli_progress *progress, struct slice text);
void cli_progress_end(struct cli_progress *progress);

/* ---- control (control.c) --------------------------------------------------------------------- */

struct control_request {
    const char *method;
    const char *path;         /* "/api/v1/..." */
    const char *content_type; /* NULL: application/json when there is a body */
    const char *header;       /* one more, "If-Match: ..."; or NULL */
    struct slice body;
    int body_fd; /* -1 unless a file is sent */
    uint64_t body_offset, body_bytes;
    int64_t timeout_ms; /* 0: 30 s; negative: none */
    int64_t idle_ms;    /* without a byte for so long it is broken; 0: never */
    bool (*on_body)(struct slice bytes, void *data);
    void (*on_progress)(uint64_t sent, uint64_t total, void *data);
    void *data;
};
#define CONTROL_REQUEST(...) ((struct control_request){ .body_fd = -1, __VA_ARGS__ })

struct control_answer {
    int status;
    struct slice etag, range;
    struct slice body;
    yyjson_val *json; /* NULL: no JSON */
};

/* --control, $PERIGEE_CONTROL or the context in use. 1: *ret is set. 0: none, so control is the
 * home's Perigee. */
[[nodiscard]] int control_named(struct cli *cli, const char **ret, struct err *err);
[[nodiscard]] int control_check_url(const char *where, struct err *err);
/* Below 400: 0. Else the problem's name and detail as an err. Not running: says how to start it. */
[[nodiscard]] int control_call(struct cli *cli, const struct control_request *request,
                               struct control_answer *ret, struct err *err);
/* The same, and prints the answer: as it came with --json, else by `print`. */
[[nodiscard]] int control_show(struct cli *cli, const struct control_request *request,
                               void (*print)(struct cli *cli, yyjson_val *json), struct err *err);
/* DELETE, once `question` was answered with yes. */
[[nodiscard]] int control_delete(struct cli *cli, const char *question, const char *path,
                                 struct control_answer *ret, struct err *err);
/* Percent-encoded, for a path or a query. */
const char *control_escape(struct cli *cli, const char *text);
/* "/api/v1" or "/api/v1/projects/P", and `rest`; the same with "/endpoints/NAME" between. */
const char *control_project_path(struct cli *cli, const char *rest);
const char *control_endpoint_path(struct cli *cli, const char *name, const char *rest);
/* Server-sent events of `path`, each to `on_event` (false ends it); `json` lives as long as the
 * call. timeout_ms 0: none. A watch that breaks is taken up again with Last-Event-ID; one that
 * cannot be for a minute is an error. */
[[nodiscard]] int control_watch(struct cli *cli, const char *path, int64_t timeout_ms,
                                bool (*on_event)(struct slice kind, struct slice id,
                                                 yyjson_val *json, void *data),
                                void *data, struct err *err);
/* The first address of a listener in the home's addresses.json: "127.0.0.1:5300" of "dns". */
[[nodiscard]] int control_address(struct cli *cli, const char *listener, const char **ret,
                                  struct err *err);
/* Where inference goes: the first gateway address, "http://127.0.0.1:8000". */
[[nodiscard]] int control_gateway_url(struct cli *cli, const char **ret, struct err *err);
/* Makes sure control has the file's (or folder's) bytes; "sha256:HEX" of the artifact. */
[[nodiscard]] int control_upload_model(struct cli *cli, const char *path, const char **ret_digest,
                                       struct err *err);
/* A container image in a file: `docker save`, or an OCI layout in a tar or a folder. *ret_digest:
 * of its manifest. */
[[nodiscard]] int control_upload_image(struct cli *cli, const char *path, const char **ret_digest,
                                       struct err *err);
/* Until requests meet it as it is governed now, at all PoPs that are heard; for some seconds at
 * most: then it says so on stderr, and ret_view is as it was. */
[[nodiscard]] int control_wait_observed(struct cli *cli, const char *name,
                                        struct control_answer *ret_view, struct err *err);
/* How long --timeout of the command lets it wait: 10 minutes unless told. To be asked before the
 * first call, so that a wrong one changes nothing. */
[[nodiscard]] int control_wait_timeout(struct cli *cli, int64_t *ret_ms, struct err *err);
/* Until the endpoint's target revision is ready or failed, and requests meet it as it is governed
 * now. Progress on a terminal. */
[[nodiscard]] int control_wait_ready(struct cli *cli, const char *name, int64_t timeout_ms,
                                     struct control_answer *ret_view, struct err *err);
