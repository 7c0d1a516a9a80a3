# SPDX-License-Identifier: Apache-2.0
"""A worker that dies, hangs, lies or floods fails its own requests alone, and is replaced.

The tree is copied and the test-only worker put in perigee-worker-onnx's place; its model is a text
that says what happens at load, its input says what happens in a request (tests/worker)."""

import json
import os
import re
import shutil
import subprocess
import time

import pytest

from deadline import DEADLINE, children, command_line, wait_readable
from perigee import PROGRAM, Perigee
from test_worker_contract import MISBEHAVE
from worker import reachable

pytestmark = pytest.mark.skipif(
    not MISBEHAVE.exists(), reason="an installed tree has no test-only worker"
)


@pytest.fixture(scope="module")
def perigee(tmp_path_factory):
    folder = reachable(tmp_path_factory.mktemp("tree"))
    libraries = folder / "lib" / "perigee"
    libraries.mkdir(parents=True)
    shutil.copy2(PROGRAM, folder / "perigee")
    for file in (PROGRAM.parent / "lib" / "perigee").iterdir():
        if file.name.startswith("lib") and "onnx" not in file.name:
            shutil.copy2(file, libraries / file.name)
    shutil.copy2(MISBEHAVE, libraries / "perigee-worker-onnx")
    home = folder / "home"
    home.mkdir(mode=0o700)
    one = Perigee(home)
    one.program = folder / "perigee"
    with one.running():
        yield one


@pytest.fixture
def deploy(perigee, tmp_path):
    made = []

    def run(line="ok", status=0, **keys):
        name = f"bad-{os.urandom(4).hex()}"
        made.append(name)
        (tmp_path / "model.onnx").write_text(line + "\n")
        spec = {"name": name, "model": "./model.onnx", **keys}
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        perigee.cli("apply", "-f", tmp_path / "spec.json", "--no-wait", cwd=tmp_path)
        perigee.wait_event("revision_ready" if status == 0 else "replica_exited", endpoint=name)
        return name

    yield run
    for name in made:
        perigee.cli("delete", name, "--yes")


def ask(perigee, name, command):
    """(status, name of the error, what was said)."""
    tensor = {"name": "command", "shape": [1], "datatype": "BYTES", "data": [command]}
    status, headers, body = perigee.request(
        "POST", f"/v2/models/{name}/infer", {"inputs": [tensor]}
    )
    answer = json.loads(body)
    said = answer["outputs"][0]["data"][0] if status == 200 else answer["error"]
    return status, headers.get("Perigee-Error"), said


class Followed:
    """`perigee logs NAME --follow`: its lines as they come."""

    def __init__(self, perigee, name, *form):
        self.process = subprocess.Popen([perigee.program, "logs", name, "--follow", *form],
                                        env=perigee.environment(), stdout=subprocess.PIPE)
        self.text = b""

    def line(self, part):
        """The next line with that in it."""
        descriptor, deadline = self.process.stdout.fileno(), time.monotonic() + DEADLINE
        while True:
            *lines, self.text = self.text.split(b"\n")
            for index, line in enumerate(lines):
                if part in line:
                    self.text = b"\n".join([*lines[index + 1:], self.text])
                    return line
            wait_readable([descriptor], deadline, part)
            read = os.read(descriptor, 65536)
            assert read, f"it ended before it said {part}"
            self.text += read

    def end(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.process.stdout.close()


def test_what_a_replica_writes_is_followed_and_cannot_speak_to_a_terminal(perigee, deploy):
    name = deploy()
    shown, raw = Followed(perigee, name), Followed(perigee, name, "--json")

    def write(text):
        status, _, said = ask(perigee, name, f"call write 2 x:{text.hex()} {len(text)}")
        assert (status, said) == (200, str(len(text)))

    try:
        write(b"first\n")
        for follow in (shown, raw):
            follow.line(b"first")
        write(b"red \x1b[31m\xc2\x9b31m \tcaf\xc3\xa9 \xff\x07 end\nlast\n")
        line = shown.line(b"red ")
        assert line.endswith(rb"red \x1b[31m\xc2\x9b31m \x09caf" b"\xc3\xa9 "
                             b"\xef\xbf\xbd" rb"\x07 end"), line
        assert json.loads(raw.line(b"red "))["line"].startswith("red ")
        for follow in (shown, raw):
            follow.line(b"last")
    finally:
        shown.end()
        raw.end()


def last_death(perigee, name):
    return perigee.get_json(f"/api/v1/endpoints/{name}", "control")["deaths"][0]


def wait_serving(perigee, name, exits):
    """Until a replica is ready after so many have ended."""
    with perigee.events() as events:
        for _ in range(exits):
            events.wait("replica_exited", endpoint=name)
        events.wait("replica_ready", endpoint=name)


# (command, what the reason says). Each kills two: a request no byte of which was answered is tried
# once on another replica.
DEATHS = [
    ("segv", "SIGSEGV"),
    ("abort", "SIGABRT"),
    ("socket", "socket"),
    ("exit 3", "3"),
    ("lie-jump", "jumped"),
]


@pytest.mark.parametrize("command, words", DEATHS, ids=[row[0] for row in DEATHS])
def test_a_death_in_a_request(perigee, deploy, command, words):
    name, other = deploy(), deploy()
    status, error, said = ask(perigee, name, command)
    assert (status, error) == (502, "replica_died"), said
    assert ask(perigee, other, "echo well")[::2] == (200, "well")
    wait_serving(perigee, name, 2)
    assert ask(perigee, name, "echo back")[::2] == (200, "back")
    perigee.wait_metric(lambda n: n == 1, "perigee_requests_retried_total", endpoint=name)
    perigee.wait_metric(lambda n: n == 2, "perigee_replica_exits_total", endpoint=name)
    death = last_death(perigee, name)
    assert words in death["reason"] and any("ready" in line for line in death["log"])
    assert words in perigee.cli("show", name).text


def test_a_worker_that_hangs_is_killed_after_the_timeout(perigee, deploy):
    name, other = deploy(timeout="1s"), deploy()
    killed = perigee.metric("perigee_replicas_killed_total", reason="timeout")
    began = time.monotonic()
    status, error, said = ask(perigee, name, "hang")
    assert (status, error) == (504, "deadline"), said
    assert time.monotonic() - began >= 1
    assert ask(perigee, other, "echo well")[::2] == (200, "well")
    wait_serving(perigee, name, 1)
    assert time.monotonic() - began >= 2  # a second after the answer
    log = perigee.log.read_text()
    answered = log.index(f"path=/v2/models/{name}/infer status=504")
    assert answered < log.index(f"killing a replica replica={name}-1")
    assert "timeout" in last_death(perigee, name)["reason"]
    perigee.wait_metric(lambda n: n == killed + 1, "perigee_replicas_killed_total",
                        reason="timeout")
    assert ask(perigee, name, "echo back")[::2] == (200, "back")


LIES = ["lie-offset", "lie-shape", "lie-datatype", "lie-length", "lie-count", "lie-status"]


@pytest.mark.parametrize("command", LIES)
def test_nonsense_is_an_error_of_its_own_request(perigee, deploy, command):
    name = deploy()
    status, error, said = ask(perigee, name, command)
    assert (status, error) == (500, "internal") and "answer" in said
    perigee.wait_metric(lambda n: n == 1, "perigee_answers_refused_total", endpoint=name)
    for _ in range(3):
        status, _, said = ask(perigee, name, "echo back")
        if status == 200:
            break
        wait_serving(perigee, name, 1)
    assert (status, said) == (200, "back")


HUGE = 2**64 - 1
# Each field of what a worker writes, with values that it must not have.
FIELDS = [
    ("lie-completion", [("ticket", 0), ("ticket", "+1"), ("ticket", HUGE), ("start_ns", HUGE),
                        ("input_ns", HUGE), ("infer_ns", HUGE), ("output_ns", HUGE),
                        ("cpu_ns", HUGE), ("slot", "+1"), ("slot", 2**32 - 1), ("status", 5),
                        ("output_count", 0), ("output_count", 65), ("output_count", 2**32 - 1),
                        ("batch_rows", 0), ("batch_rows", 2**32 - 1)]),
    ("lie-answer", [("output_count", 0), ("output_count", 2**32 - 1), ("message_bytes", 2**32 - 1),
                    ("message", 255), ("index", 1), ("index", 2**32 - 1), ("datatype", 0),
                    ("datatype", 2**32 - 1), ("rank", 0), ("rank", 17), ("rank", 2**32 - 1),
                    ("reserved", 1), ("offset", 1), ("offset", HUGE - 63), ("offset", 2**40),
                    ("bytes", HUGE), ("bytes", 2**40), ("dims", 255)]),
    ("lie-page", [("magic", 0), ("version", 99), ("phase", 0), ("phase", 5), ("phase", HUGE),
                  ("sleeping", 77), ("pid", 1), ("signal", -5), ("syscall", 2**31 - 1),
                  ("walls", HUGE), ("landlock_abi", 99), ("model_bytes", HUGE),
                  ("memory_loaded_bytes", HUGE), ("load_ns", HUGE), ("warm_ns", HUGE),
                  ("walls_ns", HUGE), ("reason", 255)]),
    ("lie-model", [("platform", HUGE), ("input_count", HUGE), ("output_count", 2**32 - 1),
                   ("property_count", 65), ("batch_rows_max", 2**32 - 1), ("inputs", 255),
                   ("outputs", 255)]),
    ("lie-lane", [("head", 0), ("head", HUGE), ("head", "+257"), ("taken", 0), ("taken", HUGE)]),
]
LIES_IN_FIELDS = [f"{command} {field} {value}" for command, rows in FIELDS for field, value in rows]


@pytest.fixture(scope="module")
def bystander(perigee, tmp_path_factory):
    """Another endpoint, and the gateway: neither is to feel anything."""
    folder = tmp_path_factory.mktemp("bystander")
    (folder / "model.onnx").write_text("ok\n")
    (folder / "spec.json").write_text(json.dumps({"name": "bystander", "model": "./model.onnx"}))
    perigee.cli("apply", "-f", folder / "spec.json", cwd=folder)
    before = roles(perigee)

    def unharmed():
        assert ask(perigee, "bystander", "echo well")[::2] == (200, "well")
        assert roles(perigee) == before

    yield unharmed
    perigee.cli("delete", "bystander", "--yes")


def roles(perigee):
    """Processes of ours, by pid: none of them has died when these are the same."""
    return {pid for pid in children(perigee.process.pid) if b"role" in command_line(pid).encode()}


@pytest.mark.parametrize("command", [*LIES_IN_FIELDS, "twice"])
def test_a_lie_in_any_field_hurts_its_own_endpoint_alone(perigee, deploy, bystander, command):
    """The request has an end, a right one or an error of its own; others serve, no process of ours
    dies, and where the replica lives it goes on."""
    name = deploy(timeout="1s")
    status, error, said = ask(perigee, name, command)
    assert (status, error) in (
        (200, None), (500, "internal"), (502, "replica_died"), (504, "deadline")), said
    bystander()
    deaths = perigee.get_json(f"/api/v1/endpoints/{name}", "control")["deaths"]
    assert not any("code 99" in death["reason"] for death in deaths), "the lie was not told"
    if status in (200, 500) and not deaths:
        assert ask(perigee, name, "echo back")[0] in (200, 500, 502)
        bystander()


# What is read once, when it says that it is ready: (line of the model, what its end says; "": it
# serves). What is there of the model is copied then, so a later lie in it is read by nobody.
IOS = [("{}", 255, "a name is outside"), ("{}[0].name", HUGE, "a name is outside"),
       ("{}[0].name.bytes", 0, "has no name"), ("{}[0].datatype", 0, "datatype 0"),
       ("{}[0].datatype", 2**32 - 1, "datatype 4294967295"), ("{}[0].rank", 17, "rank 17"),
       ("{}[0].flags", 2**32 - 2, ""), ("{}[0].reserved", 1, ""),
       ("{}[0].dims[0]", HUGE - 1, "dimension -2"),
       ("{}[0].symbols[0]", HUGE, "a dimension's name is outside")]
AT_READY = [
    *((f"lie-model {field.format(ios)} {value}", words) for ios in ("inputs", "outputs")
      for field, value, words in IOS),
    *((f"lie-model {field} {value}", words) for field, value, words in [
        ("platform", HUGE, "the platform is outside"), ("input_count", 65, "a count is too high"),
        ("input_count", 2, "has no name"), ("output_count", 2**32 - 1, "a count is too high"),
        ("property_count", 65, "a count is too high"), ("property_count", 64, ""),
        ("properties", 255, ""), ("batch_rows_max", 2**32 - 1, "")]),
    *((f"lie-page {field} {value}", words) for field, value, words in [
        ("model_bytes", 0, "0 bytes"), ("model_bytes", 2**32 - 1, "4294967295 bytes"),
        ("magic", 0, ""), ("version", 99, ""), ("phase", 77, ""), ("sleeping", 77, ""),
        ("pid", 1, ""), ("signal", 2**32 - 5, ""), ("syscall", 2**31 - 1, ""),
        ("walls", 2**32 - 1, ""), ("landlock_abi", 99, ""), ("memory_loaded_bytes", HUGE, ""),
        ("load_ns", HUGE, ""), ("warm_ns", HUGE, ""), ("walls_ns", HUGE, ""), ("reason", 255, "")]),
]


@pytest.mark.parametrize("line, words", AT_READY, ids=[row[0] for row in AT_READY])
def test_a_lie_told_before_it_is_ready(perigee, deploy, bystander, line, words):
    """A model that cannot be is no model, and its replica's end; what else the page says hurts
    nobody, as what counts (whose process it is, its walls) is not its own word."""
    name = deploy(line, status=1 if words else 0)
    if words:
        reason = last_death(perigee, name)["reason"]
        assert "model metadata" in reason and words in reason
        assert perigee.request("GET", f"/v2/models/{name}/ready")[0] == 400
    else:
        assert ask(perigee, name, "echo right")[::2] == (200, "right")
        walls = perigee.get_json(f"/api/v1/endpoints/{name}/replicas", "control")["items"]
        theirs = perigee.get_json("/api/v1/endpoints/bystander/replicas", "control")["items"]
        assert walls[0]["sandbox"] == theirs[0]["sandbox"]
        shown = perigee.cli("show", name)
        assert b"\xff" not in shown.stdout and "ready" in shown.text
    bystander()


def test_out_of_memory_is_said(perigee, deploy, bystander):
    """RLIMIT_DATA has room for stacks that nobody uses, and does not count what is shared: with
    both filled its control group says no."""
    name = deploy(flavor={"memory": "128Mi", "cpu": 8})
    bystander()
    shown = perigee.get_json(f"/api/v1/endpoints/{name}/replicas", "control")["items"][0]
    group = re.search(r" cgroup\(v[12]\)", shown["sandbox"])
    if not group:
        assert os.geteuid() != 0 or "no cgroup: " in shown["sandbox"] or \
            "; cgroup: " in shown["sandbox"]
        pytest.skip("no control group can be written here: " + shown["sandbox"])
    groups = open(f"/proc/{shown['pid']}/cgroup", encoding="ascii").read()
    assert f"/perigee-{perigee.process.pid}-" in groups
    assert ask(perigee, name, "keep 190")[2] == "0"
    ask(perigee, name, "fill-slots 16")  # asked again of the next replica, which has kept nothing
    wait_serving(perigee, name, 1)
    assert re.search(r"ran out of memory: its control group's \d+ MiB",
                     last_death(perigee, name)["reason"])
    bystander()


def test_an_answer_for_another_reaches_nobody(perigee, deploy):
    """The false ticket is dropped. The true one comes too late for its place in the ring."""
    name, other = deploy(timeout="1s"), deploy()
    dropped = perigee.metric("perigee_completions_dropped_total")
    status, error, _ = ask(perigee, name, "lie-ticket")
    assert (status, error) in ((504, "deadline"), (200, None))
    assert ask(perigee, other, "echo well")[::2] == (200, "well")
    perigee.wait_metric(lambda n: n > dropped, "perigee_completions_dropped_total")


def test_what_a_lying_page_says_is_shown_escaped(perigee, deploy):
    name = deploy()
    assert ask(perigee, name, "lie-phase")[0] == 200
    ask(perigee, name, "exit 3")
    wait_serving(perigee, name, 1)
    shown = perigee.cli("show", name)
    assert b"\xff" not in shown.stdout and b"\x1b" not in shown.stdout
    perigee.get_json(f"/api/v1/endpoints/{name}", "control")


def test_a_flood_of_log_lines_is_bounded(perigee, deploy):
    name = deploy()
    assert ask(perigee, name, "flood 5000000")[::2] == (200, "5000000")
    ask(perigee, name, "exit 0")
    wait_serving(perigee, name, 1)
    death = last_death(perigee, name)
    assert death["log"] and len("".join(death["log"])) < 1 << 20
    assert "\x1b" not in perigee.cli("show", name).text


AT_LOAD = [
    ("fail the weights are sour", "the weights are sour"),
    ("exit 3", "3"),
    ("segv", "SIGSEGV"),
]


@pytest.mark.parametrize("line, words", AT_LOAD, ids=[row[0] for row in AT_LOAD])
def test_a_death_at_load(perigee, deploy, line, words):
    name = deploy(line, status=1)
    assert words in last_death(perigee, name)["reason"]
    status, error, said = ask(perigee, name, "echo hi")
    assert status in (503, 504) and error in ("overloaded", "starting", "stopped"), said
