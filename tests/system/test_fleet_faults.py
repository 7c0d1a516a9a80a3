# SPDX-License-Identifier: Apache-2.0
"""Faults of a fleet under load, as its clients see them. A client keeps an answer of DNS for its
TTL and its connection for as long as that stands; where a connection fails, or closes before the
first byte of an answer, it takes the next address, then a fresh answer. Nothing else is tried
twice."""
import contextlib
import http.client
import json
import os
import re
import select
import signal
import threading
import time

import dns.message
import dns.query
import pytest

from deadline import DEADLINE, children, command_line, until
from oip import tensor
from perigee import DIGITS
from test_fleet import Fleet, named
from test_mesh import DNS, metrics, rounds

FLEET = """
version: 1
kind: fleet
pops:
  - {name: one, coordinates: [48.85, 2.35], country: FR}
  - {name: two, coordinates: [35.69, 139.69], country: JP}
  - {name: three, coordinates: [34.69, 135.5], country: JP}
clients:
  - {name: far, addresses: [127.66.0.0/16], coordinates: [50.1, 8.7], country: DE}
  - {name: near, addresses: [127.67.0.0/16], coordinates: [35.69, 139.69], country: JP}
links:
  - {between: any, rtt: 40ms}
  - {between: [near, two], rtt: 4ms}
  - {between: [near, three], rtt: 12ms}
  - {between: [near, one], rtt: 400ms}  # farther than what a busy machine adds to a wait at three
  - {between: [far, one], rtt: 6ms}
  - {between: [two, three], rtt: 8ms}
"""
FAR, NEAR = "127.66.0.1", "127.67.0.1"
BODY = json.dumps({"inputs": [tensor("image", "FP32", [1, 64], [0] * 64)]})
FACE = {"127.0.1.1": "one", "127.0.1.2": "two", "127.0.1.3": "three"}
LOST = (ConnectionError, http.client.BadStatusLine)  # of the connection, before an answer began


class Client(threading.Thread):
    """Asks on until it is told to stop. `answers`: (time, PoP, attempts) of each; `fault`: the
    first request that was lost, which ends it. `keeps`: the answer of DNS, while any of it is left,
    as who asked just now does for its TTL."""

    def __init__(self, fleet, source, endpoint="digits"):
        super().__init__(daemon=True)
        self.fleet, self.source, self.endpoint = fleet, source, endpoint
        self.port = int(fleet.pops["one"]["gateway"][0].rsplit(":", 1)[1])
        self.addresses, self.fresh_until, self.connection = [], 0, None
        self.keeps = False
        self.answers, self.fault, self.told = [], None, threading.Event()

    def resolve(self):
        question = dns.message.make_query(f"{self.endpoint}.perigee.test", "A")
        host, port = self.fleet.address("dns")
        answer, _ = dns.query.udp_with_fallback(question, host, port=port, source=self.source,
                                                timeout=DEADLINE)
        self.addresses = [row.address for rrset in answer.answer for row in rrset]
        ttl = min((rrset.ttl for rrset in answer.answer), default=0)
        self.fresh_until = time.monotonic() + ttl

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def attempt(self):
        if not self.connection:
            host, port = self.addresses[0], self.port_of(self.addresses[0])
            self.connection = http.client.HTTPConnection(host, port, DEADLINE, (self.source, 0))
        self.connection.request("POST", f"/v2/models/{self.endpoint}/infer", BODY)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        return answer.headers["Perigee-Pop"]

    def port_of(self, address):
        return int(self.fleet.pops[FACE[address]]["gateway"][0].rsplit(":", 1)[1])

    def ask(self):
        begun, attempts = time.monotonic(), 0
        while time.monotonic() - begun < DEADLINE:
            if not self.addresses or time.monotonic() > self.fresh_until and not self.keeps:
                before = self.addresses[:1]
                self.resolve()
                if self.addresses[:1] != before:
                    self.close()
            attempts += 1
            try:
                if self.addresses:
                    return self.answers.append((begun, self.attempt(), attempts))
            except LOST:
                self.close()
                self.addresses.pop(0)
            if not self.addresses:
                select.select([], [], [], 0.02)  # it may be told the same again
        raise AssertionError(f"nobody answered {self.source}, last {self.addresses}")

    def run(self):
        try:
            while not self.told.is_set():
                self.ask()
        except Exception as fault:  # shown by check()
            self.fault = fault
        self.close()


class Load:
    def __init__(self, fleet, sources, endpoint="digits"):
        self.clients = [Client(fleet, source, endpoint) for source in sources]

    def __enter__(self):
        for client in self.clients:
            client.start()
        self.more(5)
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.told.set()
        for client in self.clients:
            client.join(2 * DEADLINE)

    def check(self):
        for client in self.clients:
            if client.fault:
                raise AssertionError(f"{client.source} lost a request") from client.fault

    def more(self, count):
        """Until each client has so many more answers."""
        wanted = [len(client.answers) + count for client in self.clients]

        def there():
            self.check()
            return all(len(client.answers) >= least
                       for client, least in zip(self.clients, wanted))
        until("answers", there)

    def since(self, begun, source=None):
        return [(pop, attempts) for client in self.clients for at, pop, attempts in client.answers
                if at >= begun and source in (None, client.source)]


@pytest.fixture(scope="module", name="fleet")
def the_fleet(homes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with Fleet.of(homes(start=False).home, folder, FLEET).running() as found:
        found.deploy(spread={"pops": 3})
        whole(found)
        yield found


def whole(fleet):
    """All serve, and DNS names them, the next nearest as well."""
    until("all three", lambda: (named(fleet, NEAR)[:1], named(fleet, FAR)[:1],
                                named(fleet, "127.0.1.3")[:1])
          == (["127.0.1.2"], ["127.0.1.1"], ["127.0.1.3"])
          and named(fleet, NEAR)[1:2] in ([], ["127.0.1.3"]))


@pytest.mark.slow
@pytest.mark.parametrize("pop,hit,others,spared,at", [
    ("two", NEAR, {"three"}, FAR, "one"),
    # The first, in whose place control and DNS stand.
    ("one", FAR, {"two", "three"}, NEAR, "two")], ids=["two", "one"])
def test_a_pop_that_is_killed_under_load_loses_no_request(fleet, pop, hit, others, spared, at):
    address = next(address for address, name in FACE.items() if name == pop)
    with Load(fleet, [hit, hit, hit, spared]) as load:
        before = time.monotonic()
        fleet.cli("fleet", "kill", pop)
        until("DNS to name another", lambda: address not in named(fleet, hit))
        load.more(20)
        moved = time.monotonic()
        load.more(5)
        fleet.cli("fleet", "heal", pop)
        until("DNS to name it again", lambda: named(fleet, hit)[:1] == [address])
        healed = time.monotonic()
        until("its clients to be back", lambda: pop in {pop for pop, _ in load.since(healed)})
        load.more(5)
    load.check()
    assert max(attempts for _, attempts in load.since(before - 1, hit)) > 1  # they were hit
    assert {pop for pop, _ in load.since(moved, hit)[:3]} <= others
    assert {entry for entry in load.since(0, spared)} == {(at, 1)}  # nobody else noticed
    whole(fleet)


def replicas(fleet):
    return {(row["pop"], row["pid"]) for row in fleet.json("show", "digits")["replicas"]
            if row["state"] == "ready"}


def test_nobody_notices_that_control_dies(fleet):
    before = until("all replicas", lambda: found if len(found := replicas(fleet)) == 3 else None)
    with Load(fleet, [NEAR, FAR]) as load:
        pid = int((fleet.home / "fleet-control" / "lock").read_text())
        os.kill(pid, signal.SIGKILL)
        load.more(20)
        until("another control", lambda: fleet.cli("pops", "list", status=None).returncode == 0)
        load.more(20)
    load.check()
    assert {attempts for _, attempts in load.since(0)} == {1}
    fleet.wait_joined()
    assert until("its reports", lambda: replicas(fleet) == before)


def test_nobody_notices_that_a_pop_is_cut_from_control(fleet):
    """From DNS as well, which stands where control does: the third place vouches for it."""
    with Load(fleet, [NEAR, NEAR, FAR]) as load:
        fleet.cli("fleet", "cut", "two", "one")
        load.more(20)
        for at in "one", DNS:
            until("DNS's place to miss it", lambda at=at: not metrics(fleet, at)[
                'perigee_mesh_up{peer="two"}'])
        load.more(20)
        fleet.cli("fleet", "heal")
        load.more(20)
    load.check()
    assert {entry for entry in load.since(0, NEAR)} == {("two", 1)}
    assert {entry for entry in load.since(0, FAR)} == {("one", 1)}
    whole(fleet)


def of_the_zone(fleet):
    """Whom DNS names of all PoPs, wherever endpoints are."""
    question = dns.message.make_query("perigee.test", "A")
    host, port = fleet.address("dns")
    answer = dns.query.udp(question, host, port=port, source=NEAR, timeout=DEADLINE)
    return [FACE[row.address] for rrset in answer.answer for row in rrset]


def test_a_pop_that_drains_is_not_named_while_control_cannot_hear_it(fleet):
    """That it drains is the operator's word. Control has begun anew since it was cut off, and has
    never heard it; a place that reaches it says that it is up."""
    until("it to be named", lambda: of_the_zone(fleet)[0] == "two")
    fleet.cli("pops", "drain", "two")
    try:
        until("DNS to name another", lambda: of_the_zone(fleet)[0] == "three")
        fleet.cli("fleet", "cut", "two", "one")
        os.kill(int((fleet.home / "fleet-control" / "lock").read_text()), signal.SIGKILL)
        until("another control", lambda: fleet.cli("pops", "list", status=None).returncode == 0)
        states = {row["name"]: row["state"] for row in fleet.json("pops", "list")["items"]}
        assert states["two"] not in ("ready", "draining")
        until("DNS's place to miss it", lambda: not metrics(fleet, DNS)[
            'perigee_mesh_up{peer="two"}'])
        assert metrics(fleet, "three")['perigee_mesh_up{peer="two"}'] == 1
        # What DNS hears of control behind that.
        fleet.cli("apply", "-f", "-", "--no-wait", stdin=json.dumps({
            "name": "later", "model": str(DIGITS / "digits.onnx"), "regions": ["three"]}).encode())
        until("it to be told", lambda: named(fleet, NEAR, "later"))
        assert "two" not in of_the_zone(fleet)
        assert named(fleet, NEAR)[0] == "127.0.1.3"
    finally:
        fleet.cli("fleet", "heal")
        fleet.cli("pops", "drain", "two", "--undo")
    until("it to be named again", lambda: of_the_zone(fleet)[0] == "two")
    fleet.cli("delete", "later", "--yes")
    fleet.wait_joined()
    whole(fleet)


@pytest.mark.slow
def test_a_pop_that_was_cut_from_control_hears_what_has_changed(fleet):
    """Its watch goes on where it was: it is not told all that it knows."""
    def begun():
        _, _, text = fleet.request("GET", "/metrics", listener="control")
        return {how: int(count) for how, count in re.findall(
            r'^perigee_control_pop_watches_begun_total{how="(\w+)"} (\d+)$', text.decode(), re.M)}

    def knows():
        found = metrics(fleet, "two")
        return found["perigee_control_connected"], found["perigee_endpoints"]

    until("it to be in touch", lambda: knows() == (1, 1))
    before = begun()
    fleet.cli("fleet", "cut", "two", "one")
    until("its watch to end", lambda: knows() == (0, 1))
    fleet.cli("apply", "-f", "-", "--no-wait", stdin=json.dumps({
        "name": "meanwhile", "model": str(DIGITS / "digits.onnx"), "regions": ["two"]}).encode())
    fleet.cli("fleet", "heal")
    until("it to know", lambda: knows() == (1, 2))
    assert begun() == {**before, "resumed": before.get("resumed", 0) + 1}
    fleet.cli("wait", "meanwhile")
    fleet.cli("delete", "meanwhile", "--yes")
    until("it to forget", lambda: knows() == (1, 1))
    whole(fleet)


def test_a_cold_boot_while_it_is_cut_from_control(fleet):
    """It serves what it had, and passes on the rest; that control is back restarts nothing."""
    fleet.cli("apply", "-f", "-", stdin=json.dumps({
        "name": "beside", "model": str(DIGITS / "digits.onnx"), "regions": ["three"]}).encode())

    def answers(endpoint):
        with contextlib.closing(fleet.client("two", NEAR)) as connection, \
                contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", f"/v2/models/{endpoint}/infer", BODY)
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200 and answer.headers["Perigee-Pop"]
        return None

    def another_than(pid):
        found = (fleet.home / "pops" / "two" / "lock").read_text()
        return int(found) if found and int(found) != pid else None

    until("it to be passed on", lambda: answers("beside") == "three")
    fleet.cli("fleet", "cut", "two", "one")
    pid = another_than(0)
    os.kill(pid, signal.SIGKILL)
    supervisor = until("another supervisor", lambda: another_than(pid))
    until("what was here", lambda: answers("digits") == "two")
    until("what is elsewhere", lambda: answers("beside") == "three")

    def workers():
        """The template and its replicas."""
        return {pid for pid in children(supervisor) if "perigee-worker" in command_line(pid)}

    # The gateway that was killed may have answered still.
    before = until("both", lambda: len(workers()) >= 2 and workers())
    fleet.cli("fleet", "heal")
    fleet.wait_joined()
    until("its replica to be told", lambda: {pid for pop, pid in replicas(fleet) if pop == "two"}
          and {pid for pop, pid in replicas(fleet) if pop == "two"} <= before)
    fleet.cli("delete", "beside", "--yes")
    whole(fleet)
    assert workers() == before


@pytest.mark.slow
def test_a_pop_that_flaps_loses_no_request(fleet):
    """The last: after so many falls it stays out of answers for longer and longer."""
    with Load(fleet, [NEAR, NEAR, FAR]) as load:
        for _ in range(3):
            fleet.cli("fleet", "kill", "two")
            load.more(10)
            fleet.cli("fleet", "heal", "two")
            fleet.wait_state("two", "up")
            load.more(10)
    load.check()


TWINS = FLEET.replace("[34.69, 135.5]", "[35.68, 139.77]").replace("[two, three], rtt: 8ms",
                                                                   "[two, three], rtt: 2ms")


@pytest.fixture(name="twins")
def the_twins(homes, tmp_path):
    """Two of the places are in one city: who is near has both in his answer."""
    with Fleet.of(homes(start=False).home, tmp_path, TWINS).running() as found:
        found.deploy(spread={"pops": 3})
        until("both in one answer", lambda: sorted(named(found, NEAR)) == ["127.0.1.2",
                                                                          "127.0.1.3"])
        yield found


@pytest.mark.slow
def test_who_has_a_second_address_goes_there_at_once(twins):
    with Load(twins, [NEAR]) as load:
        [client] = load.clients

        def keeps_both():
            """Not so while one of them waits: what is more than 1 ms behind is not named."""
            client.keeps = True
            load.more(2)
            client.keeps = len(client.addresses) == 2
            return client.keeps

        until("it to be told both", keeps_both)
        at = load.since(0)[-1][0]
        other, begun = {"two": "three", "three": "two"}[at], rounds(twins, "one")
        killed = time.monotonic()
        twins.cli("fleet", "kill", at)
        until("the other one", lambda: other in {pop for pop, _ in load.since(killed)})
        assert rounds(twins, "one") - begun <= 3  # seconds
        load.more(20)
        until("DNS to name it alone", lambda: len(named(twins, NEAR)) == 1)
        client.keeps = False
        load.more(10)
    load.check()
    later = load.since(killed)
    assert max(attempts for _, attempts in later) <= 2  # no third, of a new answer
    assert set(later[-10:]) == {(other, 1)}
