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
from harness import cases, requests, table  # noqa: E402


def rounds(*rates):
    return [{"p50_us": 1e6 / rate, "p99_us": 2e6 / rate, "rps": rate, "cpu_us": 1e6 / rate}
            for rate in rates]


BAR = cases.Bar("c", "perigee", "rps", "nginx", ">=", 0.5)

JUDGED = {
    "met": (rounds(60, 60, 60), rounds(100, 100, 100), "yes"),
    "short": (rounds(40, 40, 40), rounds(100, 100, 100), "NO"),
    "one round of many that was disturbed is no ground to refuse":
        (rounds(60, 60, 60, 60, 6), rounds(100, 100, 100, 100, 10), "yes"),
    "ratios are of one round": (rounds(66, 60, 54), rounds(110, 100, 90), "yes"),
    "a floor that moved": (rounds(60, 60, 60), rounds(100, 60, 140), "refused"),
    "what is measured may move, the floor may not":
        (rounds(90, 55, 95), rounds(100, 99, 98), "yes"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_a_bar_is_judged_or_refused(name):
    mine, floor, wanted = JUDGED[name]
    row = table.judge(BAR, {"c": {"perigee": mine, "nginx": floor}}, {})
    assert row["met"].split(":")[0] == wanted
    assert (row["measured"] is None) == (wanted == "refused")


def test_what_was_not_measured_is_said():
    assert table.judge(BAR, {"c": {"nginx": rounds(1)}}, {})["met"] == "not measured"
    absent = {("c", "perigee"): "not built yet"}
    assert table.judge(BAR, {"c": {"nginx": rounds(1)}}, absent)["met"] == "not built yet"


def test_no_ratio_is_in_a_row_where_the_floor_moved():
    case = cases.Case("tiny", "json", 64)
    for row in table.rows(case, {"nginx": rounds(100, 60, 140), "perigee": rounds(60, 60, 60)}):
        assert row.get("rps_ratio") is None


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
