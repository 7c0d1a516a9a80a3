# SPDX-License-Identifier: Apache-2.0
"""`make demo-image`, from beginning to end: it checks by itself that what it shows is so."""
import re
import shutil
import signal
import sys

import pytest

from engine_case import engine_or_skip
from perigee import ROOT
from test_make_run import Run

SCRIPT = (ROOT / "tools" / "demo-image",)


@pytest.fixture(scope="module")
def engine():
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed: tools/setup test installs it")
    one = engine_or_skip("podman")
    yield one
    assert not one.containers()
    one.end()


def run(scratch, engine, **more):
    return Run(scratch / "home", SCRIPT, TMPDIR=str(scratch),
               DOCKER_HOST=f"unix://{engine.socket}", **more)


@pytest.mark.slow
def test_all_that_it_shows(scratch, engine):
    demo = run(scratch, engine)
    for part in ("A spike", "What it used"):
        demo.read_until(part)
    assert demo.end() == 0, demo.text
    assert "hello from a container" in demo.text
    requests, most = re.search(r"(\d+) requests, 0 failed; at most (\d) replicas, now none",
                               demo.text).groups()
    assert int(requests) > 20 and 2 <= int(most) <= 4
    assert "EUR" in demo.text.split("What it used")[1]
    assert not list(scratch.glob("perigee-demo-*"))


def test_it_ends_when_told(scratch, engine):
    demo = run(scratch, engine)
    demo.read_until("An image, built here")
    assert demo.end(signal.SIGINT) == 130
    assert not list(scratch.glob("perigee-demo-*"))


def test_it_says_why_it_cannot_be_shown(scratch):
    """Without skopeo it is skipped, with a status of its own."""
    (scratch / "bin").mkdir()
    (scratch / "bin" / "python3").symlink_to(sys.executable)
    demo = Run(scratch / "home", SCRIPT, TMPDIR=str(scratch), PATH=f"{scratch}/bin")
    assert demo.end() == 77 and "skipped: skopeo is not installed" in demo.text
