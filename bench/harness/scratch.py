# SPDX-License-Identifier: Apache-2.0
"""A folder of the bench's own. However the bench ends, SIGTERM and a closed terminal included, the
folder goes, and what was started goes before it."""
import contextlib
import os
import pathlib
import select
import shutil
import signal
import tempfile

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
PATIENCE_MS = 10_000


def _children():
    found = []
    for task in pathlib.Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # a thread that ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def _leave(number, _):
    """As Ctrl-C does; once, so that nothing cuts short what ends the servers."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _end_children():
    """Those whose Popen() was interrupted before anybody had it: all others were waited for."""
    for pid in _children():
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGTERM)
            pidfd, ended = os.pidfd_open(pid), select.poll()
            ended.register(pidfd, select.POLLIN)
            if not ended.poll(PATIENCE_MS):
                os.kill(pid, signal.SIGKILL)
            os.close(pidfd)
            os.waitpid(pid, 0)


@contextlib.contextmanager
def folder(name):
    """`with scratch.folder("zero") as path`, around all that starts something."""
    for each in SIGNALS:
        signal.signal(each, _leave)
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"pg-{name}-"))
    try:
        yield path
    finally:
        late = []  # what comes now ends the bench once the folder has gone
        for each in SIGNALS:
            signal.signal(each, lambda number, _: late.append(number))
        _end_children()
        shutil.rmtree(path, ignore_errors=True)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if late:
            os.kill(os.getpid(), late[0])
