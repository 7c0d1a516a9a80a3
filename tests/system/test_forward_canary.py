# SPDX-License-Identifier: Apache-2.0
"""A word in each payload, and every byte between PoPs recorded: each word is found only where its
residency lets it be, whatever is broken meanwhile."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket

import dns.message
import dns.query
import pytest

from deadline import DEADLINE, children, until, wait_exit
from oip import MODELS, tensor
from test_forward import FLEET, Box, template
from test_forward_tunnel import raw, tunnel
from upstream import Scripted

CLIENTS = """
clients:
  - {name: swiss, addresses: [127.66.0.0/16], coordinates: [47.37, 8.54], country: CH}
  - {name: french, addresses: [127.67.0.0/16], coordinates: [45.76, 4.83], country: FR}
  - {name: japanese, addresses: [127.68.0.0/16], coordinates: [34.69, 135.5], country: JP}
"""
SWISS, FRENCH, JAPANESE = "127.66.0.1", "127.67.0.1", "127.68.0.1"
# French words stay in France and Germany, Japanese ones in Japan; for the Swiss there is no rule.
RULES = [{"clients": ["FR"], "process_in": ["FR", "DE"]},
         {"clients": ["JP"], "process_in": ["JP"]}]
EUROPE = {"one", "three"}


class Words:
    """Each is of one request; where it may be found is known when it is made."""

    def __init__(self, box, endpoint="words"):
        self.box, self.endpoint = box, endpoint
        self.allowed = {}
        self.status = {}
        self.by = None  # who gave the last answer

    def new(self, allowed):
        word = f"canary-{len(self.allowed)}-{os.urandom(6).hex()}"
        self.allowed[word] = allowed
        return word

    def send(self, pop, source, allowed, **more):
        word = self.new(allowed)
        body = json.dumps({"inputs": [tensor("x", "BYTES", [1, 1], [word])]})
        with contextlib.closing(self.box.client(pop, source)) as connection:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                connection.request("POST", f"/v2/models/{self.endpoint}/infer", body,
                                   {"X-Canary": word, "Perigee-Timeout": "1500ms", **more})
                answer = connection.getresponse()
                answer.read()
                self.status[word], self.by = answer.status, answer.headers["Perigee-Pop"]
        return self.status.get(word)

    def talk(self, pop, source, allowed, *more):
        """By a tunnel: in its head, with it, behind it, and back."""
        word = self.new(allowed)
        with contextlib.suppress(OSError):
            client, head = raw(self.box, pop, source, "talk", f"X-Canary: {word}",
                               "Perigee-Timeout: 1500ms", *more)
            with client:
                client.settimeout(3)  # where a link is cut nothing comes
                self.status[word] = int(head[9:12]) if head else None
                client.sendall(word.encode())
                if self.status[word] == 101:
                    assert client.recv(len(word), socket.MSG_WAITALL) in (word.encode(), b"")
        return self.status.get(word)

    def all(self):
        """One of each kind from each client to each place."""
        for pop in "one", "two", "three":
            for say in self.send, self.talk:
                say(pop, FRENCH, EUROPE)
                say(pop, JAPANESE, set())  # of one country: no link ever has it
                say(pop, SWISS, set())
            self.send(pop, FRENCH, set(), **{"Perigee-Process-In": "CH"})
            self.talk(pop, FRENCH, set(), "Perigee-Process-In: CH")

    def pages(self):
        """What PoPs say by other ways than a recorded link: their admin pages, and DNS."""
        for pop in "one", "two", "three":
            for path in "/metrics", "/healthz", "/readyz":
                with contextlib.closing(self.box.client(pop, FRENCH, "admin")) as connection:
                    connection.request("GET", path)
                    yield f"{pop}{path}", connection.getresponse().read()
        host, port = self.box.address("dns")
        for source in SWISS, FRENCH, JAPANESE:
            for name, kind in (self.endpoint, "A"), (f"_why.{self.endpoint}", "TXT"):
                question = dns.message.make_query(f"{name}.perigee.test", kind)
                answer = dns.query.tcp(question, host, port=port, source=source, timeout=DEADLINE)
                yield f"{name} asked from {source}", answer.to_text().encode()

    def check(self):
        """Returns the links on which any was found."""
        assert not (self.box.record / "full").exists()
        for page, data in self.pages():
            assert data
            assert not [word for word in self.allowed if word.encode() in data], page
        found = set()
        for path in self.box.record.iterdir():
            _, start, end, _ = path.name.split(".")
            data = path.read_bytes()
            for word, allowed in self.allowed.items():
                if word.encode() in data:
                    assert {start, end} <= allowed, f"{word} is in {path.name}"
                    found.add((start, end))
        return found


@pytest.fixture(scope="module")
def box(homes, tmp_path_factory):
    text = re.sub(r"clients:.*?(?=links:)", CLIENTS.lstrip(), FLEET, flags=re.S)
    text = re.sub(r"  - \{between: \[(swiss|french), one\].*\n", "", text)
    box = Box(homes(start=False).home, tmp_path_factory.mktemp("canary"), text)
    with contextlib.closing(Scripted(tunnel)) as upstream, box.running() as found:
        # At `one` it is not placed: what the French ask there goes to `three`.
        where = {"regions": ["two", "three"], "spread": {"pops": 2}, "residency": {
            "rules": [{**row, "transit": row["process_in"]} for row in RULES]}}
        found.deploy(name="words", model=str(MODELS / "identity_bytes.onnx"), **where,
                     queue={"depth": 1}, scale={"concurrency": 1})
        found.cli("apply", "-f", "-", stdin=json.dumps(
            {"name": "talk", "upstream": upstream.url, **where}).encode())
        words = Words(found)
        for pop, source in ("one", FRENCH), ("three", FRENCH), ("two", JAPANESE):
            allowed = EUROPE if source == FRENCH else set()
            until(f"it to answer by {pop}", lambda pop=pop, source=source, allowed=allowed: (
                words.send(pop, source, allowed), words.talk(pop, source, allowed)) == (200, 101))
        yield found


@contextlib.contextmanager
def nothing(box):
    yield


@contextlib.contextmanager
def killed(box):
    box.cli("fleet", "kill", "three")
    yield
    box.cli("fleet", "heal", "three")
    box.wait_state("three", "up")


@contextlib.contextmanager
def cut(box):
    box.cli("fleet", "cut", "one", "three")
    yield
    box.cli("fleet", "heal")


@contextlib.contextmanager
def slow(box):
    box.cli("fleet", "slow", "one", "three", "200ms")
    yield
    box.cli("fleet", "heal")


@contextlib.contextmanager
def cold(box):
    """No replica at `three`, nor one that comes."""
    stopped = template(box, "three", "words")
    os.kill(stopped, signal.SIGSTOP)
    os.kill(box.replica("three", "words"), signal.SIGKILL)
    yield
    os.kill(stopped, signal.SIGCONT)


@contextlib.contextmanager
def overloaded(box):
    """One runs and one waits at `three`, which is all that may."""
    pid = box.replica("three", "words")
    os.kill(pid, signal.SIGSTOP)
    body = json.dumps({"inputs": [tensor("x", "BYTES", [1, 1], ["nothing"])]})
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(contextlib.closing(box.client("three", FRENCH)))
            connection.request("POST", "/v2/models/words/infer", body)
        yield
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def drained(box):
    box.cli("pops", "drain", "three")
    yield
    box.cli("pops", "drain", "three", "--undo")


def lock_of(box, place):
    """The supervisor there."""
    return int((box.home / place / "lock").read_text())


@contextlib.contextmanager
def without_control(box):
    """Its supervisor stands still, so that nobody starts it again."""
    supervisor = lock_of(box, "fleet-control")
    os.kill(supervisor, signal.SIGSTOP)
    for pid in children(supervisor):
        os.kill(pid, signal.SIGKILL)
        wait_exit(pid)
    yield
    os.kill(supervisor, signal.SIGKILL)
    until("another one", lambda: box.cli("pops", "list", status=None).returncode == 0)
    box.wait_joined()


@contextlib.contextmanager
def booted_while_cut(box):
    """Those that have it, out of what is on their disks."""
    places = ("two", JAPANESE), ("three", FRENCH)
    for pop, _ in places:
        box.cli("fleet", "cut", "one", pop)
        before = lock_of(box, f"pops/{pop}")
        os.kill(before, signal.SIGKILL)
        wait_exit(before)
    for pop, source in places:
        plain = Words(box)
        for say in plain.send, plain.talk:
            until(f"{pop} to serve", lambda say=say, pop=pop, source=source: say(
                pop, source, EUROPE) in (200, 101))
    yield
    box.cli("fleet", "heal")
    box.wait_joined()


def long(fault, passes):
    return pytest.param(fault, passes, marks=pytest.mark.long)


@pytest.mark.slow
@pytest.mark.parametrize("fault,passes", [
    (nothing, True), (killed, False), (cut, False), long(slow, True), long(cold, None),
    long(overloaded, None), long(drained, None), (without_control, True),
    (booted_while_cut, False)],
    ids=lambda value: getattr(value, "__name__", ""))
def test_words_stay_where_they_may_be(box, fault, passes):
    """`passes`: the French are answered by way of `one`; None: as it comes."""
    words = Words(box)
    with fault(box):
        words.all()
        status = words.send("one", FRENCH, EUROPE)
        assert words.send("two", SWISS, set()) == 451
        assert words.send("two", FRENCH, set()) == 451  # not in transit
        assert words.send("one", JAPANESE, set()) == 451
        assert words.send("two", JAPANESE, set()) == 200  # its own replica: nothing of it travels
        talked = words.talk("one", FRENCH, EUROPE)
        assert words.talk("two", SWISS, set()) == words.talk("two", FRENCH, set()) == 451
        assert words.talk("one", JAPANESE, set()) == 451
        assert words.talk("two", JAPANESE, set()) == 101
    found = words.check()
    assert status == 200 if passes else passes is None or status in (503, 504), status
    assert talked == 101 if passes else passes is None or talked in (502, 503, 504, None), talked
    assert not passes or ("one", "three") in found
    until("all to be well", lambda: words.send("one", FRENCH, EUROPE) == 200)
    until("tunnels as well", lambda: words.talk("one", FRENCH, EUROPE) == 101)
    assert ("one", "three") in words.check() and found <= {("one", "three")}


def residency(*rules):
    return {"rules": [{"clients": ["FR"], "process_in": process, "transit": transit}
                      for process, transit in rules]}


@pytest.mark.slow
def test_who_is_cut_from_control_goes_by_the_rules_it_had(box):
    """`two` has not heard that no French words may pass there, nor be processed at `three` any
    more; `three` has, and refuses what it is sent. Once `two` hears of it nothing leaves it."""
    words = Words(box, "older")
    older, newer = residency((["FR", "DE"], ["FR", "DE", "JP"])), residency((["FR"], ["FR"]))
    spec = {"name": "older", "model": str(MODELS / "identity_bytes.onnx"), "spread": {"pops": 1},
            "regions": ["one", "three"]}
    with_two = EUROPE | {"two"}
    box.deploy(**{**spec, "regions": ["three"]}, residency=older)
    try:
        until("`two` to pass it on", lambda: words.send("two", FRENCH, with_two) == 200)
        assert words.by == "three"
        box.cli("fleet", "cut", "one", "two")
        box.cli("apply", "-f", "-", "--no-wait", stdin=json.dumps(
            {**spec, "residency": newer}).encode())
        until("`three` to hear of it", lambda: words.send("three", FRENCH, EUROPE) == 451)
        assert words.send("two", FRENCH, with_two) in (451, 503)
        assert ("two", "three") in words.check()  # it was sent, by the older rules
        box.cli("fleet", "heal")
        until("`two` to hear of it", lambda: (
            words.send("two", FRENCH, with_two), words.by) == (451, "two"))
        for _ in range(3):
            assert words.send("two", FRENCH, set()) == 451
        words.check()
    finally:
        box.cli("fleet", "heal")
        box.cli("delete", "older", "--yes")


@pytest.mark.slow
def test_words_stay_where_they_may_be_while_a_pop_comes_and_goes(box):
    """The last: after so many falls it stays out of answers for longer and longer."""
    words = Words(box)
    for _ in range(3):
        box.cli("fleet", "kill", "three")
        words.all()
        box.cli("fleet", "heal", "three")
        words.all()
        box.wait_state("three", "up")
        words.all()
    assert words.check() <= {("one", "three")}
