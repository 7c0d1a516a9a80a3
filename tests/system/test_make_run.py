# SPDX-License-Identifier: Apache-2.0
"""What `make run` does once the program is built (tools/run)."""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from deadline import DEADLINE, children, wait_exit, wait_readable
from perigee import PROGRAM, ROOT


# In the program's place: `up` is up at once, where WHERE is another command, and hangs in WHERE
# until it is told; it says so, and when it is asked to end.
HANGS = """#!{python}
import os, pathlib, signal, sys
def say(text):
    with open({said!r}, "w") as pipe:
        pipe.write(text + "\\n")
def on_term(number, frame):
    say("asked to end")
    open({may_end!r}).read()
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
signal.alarm(120)
if sys.argv[1] == "up" and {where!r} != "up":
    run = pathlib.Path(os.environ["PERIGEE_HOME"]) / "run"
    run.mkdir()
    (run / "new").write_text('{{"control": ["127.0.0.1:9"], "gateway": ["127.0.0.1:9"]}}')
    (run / "new").rename(run / "addresses.json")
if sys.argv[1] == {where!r}:
    say("hangs")
while True:
    signal.pause()
"""


class Run:
    """tools/run with a home of its own on free ports; its output is read as it comes."""

    def __init__(self, home, script=(ROOT / "tools" / "run",), **environment):
        free = {f"PERIGEE_LISTEN_{name}": "127.0.0.1:0"
                for name in ("GATEWAY", "CONTROL", "ADMIN", "DNS")}
        self.process = subprocess.Popen(
            script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **free, "PERIGEE_BIN": str(PROGRAM), "PERIGEE_HOME": str(home),
                 **environment})
        self.text = ""

    def read_until(self, wanted):
        """Reads on until `wanted` was said; None: to the end."""
        descriptor, deadline = self.process.stdout.fileno(), time.monotonic() + 2 * DEADLINE
        while wanted is None or wanted not in self.text:
            wait_readable([descriptor], deadline, f"'{wanted}' after:\n{self.text}")
            read = os.read(descriptor, 65536)
            if not read:
                assert wanted is None, f"it ended before it said '{wanted}':\n{self.text}"
                break
            self.text += read.decode()
        return self.text

    def end(self, by=None):
        """Its exit status, once it and all it started are gone."""
        below = {pid for child in children(self.process.pid) for pid in {child} | children(child)}
        if by:
            self.process.send_signal(by)
        self.read_until(None)
        status = self.process.wait(DEADLINE)
        for pid in below:
            wait_exit(pid, f"the end of {pid}, which make run left behind", seconds=5)
        return status


@pytest.fixture
def run(scratch):
    made = []

    def new(name="home", **environment):
        made.append(Run(scratch / name, **environment))
        return made[-1]

    yield new
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.process.stdout.close()


@pytest.mark.smoke
def test_once_shows_the_digit_and_ends(run):
    once = run(ONCE="1")
    text = once.read_until(None)
    assert once.end() == 0, text
    assert "digit-3.png is a 3" in text
    assert "<- the answer" in text and "█" in text
    assert re.search(r"infer \d+\.\d+ ms", text), "no Server-Timing"


def test_a_wrong_digit_is_a_failure(run):
    """The same script, which holds the picture of a 3 for one of a 4."""
    wrong = ("import runpy, sys; main = runpy.run_path(%r)['main']; "
             "main.__globals__['SAMPLE_DIGIT'] = 4; sys.exit(main())" % str(ROOT / "tools" / "run"))
    once = run(script=(sys.executable, "-c", wrong), ONCE="1")
    text = once.read_until(None)
    assert once.end() == 1, text
    assert "digit-3.png is a 3" in text and "the answer is wrong: the picture is a 4" in text


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_up_and_a_signal_ends_it_cleanly(run, by):
    up = run()
    text = up.read_until("Ctrl-C ends it")
    curl = re.search(r"(?ms)^  (curl .*?)\n\n", text).group(1)
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, timeout=DEADLINE)
    assert b'"label"' in answer.stdout, (curl, answer)
    assert up.end(by) == 0


@pytest.mark.parametrize("once", ["1", ""])
@pytest.mark.parametrize("where", ["up", "deploy"])
def test_a_signal_before_the_answer_is_no_success_and_waits_for_the_end(run, scratch, where, once):
    for name in ("said", "may_end"):
        os.mkfifo(scratch / name)
    program = scratch / "program"
    program.write_text(HANGS.format(python=sys.executable, said=str(scratch / "said"),
                                    may_end=str(scratch / "may_end"), where=where))
    program.chmod(0o755)
    said = os.open(scratch / "said", os.O_RDWR)

    def hear():
        wait_readable([said], time.monotonic() + DEADLINE, "a word of the program")
        return os.read(said, 100)

    try:
        up = run(PERIGEE_BIN=str(program), ONCE=once)
        assert hear() == b"hangs\n"
        up.process.send_signal(signal.SIGTERM)
        assert hear() == b"asked to end\n"
        assert up.process.poll() is None, "it did not wait"
        os.close(os.open(scratch / "may_end", os.O_WRONLY))
        assert up.end() == 128 + signal.SIGTERM, up.text
    finally:
        os.close(said)
        with contextlib.suppress(OSError):  # it has ended
            os.close(os.open(scratch / "may_end", os.O_WRONLY | os.O_NONBLOCK))


def test_in_a_project_and_after_a_stop_it_serves_as_well(run, scratch):
    first = run(PERIGEE_PROJECT="team")
    text = first.read_until("Ctrl-C ends it")
    curl = re.search(r"(?ms)^  (curl .*?)\n\n", text).group(1)
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, timeout=DEADLINE)
    assert b'"label"' in answer.stdout, (curl, answer)
    subprocess.run([PROGRAM, "stop", "digits", "--home", scratch / "home", "--project", "team"],
                   check=True, timeout=2 * DEADLINE)
    assert first.end(signal.SIGTERM) == 0
    again = run(PERIGEE_PROJECT="team", ONCE="1")
    text = again.read_until(None)
    assert again.end() == 0, text
    assert "digit-3.png is a 3" in text


def test_a_second_beside_a_running_one_says_so(run):
    first = run()
    first.read_until("Ctrl-C ends it")
    second = run(ONCE="1")
    text = second.read_until(None)
    assert second.end() == 1
    assert "already" in text or "in use" in text or "runs" in text
    assert first.process.poll() is None, "the first was disturbed"
    assert first.end(signal.SIGINT) == 0
