# SPDX-License-Identifier: Apache-2.0
"""The command line against a running Perigee: what it prints, and what it exits with."""
import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import threading
import time

import numpy as np
import pytest
from PIL import Image

from alone import COLUMNS, alone, fits
from deadline import DEADLINE, until
from oip import MODELS
from perigee import DIGITS, PROGRAM, ROOT

MODEL = DIGITS / "digits.onnx"
PNG = DIGITS / "samples" / "digit-7.png"


@pytest.fixture
def name(perigee, request):
    """A name of the test's own; the endpoint is deleted afterwards."""
    own = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:36].strip("-")
    yield own
    perigee.cli("delete", own, "--yes", status=None)


# --- without a Perigee ---------------------------------------------------------------------------


def test_help_of_every_command():
    listed = alone("help").stdout
    fits(listed)
    names = re.findall(r"^  ([a-z]+)  ", listed, re.MULTILINE)
    wanted = ("up control pop dns deploy apply export endpoints show wait logs events infer "
              "explain policy scale stop start rollback delete pops registries secrets backup "
              "restore upgrade context fleet doctor simulate top version completion usage "
              "admin").split()
    assert sorted(names) == sorted(wanted)
    for command in names:
        text = alone(command, "--help").stdout
        fits(text)
        assert text == alone("help", command).stdout
        assert text.startswith(f"usage: perigee {command}") and "--json" in text
        also = re.search(r"^Also: perigee (\w+)$", text, re.MULTILINE)
        assert re.search(f"perigee ({command}|{also[1] if also else command})\\b",
                         text.split("examples:")[1])


def test_docs_are_current():
    assert alone("help", "--markdown").stdout == (ROOT / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("arguments,status,words", [
    ([], 2, "usage:"), (["deplyo"], 2, "did you mean deploy?"), (["deploy"], 2, "wants NAME"),
    (["chat", "abc"], 2, "perigee: chat: not yet"), (["help", "keys"], 2, "perigee: keys: not yet"),
    (["show", "--jsn"], 2, "did you mean --json?"), (["scale", "abc"], 2, "--min N"),
    (["scale", "abc", "--min", "x"], 2, "wants a number"),
    (["wait", "abc", "--timeout"], 2, "wants a value"),
    (["wait", "abc", "--timeout", "0s"], 2, "--timeout must be 1ms or more"),
    (["deploy", "abc", "--timeout", "5"], 2, "--timeout: "),
    (["apply", "-f", "/dev/null", "--timeout", "soon"], 2, "--timeout: "),
    (["start", "abc", "--timeout", "soon"], 2, "--timeout: "),
    (["rollback", "abc", "--timeout", "soon"], 2, "--timeout: "),
    (["apply"], 2, "-f FILE"), (["completion", "fish"], 2, "bash and zsh"),
    (["deploy", "abc", "--image", "a23/b", "--model", "m"], 2, "one of --model, --image and"),
    (["deploy", "abc", "--upstream", "http://x", "--model", "m"], 2, "one of --model, --image and"),
    (["infer", "abc", "--url", "file:///etc/passwd"], 2, "http://"),
    (["show", "abc", "--control", "ftp://x"], 2, "--control wants"),
    (["show", "abc", "--home", ""], 2, "--home wants a folder"),
    (["events", "--limit", "0"], 2, "--limit must be 1 or more"),
    (["logs", "abc", "--follow", "--limit", "3"], 2, "does not go with --follow"),
    (["up", "--json"], 2, "--json is not for perigee up"),
    (["up", "--project", "team"], 2, "--project is not for perigee up"),
    (["show", "abc"], 1, "start one with: perigee up"),
    (["show", "abc", "--control", "http://127.0.0.1:1"], 1, "cannot connect"),
    (["context", "choose"], 2, "list, set, use, clear or delete"),
    (["context", "use"], 2, "context use wants NAME"),
    (["context", "clear", "lab"], 2, "context clear takes no NAME"),
    (["context", "set", "lab"], 2, "context set wants --control URL"),
    (["context", "set", "lab", "--control", "10.0.0.7"], 2, "--control wants http://"),
    (["context", "set", "Lab", "--control", "http://x"], 2, "Lab"),
    (["context", "use", "lab"], 1, "no context 'lab'"),
    (["restore", "/nonexistent.tar"], 1, "/nonexistent.tar"),
    (["backup", "/nonexistent/x.tar"], 1, ""),
], ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "")
def test_exit_codes(arguments, status, words):
    done = alone(*arguments, status=status)
    assert words in done.stderr
    assert done.stdout == ""


def test_errors_as_json():
    done = alone("show", "abc", "--json", status=1)
    fault = json.loads(done.stderr)
    assert fault["error"] == "not_found" and "perigee up" in fault["message"]


def test_version():
    said = json.loads(alone("version", "--json").stdout)
    assert said["version"] == (ROOT / "VERSION").read_text().strip()
    assert said["schema"] >= 1 and said["worker_contract"] >= 1 and "onnx" in said["workers"]
    for line in alone("--version").stdout.splitlines():
        assert len(line) <= COLUMNS


# --- deploying -----------------------------------------------------------------------------------


def test_deploy_twice_changes_nothing(perigee, name):
    first = perigee.cli("deploy", name, "--model", MODEL)
    assert "active" in first.text and "revision 1" in first.text
    before = perigee.json("show", name)
    again = perigee.cli("deploy", name, "--model", MODEL)
    assert f"{name}: nothing changed" in again.text
    after = perigee.json("show", name)
    assert (before["generation"], before["replicas"]) == (after["generation"], after["replicas"])
    perigee.cli("deploy", name)  # flags not given keep their values
    assert perigee.json("show", name)["generation"] == before["generation"]
    refused = perigee.cli("deploy", name, "--model", MODEL, "--create", status=1)
    assert "exists already" in refused.said


def test_deploy_changes_what_is_given_alone(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL, "--create", "--max", "5")
    perigee.cli("deploy", name, "--concurrency", "7")
    spec = perigee.json("show", name)["spec"]
    assert spec["scale"] == {"max": 5, "concurrency": 7}
    assert perigee.json("show", name)["target"] == 1
    perigee.cli("deploy", name, "--model", MODELS / "identity_fp32.onnx")
    view = perigee.json("show", name)
    assert view["target"] == view["serving"] == 2 and view["spec"]["scale"]["max"] == 5


def test_deploy_without_waiting(perigee, name):
    done = perigee.cli("deploy", name, "--model", MODEL, "--no-wait", "--json")
    assert json.loads(done.text)["state"] in ("deploying", "active")
    waited = perigee.cli("wait", name, "--timeout", "20s", "--json")
    assert json.loads(waited.text)["state"] == "active"


def test_nothing_to_run(perigee, name):
    assert "--model FILE" in perigee.cli("deploy", name, status=2).said


def test_apply_and_export(perigee, scratch, name):
    shutil.copy(MODEL, scratch / "m.onnx")
    (scratch / "one.yaml").write_text(
        f"name: {name}\nmodel: ./m.onnx\nlabels: {{team: vision}}\nscale: {{max: 3}}\n")
    dry = perigee.cli("apply", "-f", scratch / "one.yaml", "--dry-run")
    assert "would be created" in dry.text and "scale.max" in dry.text
    perigee.cli("show", name, status=1)
    perigee.cli("apply", "-f", scratch / "one.yaml")
    view = perigee.json("show", name)
    assert view["labels"] == {"team": "vision"} and view["source"] == "./m.onnx"
    exported = perigee.cli("export", name).text
    again = perigee.cli("apply", "-f", "-", stdin=exported.encode())
    assert "nothing changed" in again.text
    assert perigee.json("show", name)["generation"] == view["generation"]
    # A key that is not there goes back to its default.
    (scratch / "one.yaml").write_text(f"name: {name}\nmodel: ./m.onnx\n")
    dry = perigee.cli("apply", "-f", scratch / "one.yaml", "--dry-run")
    assert "nothing restarts" in dry.text and "labels" in dry.text
    perigee.cli("apply", "-f", scratch)
    assert "scale" not in perigee.json("show", name)["spec"]
    assert perigee.json("export", name)["name"] == name
    dry = json.loads(perigee.cli("apply", "-f", scratch, "--dry-run", "--json").text)
    assert dry["diff"] == [] and not dry["new_revision"]


def test_apply_takes_every_document(perigee, scratch, name):
    """Of every file of a folder, and of one file that holds several; by name, in order."""
    (scratch / "a.yaml").write_text(f"name: {name}-a\nmodel: {MODEL}\n")
    (scratch / "b.yml").write_text(
        f"name: {name}-b\nmodel: {MODEL}\n---\nname: {name}-c\nmodel: {MODEL}\n")
    (scratch / "notes.txt").write_text("not a spec")
    perigee.cli("apply", "-f", scratch)
    for letter in "abc":
        assert perigee.json("show", f"{name}-{letter}")["state"] == "active"
        perigee.cli("delete", f"{name}-{letter}", "--yes")


def test_apply_reads_a_pipe(perigee, scratch, name):
    """As <(perigee export other) is."""
    fifo = scratch / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(f"name: {name}\nmodel: {MODEL}\n",))
    writer.start()
    perigee.cli("apply", "-f", fifo)
    writer.join()
    assert perigee.json("show", name)["state"] == "active"


def test_a_folder_as_a_model(perigee, scratch, name):
    (scratch / "model" / "deep").mkdir(parents=True)
    shutil.copy(MODEL, scratch / "model" / "model.onnx")
    (scratch / "model" / "deep" / "notes.txt").write_text("of the model")
    (scratch / "model" / ".hidden").write_text("not of the model")
    perigee.cli("deploy", name, "--model", scratch / "model")
    digest = perigee.json("show", name)["spec"]["model"]
    status, _, blob = perigee.request("GET", f"/api/v1/blobs/{digest}", listener="control")
    titles = [layer["annotations"]["org.opencontainers.image.title"]
              for layer in json.loads(blob)["layers"]]
    assert status == 200 and titles == ["deep/notes.txt", "model.onnx"]
    (scratch / "model" / "deep" / "notes.txt").write_text("changed")
    perigee.cli("deploy", name, "--model", scratch / "model")
    assert perigee.json("show", name)["target"] == 2


def test_links_in_a_folder_as_a_model(perigee, scratch, name):
    """Within it; and from a snapshot of Hugging Face's cache to the files of that model."""
    kept = scratch / "models--of--somebody"
    snapshot = kept / "snapshots" / ("a1" * 20)
    (snapshot / "deep").mkdir(parents=True)
    (kept / "blobs").mkdir()
    shutil.copy(MODEL, kept / "blobs" / ("c3" * 32))
    (snapshot / "model.onnx").symlink_to(f"../../blobs/{'c3' * 32}")
    (snapshot / "deep" / "copy").symlink_to(f"../../../blobs/{'c3' * 32}")
    (snapshot / "notes").write_text("of the model")
    (snapshot / "same").symlink_to("notes")
    (snapshot / "absolute").symlink_to(snapshot / "notes")
    (snapshot / "other").symlink_to("deep")
    (scratch / "model").symlink_to(snapshot)  # what is named itself may lie anywhere
    perigee.cli("deploy", name, "--model", scratch / "model")
    digest = perigee.json("show", name)["spec"]["model"]
    manifest = perigee.get_json(f"/api/v1/blobs/{digest}", listener="control")
    assert [layer["annotations"]["org.opencontainers.image.title"]
            for layer in manifest["layers"]] == [
                "absolute", "deep/copy", "model.onnx", "notes", "other/copy", "same"]
    (kept / "outside").write_text("of nobody")
    (snapshot / "stray").symlink_to("../../outside")
    done = perigee.cli("deploy", name, "--model", scratch / "model", status=1)
    assert f"/stray' leads to '{kept / 'outside'}'" in done.said


def test_a_project_of_its_own(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL, "--project", "team")
    try:
        assert name not in perigee.cli("ls").text
        listed = perigee.cli("ls", "--project", "team")
        assert name in listed.text
        done = perigee.cli("infer", name, "--project", "team", "--input", f"image={PNG}", "--json")
        assert json.loads(done.text)["outputs"][0]["data"] == [7]
    finally:
        perigee.cli("delete", name, "--project", "team", "--yes")


def test_a_fresh_perigee_is_live_and_says_urls(new_perigee):
    one = new_perigee()
    assert retry(lambda: one.request("GET", "/v2/health/live")[0] == 200)
    assert one.request("GET", "/v2/health/ready")[0] == 200
    one.cli("deploy", "digits", "--model", MODEL)
    host, port = one.address()
    assert one.json("show", "digits")["urls"] == [f"http://digits.localhost:{port}"]


# --- looking -------------------------------------------------------------------------------------


def test_tables_fit(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL)
    for command in (["ls"], ["endpoints"], ["show"], ["status"], ["ls", "-l", "team=nobody"]):
        fits(perigee.cli(*command).text)
    shown = perigee.cli("show", name).text
    assert "sandbox" in shown and "image FP32 [-1,64]" in shown and f"{name}-1" in shown
    listed = perigee.json("ls")
    assert name in [row["name"] for row in listed["items"]] and listed["next"] is None


def test_list_by_labels(perigee, name):
    text = f"name: {name}\nmodel: {MODEL}\nlabels: {{color: r-1, team: a}}\n"
    perigee.cli("apply", "-f", "-", stdin=text.encode())
    for labels, found in (("color=r-1", True), ("color=r-1,team=a", True), ("color=x", False)):
        assert (name in perigee.cli("ls", "-l", labels).text) == found
    perigee.cli("ls", "-l", "=&?", status=1)


def test_logs_and_events(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL)
    kinds = [json.loads(line)["kind"] for line in
             perigee.cli("events", name, "--json").text.splitlines()]
    for kind in ("endpoint_created", "revision_created", "replica_ready", "traffic_moved"):
        assert kind in kinds
    assert "replica_ready" in perigee.cli("events", "--limit", "500").text
    assert len(perigee.cli("events", "--limit", "2").text.splitlines()) == 2
    assert perigee.cli("events", name, "--project", "another").text == ""
    assert perigee.cli("events", "--project", "another").text == ""
    lines = [json.loads(line) for line in perigee.cli("logs", name, "--json").text.splitlines()]
    assert lines and all(line["replica"] == f"{name}-1" for line in lines)
    assert perigee.cli("logs", name, "--replica", "nobody").text == ""


def test_events_are_followed_past_a_restart_of_control(perigee, name):
    """The watch takes up where it was: nothing is lost and nothing comes twice."""
    with perigee.events() as events:
        perigee.cli("deploy", name, "--model", MODEL)
        ready = wait_kind(events, "replica_ready", name)
        victim = process_named(perigee, "perigee-control")
        os.kill(victim, signal.SIGKILL)
        wait_kind(events, "process_exited")
        assert retry(lambda: perigee.cli("stop", name, status=None).returncode == 0)
        wait_kind(events, "replica_exited", name)
        seen = [event["id"] for event in events.seen]
        assert len(seen) == len(set(seen)) and sorted(seen) == seen
        assert ready["id"] in seen


def wait_kind(events, kind, endpoint=None):
    deadline = time.monotonic() + DEADLINE
    while True:
        event = events.lines.next(deadline, f"{kind}; seen: {events.seen[-5:]}")
        events.seen.append(event)
        if event["kind"] == kind and endpoint in (None, event["endpoint"]):
            return event


def retry(attempt):
    """Until it succeeds: what is being restarted cannot be waited for through itself."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if attempt():
            return True
        select.select([], [], [], 0.1)
    return False


def started(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def process_named(perigee, title):
    # A template is older than its clones; process ids begin anew some day.
    for pid in sorted(perigee.pids(), key=lambda pid: (started(pid), pid)):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if title.encode() in file.read():
                return pid
        with open(f"/proc/{pid}/comm", encoding="ascii") as file:
            if file.read().strip() == title[:15]:
                return pid
    raise AssertionError(f"no process {title}")


def test_wait_ends_when_the_endpoint_is_deleted(perigee, name, scratch):
    perigee.cli("deploy", name, "--model", MODEL)
    perigee.cli("stop", name)
    assert "stopped" in perigee.cli("wait", name, "--timeout", "5s", status=1).said
    assert "no endpoint" in perigee.cli("wait", "nobody-here", status=1).said


def test_wait_says_what_it_waited_for(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL)  # now there is a template
    template = process_named(perigee, "perigee-worker-onnx")
    os.kill(template, signal.SIGSTOP)
    try:
        perigee.cli("deploy", name, "--model", MODELS / "identity_fp32.onnx", "--no-wait")
        text = f"name: {name}\nmodel: {MODELS / 'identity_fp32.onnx'}\n".encode()
        for command in (("wait", name), ("deploy", name, "--model", MODELS / "identity_fp64.onnx"),
                        ("apply", "-f", "-")):
            said = perigee.cli(*command, "--timeout", "1s", status=1, stdin=text).said
            assert f"'{name}': not within 1 s; it is " in said, command
    finally:
        os.kill(template, signal.SIGCONT)
    perigee.cli("wait", name)


def test_fewer_pops_than_wanted_are_not_waited_for(perigee, name):
    """There is one: it serves, and says so; `cli` would not wait for the ten minutes."""
    text = f"name: {name}\nmodel: {MODEL}\nspread: {{pops: 2}}\n"
    words = f"'{name}': 1 of 1 replicas ready, on fewer PoPs than spread asks for"
    assert words in perigee.cli("apply", "-f", "-", stdin=text.encode()).said
    assert perigee.json("show", name)["state"] == "partial"
    assert words in perigee.cli("wait", name).said
    assert words in perigee.cli("deploy", name, "--model", MODELS / "identity_fp32.onnx").said
    assert perigee.json("show", name)["serving"] == 2


def test_what_fails_is_said_in_one_line(perigee, name):
    text = f"name: {name}\nmodel: {MODEL}\nflavor: {{memory: 1MiB}}\n"
    done = perigee.cli("apply", "-f", "-", stdin=text.encode(), status=1)
    assert "flavor.memory: 1MiB is below" in done.said and len(done.said.splitlines()) == 1


# --- changing ------------------------------------------------------------------------------------


def test_ls_while_one_follows(perigee, name, scratch):
    (scratch / "text.onnx").write_text("no model")
    perigee.cli("deploy", name, "--model", MODEL)
    perigee.cli("deploy", name, "--model", scratch / "text.onnx", status=1)
    row = next(line for line in perigee.cli("ls").text.splitlines() if line.startswith(name))
    assert "  1, next 2  " in row, row


def test_life_of_an_endpoint(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL)
    perigee.cli("scale", name, "--min", "2", "--max", "3")
    assert perigee.json("show", name)["spec"]["scale"] == {"min": 2, "max": 3}
    perigee.cli("wait", name)
    assert "scale.min" in perigee.cli("scale", name, "--min", "9", status=1).said
    perigee.cli("stop", name)
    assert perigee.json("show", name)["state"] == "stopped"
    refused = perigee.cli("infer", name, "--input", f"image={PNG}", status=1)
    assert "stopped" in refused.said
    again = perigee.cli("deploy", name, "--model", MODEL)
    assert "nothing changed" in again.text and perigee.json("show", name)["state"] == "stopped"
    perigee.cli("start", name)
    assert perigee.json("show", name)["state"] == "active"


def test_a_change_is_waited_for_until_requests_go_by_it(perigee, name):
    """The gateway stands still while it is told: the command does not return before it goes on."""
    perigee.cli("deploy", name, "--model", MODEL)
    gateway = process_named(perigee, "perigee-gateway")
    os.kill(gateway, signal.SIGSTOP)
    try:
        with subprocess.Popen([perigee.program, "stop", name], env=perigee.environment(),
                              stdout=subprocess.DEVNULL) as stop:
            shown = until("control to have it", lambda: (
                view := perigee.json("show", name))["state"] == "stopped" and view)
            assert shown["observed_generation"] < shown["generation"]
            assert stop.poll() is None
            os.kill(gateway, signal.SIGCONT)
            assert stop.wait(DEADLINE) == 0
    finally:
        os.kill(gateway, signal.SIGCONT)
    shown = perigee.json("show", name)
    assert shown["observed_generation"] == shown["generation"]


def test_rollback(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL)
    assert "no earlier revision" in perigee.cli("rollback", name, status=1).said
    perigee.cli("deploy", name, "--model", MODELS / "identity_fp32.onnx")
    perigee.cli("rollback", name)
    view = perigee.json("show", name)
    assert view["serving"] == view["target"] == 1
    perigee.cli("rollback", name, "--revision", "2")
    assert perigee.json("show", name)["serving"] == 2
    perigee.cli("rollback", name, "--revision", "77", status=1)


def test_delete_asks(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL)
    refused = perigee.cli("delete", name, status=1, stdin=b"y\n")
    assert "--yes" in refused.said
    for answer, gone in ((b"n\n", False), (b"y\n", True)):
        said, status = on_a_terminal(perigee, "delete", name, answer=answer)
        assert "[y/N]" in said and status == (0 if gone else 1)
        assert (perigee.cli("show", name, status=None).returncode != 0) == gone
    perigee.cli("delete", name, "--yes", status=1)


def on_a_terminal(perigee, *arguments, answer=b""):
    pid, master = pty.fork()
    if pid == 0:
        os.execve(PROGRAM, [str(PROGRAM), *map(str, arguments)], perigee.environment())
    os.write(master, answer)
    said = b""
    while True:
        try:
            read = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        said += read
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return said.decode(errors="replace"), os.waitstatus_to_exitcode(status)


def test_colors_on_a_terminal_alone(perigee, name):
    perigee.cli("deploy", name, "--model", MODEL)
    said, status = on_a_terminal(perigee, "show", name)
    assert status == 0 and "\x1b[32m" in said
    assert "\x1b" not in perigee.cli("show", name).text


# --- inferring -----------------------------------------------------------------------------------


def test_infer_a_picture(perigee, digits):
    done = perigee.cli("infer", digits, "--input", f"image={PNG}")
    assert "label INT64 [1]\n  7\n" in done.text and "█" in done.text
    assert "64x64 picture to 8x8, gray, 0 to 16, inverted (as the model says)" in done.said
    fits(done.text)
    turned = perigee.cli("infer", digits, "--input", f"image={PNG}", "--image", "invert=false")
    assert "inverted" not in turned.said
    alone_ = perigee.cli("infer", digits, "--input", f"image={PNG}", "--image",
                         "8x8,gray,flat,0:16", "--json")
    assert alone_.said == "" and json.loads(alone_.text)["outputs"]
    wrong = perigee.cli("infer", digits, "--input", f"image={PNG}", "--image", "9x9,gray,flat",
                        status=1)
    assert "[1,81]" in wrong.said and "[-1,64]" in wrong.said
    url = "http://%s:%d" % perigee.address("gateway")
    untold = perigee.cli("infer", digits, "--input", f"image={PNG}", "--url", url, "--control",
                         "http://127.0.0.1:1", status=1)
    assert "control was not asked how pixels become" in untold.said and "127.0.0.1:1" in untold.said


@pytest.mark.parametrize("kind", ["npy", "npz", "json", "stdin", "nested", "uint8", "jpg"])
def test_infer_files(perigee, digits, scratch, kind):
    pixels = np.load(DIGITS / "held_out.npz")
    image, label = pixels["image"][:3].astype(np.float32), pixels["label"][:3].tolist()
    stdin = None
    path = scratch / kind
    if kind == "npy":
        np.save(path.with_suffix(".npy"), image)
        path = path.with_suffix(".npy")
    elif kind == "uint8":
        np.save(path.with_suffix(".npy"), image.astype(np.uint8))
        path = path.with_suffix(".npy")
    elif kind == "npz":
        np.savez_compressed(path.with_suffix(".npz"), image=image, other=np.zeros(1))
        path = path.with_suffix(".npz")
    elif kind == "nested":
        path.write_text(json.dumps(image.reshape(3, 8, 8).tolist()))
    elif kind == "jpg":
        path, label = path.with_suffix(".jpg"), [7]
        Image.open(PNG).convert("RGB").save(path, quality=95)
    elif kind == "json":
        path.write_text(json.dumps(image.tolist()))
    else:
        path, stdin = "@-", json.dumps(image.tolist()).encode()
    done = perigee.cli("infer", digits, "--input", f"image={path}", "--json", stdin=stdin)
    answer = json.loads(done.text)
    assert {row["name"]: row for row in answer["outputs"]}["label"]["data"] == label
    assert done.said == ""


def test_infer_says_what_it_did(perigee, digits, scratch):
    np.save(scratch / "a.npy", np.zeros((8, 8), np.int64))
    done = perigee.cli("infer", digits, "--input", f"image={scratch / 'a.npy'}")
    assert "image: INT64 [8,8] to FP32 [1,64]" in done.said


@pytest.mark.parametrize("given,words", [
    ("imago={png}", "the model has no input 'imago'; it has: image"),
    ("image=/nonexistent", "/nonexistent"), ("image", "NAME=FILE"), ("image=", "NAME=FILE"),
    ("image={scratch}", "directory"), ("image={scratch}/text", "line 1"),
    ("image={scratch}/uneven", "the lists are not all of one length"),
    ("image={scratch}/x.bmp", "not a form that --input takes: .npy, .npz, .png, .jpg and .json"),
    ("image={scratch}/object.json", "it is an object; a list of numbers is wanted"),
    ("image={scratch}/whole.json", "it is a whole request; --input wants the data"),
], ids=["unknown", "no-file", "no-equals", "empty", "folder", "no-json", "uneven", "bmp", "object",
        "request"])
def test_infer_bad_input(perigee, digits, scratch, given, words):
    (scratch / "text").write_text("no JSON")
    (scratch / "x.bmp").write_bytes(b"BM\x9a\0\0\0")
    (scratch / "object.json").write_text('{"image": [1]}')
    (scratch / "whole.json").write_text('{"inputs": []}')
    (scratch / "uneven").write_text(json.dumps([[0] * 8] * 7 + [[0] * 7]))
    given = given.format(png=PNG, scratch=scratch)
    done = perigee.cli("infer", digits, "--input", given, status=None)
    assert done.returncode in (1, 2) and words in done.said, done.said


def test_infer_prints_a_row_a_line(perigee, digits, scratch):
    np.save(scratch / "a.npy", np.zeros((12, 64), np.float32))
    text = perigee.cli("infer", digits, "--input", f"image={scratch / 'a.npy'}").text
    rows = text.split("probabilities")[1].splitlines()[1:]
    assert len([row for row in rows if row.count(",") >= 5]) == 10, text
    assert "  ... 2 more rows" in rows and "--json has all" in text
    fits(text)


def test_infer_only_some_outputs(perigee, digits):
    done = perigee.cli("infer", digits, "--input", f"image={PNG}", "--output", "label", "--json")
    assert [row["name"] for row in json.loads(done.text)["outputs"]] == ["label"]
    done = perigee.cli("infer", digits, "--input", f"image={PNG}", "--revision", "1", "--json")
    assert json.loads(done.text)["model_version"] == "1"
    perigee.cli("infer", digits, "--input", f"image={PNG}", "--revision", "99", status=1)


# --- contexts ------------------------------------------------------------------------------------


def test_a_context_says_where_control_is(perigee, digits, scratch):
    """From a home where nothing runs; what is nearer to the command goes first."""
    home = scratch / "elsewhere"
    config = home / "config.yaml"
    host, port = perigee.address("control")
    url = f"http://{host}:{port}"
    none = {"context": None, "items": []}
    assert json.loads(alone("context", "--json", home=home).stdout) == none
    assert not home.exists()
    alone("context", "set", "here", "--control", url, home=home)
    alone("context", "set", "dead", "--control", "http://127.0.0.1:1", home=home)
    assert "start one with: perigee up" in alone("show", digits, status=1, home=home).stderr
    shown = alone("context", "use", "here", home=home).stdout
    assert re.search(rf"^\*  +here  +{url}$", shown, re.MULTILINE)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert json.loads(alone("show", digits, "--json", home=home).stdout)["name"] == digits
    image = f"image={DIGITS}/samples/digit-7.png"
    said = json.loads(alone("infer", digits, "--input", image, "--json", home=home).stdout)
    assert {row["name"]: row["data"] for row in said["outputs"]}["label"] == [7]

    alone("context", "use", "dead", home=home)
    assert "cannot connect" in alone("show", digits, status=1, home=home).stderr
    alone("show", digits, "--control", url, home=home)
    assert json.loads(alone("context", "delete", "dead", "--json", home=home).stdout) == {
        "context": None, "items": [{"name": "here", "control": url}]}
    alone("context", "use", "here", home=home)
    alone("context", "clear", home=home)
    assert "start one with: perigee up" in alone("show", digits, status=1, home=home).stderr


@pytest.mark.parametrize("text,words", [
    ("contxt: lab\n", "did you mean 'context'?"),
    ("contexts: {lab: {url: x}}\n", "unknown key 'url'"),
    ("contexts: {lab: {}}\n", "'control' is missing"),
    ("contexts: [lab]\n", "'contexts' must be an object"),
    ("context: 1\n", "'context' must be a string"),
    ("contexts: {Lab: {control: 'http://x'}}\n", "Lab"),
    ("context: lab\ncontexts: {lab: {control: 'ftp://x'}}\n", "wants http://"),
    ("a: 1\n---\nb: 2\n", "more than one document"),
    ("context: [\n", "line"),
    ("contexts:\n" + "".join(f"  lab{i}: {{control: 'http://x'}}\n" for i in range(65)),
     "more than 64 contexts"),
], ids=["unknown-key", "unknown-key-inside", "no-control", "list-for-map", "number-for-name",
        "bad-name", "bad-url", "two-documents", "no-yaml", "too-many"])
def test_a_config_that_is_wrong_says_where(scratch, text, words):
    home = scratch / "home"
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text(text)
    (home / "config.yaml").chmod(0o600)
    said = alone("show", "abc", status=1, home=home).stderr
    assert words in said and str(home / "config.yaml") in said


def test_a_context_in_use_that_is_gone(scratch):
    home = scratch / "home"
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text("context: gone\n")
    assert "'gone', is not there" in alone("show", "abc", status=1, home=home).stderr
    said = alone("context", "clear", "--json", home=home).stdout
    assert json.loads(said)["context"] is None


def test_a_config_that_others_may_write_is_refused(scratch):
    home = scratch / "home"
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text("contexts: {}\n")
    (home / "config.yaml").chmod(0o620)
    assert "chmod 600" in alone("context", status=1, home=home).stderr
    assert "chmod 600" in alone("show", "abc", status=1, home=home).stderr


# --- backups -------------------------------------------------------------------------------------


def test_restore_asks_before_it_replaces(new_perigee, scratch):
    one = new_perigee()
    one.cli("deploy", "digits", "--model", MODEL)
    backup = scratch / "b.tar"
    said = one.cli("backup", backup, "--json")
    row = json.loads(said.text)
    assert row["endpoints"] == 1 and row["blobs"] == 1 and row["bytes"] == backup.stat().st_size
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert "is there already" in one.cli("backup", backup, status=1).said
    assert "already runs" in one.cli("restore", backup, "--yes", status=1).said
    one.cli("delete", "digits", "--yes")
    one.stop()
    assert "--yes" in one.cli("restore", backup, status=1).said
    one.cli("restore", backup, "--yes")
    one.start()
    one.cli("wait", "digits")
    whole = backup.read_bytes()
    model, database = whole.index(MODEL.read_bytes()[:100]), whole.index(b"SQLite format 3")
    for place in (model + 1000, database + 5000):  # one byte of either
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (scratch / "damaged.tar").write_bytes(damaged)
        other = new_perigee(start=False)
        said = other.cli("restore", scratch / "damaged.tar", "--yes", status=1).said
        assert "other bytes" in said
        assert not (other.home / "control" / "store.db").exists()


@pytest.mark.parametrize("content", [b"", b"text\n" * 1000, bytes(2048)],
                         ids=["empty", "text", "zeros"])
def test_what_is_no_backup_is_not_restored(scratch, content):
    (scratch / "no.tar").write_bytes(content)
    home = scratch / "home"
    said = alone("restore", scratch / "no.tar", "--yes", status=1, home=home).stderr
    assert "no.tar' is no backup that can be restored" in said
    assert not (home / "control" / "store.db").exists()


# --- uploads -------------------------------------------------------------------------------------


def test_an_upload_goes_on_where_another_stopped(perigee, scratch, name):
    """Half of it is there already: only the rest is sent."""
    # Field 1007 of 1,000,000 bytes: parsers skip what they do not know.
    data = MODEL.read_bytes() + b"\xfa\x3e\xc0\x84\x3d" + os.urandom(1_000_000)
    (scratch / "m.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    half = len(data) // 2
    status, headers, _ = perigee.request(
        "PUT", f"/api/v1/blobs/sha256:{digest}", data[:half],
        {"Content-Type": "application/octet-stream",
         "Content-Range": f"bytes 0-{half - 1}/{len(data)}"}, listener="control")
    assert (status, headers["Range"]) == (202, f"bytes=0-{half - 1}")
    status, headers, _ = perigee.request("HEAD", f"/api/v1/blobs/sha256:{digest}",
                                         listener="control")
    assert (status, headers["Range"]) == (404, f"bytes=0-{half - 1}")
    perigee.cli("deploy", name, "--model", scratch / "m.onnx")
    status, _, stored = perigee.request("GET", f"/api/v1/blobs/sha256:{digest}", listener="control")
    assert status == 200 and stored == data


def test_apply_touches_nothing_when_a_model_is_missing(perigee, scratch):
    (scratch / "two.yaml").write_text(f"name: first-of-two\nmodel: {MODEL}\n---\n"
                                      "name: second-of-two\nmodel: ./is-not-there.onnx\n")
    said = perigee.cli("apply", "-f", scratch / "two.yaml", status=1).said
    assert "second-of-two" in said and "is-not-there" in said
    assert "first-of-two" not in {row["name"] for row in perigee.json("endpoints")["items"]}


def test_a_runtime_that_is_not_installed_is_refused(perigee, scratch):
    (scratch / "llama.yaml").write_text(f"name: chatty\nmodel: {MODEL}\nruntime: llama\n")
    said = perigee.cli("apply", "-f", scratch / "llama.yaml", status=1).said
    assert "'llama' is not installed here" in said
    assert "chatty" not in {row["name"] for row in perigee.json("endpoints")["items"]}
