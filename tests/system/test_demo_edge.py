# SPDX-License-Identifier: Apache-2.0
"""`make demo-edge`, from beginning to end: it checks by itself that what it shows is so."""
import os
import re
import signal
import subprocess

import pytest

from deadline import DEADLINE
from perigee import PROGRAM, ROOT
from test_make_run import Run

SCRIPT = (ROOT / "tools" / "demo-edge",)


@pytest.mark.slow
def test_all_that_it_shows(scratch):
    demo = Run(scratch / "home", SCRIPT, FAST="1", TMPDIR=str(scratch))
    assert demo.end() == 0, demo.text
    answers = re.findall(r"revision 1 at ([a-z-]+);", demo.text)
    assert answers[:3] == ["paris", "tokyo", "sao-paulo"], demo.text
    assert answers[-1] == "sydney" and answers[-2] != "sydney"
    assert "0 lost" in demo.text and "residency" in demo.text
    assert not list(scratch.glob("perigee-demo-*"))


def test_it_ends_when_told(scratch):
    demo = Run(scratch / "home", SCRIPT, TMPDIR=str(scratch))
    demo.read_until("The same request from three cities")
    assert demo.end(signal.SIGINT) == 130
    assert not list(scratch.glob("perigee-demo-*"))


def test_it_says_what_went_wrong(scratch):
    environment = {**os.environ, "PERIGEE_BIN": "/bin/false", "TMPDIR": str(scratch)}
    done = subprocess.run(SCRIPT, env=environment, capture_output=True, text=True, timeout=DEADLINE,
                          check=False)
    assert done.returncode == 1 and "perigee ended (1)" in done.stderr, done
    assert PROGRAM.exists() and not list(scratch.glob("perigee-demo-*"))
