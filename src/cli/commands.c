/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of commands: parser, --help, completion and docs/cli.md are made from it.
 */
#include "cli/commands.h"
#include "cli/cli.h"

#define OPTIONS(...) ((const struct cli_option[]){ __VA_ARGS__ __VA_OPT__(, ){} })
#define NO_WAIT                                                                                    \
    {                                                                                              \
        "--no-wait", NULL, "Return at once, not when it is ready.", false                          \
    }
#define TIMEOUT                                                                                    \
    {                                                                                              \
        "--timeout", "TIME", "Wait at most so long; 10m unless told.", false                       \
    }
#define NO_WAIT_HEARD                                                                              \
    {                                                                                              \
        "--no-wait", NULL, "Return at once, not when requests go by it everywhere.", false         \
    }
#define YES                                                                                        \
    {                                                                                              \
        "--yes", NULL, "Do it without being asked.", false                                         \
    }
#define FOLLOW                                                                                     \
    {                                                                                              \
        "--follow", NULL, "Go on with what comes.", false                                          \
    }
#define LIMIT                                                                                      \
    {                                                                                              \
        "--limit", "N", "The last N; 200 unless told.", false                                      \
    }

/* clang-format off */
const struct cli_command cli_commands[] = {
    { "deploy", NULL, "NAME", "Run a model or a container image, or make an endpoint of what already runs; waits until it is ready.",
      OPTIONS({ "--model", "SOURCE", "The model: an ONNX file, a folder with one, or oci://[HOST/]PROJECT/NAME:TAG.", false },
              { "--image", "REF", "A container image: PROJECT/NAME:TAG of the registry, HOST/PATH:TAG of another one, a file of `docker save`, or an OCI layout in a tar or a folder.", false },
              { "--port", "N", "Where the image listens; else the port that it exposes.", false },
              { "--upstream", "URL", "Something that already runs: http://HOST:PORT.", false },
              { "--protocol", "NAME", "What an image or an upstream speaks: http, which is the default, or oip.", false },
              { "--min", "N", "Replicas at least.", false },
              { "--max", "N", "Replicas at most.", false },
              { "--concurrency", "N", "Requests one replica may hold.", false },
              { "--region", "PLACE", "Where replicas may be: EU, CH, us, a PoP; several times.", true },
              { "--process-in", "SET", "Where requests may be processed: EU, CH, any or same-country; several times.", true },
              { "--create", NULL, "Refuse when the endpoint exists.", false }, NO_WAIT, TIMEOUT),
      "  perigee deploy digits --model examples/digits/digits.onnx\n"
      "  perigee deploy digits --min 2        the same model, two replicas\n"
      "  perigee deploy shop --image ./shop.tar --port 8080\n"
      "  perigee deploy shop --image default/shop:v2\n"
      "  perigee deploy shop --image ghcr.io/team/shop:v2\n"
      "  perigee deploy shop --upstream http://10.0.0.7:8080\n"
      "  perigee deploy digits --process-in EU --process-in CH\n",
      1, 1, cmd_deploy },
    { "apply", NULL, "", "Make endpoints exactly as files say, one after the other; waits until each is ready.",
      OPTIONS({ "--file", "FILE|DIR|-", "YAML or JSON, one or more documents. Also -f.", false },
              { "--dry-run", NULL, "Show what would change, and what would restart.", false }, NO_WAIT,
              { "--timeout", "TIME", "Wait at most so long for each; 10m unless told.", false }),
      "  perigee apply -f digits.yaml --dry-run\n  perigee export digits | perigee apply -f -\n",
      0, 0, cmd_apply },
    { "export", NULL, "NAME", "Print an endpoint's spec as YAML that apply takes back unchanged.",
      NULL, "  perigee export digits > digits.yaml\n", 1, 1, cmd_export },
    { "endpoints", "ls", "", "List the endpoints.",
      OPTIONS({ "--labels", "K=V", "Only those with the label. Also -l.", false }),
      "  perigee ls -l team=vision\n", 0, 0, cmd_endpoints },
    { "show", "status", "[NAME]", "Show an endpoint: state, replicas, sandbox, last deaths; without NAME list all.",
      NULL, "  perigee show digits\n  perigee show digits --json\n", 0, 1, cmd_show },
    { "wait", NULL, "NAME", "Return when the endpoint is ready, or say why it will not be.",
      OPTIONS({ "--timeout", "TIME", "At most so long; 10m unless told.", false }),
      "  perigee wait digits --timeout 30s\n", 1, 1, cmd_wait },
    { "logs", NULL, "NAME", "Print what the endpoint's replicas wrote.",
      OPTIONS(FOLLOW, LIMIT, { "--replica", "NAME", "Of this one alone.", false }),
      "  perigee logs digits --follow\n", 1, 1, cmd_logs },
    { "top", NULL, "", "Watch endpoints, replicas, load and latency; without a terminal one table.",
      OPTIONS({ "--sort", "KEY", "By name, state, replicas, rate (unless told), errors, running, waiting, p50 or p99.", false },
              { "--every", "TIME", "Ask so often; 2s unless told.", false },
              { "--pops", NULL, "A row for each PoP as well.", false },
              { "--once", NULL, "Print one table.", false }),
      "  perigee top                           q quits, r n l ... sort, p shows PoPs\n"
      "  perigee top --once --sort p99\n"
      "  perigee top --json\n", 0, 0, cmd_top },
    { "events", NULL, "[NAME]", "Print what happened: deployments, starts, deaths, moves of traffic, in the order in which control heard of it, which is not always the order of times. Events outlive their endpoint: of a name that nothing has happened to, nothing is printed.",
      OPTIONS(FOLLOW, LIMIT), "  perigee events --follow --json\n", 0, 1, cmd_events },
    { "infer", NULL, "NAME", "Send a request and print the answer.",
      OPTIONS({ "--input", "NAME=FILE", "A tensor from .npy, .npz, .png, .jpg, .json, or @- (JSON on "
                                        "standard input).", true },
              { "--image", "SPEC", "How pixels become numbers: whole, 8x8,gray,flat,0:16,invert, or changes of what the model says, invert=false.", false },
              { "--output", "NAME", "Only this output.", true },
              { "--save", "FILE", "Keep the outputs in a .npz; --json then names them without their data.", false },
              { "--revision", "N", "Ask this revision.", false },
              { "--timeout", "TIME", "Deadline of the request.", false },
              { "--from", "CITY|ADDRESS", "As a client there: resolve by our DNS, send to the PoP that it names, the next address where one fails; with --url to that PoP. In a network in a box a city is one of its places (docs/fleet.md).", false },
              { "--dns", "ADDRESS", "--from: the DNS server; else the first of the home's Perigee.", false },
              { "--zone", "DOMAIN", "--from: the zone; else what control says, perigee.test without it.", false },
              { "--url", "URL", "The gateway; else the first of the home's Perigee, or the endpoint's url where control is named (--control, $PERIGEE_CONTROL, a context).", false }),
      "  perigee infer digits --input image=examples/digits/samples/digit-7.png\n"
      "  perigee infer digits --input image=batch.npy --json\n"
      "  perigee infer digits --input image=batch.npy --save answer.npz\n"
      "  perigee infer digits --from Tokyo --input image=digit-7.png\n"
      "  echo '[[0, 1, 2]]' | perigee infer model --input x=@-\n",
      1, 1, cmd_infer },
    { "explain", NULL, "[placement] NAME|REQUEST_ID", "Say to which PoP a client is sent, which PoPs have an endpoint, or where a request went, and why not elsewhere.",
      OPTIONS({ "--client", "CITY|ADDRESS", "Who asks: an address, or a city, Paris,US which of several.", false }),
      "  perigee explain digits --client Tokyo\n"
      "  perigee explain digits --client 203.0.113.7 --json\n"
      "  perigee explain placement digits      where it is, who asks, what is short\n"
      "  perigee explain 7f3a0c9d2e4b6a81      a request, by its X-Request-Id\n",
      1, 2, cmd_explain },
    { "policy", NULL, "test FILE|sets",
      "Hold a spec's residency and regions against a table of cases; sets: the sets of countries, who says so, and since when.",
      OPTIONS({ "--spec", "FILE", "The spec; else what the file names.", false },
              { "--endpoint", "NAME", "Of a spec with several documents, this one.", false },
              { "--geo", "FILE", "Addresses of clients to countries: an MMDB.", false },
              { "--sets", "FILE", "Sets of countries beside EU and EEA.", false }),
      "  perigee policy test cases.yaml --spec digits.yaml\n"
      "  perigee policy test cases.yaml --geo dbip-country.mmdb --json\n"
      "  perigee policy sets --sets sets.yaml\n",
      1, 2, cmd_policy },
    { "scale", NULL, "NAME", "Set how many replicas there may be.",
      OPTIONS({ "--min", "N", "At least.", false }, { "--max", "N", "At most.", false },
              NO_WAIT_HEARD),
      "  perigee scale digits --min 2 --max 4\n", 1, 1, cmd_scale },
    { "stop", NULL, "NAME", "Stop an endpoint: no replicas; requests are refused until start.",
      OPTIONS(NO_WAIT_HEARD), "  perigee stop digits\n", 1, 1, cmd_stop },
    { "start", NULL, "NAME", "Start a stopped endpoint.", OPTIONS(NO_WAIT, TIMEOUT),
      "  perigee start digits\n", 1, 1, cmd_start },
    { "rollback", NULL, "NAME", "Move the traffic to an earlier revision.",
      OPTIONS({ "--revision", "N", "That one; else the one before the present.", false }, NO_WAIT, TIMEOUT),
      "  perigee rollback digits --revision 1\n", 1, 1, cmd_rollback },
    { "delete", "rm", "NAME", "Delete an endpoint with its revisions.", OPTIONS(YES),
      "  perigee delete digits --yes\n", 1, 1, cmd_delete },
    { "backup", NULL, "FILE", "Write the home's state to one file, also while Perigee runs.",
      OPTIONS({ "--with-key", NULL, "The key as well, which opens what is sealed in it: whoever has the file has the passwords.", false }),
      "  perigee backup perigee-$(date +%F).tar\n", 1, 1, cmd_backup },
    { "restore", NULL, "FILE", "Make the home as a backup says; Perigee must not run.", OPTIONS(YES),
      "  perigee restore perigee-2026-11-23.tar --home /srv/perigee\n", 1, 1, cmd_restore },
    { "context", NULL, "[ACTION [NAME]]",
      "Name places where control is, and choose one: list, set, use, clear, delete.", NULL,
      "  perigee context set lab --control http://10.0.0.7:8080\n"
      "  perigee context use lab\n"
      "  perigee context clear                 back to the home's Perigee\n",
      0, 2, cmd_context },
    { "fleet", NULL, "[ACTION [PLACE [PLACE]] [TIME]]",
      "The network in a box of `perigee up --fleet`: status, cut, slow, kill, heal.", NULL,
      "  perigee fleet status\n"
      "  perigee fleet cut tokyo paris         nothing passes between the two\n"
      "  perigee fleet slow tokyo 200ms        its round trips are so much longer\n"
      "  perigee fleet kill tokyo              SIGKILL to all of it, and down until\n"
      "  perigee fleet heal                    all is as the file says\n",
      0, 4, cmd_fleet },
    { "registries", NULL, "[ACTION [HOST]]",
      "Other registries, from which images and models are copied: add, list, test, remove.",
      OPTIONS({ "--username", "NAME", "add: who is shown to it.", false },
              { "--password-file", "FILE|-", "add: the password or token, from a file or standard input; kept sealed, never shown.", false },
              { "--plain-http", NULL, "add: speak to it by http, without TLS.", false },
              { "--ca-file", "FILE", "add: believe these certificates (PEM) as well as the system's.", false }, YES),
      "  perigee registries add ghcr.io --username me --password-file token.txt\n"
      "  perigee registries add harbor.example --username robot --password-file -\n"
      "  perigee registries test ghcr.io\n"
      "  perigee deploy shop --image ghcr.io/team/shop:v2\n",
      0, 2, cmd_registries },
    { "secrets", NULL, "[ACTION [NAME]]",
      "Values for the environment of containers: list, set, delete. None is ever shown.",
      OPTIONS({ "--file", "FILE|-", "set: the value, from a file or standard input, which is read unless told; a terminal asks for it.", false }, YES),
      "  perigee secrets set hub-token --file token.txt\n"
      "  perigee secrets list\n"
      "  perigee secrets delete hub-token\n",
      0, CLI_ARGUMENTS_MAX, cmd_secrets },
    { "pops", NULL, "[ACTION [NAME]]",
      "Points of presence: create, list, show, drain, token (a new one to join with), delete.",
      OPTIONS({ "--dns", NULL, "create: a DNS server for `perigee dns`, which runs no replicas.", false },
              { "--country", "CC", "create: where it stands, two capitals (ISO 3166-1).", false },
              { "--city", "CITY", "create: the city it stands in.", false },
              { "--at", "LAT,LON", "create: its coordinates in degrees.", false },
              { "--region", "LABEL", "create: a label, such as eu-west.", false },
              { "--address", "IP", "create: where clients reach its gateway.", true },
              { "--port", "N", "create: of its gateway there; where it listens unless told.", false },
              { "--flavor", "NAME", "create: an accelerator that stands there.", true },
              { "--cpu", "N", "create: cores it offers at most.", false },
              { "--memory", "SIZE", "create: memory it offers at most.", false },
              { "--replicas", "N", "create: replicas it runs at most.", false },
              { "--price-cpu", "MONEY", "create: of a core for an hour, such as '0.04 EUR'.", false },
              { "--price-memory", "MONEY", "create: of a GiB for an hour.", false },
              { "--ttl", "TIME", "create, token: how long the token is good for; 1h unless told.", false },
              { "--token-file", "FILE", "create, token: write the token to this new file as well.", false },
              { "--undo", NULL, "drain: let it run replicas again.", false }, YES),
      "  perigee pops create paris --country FR --city Paris --at 48.86,2.35\n"
      "  perigee pops list\n"
      "  perigee pops drain paris\n"
      "  perigee pops delete paris --yes\n",
      0, 2, cmd_pops },
    { "usage", NULL, "[NAME]", "Show what endpoints used and cost: requests, CPU, memory, cold starts.",
      OPTIONS({ "--by", "WORDS", "A row for each: project, endpoint, revision, pop, hour, day; by comma. endpoint unless told.", false },
              { "--since", "TIME", "From then on: 24h (ago), 2026-11-29, 2026-11-29T08:00:00Z; a day before unless told.", false },
              { "--until", "TIME", "Up to then; now unless told.", false },
              { "--pop", "NAME", "Only at this PoP.", false },
              { "--csv", NULL, "Print comma-separated values.", false }),
      "  perigee usage --since 7d --by day\n"
      "  perigee usage digits --by revision,pop\n"
      "  perigee usage --since 2026-11-01 --until 2026-12-01 --csv\n",
      0, 1, cmd_usage },
    { "admin", NULL, "prices [set]", "Show or set what use costs: a list of prices, each from a time on.",
      OPTIONS({ "--file", "FILE|-", "set: the list, YAML or JSON (docs/usage.md). Also -f.", false }),
      "  perigee admin prices\n"
      "  perigee admin prices set -f prices.yaml\n",
      1, 2, cmd_admin },
    { "doctor", NULL, "", "Look for what is wrong with this machine and home, and say what to do.",
      NULL, "  perigee doctor\n", 0, 0, cmd_doctor },
    { "version", NULL, "", "Print versions: Perigee, the database schema, the worker contract.",
      NULL, "  perigee version --json\n", 0, 0, cmd_version },
    { "completion", NULL, "SHELL", "Print completion for bash or zsh.", NULL,
      "  . <(perigee completion bash)\n", 1, 1, cmd_completion },
};
/* clang-format on */
const char *const cli_reserved[] = {
    "chat", "bench", "estimate", "budget", "receipt", "keys", "flavors", "catalog", "exec", NULL,
};
const size_t cli_command_count = sizeof cli_commands / sizeof *cli_commands;
