/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perigee pop: a PoP whose control is elsewhere; and perigee dns: a server of its names, which runs
 * nothing. The first start joins: it shows its token, and keeps a secret that only its digest
 * leaves the home of. Every later start needs neither token nor control.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "bin/roles.h"
#include "cli/cli.h"
#include "contract/messages.h"
#include "http/client.h"
#include "pop/pop.h"
#include "spec/names.h"
#include "spec/pop.h"
#include "store/digest.h"
#include "sys/env_linux.h"
#include "sys/home.h"

#define TOKEN_ENVIRONMENT "PERIGEE_JOIN_TOKEN"

enum { TOKEN_BYTES_MAX = 4096, JOINED_BYTES_MAX = 64 << 10, SECRET_BYTES = 43 };

static int pop_run(struct cli *cli, struct err *err);
static int dns_run(struct cli *cli, struct err *err);

/* clang-format off */
static const struct cli_option options[] = {
    { "--join", "URL", "Control, at the first start: http://127.0.0.1:8080. From another machine not yet: that wants certificates.", false },
    { "--token-file", "FILE", "The token of `perigee pops create`, - for standard input; else $PERIGEE_JOIN_TOKEN.", false },
    { "--listen-gateway", "ADDRESS", "Endpoints; 127.0.0.1:8000,127.0.0.1:8001 unless told.", false },
    { "--listen-admin", "ADDRESS", "/metrics, /healthz, /readyz; 127.0.0.1:8002 unless told.", false },
    { "--listen-dns", "ADDRESS", "DNS for the zone, UDP and TCP, with all of the fleet's PoPs; none unless told.", false },
    { "--why-from", "CIDR,..", "Who may ask DNS why: _why.NAME below the zone, as TXT. This machine unless told.", false },
    { "--https-record", "PARAMETERS", "Something else ends TLS before the gateways: DNS says so in HTTPS records (RFC 9460), as 'alpn=h2,http/1.1 port=443', with the addresses of A and AAAA as hints; else $PERIGEE_HTTPS_RECORD. No such records unless told.", false },
    { "--addresses", "FILE", "Where clients' addresses are (docs/residency.md).", false },
    { "--geo", "FILE", "An MMDB for addresses that the file does not name.", false },
    { "--sets", "FILE", "Sets of countries of your own (docs/residency.md).", false },
    { "--open", NULL, "Listen beyond this machine without keys: whoever reaches it may do all.", false },
    { "--loops", "N", "The gateway's event loops, 1 to 8; a quarter of the cores unless told.", false },
    { "--spin-us", "N", "How long replicas and loops may look for work before they sleep; 0 unless told.", false },
    { "--limits", "NAME=N,..", "The gateway's limits of HTTP, else $PERIGEE_LIMITS; docs/limits.md has the names.", false },
    { "--trusted-proxies", "CIDR,..", "Peers that may say who is behind them, else $PERIGEE_TRUSTED_PROXIES.", false },
    { "--model-cache", "SIZE", "What models may take on this disk with those that run here no more, which go by their last use; else $PERIGEE_MODEL_CACHE; 10GiB unless told.", false },
    { "--engine", "unix:PATH", "The container engine that runs images, Docker or Podman; else $DOCKER_HOST, else the usual sockets of both.", false },
    { "--sandbox", "MODE", "best: replicas get the walls that stand here; require: no start without all.", false },
    { "--log-level", "LEVEL", "debug, info, warn or error, else $PERIGEE_LOG; info unless told.", false },
    {},
};

const struct cli_command pop_command = {
    "pop", NULL, "", "Run a point of presence of a control elsewhere; the first start joins it.",
    options,
    "  perigee pop --home /srv/paris --join http://127.0.0.1:8080 --token-file t\n"
    "  perigee pop --home /srv/paris          again, also while control is away\n",
    0, 0, pop_run,
};

static const struct cli_option dns_options[] = {
    { "--join", "URL", "Control, at the first start: http://127.0.0.1:8080. From another machine not yet: that wants certificates.", false },
    { "--token-file", "FILE", "The token of `perigee pops create NAME --dns`, - for standard input; else $PERIGEE_JOIN_TOKEN.", false },
    { "--listen-dns", "ADDRESS", "DNS, UDP and TCP; 127.0.0.1:5300 unless told.", false },
    { "--listen-admin", "ADDRESS", "/metrics, /healthz, /readyz; 127.0.0.1:8002 unless told.", false },
    { "--zone", "DOMAIN", "Endpoints are hosts below it; control's zone unless told.", false },
    { "--why-from", "CIDR,..", "Who may ask DNS why: _why.NAME below the zone, as TXT. This machine unless told.", false },
    { "--https-record", "PARAMETERS", "Something else ends TLS before the gateways: DNS says so in HTTPS records (RFC 9460), as 'alpn=h2,http/1.1 port=443', with the addresses of A and AAAA as hints; else $PERIGEE_HTTPS_RECORD. No such records unless told.", false },
    { "--beside", "POP", "The PoP in whose place it stands: what cuts off that one cuts off this one, and says nothing of the others.", false },
    { "--addresses", "FILE", "Where clients' addresses are (docs/residency.md).", false },
    { "--geo", "FILE", "An MMDB for addresses that the file does not name.", false },
    { "--sets", "FILE", "Sets of countries of your own (docs/residency.md).", false },
    { "--open", NULL, "Listen beyond this machine without keys: whoever reaches it may ask.", false },
    { "--log-level", "LEVEL", "debug, info, warn or error, else $PERIGEE_LOG; info unless told.", false },
    {},
};

const struct cli_command dns_command = {
    "dns", NULL, "", "Run a DNS server alone, of a control elsewhere; the first start joins it.",
    dns_options,
    "  perigee pops create ns-1 --dns --home /srv/control\n"
    "  perigee dns --home /srv/ns-1 --join http://127.0.0.1:8080 --token-file t\n"
    "  perigee dns --home /srv/ns-1           again, also while control is away\n",
    0, 0, dns_run,
};
/* clang-format on */

/* ---- what it was told ------------------------------------------------------------------------ */

static enum pop_kind kind_of(const struct cli *cli)
{
    return cli->command->run == dns_run ? POP_KIND_DNS : POP_KIND_POP;
}

struct joined {
    struct slice control, pop, zone;
    yyjson_val *spec;
};

static const char *joined_path(struct cli *cli)
{
    return arena_format(cli->arena, "%s/" POP_JOINED_FILE, cli->home);
}

static int joined_parse(struct cli *cli, struct slice text, struct joined *ret, struct err *err)
{
    yyjson_val *root;
    if (json_parse(cli->arena, text, NULL, &root, err) < 0 ||
        json_get_string(root, "control", JSON_REQUIRED, &ret->control, err) < 0 ||
        json_get_string(root, "pop", JSON_REQUIRED, &ret->pop, err) < 0 ||
        json_get_string(root, "zone", JSON_REQUIRED, &ret->zone, err) < 0 ||
        json_get_object(root, "spec", JSON_REQUIRED, &ret->spec, err) < 0)
        return ERR_BAD_INPUT;
    return 0;
}

/* 1: it has joined. */
static int joined_read(struct cli *cli, struct joined *ret, struct err *err)
{
    struct slice text = {};
    int r = disk_read(joined_path(cli), JOINED_BYTES_MAX, cli->arena, &text, err);
    if (r == ERR_NOT_FOUND)
        return 0;
    if (r == 0)
        r = joined_parse(cli, text, ret, err);
    return r < 0 ? err_wrap(err, "what this PoP was told when it joined (%s)", joined_path(cli))
                 : 1;
}

static int put(char *to, size_t room, const char *what, struct slice text, struct err *err)
{
    if (text.size >= room)
        return err_set(err, ERR_BAD_INPUT, "%s has %zu bytes; at most %zu", what, text.size,
                       room - 1);
    if (text.size)
        memcpy(to, text.data, text.size);
    to[text.size] = '\0';
    return 0;
}

static int start_fill(struct cli *cli, const struct joined *joined, struct message_start *ret,
                      struct err *err)
{
    struct pop_spec spec;
    char country[3];
    *ret = (struct message_start){};
    int r = pop_spec_parse(cli->arena, joined->spec, &spec, err);
    if (r == 0 && spec.kind != kind_of(cli))
        r = err_set(err, ERR_CONFLICT, "the home %s is '%s', which joined with `perigee %s`",
                    cli->home, ERR_SLICE(joined->pop), pop_kind_word(spec.kind));
    if (r == 0)
        r = put(ret->control, sizeof ret->control, "control", joined->control, err);
    if (r == 0)
        r = put(ret->pop, sizeof ret->pop, "the PoP's name", joined->pop, err);
    if (r == 0)
        r = put(ret->zone, sizeof ret->zone, "the zone", joined->zone, err);
    if (r == 0)
        r = put(ret->city, sizeof ret->city, "the city", spec.city, err);
    country_code_of(spec.country, country);
    return r < 0 ? r
                 : put(ret->country, sizeof ret->country, "the country", slice_of(country), err);
}

/* ---- joining --------------------------------------------------------------------------------- */

/* The agent takes addresses alone, and until there are certificates nothing leaves this machine. */
static int check_url(struct cli *cli, const char *text, const char **ret, struct err *err)
{
    struct http_url url;
    struct address loopback = { .kind = ADDRESS_IP4, .ip = { 127, 0, 0, 1 } };
    char address[ADDRESS_TEXT_BYTES];
    if (http_url_parse(slice_of(text), &url, err) < 0)
        return err_wrap(err, "--join");
    if (url.address.kind == ADDRESS_UNIX)
        return err_set(err, ERR_BAD_INPUT, "--join wants http://ADDRESS:PORT");
    if (url.address.kind == ADDRESS_NONE && slice_equal_nocase(url.host, SLICE("localhost"))) {
        url.address = loopback;
        url.address.port = url.port;
    }
    if (!address_loopback(&url.address))
        return err_set(err, ERR_NOT_SUPPORTED,
                       "--join %s is not on this machine: joining from another one wants "
                       "certificates, not yet",
                       ERR_TEXT(text));
    *ret = arena_format(cli->arena, "http://%s%.*s", address_text(&url.address, address),
                        SLICE_FMT(url.base));
    return 0;
}

static int read_token(struct cli *cli, struct slice *ret, struct err *err)
{
    const char *file = cli_option_value(cli, "--token-file"), *given = getenv(TOKEN_ENVIRONMENT);
    if (!file && (!given || !*given))
        return err_set(err, ERR_BAD_INPUT,
                       "joining wants the token of `perigee pops create`: --token-file FILE, - for "
                       "standard input, or $" TOKEN_ENVIRONMENT);
    *ret = slice_of(file ? "" : arena_string(cli->arena, slice_of(given)));
    if (file && cli_read(cli, file, TOKEN_BYTES_MAX, ret, err) < 0)
        return err_wrap(err, "--token-file");
    *ret = slice_trim(*ret);
    while (slice_ends(*ret, SLICE("\n")) || slice_ends(*ret, SLICE("\r")))
        ret->size--;
    for (size_t i = 0; i < ret->size; i++)
        if (ret->data[i] < 0x21 || ret->data[i] > 0x7e)
            return err_set(err, ERR_BAD_INPUT, "the token is no token: it has odd characters");
    if (ret->size == 0)
        return err_set(err, ERR_BAD_INPUT, "the token is empty");
    return 0;
}

static int secret_make(char secret[static SECRET_BYTES + 1], struct err *err)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t used = 0;
    while (used < SECRET_BYTES) {
        unsigned char bytes[64];
        if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
            return err_set(err, ERR_INTERNAL, "no random bytes: %s", strerror(errno));
        for (size_t i = 0; i < sizeof bytes && used < SECRET_BYTES; i++)
            if (bytes[i] < 248)
                secret[used++] = letters[bytes[i] % 62];
    }
    secret[used] = '\0';
    return 0;
}

/* A new one for each token: `perigee pops token` shuts out whoever has the old one. That of a try
 * whose answer was lost is the one that control knows, and is taken again. */
static int secret_keep(struct cli *cli, const char *path, struct slice *ret, struct err *err)
{
    char secret[SECRET_BYTES + 1];
    int r = disk_read(path, POP_SECRET_BYTES_MAX, cli->arena, ret, err);
    if (r == 0 && ret->size == SECRET_BYTES)
        return 0;
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    r = secret_make(secret, err);
    if (r == 0)
        r = disk_folder(arena_format(cli->arena, "%s/pop", cli->home), err);
    if (r == 0)
        r = disk_replace(path, slice_of(secret), err);
    if (r == 0 && chmod(path, 0600) < 0)
        r = err_set(err, ERR_INTERNAL, "'%s': %s", path, strerror(errno));
    *ret = slice_of(arena_string(cli->arena, slice_of(secret)));
    return r;
}

static int joined_write(struct cli *cli, const char *url, const struct control_answer *answer,
                        struct slice *ret_text, struct err *err)
{
    static const char *const keys[] = { "pop", "zone", "spec" };
    struct json_writer w;
    json_begin(&w, cli->arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_text(&w, "control", url);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        yyjson_val *value = json_member(answer->json, keys[i]);
        if (!value)
            return err_set(err, ERR_INTERNAL, "control's answer lacks '%s'", keys[i]);
        json_key(&w, keys[i]);
        json_value(&w, value);
    }
    json_object_end(&w);
    *ret_text = json_end(&w);
    return disk_replace(joined_path(cli), *ret_text, err);
}

static int enrol(struct cli *cli, const char *url, struct slice token, struct slice secret,
                 struct slice *ret_text, struct err *err)
{
    struct control_answer answer = {};
    char digest[DIGEST_TEXT];
    cli->control_url = url;
    int r = control_call(
        cli,
        &CONTROL_REQUEST(.method = "POST", .path = "/api/v1/enrolments",
                         .header = arena_format(cli->arena, "Authorization: Bearer %.*s",
                                                SLICE_FMT(token)),
                         .body = slice_of(
                             arena_format(cli->arena, "{\"secret\":\"%s\",\"kind\":\"%s\"}",
                                          digest_of(secret, digest), pop_kind_word(kind_of(cli))))),
        &answer, err);
    return r < 0 ? err_wrap(err, "joining %s", url)
                 : joined_write(cli, url, &answer, ret_text, err);
}

static int join(struct cli *cli, const char *url, struct joined *ret, struct err *err)
{
    struct slice token = {}, secret = {}, text = {};
    int r = read_token(cli, &token, err);
    if (r < 0)
        return cli_usage(cli, r);
    r = home_make(cli->home, err);
    const char *path = arena_format(cli->arena, "%s/" POP_SECRET_FILE, cli->home);
    const char *tried = arena_format(cli->arena, "%s.new", path);
    if (r == 0)
        r = secret_keep(cli, tried, &secret, err);
    if (r == 0)
        r = enrol(cli, url, token, secret, &text, err);
    if (r == 0 && rename(tried, path) < 0)
        r = err_set(err, ERR_INTERNAL, "'%s': %s", path, strerror(errno));
    if (r == 0)
        r = joined_parse(cli, text, ret, err);
    if (r == 0) {
        printf("Joined %s as %s '", url, kind_of(cli) == POP_KIND_DNS ? "DNS server" : "PoP");
        cli_print_text(stdout, ret->pop);
        printf("'.\n");
    }
    return r;
}

/* No process to come needs it, and /proc/PID/environ shows what a process was started with. */
static void environment_forget(const char *name)
{
    char *value = getenv(name);
    if (value)
        explicit_bzero(value, strlen(value));
    (void)unsetenv(name);
}

static int joined_run(struct cli *cli, unsigned parts, struct err *err)
{
    const char *given = cli_option_value(cli, "--join"), *url = NULL;
    struct message_start *start = ARENA_NEW(cli->arena, struct message_start);
    struct joined joined = {};
    const char *zone = cli_option_value(cli, "--zone");
    if (zone && spec_check_host(slice_of(zone), err) < 0)
        return cli_usage(cli, err_wrap(err, "--zone"));
    if (given && check_url(cli, given, &url, err) < 0)
        return cli_usage(cli, err->code);
    int r = joined_read(cli, &joined, err);
    if (r < 0)
        return r;
    if (r == 1 && url && !slice_is(joined.control, url))
        return err_set(err, ERR_CONFLICT,
                       "the home %s is PoP '%s' of %s: a PoP of another control has another home",
                       cli->home, ERR_SLICE(joined.pop), ERR_SLICE(joined.control));
    if (r == 0 && !url)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "the home %s has not joined yet: perigee %s --join URL "
                                      "--token-file FILE",
                                      cli->home, cli->command->name));
    /* With a token in hand it joins anew: `perigee pops token` had shut it out. */
    bool again = r == 1 && cli_option_value(cli, "--token-file");
    if (again && !url)
        url = arena_string(cli->arena, joined.control);
    /* A token is good once: what is wrong here is said before it is shown. */
    if ((r == 0 || again) && (parts_check(cli, parts, err) < 0 || join(cli, url, &joined, err) < 0))
        return err->code;
    environment_forget(TOKEN_ENVIRONMENT);
    r = start_fill(cli, &joined, start, err);
    if (r == 0 && zone)
        r = put(start->zone, sizeof start->zone, "--zone", slice_of(zone), err);
    return r < 0 ? r : parts_run(cli, parts, start, err);
}

static int pop_run(struct cli *cli, struct err *err)
{
    return joined_run(cli, PART_POP | PART_DNS, err);
}

/* Left in the environment, for its agent; from there it is not taken. */
static int read_beside(struct cli *cli, struct err *err)
{
    const char *beside = cli_option_value(cli, "--beside");
    if (beside && spec_check_name(slice_of(beside), "PoP", err) < 0)
        return err_wrap(err, "--beside");
    if (beside)
        (void)setenv(POP_BESIDE_ENVIRONMENT, beside, 1);
    else
        (void)unsetenv(POP_BESIDE_ENVIRONMENT);
    return 0;
}

static int dns_run(struct cli *cli, struct err *err)
{
    if (read_beside(cli, err) < 0)
        return cli_usage(cli, err->code);
    return joined_run(cli, PART_AGENT | PART_DNS, err);
}
