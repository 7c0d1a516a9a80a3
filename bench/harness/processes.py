# SPDX-License-Identifier: Apache-2.0
"""CPU time, memory and cores of a tree of processes, from /proc."""
import os
import pathlib
import re


def tree(pid):
    """A process and all below it."""
    pids = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        for child in (task / "children").read_text().split():
            pids += tree(int(child))
    return pids


def name(pid):
    """The main thread's."""
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def _tasks(pids):
    for pid in pids:
        yield from pathlib.Path(f"/proc/{pid}/task").glob("*")


def cpu_ns(pids):
    """Run time of all threads, from the scheduler's own count."""
    total = 0
    for task in _tasks(pids):
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def voluntary_switches(pids):
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(),
                             re.M)[1]) for task in _tasks(pids))


def pss_bytes(pids):
    """What they have of memory, each shared page divided by those who share it."""
    total = 0
    for pid in pids:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1]) * 1024
    return total


def pin(pids, cpus):
    for task in _tasks(pids):
        try:
            os.sched_setaffinity(int(task.name), cpus)
        except ProcessLookupError:
            pass
