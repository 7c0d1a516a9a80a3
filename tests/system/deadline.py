# SPDX-License-Identifier: Apache-2.0
"""Waiting on descriptors and on events, with one deadline. No test sleeps."""
import contextlib
import ctypes
import json
import os
import select
import struct
import time

SANITIZED = os.environ.get("PERIGEE_SANITIZED") == "1"
# One for all waits: no step of a healthy Perigee takes so long, on a busy machine either.
DEADLINE = float(os.environ.get("PERIGEE_TEST_DEADLINE", 90 if SANITIZED else 30))

libc = ctypes.CDLL(None, use_errno=True)
IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x8, 0x80, 0x100
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class TooLate(AssertionError):
    """The deadline has passed; says what was waited for."""


def wait_readable(descriptors, deadline, what):
    """Returns those of `descriptors` that can be read; `deadline` is of time.monotonic()."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    left = deadline - time.monotonic()
    ready = poll.poll(max(0, left * 1000))
    if not ready:
        raise TooLate(f"waited {DEADLINE:.0f} s for {what}")
    return [descriptor for descriptor, _ in ready]


def readable(descriptor, seconds):
    """Can it be read, now or within so many seconds?"""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_exit(pid, what="the process's end", seconds=DEADLINE):
    """Waits until a process of any parent has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        wait_readable([descriptor], time.monotonic() + seconds, what)
    finally:
        os.close(descriptor)


def wait_file(path, process, deadline):
    """Waits until `path` was written whole (closed or renamed to), or `process` has ended."""
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    watch = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    pidfd = os.pidfd_open(process.pid)
    try:
        mask = ctypes.c_uint32(IN_CLOSE_WRITE | IN_MOVED_TO)
        if libc.inotify_add_watch(watch, os.fsencode(folder), mask) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {folder}")
        while not (path.exists() and path.stat().st_size):
            if pidfd in wait_readable([watch, pidfd], deadline, path):
                return
            os.read(watch, 65536)
    finally:
        os.close(watch)
        os.close(pidfd)


def until(what, look):
    """Looks again every 20 ms until `look` gives something: for what sends no event. A row or key
    that is not there is nothing yet; at the deadline it is told as the cause."""
    deadline = time.monotonic() + DEADLINE
    while True:
        cause = None
        try:
            if found := look():
                return found
        except (LookupError, StopIteration) as missing:
            cause = missing
        if time.monotonic() >= deadline:
            raise TooLate(f"waited {DEADLINE:.0f} s for {what}") from cause
        select.select([], [], [], 0.02)


class Lines:
    """JSON objects, one a line, from a descriptor."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.rest = b""

    def next(self, deadline, what):
        while b"\n" not in self.rest:
            wait_readable([self.descriptor], deadline, what)
            read = os.read(self.descriptor, 65536)
            if not read:
                raise AssertionError(f"the stream ended while waiting for {what}")
            self.rest += read
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)


def become_subreaper():
    """What outlives its parent becomes our child, so that nothing can be left behind unseen."""
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def end_with(parent, by):
    """Before an exec: this process gets that signal when the one that started it is gone."""
    if libc.prctl(PR_SET_PDEATHSIG, by, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)


def children(pid):
    """The direct children of a process, by pid."""
    found = set()
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found.update(int(word) for word in file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descriptors(pid):
    """What a process has open: number to what it is. Those that close meanwhile are left out."""
    folder, found = f"/proc/{pid}/fd", {}
    for number in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found[number] = os.readlink(f"{folder}/{number}")
    return found


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):  # gone before, or while it is read
        return ""


def reset_on_close(sock):
    """Closing then sends RST: for tests of clients that go away."""
    sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
