# SPDX-License-Identifier: Apache-2.0
"""Nothing lost: files that cannot be read, full disks, clocks that jump, kills in the middle."""
import contextlib
import json
import os
import signal
import subprocess
import threading

import pytest

from deadline import DEADLINE
from perigee import DIGITS
from test_processes import infer, kill, right, role_pid, served, shown, until


def test_a_desired_state_that_cannot_be_read_costs_no_replica(perigee, digits):
    """A new agent knows nothing before control has spoken: what runs stays, and serves."""
    before = shown(perigee, digits)
    control = role_pid(perigee, "control")
    os.kill(control, signal.SIGSTOP)  # it will not speak for now
    try:
        (perigee.home / "pop" / "desired.json").write_text("{\"version\": 1, \"endpo")
        victim = role_pid(perigee, "pop")
        kill(victim)
        until("another agent", lambda: role_pid(perigee, "pop") not in (None, victim))
        until("that it knows nothing",
              lambda: b"no desired state" in perigee.request("GET", "/readyz", listener="admin")[2])
        status, body = infer(perigee)
        assert status == 200 and right(body)
    finally:
        os.kill(control, signal.SIGCONT)
    until("the same replicas", lambda: shown(perigee, digits) == before)
    assert right(served(perigee))
    # What control says is on disk again: the file is whole.
    until("the file", lambda: (perigee.home / "pop" / "desired.json").read_text().endswith("]}\n"))


# ---- full disks ---------------------------------------------------------------------------------

@contextlib.contextmanager
def small_disk(folder, size):
    """Mounts a disk of its own on a folder; skips where that may not be."""
    folder.mkdir(mode=0o700, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs",
                              str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small disk here: " + mounted.stderr.decode().strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder):
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.root
def test_a_backup_or_restore_on_a_full_disk_does_nothing_and_says_so(perigee, digits, new_perigee,
                                                                     scratch):
    backup = scratch / "b.tar"
    perigee.cli("backup", backup)
    other = new_perigee(start=False)
    with small_disk(scratch / "full", "2m") as full:
        filler = fill(full)
        said = perigee.cli("backup", full / "b.tar", status=1).said
        assert "No space left" in said and "b.tar" in said
        assert [path.name for path in full.iterdir()] == ["filler"]
        filler.unlink()
        perigee.cli("backup", full / "b.tar")
    with small_disk(other.home, "2m") as home:
        filler = fill(home)
        said = other.cli("restore", backup, "--yes", status=1).said
        assert "No space left" in said or "full" in said, said
        assert not (home / "control" / "store.db").exists()
        filler.unlink()
        other.cli("restore", backup, "--yes")
        other.start()
        other.cli("wait", "digits")
        assert right(served(other))
        other.stop()


@pytest.mark.root
def test_on_a_full_disk_it_serves_and_what_waits_is_saved_with_room(new_perigee):
    one = new_perigee(start=False)
    with small_disk(one.home, "12m") as home:
        one.start()
        one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
        table = home / "pop" / "table"
        filler = fill(home)
        before = table.read_bytes()
        said = one.cli("deploy", "another", "--model", DIGITS / "digits.onnx", "--no-wait",
                       status=None)
        assert said.returncode == 0 or "full" in said.said, said.said
        # A new replica changes the table, which now has no room on disk: it is served all the same.
        kill(shown(one, "digits")[0])
        assert right(served(one))
        until("a word on it", lambda: "table not on disk" in one.tail(400))
        assert table.read_bytes() == before  # the old one is whole
        filler.unlink()
        until("the table", lambda: table.read_bytes() != before)
        until("a word on it", lambda: "on disk again" in one.tail(400))
        one.kill()
        one.start()
        assert right(served(one))
        one.stop()


# ---- backup and restore, killed -----------------------------------------------------------------

def killed_after(one, milliseconds, *arguments):
    """Runs a command and kills it then; true when it was not done before."""
    process = subprocess.Popen([one.program, *map(str, arguments)], env=one.environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(milliseconds / 1000)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def test_backup_under_changes_and_restore_killed_anywhere(perigee, digits, new_perigee, scratch):
    """test_backup_faults.c kills at each call; this is the whole, with changes coming."""
    stopped = threading.Event()
    changes = []

    def change():
        while not stopped.is_set():
            got, _, body = perigee.request(
                "PATCH", "/api/v1/endpoints/digits",
                json.dumps({"labels": {"n": str(len(changes))}}),
                {"Content-Type": "application/merge-patch+json"}, listener="control")
            assert got in (200, 202), body
            changes.append(json.loads(body)["generation"])

    thread = threading.Thread(target=change)
    thread.start()
    whole = []
    try:
        for step in range(8):
            file = scratch / f"b{step}.tar"
            least = len(changes)
            killed = killed_after(perigee, 2 + 4 * step, "backup", file)
            assert killed or file.exists()
            if file.exists():
                whole.append((file, changes[least - 1] if least else 0))
        file = scratch / "last.tar"
        least = changes[-1] if changes else 0
        perigee.cli("backup", file)
        whole.append((file, least))
    finally:
        stopped.set()
        thread.join(DEADLINE)
    assert not list(perigee.home.glob("backup-*"))

    for step in range(5):
        other = new_perigee(start=False)
        file, least = whole[step % len(whole)]
        killed_after(other, 2 + 5 * step, "restore", file, "--yes")
        if not (other.home / "control" / "store.db").exists():
            if not (other.home / "restore-ready").exists():
                other.cli("restore", file, "--yes")
        other.start()  # ends one that was cut short
        view = other.json("show", "digits")
        assert view["generation"] >= least and view["model"]
        assert not (other.home / "restore-ready").exists()
        other.stop()
