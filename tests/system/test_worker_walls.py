# SPDX-License-Identifier: Apache-2.0
"""What the walls around a replica stand against, tried from inside by the test-only worker."""

import os
import pathlib
import signal

import pytest

import worker
from deadline import SANITIZED
from test_worker_contract import MISBEHAVE
from worker import Template, folder_with, reachable, say

pytestmark = pytest.mark.skipif(
    not MISBEHAVE.exists(), reason="an installed tree has no test-only worker"
)


@pytest.fixture(scope="module")
def template():
    one = Template(MISBEHAVE)
    yield one
    one.close()


@pytest.fixture
def base(tmp_path):
    return reachable(tmp_path)


def clone(template, base, line="ok", **options):
    return template.clone(
        folder_with(base / "model", line.encode() + b"\n", "model"), "model", **options
    )


# What is refused with an answer: (command, what is said).
REFUSED = [
    ("open /etc/passwd", ("EACCES", "ENOENT")),
    ("open /proc/self/environ", ("EACCES", "ENOENT")),
    ("open /proc/1/environ", ("EACCES", "ENOENT")),
    ("open /dev/null", ("EACCES", "ENOENT")),
    ("open ..", ("EACCES", "0")),  # as root the folder is the root, and `..` the folder itself
    ("open ../../../../etc/passwd", ("EACCES", "ENOENT")),
    ("clone3", ("ENOSYS",)),
    ("setfl", ("EPERM",)),
    ("environ", ("",)),
]
# What ends it: (command, the call that is named).
KILLED = [
    ("socket", "socket"),
    ("fork", "clone"),
    ("exec", "execve"),
    ("kill 1", "kill"),
    ("tgkill 1", "tgkill"),
    ("ptrace", "ptrace"),
    ("uring", "io_uring_setup"),
    ("mmap-exec", "mmap"),
    ("mmap-shared", "mmap"),
    ("prlimit", "prlimit64"),
    ("write-model model", "openat"),
    ("create new", "openat"),
    ("getuid", "getuid"),
]


def test_what_is_refused(template, base):
    with clone(template, base) as replica:
        replica.ready()
        for command, said in REFUSED:
            assert say(replica, command) in said, command
        assert say(replica, "open model") == "0"
        kept = {int(fd) for fd in say(replica, "descriptors").split()}
        assert {0, 1, 2} < kept and len(kept) == 3 + replica.lanes


@pytest.mark.parametrize("command, call", KILLED, ids=[command for command, _ in KILLED])
def test_what_ends_it(template, base, command, call):
    with clone(template, base) as replica:
        replica.ready()
        assert say(replica, command) is None, f"{command} was allowed"
        assert os.WTERMSIG(replica.wait_status) == signal.SIGSYS
        status = replica.status
        assert status.signal == signal.SIGSYS and status.syscall > 0 and status.phase == "FAILED"
        assert f": {call} ({status.syscall}) while serving" in status.reason
        assert status.reason in replica.log()
    assert (base / "model" / "model").read_bytes() == b"ok\n"
    assert sorted(p.name for p in (base / "model").iterdir()) == ["model"]


DEATHS = [
    ("segv", signal.SIGSEGV, "SIGSEGV"),
    ("overflow", signal.SIGSEGV, "SIGSEGV"),
    ("abort", signal.SIGABRT, "SIGABRT"),
    ("write-input", signal.SIGSEGV, "SIGSEGV"),
]


@pytest.mark.parametrize("command, by, word", DEATHS, ids=[row[0] for row in DEATHS])
def test_how_it_died_is_said(template, base, command, by, word):
    with clone(template, base) as replica:
        replica.ready()
        assert say(replica, command) is None
        assert os.WIFSIGNALED(replica.wait_status) and os.WTERMSIG(replica.wait_status) == by
        assert not os.WCOREDUMP(replica.wait_status)
        assert word in replica.status.reason and "while serving" in replica.status.reason
        assert replica.status.signal == by and replica.status.syscall == -1


def test_it_cannot_signal_another(template, base):
    with clone(template, base) as victim, clone(template, base) as replica:
        victim.ready()
        replica.ready()
        assert say(replica, f"tgkill {victim.pid}") is None
        assert say(victim, "echo alive") == "alive"


def test_the_stack_is_limited(template, base):
    """RLIMIT_DATA does not count it."""
    with clone(template, base) as replica:
        replica.ready()
        with open(f"/proc/{replica.pid}/limits", encoding="ascii") as limits:
            stack = next(line for line in limits if line.startswith("Max stack size"))
        soft, hard = stack.split()[3:5]
        assert soft == hard and int(hard) <= 8 << 20


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own malloc")
def test_memory_is_limited(template, base):
    with clone(template, base, memory=256 << 20) as replica:
        replica.ready()
        with open(f"/proc/{replica.pid}/limits", encoding="ascii") as limits:
            data = next(line for line in limits if line.startswith("Max data size"))
        # The regions' size, which is most of the limit on all that is mapped, is not in it.
        assert (256 << 20) < int(data.split()[3]) < (512 << 20)
        assert say(replica, "alloc 200") == str(200 << 20)
        assert say(replica, "alloc 300") == "ENOMEM"
        assert say(replica, "alloc 200") == str(200 << 20)


def test_deaths_at_load(template, base):
    with clone(template, base, "fail the weights are sour") as replica:
        assert not replica.wait_ready()
        assert replica.status.reason == "the weights are sour"
        assert os.waitstatus_to_exitcode(replica.wait_status) == 1
    with clone(template, base, "exit 3") as replica:
        assert not replica.wait_ready()
        assert os.waitstatus_to_exitcode(replica.wait_status) == 3
    with clone(template, base, "segv") as replica:
        assert not replica.wait_ready()
        assert "while loading the model" in replica.status.reason


def test_a_full_log_pipe_is_the_readers_problem(template, base):
    """It blocks while nobody reads, and goes on when somebody does."""
    with clone(template, base, "flood 1000000") as replica:
        while replica.status.phase != "READY":
            replica._wait([replica.log_read, replica.pipes[0], replica.pidfd])
            replica.log()
        assert len(replica.log()) > 1000000


def test_a_replica_dies_with_its_parent(base):
    """The parent of replicas is who made the template: a process of ours that is killed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        template = Template(MISBEHAVE)
        replica = clone(template, base).ready()
        os.write(write, f"{template.process.pid} {replica.pid}\n".encode())
        signal.pause()
    pids = [int(word) for word in os.read(read, 100).split()]
    watched = [os.pidfd_open(one) for one in pids]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for descriptor in watched:
        worker.select.select([descriptor], [], [], worker.DEADLINE)
        os.close(descriptor)
    for one in pids:
        try:
            os.waitpid(one, 0)  # orphans come to us: a subreaper
        except ChildProcessError:
            pass
        assert not pathlib.Path(f"/proc/{one}").exists()
