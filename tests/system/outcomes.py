# SPDX-License-Identifier: Apache-2.0
"""What ran and how it ended, for the tests of a run's end and for tools/run-tests.

A run may be many processes, one a file of tests (tools/beside.py). `--outcomes FILE`: each test
that has ended is a line of JSON there, written at once, so that it is known of a process that
crashed. What the file says already ran before, elsewhere. `--turn`: only the tests that may run
beside others, those marked `alone`, or those marked `last`. `--plan FILE`: with --collect-only,
what there is to run, a line a file and turn."""
import collections
import json
import pathlib

TURNS = ("beside", "alone", "last")
TOLD = "told"  # record_property(TOLD, text): of the run's output, however the test ended


def turn(item):
    return next((name for name in TURNS[1:] if item.get_closest_marker(name)), TURNS[0])


def read(path):
    """The rows of a file of outcomes, or of a plan; the last may be cut."""
    path = pathlib.Path(path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def write_plan(path, items):
    tests, slow = collections.defaultdict(list), collections.Counter()
    for item in items:
        key = item.path.name, turn(item)
        tests[key].append(item.nodeid)
        slow[key] += item.get_closest_marker("slow") is not None
    rows = [{"file": key[0], "turn": key[1], "tests": ids, "slow": slow[key]}
            for key, ids in tests.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Outcomes:
    """tests/bad_input.md is checked against it: test_bad_input.py."""

    def __init__(self, path=None):
        self.outcomes = {}
        self.whys = {}  # of those that were skipped
        self.deselected = []
        self.phases = []
        for row in read(path) if path else ():
            if row["is"] == "deselected":
                self.deselected.append(row["test"])
            else:
                self.outcomes[row["test"]] = row["is"]
                self.whys[row["test"]] = row["why"]
        self.file = open(path, "a", encoding="utf-8", buffering=1) if path else None

    def _tell(self, name, outcome, why="", seconds=0.0, told=""):
        if self.file:
            row = {"test": name, "is": outcome, "why": why, "seconds": round(seconds, 3),
                   "told": told}
            self.file.write(json.dumps(row) + "\n")

    def pytest_runtest_logreport(self, report):
        self.phases.append(report)
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome
        if report.when == "teardown":
            skipped = [one.longrepr for one in self.phases if isinstance(one.longrepr, tuple)]
            self.whys[report.nodeid] = (
                skipped[0][2].removeprefix("Skipped: ") if skipped else "")
            self._tell(report.nodeid, self.outcomes[report.nodeid], self.whys[report.nodeid],
                       sum(one.duration for one in self.phases),
                       dict(report.user_properties).get(TOLD, ""))
            self.phases.clear()

    def pytest_deselected(self, items):
        for item in items:
            self.deselected.append(item.nodeid)
            self._tell(item.nodeid, "deselected")
