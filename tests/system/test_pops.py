# SPDX-License-Identifier: Apache-2.0
"""PoPs as control has them: made, joined, given endpoints, drained, retired. The ones here are
spoken for by the test, beside the real one of `up`."""
import datetime
import hashlib
import http.client
import http.server
import json
import re
import struct
import sys
import threading

import dns.edns
import pytest

from deadline import DEADLINE, until
from perigee import DIGITS, ROOT
from test_dns import addresses, ask, option
from test_processes import kill

sys.path.insert(0, str(ROOT / "tests" / "geo"))
import mmdb  # noqa: E402  (tests/geo/mmdb.py)

# Of these the MMDB knows the country alone; Bouvet Island has no people, and no midst.
COUNTRIES = {"100.64.0.0/16": "JP", "100.65.0.0/16": "FR", "100.66.0.0/16": "BV",
             "127.66.0.0/16": "JP"}


class FakeGateway(http.server.ThreadingHTTPServer):
    """What answers other PoPs that ask how it is: idle, with a place for each of `serving`."""
    daemon_threads = True

    def __init__(self, address):
        self.serving, self.number, self.dead = set(), 0, False
        super().__init__((address, 0), FakeAnswer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self):
        """As src/contract/peer_load.h has it."""
        self.number += 1
        rows = sorted(self.serving)
        head = struct.pack("<IHHQQQII", 0x6c676550, 2, 1, 1, self.number, 0, len(rows), 0)
        return head + b"".join(struct.pack("<QffffII", uid, 0, 20, 0, 0, 1, 0) for uid in rows)


class FakeAnswer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.server.dead:
            self.close_connection = True
            return
        body = self.server.answer()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class FakePop:
    """An agent: its watch, and its reports."""

    def __init__(self, one, name, secret, address=None):
        self.one, self.name, self.secret, self.sequence = one, name, secret, 0
        self.gateway = FakeGateway(address) if address else None
        self.said = {}  # uid: what it says of an endpoint
        self.loads = None  # it measures none
        self.peers = None  # nor how it reaches others
        self.demand = None  # from where clients came, of the next report
        self.endpoints = {}
        self.watch = None

    def headers(self, **more):
        return {"Authorization": f"Bearer {self.secret}", **more}

    def open(self):
        """Opens the watch and reads until all of the state has come; its status."""
        self.watch = http.client.HTTPConnection(*self.one.address("control"), timeout=DEADLINE)
        self.watch.request("GET", f"/api/v1/pops/{self.name}/watch", headers=self.headers())
        self.answer = self.watch.getresponse()
        if self.answer.status == 200:
            self.until(lambda kind, _: kind == "synced")
        return self.answer.status

    def close(self):
        if self.watch:
            self.watch.close()
        if self.gateway:
            self.gateway.shutdown()
            self.gateway.server_close()

    def until(self, wanted):
        fields = {}
        while True:
            line = self.answer.readline().decode()
            assert line, "the watch ended"
            if line.strip():
                key, _, value = line.rstrip("\n").partition(": ")
                fields[key] = value
                continue
            kind, data = fields.get("event"), json.loads(fields.get("data", "null"))
            fields = {}
            if kind == "endpoint":
                self.endpoints[data["name"]] = data
            if kind and wanted(kind, data):
                return data

    def given(self, endpoint):
        """Replicas that it is to run of an endpoint, by what it has heard."""
        document = self.endpoints.get(endpoint, {"pops": []})
        return sum(row["replicas"] for row in document["pops"] if row["name"] == self.name)

    def until_given(self, endpoint, replicas):
        if self.given(endpoint) != replicas:
            self.until(lambda *_: self.given(endpoint) == replicas)

    def report(self, ready=(), status=200):
        """Says that it serves these endpoints, each with as many replicas as it was given."""
        self.sequence += 1
        replicas, endpoints = [], []
        for name in ready:
            document = self.endpoints[name]
            common = {"endpoint": name, "project": "default", "endpoint_uid": document["uid"],
                      "revision": document["target"], "state": "ready"}
            replicas += [{**common, "id": f"{self.name}{i}", "name": f"{name}-{i + 1}"}
                         for i in range(self.given(name))]
            endpoints.append({"uid": document["uid"], "serving": document["target"],
                              "target": document["target"], "target_state": "ready",
                              "message": ""})
        body = {"instance": 7, "sequence": self.sequence, "replicas": replicas,
                "endpoints": endpoints, "models": [], "events": [], "deaths": [], "logs": []}
        if self.loads is not None:
            body["loads"] = self.loads
        if self.peers is not None:
            body["peers"] = self.peers
        if self.gateway:
            body["gateway_port"] = self.gateway.server_port
            self.gateway.serving = {row["uid"] for row in endpoints}
        if self.demand:
            body["demand"], self.demand = self.demand, None
        got, _, text = self.one.request(
            "POST", f"/api/v1/pops/{self.name}/report", json.dumps(body),
            self.headers(**{"Content-Type": "application/json"}), listener="control")
        assert got == status, (got, text)


def create(one, name, *arguments):
    """Makes a PoP; returns its token."""
    said = json.loads(one.cli("pops", "create", name, *arguments, "--json").text)
    assert said["pop"]["state"] == "joining" and not said["pop"]["joined"]
    return said["token"]


def enrol(one, token, secret, status=200):
    digest = "sha256:" + hashlib.sha256(secret.encode()).hexdigest()
    got, headers, body = one.request(
        "POST", "/api/v1/enrolments", json.dumps({"secret": digest}),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        listener="control")
    assert got == status, (got, body)
    if status == 401:
        assert headers["WWW-Authenticate"] == "Bearer"
    return json.loads(body)


def named_from(one, subnet):
    """The addresses that DNS gives a client of this block for the endpoint `digits`."""
    return addresses(one, "digits.perigee.test", subnet=subnet)


@pytest.fixture(name="fleet")
def _fleet(new_perigee, scratch):
    """A Perigee, and a way to have further PoPs."""
    (scratch / "map").write_text("203.0.113.0/24 JP 35.7 139.7\n198.51.100.0/24 FR 48.9 2.4\n")
    mmdb.write(scratch / "countries.mmdb", [(block, country, 0.0, 0.0)
                                            for block, country in COUNTRIES.items()],
               form=mmdb.country_only)
    one, made = new_perigee("--addresses", scratch / "map", "--geo",
                            scratch / "countries.mmdb"), []

    def new(name, *arguments):
        token = create(one, name, *arguments)
        secret = f"secret-of-{name}"
        enrol(one, token, secret)
        address = arguments[arguments.index("--address") + 1] if "--address" in arguments else None
        made.append(FakePop(one, name, secret, address))
        return made[-1]

    yield one, new
    for pop in made:
        pop.close()


def state(one, name):
    return one.json("pops", "show", name)["state"]


def placed(one, endpoint):
    return {row["name"]: row["replicas"] for row in one.json("show", endpoint)["pops"]}


def test_a_pop_is_made_joins_and_reports(fleet):
    one, _ = fleet
    token = create(one, "paris", "--country", "FR", "--city", "Paris", "--at", "48.86,2.35",
                   "--region", "eu-west", "--address", "127.0.1.1", "--cpu", "4", "--memory",
                   "8GiB", "--replicas", "6", "--price-cpu", "0.04 EUR")
    assert re.fullmatch("pgj_[0-9A-Za-z]{32}", token)
    told = enrol(one, token, "mine")
    assert told["pop"] == "paris" and told["zone"] == "perigee.test"
    assert told["spec"]["country"] == "FR" and told["spec"]["limits"]["cpu"] == "4"
    enrol(one, token, "mine")  # the answer was lost: the same again does no harm
    assert "used already" in enrol(one, token, "another's", 401)["detail"]
    assert state(one, "paris") == "joining"
    paris = FakePop(one, "paris", "mine")
    assert paris.open() == 200
    paris.report()
    view = one.json("pops", "show", "paris")
    assert view["state"] == "ready" and view["joined"] and view["reported_at"]
    text = one.cli("pops", "list").text
    assert re.search(r"paris +ready +FR +Paris +eu-west", text), text
    assert max(map(len, text.splitlines())) <= 80
    assert "0.04 EUR" in one.cli("pops", "show", "paris").text
    assert {event["kind"] for event in one.get_json(
        "/api/v1/events?limit=1000", listener="control")["items"] if event["pop"] == "paris"} == {
            "pop_created", "pop_joined"}
    assert "mine" not in one.words() and token not in one.words()
    paris.close()


@pytest.mark.parametrize("token", ["", "pgj_", "pgj_" + "0" * 32, "pg_x"])
def test_forged_tokens(fleet, token):
    one, _ = fleet
    enrol(one, token, "s", 401)


def test_a_token_that_has_expired_or_was_replaced(fleet, scratch):
    one, _ = fleet
    file = scratch / "token"
    said = json.loads(one.cli("pops", "create", "oslo", "--ttl", "1s", "--token-file", file,
                              "--json").text)
    first, ends = said["token"], datetime.datetime.fromisoformat(
        said["token_expires_at"].replace("Z", "+00:00"))
    assert file.read_text().strip() == first and file.stat().st_mode & 0o777 == 0o600
    ends += datetime.timedelta(milliseconds=1)  # it was told in whole ones
    until("the token's end", lambda: datetime.datetime.now(datetime.timezone.utc) > ends)
    assert "expired" in enrol(one, first, "s", 401)["detail"]
    second = json.loads(one.cli("pops", "token", "oslo", "--json").text)["token"]
    enrol(one, first, "s", 401)
    enrol(one, second, "s")
    assert "exists already" in one.cli("pops", "create", "oslo", "--token-file", file,
                                       status=1).said
    assert one.cli("pops", "token", "oslo", "--token-file", file, status=1).said  # never over it


def test_secrets(fleet):
    one, new = fleet
    paris = new("paris")
    other = FakePop(one, "paris", "guess")
    assert other.open() == 401
    other.report(status=401)
    assert new("rome").open() == 200
    assert FakePop(one, "paris", "secret-of-rome").open() == 401  # another's
    assert FakePop(one, "nowhere", "secret-of-rome").open() == 401
    bare = one.request("GET", "/api/v1/pops/paris/watch", listener="control")
    assert bare[0] == 401 and "secret" in bare[2].decode()
    assert paris.open() == 200
    one.cli("pops", "token", "paris")  # who joined before is out
    assert paris.answer.read() is not None
    paris.close()
    assert paris.open() == 401


def test_a_pop_that_says_absurd_things(fleet):
    """Nothing of another's changes by it (tests/control/check_pops.py has each case)."""
    one, new = fleet
    paris = new("paris", "--replicas", "1", "--country", "FR")
    assert paris.open() == 200
    one.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: digits\nmodel: {DIGITS / 'digits.onnx'}\nspread: {{pops: 2}}\n").encode())
    one.cli("deploy", "other", "--model", DIGITS / "digits.onnx")  # at `local`: paris is full
    paris.until_given("digits", 1)
    uids = {name: one.json("show", name)["uid"] for name in ("digits", "other")}
    before = one.json("show", "other")
    row = {"project": "default", "state": "ready", "memory_bytes": -1, "restarts": 1 << 70,
           "pid": "x", "country": "JP", "latitude": 1e300, "load": 1e9}
    body = {"instance": 7, "sequence": 9, "country": "JP", "limits": {"replicas": 1000},
            "replicas": [{**row, "id": str(i), "name": f"{name}-{i}", "endpoint": name,
                          "endpoint_uid": uid, "revision": 1}
                         for name, uid in uids.items() for i in range(1, 1500)],
            "endpoints": [{"uid": uid, "serving": 1 << 40, "target": 1, "target_state": "failed",
                           "message": "absurd" * 1000} for uid in uids.values()],
            "events": [{"seq": 1, "kind": "endpoint_deleted", "endpoint_uid": uids["other"]}],
            "deaths": [{"seq": 2, "endpoint_uid": uids["other"], "revision": 1, "replica": "x",
                        "reason": "absurd"}],
            "logs": [{"seq": 3, "endpoint_uid": uids["other"], "replica": "x", "line": "absurd"}]}
    status, _, _ = one.request("POST", "/api/v1/pops/paris/report", body, paris.headers(),
                               listener="control")
    assert status == 200
    assert one.json("show", "other") == before
    shown = one.json("show", "digits")
    assert shown["serving"] in (1, None)
    assert shown["state"] == "deploying" or "2 of 2 replicas" in shown["message"]
    spec = one.json("pops", "show", "paris")["spec"]
    assert spec["country"] == "FR" and spec["limits"]["replicas"] == 1
    assert "what is not its to say" in "".join(one.words())


def test_bad_pops(fleet):
    one, _ = fleet
    for arguments, words in (
            (["create", "Paris"], "PoP"),
            (["create", "paris", "--country", "UK"], "the United Kingdom's is GB"),
            (["create", "paris", "--at", "91,0"], "-90 to 90"),
            (["create", "paris", "--at", "here"], "LATITUDE,LONGITUDE"),
            (["create", "paris", "--address", "127.0.0.1:80"], "without a port"),
            (["create", "paris", "--memory", "8"], "needs a unit"),
            (["create", "paris", "--ttl", "30d"], "ttl"),
            (["create"], "wants NAME"),
            (["list", "paris"], "takes no NAME"),
            (["destroy", "paris"], "list, create, show"),
            (["show", "nowhere"], "no PoP 'nowhere'"),
            (["drain", "nowhere"], "no PoP 'nowhere'"),
            (["drain", "local"], "perigee up"),
            (["delete", "local", "--yes"], "perigee up")):
        done = one.cli("pops", *arguments, status=None)
        assert done.returncode in (1, 2) and words in done.said, (arguments, done.said)
    assert [row["name"] for row in one.json("pops", "list")["items"]] == ["local"]


def test_endpoints_go_where_they_are_placed(fleet):
    one, new = fleet
    paris = new("paris")
    assert paris.open() == 200
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    assert placed(one, "digits") == {"local": 1}
    # Spread over two: the second is asked for it, and what is there stays.
    one.cli("apply", "-f", "-", "--no-wait",
            stdin=b"name: digits\nmodel: %s\nspread: {pops: 2}\n"
            % str(DIGITS / "digits.onnx").encode())
    paris.until_given("digits", 1)
    assert placed(one, "digits") == {"local": 1, "paris": 1}
    assert one.json("show", "digits")["state"] == "partial"
    paris.report(ready=["digits"])
    until("both", lambda: one.json("show", "digits")["state"] == "active")
    pops = {row["pop"] for row in one.json("show", "digits")["replicas"]}
    assert pops == {"local", "paris"}
    # Drained: nobody else can take over, so that it says so.
    one.cli("pops", "drain", "paris")
    assert state(one, "paris") == "draining"
    paris.until_given("digits", 0)
    paris.report()
    until("spread short", lambda: one.json("show", "digits")["reason"] == "spread")
    one.cli("pops", "drain", "paris", "--undo")
    paris.until_given("digits", 1)
    paris.report(ready=["digits"])
    # Retired: its secret is worth nothing, its replicas are not counted on.
    one.cli("pops", "delete", "paris", "--yes")
    assert state(one, "paris") == "retired"
    assert placed(one, "digits") == {"local": 1}
    paris.report(status=410)
    again = create(one, "paris")
    enrol(one, again, "anew")


def test_more_replicas_than_one_pop_has_room_for(fleet):
    one, new = fleet
    paris = new("paris", "--replicas", "2")
    assert paris.open() == 200
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx", "--min", "2")
    before = placed(one, "digits")
    one.cli("pops", "show", "paris")
    assert sum(before.values()) == 2 and before.get("paris", 0) <= 2
    rome = new("rome", "--replicas", "1")
    assert rome.open() == 200
    assert placed(one, "digits") == before  # one more PoP moves nothing


def test_control_that_starts_anew_moves_nothing(fleet):
    one, new = fleet
    paris = new("paris")
    assert paris.open() == 200
    one.cli("apply", "-f", "-", "--no-wait",
            stdin=b"name: digits\nmodel: %s\nspread: {pops: 2}\n"
            % str(DIGITS / "digits.onnx").encode())
    paris.until_given("digits", 1)
    paris.report(ready=["digits"])
    until("both", lambda: one.json("show", "digits")["state"] == "active")
    before = one.json("show", "digits")
    kill(one.role_pid("control"))
    until("control", lambda: one.cli("endpoints", status=None).returncode == 0)
    after = one.json("show", "digits")
    assert after["pops"] == before["pops"]
    assert {row["id"] for row in after["replicas"]} == {row["id"] for row in before["replicas"]}
    paris.close()
    assert paris.open() == 200
    assert paris.given("digits") == 1
    assert state(one, "paris") == "ready"


def test_dns_sends_each_client_to_its_nearest(fleet):
    one, new = fleet
    paris = new("paris", "--country", "FR", "--at", "48.86,2.35", "--region", "edge-eu",
                "--address", "127.0.1.1")
    tokyo = new("tokyo", "--country", "JP", "--at", "35.68,139.69", "--region", "edge-asia",
                "--address", "127.0.1.2")
    hidden = new("hidden", "--country", "JP", "--region", "edge-asia")  # nobody told its address
    for pop in (paris, tokyo, hidden):
        assert pop.open() == 200
    one.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: digits\nmodel: {DIGITS / 'digits.onnx'}\nregions: [edge]\n"
        "spread: {pops: 3}\n").encode())
    for pop in (paris, tokyo, hidden):
        pop.until_given("digits", 1)
        pop.report(ready=["digits"])
    near_tokyo, near_paris = ("203.0.113.0", 24), ("198.51.100.0", 24)
    until("all places", lambda: named_from(one, near_tokyo) == ["127.0.1.2"]
          and named_from(one, near_paris) == ["127.0.1.1"])
    answer = ask(one, "digits.perigee.test", subnet=near_tokyo)
    assert option(answer, dns.edns.OptionType.ECS).scopelen == 24
    # Whom the law sends elsewhere is sent there, however far it is.
    one.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: digits\nmodel: {DIGITS / 'digits.onnx'}\nregions: [edge]\nspread: {{pops: 3}}\n"
        "residency:\n  rules:\n  - {clients: [JP], process_in: [FR]}\n"
        "  - {clients: any, process_in: any}\n").encode())
    until("the law", lambda: named_from(one, near_tokyo) == ["127.0.1.1"])
    one.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: digits\nmodel: {DIGITS / 'digits.onnx'}\nregions: [edge]\n"
        "spread: {pops: 2}\n").encode())
    # One that drains is named no more where another is.
    one.cli("pops", "drain", "tokyo")
    until("the other", lambda: named_from(one, near_tokyo) == ["127.0.1.1"])
