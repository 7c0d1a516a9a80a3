# SPDX-License-Identifier: Apache-2.0
"""Replicas follow the load: to none and back, and more while more is asked for."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import resource
import signal
import threading

import pytest

import crowd
from deadline import DEADLINE, children, command_line, until
from oip import MODELS, ask, infer, tensor
from perigee import DIGITS
from test_parts import Fleet

IMAGE = tensor("image", "FP32", [1, 64], [0] * 64)


def spec(name, model, more="", **scale):
    return json.dumps({"name": name, "model": str(model), "scale": scale, **(more or {})})


def apply(one, *specs):
    return one.cli("apply", "-f", "-", stdin="\n---\n".join(specs).encode())


def replicas(one, name):
    return sum(row["state"] == "ready" for row in one.json("show", name)["replicas"])


def at_zero(one, name):
    until(f"{name} at zero", lambda: one.json("show", name)["state"] == "idle")
    until(f"no replica of {name}", lambda: one.json("show", name)["replicas"] == [])


def test_to_zero_and_back(perigee):
    apply(perigee, spec("sleepy", DIGITS / "digits.onnx", idle="1s"))
    assert ask(perigee, "sleepy", IMAGE)["label"]
    at_zero(perigee, "sleepy")
    shown = perigee.json("show", "sleepy")
    assert shown["serving"] == 1 and shown["scale"][0]["replicas"] == 0
    said = " ".join(perigee.cli("show", "sleepy").text.split())
    assert "0 replicas: nobody asks (scale.idle 1s); 1 with the first request" in said
    assert perigee.json("endpoints")["items"][0]["state"] == "idle"
    # Who asks first whether it is ready wakes it after that.
    assert perigee.get_json("/v2/models/sleepy/ready")["ready"] is True
    assert perigee.get_json("/v2/models/sleepy/versions/1/ready")["ready"] is True
    listed = json.loads(perigee.request("POST", "/v2/repository/index", {"ready": True})[2])
    assert [(row["name"], row["state"]) for row in listed] == [("sleepy", "READY")]
    assert perigee.json("show", "sleepy")["replicas"] == []
    with perigee.events(new=True) as events:
        status, headers, answer = infer(perigee, "sleepy", [IMAGE])
        assert status == 200, answer
        assert "cold;dur=" in headers["Server-Timing"]
        assert "1 replica" in events.wait("scaled", endpoint="sleepy")["message"]
    for part in ("all", "spawn", "walls", "load", "first_run"):
        labels = {"endpoint": "sleepy", "cold": "true", "part": part}
        assert perigee.metric("perigee_replica_start_seconds_count", **labels) >= 1
        assert perigee.metric("perigee_replica_start_seconds_sum", **labels) > 0
    # What describes it answers without a replica, and an update shows that it can run.
    at_zero(perigee, "sleepy")
    assert perigee.get_json("/v2/models/sleepy")["inputs"][0]["name"] == "image"
    perigee.cli("deploy", "sleepy", "--model", MODELS / "identity_fp32.onnx")
    assert perigee.json("show", "sleepy")["serving"] == 2
    perigee.cli("delete", "sleepy", "--yes")


@contextlib.contextmanager
def open_files():
    _, before = crowd.descriptors()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def asked(name):
    body = json.dumps({"inputs": [IMAGE]}).encode()
    return (b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (name.encode(), len(body), body))


def status_of(connection):
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def test_a_herd_at_zero_waits_and_starts_few(perigee):
    """All are answered, by one replica and those that the policy then wants: a run is short, so
    that a few work all of them off. By their number alone it would want all that it may have. The
    start takes until all wait, and the agent has been told so: it is told of both endpoints when
    the other one is asked for."""
    count, most, few = 1000, 100, 8
    more = {"queue": {"depth": 2 * count}}
    apply(perigee, *[spec(name, DIGITS / "digits.onnx", more, idle="1s", max=most,
                          per_pop={"max": most}) for name in ("herd", "other")])
    for name in ("herd", "other"):
        at_zero(perigee, name)
    stopped = next(pid for pid in children(perigee.process.pid)
                   if command_line(pid).endswith("perigee-worker-onnx"))
    with perigee.events(new=True) as events, open_files(), \
            crowd.connections(perigee, count + 1) as herd:
        os.kill(stopped, signal.SIGSTOP)
        try:
            for one in herd[1:]:
                one.sendall(asked("herd"))
            until("the herd", lambda: perigee.metric("perigee_queue_requests", endpoint="herd") ==
                  count)
            herd[0].sendall(asked("other"))
            events.wait("scaled", endpoint="other")
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert {status_of(one) for one in herd} == {200}
        events.wait("replica_ready", endpoint="herd")
        at_zero(perigee, "herd")
        events.wait("scaled", endpoint="herd", message="0 replicas: nobody asks (scale.idle 1s); 1 "
                                                       "with the first request")
        starts = [event for event in events.seen
                  if event["kind"] == "replica_started" and event["endpoint"] == "herd"]
    assert 1 <= len(starts) <= few
    for name in ("herd", "other"):
        perigee.cli("delete", name, "--yes")


@pytest.mark.parametrize("signal", [{"rps": "2/s"}, {"cpu": "5%"}], ids=["rps", "cpu"])
def test_another_signal(perigee, signal):
    """Requests a second, or cores in use, in place of requests at a time: two are wanted for one
    client, who never has more than one request."""
    apply(perigee, spec("signal", MODELS / "slow.onnx", {"timeout": "60s"}, idle="1h", max=2,
                        per_pop={"max": 2}, **signal))
    assert replicas(perigee, "signal") == 1
    over = threading.Event()

    def ask_on():
        while not over.is_set():
            assert infer(perigee, "signal", work(2000))[0] == 200

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        one = pool.submit(ask_on)
        try:
            until("two replicas", lambda: replicas(perigee, "signal") == 2)
        finally:
            over.set()
        one.result(DEADLINE)
    perigee.cli("delete", "signal", "--yes")


def work(rounds):
    return [tensor("rounds", "INT64", [1], [rounds])]


def test_more_while_more_is_asked_for_and_fewer_after(perigee):
    apply(perigee, spec("busy", MODELS / "slow.onnx", {"timeout": "60s"}, idle="1h", concurrency=1,
                        max=3, per_pop={"max": 3}))
    assert replicas(perigee, "busy") == 1
    over = threading.Event()

    def ask_on(_):
        while not over.is_set():
            assert infer(perigee, "busy", work(20000))[0] == 200

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        running = [pool.submit(ask_on, at) for at in range(6)]
        try:
            until("three replicas", lambda: replicas(perigee, "busy") == 3)
            until("the words of it", lambda: "the most here" in
                  perigee.json("show", "busy")["scale"][0]["text"])
        finally:
            over.set()
        for one in running:
            one.result(DEADLINE)
    until("one replica again", lambda: replicas(perigee, "busy") == 1)
    perigee.cli("delete", "busy", "--yes")


def test_bounds_hold_at_once(perigee):
    apply(perigee, spec("bounds", DIGITS / "digits.onnx", min=2, per_pop={"max": 4}))
    assert replicas(perigee, "bounds") == 2
    perigee.cli("scale", "bounds", "--min", 3)
    until("three", lambda: replicas(perigee, "bounds") == 3)
    assert "the least here" in perigee.json("show", "bounds")["scale"][0]["text"]
    perigee.cli("scale", "bounds", "--min", 0, "--max", 1)
    until("one", lambda: replicas(perigee, "bounds") == 1)
    perigee.cli("delete", "bounds", "--yes")


def test_a_killed_agent_forgets_no_zero(perigee):
    """Who serves at zero is served after the agent has died, by the table and then by the next."""
    apply(perigee, spec("kept", DIGITS / "digits.onnx", idle="1s"))
    at_zero(perigee, "kept")
    with perigee.events(new=True) as events:
        os.kill(perigee.role_pid("pop"), signal.SIGKILL)
        status, _, answer = infer(perigee, "kept", [IMAGE])
        assert status == 200, answer
        events.wait("replica_ready", endpoint="kept")
    perigee.cli("delete", "kept", "--yes")


REFUSED = {
    "two-signals": ({"rps": "5/s", "cpu": "50%"}, "replicas follow one signal"),
    "idle": ({"idle": "3 days"}, "scale.idle"),
    "no-rate": ({"rps": "0/s"}, "scale.rps: 0/s is below"),
    "no-share": ({"cpu": "0%"}, "scale.cpu: 0% is below 1%"),
    "no-unit": ({"down_delay": "10"}, "scale.down_delay: '10' needs a unit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(perigee, case):
    scale, says = REFUSED[case]
    answer = perigee.cli("apply", "-f", "-", status=1,
                         stdin=spec("refused", DIGITS / "digits.onnx", **scale).encode())
    assert says in " ".join(answer.said.split())


def test_what_endpoints_scale_up_to_is_held_to_the_limits_of_their_pop(new_perigee, scratch):
    """One for another endpoint, which nobody asks, is kept free, until that is gone."""
    fleet = Fleet(new_perigee, scratch)
    paris = fleet.join("paris", limits=("--replicas", 3))
    more = {"spread": {"pops": 1}}
    apply(fleet.control, *[spec(name, DIGITS / "digits.onnx", more, max=8, rps="1/s",
                                per_pop={"max": 8}, idle="1h") for name in ("busy", "quiet")])
    over = threading.Event()

    def ask_on():
        while not over.is_set():
            assert infer(paris, "busy", [IMAGE])[0] == 200

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_on)
        try:
            until("those that fit", lambda: replicas(fleet.control, "busy") == 2)
            said = until("why there are no more", lambda: next((
                text for text in [" ".join(fleet.control.cli("show", "busy").text.split())]
                if "the most here" in text), None))
            assert "this PoP's room); the load would have" in said
            assert replicas(fleet.control, "quiet") == 1
            fleet.control.cli("delete", "quiet", "--yes")
            until("its room", lambda: replicas(fleet.control, "busy") == 3)
        finally:
            over.set()
        asking.result(DEADLINE)
    assert "not its to say" not in "".join(fleet.control.words())  # of the end of what was deleted
