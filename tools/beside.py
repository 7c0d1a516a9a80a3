# SPDX-License-Identifier: Apache-2.0
"""Runs the files of the system tests beside each other, each in a pytest of its own.

Each gets a network of its own, since all use the same ports, and mounts that nobody else sees. Only
root may give them: without, one file runs after the other. Files are dealt one by one, the longest
first, by what they took the last time. Tests marked `alone` follow one after the other, then those
marked `last`, which are told how all others ended (tests/system/outcomes.py)."""
import collections
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import time

SYSTEM = pathlib.Path(__file__).resolve().parent.parent / "tests" / "system"
sys.path.insert(0, str(SYSTEM))
from deadline import (become_subreaper, children, command_line, end_with,  # noqa: E402,F401
                      wait_exit)
from machine import CLONE_NEWNS, MS_PRIVATE, MS_REC, as_user, libc, unshare  # noqa: E402
from outcomes import read  # noqa: E402

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
ORPHAN_SECONDS, STOP_SECONDS = 10, 60
FAILED, NOTHING_SELECTED = 1, 5

# How pytest is run. tests: the folder. owner: the user it becomes by `prefix`, None without.
Way = collections.namedtuple("Way", "python tests env arguments prefix owner")
Task = collections.namedtuple("Task", "file turn tests slow")


def apart():
    """This process gets a network with nothing but a loopback, and mounts of its own."""
    unshare(CLONE_NEWNET | CLONE_NEWNS)
    if libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def can_be_apart():
    return os.geteuid() == 0 and as_user(0, apart) == 0


def start(way, folder, arguments, isolated):
    """A pytest in a new folder, where `log` is what it says."""
    folder.mkdir(exist_ok=True)
    env = way.env
    if way.owner is not None:
        for path in [folder, *folder.iterdir()]:
            os.chown(path, way.owner, way.owner)
        env = {**env, "HOME": str(folder)}
    command = [*way.prefix, way.python, "-m", "pytest", "-q", "--tb=short",
               "-p", "no:cacheprovider", *way.arguments, *arguments]
    parent = os.getpid()

    def prepare():
        end_with(parent, signal.SIGINT)  # as Ctrl-C, so that tests tidy up though we were killed
        if isolated:
            apart()

    with open(folder / "log", "wb") as log:
        return subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log, start_new_session=True, preexec_fn=prepare)


def plan(way, folder, isolated):
    """What there is to run, as Tasks; rows of what is not; what was said when it could not tell."""
    process = start(way, folder, [way.tests, "--collect-only", f"--plan={folder}/plan",
                                  f"--outcomes={folder}/outcomes"], isolated)
    code = process.wait()
    if code not in (0, NOTHING_SELECTED):
        return [], [], f"pytest ended with {code} and no plan\n{(folder / 'log').read_text()}"
    return [Task(**row) for row in read(folder / "plan")], read(folder / "outcomes"), ""


def keep_seconds(file, seconds):
    """For `known` of the next time; who is killed meanwhile leaves what was there before."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps(seconds, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def longest_first(tasks, known):
    """`known`: {file: seconds}. What is not is guessed: tests marked slow take several seconds."""
    return sorted(tasks, reverse=True, key=lambda task: known.get(
        task.file, 0.5 * len(task.tests) + 8 * task.slow))


def end_orphans(running=(), seconds=None):
    """Kills what came to us, a subreaper, because its parent is gone, and says what it was. What is
    about to end has so many seconds (ORPHAN_SECONDS)."""
    found = []
    while pids := children(os.getpid()) - {one.process.pid for one in running}:
        for pid in pids:
            line = command_line(pid)
            try:
                wait_exit(pid, "its end", ORPHAN_SECONDS if seconds is None else seconds)
            except AssertionError:
                found.append(f"{pid} {line}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    return found


class Running:
    """A file of tests that is being run."""

    def __init__(self, way, task, folder, isolated, before):
        self.task, self.folder, self.started = task, folder, time.monotonic()
        folder.mkdir()
        if before:
            (folder / "outcomes").write_text("".join(json.dumps(row) + "\n" for row in before),
                                             encoding="utf-8")
        self.process = start(way, folder, [
            f"{way.tests}/{task.file}", f"--turn={task.turn}", f"--outcomes={folder}/outcomes"],
            isolated)
        self.pidfd = os.pidfd_open(self.process.pid)

    def end(self):
        """Its exit status, what it said, and the rows of its tests."""
        os.close(self.pidfd)
        code, tests = self.process.wait(), set(self.task.tests)
        said = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
        return code, said, [row for row in read(self.folder / "outcomes") if row["test"] in tests]


class Beside:
    """One leg's tests. `total` has passed, failed and skipped, as run-tests has it."""

    def __init__(self, name, way, scratch, jobs, total):
        self.name, self.way, self.scratch, self.total = name, way, scratch, total
        self.isolated = can_be_apart()
        self.jobs = jobs if self.isolated else 1
        self.running, self.rows, self.seconds = [], [], {}
        self.started, self.ended, self.count = time.monotonic(), 0, 0

    def run(self, known):
        """Returns the seconds that each file took."""
        tasks, self.rows, fault = plan(self.way, self.scratch / "plan", self.isolated)
        if fault:
            print(fault)
            self.total.failed.append(f"{self.name}: {fault.splitlines()[0]}")
        if len(tasks) > 1:
            print(f"{self.name}: {len(tasks)} files of tests, {self.jobs} beside each other"
                  + ("" if self.isolated else ": only root may give each a network of its own"),
                  flush=True)
        self.count = len(tasks)
        try:
            for turn, jobs in (("beside", self.jobs), ("alone", 1), ("last", 1)):
                self._turn(longest_first([one for one in tasks if one.turn == turn], known), jobs)
        finally:
            self._stop()
        return self.seconds

    def _turn(self, tasks, jobs):
        while tasks or self.running:
            while tasks and len(self.running) < jobs:
                task = tasks.pop(0)
                folder = self.scratch / f"{task.file}-{task.turn}"
                before = self.rows if task.turn == "last" else []
                self.running.append(Running(self.way, task, folder, self.isolated, before))
            poll = select.poll()
            for one in self.running:
                poll.register(one.pidfd, select.POLLIN)
            ended = {descriptor for descriptor, _ in poll.poll(1000)}
            for one in [one for one in self.running if one.pidfd in ended]:
                self.running.remove(one)
                self._end(one)
            self._show_progress()

    def _end(self, one):
        code, said, rows = one.end()
        seconds = time.monotonic() - one.started
        file, tests = one.task.file, one.task.tests
        faults = [f"{file}: left behind: {line}" for line in end_orphans(self.running)]
        failed = [row["test"] for row in rows if row["is"] == "failed"]
        missing = [test for test in tests if test not in {row["test"] for row in rows}]
        if missing:
            faults.append(f"{file}: pytest ended with {code} before {missing[0]}; {len(missing)} "
                          f"of {len(tests)} tests have not run")
        elif code != (FAILED if failed else 0):
            faults.append(f"{file}: pytest ended with {code}")
        counts = collections.Counter(row["is"] for row in rows)
        self.total.passed += counts["passed"]
        self.total.failed += [f"{self.name}: {text}" for text in failed + faults]
        for row in rows:
            if row["is"] == "skipped":
                self.total.skipped[f"{self.name}: {row['why']}"] += 1
        if one.task.turn == "beside":
            self.seconds[file] = round(seconds, 1)
        self.rows += rows
        self.ended += 1
        self._show_end(one, seconds, counts, said if failed or faults else "", faults)
        for row in rows:
            if row.get("told"):
                print(f"{row['test']} says:\n{row['told'].rstrip()}", flush=True)

    def _show_end(self, one, seconds, counts, said, faults):
        told = ", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "skipped")
                         if counts[word])
        print(f"{self._clear()}{self.name}: {one.task.file}: {told or 'nothing'} "
              f"in {seconds:.1f} s")
        if said:
            print(said.rstrip())
        for fault in faults:
            print(fault)
        sys.stdout.flush()

    @staticmethod
    def _clear():
        return "\r\033[K" if sys.stdout.isatty() else ""

    def _show_progress(self):
        if sys.stdout.isatty():
            now = ", ".join(one.task.file[len("test_"):-len(".py")] for one in self.running)
            print(f"{self._clear()}{self.name}: {self.ended} of {self.count} files, "
                  f"{time.monotonic() - self.started:.0f} s; {now}"[:100], end="", flush=True)

    def _stop(self):
        """On our way out, by a signal or a fault of ours: as Ctrl-C, so that tests tidy up."""
        print(self._clear(), end="", flush=True)
        for one in self.running:
            one.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for one in self.running:
            try:
                one.process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
            one.end()
        self.running.clear()
