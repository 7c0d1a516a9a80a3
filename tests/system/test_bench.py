# SPDX-License-Identifier: Apache-2.0
"""make bench: what it refuses, and that its tables name what there is."""
import json
import os
import signal
import subprocess
import sys

import pytest

from deadline import children, until, wait_exit
from perigee import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from harness import cases, requests, steady, table  # noqa: E402


def rounds(*rates):
    return [{"p50_us": 1e6 / rate, "p99_us": 2e6 / rate, "rps": rate, "cpu_us": 1e6 / rate}
            for rate in rates]


BAR = cases.Bar("c", "perigee", "rps", "nginx", ">=", 0.5)

JUDGED = {  # three rounds are asked for
    "met": (rounds(60, 60, 60), rounds(100, 100, 100), "yes"),
    "short": (rounds(40, 40, 40), rounds(100, 100, 100), "NO"),
    "a round that was disturbed is set aside":
        (rounds(60, 60, 60, 6), rounds(100, 100, 100, 190), "yes"),
    "too few are left": (rounds(60, 60, 60, 60), rounds(100, 79, 121, 100), "refused: 2 of 3"),
    "just as far as may be": (rounds(60, 60, 60), rounds(100, 80, 120), "yes"),
    "ratios are of one round": (rounds(66, 60, 54), rounds(110, 100, 90), "yes"),
    "what is measured may move, the floor may not":
        (rounds(90, 55, 95), rounds(100, 99, 98), "yes"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_a_bar_is_judged_or_refused(name):
    mine, floor, wanted = JUDGED[name]
    row = table.judge(BAR, {"c": {"perigee": mine, "nginx": floor}}, {}, 3)
    assert row["met"] == wanted
    assert (row["measured"] is None) == wanted.startswith("refused")


def test_what_was_not_measured_is_said():
    assert table.judge(BAR, {"c": {"nginx": rounds(1)}}, {}, 1)["met"] == "not measured"
    absent = {("c", "perigee"): "not built yet"}
    assert table.judge(BAR, {"c": {"nginx": rounds(1)}}, absent, 1)["met"] == "not built yet"


def test_a_ratio_is_judged_by_the_floor_not_by_the_peer():
    """What a peer does itself is no ground to refuse; that the machine was not steady is."""
    bar = cases.Bar("c", "perigee", "rps", "fastapi", ">=", 8)
    figures = {"perigee": rounds(90, 90, 90), "fastapi": rounds(10, 6, 20)}
    for nginx, wanted in ((rounds(100, 100, 100), "yes"), (rounds(100, 60, 190), "refused: 1 of 3"),
                          ([], "yes")):
        floor = {"nginx": nginx} if nginx else {}
        assert table.judge(bar, {"c": {**figures, **floor}}, {}, 3)["met"] == wanted


FLOORS = {  # what nginx does round by round; (rounds that are run, that count), 4 asked for
    "steady": ([100] * 8, (4, 4)),
    "one round disturbed": ([100, 100, 70, 100, 100, 100], (5, 4)),
    "the first": ([50, 100, 100, 100, 100, 100], (5, 4)),
    "two": ([100, 50, 100, 200, 100, 100], (6, 4)),
    "another pace, from the third on": ([50, 50, 100, 100, 100, 100, 100, 100], (6, 4)),
    "two paces in turn": ([100, 200] * 4, (7, 4)),
    "never the same": ([10, 20, 40, 80, 160, 320, 640, 1280], (8, 0)),
    "as far as may be": ([100, 84, 119, 100, 100], (4, 4)),
}


@pytest.mark.parametrize("name", FLOORS)
def test_a_round_that_was_disturbed_is_run_again(name):
    paces, (run, count) = FLOORS[name]
    figures, wanted = {"nginx": []}, steady.needs(["nginx"], [])
    while steady.more(figures, wanted, 4):
        figures["nginx"] += rounds(paces[len(figures["nginx"])])
    assert len(figures["nginx"]) == run
    assert len(steady.rounds(figures, "nginx", "rps")) == count


def test_one_figure_of_the_floor_that_moved_has_rounds_run_again():
    still = {"p50_us": 10, "p99_us": 20, "rps": 100, "cpu_us": 5}
    for key in steady.KEYS:
        figures = {"nginx": [still, still, {**still, key: 500}]}
        assert steady.more(figures, steady.needs(["nginx"], []), 3)
        assert [len(steady.rounds(figures, "nginx", one)) for one in steady.KEYS] == \
            [2 if one == key else 3 for one in steady.KEYS]
    tail = {"nginx": [still, still, {**still, "p99_us": 500}]}
    assert not steady.more(tail, steady.needs(["nginx"], []), 3)


def test_a_bar_in_process_has_rounds_run_again_by_that():
    bar = cases.Bar("c", "perigee", "p50_us", "in-process", "<=", 1.04)
    figures = {"in-process": rounds(100, 100, 10), "nginx": rounds(100, 100, 100)}
    assert not steady.more(figures, steady.needs(list(figures), []), 3)
    assert steady.more(figures, steady.needs(list(figures), [bar]), 3)
    assert not steady.more({"in-process": rounds(1, 2, 3)}, steady.needs(["in-process"], []), 3)


def test_rows_and_lines_say_what_was_set_aside(capsys):
    case = cases.Case("tiny", "json", 64)
    figures = {"nginx": rounds(100, 100, 100, 190), "perigee": rounds(60, 60, 60, 190)}
    row = list(table.rows(case, figures, 3))[1]
    assert row["set_aside"]["rps"] == [3] and row["rps"] == 60 and row["rps_ratio"] == 0.6
    table.show_case(case, figures, [], 3)
    said = capsys.readouterr().out
    assert "of 4 rounds 1 for p50, 1 for req/s, 1 for CPU" in said and "refused" not in said
    figures["nginx"] = rounds(100, 10, 1000, 100)
    row = list(table.rows(case, figures, 3))[1]
    assert row["rps_ratio"] is None and row["rps"] == 60     # of all of them
    table.show_case(case, figures, [], 3)
    said = capsys.readouterr().out
    assert "refused: no ratio of req/s: 2 of the 3 rounds that it takes" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    table.show_case(case, {"nginx": rounds(100, 100, 100)}, [], 3)
    assert "set aside" not in capsys.readouterr().out


FIGURES = {
    "met": ([1.1, 1.2, 1.3], 1.3, "<=", [10, 10, 10], "yes"),
    "short": ([1.4, 1.4, 1.2], 1.3, "<=", [10, 10, 10], "NO"),
    "at least": ([0.9, 0.9, 1], 0.95, ">=", (), "NO"),
    "what it is divided by moved": ([1.1, 1.2, 1.3], 1.3, "<=", [10, 20, 30], "refused: 50%"),
    "one number": ([1.1], 1.3, "<=", [10], "yes"),
    "without a bar": ([1.1], None, "<=", (), ""),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_judged_or_refused(name, capsys):
    numbers, bar, sign, floor, wanted = FIGURES[name]
    row = table.figure("what", numbers, "ms", bar, sign, floor)
    assert row["met"] == wanted
    table.show_figures([row])
    assert all(len(line) <= 83 for line in capsys.readouterr().out.splitlines())


def test_every_bar_is_of_a_case_and_its_servers():
    by_name = {case.name: case for case in cases.CASES}
    assert len(by_name) == len(cases.CASES)
    for bar in cases.BARS:
        assert {bar.server, bar.against} <= set(by_name[bar.case].servers)
        assert bar.server in cases.SERVERS and bar.against in cases.SERVERS


@pytest.mark.parametrize("form", cases.FORMS)
def test_every_form_says_the_same_numbers(form):
    model = cases.MODELS["mlp"]
    numbers = requests.values(model)
    body, headers = requests.body(model, form, numbers)
    if form == "binary":
        assert body[int(headers["Inference-Header-Content-Length"]):] == requests.packed(numbers)
    else:
        sent = [float(word) for word in body.split(b"[")[-1].split(b"]")[0].split(b",")]
        assert requests.packed(sent) == requests.packed(numbers)


def test_of_several_outputs_the_numbers_are_compared():
    rows = [{"name": "label", "datatype": "INT64", "data": [7]},
            {"name": "probabilities", "datatype": "FP32", "data": [[0.25, 0.75]]}]
    assert requests.output({}, json.dumps({"outputs": rows}).encode()) == [0.25, 0.75]
    head = json.dumps({"outputs": [
        {"name": row["name"], "datatype": row["datatype"],
         "parameters": {"binary_data_size": 8}} for row in rows]}).encode()
    content = head + bytes(8) + requests.packed([0.25, 0.75])
    headers = {"inference-header-content-length": str(len(head))}
    assert requests.output(headers, content) == (0.25, 0.75)


def bench(*arguments):
    return subprocess.run([ROOT / "bench" / arguments[0], *arguments[1:]], capture_output=True,
                          text=True)


@pytest.mark.parametrize("arguments, words", [
    (["run", "--case", "nonsense"], "no case is named 'nonsense'; --list prints all"),
    (["run", "--server", "apache"], "'apache' is no server: in-process, nginx"),
    (["run", "--rounds", "0"], "--rounds is at least 1"),
    (["life", "--runs", "0"], "--runs is at least 1"),
    (["overload", "--connections", "9999"], "--connections from 1 to 4096"),
    (["zero", "--replicas", "-1"], "--replicas from 0 to 1000"),
    (["proxy", "--turns", "0"], "--turns is at least 1"),
    (["image", "--runs", "0"], "--runs is at least 1"),
    (["upgrade", "--connections", "0"], "--connections from 1 to 1024"),
    (["image", "--engine", "lxc"], "invalid choice: 'lxc'"),
])
def test_a_wrong_flag_is_named(arguments, words):
    done = bench(*arguments)
    assert done.returncode == 2 and words in done.stderr


def test_all_it_prints_fits_a_terminal():
    assert len(table.HEAD) <= 80
    for arguments in (["run", "--help"], ["run", "--list"], ["life", "--help"],
                      ["overload", "--help"], ["zero", "--help"], ["proxy", "--help"],
                      ["image", "--help"], ["crowd", "--help"], ["upgrade", "--help"],
                      ["walls", "--help"]):
        done = bench(*arguments)
        assert done.returncode == 0
        assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("by, seen", [
    pytest.param(signal.SIGTERM, "", id="SIGTERM-while-it-starts"),
    pytest.param(signal.SIGTERM, "pg-zero-*/home/run/addresses.json", id="SIGTERM-while-it-serves"),
    pytest.param(signal.SIGHUP, "", id="SIGHUP"),
])
def test_a_bench_that_is_ended_leaves_nothing(scratch, by, seen):
    process = subprocess.Popen([sys.executable, ROOT / "bench" / "zero", "--no-build"],
                               env={**os.environ, "TMPDIR": str(scratch)},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until("its Perigee", lambda: children(process.pid))
    if seen:
        until("that it serves", lambda: [*scratch.glob(seen)])
    theirs = children(process.pid)
    process.send_signal(by)
    wait_exit(process.pid, "the bench's end")
    assert process.wait() == 128 + by
    for pid in theirs:
        assert not os.path.exists(f"/proc/{pid}"), pid
    assert not [*scratch.iterdir()]
