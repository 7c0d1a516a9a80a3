# SPDX-License-Identifier: Apache-2.0
"""Control in a whole Perigee: its description is valid and true, and its state is never lost."""
import hashlib
import http.client
import json
import os
import re
import struct
import subprocess
import tarfile
import threading
import time

import jsonschema
import openapi_spec_validator
import pytest

from deadline import DEADLINE, until, wait_file
from oip import tensor
from perigee import DIGITS, PROGRAM, Perigee
from test_durable import fill as fill_disk, small_disk

BLOB = re.compile(r"sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def description(perigee):
    return perigee.get_json("/openapi.json", listener="control")


def check(description, value, schema):
    """`value` is of the component `schema`."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": description["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def test_the_description_is_valid(description):
    openapi_spec_validator.validate(description)
    assert description["openapi"].startswith("3.1")


def fill(path, name, model, host):
    values = {"project": "default", "name": name, "number": "1", "digest": model, "pop": "walked",
              "request": "walked", "host": host, "secret": "walked"}
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)


SECRET = "walked"
OCTETS = {"Content-Type": "application/octet-stream"}


def ledger(pop):
    """The head of one in which nothing was used (docs/usage.md)."""
    head = b"Pgld" + struct.pack("<IHHIQQ", 160, 1, 1, 0, 0, 0) + b"walked's ledger."
    rest = pop.encode().ljust(64, b"\0") + bytes(16 + 8 + 4 + 4)
    return head + hashlib.sha256(head + bytes(16) + rest).digest()[:16] + rest


# What agents say of themselves, with the secret that they have joined with: body, headers.
OF_AGENTS = {
    "/pops/{pop}/watch": (None, {}),
    "/pops/{pop}/report": ({"instance": 1, "sequence": 1}, {}),
    "/pops/{pop}/answers": ({"question": 1}, {}),
    "/pops/{pop}/usage": (ledger("walked"), OCTETS),
}


def begin_of_events(perigee, url, headers):
    """Status, headers and the first line of an answer that does not end."""
    connection = http.client.HTTPConnection(*perigee.address("control"), timeout=DEADLINE)
    try:
        connection.request("GET", url, None, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.readline()
    finally:
        connection.close()


def in_turn(description):
    """All operations, (method, path): what takes away comes last, of a PoP its drain first."""
    every = [(method, path) for path, operations in description["paths"].items()
             for method in operations]
    return sorted(every, key=lambda row: (row[0] == "delete", -len(row[1]) * (row[0] == "delete")))


def test_each_operation_does_what_it_says(perigee, description):
    """Every path and method: each succeeds, with a status that is named, and its shape."""
    name = "walked"
    perigee.cli("deploy", name, "--model", DIGITS / "digits.onnx")
    view = perigee.get_json(f"/api/v1/endpoints/{name}", listener="control")
    model = view["spec"]["model"]
    bodies = {"put": view["spec"], "patch": {}, "post": {}}
    called, token = set(), None
    host = "{}:{}".format(*perigee.address("control"))  # itself, as another registry
    assert perigee.request("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": [
        tensor("image", "FP32", [1, 64], [0] * 64)]}), {"X-Request-Id": "walked"})[0] == 200
    for method, path in in_turn(description):
        assert method in ("get", "put", "patch", "post", "delete")
        body, headers = bodies.get(method), {}
        if path.endswith("/prices"):
            body = {"prices": [{"request": "0.0001 EUR"}]}
        if path.endswith("/rollback"):
            body = {"revision": 1}
        if path.endswith("/registries/{host}") and method == "put":
            body = {"username": "walked", "password": "walked"}
        if path.endswith("/secrets/{secret}"):
            body = {"value": "walked"} if method == "put" else None
        if path.endswith("/secrets/{secret}") and method == "delete":  # of a project, and without
            perigee.cli("secrets", "set", "walked", stdin=b"walked")
        if path.endswith("/blobs/{digest}") and method == "put":
            body, headers = b"", {"Content-Type": "application/octet-stream"}
            url = fill(path, name, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca4"
                                   "95991b7852b855", host)
        else:
            url = fill(path, name, model, host)
        if path.endswith("/explain"):
            url += "?client=127.0.0.1"
        if path.endswith("/pops") and method == "post":
            body = {"name": "walked", "country": "FR"}
        if path.endswith("/enrolments"):
            body = {"secret": "sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()}
            headers = {"Authorization": f"Bearer {token}"}
        if method == "delete" and path.endswith("/endpoints/{name}"):  # of a project, and without
            perigee.cli("deploy", name, "--model", DIGITS / "digits.onnx", "--no-wait")
        if method == "patch":
            body, headers = "{}", {"Content-Type": "application/merge-patch+json"}
        if path.removeprefix("/api/v1") in OF_AGENTS:
            body, headers = OF_AGENTS[path.removeprefix("/api/v1")]
            headers = {**headers, "Authorization": f"Bearer {SECRET}"}
        if path.endswith("/watch"):
            status, got, answer = begin_of_events(perigee, url, headers)
        else:
            status, got, answer = perigee.request(method.upper(), url, body, headers,
                                                  listener="control")
        said = description["paths"][path][method]["responses"]
        assert str(status) in said, f"{method} {path}: {status} {answer[:300]!r}"
        assert status < 300, f"{method} {path}: {status} {answer[:300]!r}"
        content = said[str(status)].get("content", {})
        kind = got.get("Content-Type", "").split(";")[0]
        assert not content or kind in content, f"{method} {path}: {kind}"
        schema = content.get("application/json", {}).get("schema", {}).get("$ref")
        if schema and kind == "application/json":
            check(description, json.loads(answer), schema.rsplit("/", 1)[1])
            token = json.loads(answer).get("token", token)
        called.add((method, path))
    assert called == set(in_turn(description)) and len(called) > 30


def test_errors_have_the_problem_s_form(perigee, description):
    for method, path, status, name in (
            ("GET", "/api/v1/endpoints/nobody", 404, "not_found"),
            ("POST", "/api/v1/endpoints", 405, "bad_method"),
            ("PUT", "/api/v1/endpoints/x", 415, "bad_input")):
        got, headers, body = perigee.request(method, path, listener="control")
        assert (got, headers["Perigee-Error"]) == (status, name)
        check(description, json.loads(body), "Problem")


def test_delete_lets_replicas_end(perigee):
    perigee.cli("deploy", "short-lived", "--model", DIGITS / "digits.onnx")
    with perigee.events() as events:
        status, _, _ = perigee.request("DELETE", "/api/v1/endpoints/short-lived",
                                       listener="control")
        assert status == 202
        events.wait("replica_exited")
    # The agent tells the gateway by way of the supervisor, and hears of the end on its own.
    until("the gateway to have heard", lambda: perigee.request(
        "GET", "/v2/models/short-lived/ready")[0] == 404)


def test_backup_while_running_and_restore(new_perigee, scratch):
    one = new_perigee()
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    backup = scratch / "backup.tar"
    one.cli("backup", backup)
    with tarfile.open(backup) as tar:
        names = tar.getnames()
    assert names[0] == "perigee-backup.json" and "control/store.db" in names
    one.stop()
    other = new_perigee(start=False)
    other.cli("restore", backup, "--yes")
    other.start()
    other.cli("wait", "digits")
    view = other.json("show", "digits")
    assert view["state"] == "active" and view["target"] == 1


@pytest.mark.root
def test_a_full_disk_loses_nothing(new_perigee):
    one = new_perigee(start=False)
    with small_disk(one.home, "12m"), one.running():
        one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
        filler = fill_disk(one.home)
        refused = 0
        for i in range(400):  # SQLite's log may have room for a few
            got, headers, body = one.request(
                "PATCH", "/api/v1/endpoints/digits", json.dumps({"labels": {"n": f"{i}" * 40}}),
                {"Content-Type": "application/merge-patch+json"}, listener="control")
            if got == 503:
                refused += 1
                assert "full" in json.loads(body)["detail"]
                break
            assert got in (200, 202), body
        assert refused, "the disk was never full"
        got, _, body = one.request("PUT", "/api/v1/blobs/sha256:" + "0" * 64, bytes(1 << 20),
                                   {"Content-Type": "application/octet-stream"},
                                   listener="control")
        assert got == 503, body
        # It still serves, and still says how it is.
        assert one.request("GET", "/v2/models/digits/ready")[0] == 200
        before = one.json("show", "digits")
        filler.unlink()
        got, _, body = one.request("PATCH", "/api/v1/endpoints/digits",
                                   '{"labels": {"after": "it"}}',
                                   {"Content-Type": "application/merge-patch+json"},
                                   listener="control")
        assert got in (200, 202), body
        one.kill()
        one.start()
        one.cli("wait", "digits")
        view = one.json("show", "digits")
        assert view["labels"] == {"after": "it"}
        assert view["generation"] == before["generation"] + 1


def test_state_survives_kills_of_everything(new_perigee):
    one = new_perigee()
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    taken = {"generation": 0}
    for round in range(3):
        ended = threading.Event()

        def change():
            for i in range(10000):
                try:
                    status, _, body = one.request(
                        "PATCH", "/api/v1/endpoints/digits",
                        json.dumps({"labels": {"n": f"{round}-{i}"}}),
                        {"Content-Type": "application/merge-patch+json"}, listener="control")
                except OSError:
                    break
                if status in (200, 202):
                    taken.update(json.loads(body))
                if taken["generation"] % 17 == 16:
                    ended.set()
            ended.set()

        thread = threading.Thread(target=change)
        thread.start()
        ended.wait(30)
        one.kill()
        thread.join()
        one.start()
        view = one.json("show", "digits")
        assert view["generation"] >= taken["generation"]
        assert view["uid"] == taken["uid"]
        one.cli("wait", "digits")


@pytest.mark.parametrize("end", [Perigee.kill, Perigee.stop], ids=["after-a-kill", "after-a-stop"])
def test_a_start_on_a_full_disk_ends_well(new_perigee, end):
    """Where Perigee answers is written down once there is room. After a clean end the store's log
    has to be made anew: for that a reserve is kept."""
    one = new_perigee(start=False)
    with small_disk(one.home, "4m"), one.running():
        end(one)
        filler = fill_disk(one.home)
        one.start(wait=False)
        where = ["--control", f"unix:{one.home}/run/control.sock"]
        until("control", lambda: one.cli("endpoints", *where, status=None).returncode == 0)
        filler.unlink()
        addresses = one.home / "run/addresses.json"
        wait_file(addresses, one.process, time.monotonic() + DEADLINE)
        one.addresses = json.loads(addresses.read_text())
        assert one.json("endpoints")["items"] == []


def test_a_newer_state_is_refused(new_perigee):
    import sqlite3
    one = new_perigee()
    one.stop()
    with sqlite3.connect(one.home / "control/store.db") as database:
        database.execute("PRAGMA user_version = 4711")
    database.close()
    done = subprocess.run([PROGRAM, "up", "--listen-gateway", "127.0.0.1:0", "--listen-control",
                           "127.0.0.1:0", "--listen-admin", "127.0.0.1:0", "--listen-dns", "none"],
                          env=one.environment(), capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "4711" in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1, done.stderr  # and not among logs
    assert os.path.exists(one.home / "control/store.db")
