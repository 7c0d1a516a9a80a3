# SPDX-License-Identifier: Apache-2.0
"""What many connections cost: idle ones, answers that nobody reads, slow ones of each kind."""
import contextlib
import json
import resource
import socket

import pytest

from deadline import DEADLINE, SANITIZED, readable
from oip import Wire, apply, tensor

MIB = 2**20
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory says nothing of ours")


@pytest.fixture(autouse=True)
def descriptors():
    """As many as we may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def crowded(homes):
    perigee = homes()
    apply(perigee, {"name": "plain", "model": "identity_fp32"},
          {"name": "grow", "model": "grow", "flavor": {"memory": "1GiB"}, "timeout": "600s",
           "queue": {"depth": 1000, "timeout": "600s"}})
    return perigee


@contextlib.contextmanager
def connections(perigee, count, receive_bytes=None):
    """So many sockets; small ones do not let the kernel take much of an answer."""
    sockets = []
    try:
        for _ in range(count):
            one = socket.socket()
            sockets.append(one)
            if receive_bytes:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            one.settimeout(DEADLINE)
            one.connect(perigee.address())
        yield sockets
    finally:
        for one in sockets:
            one.close()


def memory(pid, name):
    """Bytes of one row of /proc/PID/smaps_rollup; 0 of what we may not look into."""
    with contextlib.suppress(PermissionError, ProcessLookupError, FileNotFoundError):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
    return 0


def whole(perigee):
    return sum(memory(pid, "Pss") for pid in perigee.pids())


def private(perigee):
    """The gateway's own: not what it shares with replicas."""
    found = memory(perigee.role_pid("gateway"), "Pss_Anon")
    assert found > 0
    return found


def infer_request(endpoint, *inputs, **more):
    body = json.dumps({"inputs": inputs, **more}).encode()
    return (b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            % (endpoint.encode(), len(body)) + body)


def grow(count):
    return infer_request("grow", tensor("n", "INT64", [1], [count]),
                         outputs=[{"name": "y", "parameters": {"binary_data": True}}])


# --- idle ----------------------------------------------------------------------------------------


def test_ten_thousand_idle_connections_take_less_than_100_mib(crowded, descriptors):
    count = 10_000
    if descriptors < count + 200:
        pytest.skip(f"needs {count} descriptors, and may have {descriptors}")
    for _ in range(3):
        assert crowded.request("GET", "/v2/health/live")[0] == 200
    before = whole(crowded)
    with connections(crowded, count) as sockets:
        for one in sockets:
            one.sendall(LIVE + b"\r\n")
        for one in sockets:
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")
        grown = whole(crowded) - before
        print(f"{count} idle connections: {grown / MIB:.1f} MiB, {grown // count} bytes each")
        assert grown < 100 * MIB
        crowded.wait_metric(lambda open: open >= count, "perigee_connections")
        for one in sockets[::500]:
            one.sendall(LIVE + b"\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")


# --- answers nobody reads ------------------------------------------------------------------------


def test_an_unread_answer_of_64_mib_takes_less_than_1_mib(crowded):
    elements = 64 * MIB // 4
    with connections(crowded, 1) as (one,):  # what the first of them makes
        one.sendall(grow(elements))
        left = 64 * MIB
        while left > 0:
            read = len(one.recv(MIB))
            assert read
            left -= read
    before = private(crowded)
    with connections(crowded, 1, 4096) as (one,):
        one.sendall(grow(elements))
        assert readable(one, DEADLINE)
        grown = private(crowded) - before
        print(f"an unread answer of 64 MiB: {grown / 1024:.0f} KiB")
        assert grown < MIB


def test_a_thousand_unread_answers_take_less_than_100_mib(crowded):
    """Some are being written, the others wait for a slot of the replica."""
    before = private(crowded)
    with connections(crowded, 1000, 4096) as sockets:
        for one in sockets:
            one.sendall(grow(64 * MIB // 4))
        crowded.wait_metric(lambda count: count + sum(readable(one, 0) for one in sockets) >= 1000,
                            "perigee_queue_requests", endpoint="grow")
        grown = private(crowded) - before
        print(f"1000 unread answers of 64 MiB: {grown / MIB:.1f} MiB")
        assert grown < 100 * MIB
    crowded.wait_metric(lambda count: count == 0, "perigee_queue_requests", endpoint="grow")


# --- slow ----------------------------------------------------------------------------------------


def test_a_thousand_slow_connections_hold_nobody_up(crowded):
    """A head, a body and an answer that take for ever, as slowhttptest has them; of another client
    of another endpoint all requests succeed meanwhile."""
    body = (b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 4096\r\n\r\n{")
    plain = infer_request("plain", tensor("x", "FP32", [1, 2], [1, 2]))
    with connections(crowded, 334) as heads, connections(crowded, 333) as bodies, \
            connections(crowded, 333, 4096) as answers, Wire(crowded) as wire:
        for one in heads:
            one.sendall(LIVE)
        for one in bodies:
            one.sendall(body)
        for one in answers:
            one.sendall(grow(4 * MIB))
        for turn in range(10):
            for one in heads:
                one.sendall(b"X-%d: 1\r\n" % turn)
            for one in bodies:
                one.sendall(b" ")
            for one in answers:
                if readable(one, 0):
                    one.recv(1)
            for _ in range(30):
                answer = wire.send(plain).answer()
                assert answer.status == 200 and answer.json()["outputs"][0]["data"] == [1, 2]


def test_slow_readers_give_the_replica_up_for_those_who_wait(crowded):
    """They hold all of its slots; its timeout is ten minutes, and nothing else ends them."""
    crowded.wait_metric(lambda count: count == 0, "perigee_queue_requests", endpoint="grow")
    with connections(crowded, 16, 4096) as slow, connections(crowded, 1) as (other,):
        for one in slow:
            one.sendall(grow(4 * MIB))
        crowded.wait_metric(lambda count: count > 0, "perigee_queue_requests", endpoint="grow")
        other.sendall(grow(2))
        assert other.recv(4096).startswith(b"HTTP/1.1 200 ")
