# SPDX-License-Identifier: Apache-2.0
"""tools/setup: nothing to do is quick; what fails is one sentence that says what to do.

Each machine that lacks something is made with a mount or network namespace of its own.
"""
import os
import pty
import subprocess
import time

import pytest

from deadline import DEADLINE, wait_readable
from perigee import ROOT

SETUP = ROOT / "tools" / "setup"
root = pytest.mark.root
pytestmark = pytest.mark.slow


def setup(script, **environment):
    """Runs `script` in namespaces of its own; $SETUP is the script. Its last line, and all."""
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                          env={**os.environ, "SETUP": str(SETUP), **environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    lines = done.stdout.strip().splitlines()
    return done.returncode, lines[-1] if lines else "", done.stdout


@root
def test_nothing_to_do_is_quick_and_silent():
    started = time.monotonic()
    code, _, text = setup('"$SETUP" run test')
    assert (code, text) == (0, "")
    assert time.monotonic() - started < 2


@root
@pytest.mark.parametrize("release", ["ID=ubuntu\nVERSION_ID=24.04", "ID=debian\nVERSION_ID=11"])
def test_another_release_is_refused(scratch, release):
    (scratch / "os-release").write_text(release)
    code, last, _ = setup(f'mount --bind {scratch}/os-release /etc/os-release; "$SETUP"')
    assert code == 1
    assert "knows Debian 12 and 13: use one of those" in last


@root
def test_what_a_release_cannot_have_is_named(scratch):
    (scratch / "os-release").write_text("ID=debian\nVERSION_ID=13")
    code, last, _ = setup(f'mount --bind {scratch}/os-release /etc/os-release; '
                          '"$SETUP" --path mlserver')
    assert code == 1
    assert last == ("setup: mlserver 1.7.1 needs a Python below 3.13, and Debian 13 has 3.13")


@root
def test_a_full_disk_names_the_space_and_the_way_out(scratch):
    code, last, _ = setup(f'mount -t tmpfs -o size=50m tmpfs {scratch}; "$SETUP"',
                          XDG_CACHE_HOME=str(scratch))
    assert code == 1
    assert "MB are needed" in last and "XDG_CACHE_HOME" in last


@root
def test_without_network_it_says_so(scratch):
    code, last, _ = setup('unshare --net "$SETUP"', XDG_CACHE_HOME=str(scratch))
    assert code == 1
    assert "cannot be reached: check the network" in last
    assert not list((scratch / "perigee/deps").glob("native-*")), "half made counts as made"


def bare(scratch):
    """A script's first lines: libuv1-dev is not installed, and apt knows no package."""
    status = (scratch / "status")
    text = open("/var/lib/dpkg/status", encoding="utf-8").read()
    rest = [row for row in text.split("\n\n") if not row.startswith("Package: libuv1-dev\n")]
    status.write_text("\n\n".join(rest))
    return (f"set -e; mount --bind {scratch}/status /var/lib/dpkg/status\n"
            "mount -t tmpfs tmpfs /var/lib/apt/lists; mount -t tmpfs tmpfs /var/cache/apt\n")


@root
def test_a_bare_machine_without_network_says_so(scratch):
    code, last, text = setup(bare(scratch) + 'unshare --net "$SETUP"')
    assert code == 1
    assert "cannot be reached: check the network" in last, text
    assert "setup: installs 1 packages" not in text


@root
def test_a_machine_without_sources_of_debian_says_so(scratch):
    code, last, text = setup(bare(scratch) + "mount -t tmpfs tmpfs /etc/apt/sources.list.d\n"
                             "[ ! -e /etc/apt/sources.list ] || "
                             "mount --bind /dev/null /etc/apt/sources.list\n"
                             'unshare --net "$SETUP"')
    assert code == 1
    assert "put Debian's own into /etc/apt/sources.list" in last, text


@root
def test_a_source_that_is_away_does_not_matter_where_others_have_all(scratch):
    """A folder is a source, too: with the one package that is missing."""
    (scratch / "apt").mkdir()
    (scratch / "apt/Packages").write_text(
        "Package: libuv1-dev\nVersion: 1.99\nArchitecture: amd64\nFilename: ./none.deb\n"
        "Size: 1\nSHA256: " + "0" * 64 + "\n")
    (scratch / "list").write_text(f"deb [trusted=yes] file:{scratch}/apt ./\n"
                                  "deb [trusted=yes] http://127.0.0.1:9 there-is-none main\n")
    scratch.chmod(0o755)
    code, _, text = setup(bare(scratch) + "mount -t tmpfs tmpfs /etc/apt/sources.list.d\n"
                          f"cp {scratch}/list /etc/apt/sources.list.d/two.list\n"
                          "[ ! -e /etc/apt/sources.list ] || "
                          "mount --bind /dev/null /etc/apt/sources.list\n"
                          'unshare --net "$SETUP"')
    assert code == 1 and "setup: installs 1 packages" in text, text


@root
def test_without_root_and_sudo_it_names_the_packages(scratch):
    scratch.chmod(0o755)
    # The checkout may lie where nobody may look.
    code, last, _ = setup(
        bare(scratch) +
        "[ ! -e /usr/bin/sudo ] || mount --bind /dev/null /usr/bin/sudo\n"
        f"cp -r '{ROOT}/tools' {scratch}/tools\n"
        f"setpriv --reuid 65534 --regid 65534 --clear-groups {scratch}/tools/setup")
    assert code == 1
    assert "as root run 'apt-get install --no-install-recommends libuv1-dev'" in last


STEP = ('set -eu; . "$TOOLS/lib.sh"; here=; '
        'quietly "does a thing" sh -c \'echo begun; echo "half \x1b[31mway"; read x <"$0"\' '
        '"$PIPE"; echo over')


def test_on_a_terminal_a_long_step_shows_where_it_is(scratch):
    os.mkfifo(scratch / "pipe")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "-c", STEP], {
            **os.environ, "TOOLS": str(ROOT / "tools/setup.d"), "PIPE": str(scratch / "pipe")})
    said, deadline = b"", time.monotonic() + DEADLINE

    def read_until(wanted):
        nonlocal said
        while wanted not in said:
            wait_readable([terminal], deadline, f"{wanted!r} in {said!r}")
            said += os.read(terminal, 65536)

    read_until(b" s  half [31mway")
    assert b"begun" not in said
    (scratch / "pipe").write_text("go on\n")
    read_until(b"over")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert said.rindex(b"\r\x1b[K") > said.rindex(b"half")  # and takes it away


def test_elsewhere_it_is_a_line(scratch):
    os.mkfifo(scratch / "pipe")
    step = subprocess.Popen(["bash", "-c", STEP], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            env={**os.environ, "TOOLS": str(ROOT / "tools/setup.d"),
                                 "PIPE": str(scratch / "pipe")})
    (scratch / "pipe").write_text("go on\n")
    assert step.communicate(timeout=DEADLINE)[0] == "setup: does a thing ...\nover\n"


def test_other_bytes_than_those_locked_are_refused(scratch):
    """As if the package index gave them: nothing is unpacked."""
    script = ('set -eu; . "$TOOLS/lib.sh"; . "$TOOLS/native.sh"; '
              'quietly() { mkdir -p "$dir/wheel"; echo "other bytes" >"$dir/wheel/x.whl"; }; '
              f'onnxruntime_wheel {scratch}')
    done = subprocess.run(["bash", "-c", script], text=True, capture_output=True, timeout=60,
                          env={**os.environ, "TOOLS": str(ROOT / "tools" / "setup.d")})
    assert done.returncode == 1
    assert done.stderr.startswith("setup: ONNX Runtime's file has another digest than the one")
    assert [path.name for path in (scratch / "wheel").iterdir()] == ["x.whl"]
