# SPDX-License-Identifier: Apache-2.0
"""`perigee upgrade` and SIGUSR2: another program takes over, and no request is lost by it."""
import http.client
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading

import pytest

from deadline import DEADLINE, SANITIZED, children, command_line, wait_exit
from perigee import DIGITS, PROGRAM, ROOT
from test_processes import (ROLES, ZEROS, Load, kill, replica_pids, right, role_pid, served, shown,
                            until)

NO_ROOM = "AddressSanitizer needs more addresses than the limit leaves"


def another(scratch, name="other"):
    """The same program at another path, so that /proc/PID/exe tells who runs it. Its libraries are
    where it looks for them: beside it in a build, beside its folder where it is installed."""
    tree, prefix = scratch / name, PROGRAM.resolve().parent
    program = tree / "perigee"
    if prefix.name == "bin":
        prefix, program = prefix.parent, tree / "bin" / "perigee"
    program.parent.mkdir(parents=True)
    shutil.copy2(PROGRAM, program)
    (tree / "lib").symlink_to(prefix / "lib")
    return program


def program_of(pid):
    """None: there is no such process just now."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except FileNotFoundError:
        return None


def programs(perigee):
    """What supervisor and roles run."""
    return {role: program_of(role_pid(perigee, role)) for role in ROLES} | {
        "supervisor": program_of(perigee.process.pid)}


def all_run(perigee, program):
    return set(programs(perigee).values()) == {str(program.resolve())}


def gateways(perigee):
    return {pid for pid in children(perigee.process.pid)
            if command_line(pid).endswith(" role gateway")}


def walls(perigee, endpoint):
    """What control says of the replicas' walls, the control group among them."""
    done = perigee.cli("show", endpoint, "--json")
    return [row["sandbox"] for row in json.loads(done.stdout)["replicas"]]


def counted(perigee, result):
    _, _, body = perigee.request("GET", "/metrics", listener="admin")
    wanted = f'perigee_upgrades_total{{result="{result}"}} '
    for line in body.decode().splitlines():
        if line.startswith(wanted):
            return int(line.removeprefix(wanted))
    return None


class KeepAlive(Load):
    """The same on connections that are kept. What the server has not announced with `Connection:
    close` is a failure."""

    def run(self):
        connection = http.client.HTTPConnection(*self.perigee.address(), timeout=DEADLINE)
        body = json.dumps(ZEROS)
        while not self.stopped.is_set():
            status, answer = 0, b""
            try:
                connection.request("POST", "/v2/models/digits/infer", body,
                                   {"Content-Type": "application/json"})
                got = connection.getresponse()
                status, answer = got.status, got.read()
            except (OSError, http.client.HTTPException) as fault:
                print("cut:", repr(fault))
                connection.close()
            with self.lock:
                if status == 200 and right(answer):
                    self.answers += 1
                elif status == 0:
                    self.cut += 1
                else:
                    self.wrong += 1
                    print(status, answer[:300])
        connection.close()


@pytest.fixture
def one(new_perigee):
    perigee = new_perigee()
    perigee.cli("deploy", "digits", "--model", DIGITS / "digits.onnx", "--max", 1)
    return perigee


def lost(load):
    return load.cut, load.refused, load.wrong


def test_upgrades_under_load_lose_no_request(one, scratch):
    other = another(scratch)
    before, walls_before = replica_pids(one, "digits"), walls(one, "digits")
    with KeepAlive(one, 3) as kept, Load(one, 2) as fresh:
        kept.more()
        for number, program in enumerate((other, PROGRAM, other), 1):
            roles = {role: role_pid(one, role) for role in ROLES}
            done = one.cli("upgrade", "--binary", program)
            assert "gateway is replaced" in done.text and "serves now" in done.text
            assert all_run(one, program)
            assert all(role_pid(one, role) != pid for role, pid in roles.items())
            assert len(gateways(one)) == 1
            kept.more()
            fresh.more()
            until("the agent's count", lambda n=number: counted(one, "done") == n)
        os.replace(shutil.copy2(PROGRAM, scratch / "next"), other)  # as a package's update does
        inode = other.stat().st_ino
        os.kill(one.process.pid, signal.SIGUSR2)
        until("the new file's run", lambda: os.stat(f"/proc/{one.process.pid}/exe").st_ino == inode)
        until("the fourth upgrade", lambda: counted(one, "done") == 4)
        kept.more()
        fresh.more()
    print(f"answers {kept.answers} kept, {fresh.answers} fresh")
    assert (lost(kept), lost(fresh)) == ((0, 0, 0), (0, 0, 0))
    assert shown(one, "digits") == before
    until("the same walls", lambda: walls(one, "digits") == walls_before)
    assert one.wait_event("upgraded")["message"].startswith("version ")


def test_a_request_that_runs_ends_with_the_gateway_that_has_it(one):
    old = role_pid(one, "gateway")
    body = json.dumps(ZEROS).encode()
    with one.connect() as held, one.connect() as idle:
        held.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                     + body[:20])
        idle.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")
        upgrade = subprocess.Popen([PROGRAM, "upgrade", "--json"], env=one.environment(),
                                   stdout=subprocess.PIPE)
        assert idle.recv(4096) == b""  # a second without a request: closed, not reset
        until("control's replacement", lambda: len(gateways(one)) == 2 and shown(one, "digits"))
        again = one.cli("upgrade", status=1)
        assert "under way" in again.said or "still ends" in again.said
        held.sendall(body[20:])
        answer = http.client.HTTPResponse(held)
        answer.begin()
        assert answer.status == 200 and right(answer.read())
        assert answer.getheader("Connection") == "close"
    said = json.loads(upgrade.communicate(timeout=DEADLINE)[0])
    assert upgrade.returncode == 0
    assert said["version"] and any("gateway" in step for step in said["steps"])
    assert gateways(one) == {role_pid(one, "gateway")} and role_pid(one, "gateway") != old


def test_the_old_gateway_is_heard_by_the_new_agent(one):
    """It has a request by version when the agent is another already, and nothing runs for it."""
    [first] = replica_pids(one, "digits")
    one.cli("apply", "-f", "-", stdin=b"name: digits\nmodel: %s\nbatch: {max: 2}\n"
            % bytes(DIGITS / "digits.onnx"))
    wait_exit(first, "the first revision's end")
    agent, body = role_pid(one, "pop"), json.dumps(ZEROS).encode()
    with one.connect() as held:
        held.sendall(b"POST /v2/models/digits/versions/1/infer HTTP/1.1\r\n")
        assert right(served(one, "digits"))  # so that what came before it is read
        upgrade = subprocess.Popen([PROGRAM, "upgrade"], env=one.environment(),
                                   stdout=subprocess.DEVNULL)
        until("the agent's replacement", lambda: role_pid(one, "pop") not in (None, agent)
              and len(gateways(one)) == 2 and shown(one, "digits"))
        held.sendall(b"Host: localhost\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = http.client.HTTPResponse(held)
        answer.begin()
        assert answer.status == 200 and right(answer.read())
        assert answer.getheader("Perigee-Revision") == "1"
    assert upgrade.wait(DEADLINE) == 0


def script(path, *lines):
    path.write_text("\n".join((f"#!{sys.executable}", *lines, "")))
    path.chmod(0o755)
    return path


def of_another_state(scratch):
    """It answers as a Perigee whose state has another version does."""
    words = b"the state is of version 1, and this program reads version 9"
    form = struct.pack("<IHHiI64s512s", 0x6d676550, message_type("UPGRADE_CHECKED"), 1, -2, 0,
                       b"9.0.0", words)
    return script(scratch / "newer", "import socket", "s = socket.socket(fileno=3)", "s.recv(4096)",
                  f"s.send({form!r})")


def message_type(name):
    """Its number: its row in the table of messages."""
    text = (ROOT / "src" / "contract" / "messages.h").read_text()
    rows = [line.split("X(")[1].split(",")[0] for line in text.splitlines()
            if line.lstrip().startswith("X(MESSAGE_")]
    return rows.index(f"MESSAGE_{name}") + 1


def plain_file(scratch):
    (scratch / "text").write_text("no program\n")
    return scratch / "text"


def odd_format(scratch):
    (scratch / "odd").write_bytes(b"\x7fELF and no more")
    (scratch / "odd").chmod(0o755)
    return scratch / "odd"


def without_libraries(scratch):
    program = another(scratch, "bare")
    (scratch / "bare" / "lib").unlink()
    return program


REFUSED = {
    "missing": (lambda scratch: scratch / "missing", "cannot be opened"),
    "folder": (lambda scratch: scratch, "no program that this user may run"),
    "no program": (plain_file, "no program that this user may run"),
    "not executable format": (odd_format, "cannot be run"),
    "another program": (lambda _: "/bin/true", "is no Perigee"),
    "one that hangs": (lambda scratch: script(scratch / "hangs", "import signal", "signal.pause()"),
                       "is no Perigee"),
    "another state": (of_another_state, "reads version 9"),
    "without its libraries": (without_libraries, "cannot follow this one|is no Perigee"),
}


def test_a_program_that_cannot_follow_changes_nothing(one, scratch):
    before = one.pids()
    failed = 0
    for name, (make, words) in REFUSED.items():
        path = make(scratch)
        done = one.cli("upgrade", "--binary", path, status=1)
        assert any(word in done.said for word in words.split("|")), (name, done.said)
        assert one.pids() == before, name
        failed += name != "missing"  # the command itself has seen that
        until("the agent's count", lambda n=failed: counted(one, "failed") == n)
    assert right(served(one))
    assert one.cli("upgrade").text.endswith("serves now.\n")


def test_no_perigee_to_upgrade(new_perigee):
    other = new_perigee(start=False)
    done = other.cli("upgrade", status=1)
    assert "does not run" in done.said and "perigee up" in done.said


def test_who_may_ask(one):
    mode = (one.home / "run" / "upgrade.sock").stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as odd:
        odd.connect(str(one.home / "run" / "upgrade.sock"))
        odd.send(b"nonsense")
        assert odd.recv(4096) == b""
    assert one.cli("upgrade").text.endswith("serves now.\n")


@pytest.mark.root
def test_another_user_may_not_ask(one):
    """Though somebody opened the way to the socket."""
    run, before = one.home / "run", one.pids()
    run.chmod(0o711)
    (run / "upgrade.sock").chmod(0o666)
    question = struct.pack("<IHH1024s", 0x6d676550, message_type("UPGRADE"), 1, b"")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(run)
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
                asker.settimeout(DEADLINE)
                asker.connect("upgrade.sock")
                asker.send(question)
                os.write(writer, asker.recv(4096))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as said:
        state, *_, text = struct.unpack("<8xI12x64s512s", said.read())
    assert state == 3 and b"only user 0" in text
    assert one.pids() == before
    assert one.cli("upgrade").text.endswith("serves now.\n")


@pytest.mark.skipif(SANITIZED, reason=NO_ROOM)
def test_a_gateway_that_does_not_start_brings_the_old_program_back(one, scratch):
    other = another(scratch)
    gateway, agent = role_pid(one, "gateway"), role_pid(one, "pop")
    with KeepAlive(one, 2) as load:
        load.more()
        # Enough for a supervisor, not for the threads and regions of a gateway.
        with open(f"/proc/{one.process.pid}/status", encoding="ascii") as file:
            size = next(int(line.split()[1]) for line in file if line.startswith("VmSize"))
        unlimited = resource.prlimit(one.process.pid, resource.RLIMIT_AS)
        resource.prlimit(one.process.pid, resource.RLIMIT_AS, ((size + 16384) * 1024, unlimited[1]))
        done = one.cli("upgrade", "--binary", other, status=1)
        assert "the new gateway" in done.said and "serves as before" in done.said
        resource.prlimit(one.process.pid, resource.RLIMIT_AS, unlimited)
        assert all_run(one, PROGRAM)
        assert (role_pid(one, "gateway"), role_pid(one, "pop")) == (gateway, agent)
        load.more()
        assert lost(load) == (0, 0, 0)
        one.cli("upgrade", "--binary", other)  # and now it fits
        assert all_run(one, other)
        load.more()
    assert lost(load) == (0, 0, 0)
    assert "the new gateway" in one.wait_event("upgrade_failed")["message"]


@pytest.mark.parametrize("role", ROLES)
def test_an_upgrade_while_a_role_is_dead(one, scratch, role):
    """Twice, so that it is waited with the next start: the upgrade does not wait."""
    other = another(scratch)
    first = role_pid(one, role)
    kill(first)
    kill(until("another", lambda: role_pid(one, role) not in (None, first) and role_pid(one, role)))
    one.cli("upgrade", "--binary", other)
    assert all_run(one, other)
    assert right(served(one))
    one.cli("wait", "digits")


def test_an_upgrade_while_a_replica_starts(one, scratch):
    """Its template is held in the middle of the clone: the command goes over with the rest."""
    other = another(scratch)
    before = replica_pids(one, "digits")
    template = min(pid for pid in children(one.process.pid)
                   if "perigee-worker-onnx" in command_line(pid) and pid not in before)
    os.kill(template, signal.SIGSTOP)
    try:
        one.cli("deploy", "second", "--model", DIGITS / "digits.onnx", "--no-wait")
        one.wait_event("replica_started", endpoint="second")
        upgrade = subprocess.Popen([PROGRAM, "upgrade", "--binary", other], env=one.environment(),
                                   stdout=subprocess.DEVNULL)
        until("the new supervisor", lambda: program_of(one.process.pid) == str(other.resolve()))
    finally:
        os.kill(template, signal.SIGCONT)
    assert upgrade.wait(DEADLINE) == 0
    wait_exit(template, "the old template's end")
    one.cli("wait", "second")
    assert right(served(one, "second")) and replica_pids(one, "digits") == before


def test_the_supervisor_is_killed_in_the_middle(one):
    """Two gateways live then, as the old one has a request: nothing is left behind by either."""
    with one.connect() as held:
        held.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        upgrade = subprocess.Popen([PROGRAM, "upgrade"], env=one.environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until("two gateways", lambda: len(gateways(one)) == 2)
        assert one.kill() == -signal.SIGKILL  # checks that nothing is left behind
    said = upgrade.communicate(timeout=DEADLINE)[1].decode()
    assert upgrade.returncode == 1 and "ended meanwhile" in said
    one.start()
    assert right(served(one))


def test_the_new_gateway_is_killed_while_the_old_one_ends(one, scratch):
    other = another(scratch)
    body = json.dumps(ZEROS).encode()
    with one.connect() as held:
        held.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                     + body[:20])
        old = role_pid(one, "gateway")
        upgrade = subprocess.Popen([PROGRAM, "upgrade", "--binary", other], env=one.environment(),
                                   stdout=subprocess.DEVNULL)
        new = until("two gateways", lambda: gateways(one) - {old} and min(gateways(one) - {old}))
        until("the old one's retreat", lambda: len(gateways(one)) == 2 and shown(one, "digits")
              and program_of(role_pid(one, "control")) == str(other.resolve()))
        kill(new)
        assert right(served(one))  # by a third, of the new one's lane set
        held.sendall(body[20:])
        answer = http.client.HTTPResponse(held)
        answer.begin()
        assert answer.status == 200 and right(answer.read())
    assert upgrade.wait(DEADLINE) == 0
    assert len(gateways(one)) == 1 and old not in gateways(one)


def stopped(pid):
    """The signal is sent to the process, and each thread stops by itself."""
    states = [pathlib.Path(f"/proc/{pid}/task/{task}/stat").read_text().rsplit(") ", 1)[1][0]
              for task in os.listdir(f"/proc/{pid}/task")]
    return set(states) == {"T"}


def test_connections_that_queue_outlive_their_gateway(one):
    """It is stopped, so that nothing is accepted; 200 clients connect and ask; it is killed."""
    body = json.dumps(ZEROS).encode()
    gateway = role_pid(one, "gateway")
    os.kill(gateway, signal.SIGSTOP)
    until("all its threads' stop", lambda: stopped(gateway))
    clients = [one.connect() for _ in range(200)]
    for client in clients:
        client.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\n"
                       b"Content-Type: application/json\r\nContent-Length: %d\r\n"
                       b"Connection: close\r\n\r\n" % len(body) + body)
    kill(gateway)
    statuses = []
    for client in clients:
        answer = http.client.HTTPResponse(client)
        answer.begin()
        statuses.append(answer.status)
        assert right(answer.read())
        client.close()
    assert statuses == [200] * 200


def test_many_upgrades_in_a_row_leak_nothing(one):
    def descriptors():
        return len(os.listdir(f"/proc/{one.process.pid}/fd"))
    one.cli("upgrade")
    before, replicas = descriptors(), replica_pids(one, "digits")
    threads = threading.active_count()
    for _ in range(5):
        one.cli("upgrade")
    # Fewer, where the first upgrade's own connection was still there when they were counted.
    until("no more descriptors than before", lambda: descriptors() <= before)
    assert replica_pids(one, "digits") == replicas
    assert threading.active_count() == threads
