# SPDX-License-Identifier: Apache-2.0
"""A network in a box: `perigee up --fleet`, with real connections over emulated distance. Times are
compared with lower bounds alone."""
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time

import dns.message
import dns.query
import pytest

import crowd
from deadline import DEADLINE, readable, until
from oip import tensor
from perigee import DIGITS, PROGRAM, ROOT, Perigee, listens
from test_trusted_proxies import version1, version2

FLEET = """
version: 1
kind: fleet
pops:
  - {name: one, coordinates: [48.85, 2.35], country: FR}
  - {name: two, coordinates: [35.69, 139.69], country: JP}
clients:
  - {name: far, addresses: [127.66.0.0/16], coordinates: [-23.5, -46.6], country: BR}
  - {name: near, addresses: [127.67.0.0/16], coordinates: [35.69, 139.69], country: JP}
links:
  - {between: [one, two], rtt: 20ms}
  - {between: [far, two], rtt: 240ms}
  - {between: [near, two], rtt: 6ms, jitter: 2ms, bandwidth: 10MB/s}
"""
FAR, NEAR, POP_ONE = "127.66.0.1", "127.67.0.1", "127.0.1.1"
BODY = json.dumps({"inputs": [tensor("image", "FP32", [1, 64], [0] * 64)]})


class Fleet(Perigee):
    """`perigee up --fleet`; `pops`: the addresses of each PoP by its name; `dns`: those of its DNS
    server, where it has one."""
    pops, dns = {}, {}

    @classmethod
    def of(cls, home, folder, text, *arguments):
        """Of a file in that folder, which says so."""
        (folder / "fleet.yaml").write_text(text)
        return cls(home, ["--fleet", folder / "fleet.yaml", *arguments])

    def start(self, *arguments, **more):
        super().start(*arguments, **more)
        self.pops = self.addresses.pop("pops")
        own = self.home / "fleet-dns" / "run" / "addresses.json"
        self.dns = json.loads(own.read_text()) if own.exists() else {}
        return self

    def check_nothing_left(self, mine):
        super().check_nothing_left(mine)
        for listeners in [*self.pops.values(), self.dns]:
            for addresses in listeners.values():
                for address in addresses:
                    assert not listens(address), f"{address} still listens"

    def client(self, pop, source, listener="gateway"):
        host, port = self.pops[pop][listener][0].rsplit(":", 1)
        return http.client.HTTPConnection(host, int(port), DEADLINE, (source, 0))

    def deploy(self, *options, **more):
        """An endpoint of the bundled model, at both places unless told."""
        spec = {"name": "digits", "model": str(DIGITS / "digits.onnx"), "spread": {"pops": 2}}
        self.wait_joined()
        spec.update(more)
        self.cli("apply", "-f", "-", *options, stdin=json.dumps(spec).encode())

    def wait_joined(self):
        """Until control hears of every place."""
        until("all places to report", lambda: {
            row["state"] for row in self.json("pops", "list")["items"]} == {"ready"})

    def state(self, name):
        return next(row for row in self.json("fleet", "status")["places"] if row["name"] == name)

    def wait_state(self, name, state):
        deadline = time.monotonic() + DEADLINE
        while self.state(name)["state"] != state:
            assert time.monotonic() < deadline, self.tail()


def infer(connection):
    connection.request("POST", "/v2/models/digits/infer", BODY)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    return answer


def asked(connection):
    """The status, whatever it is."""
    connection.request("POST", "/v2/models/digits/infer", BODY)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def net(answer):
    return float(re.search(r"net;dur=([\d.]+)", answer.headers["Server-Timing"])[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def fleet(homes, folder):
    with Fleet.of(homes(start=False).home, folder, FLEET, "--record",
                  folder / "record").running() as found:
        found.deploy()
        yield found


def named(fleet, source, endpoint="digits"):
    """The addresses that DNS gives who asks from there."""
    question = dns.message.make_query(f"{endpoint}.perigee.test", "A")
    host, port = fleet.address("dns")
    answer = dns.query.udp(question, host, port=port, source=source, timeout=DEADLINE)
    return [row.address for rrset in answer.answer for row in rrset]


def test_dns_names_the_nearest_by_where_the_question_comes_from(fleet):
    # São Paulo is nearer to Paris than to Tokyo; 127.0.1.2 stands at the place.
    wanted = {NEAR: ["127.0.1.2"], FAR: ["127.0.1.1"], "127.0.1.2": ["127.0.1.2"]}
    until("both", lambda: {source: named(fleet, source) for source in wanted} == wanted)
    with contextlib.closing(fleet.client("two", NEAR)) as connection:
        assert asked(connection) == 200


def test_addresses_of_every_place_are_told(fleet):
    assert list(fleet.pops) == ["one", "two"]
    for number, pop in enumerate(fleet.pops.values(), 1):
        assert pop["gateway"][0].startswith(f"127.0.1.{number}:")
        assert pop["admin"][0].startswith(f"127.0.1.{number}:")
    # The first one is at 127.0.0.1 as well, and so is control.
    assert fleet.address()[0] == "127.0.0.1" == fleet.address("control")[0]
    assert fleet.request("GET", "/v2/health/live")[0] == 200
    assert [row["name"] for row in fleet.get_json("/api/v1/pops", "control")["items"]] == [
        "box-dns", "one", "two"]
    assert fleet.request("GET", "/healthz", listener="admin")[0] == 200
    # DNS is looked after at an address of its own, and no place of the box.
    assert fleet.dns["dns"] == fleet.addresses["dns"] and not fleet.dns["gateway"]
    assert fleet.dns["admin"][0].startswith("127.0.1.254:")
    assert re.search(r"^box-dns +\w+ .*\(dns\)", fleet.cli("pops", "list").text, re.M)
    assert "box-dns" not in fleet.cli("fleet").text


def test_distance_is_two_round_trips_on_a_new_connection_and_one_on_a_used_one(fleet):
    with contextlib.closing(fleet.client("two", FAR)) as connection:
        for turn, least in enumerate((0.48, 0.24, 0.24)):
            begun = time.monotonic()
            answer = infer(connection)
            assert time.monotonic() - begun >= least, turn
            assert answer.headers["Perigee-Pop"] == "two"
            assert net(answer) == 240


def test_a_clients_own_proxy_header_is_bad_input(fleet):
    """Behind the relay as straight at a PoP: nobody is taken for somebody else."""
    for header in version1("127.0.1.2"), version2("127.0.1.2", rtt_us=1):
        for listener in "gateway", "admin":  # the second has no relay
            with contextlib.closing(fleet.client("two", FAR, listener)) as connection:
                connection.connect()
                connection.sock.sendall(header + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = http.client.HTTPResponse(connection.sock)
                answer.begin()
                assert answer.status == 400, (header, listener)
                assert b"--trusted-proxies" in answer.read()


def test_the_gateway_knows_the_link_of_each_client(fleet):
    for source, rtt in (NEAR, 6), (FAR, 240), (POP_ONE, 20):
        with contextlib.closing(fleet.client("two", source)) as connection:
            assert net(infer(connection)) == rtt
    host, port = fleet.pops["two"]["admin"][0].rsplit(":", 1)
    with contextlib.closing(http.client.HTTPConnection(host, int(port), DEADLINE)) as admin:
        admin.request("GET", "/metrics")
        text = admin.getresponse().read().decode()
    assert re.search(r'client_rtt_seconds_bucket\{.*endpoint="digits",le="0.05"\} [1-9]', text)
    near, far = (float(re.search(r'country_rtt_seconds_sum\{.*country="%s"\} ([\d.]+)' % country,
                                 text)[1]) /
                 float(re.search(r'country_rtt_seconds_count\{.*country="%s"\} ([\d.]+)' % country,
                                 text)[1]) for country in ("JP", "BR"))
    assert 0.005 <= near < 0.2 <= far  # the mean of all that came


def test_a_replica_comes_to_where_requests_come_from(fleet):
    asked_for = []

    def placed():
        return {row["name"] for row in fleet.json("show", "wanted")["pops"]}

    def ask():
        """Whatever becomes of the request: who asks is counted."""
        with contextlib.closing(fleet.client(other, source)) as connection:
            connection.request("POST", "/v2/models/wanted/infer", BODY)
            answer = connection.getresponse()
            answer.read()
            asked_for.append(answer.headers["Perigee-Pop"])
            return answer.status == 200 and asked_for[-1] == other

    fleet.deploy(name="wanted", spread={"pops": 1})
    before = placed()  # nobody has asked yet
    assert len(before) == 1
    other, source = ("two", NEAR) if before == {"one"} else ("one", POP_ONE)
    until("a replica near the clients", lambda: ask() or other in placed())
    # Those that were passed on count where the client came, once: damped over 300 s, n requests
    # are never more than n / 300 a second.
    demand = fleet.json("explain", "placement", "wanted")["demand"]
    assert 0 < demand["rate"] <= len(asked_for) / 300 + 0.001, asked_for
    assert {client["country"] for client in demand["clients"]} == {
        {"two": "JP", "one": "FR"}[other]}
    until("it to serve", ask)
    until("the far one to be given up", lambda: placed() == {other})
    fleet.cli("delete", "wanted", "--yes")


def test_a_cut_link_is_silent_until_it_is_healed(fleet):
    with contextlib.closing(fleet.client("two", POP_ONE)) as old, \
            contextlib.closing(fleet.client("two", POP_ONE)) as new, \
            contextlib.closing(fleet.client("two", NEAR)) as other:
        infer(old)
        fleet.cli("fleet", "cut", "one", "two")
        old.request("POST", "/v2/models/digits/infer", BODY)
        new.request("POST", "/v2/models/digits/infer", BODY)  # it connects
        infer(other)
        assert not readable(old.sock, 0) and not readable(new.sock, 0)
        rows = fleet.json("fleet")["links"]
        assert sum(row["cut"] for row in rows) == 2
        assert "cut" in fleet.cli("fleet").text
        fleet.cli("fleet", "heal", "two", "one")
        for connection in old, new:
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200


def test_a_place_that_is_cut_from_control_serves_on(fleet):
    """Control stands where the first place does."""
    fleet.cli("fleet", "cut", "two")
    try:
        # All links of the place are cut; who stands at it needs none.
        with contextlib.closing(fleet.client("two", "127.0.1.2")) as connection:
            assert infer(connection).headers["Perigee-Pop"] == "two"
    finally:
        fleet.cli("fleet", "heal")
    fleet.wait_joined()


def test_a_slowed_place_is_further_away(fleet):
    fleet.cli("fleet", "slow", "two", "100ms")
    try:
        with contextlib.closing(fleet.client("two", NEAR)) as connection:
            begun = time.monotonic()
            assert net(infer(connection)) == 106
            assert time.monotonic() - begun >= 0.212
    finally:
        fleet.cli("fleet", "heal")
    with contextlib.closing(fleet.client("two", NEAR)) as connection:
        assert net(infer(connection)) == 6


def test_a_killed_place_resets_and_refuses_until_it_is_healed(fleet):
    with contextlib.closing(fleet.client("two", NEAR)) as connection:
        infer(connection)
        fleet.cli("fleet", "kill", "two")
        with pytest.raises(ConnectionResetError):
            connection.sock.recv(1)
    with contextlib.closing(fleet.client("two", NEAR)) as connection:
        with pytest.raises(ConnectionRefusedError):
            connection.connect()
    assert fleet.state("two")["state"] == "killed"
    assert fleet.state("one")["state"] == "up"
    fleet.cli("fleet", "heal", "two")
    fleet.wait_state("two", "up")
    deadline = time.monotonic() + DEADLINE
    while True:  # it serves from its own disk, once the replica is ready again
        with contextlib.closing(fleet.client("two", NEAR)) as connection:
            connection.request("POST", "/v2/models/digits/infer", BODY)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
        assert time.monotonic() < deadline


def test_a_thousand_connections_at_once_are_each_answered(fleet):
    count, before = crowd.descriptors()
    try:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(contextlib.closing(fleet.client("two", NEAR)))
                       for _ in range(1000 if count >= 1100 else count // 2)]
            for one in clients:
                one.request("GET", "/v2/health/live")
            for one in clients:
                answer = one.getresponse()
                answer.read()
                assert answer.status == 200
            assert fleet.json("fleet")["connections"] >= len(clients)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def dies_and_comes_back(fleet, home):
    """The supervisor of that home, by itself: the box starts the tree again."""
    ready = fleet.home / home / "run" / "addresses.json"
    pid = int((fleet.home / home / "lock").read_text())
    assert ready.exists()
    assert pid in fleet.pids()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(ValueError, FileNotFoundError):
            again = int((fleet.home / home / "lock").read_text())
            if again != pid and ready.exists():
                break
        assert time.monotonic() < deadline, fleet.tail()


def test_a_place_that_dies_by_itself_comes_back(fleet):
    dies_and_comes_back(fleet, "pops/one")
    fleet.wait_state("one", "up")
    assert fleet.request("GET", "/v2/health/live")[0] == 200


def test_dns_that_dies_by_itself_comes_back_where_it_was(fleet):
    """At the same ports, though free ones were asked for; its answers are of what is on its disk,
    and of what the places say."""
    until("both", lambda: named(fleet, NEAR) == ["127.0.1.2"])
    dies_and_comes_back(fleet, "fleet-dns")
    assert json.loads((fleet.home / "fleet-dns" / "run" / "addresses.json").read_text()) == \
        fleet.dns
    until("its answer", lambda: named(fleet, NEAR) == ["127.0.1.2"])


def test_what_goes_between_places_is_recorded_and_what_clients_send_is_not(fleet, folder):
    for source, word in (POP_ONE, "canary-of-a-place"), (NEAR, "canary-of-a-client"):
        with contextlib.closing(fleet.client("two", source)) as connection:
            connection.request("GET", "/v2", headers={"X-Canary": word})
            connection.getresponse().read()
    found = b"".join(path.read_bytes() for path in (folder / "record").glob("*.one.two.sent"))
    everything = b"".join(path.read_bytes() for path in (folder / "record").iterdir())
    assert b"canary-of-a-place" in found
    assert b"canary-of-a-client" not in everything
    assert any((folder / "record").glob("*.one.two.answered"))


@pytest.mark.parametrize("arguments,says", [
    (["cut", "nowhere"], "no place 'nowhere'"), (["cut", "far", "near"], "one must be a PoP"),
    (["cut", "two", "two"], "no link between them"), (["kill", "far"], "'far' is no PoP"),
    (["slow", "two", "fast"], "fast"), (["slow", "two", "2h"], "more than an hour"),
    (["cut"], "PLACE [PLACE]"), (["slow", "two"], "TIME"), (["burn", "two"], "not 'burn'"),
    (["kill", "one", "two"], "kill POP")],
    ids=["no-place", "no-pop-between", "itself", "no-pop", "no-time", "too-long", "nothing",
         "no-how-long", "unknown", "too-many"])
def test_wrong_orders(fleet, arguments, says):
    done = fleet.cli("fleet", *arguments, status=None)
    assert done.returncode in (1, 2) and says in done.said


def test_without_a_fleet_the_command_says_so(scratch):
    done = subprocess.run([PROGRAM, "fleet", "--home", scratch / "none"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "perigee up --fleet" in done.stderr


@pytest.mark.parametrize("text,says", [
    ("pops: []", "1 to 64 PoPs"),
    ("pops:\n  - {name: one, city: Nowhereville}",
     "line 2: PoP number 1: no city is called 'Nowhereville'"),
    ("pops:\n  - {name: one, city: Paris}\n  - {name: one, city: Tokyo}",
     "line 3: PoP number 2: the PoP 'one' is there twice"),
    ("pops:\n  - {name: one, coordinates: [91, 0], country: FR}", "out of range"),
    ("pops:\n  - {name: one, city: Paris}\nclients:\n"
     "  - {addresses: [10.0.0.0/8, 10.1.0.0/16], city: Tokyo}", "overlaps"),
    ("pops:\n  - {name: box-dns, city: Paris}", "--listen-dns none"),
    ("pops: [", "line")], ids=["none", "unknown", "twice", "range", "overlap", "dns", "no-yaml"])
def test_wrong_files(scratch, text, says):
    path = scratch / "fleet.yaml"
    path.write_text(text)
    done = subprocess.run([PROGRAM, "up", "--fleet", path, "--home", scratch / "home"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and says in done.stderr
    assert not (scratch / "home").exists()


def test_residency_goes_by_where_the_file_says_that_clients_are(fleet):
    fleet.deploy(name="bound", regions=["two"], spread={"pops": 1},
                 residency={"process_in": "same-country"})
    for source, status in ((NEAR, 200), (FAR, 451), (POP_ONE, 451)):
        with contextlib.closing(fleet.client("two", source)) as connection:
            connection.request("POST", "/v2/models/bound/infer", BODY)
            answer = connection.getresponse()
            assert answer.status == status, (source, answer.read())
            assert answer.headers["Perigee-Pop"] == "two"


@pytest.mark.parametrize("arguments,says", [
    (["--pop", "other"], "--pop is not for a fleet"), (["--open"], "--open is not for a fleet"),
    (["--trusted-proxies", "10.0.0.0/8"], "the relay alone is trusted"),
    (["--listen-gateway", "0.0.0.0:8000"], "only ports are chosen"),
    (["--listen-control", "unix:/x"], "only ports are chosen"),
    (["--listen-dns", "nowhere"], "--listen-dns"),
    (["--record-max", "1MiB"], "stands beside --record"),
    (["--record", "record", "--record-max", "much"], "--record-max: "),
    (["--listen-control", "none"], "a fleet needs its control")], ids=lambda value: value[0])
def test_wrong_flags(scratch, arguments, says):
    done = subprocess.run([PROGRAM, "up", "--fleet", ROOT / "examples" / "fleet.yaml", "--home",
                           scratch / "home", *arguments], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and says in done.stderr


def test_a_fleet_that_was_stopped_goes_on_where_it_was(scratch):
    """And has DNS where it had none: before it was a tree of its own no home had that of one."""
    home = scratch / "box"
    home.mkdir(mode=0o700)
    box = Fleet.of(home, scratch, FLEET)
    try:
        box.start("--listen-dns", "none")
        assert not box.addresses["dns"] and not (home / "fleet-dns").exists()
        assert len(box.json("pops", "list")["items"]) == 2
        box.deploy()
        for _ in range(2):
            assert box.stop() == 0
            box.start()
            box.wait_joined()
            assert len(box.json("pops", "list")["items"]) == 3
            until("its DNS", lambda: named(box, NEAR) == ["127.0.1.2"])
        for place in "one", "two":
            with contextlib.closing(box.client(place, NEAR)) as connection:
                until("the replica", lambda connection=connection: asked(connection) == 200)
    finally:
        box.stop()


def test_a_taken_port_names_its_flag_and_who_has_it(scratch):
    with socket.create_server(("127.0.1.3", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([PROGRAM, "up", "--fleet", ROOT / "examples" / "fleet.yaml", "--home",
                               scratch / "home", "--listen-gateway", f"127.0.0.1:{port}",
                               "--listen-control", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"],
                              capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"127.0.1.3:{port} is taken by process {os.getpid()}" in done.stderr
    assert "--listen-gateway" in done.stderr


def test_the_example_comes_up_and_a_killed_box_leaves_nothing(scratch):
    home = scratch / "box"
    home.mkdir(mode=0o700)
    with Fleet(home, ["--fleet", ROOT / "examples" / "fleet.yaml"]).running() as box:
        places = box.json("fleet")["places"]
        assert [row["state"] for row in places if row["pop"]] == ["up"] * 6
        assert {row["name"] for row in places if not row["pop"]} >= {"Tokyo", "São Paulo"}
        with socket.create_connection(box.address(), DEADLINE):
            assert box.kill() == -signal.SIGKILL
