# SPDX-License-Identifier: Apache-2.0
"""Many connections at once, and what they cost: for tests, and for bench/crowd."""
import contextlib
import json
import resource
import socket

from deadline import DEADLINE, readable
from oip import tensor

MIB = 2**20
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
HALF_BODY = (b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\n"
             b"Content-Length: 4096\r\n\r\n{")


def descriptors():
    """As many as we may have from here on; returns how many, and the limits of before."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before[1], before


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


def grow(count, endpoint="grow"):
    """For an answer of so many FP32, in binary."""
    return infer_request(endpoint, tensor("n", "INT64", [1], [count]),
                         outputs=[{"name": "y", "parameters": {"binary_data": True}}])


PLAIN = infer_request("plain", tensor("x", "FP32", [1, 2], [1, 2]))
ENDPOINTS = ({"name": "plain", "model": "identity_fp32"},
             {"name": "grow", "model": "grow", "flavor": {"memory": "1GiB"}, "timeout": "600s",
              "queue": {"depth": 1000, "timeout": "600s"}})


class Slow:
    """Connections of slowhttptest's three kinds: a head, a body and an answer without end."""

    def __init__(self, stack, perigee, count):
        each = count // 3
        self.heads = stack.enter_context(connections(perigee, count - 2 * each))
        self.bodies = stack.enter_context(connections(perigee, each))
        self.answers = stack.enter_context(connections(perigee, each, 4096))
        for sockets, start in ((self.heads, LIVE), (self.bodies, HALF_BODY),
                               (self.answers, grow(4 * MIB))):
            for one in sockets:
                one.sendall(start)

    def trickle(self, turn):
        """Some bytes more of each."""
        for one in self.heads:
            one.sendall(b"X-%d: 1\r\n" % turn)
        for one in self.bodies:
            one.sendall(b" ")
        for one in self.answers:
            if readable(one, 0):
                with contextlib.suppress(ConnectionResetError):
                    one.recv(1)
