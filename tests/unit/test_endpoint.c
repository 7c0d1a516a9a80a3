/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "spec/names.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define FULL                                                                                       \
    "version: 1\nkind: endpoint\nname: digits\nproject: vision\nlabels: {team: a, b: \"2\"}\n"     \
    "model: ./digits.onnx\nsource: ./x.onnx\nruntime: onnx\nprotocol: oip\n"                       \
    "flavor: {cpu: 2.5, memory: 1GiB, accelerator: none}\nbatch: {max: 16, delay: 2ms}\n"          \
    "warmup: zeros\n"                                                                              \
    "regions: [EU, us]\nresidency: {process_in: [EU], unknown_client: DE}\n"                       \
    "scale: {min: 1, max: 3, per_pop: {min: 1, max: 2}, concurrency: 2}\n"                         \
    "queue: {depth: 5, timeout: 2s, cold: 1h}\n"                                                   \
    "timeout: 90s\nlimits: {body: 1KB}\naccess: {mode: open}\n"                                    \
    "cors: {origins: [\"https://a.example\", \"http://[::1]:8080\"]}\n"                            \
    "domains: [a.example.org]\naliases: [Org/Model_1.5]\n"

/* A key and its value in YAML behind a good name and model; the message, or NULL when it is good.
 */
static const struct {
    const char *yaml;
    int code;
    const char *message;
} rows[] = {
    { "", 0, NULL },
    { "version: 1", 0, NULL },
    { "version: 2", ERR_BAD_INPUT, "line 3: version: 2 is newer than this Perigee reads (1)" },
    { "version: 0", ERR_BAD_INPUT, "version: 0 is below 1" },
    { "version: '1'", ERR_BAD_INPUT, "version: must be an integer, not a string" },
    { "kind: endpoint", 0, NULL },
    { "kind: pop", ERR_BAD_INPUT, "kind: 'pop' is none of its values; it can be endpoint" },
    { "project: abc", 0, NULL },
    { "project: a2345678901234567890", 0, NULL },
    { "project: a23456789012345678901", ERR_BAD_INPUT, "has 21 characters; it needs 3 to 20" },
    { "project: 5", ERR_BAD_INPUT, "project: must be a string, not an integer; quote it" },
    { "labels: {team: vision}", 0, NULL },
    { "labels: {team: 5}", ERR_BAD_INPUT, "labels.team: must be a string, not an integer" },
    { "labels: [a]", ERR_BAD_INPUT, "labels: must be a map of strings, not a list" },
    { "labels: {\"a b\": c}", ERR_BAD_INPUT, "labels: the key 'a b' may hold" },
    { "labels:", ERR_BAD_INPUT, "labels: has no value; leave the key out for its default" },
    { "source: x", 0, NULL },
    { "source: ''", ERR_BAD_INPUT, "source: '' has 0 bytes; it needs 1 to 4096" },
    { "source: \"a\\nb\"", ERR_BAD_INPUT, "holds a control character" },
    { "runtime: onnx", 0, NULL },
    { "runtime: ONNX", ERR_BAD_INPUT, "runtime: the runtime 'ONNX' may hold small letters" },
    { "runtime: true", ERR_BAD_INPUT, "runtime: must be a string, not true; quote it" },
    { "protocol: oip", 0, NULL },
    { "protocol: openai", ERR_NOT_SUPPORTED,
      "protocol: 'openai' is not acted upon yet; it can be oip or http" },
    { "protocol: soap", ERR_BAD_INPUT,
      "protocol: 'soap' is none of its values; it can be oip or http" },
    { "protocol: http", ERR_BAD_INPUT, "protocol: a model speaks oip; http is an upstream's" },
    { "probes: {readiness: {http: {path: /}}}", ERR_BAD_INPUT,
      "probes: a model says itself when it is ready" },
    { "flavor: {cpu: 0.25}", 0, NULL },
    { "flavor: {cpu: 500m}", 0, NULL },
    { "flavor: {cpu: 1m}", 0, NULL },
    { "flavor: {cpu: 1024}", 0, NULL },
    { "flavor: {cpu: 1024.001}", ERR_BAD_INPUT, "flavor.cpu: 1024.001 is above 1024" },
    { "flavor: {cpu: 0}", ERR_BAD_INPUT, "flavor.cpu: 0 is below 1m" },
    { "flavor: {cpu: -1}", ERR_BAD_INPUT, "flavor.cpu: '-1' is not cores" },
    { "flavor: {cpu: lots}", ERR_BAD_INPUT, "flavor.cpu: 'lots' is not cores" },
    { "flavor: {cpu: []}", ERR_BAD_INPUT, "flavor.cpu: must be a number of cores" },
    { "flavor: {memory: 16MiB}", 0, NULL },
    { "flavor: {memory: 4096GiB}", 0, NULL },
    { "flavor: {memory: 16777215B}", ERR_BAD_INPUT, "flavor.memory: 16777215B is below 16MiB" },
    { "flavor: {memory: 4097GiB}", ERR_BAD_INPUT, "is above 4096GiB" },
    { "flavor: {memory: 512}", ERR_BAD_INPUT, "flavor.memory: '512' needs a unit: B, KB" },
    { "flavor: {memory: 0.5}", ERR_BAD_INPUT, "flavor.memory: '0.5' has an unknown unit" },
    { "flavor: {accelerator: none}", 0, NULL },
    { "flavor: {accelerator: nvidia}", ERR_NOT_SUPPORTED,
      "flavor.accelerator: 'nvidia' is not acted upon yet; it can be none" },
    { "flavor: small", ERR_NOT_SUPPORTED, "'flavor' is not acted upon yet as a name" },
    { "flavor: {cpus: 1}", ERR_BAD_INPUT, "unknown key 'flavor.cpus'; did you mean 'flavor.cpu'?" },
    { "warmup: zeros", 0, NULL },
    { "warmup: ./x.json", ERR_NOT_SUPPORTED, "warmup: './x.json' is not acted upon yet" },
    { "scale: {min: 0}", 0, NULL },
    { "scale: {min: 8}", 0, NULL },
    { "scale: {min: 1000, max: 1000}", 0, NULL },
    { "scale: {min: 9}", ERR_BAD_INPUT, "scale.min (9) is above scale.max (8)" },
    { "scale: {min: -1}", ERR_BAD_INPUT, "scale.min: -1 is below 0" },
    { "scale: {min: 1.0}", ERR_BAD_INPUT, "scale.min: must be an integer, not a number" },
    { "scale: {max: 1}", 0, NULL },
    { "scale: {max: 0}", ERR_BAD_INPUT, "scale.max: 0 is below 1" },
    { "scale: {max: 1001}", ERR_BAD_INPUT, "scale.max: 1001 is above 1000" },
    { "scale: {concurrency: 128}", 0, NULL },
    { "spread: {pops: 3}", 0, NULL },
    { "spread: {pops: 0}", ERR_BAD_INPUT, "spread.pops: 0 is below 1" },
    { "spread: {pops: 101}", ERR_BAD_INPUT, "spread.pops: 101 is above 100" },
    { "scale: {concurrency: 0}", ERR_BAD_INPUT, "scale.concurrency: 0 is below 1" },
    { "scale: {concurrency: 129}", ERR_BAD_INPUT, "scale.concurrency: 129 is above 128" },
    { "scale: {per_pop: {min: 0, max: 4}}", 0, NULL },
    { "scale: {per_pop: {min: 8}}", 0, NULL },
    { "scale: {per_pop: {}}", 0, NULL },
    { "scale: {per_pop: {max: 1000}}", 0, NULL },
    { "scale: {per_pop: {max: 0}}", ERR_BAD_INPUT, "scale.per_pop.max: 0 is below 1" },
    { "scale: {per_pop: {min: 3, max: 2}}", ERR_BAD_INPUT,
      "scale.per_pop.min (3) is above scale.per_pop.max (2)" },
    { "scale: {per_pop: {min: 9}}", ERR_BAD_INPUT, "scale.per_pop.min (9) is above scale.max (8)" },
    { "scale: {per_pop: {min: 3}}\nspread: {pops: 3}", ERR_BAD_INPUT,
      "scale.per_pop.min (3) at each of spread.pops (3) is more than scale.max (8)" },
    { "scale: {per_pop: {min: 3}, max: 9}\nspread: {pops: 3}", 0, NULL },
    { "scale: {per_pop: 3}", ERR_BAD_INPUT, "scale.per_pop: must be an object, not an integer" },
    { "scale: {per_pop: {maxi: 3}}", ERR_BAD_INPUT,
      "unknown key 'scale.per_pop.maxi'; did you mean 'scale.per_pop.max'?" },
    { "min: 3", ERR_BAD_INPUT, "unknown key 'min'; did you mean 'scale.min'?" },
    { "scale: {idle: 0s, down_delay: 5m}", 0, NULL },
    { "scale: {rps: 0.5/s}", 0, NULL },
    { "scale: {cpu: 70%}", 0, NULL },
    { "scale: {down_delay: 25h}", ERR_BAD_INPUT, "scale.down_delay: 25h is above 1d" },
    { "scale: {idle: 60}", ERR_BAD_INPUT, "scale.idle: '60' needs a unit" },
    { "scale: {idle: 2d}", ERR_BAD_INPUT, "scale.idle: 2d is above 1d" },
    { "scale: {rps: 50}", ERR_BAD_INPUT, "scale.rps: '50' needs a unit: /s (as in 100/s)" },
    { "scale: {rps: [1]}", ERR_BAD_INPUT, "scale.rps: must be a rate (as in 50/s)" },
    { "scale: {cpu: 170%}", ERR_BAD_INPUT, "scale.cpu: '170%' is more than 100%" },
    { "scale: {cpu: 0.5%}", ERR_BAD_INPUT, "scale.cpu: 0.5% is below 1%" },
    { "scale: {rps: 5/s, cpu: 70%}", ERR_BAD_INPUT,
      "scale.rps and scale.cpu: replicas follow one" },
    { "scale: 5", ERR_BAD_INPUT, "scale: must be an object, not an integer" },
    { "scale:", ERR_BAD_INPUT, "scale: has no value" },
    { "scale: {}", 0, NULL },
    { "queue: {depth: 0}", 0, NULL },
    { "queue: {depth: 65536}", 0, NULL },
    { "queue: {depth: 65537}", ERR_BAD_INPUT, "queue.depth: 65537 is above 65536" },
    { "queue: {timeout: 1ms, cold: 1d}", 0, NULL },
    { "queue: {timeout: 999us}", ERR_BAD_INPUT, "queue.timeout: 999us is below 1ms" },
    { "queue: {timeout: 30}", ERR_BAD_INPUT,
      "queue.timeout: '30' needs a unit: us, ms, s, m, h, d (as in 30s)" },
    { "queue: {cold: 25h}", ERR_BAD_INPUT, "queue.cold: 25h is above 1d" },
    { "queue: {cold: [1]}", ERR_BAD_INPUT, "queue.cold: must be a time (as in 30s), not a list" },
    { "timeout: 1d", 0, NULL },
    { "timeout: 0s", ERR_BAD_INPUT, "timeout: 0s is below 1ms" },
    { "timeuot: 60s", ERR_BAD_INPUT, "line 3: unknown key 'timeuot'; did you mean 'timeout'?" },
    { "limits: {body: 16GiB}", 0, NULL },
    { "limits: {body: 1B}", 0, NULL },
    { "limits: {body: 0B}", ERR_BAD_INPUT, "limits.body: 0B is below 1B" },
    { "limits: {body: 17GiB}", ERR_BAD_INPUT, "limits.body: 17GiB is above 16GiB" },
    { "scale: {schedule: [{cron: '0 8 * * 1-5', tz: Europe/Paris, for: 10h, min: 2}]}", 0, NULL },
    { "scale: {schedule: [{cron: '*/5 * * * *', for: 1m, min: 1}, {cron: '0 0 1 1 *', tz: UTC, "
      "for: 366d, min: 8}]}",
      0, NULL },
    { "scale: {schedule: []}", 0, NULL },
    { "scale: {schedule: {cron: '0 8 * * *'}}", ERR_BAD_INPUT,
      "scale.schedule: must be a list of {cron, tz, for, min}, not an object" },
    { "scale: {schedule: [daily]}", ERR_BAD_INPUT, "scale.schedule[0]: must be an object" },
    { "scale: {schedule: [{for: 1h, min: 1}]}", ERR_BAD_INPUT,
      "scale.schedule[0]: 'cron' is missing, as in" },
    { "scale: {schedule: [{cron: 8, for: 1h, min: 1}]}", ERR_BAD_INPUT,
      "scale.schedule[0]: cron: must be a string" },
    { "scale: {schedule: [{cron: '0 0 30 2 *', for: 1h, min: 1}]}", ERR_BAD_INPUT,
      "scale.schedule[0]: cron: it never comes" },
    { "scale: {schedule: [{cron: '0 8 * * *', tz: ../etc, for: 1h, min: 1}]}", ERR_BAD_INPUT,
      "scale.schedule[0]: tz: '../etc' is no name of a time zone" },
    { "scale: {schedule: [{cron: '0 8 * * *', tz: 1, for: 1h, min: 1}]}", ERR_BAD_INPUT,
      "scale.schedule[0]: tz: must be a string" },
    { "scale: {schedule: [{cron: '0 8 * * *', min: 1}]}", ERR_BAD_INPUT, "'for' is missing" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 10, min: 1}]}", ERR_BAD_INPUT,
      "scale.schedule[0]: for: must be a string, as in 10h, not an integer" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 59s, min: 1}]}", ERR_BAD_INPUT,
      "for: '59s' is not within 1m to 366d" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 367d, min: 1}]}", ERR_BAD_INPUT,
      "for: '367d' is not within" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 60500ms, min: 1}]}", ERR_BAD_INPUT,
      "in whole seconds" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 1h}]}", ERR_BAD_INPUT, "'min' is missing" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 1h, min: 0}]}", ERR_BAD_INPUT,
      "min: 0 is not within 1 to 1000; no window lowers scale.min" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 1h, min: -1}]}", ERR_BAD_INPUT,
      "min: must be an integer, not one below 0" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 1h, min: 9}]}", ERR_BAD_INPUT,
      "scale.schedule[0].min (9) is above scale.max (8)" },
    { "scale: {schedule: [{cron: '0 8 * * *', for: 1h, min: 1, mn: 2}]}", ERR_BAD_INPUT,
      "scale.schedule[0]: unknown key 'mn'; did you mean 'min'?" },
    { "traffic: {canary: 10%, sticky: address}", 0, NULL },
    { "traffic: {canary: 100%}", 0, NULL },
    { "traffic: {canary: 0%}", ERR_BAD_INPUT, "traffic.canary: 0% is below 0.1%" },
    { "traffic: {canary: 101%}", ERR_BAD_INPUT, "traffic.canary: '101%'" },
    { "traffic: {canary: 10}", ERR_BAD_INPUT, "traffic.canary: '10'" },
    { "traffic: {canary: [10%]}", ERR_BAD_INPUT,
      "traffic.canary: must be a share (as in 70%), not a list" },
    { "traffic: {split: [{revision: 3, weight: 90}, {revision: latest, weight: 10}]}", 0, NULL },
    { "traffic: {split: [{revision: 3, weight: 0}, {revision: 4, weight: 1000000}]}", 0, NULL },
    { "traffic: {split: {revision: 3}}", ERR_BAD_INPUT,
      "traffic.split: must be a list of {revision, weight}, not an object" },
    { "traffic: {split: []}", ERR_BAD_INPUT, "traffic.split: 0 entries; there can be 1 to 4" },
    { "traffic: {split: [{revision: 1, weight: 1}, {revision: 2, weight: 1}, {revision: 3, weight: "
      "1}, {revision: 4, weight: 1}, {revision: 5, weight: 1}]}",
      ERR_BAD_INPUT, "traffic.split: 5 entries; there can be 1 to 4" },
    { "traffic: {split: [{revision: 3, weight: 0}]}", ERR_BAD_INPUT,
      "traffic.split: all weights are 0" },
    { "traffic: {split: [3]}", ERR_BAD_INPUT, "traffic.split[0]: must be an object" },
    { "traffic: {split: [{weight: 1}]}", ERR_BAD_INPUT, "traffic.split[0]: 'revision' is missing" },
    { "traffic: {split: [{revision: 1}]}", ERR_BAD_INPUT, "traffic.split[0]: 'weight' is missing" },
    { "traffic: {split: [{revision: newest, weight: 1}]}", ERR_BAD_INPUT,
      "traffic.split[0]: revision: must be an integer or latest, not a string" },
    { "traffic: {split: [{revision: 0, weight: 1}]}", ERR_BAD_INPUT,
      "revision: 0 is not within 1 to 16777215" },
    { "traffic: {split: [{revision: 1, weight: -1}]}", ERR_BAD_INPUT,
      "weight: must be an integer, not one below 0" },
    { "traffic: {split: [{revision: 1, weight: 1000001}]}", ERR_BAD_INPUT,
      "weight: 1000001 is not within 0 to 1000000" },
    { "traffic: {split: [{revision: 1, weight: 1}, {revision: 1, weight: 2}]}", ERR_BAD_INPUT,
      "traffic.split[1]: that revision is there twice" },
    { "traffic: {split: [{revision: 1, weight: 1, wieght: 2}]}", ERR_BAD_INPUT,
      "traffic.split[0]: unknown key 'wieght'; did you mean 'weight'?" },
    { "traffic: {canary: 10%, split: [{revision: 1, weight: 1}]}", ERR_BAD_INPUT,
      "traffic.canary and traffic.split: both say" },
    { "traffic: {sticky: key}", ERR_NOT_SUPPORTED,
      "traffic.sticky: 'key' is not acted upon yet; it can be none or address" },
    { "traffic: {sticky: ip}", ERR_BAD_INPUT, "traffic.sticky: 'ip' is none of its values" },
    { "traffic: {shadow: 4}", ERR_NOT_SUPPORTED, "'traffic.shadow' is not acted upon yet" },
    { "limits: {rate: 100/s}", ERR_NOT_SUPPORTED, "'limits.rate' is not acted upon yet" },
    { "access: {mode: open}", 0, NULL },
    { "access: {mode: keys}", ERR_NOT_SUPPORTED, "access.mode: 'keys' is not acted upon yet" },
    { "access: {mode: closed}", ERR_BAD_INPUT, "access.mode: 'closed' is none of its values" },
    { "cors: {origins: [\"https://a.example:8443\"]}", 0, NULL },
    { "cors: {origins: []}", 0, NULL },
    { "cors: {origins: [\"*\"]}", ERR_BAD_INPUT, "cors.origins: '*' is no origin" },
    { "cors: {origins: [\"https://a.example/x\"]}", ERR_BAD_INPUT, "is no origin: http or https" },
    { "cors: {origins: https://a.example}", ERR_BAD_INPUT,
      "cors.origins: must be a list, not a string" },
    { "domains: [a.example.org, b.example.org]", 0, NULL },
    { "domains: [A.example.org]", ERR_BAD_INPUT, "domains: 'A.example.org' is no host name" },
    { "domains: [localhost]", ERR_BAD_INPUT, "domains: 'localhost' is one label" },
    { "domains: [10.0.0.1]", ERR_BAD_INPUT, "is an address, not a host name" },
    { "domains: [a.org,\n  a.org]", ERR_BAD_INPUT, "line 4: domains: 'a.org' is there twice" },
    { "domains: [5]", ERR_BAD_INPUT, "domains[0]: must be a string, not an integer" },
    { "aliases: [Org/Model_1.5, x]", 0, NULL },
    { "aliases: [digits]", ERR_BAD_INPUT, "aliases: 'digits' is the endpoint's own name" },
    { "aliases: [a//b]", ERR_BAD_INPUT, "aliases: the model name 'a//b'" },
    { "aliases: [../b]", ERR_BAD_INPUT, "aliases: the model name '../b'" },
    { "residency: {process_in: [EU]}", 0, NULL },
    { "residency: {process_in: [EU, CH, DACH, G-20], transit: any, logs: [DE]}", 0, NULL },
    { "residency: {process_in: any, unknown_client: refuse}", 0, NULL },
    { "residency: {process_in: same-country, unknown_client: DE}", 0, NULL },
    { "residency: {rules: [{clients: [EU], process_in: [EU]}, {clients: any, process_in: any}]}", 0,
      NULL },
    { "residency: {transit: any, rules: [{clients: [EU], process_in: [EU], cache: [DE]}]}", 0,
      NULL },
    { "residency: {}", ERR_BAD_INPUT, "residency: says nothing; it needs 'rules' or 'process_in'" },
    { "residency: {unknown_client: DE}", ERR_BAD_INPUT, "residency: says nothing" },
    { "residency: {transit: [EU]}", ERR_BAD_INPUT, "residency: says nothing" },
    { "residency:", ERR_BAD_INPUT, "residency: has no value; leave the key out for its default" },
    { "residency: [EU]", ERR_BAD_INPUT, "residency: must be an object, not a list" },
    { "residency: EU", ERR_BAD_INPUT, "residency: must be an object, not a string" },
    { "residency: {process_in: []}", ERR_BAD_INPUT, "residency.process_in: the list is empty" },
    { "residency: {process_in: EU}", ERR_BAD_INPUT,
      "residency.process_in: 'EU' is none of its words: a list (as in [EU, CH]), any or "
      "same-country" },
    { "residency: {process_in: [any]}", ERR_BAD_INPUT, "'any' stands alone, not in a list" },
    { "residency: {process_in: [NO, no]}", ERR_BAD_INPUT,
      "residency.process_in: 'no' is no country" },
    { "residency: {process_in: [eu-west]}", ERR_BAD_INPUT, "'eu-west' is no country" },
    { "residency: {process_in: [false]}", ERR_BAD_INPUT, "must hold strings, not false; quote it" },
    { "residency: {process_in: [5]}", ERR_BAD_INPUT, "must hold strings, not an integer" },
    { "residency: {process_in: [EU,\n  EU]}", ERR_BAD_INPUT,
      "line 4: residency.process_in: 'EU' is there twice" },
    { "residency: {process_in: null}", ERR_BAD_INPUT,
      "residency.process_in: must be a list (as in [EU, CH]), any or same-country, not null" },
    { "residency: {proces_in: [EU]}", ERR_BAD_INPUT,
      "residency: unknown key 'proces_in'; did you mean 'process_in'?" },
    { "residency: {process_in: [EU], rules: [{clients: any, process_in: any}]}", ERR_BAD_INPUT,
      "residency: 'rules' and 'process_in' exclude each other" },
    { "residency: {rules: []}", ERR_BAD_INPUT, "residency.rules: without a rule" },
    { "residency: {rules: {}}", ERR_BAD_INPUT, "residency.rules: must be a list, not an object" },
    { "residency: {rules: [[EU]]}", ERR_BAD_INPUT,
      "residency.rules[0]: must be an object, not a list" },
    { "residency: {rules: [{process_in: [EU]}]}", ERR_BAD_INPUT,
      "residency.rules[0]: 'clients' is missing; for whoever is left say any" },
    { "residency: {rules: [{clients: any}]}", ERR_BAD_INPUT,
      "residency.rules[0]: 'process_in' is missing" },
    { "residency: {rules: [{clients: same-country, process_in: any}]}", ERR_BAD_INPUT,
      "residency.rules[0].clients: 'same-country' is none of its words: a list (as in [EU, CH]) or "
      "any" },
    { "residency: {rules: [{clients: [EU], client: [CH], process_in: any}]}", ERR_BAD_INPUT,
      "residency.rules[0]: unknown key 'client'; did you mean 'clients'?" },
    { "residency:\n  rules:\n  - {clients: any, process_in: any}\n"
      "  - {clients: [EU], process_in: any}",
      ERR_BAD_INPUT, "line 6: residency.rules[1]: can never hold" },
    { "residency: {process_in: any, unknown_client: EU2}", ERR_BAD_INPUT,
      "residency.unknown_client: 'EU2' is neither refuse nor a country's code" },
    { "residency: {process_in: any, unknown_client: [DE]}", ERR_BAD_INPUT,
      "residency.unknown_client: must be refuse or a country's code, not a list" },
    { "regions: [EU, CH, DACH, us, us-east, paris-1]", 0, NULL },
    { "regions: []", ERR_BAD_INPUT, "regions: the list is empty; leave the key out" },
    { "regions: EU", ERR_BAD_INPUT, "regions: must be a list, not a string" },
    { "regions: [Eu]", ERR_BAD_INPUT, "regions: 'Eu' is neither a country" },
    { "regions: [a]", ERR_BAD_INPUT, "regions: 'a' is neither a country" },
    { "regions: [us--east]", ERR_BAD_INPUT, "regions: 'us--east' is neither a country" },
    { "regions: [EU, EU]", ERR_BAD_INPUT, "regions: 'EU' is there twice" },
    { "regions: [true]", ERR_BAD_INPUT, "regions[0]: must be a string, not true" },
    { "region: [EU]", ERR_BAD_INPUT, "unknown key 'region'; did you mean 'regions'?" },
    { "batch: {max: 16}", 0, NULL },
    { "batch: {max: 1024, delay: 1s}", 0, NULL },
    { "batch: {max: 1, delay: 0ms}", 0, NULL },
    { "batch: {}", 0, NULL },
    { "batch: {max: 0}", ERR_BAD_INPUT, "batch.max: 0 is below 1" },
    { "batch: {max: 1025}", ERR_BAD_INPUT, "batch.max: 1025 is above 1024" },
    { "batch: {max: 4, delay: 2}", ERR_BAD_INPUT, "batch.delay: '2' needs a unit" },
    { "batch: {max: 4, delay: 1001ms}", ERR_BAD_INPUT, "batch.delay: 1001ms is above 1s" },
    { "batch: {delay: 2ms}", ERR_BAD_INPUT, "batch.delay is there without batch.max" },
    { "batch: {size: 4}", ERR_BAD_INPUT, "unknown key 'batch.size'" },
    { "batch: 16", ERR_BAD_INPUT, "batch: must be an object, not an integer" },
    { "env: {A: b}", ERR_NOT_SUPPORTED, "'env' is not acted upon yet" },
    { "slo: 5", ERR_NOT_SUPPORTED, "'slo' is not acted upon yet (reserved for later)" },
    { "image: nginx", ERR_NOT_SUPPORTED, "'image' is not acted upon yet" },
    { "upstream: http://shop:8080", 0, NULL },
    { "upstream: http://10.0.0.1", 0, NULL },
    { "upstream: http://[2001:db8::1]:81/", 0, NULL },
    { "upstream: http://a_b.c-d.example", 0, NULL },
    { "upstream: http://a\nprotocol: oip", 0, NULL },
    { "upstream: http://a\nscale: {concurrency: 5000}", 0, NULL },
    { "upstream: https://shop", ERR_NOT_SUPPORTED, "upstream: 'https://' is not acted upon yet" },
    { "upstream: shop:8080", ERR_BAD_INPUT, "'shop:8080' is no URL like http://HOST:PORT" },
    { "upstream: ''", ERR_BAD_INPUT, "upstream: '' has 0 bytes" },
    { "upstream: http://", ERR_BAD_INPUT, "upstream: '' is no host" },
    { "upstream: http://:80", ERR_BAD_INPUT, "upstream: '' is no host" },
    { "upstream: http://a..b", ERR_BAD_INPUT, "'a..b' is no host" },
    { "upstream: http://a b", ERR_BAD_INPUT, "'a b' is no host" },
    { "upstream: http://a/b", ERR_BAD_INPUT, "has more than a host and a port" },
    { "upstream: http://a?b", ERR_BAD_INPUT, "has more than a host and a port" },
    { "upstream: http://u:p@a", ERR_BAD_INPUT, "has more than a host and a port" },
    { "upstream: http://a:0", ERR_BAD_INPUT, "'0' is no port" },
    { "upstream: http://a:65536", ERR_BAD_INPUT, "'65536' is no port" },
    { "upstream: 'http://a:'", ERR_BAD_INPUT, "'' is no port" },
    { "upstream: 'http://[::1'", ERR_BAD_INPUT, "is no IPv6 address in brackets" },
    { "upstream: http://[1.2.3.4]", ERR_BAD_INPUT, "is no IPv6 address in brackets" },
    { "upstream: http://[::1]x", ERR_BAD_INPUT, "is no URL like" },
    { "upstream: http://a\nscale: {min: 1}", ERR_BAD_INPUT, "scale.min: an upstream already runs" },
    { "upstream: http://a\nbatch: {max: 2}", ERR_BAD_INPUT, "batch.max: an upstream already runs" },
    { "upstream: http://a\nruntime: onnx", ERR_BAD_INPUT, "runtime: an upstream already runs" },
    { "probes: {startup: {tcp: {port: 1}}}", ERR_NOT_SUPPORTED,
      "'probes.startup' is not acted upon yet" },
    { "probes: {readiness: {exec: [a]}}", ERR_NOT_SUPPORTED,
      "'probes.readiness.exec' is not acted upon yet" },
    { "probes: {readiness: {http: {path: /h, port: 81}, period: 1s, timeout: 1s, failures: 2}}\n"
      "upstream: http://a",
      0, NULL },
    { "probes: {readiness: {tcp: {port: 81}}}\nupstream: http://a", 0, NULL },
    { "probes: {readiness: {http: {path: h}}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.http.path: 'h' must begin with '/'" },
    { "probes: {readiness: {http: {path: '/a b'}}}\nupstream: http://a", ERR_BAD_INPUT,
      "must begin with '/'" },
    { "probes: {readiness: {http: {port: 80}}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.http: 'path' is missing" },
    { "probes: {readiness: {http: {path: /, port: 0}}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.http.port: 0 is below 1" },
    { "probes: {readiness: {tcp: {port: 65536}}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.tcp.port: 65536 is above 65535" },
    { "probes: {readiness: {http: {path: /}, tcp: {port: 80}}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness: either http or tcp" },
    { "probes: {readiness: {tcp: {}}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.tcp: is empty" },
    { "probes: {readiness: {period: 1ms}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.period: 1ms is below 10ms" },
    { "probes: {readiness: {timeout: 6m}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.timeout: 6m is above 5m" },
    { "probes: {readiness: {failures: 0}}\nupstream: http://a", ERR_BAD_INPUT,
      "probes.readiness.failures: 0 is below 1" },
    { "concurrency: 3", ERR_BAD_INPUT,
      "unknown key 'concurrency'; did you mean 'scale.concurrency'?" },
    { "scale.min: 3", ERR_BAD_INPUT, "unknown key 'scale.min'" },
    { "xyzzy: 3", ERR_BAD_INPUT, "unknown key 'xyzzy'" },
    { "\"\\0\": 3", ERR_BAD_INPUT, "unknown key '\\x00'" },
    { "name: other", ERR_BAD_INPUT, "'name' is there twice" },
};

static int parse(struct arena *arena, const char *yaml, struct endpoint_spec *spec, struct err *err)
{
    struct endpoint_specs specs;
    int r = endpoint_spec_parse_text(arena, slice_of(yaml), SPEC_YAML, 0, &specs, err);

    if (r == 0) {
        assert_int_equal(specs.count, 1);
        *spec = specs.items[0];
    }
    return r;
}

static void assert_same(struct arena *arena, const struct endpoint_spec *a,
                        const struct endpoint_spec *b)
{
    struct spec_changes changes = endpoint_spec_diff(arena, a, b);

    if (changes.count)
        fail_msg("%s: %s became %s", changes.items[0].key, changes.items[0].before.data,
                 changes.items[0].after.data);
}

/* "a.b.c" as it stands in a spec, with a value. */
static const char *nested(struct arena *arena, const char *key)
{
    struct slice rest = slice_of(key);
    const char *text = "name: digits\nmodel: m\n", *end = "x";
    while (rest.data) {
        struct slice word = slice_cut(&rest, '.');
        text = arena_format(arena, "%s%.*s: %s", text, SLICE_FMT(word), rest.data ? "{" : "");
        end = rest.data ? arena_format(arena, "%s}", end) : end;
    }
    return arena_format(arena, "%s%s\n", text, end);
}

/* Printed in every form and read again, it is the same; and export is as short as it was. */
static void round_trip(struct arena *arena, const struct endpoint_spec *spec)
{
    for (unsigned flags = 0; flags <= SPEC_WITH_DEFAULTS; flags++) {
        struct endpoint_specs again;
        struct err err;
        struct slice yaml = endpoint_spec_yaml(arena, spec, flags);
        if (endpoint_spec_parse_text(arena, yaml, SPEC_YAML, 0, &again, &err) < 0)
            fail_msg("%s\n%s", err.message, yaml.data);
        assert_same(arena, spec, &again.items[0]);
        assert_string_equal(endpoint_spec_yaml(arena, &again.items[0], flags).data, yaml.data);
        struct slice json = endpoint_spec_json(arena, spec, flags);
        if (endpoint_spec_parse_text(arena, json, SPEC_JSON, 0, &again, &err) < 0)
            fail_msg("%s\n%s", err.message, json.data);
        assert_same(arena, spec, &again.items[0]);
    }
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec;
        struct err err = {};
        bool upstream = strstr(rows[i].yaml, "upstream: ");
        const char *yaml = arena_format(arena, "name: digits\n%s\n%s\n",
                                        upstream ? "" : "model: m.onnx", rows[i].yaml);
        print_message("  %s\n", rows[i].yaml);
        int r = parse(arena, yaml, &spec, &err);
        if (r != rows[i].code)
            fail_msg("%d, not %d: %s", r, rows[i].code, err.message);
        if (rows[i].message && !strstr(err.message, rows[i].message))
            fail_msg("'%s' lacks '%s'", err.message, rows[i].message);
        if (r == 0)
            round_trip(arena, &spec);
        arena_free(arena);
    }
}

/* Each live key has a good and a bad row above; each that is not refuses whatever it gets. */
static void test_every_option(void **state)
{
    (void)state;
    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        struct arena *arena = arena_new();
        struct endpoint_spec spec;
        struct err err = {};
        struct slice rest = slice_of(option->key);
        struct slice group = slice_cut(&rest, '.');
        const char *dot = rest.data ? strrchr(rest.data, '.') : NULL;
        print_message("  %s\n", option->key);
        if (option->status != OPTION_LIVE) {
            const char *yaml = nested(arena, option->key);
            assert_int_equal(parse(arena, yaml, &spec, &err), ERR_NOT_SUPPORTED);
            assert_non_null(strstr(err.message, option->key));
            assert_non_null(strstr(err.message, "not acted upon yet"));
        } else if (strcmp(option->key, "name") != 0 && strcmp(option->key, "model") != 0) {
            bool good = false, bad = false;
            for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
                bool about = slice_starts(slice_of(rows[j].yaml), group) &&
                             (!rest.data || strstr(rows[j].yaml, dot ? dot + 1 : rest.data));
                good |= about && rows[j].code == 0;
                bad |= about && rows[j].code < 0 && strstr(rows[j].message, option->key);
            }
            assert_true(good && bad);
        }
        assert_true(option->help && *option->help);
        arena_free(arena);
    }
}

static void test_full(void **state)
{
    struct arena *arena = arena_new();
    struct endpoint_spec spec;
    struct err err;

    (void)state;
    if (parse(arena, FULL, &spec, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(slice_is(spec.project, "vision"));
    assert_true(slice_is(spec.labels.items[0].key, "b"));
    assert_int_equal(spec.flavor.cpu_milli, 2500);
    assert_int_equal(spec.flavor.memory_bytes, 1 << 30);
    assert_int_equal(spec.scale.concurrency, 2);
    assert_true(spec.queue.cold_ns == UINT64_C(3600'000'000'000));
    assert_int_equal(spec.limits.body_bytes, 1000);
    assert_int_equal(spec.cors.origins.count, 2);
    assert_string_equal(
        endpoint_spec_yaml(arena, &spec, 0).data,
        "version: 1\nname: digits\nproject: vision\nlabels:\n  b: \"2\"\n  team: a\n"
        "model: ./digits.onnx\nsource: ./x.onnx\nruntime: onnx\nflavor:\n  cpu: 2.5\n"
        "  memory: 1GiB\nbatch:\n  max: 16\n  delay: 2ms\nregions:\n  - EU\n  - us\n"
        "residency:\n  process_in:\n    - EU\n  unknown_client: DE\nscale:\n  min: 1\n  max: 3\n  "
        "per_pop:\n    min: 1\n    max: 2\n  concurrency: 2\nqueue:\n"
        "  depth: 5\n  timeout: 2s\n  cold: 1h\ntimeout: 90s\nlimits:\n  body: 1KB\n"
        "cors:\n  origins:\n    - https://a.example\n"
        "    - \"http://[::1]:8080\"\ndomains:\n  - a.example.org\n"
        "aliases:\n  - Org/Model_1.5\n");
    round_trip(arena, &spec);
    assert_int_equal(parse(arena, "name: digits\nmodel: m\n", &spec, &err), 0);
    assert_string_equal(endpoint_spec_json(arena, &spec, 0).data,
                        "{\"version\":1,\"name\":\"digits\",\"model\":\"m\"}");
    assert_string_equal(
        endpoint_spec_json(arena, &spec, SPEC_WITH_DEFAULTS).data,
        "{\"version\":1,\"kind\":\"endpoint\",\"name\":\"digits\",\"project\":\"default\","
        "\"labels\":{},\"model\":\"m\",\"protocol\":\"oip\",\"flavor\":{\"cpu\":1,"
        "\"memory\":\"512MiB\",\"accelerator\":\"none\"},\"warmup\":\"zeros\",\"scale\":{\"min\":0,"
        "\"max\":8,\"per_pop\":{\"min\":0},\"down_delay\":\"0s\",\"idle\":\"2m\"},\"queue\":{"
        "\"depth\":256,\"timeout\":\"30s\",\"cold\":"
        "\"5m\"}"
        ","
        "\"timeout\":\"1m\",\"limits\":{\"body\":\"64MiB\"},\"access\":{\"mode\":\"open\"},"
        "\"cors\":{\"origins\":[]},\"domains\":[],\"aliases\":[]}");
    arena_free(arena);
}

static void test_concurrency(void **state)
{
    static const struct {
        uint64_t told, batch_max;
        uint32_t wanted, while_short;
    } all[] = {
        { 0, 0, 4, 8 },        { 0, 1, 4, 8 },       { 0, 2, 4, 8 },  { 0, 3, 6, 8 },
        { 0, 9, 18, 18 },      { 0, 16, 32, 32 },    { 3, 16, 3, 3 }, { 0, 64, 128, 128 },
        { 0, 1024, 128, 128 }, { 128, 0, 128, 128 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(spec_concurrency(all[i].told, all[i].batch_max), all[i].wanted);
        assert_int_equal(spec_places_max(all[i].told, all[i].batch_max), all[i].while_short);
    }
}

/* As written, and the shortest form that says the same. */
static void test_residency_forms(void **state)
{
    static const struct {
        const char *yaml, *json;
    } forms[] = {
        { "{process_in: [EU], transit: [EU], logs: [EU]}", "{\"process_in\":[\"EU\"]}" },
        { "{process_in: any, unknown_client: refuse}", "{\"process_in\":\"any\"}" },
        { "{rules: [{clients: any, process_in: [CH], cache: same-country}]}",
          "{\"process_in\":[\"CH\"],\"cache\":\"same-country\"}" },
        { "{rules: [{clients: [EU], process_in: [EU]}], unknown_client: DE}",
          "{\"rules\":[{\"clients\":[\"EU\"],\"process_in\":[\"EU\"]}],"
          "\"unknown_client\":\"DE\"}" },
        { "{logs: [DE], rules: [{clients: [DE], process_in: [DE]}, {clients: any, process_in: any, "
          "transit: [EU]}]}",
          "{\"rules\":[{\"clients\":[\"DE\"],\"process_in\":[\"DE\"]},"
          "{\"clients\":\"any\",\"process_in\":\"any\",\"transit\":[\"EU\"],\"logs\":[\"DE\"]}]}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec;
        struct err err;
        print_message("  %s\n", forms[i].yaml);
        if (parse(arena,
                  arena_format(arena, "name: digits\nmodel: m\nresidency: %s\n", forms[i].yaml),
                  &spec, &err) < 0)
            fail_msg("%s", err.message);
        assert_string_equal(
            endpoint_spec_json(arena, &spec, 0).data,
            arena_format(arena,
                         "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"residency\":%s}",
                         forms[i].json));
        round_trip(arena, &spec);
        arena_free(arena);
    }
}

static void test_documents(void **state)
{
    static const struct {
        const char *text;
        enum spec_form form;
        unsigned flags;
        int code;
        const char *message;
        size_t count;
    } files[] = {
        { "name: aaa\nmodel: m\n---\nname: bbb\nmodel: m\n", SPEC_YAML, 0, 0, NULL, 2 },
        { "name: aaa\nmodel: m\n---\nname: aaa\nmodel: m\n", SPEC_YAML, 0, ERR_BAD_INPUT,
          "the endpoint 'aaa' is there twice", 0 },
        { "name: aaa\nmodel: m\n---\nname: aaa\nmodel: m\nproject: other\n", SPEC_YAML, 0, 0, NULL,
          2 },
        { "name: aaa\nmodel: m\n---\nname: bbb\n", SPEC_YAML, 0, ERR_BAD_INPUT,
          "line 4: 'model' is missing", 0 },
        { "", SPEC_YAML, 0, ERR_BAD_INPUT, "there is no document in it", 0 },
        { "[]", SPEC_JSON, 0, ERR_BAD_INPUT, "there is no document in it", 0 },
        { "- a", SPEC_YAML, 0, ERR_BAD_INPUT, "a spec must be an object, not a list", 0 },
        { "5", SPEC_JSON, 0, ERR_BAD_INPUT, "a spec must be an object, not an integer", 0 },
        { "model: m", SPEC_YAML, 0, ERR_BAD_INPUT, "'name' is missing", 0 },
        { "model: m", SPEC_YAML, SPEC_NAME_OPTIONAL, 0, NULL, 1 },
        { "name: aaa\nmodel: " DIGEST, SPEC_YAML, 0, 0, NULL, 1 },
        { "name: aaa\nmodel: sha256:12", SPEC_YAML, 0, ERR_BAD_INPUT, "is no digest", 0 },
        { "name: aaa\nmodel: hf://a/b", SPEC_YAML, 0, ERR_NOT_SUPPORTED,
          "model: 'hf://' is not acted upon yet", 0 },
        { "name: aaa\nmodel: 5", SPEC_YAML, 0, ERR_BAD_INPUT, "line 2: model: must be a string",
          0 },
        { "name: ''\nmodel: m", SPEC_YAML, 0, ERR_BAD_INPUT, "name: the endpoint name is empty",
          0 },
        { "[{\"name\":\"aaa\",\"model\":\"m\"},{\"name\":\"b\",\"model\":\"m\"}]", SPEC_JSON, 0,
          ERR_BAD_INPUT, "document 2: name: the endpoint name 'b' has 1 characters", 0 },
        { "{\"name\":\"aaa\",\"name\":\"aaa\"}", SPEC_JSON, 0, ERR_BAD_INPUT,
          "'name' is there twice", 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct arena *arena = arena_new();
        struct endpoint_specs specs = {};
        struct err err = {};
        print_message("  %s\n", files[i].text);
        int r = endpoint_spec_parse_text(arena, slice_of(files[i].text), files[i].form,
                                         files[i].flags, &specs, &err);
        if (r != files[i].code)
            fail_msg("%d, not %d: %s", r, files[i].code, err.message);
        if (files[i].message && !strstr(err.message, files[i].message))
            fail_msg("'%s' lacks '%s'", err.message, files[i].message);
        assert_int_equal(specs.count, files[i].count);
        arena_free(arena);
    }
}

static void test_diff(void **state)
{
    struct arena *arena = arena_new();
    struct endpoint_spec a, b;
    struct err err;

    (void)state;
    assert_int_equal(parse(arena, "name: aaa\nmodel: m\ntimeout: 60s\n", &a, &err), 0);
    assert_int_equal(parse(arena, "name: aaa\nmodel: m\ntimeout: 1m\n", &b, &err), 0);
    assert_int_equal(endpoint_spec_diff(arena, &a, &b).count, 0);
    assert_int_equal(parse(arena, "name: aaa\nmodel: m\ntimeout: 2m\nsource: x\n", &b, &err), 0);
    struct spec_changes changes = endpoint_spec_diff(arena, &a, &b);
    assert_int_equal(changes.count, 2);
    assert_false(changes.new_revision);
    assert_string_equal(changes.items[1].key, "timeout");
    assert_string_equal(changes.items[1].before.data, "\"1m\"");
    assert_string_equal(changes.items[1].after.data, "\"2m\"");
    assert_true(
        slice_equal(endpoint_spec_what_runs(arena, &a), endpoint_spec_what_runs(arena, &b)));
    assert_int_equal(parse(arena, "name: aaa\nmodel: n\nflavor: {cpu: 2}\n", &b, &err), 0);
    changes = endpoint_spec_diff(arena, &a, &b);
    assert_int_equal(changes.count, 2);
    assert_true(changes.new_revision);
    assert_false(
        slice_equal(endpoint_spec_what_runs(arena, &a), endpoint_spec_what_runs(arena, &b)));
    arena_free(arena);
}

static void test_patch(void **state)
{
    static const struct {
        const char *patch, *wanted;
    } patches[] = {
        { "{}", "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"scale\":{\"min\":1,"
                "\"max\":3}}" },
        { "{\"scale\":{\"min\":2}}", "{\"version\":1,\"name\":\"digits\",\"model\":\"m\","
                                     "\"scale\":{\"min\":2,\"max\":3}}" },
        { "{\"scale\":null,\"timeout\":\"90s\"}",
          "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"timeout\":\"90s\"}" },
        { "{\"scale\":{\"max\":null}}", "{\"version\":1,\"name\":\"digits\",\"model\":\"m\","
                                        "\"scale\":{\"min\":1}}" },
        { "{\"scale\":{\"min\":4}}", "scale.min (4) is above scale.max (3)" },
        { "{\"model\":null}", "'model' is missing" },
        { "{\"residency\":{}}", "residency: says nothing" },
        { "{\"residency\":{\"process_in\":[\"EU\"]}}",
          "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"residency\":{\"process_in\":["
          "\"EU\"]},"
          "\"scale\":{\"min\":1,\"max\":3}}" },
        { "{\"scael\":{}}", "did you mean 'scale'?" },
        { "[]", "a patch must be an object, not a list" },
    };
    struct arena *arena = arena_new();
    struct endpoint_spec spec, changed;
    struct err err = {};

    (void)state;
    assert_int_equal(parse(arena, "name: digits\nmodel: m\nscale: {min: 1, max: 3}\n", &spec, &err),
                     0);
    for (size_t i = 0; i < sizeof patches / sizeof *patches; i++) {
        yyjson_val *patch;
        print_message("  %s\n", patches[i].patch);
        assert_int_equal(json_parse(arena, slice_of(patches[i].patch), NULL, &patch, &err), 0);
        const char *got = endpoint_spec_patch(arena, &spec, patch, &changed, &err) < 0
                              ? err.message
                              : endpoint_spec_json(arena, &changed, 0).data;
        if (patches[i].wanted[0] == '{')
            assert_string_equal(got, patches[i].wanted);
        else if (!strstr(got, patches[i].wanted))
            fail_msg("'%s' lacks '%s'", got, patches[i].wanted);
    }
    arena_free(arena);
}

/* A PoP that reads a newer spec keeps what it does not know. */
static void test_unknown(void **state)
{
    static const char text[] =
        "{\"version\":9,\"name\":\"digits\",\"model\":\"m\",\"scale\":{\"min\":2,\"per_pop\":{"
        "\"max\":3,\"new\":{\"a\":1}},\"rps\":\"5/"
        "s\",\"new\":[1]},\"residency\":{\"process_at\":[\"EU\"]},\"later\":{\"a\":null}}";
    struct arena *arena = arena_new();
    struct endpoint_specs specs, again;
    struct err err;

    (void)state;
    if (endpoint_spec_parse_text(arena, slice_of(text), SPEC_JSON, SPEC_KEEP_UNKNOWN, &specs,
                                 &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(specs.items[0].scale.min, 2);
    assert_string_equal(specs.items[0].unknown.data,
                        "{\"scale\":{\"per_pop\":{\"new\":{\"a\":1}},\"new\":[1]},"
                        "\"residency\":{\"process_at\":[\"EU\"]},\"later\":{\"a\":null}}");
    struct slice printed = endpoint_spec_json(arena, &specs.items[0], 0);
    assert_string_equal(printed.data, text);
    assert_int_equal(
        endpoint_spec_parse_text(arena, printed, SPEC_JSON, SPEC_KEEP_UNKNOWN, &again, &err), 0);
    assert_same(arena, &specs.items[0], &again.items[0]);
    arena_free(arena);
}

static void test_names(void **state)
{
    static const struct {
        const char *name;
        const char *message; /* NULL: good */
    } names[] = {
        { "abc", NULL },
        { "a1-b2-c3", NULL },
        { "a234567890123456789012345678901234567890", NULL },
        { "a2345678901234567890123456789012345678901", "has 41 characters; it needs 3 to 40" },
        { "", "the endpoint name is empty" },
        { "ab", "has 2 characters" },
        { "1ab", "must begin with a letter" },
        { "-ab", "must begin with a letter" },
        { "ab-", "must not end with a hyphen" },
        { "a--b", "may not hold '--'" },
        { "aBc", "not 'B'" },
        { "a_c", "not '_'" },
        { "a c", "not ' '" },
        { "a/c", "not '/'" },
        { "a\nc", "not '\\x0a'" },
        { "\xc3\xa9t\xc3\xa9", "small letters" },
        { "api", "is reserved" },
        { "default", "is reserved" },
        { "ns1", "is reserved" },
        { "ns9", "is reserved" },
        { "ns0", NULL },
        { "ns10", NULL },
    };
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int r = spec_check_endpoint_name(slice_of(names[i].name), &err);
        print_message("  %s\n", names[i].name);
        assert_int_equal(r, names[i].message ? ERR_BAD_INPUT : 0);
        if (names[i].message && !strstr(err.message, names[i].message))
            fail_msg("'%s' lacks '%s'", err.message, names[i].message);
    }
    assert_int_equal(spec_check_project_name(SLICE("default"), &err), 0);
    assert_int_equal(spec_check_name(SLICE("api"), "PoP name", &err), 0);
    assert_true(spec_is_digest(SLICE(DIGEST)));
    assert_false(spec_is_digest(SLICE("sha256:")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),        cmocka_unit_test(test_every_option),
        cmocka_unit_test(test_concurrency), cmocka_unit_test(test_full),
        cmocka_unit_test(test_documents),   cmocka_unit_test(test_diff),
        cmocka_unit_test(test_patch),       cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_names),       cmocka_unit_test(test_residency_forms),
    };
    return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
