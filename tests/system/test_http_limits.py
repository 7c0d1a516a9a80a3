# SPDX-License-Identifier: Apache-2.0
"""Clients that are too slow, or too many: each limit of HTTP, as docs/limits.md has them."""
import contextlib
import json
import os
import resource
import subprocess

import pytest

import machine
from deadline import readable
from oip import Wire, apply, split_body, tensor
from perigee import PROGRAM

BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]})
INFER = (f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\n"
         f"Content-Length: {len(BODY)}\r\n\r\n")
LIVE = "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"


def limited(new_perigee, **limits):
    perigee = new_perigee("--limits", ",".join(f"{name}={value}"
                                               for name, value in limits.items()))
    perigee.wait_metric(lambda number: number > 0, "perigee_gateway_table_number")
    return perigee


def serves(perigee):
    """Another client, on a connection of its own."""
    assert perigee.request("GET", "/v2/health/live")[0] == 200


# --- too slow ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(homes):
    """One that waits for nobody: 200 ms, and a mebibyte a second."""
    limits = ["idle_ms", "head_ms", "body_ms", "write_ms"]
    rates = ["body_rate_min", "write_rate_min"]
    perigee = homes("--limits", ",".join([f"{name}=200" for name in limits] +
                                         [f"{name}=1048576" for name in rates]))
    apply(perigee, {"name": "plain", "model": "identity_fp32"},
          {"name": "pick", "model": "pick"},
          {"name": "grow", "model": "grow", "timeout": "300s"})
    return perigee


@pytest.mark.parametrize("start,status", [
    ("", None), ("\r\n", None), ("GET /v2/he", 408), (LIVE, 408), (LIVE + "X-Half", 408),
    (INFER, 408), (INFER + BODY[:20], 408)],
    ids=["nothing", "an-empty-line", "a-line", "a-head", "a-header", "no-body", "a-body"])
def test_half_a_request_is_not_waited_for(hasty, start, status):
    with Wire(hasty) as wire:
        wire.send(start)
        if status:
            answer = wire.answer()
            assert answer.status == status and answer.headers["perigee-error"] == "deadline"
            assert answer.headers["connection"] == "close"
        assert wire.ended()
    serves(hasty)


def trickle(wire, data):
    """Sends byte after byte, as fast as the other end lets us, until it answers."""
    for at in range(len(data)):
        if readable(wire.socket, 0.01):
            return
        with contextlib.suppress(ConnectionError):
            wire.send(data[at:at + 1])


def test_a_trickled_head_is_408(hasty):
    with Wire(hasty) as wire:
        wire.send(LIVE)
        trickle(wire, b"X: " + b"y" * 30_000)
        assert wire.answer().status == 408
    serves(hasty)


def begin_upload(wire, elements):
    """All of a request but the elements of its tensor, of which one is asked back."""
    headers, head = split_body({"inputs": [
        tensor("x", "FP32", [elements], binary_data_size=4 * elements),
        tensor("i", "INT64", [1], [elements - 1])]})
    wire.send("POST /v2/models/pick/infer HTTP/1.1\r\nHost: localhost\r\n",
              "".join(f"{name}: {value}\r\n" for name, value in headers.items()),
              f"Content-Length: {len(head) + 4 * elements}\r\n\r\n", head)


def test_a_trickled_body_is_408_and_says_why(hasty):
    with Wire(hasty) as wire:
        begin_upload(wire, 2**20)
        trickle(wire, b"\0" * 30_000)
        answer = wire.answer()
        assert answer.status == 408 and answer.headers["perigee-error"] == "deadline"
        assert "too slowly" in answer.json()["error"] and "1048576" in answer.json()["error"]
    serves(hasty)


def test_half_sent_uploads_hold_what_has_come_and_give_way(perigee):
    """More of them than one revision has room for: what counts is what has come, and when there is
    no room for another request the slow ones are given up."""
    apply(perigee, {"name": "pick", "model": "pick"})
    sent = perigee.metric("perigee_received_bytes_total")

    def a_second_passes(wire):  # so often the gateway counts
        nonlocal sent
        for _ in range(2):
            sent = perigee.metric("perigee_received_bytes_total")
            wire.send(b"\0")
            perigee.wait_metric(lambda count: count > sent, "perigee_received_bytes_total")

    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(perigee)) for _ in range(128)]
        for wire in wires:
            begin_upload(wire, 15 * 2**20)
            wire.send(b"\0" * 1000)
        perigee.wait_metric(lambda count: count >= sent + 128 * 1000,
                            "perigee_received_bytes_total")
        late = [wire for wire in wires if readable(wire.socket, 0)]
        slow = [wire for wire in wires if wire not in late]
        assert late and len(slow) >= 16
        assert {wire.answer().status for wire in late} == {503}
        assert perigee.metric("perigee_request_memory_bytes") <= len(slow) * 2**21
        a_second_passes(slow[-1])
        with Wire(perigee) as wire:
            begin_upload(wire, 15 * 2**20)
            answer = wire.send(b"\0" * (60 * 2**20)).answer()
            assert answer.status == 200 and answer.json()["outputs"][0]["data"] == [0]
        answer = slow[0].answer()
        assert answer.status == 503 and "65536 bytes a second" in answer.json()["error"]
        assert not readable(slow[-1].socket, 0)
    perigee.wait_metric(lambda bytes: bytes == 0, "perigee_request_memory_bytes")


def ask_for(wire, count):
    body = json.dumps({"inputs": [tensor("n", "INT64", [1], [count])],
                       "outputs": [{"name": "y", "parameters": {"binary_data": True}}]})
    return wire.send(f"POST /v2/models/grow/infer HTTP/1.1\r\nHost: localhost\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n{body}")


def test_an_answer_that_is_not_read_is_cut(hasty):
    """At once, and byte by byte: its slot goes back, and others are served."""
    before = hasty.metric("perigee_connection_timeouts_total", waited_for="answer")
    for read in (0, 1):
        with Wire(hasty) as wire:
            ask_for(wire, 2**23)
            hasty.wait_metric(lambda count: wire.socket.recv(read) is None or count > before,
                              "perigee_connection_timeouts_total", waited_for="answer")
            before += 1
    with Wire(hasty) as wire:
        answer = ask_for(wire, 16).answer()
        assert answer.status == 200 and answer.body.endswith(b"\0" * 64)


# --- too many ------------------------------------------------------------------------------------


def test_an_address_has_so_many_connections(new_perigee):
    perigee = limited(new_perigee, address_connections_max=4, address_loopback=1)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(perigee)) for _ in range(4)]
        for wire in wires:
            assert wire.send(LIVE, "\r\n").answer().status == 200
        with Wire(perigee) as fifth:
            answer = fifth.answer()
            assert answer.status == 429 and answer.headers["perigee-error"] == "rate_limited"
            assert answer.headers["retry-after"] == "1" and fifth.ended()
            assert answer.headers["x-request-id"] and "address" in answer.json()["error"]
        assert wires[0].send(LIVE, "Connection: close\r\n\r\n").answer().status == 200
        assert wires[0].ended()  # so that it is no longer counted
        serves(perigee)
        perigee.wait_metric(lambda count: count == 1, "perigee_connections_sent_away_total",
                            reason="address")


def test_this_machine_may_have_as_many_as_it_likes(new_perigee):
    perigee = limited(new_perigee, address_connections_max=4)
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            wire = stack.enter_context(Wire(perigee))
            assert wire.send(LIVE, "\r\n").answer().status == 200


def test_the_idle_make_room_and_the_busy_do_not(new_perigee):
    perigee = limited(new_perigee, connections_max=4)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Wire(perigee)) for _ in range(4)]
        for wire in idle:
            assert wire.send(LIVE, "\r\n").answer().status == 200
        busy = []
        for wire in idle:  # each new one ends the one that is idle longest
            one = stack.enter_context(Wire(perigee))
            one.send(LIVE)
            assert wire.ended()
            busy.append(one)
        with Wire(perigee) as more:
            answer = more.answer()
            assert answer.status == 503 and answer.headers["perigee-error"] == "overloaded"
            assert answer.headers["retry-after"] == "1" and more.ended()
        for one in busy:
            assert one.send("\r\n").answer().status == 200
        serves(perigee)
        perigee.wait_metric(lambda count: count == 1, "perigee_connections_sent_away_total",
                            reason="full")
        perigee.wait_metric(lambda count: count == 5, "perigee_connections_evicted_total")


# --- descriptors ---------------------------------------------------------------------------------


def descriptors_of(pid):
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("Max open files"))
    return tuple(map(int, line.split()[3:5]))


def limit_descriptors(pid, limits):
    """As its user: as root the gateway has one of its own, and this root may lack the privilege."""
    assert machine.as_user(machine.user_of(pid), lambda: resource.prlimit(
        pid, resource.RLIMIT_NOFILE, limits)) == 0


def test_without_a_descriptor_clients_are_told_so_and_later_served(new_perigee):
    perigee = new_perigee()
    gateway = perigee.role_pid("gateway")
    apply(perigee, {"name": "plain", "model": "identity_fp32"})
    old = descriptors_of(gateway)
    few = max(map(int, os.listdir(f"/proc/{gateway}/fd"))) + 9
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Wire(perigee))
        assert first.send(LIVE, "\r\n").answer().status == 200
        first.send(LIVE)
        limit_descriptors(gateway, (few, old[1]))
        wires = [stack.enter_context(Wire(perigee)).send(LIVE) for _ in range(40)]
        seen = perigee.metric("perigee_connections_total")
        perigee.wait_metric(lambda away: away + perigee.metric("perigee_connections_total") >=
                            seen + 40, "perigee_connections_sent_away_total", reason="full")
        away = [wire for wire in wires if readable(wire.socket, 0)]
        assert 20 <= len(away) < 40
        for wire in away:
            answer = wire.answer()
            assert answer.status == 503 and answer.headers["perigee-error"] == "overloaded"
        assert "accept failed" not in perigee.log.read_text()
        limit_descriptors(gateway, old)
        for wire in [first] + [wire for wire in wires if wire not in away]:
            assert wire.send("\r\n").answer().status == 200
        with Wire(perigee) as wire:
            assert wire.send(INFER, BODY).answer().status == 200


def test_descriptors_are_raised_as_far_as_allowed(new_perigee):
    perigee = new_perigee(start=False)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    perigee.start(limits=[(resource.RLIMIT_NOFILE, (256, hard))])
    soft, most = descriptors_of(perigee.role_pid("gateway"))
    assert soft == most >= min(hard, 65536)


# --- limits as they are given --------------------------------------------------------------------


@pytest.mark.parametrize("text,says", [
    ("head_ms=0", "head_ms takes a number from 1 to 86400000, not '0'"),
    ("head_ms=5s", "not '5s'"), ("tail_ms=5", "there is no limit 'tail_ms'"),
    ("head_ms", "head_ms takes a number"), (",", "there is no limit ''")],
    ids=["too-small", "a-unit", "unknown", "no-number", "nothing"])
@pytest.mark.parametrize("how", ["flag", "environment"])
def test_wrong_limits(scratch, how, text, says):
    command = [PROGRAM, "up", "--home", scratch / "home"]
    command += ["--limits", text] if how == "flag" else []
    env = {**os.environ, **({} if how == "flag" else {"PERIGEE_LIMITS": text})}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and says in done.stderr
    assert ("--limits" if how == "flag" else "$PERIGEE_LIMITS") in done.stderr
    assert not (scratch / "home").exists()
