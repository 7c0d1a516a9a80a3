# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps by hours, forth and back, under a running Perigee (tests/shim/clock.c)."""
import collections
import datetime
import http.client
import json
import mmap
import struct
import time

import pytest

from deadline import DEADLINE, SANITIZED
from perigee import DIGITS, PROGRAM, Perigee
from test_dns_alone import Named
from test_processes import ROLES, ZEROS, infer, kill, right, role_pid, served, shown, until

SHIM = PROGRAM.parent / "tests" / "shim" / "clock_shim.so"
HOUR = 3600


class Clock:
    """The wall clock of a Perigee that is to start: ahead by what the test says, from then on."""

    def __init__(self, one, seconds=0):
        if SANITIZED:
            pytest.skip("a sanitizer wants to be preloaded first")
        if not SHIM.exists():
            pytest.skip("the clock's shim is beside a build alone")
        path = one.home.parent / f"{one.home.name}.ahead"
        path.write_bytes(bytes(8))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 8)
        plain = one.environment
        one.environment = lambda: {**plain(), "LD_PRELOAD": str(SHIM), "CLOCK_SHIM_FILE": str(path)}
        self.ahead(seconds)

    def ahead(self, seconds):
        self.seconds = seconds
        self.memory[:] = struct.pack("<q", seconds)


class Jumping(Perigee):
    """A Perigee whose wall clock jumps."""

    def __init__(self, home):
        super().__init__(home)
        self.clock = Clock(self)
        self.ahead = self.clock.ahead

    def is_now(self, text):
        """Is this timestamp of about now, by the clock that Perigee sees?"""
        at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        return abs(at - time.time() - self.clock.seconds) < 120 + DEADLINE


@pytest.fixture(name="jumping")
def _jumping(scratch):
    home = scratch / "h0"
    home.mkdir(mode=0o700)
    one = Jumping(home)
    yield one.start()
    one.stop()


def label(one, text):
    """A change of the endpoint."""
    got, _, body = one.request("PATCH", "/api/v1/endpoints/digits",
                               json.dumps({"labels": {"n": text}}),
                               {"Content-Type": "application/merge-patch+json"},
                               listener="control")
    assert got in (200, 202), body


def kill_replica(one, events):
    """Kills the replica; returns the event of its end, once another is ready."""
    victim = shown(one, "digits")[0]
    kill(victim)
    ended = events.wait("replica_exited")
    events.wait("replica_ready")
    assert right(served(one))
    return ended


def test_a_jump_restarts_nothing_and_loses_no_event(jumping):
    jumping.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    roles = {role: role_pid(jumping, role) for role in ROLES}
    with jumping.events(new=True) as events:
        for hours in (0, 6, 0, -12, 30, 0):
            before = shown(jumping, "digits")
            jumping.ahead(hours * HOUR)
            status, body = infer(jumping)
            assert status == 200 and right(body)
            assert shown(jumping, "digits") == before
            # What happens now carries the time of now, and comes in order.
            if hours:
                assert jumping.is_now(kill_replica(jumping, events)["at"])
            label(jumping, f"by{hours}")
            audit = jumping.get_json("/api/v1/audit?limit=1000", listener="control")["items"]
            newest = max(audit, key=lambda row: row["id"])
            assert newest["action"] == "patch" and jumping.is_now(newest["at"])
        ids = [event["id"] for event in events.seen]
        assert ids == sorted(set(ids))
        ends = [event for event in events.seen if event["kind"] == "replica_exited"
                and "SIGKILL" in event["message"]]
        assert len(ends) == 3
    assert roles == {role: role_pid(jumping, role) for role in ROLES}


class Watch:
    """Changes of endpoints as server-sent events; goes on after `last`."""

    def __init__(self, one, last=None):
        self.connection = http.client.HTTPConnection(*one.address("control"), timeout=DEADLINE)
        headers = {"Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = last
        self.connection.request("GET", "/api/v1/endpoints?watch=1", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        self.last = last

    def until(self, wanted):
        """Reads on until an event of which `wanted(kind, data)` is true."""
        fields = {}
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            assert line or fields is not None, "the watch ended"
            if line:
                key, _, value = line.partition(": ")
                fields[key] = value
                continue
            kind, data = fields.get("event"), json.loads(fields.get("data", "null"))
            self.last = fields.get("id", self.last)
            fields = {}
            if kind and wanted(kind, data):
                return data

    def close(self):
        self.connection.close()


def test_watches_go_on_over_a_jump_and_a_restart_of_control(jumping):
    """Numbers of changes come from the clock at control's start: one that went back must not make
    a watcher miss what changed."""
    jumping.ahead(12 * HOUR)
    kill(role_pid(jumping, "control"))
    until("control", lambda: jumping.cli("endpoints", status=None).returncode == 0)
    jumping.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    before = shown(jumping, "digits")
    watch = Watch(jumping)
    watch.until(lambda kind, _: kind == "synced")
    last = watch.last
    watch.close()
    for hours in (-12, 20):
        jumping.ahead(hours * HOUR)
        kill(role_pid(jumping, "control"))
        until("control", lambda: jumping.cli("endpoints", status=None).returncode == 0)
        label(jumping, f"by{hours}")
        watch = Watch(jumping, last)
        seen = watch.until(lambda kind, _: kind == "endpoint")
        assert seen["spec"]["labels"] == {"n": f"by{hours}"}, seen
        watch.until(lambda kind, _: kind == "synced")
        last = watch.last
        watch.close()
        # The agent's own watch is there again: what control says is done, by the same replica.
        jumping.cli("wait", "digits")
        assert shown(jumping, "digits") == before
        assert right(served(jumping))


def test_pops_whose_clocks_are_an_hour_off(new_perigee, scratch):
    """One ahead and one behind, then the other way round, of a control whose clock is right: they
    join, serve, pass on to each other, and what was used is counted once."""
    clocks, answered = [], collections.Counter()

    def new(*arguments, part="up", **more):
        one = new_perigee(*arguments, part=part, **more)
        if part == "pop":
            clocks.append(Clock(one, -HOUR if clocks else HOUR))
        return one

    def asked(pop, endpoint, by):
        """Whether `by` answered it."""
        status, headers, body = fleet.pops[pop].request(
            "POST", f"/v2/models/{endpoint}/infer", ZEROS)
        if status == 200:
            assert right(body)
            answered[endpoint] += 1
        return status == 200 and headers["Perigee-Pop"] == by

    def each_way(turn):
        for endpoint, by in ("at-paris", "paris"), ("at-tokyo", "tokyo"):
            for pop in "paris", "tokyo":
                until(f"{endpoint} through {pop}, {turn}", lambda pop=pop, endpoint=endpoint, by=by:
                      asked(pop, endpoint, by))
        assert fleet.states() == {"paris": "ready", "tokyo": "ready"}

    def used():
        since, until_ = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
                         for seconds in (-3 * HOUR, 3 * HOUR))
        rows = fleet.control.json("usage", "--since", since, "--until", until_)["items"]
        return {row["endpoint"]: row["requests"] for row in rows if row["requests"]}

    fleet = Named(new, scratch)
    fleet.both()
    for name in "paris", "tokyo":
        fleet.control.cli("apply", "-f", "-", stdin=json.dumps({
            "name": f"at-{name}", "model": str(DIGITS / "digits.onnx"), "regions": [name],
            "scale": {"min": 1}}).encode())
    each_way("an hour off")
    before = [shown(fleet.control, f"at-{name}") for name in ("paris", "tokyo")]
    for turn, clock in enumerate(clocks):  # two hours at once
        clock.ahead(HOUR if turn else -HOUR)
    each_way("the other way round")
    assert [shown(fleet.control, f"at-{name}") for name in ("paris", "tokyo")] == before
    # What happens now comes, and comes once.
    kill(before[0][0])
    until("another replica", lambda: shown(fleet.control, "at-paris") not in ([], before[0]))
    each_way("after a death")
    events = fleet.control.get_json("/api/v1/events?limit=1000", listener="control")["items"]
    assert [row["kind"] for row in events].count("replica_exited") == 1
    assert len({row["id"] for row in events}) == len(events)
    # A PoP that boots with such a clock, too.
    fleet.pops["tokyo"].stop()
    fleet.pops["tokyo"].start("--listen-gateway", f"127.0.1.2:{fleet.ports['tokyo']}")
    each_way("after a boot")
    until("all to be counted", lambda: used() == answered)
