# SPDX-License-Identifier: Apache-2.0
"""tools/run-tests: files of tests beside each other, and what becomes of those that go wrong.

It is run for a folder of tests made here, with this folder's conftest.py."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from deadline import DEADLINE, children, wait_exit, wait_file
from perigee import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import beside  # noqa: E402

DRIVER = """
import os, pathlib, runpy, sys
tools, folder, jobs = sys.argv[1:]
sys.path.insert(0, tools)
import beside
beside.ORPHAN_SECONDS = 0.1
run_tests = runpy.run_path(f"{tools}/run-tests")

def run_all(options, legs, total):
    scratch = pathlib.Path(folder, "scratch")
    scratch.mkdir()
    way = beside.Way(sys.executable, f"{folder}/tests", {**os.environ, "FOLDER": folder},
                     ["-m", "not long"], [], None)
    beside.Beside("leg", way, scratch, options.jobs, total).run({})
    for name in total.failed:
        print("FAILED", name)
    print(total.line())
    return bool(total.failed)

run_tests["main"].__globals__["run_all"] = run_all
sys.argv[1:] = ["--jobs", jobs]
sys.exit(run_tests["main"]())
"""


class Run:
    def __init__(self, folder, files, jobs):
        (folder / "tests").mkdir()
        here = pathlib.Path(__file__).parent
        for name in ("conftest.py", "pytest.ini", "outcomes.py", "deadline.py", "perigee.py"):
            shutil.copy(here / name, folder / "tests")
        for name, text in files.items():
            (folder / "tests" / f"test_{name}.py").write_text(
                "import os, pathlib, signal, socket, subprocess, sys, pytest\n"
                "folder = pathlib.Path(os.environ['FOLDER'])\n" + text)
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, ROOT / "tools", folder, str(jobs)], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True)

    def end(self, status):
        text = self.process.communicate(timeout=2 * DEADLINE)[0]
        assert self.process.returncode == status, text
        assert not children(os.getpid()), text
        return text


@pytest.fixture
def run(scratch):
    made = []

    def new(jobs=2, **files):
        made.append(Run(scratch, files, jobs))
        return made[-1]
    yield new
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


PASSES = "def test_passes(): pass\n"
SKIPS = "@pytest.mark.skip('no moon')\ndef test_skips(): pass\n"
# What a row of Beside's says: what a file holds, the lines that are told of it, and the sum.
CASES = {
    "passes": (PASSES + SKIPS, ["leg: test_it.py: 1 passed, 1 skipped in"], "1 passed, 0 failed"),
    "fails": ("def test_fails(): assert 'this' == 'that'\n" + PASSES,
              ["E   AssertionError: assert 'this' == 'that'", "FAILED leg: test_it.py::test_fails"],
              "1 passed, 1 failed"),
    "ends badly": ("@pytest.fixture\ndef bad():\n    yield\n    assert not 'left'\n"
                   "def test_used(bad): pass\n", ["FAILED leg: test_it.py::test_used"],
                   "0 passed, 1 failed"),
    "dies": (PASSES + "def test_dies(): os._exit(7)\ndef test_later(): pass\n",
             ["FAILED leg: test_it.py: pytest ended with 7 before test_it.py::test_dies; "
              "2 of 3 tests have not run"], "1 passed, 1 failed"),
    "dies at its end": (PASSES + "import atexit\n'--plan' in str(sys.argv) or atexit."
                        "register(os._exit, 9)\n",
                        ["FAILED leg: test_it.py: pytest ended with 9"], "1 passed, 1 failed"),
    "is no Python": ("def (\n", ["SyntaxError", "FAILED leg: pytest ended with 2 and no plan"],
                     "0 passed, 1 failed"),
    "leaves behind": ("def test_leaves():\n    subprocess.run(['sh', '-c', 'sleep 1001 &'])\n",
                      ["FAILED leg: test_it.py: left behind: ", " sleep 1001"],
                      "1 passed, 1 failed"),
    "not selected": ("@pytest.mark.long\n" + PASSES, [], "0 passed, 0 failed, 0 skipped"),
    "tells": ("def test_tells(record_property): record_property('told', 'so many pass\\n')\n",
              ["test_it.py::test_tells says:\nso many pass\n"], "1 passed, 0 failed"),
    "not a word too much": (PASSES + "def test_speaks(): print('a word')\n", [], "2 passed"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file(run, case):
    text, said, total = CASES[case]
    out = run(it=text).end("1 failed" in total)
    for line in said:
        assert line in out, out
    assert out.splitlines()[-1].startswith(total), out
    assert "a word" not in out


def test_the_last_is_told_of_all(run):
    """By whichever process they were run, and also of what was not selected."""
    last = """@pytest.mark.last
def test_all(request):
    import conftest
    told = request.config.stash[conftest.OUTCOMES]
    assert told.outcomes == {"test_a.py::test_passes": "passed", "test_b.py::test_skips": "skipped",
                             "test_b.py::test_one": "passed"}, told.outcomes
    assert told.deselected == ["test_c.py::test_passes"]
@pytest.mark.alone
def test_one(): pass
"""
    out = run(a=PASSES, b=last + SKIPS, c="@pytest.mark.long\n" + PASSES).end(0)
    assert out.splitlines()[-1] == "3 passed, 0 failed, 1 skipped"


MEETS = """
def test_meets():
    with socket.create_server(("127.0.0.1", 7001)):
        fd = os.open(folder / "fifo", os.{how})
        assert {what}
"""


@pytest.mark.root
def test_two_are_beside_each_other_on_networks_of_their_own(run, scratch):
    """Both listen at one port while they talk."""
    os.mkfifo(scratch / "fifo")
    run(reads=MEETS.format(how="O_RDONLY", what="os.read(fd, 9) == b'hello'"),
        writes=MEETS.format(how="O_WRONLY", what="os.write(fd, b'hello')")).end(0)


def test_those_that_want_to_be_alone_are(run, scratch):
    """No other file is being run meanwhile, and all that may be beside others came before."""
    text = """
from deadline import children
{mark}
def test_it():
    assert {alone} or children(os.getppid()) == {{os.getpid()}}
    with open(folder / "told", "a") as file:
        file.write("{name}")
"""
    alone = {name: text.format(mark="@pytest.mark.alone", alone=False, name=name) for name in "ace"}
    run(jobs=4, **alone, b=text.format(mark="", alone=True, name="b")).end(0)
    told = (scratch / "told").read_text()
    assert told[0] == "b" and sorted(told) == list("abce"), told


WAITS = """
@pytest.fixture
def thing():
    (folder / "begun").write_text("yes")
    yield
    (folder / "ended").write_text("yes")
def test_waits(thing):
    subprocess.run(["sleep", "1002"])
"""


def test_who_is_killed_leaves_no_test_running(run, scratch):
    """They tidy up, though nobody is there to tell them."""
    one = run(waits=WAITS, jobs=1)
    wait_file(scratch / "begun", one.process, time.monotonic() + DEADLINE)
    below = {pid for child in children(one.process.pid) for pid in {child} | children(child)}
    one.process.kill()
    one.process.wait()
    for pid in below:
        wait_exit(pid, "what was begun")
    assert (scratch / "ended").exists()
    assert not beside.end_orphans()  # they came to us


def test_seconds_are_kept_whole(scratch):
    """Who reads them, or is killed, has one or the other."""
    file = scratch / "gcc.seconds.json"
    beside.keep_seconds(file, {"test_a.py": 1.5})
    with open(file, encoding="utf-8") as before:
        beside.keep_seconds(file, {"test_b.py": 2.5})
        assert json.load(before) == {"test_a.py": 1.5}
    assert json.loads(file.read_text()) == {"test_b.py": 2.5}
    with pytest.raises(TypeError):
        beside.keep_seconds(file, {"test_c.py": object()})
    assert json.loads(file.read_text()) == {"test_b.py": 2.5}
    assert [path.name for path in scratch.iterdir()] == [file.name]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_nothing_is_left(run, scratch, by):
    one = run(waits=WAITS, other=PASSES, jobs=1)
    wait_file(scratch / "begun", one.process, time.monotonic() + DEADLINE)
    below = {pid for child in children(one.process.pid) for pid in {child} | children(child)}
    one.process.send_signal(by)
    out = one.end(130)
    assert f"run-tests: ended by {by.name}" in out
    assert (scratch / "ended").exists(), out
    for pid in below:
        wait_exit(pid, "what was begun", seconds=5)


def test_the_longest_comes_first():
    rows = [("few", 3, 0), ("many", 40, 0), ("slow", 4, 4), ("old", 1, 0)]
    tasks = [beside.Task(name, "beside", ["a test"] * count, slow) for name, count, slow in rows]
    assert [one.file for one in beside.longest_first(tasks, {"old": 33.0})] == [
        "slow", "old", "many", "few"]
    assert [one.file for one in beside.longest_first(tasks, {"few": 99.0, "slow": 1.0})] == [
        "few", "many", "slow", "old"]
