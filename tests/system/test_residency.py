# SPDX-License-Identifier: Apache-2.0
"""Residency at one PoP: who is served, who is refused, and what is seen of a request that is."""
import http.client
import json
import os
import signal
import socket
import sys
import time

import pytest

from deadline import DEADLINE
from oip import MODELS, tensor
from perigee import DIGITS, ROOT

sys.path.insert(0, str(ROOT / "tests" / "geo"))
import mmdb  # noqa: E402  (tests/geo/mmdb.py)

# Where the addresses of clients are: all of 127/8 is loopback, so any can be a source.
GERMANY, JAPAN, AMERICA, NOWHERE = "127.0.0.1", "127.66.0.1", "127.67.0.1", "127.68.0.1"
BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}).encode()
CANARY = b"CANARY-7d1f0c52"
RULES = {"rules": [{"clients": ["EU"], "process_in": ["EU"]},
                   {"clients": ["JP"], "process_in": "same-country"}]}


@pytest.fixture(scope="module")
def geo(homes, tmp_path_factory):
    """An MMDB, and an operator's sets."""
    folder = tmp_path_factory.mktemp("geo")
    mmdb.write(folder / "geo.mmdb", mmdb.BLOCKS)
    (folder / "sets.yaml").write_text(
        "sets: [{name: DACH, countries: [AT, CH, DE], source: contract 17, date: 2026-11-28}]")
    return folder


@pytest.fixture(scope="module")
def perigee(homes, geo):
    """A PoP in Germany."""
    return homes("--country", "DE", "--pop", "berlin", "--geo", geo / "geo.mmdb", "--sets",
                 geo / "sets.yaml", "--log-level", "debug")


def put(perigee, name, **governed):
    """Makes the spec so."""
    if not hasattr(perigee, "digest"):
        perigee.cli("deploy", "first", "--model", MODELS / "identity_fp32.onnx")
        perigee.digest = perigee.get_json("/api/v1/endpoints/first", "control")["spec"]["model"]
    spec = {"name": name, "model": perigee.digest, **governed}
    got, _, body = perigee.request("PUT", f"/api/v1/endpoints/{name}", spec, listener="control")
    assert got in (200, 201, 202), body
    return json.loads(body)


@pytest.fixture
def endpoint(perigee, request):
    name = f"e{abs(hash(request.node.name)) % 10**9}"

    def make(**governed):
        put(perigee, name, **governed)
        perigee.cli("wait", name)
        return name

    yield make
    perigee.cli("delete", name, "--yes", status=None)


def ask(perigee, name, source=GERMANY, headers=None, path="infer", method="POST"):
    connection = http.client.HTTPConnection(*perigee.address(), timeout=DEADLINE,
                                            source_address=(source, 0))
    try:
        connection.request(method, f"/v2/models/{name}/{path}",
                           BODY if method == "POST" else None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def refused(answer, *words):
    status, headers, body = answer
    assert status == 451, answer
    assert headers["Perigee-Error"] == "residency" and headers["Connection"] == "close"
    assert headers["Perigee-Pop"] == "berlin"
    for word in words:
        assert word in body["error"], body
    return True


def test_clients_are_served_by_their_country(perigee, endpoint):
    name = endpoint(residency=RULES)
    assert ask(perigee, name)[0] == 200
    refused(ask(perigee, name, JAPAN), "rule 2 of its residency", "PoP 'berlin' (DE)",
            "no PoP is permitted")
    refused(ask(perigee, name, AMERICA), "no rule is for the client's country")
    refused(ask(perigee, name, NOWHERE), "the client's country is not known")
    for path in ("versions/1", "ready", "config", "stats"):
        refused(ask(perigee, name, JAPAN, path=path, method="GET"))


def test_unknown_clients_count_as_the_country_named(perigee, endpoint):
    name = endpoint(residency={**RULES, "unknown_client": "FR"})
    assert ask(perigee, name, NOWHERE)[0] == 200
    refused(ask(perigee, name, AMERICA))


def test_the_short_form_asks_nobody_where_they_are(perigee, endpoint):
    name = endpoint(residency={"process_in": ["DACH"]})
    for source in (GERMANY, JAPAN, NOWHERE):
        assert ask(perigee, name, source)[0] == 200


def test_a_request_narrows_and_never_widens(perigee, endpoint):
    name = endpoint(residency={"process_in": ["EU"]})
    for header, status in (("DE", 200), ("EU, CH", 200), ("DACH", 200), ("any", 200), ("FR", 451),
                           ("US", 451), ("XX", 400), ("", 400), ("de", 400)):
        got, _, body = ask(perigee, name, headers={"Perigee-Process-In": header})
        assert got == status, (header, body)
    refused(ask(perigee, name, headers={"Perigee-Process-In": "US"}),
            "what the request allows (Perigee-Process-In) is not among")
    refused(ask(perigee, name, headers={"Perigee-Process-In": "FR"}),
            "the request (Perigee-Process-In) does not let it be processed at PoP 'berlin' (DE)")
    put(perigee, name)  # without residency of its own
    refused(ask(perigee, name, headers={"Perigee-Process-In": "FR"}))
    assert ask(perigee, name, headers={"Perigee-Process-In": "DE"})[0] == 200


def raw(perigee, head, body=b"", source=JAPAN):
    """All that comes back until the connection ends."""
    with socket.create_connection(perigee.address(), DEADLINE, (source, 0)) as wire:
        wire.sendall(head.replace(b"\n", b"\r\n") + body)
        got = b""
        while True:
            try:
                more = wire.recv(65536)
            except ConnectionResetError:
                return got
            if not more:
                return got
            got += more


def test_nothing_of_a_refused_body_is_read_or_said(perigee, endpoint):
    name = endpoint(residency=RULES)
    head = (f"POST /v2/models/{name}/infer HTTP/1.1\nHost: localhost\n"
            f"X-Request-Id: {CANARY.decode()}\nContent-Type: application/json\n").encode()
    before = perigee.metric("perigee_request_body_bytes_total", endpoint=name)
    # It is told from the head alone: the body does not come at all, and no 100 invites it.
    got = raw(perigee, head + b"Expect: 100-continue\nContent-Length: 999\n\n")
    assert got.startswith(b"HTTP/1.1 451 ") and b" 100 " not in got.split(b"\r\n\r\n")[0]
    # What came along is not looked at, neither is a request behind it.
    behind = b"POST /v2/models/first/infer HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}"
    body = CANARY + b"x" * 100_000
    got = raw(perigee, head + b"Content-Length: %d\n\n" % len(body),
              body + behind.replace(b"\n", b"\r\n"))
    assert got.count(b"HTTP/1.1 ") == 1 and got.startswith(b"HTTP/1.1 451 ")
    got = raw(perigee, head + b"Transfer-Encoding: chunked\n\n",
              b"10\r\n" + CANARY + b"\r\n0\r\n\r\n" + behind.replace(b"\n", b"\r\n"))
    assert got.count(b"HTTP/1.1 ") == 1 and got.startswith(b"HTTP/1.1 451 ")
    assert perigee.metric("perigee_request_body_bytes_total", endpoint=name) == before
    assert CANARY not in perigee.log.read_bytes()  # at debug, where every other request has a line


def test_refusals_are_counted_and_in_the_audit_log(perigee, endpoint):
    name = endpoint(residency=RULES)
    refused(ask(perigee, name, AMERICA))
    for _ in range(2):
        refused(ask(perigee, name, JAPAN))
    for reason, count in (("no_rule", 1), ("place", 2)):
        perigee.wait_metric(lambda value: value == count, "perigee_requests_denied_total",
                            endpoint=name, reason=reason)
    event = perigee.wait_event("residency_refused", endpoint=name)
    assert event["message"] == "1 request refused: no_rule" and event["pop"] == "berlin"
    rows = [row for row in perigee.get_json("/api/v1/audit?limit=500", "control")["items"]
            if row["action"] == "residency_refused" and row["endpoint"] == name]
    assert rows[0]["who"] == "berlin" and rows[0]["from"] == "1 request refused: no_rule"


def test_logs_keep_to_their_countries(perigee, endpoint):
    name = endpoint(residency={"process_in": ["EU"], "logs": ["FR"]})
    ask(perigee, name, headers={"X-Request-Id": "must-not-be-logged"})
    put(perigee, name, residency={"process_in": ["EU"]})

    def logged():
        ask(perigee, name, headers={"X-Request-Id": "may-be-logged"})
        return "may-be-logged" in perigee.log.read_text()

    deadline_wait(logged)
    assert "must-not-be-logged" not in perigee.log.read_text()


def test_a_stricter_residency_takes_effect_at_once(perigee, endpoint):
    name = endpoint()
    assert ask(perigee, name, AMERICA)[0] == 200
    put(perigee, name, residency=RULES)
    deadline_wait(lambda: ask(perigee, name, AMERICA)[0] == 451)
    assert ask(perigee, name)[0] == 200


def state(perigee, name):
    return perigee.get_json(f"/api/v1/endpoints/{name}", "control")


def deadline_wait(done):
    end = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < end


def test_what_may_not_be_here_is_not_placed(perigee, endpoint):
    name = endpoint()
    for governed, words in (
            ({"regions": ["us", "FR"]}, "its regions do not hold this PoP, 'berlin' (DE)"),
            ({"residency": {"process_in": ["US"]}},
             "its residency lets nothing be processed at this PoP, 'berlin' (DE)")):
        put(perigee, name, **governed)
        deadline_wait(lambda: words in state(perigee, name)["message"])
        assert words in perigee.cli("wait", name, status=1).said
        deadline_wait(lambda: ask(perigee, name)[0] != 200)
        status, headers, body = ask(perigee, name)
        if "residency" in governed:
            refused((status, headers, body))
        else:
            assert status == 503 and headers["Perigee-Error"] == "stopped", body
            assert words in body["error"]
        deadline_wait(lambda: perigee.get_json(f"/api/v1/endpoints/{name}/replicas",
                                               "control")["items"] == [])
    put(perigee, name, regions=["DACH"])
    perigee.cli("wait", name)
    assert ask(perigee, name)[0] == 200


def test_specs_that_cannot_be_are_refused(perigee, endpoint):
    name = endpoint()
    for governed, words in (
            ({"residency": {"process_in": ["UK"]}}, "the United Kingdom's is GB"),
            ({"residency": {"process_in": ["DAHC"]}}, "did you mean 'DACH'?"),
            ({"regions": ["XX"]}, "regions: 'XX' is no country's code"),
            ({"residency": {}}, "residency: says nothing"),
            ({"regions": ["EU"], "residency": {"process_in": ["US"]}},
             "regions and residency share no PoP")):
        got, _, body = perigee.request("PUT", f"/api/v1/endpoints/{name}",
                                       {"name": name, "model": perigee.digest, **governed},
                                       listener="control")
        assert got == 400 and words in json.loads(body)["detail"], body
    assert ask(perigee, name)[0] == 200


def test_the_command_line_writes_the_short_form(perigee):
    perigee.cli("deploy", "short", "--model", DIGITS / "digits.onnx", "--process-in", "EU",
                "--process-in", "CH", "--region", "DACH")
    text = perigee.cli("export", "short").text
    assert "residency:\n  process_in:\n    - EU\n    - CH\n" in text
    assert "regions:\n  - DACH\n" in text
    assert "nothing changed" in perigee.cli("apply", "-f", "-", stdin=text.encode()).text
    put(perigee, "short", residency=RULES)
    said = perigee.cli("deploy", "short", "--process-in", "EU", status=1).said
    assert "has rules, which it would replace" in said
    perigee.cli("delete", "short", "--yes")
    said = perigee.cli("deploy", "short", "--model", DIGITS / "digits.onnx", "--process-in", "UK",
                       status=1).said
    assert "the United Kingdom's is GB" in said


def test_without_a_country_only_what_has_no_residency_runs(new_perigee):
    perigee = new_perigee()
    perigee.cli("deploy", "free", "--model", DIGITS / "digits.onnx")
    said = perigee.cli("deploy", "bound", "--model", DIGITS / "digits.onnx", "--process-in", "EU",
                       status=1)
    assert "does not say in which country it stands" in said.said + said.text
    assert "--country CC" in perigee.cli("show", "bound").text
    status, headers, _ = ask(perigee, "bound")
    assert status == 451 and headers["Perigee-Error"] == "residency"
    assert perigee.cli("infer", "free", "--input",
                       f"image={DIGITS}/samples/digit-7.png").returncode == 0


def test_without_a_map_every_client_is_unknown(new_perigee):
    perigee = new_perigee("--country", "DE")
    name = put(perigee, "ruled", residency=RULES)["name"]
    perigee.cli("wait", name)
    status, _, body = ask(perigee, name)
    assert status == 451 and "the client's country is not known" in body["error"]
    put(perigee, name, residency={**RULES, "unknown_client": "DE"})
    deadline_wait(lambda: ask(perigee, name)[0] == 200)


def test_it_holds_after_the_gateway_or_all_is_killed(new_perigee, geo):
    perigee = new_perigee("--country", "DE", "--geo", geo / "geo.mmdb")
    name = put(perigee, "ruled", residency=RULES)["name"]
    perigee.cli("wait", name)
    os.kill(perigee.role_pid("gateway"), signal.SIGKILL)
    deadline_wait(lambda: answers(perigee, name, GERMANY) == 200)
    assert answers(perigee, name, AMERICA) == 451
    perigee.kill()
    perigee.start()
    perigee.cli("wait", name)
    assert answers(perigee, name, GERMANY) == 200
    assert answers(perigee, name, AMERICA) == 451


def answers(perigee, name, source):
    try:
        return ask(perigee, name, source)[0]
    except (OSError, http.client.HTTPException):
        return None


def test_an_operators_own_map_goes_before(new_perigee, geo, scratch):
    (scratch / "addresses").write_text("127.66.0.0/16 FR\n127.67.0.0/16 JP 35.7 139.7\n"
                                       "default CH\n")
    perigee = new_perigee("--country", "DE", "--addresses", scratch / "addresses", "--geo",
                          geo / "geo.mmdb")
    name = put(perigee, "ruled", residency=RULES)["name"]
    perigee.cli("wait", name)
    assert [ask(perigee, name, source)[0] for source in (GERMANY, JAPAN, AMERICA)] == [
        200, 200, 451]
    _, _, body = ask(perigee, name, NOWHERE)  # the MMDB gives coordinates, and no country
    assert "the client's country is not known" in body["error"]


BAD_FLAGS = {
    "addresses-missing": ("--addresses", None, "No such file"),
    "addresses-no-country": ("--addresses", b"10.0.0.0/8 UK\n", "line 1: 'UK' is no country's"),
    "addresses-twice": ("--addresses", b"10.0.0.0/8 DE\n10.0.0.0/8 DE\n",
                        "'10.0.0.0/8' is there twice"),
    "geo-missing": ("--geo", None, "No such file"),
    "geo-text": ("--geo", b"x" * 1000, "is no MMDB"),
    "geo-cut": ("--geo", mmdb.build(mmdb.BLOCKS, mmdb.flat)[:-9], "is no MMDB"),
    "geo-damaged": ("--geo", b"\xff" * 70 + mmdb.build(mmdb.BLOCKS, mmdb.flat)[70:],
                    "it is damaged, at node 0"),
    "geo-no-countries": ("--geo", mmdb.build(mmdb.BLOCKS, mmdb.number_only), "name no countries"),
    "sets-missing": ("--sets", None, "No such file"),
    "sets-built-in": ("--sets", b"sets: [{name: EU}]", "the set 'EU' is built in"),
    "sets-no-source": ("--sets", b"sets: [{name: DACH, countries: [AT], date: 2026-11-28}]",
                       "'source' is missing"),
    "sets-no-yaml": ("--sets", b"sets: [", "line"),
}


@pytest.mark.parametrize("flag,text,words", BAD_FLAGS.values(), ids=BAD_FLAGS)
def test_bad_flags(new_perigee, scratch, flag, text, words):
    path = scratch / "file"
    if text is not None:
        path.write_bytes(text)
    perigee = new_perigee(start=False)
    perigee.start(flag, path, wait=False)
    assert perigee.process.wait(DEADLINE) in (1, 2)
    assert words in perigee.tail()
    perigee.process = None


def test_an_old_map_is_warned_of(new_perigee, scratch):
    mmdb.write(scratch / "old.mmdb", mmdb.BLOCKS, made_s=1_600_000_000)
    perigee = new_perigee("--geo", scratch / "old.mmdb")
    assert "days ago, and addresses change hands" in perigee.tail()
