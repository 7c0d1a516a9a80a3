# SPDX-License-Identifier: Apache-2.0
"""The role that enters containers' networks, to which the test plays supervisor, agent and gateway:
what it answers, what it may, and that it ends."""
import contextlib
import http.client
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import time

import pytest

from deadline import DEADLINE, children, wait_exit, wait_readable
from perigee import PROGRAM

pytestmark = pytest.mark.root

MESSAGE_MAGIC, NETNS_MAGIC = 0x6d676550, 0x6e676550
SHOW, FORGET, WANT, SOCKET, TOLD, SHOWN = range(1, 7)
FORBIDDEN, NOT_FOUND, PRECONDITION = -3, -4, -7
NOBODY, PYTHON = 65534, "/usr/bin/python3"  # which anybody may run
MESSAGE = struct.Struct("<IIQQiI200s")
HEADER = pathlib.Path(__file__).parents[2] / "src" / "contract" / "messages.h"
CAP_SYS_PTRACE, CAP_SYS_ADMIN = 19, 21

# A container as far as its network goes. It says its port, and answers one client after the other.
SERVER = r"""
import fcntl, http.server, socket, struct
with socket.socket() as s:  # its loopback is up: IFF_UP
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b"from inside")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
print(server.server_port, flush=True)
server.serve_forever()
"""


def message_type(name):
    rows = re.findall(r"X\((MESSAGE_\w+),", HEADER.read_text(encoding="utf-8"))
    return rows.index(name) + 1  # the first is MESSAGE_NONE


class Side:
    """One end of a channel."""

    def __init__(self):
        self.sock, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.request = 0

    def close(self):
        self.sock.close()
        self.theirs.close()

    def say(self, kind, replica=0, fds=(), count=0):
        self.request += 1
        bits = MESSAGE.pack(NETNS_MAGIC, kind, replica, self.request, 0, count, b"")
        socket.send_fds(self.sock, [bits], fds)
        return self.request

    def hear(self):
        """(type, replica, request, code, sockets, text)"""
        wait_readable([self.sock.fileno()], time.monotonic() + DEADLINE, "the helper's answer")
        bits, fds, flags, _ = socket.recv_fds(self.sock, 4096, 32)
        assert bits and not flags & socket.MSG_CTRUNC, "the helper has closed the channel"
        magic, kind, replica, request, code, count, text = MESSAGE.unpack(bits)
        assert magic == NETNS_MAGIC
        if kind == SOCKET:
            assert len(fds) == count
        return kind, replica, request, code, fds, text.rstrip(b"\0").decode()

    def closed(self):
        wait_readable([self.sock.fileno()], time.monotonic() + DEADLINE, "the channel's end")
        with contextlib.suppress(ConnectionResetError):
            return self.sock.recv(4096) == b""
        return True


class Role:
    """`perigee role netns`, of which this is the supervisor."""

    def __init__(self, user=None):
        self.supervisor = Side()
        lifeline, self.lifeline = os.pipe()
        channel = self.supervisor.theirs.fileno()
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" role netns 3<&{channel} 4<&{lifeline}', PROGRAM],
            pass_fds=(channel, lifeline), stdin=subprocess.DEVNULL, user=user, group=user)
        os.close(lifeline)
        self.supervisor.theirs.close()
        self.sides = []

    def tell(self, name, payload=b"", fds=()):
        head = struct.pack("<IHH", MESSAGE_MAGIC, message_type(name), 1)
        socket.send_fds(self.supervisor.sock, [head + payload], fds)

    def ready(self):
        self.tell("MESSAGE_GO")
        bits = self.supervisor.sock.recv(64)
        assert bits == struct.pack("<IHH", MESSAGE_MAGIC, message_type("MESSAGE_READY"), 1)
        return self

    def side(self, shows):
        side = Side()
        self.tell("MESSAGE_NETNS", struct.pack("<II", shows, 0), [side.theirs.fileno()])
        side.theirs.close()
        self.sides.append(side)
        return side

    def status(self, key):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file)[key]

    def cut(self):
        if self.lifeline is not None:
            os.close(self.lifeline)
        self.lifeline = None

    def end(self):
        self.cut()
        self.process.kill()
        self.process.wait()
        self.supervisor.close()
        for side in self.sides:
            side.close()


@pytest.fixture
def role():
    one = Role().ready()
    yield one
    one.end()


class Inside:
    def __init__(self, user=None):
        own = ["unshare", "-Urn", PYTHON] if user else ["unshare", "-n", sys.executable]
        self.process = subprocess.Popen([*own, "-c", SERVER], stdout=subprocess.PIPE, text=True,
                                        user=user, group=user)
        self.port = int(self.process.stdout.readline())
        self.pidfd = os.pidfd_open(self.process.pid)

    def end(self):
        self.process.kill()  # again is harmless
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def inside():
    one = Inside()
    yield one
    one.end()
    os.close(one.pidfd)


def shown(agent, inside, replica=7):
    agent.say(SHOW, replica, [inside.pidfd])
    agent.say(TOLD)
    kind, about, _, code, _, text = agent.hear()
    assert (kind, about, code) == (SHOWN, replica, 0), text


def get(descriptor, port):
    """GET / over a socket that was made inside."""
    with socket.socket(fileno=descriptor) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(("127.0.0.1", port))
        client = http.client.HTTPConnection("127.0.0.1", port)
        client.sock = sock
        client.request("GET", "/")
        return client.getresponse().read()


def test_a_gateway_reaches_what_listens_inside_and_nothing_else(role, inside):
    agent, gateway = role.side(1), role.side(0)
    shown(agent, inside)
    for _ in range(3):
        request = gateway.say(WANT, 7, count=1)
        kind, replica, said, code, fds, _ = gateway.hear()
        assert (kind, replica, said, code, len(fds)) == (SOCKET, 7, request, 0, 1)
        assert get(fds[0], inside.port) == b"from inside"
    gateway.say(WANT, 8, count=1)
    assert gateway.hear()[3] == NOT_FOUND
    agent.say(FORGET, 7)
    agent.say(WANT, 7, count=1)
    assert agent.hear()[3] == NOT_FOUND
    gateway.say(WANT, 7, count=1)
    assert gateway.hear()[3] == NOT_FOUND


def test_one_that_has_ended_is_an_error_and_no_wait(role, inside):
    agent, gateway = role.side(1), role.side(0)
    shown(agent, inside)
    inside.end()
    gateway.say(WANT, 7, count=1)
    _, _, _, code, fds, text = gateway.hear()
    assert (code, fds) == (NOT_FOUND, []) and "gone" in text
    agent.say(SHOW, 7, [inside.pidfd])
    assert agent.hear()[3] == NOT_FOUND


def test_many_are_answered_in_order(role, inside):
    agent, gateway, other = role.side(1), role.side(0), role.side(0)
    shown(agent, inside)
    asked = [gateway.say(WANT, 7 + number % 2, count=1) for number in range(60)]
    other.say(WANT, 7, count=1)  # not held up by who has not read its answers
    assert other.hear()[3] == 0
    for number, request in enumerate(asked):
        _, replica, said, code, fds, _ = gateway.hear()
        assert (replica, said) == (7 + number % 2, request)
        assert (code, len(fds)) == ((NOT_FOUND, 0) if number % 2 else (0, 1))
        for descriptor in fds:
            os.close(descriptor)


def test_a_gateway_is_heard_once_the_agent_has_told_all(role, inside):
    gateway = role.side(0)
    gateway.say(WANT, 7, count=1)
    agent = role.side(1)
    shown(agent, inside)
    kind, _, _, code, fds, text = gateway.hear()
    assert (kind, code) == (SOCKET, 0), text
    assert get(fds[0], inside.port) == b"from inside"


def test_a_new_agent_takes_the_place_of_the_one_before(role, inside):
    agent, gateway = role.side(1), role.side(0)
    shown(agent, inside)
    again = role.side(1)
    assert agent.closed()
    gateway.say(WANT, 7, count=1)  # what it had shown is there
    assert gateway.hear()[3] == 0
    again.say(FORGET, 7)
    again.say(WANT, 7, count=1)
    assert again.hear()[3] == NOT_FOUND


BAD = {
    "shows-without-leave": lambda side, fd: side.say(SHOW, 9, [fd]),
    "forgets-without-leave": lambda side, fd: side.say(FORGET, 7),
    "no-descriptor": lambda side, fd: side.say(SHOW, 9),
    "no-socket": lambda side, fd: side.say(WANT, 7, count=0),
    "two-sockets": lambda side, fd: side.say(WANT, 7, count=2),
    "descriptor-with-a-want": lambda side, fd: side.say(WANT, 7, [fd], count=1),
    "an-answer": lambda side, fd: side.say(SOCKET, 7),
    "short": lambda side, fd: side.sock.send(b"Pegn"),
    "long": lambda side, fd: side.sock.send(bytes(5000)),
    "many-descriptors": lambda side, fd: socket.send_fds(side.sock, [bytes(MESSAGE.size)],
                                                         [fd] * 64),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_who_says_what_it_may_not_is_cut_off_alone(role, inside, case):
    agent, gateway, bad = role.side(1), role.side(0), role.side(0)
    shown(agent, inside)
    BAD[case](bad, inside.pidfd)
    assert bad.closed()
    gateway.say(WANT, 7, count=1)
    kind, _, _, code, fds, _ = gateway.hear()
    assert (kind, code) == (SOCKET, 0)
    assert get(fds[0], inside.port) == b"from inside"


def test_a_process_that_is_none_cannot_be_shown(role, inside):
    agent = role.side(1)
    with open("/dev/null", "rb") as null:
        agent.say(SHOW, 9, [null.fileno()])
    kind, replica, _, code, _, text = agent.hear()
    assert (kind, replica) == (SHOWN, 9) and code < 0 and text
    shown(agent, inside)


def test_what_has_the_machines_own_network_is_not_reached(role, inside):
    agent, own = role.side(1), os.pidfd_open(os.getpid())
    shown(agent, inside)
    agent.say(SHOW, 9, [own])
    os.close(own)
    _, replica, _, code, _, text = agent.hear()
    assert (replica, code) == (9, PRECONDITION) and "own network" in text
    agent.say(WANT, 9, count=1)
    assert agent.hear()[3] == NOT_FOUND


def test_it_has_two_capabilities_and_no_files(role, inside):
    agent = role.side(1)
    shown(agent, inside)
    mine = 1 << CAP_SYS_ADMIN | 1 << CAP_SYS_PTRACE
    for which in ("CapEff", "CapPrm"):
        assert int(role.status(which), 16) == mine
    for which in ("CapInh", "CapBnd", "CapAmb"):
        assert int(role.status(which), 16) == 0
    assert role.status("NoNewPrivs") == "1"
    assert role.status("Seccomp") == "2"
    assert role.status("Threads") == "1"
    assert os.readlink(f"/proc/{role.process.pid}/ns/net") == os.readlink("/proc/self/ns/net")


def test_an_ordinary_user_reaches_its_own_and_no_other(inside):
    try:
        for program in (PROGRAM, PYTHON):
            subprocess.run([program, "--version"], user=NOBODY, check=True, capture_output=True)
    except OSError as why:
        pytest.skip(f"an ordinary user cannot run it: {why}")
    role, own = Role(NOBODY).ready(), Inside(NOBODY)
    try:
        agent, gateway = role.side(1), role.side(0)
        shown(agent, own)
        for _ in range(2):
            gateway.say(WANT, 7, count=1)
            _, _, _, code, fds, text = gateway.hear()
            assert (code, len(fds)) == (0, 1), text
            assert get(fds[0], own.port) == b"from inside"
        agent.say(SHOW, 8, [inside.pidfd])  # root's
        _, _, _, code, _, text = agent.hear()
        assert code == FORBIDDEN and "cannot be entered" in text
        own.end()
        gateway.say(WANT, 7, count=1)
        assert gateway.hear()[3] == NOT_FOUND
        assert int(role.status("CapPrm"), 16) == 0 and role.status("Seccomp") == "2"
        assert children(role.process.pid) == set()
    finally:
        own.end()
        os.close(own.pidfd)
        role.end()


@pytest.mark.parametrize("how", ["lifeline", "channel", "drain"])
def test_it_ends_with_its_supervisor(how):
    role = Role().ready()
    if how == "lifeline":
        role.cut()
    elif how == "channel":
        role.supervisor.sock.close()
    else:
        role.tell("MESSAGE_DRAIN", struct.pack("<II", 1000, 0))
    wait_exit(role.process.pid, "the role's end")
    assert role.process.wait() == 0
    role.end()
