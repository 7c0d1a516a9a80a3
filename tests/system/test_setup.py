# SPDX-License-Identifier: Apache-2.0
"""tools/setup: nothing to do is quick; what fails is one sentence that says what to do.

Each machine that lacks something is made with a mount or network namespace of its own.
"""
import os
import subprocess
import time

import pytest

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


@root
def test_without_root_and_sudo_it_names_the_packages(scratch):
    status = (scratch / "status")
    text = open("/var/lib/dpkg/status", encoding="utf-8").read()
    rest = [row for row in text.split("\n\n") if not row.startswith("Package: libuv1-dev\n")]
    status.write_text("\n\n".join(rest))
    scratch.chmod(0o755)
    # The checkout may lie where nobody may look.
    code, last, _ = setup(
        f"mount --bind {scratch}/status /var/lib/dpkg/status\n"
        "[ ! -e /usr/bin/sudo ] || mount --bind /dev/null /usr/bin/sudo\n"
        f"cp -r '{ROOT}/tools' {scratch}/tools\n"
        f"setpriv --reuid 65534 --regid 65534 --clear-groups {scratch}/tools/setup")
    assert code == 1
    assert "as root run 'apt-get install --no-install-recommends libuv1-dev'" in last


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
