# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 at the gateway, byte by byte: what clients may send, and what they are answered."""
import json

import pytest

from deadline import until
from oip import Wire, apply, tensor

pytestmark = pytest.mark.usefixtures("endpoints")
PATH = "/v2/models/plain/infer"
BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]})


@pytest.fixture(scope="module")
def endpoints(perigee):
    apply(perigee, {"name": "plain", "model": "identity_fp32", "aliases": ["Team/Plain"]},
          {"name": "small", "model": "identity_fp32", "limits": {"body": "1KiB"}},
          {"name": "slow", "model": "slow", "timeout": "60s"})


@pytest.fixture
def wire(perigee):
    with Wire(perigee) as wire:
        yield wire


def post(path=PATH, body=BODY, *headers, version="HTTP/1.1", length=True):
    lines = [f"POST {path} {version}", "Host: localhost", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines) + "\r\n\r\n" + body


def get(path, *headers, method="GET", version="HTTP/1.1"):
    return "\r\n".join([f"{method} {path} {version}", "Host: localhost", *headers]) + "\r\n\r\n"


def right(answer):
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == [1, 2]


# --- connections ---------------------------------------------------------------------------------


def test_a_connection_is_kept(wire):
    for _ in range(20):
        right(wire.send(post()).answer())
    assert wire.send(get("/v2/health/live")).answer().json() == {"live": True}


def test_requests_may_be_pipelined_and_are_answered_in_order(wire):
    bodies = [json.dumps({"id": str(i), "inputs": [tensor("x", "FP32", [1, 2], [1, 2])]})
              for i in range(64)]
    wire.send("".join(post(PATH, body) for body in bodies))
    for i in range(64):
        answer = wire.answer()
        right(answer)
        assert answer.json()["id"] == str(i)


def test_a_slow_one_holds_back_what_was_pipelined_behind_it(wire):
    slow = json.dumps({"id": "slow", "inputs": [tensor("rounds", "INT64", [1], [5000])]})
    wire.send(post("/v2/models/slow/infer", slow), get("/v2/health/live"), post())
    assert wire.answer().json()["id"] == "slow"
    assert wire.answer().json() == {"live": True}
    right(wire.answer())


def test_errors_keep_the_connection_when_the_body_was_read(wire):
    for _ in range(3):
        assert wire.send(post(PATH, "[nonsense")).answer().status == 400
        assert wire.send(get("/v2/models/nobody")).answer().status == 404
        right(wire.send(post()).answer())


def test_connection_close_is_honoured(wire):
    wire.send(post(PATH, BODY, "Connection: close"))
    answer = wire.answer()
    right(answer)
    assert answer.headers["connection"].lower() == "close"
    assert wire.ended()


def test_http_1_0_ends_the_connection_unless_told(perigee):
    with Wire(perigee) as wire:
        wire.send(f"POST {PATH} HTTP/1.0\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}")
        answer = wire.answer()
        right(answer)
        assert "transfer-encoding" not in answer.headers
        assert wire.ended()
    with Wire(perigee) as wire:
        for _ in range(2):
            right(wire.send(post(PATH, BODY, "Connection: keep-alive",
                                 version="HTTP/1.0")).answer())


def test_a_request_in_single_bytes(wire):
    for byte in post():
        wire.send(byte)
    right(wire.answer())


def test_half_closing_after_the_request_still_gets_the_answer(wire):
    wire.send(post())
    wire.half_close()
    right(wire.answer())
    assert wire.ended()


# --- bodies --------------------------------------------------------------------------------------


def test_chunked_bodies(wire):
    pieces = [BODY[:1], BODY[1:10], BODY[10:]]
    chunks = "".join(f"{len(p):x};name=\"a;b\"\r\n{p}\r\n" for p in pieces) + "0\r\n"
    for trailer in ("\r\n", "X-Sum: 1\r\n\r\n"):
        wire.send(post(PATH, "", "Transfer-Encoding: chunked", length=False), chunks, trailer)
        right(wire.answer())


@pytest.mark.parametrize("chunks", ["zz\r\n", "-1\r\n", "5\r\nabcdeX", "fffffffffffffffff\r\n",
                                    "0x5\r\nabcde\r\n0\r\n\r\n"])
def test_wrong_chunks_are_400_and_end_the_connection(wire, chunks):
    wire.send(post(PATH, "", "Transfer-Encoding: chunked", length=False), chunks)
    assert wire.answer().status == 400
    assert wire.ended()


def test_expect_100_continue(wire):
    wire.send(post(PATH, "", "Expect: 100-continue", f"Content-Length: {len(BODY)}",
                   length=False))
    assert wire.answer().status == 100
    right(wire.send(BODY).answer())
    # An answer that needs no body comes at once, and the body is not asked for.
    wire.send(post("/v2/models/nobody/infer", "", "Expect: 100-continue", "Content-Length: 9",
                   length=False))
    assert wire.answer().status == 404


def test_another_expectation_is_417(wire):
    wire.send(post(PATH, BODY, "Expect: the-moon"))
    answer = wire.answer()
    assert answer.status == 417 and answer.headers["perigee-error"] == "bad_input"


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_inference_without_a_length_is_411(wire, version):
    answer = wire.send(post(PATH, "", version=f"HTTP/{version}", length=False)).answer()
    assert answer.status == 411 and answer.headers["perigee-error"] == "bad_input"
    assert "send a Content-Length" in answer.json()["error"]


def test_a_call_that_needs_no_body_needs_no_length(wire):
    for path in ("/v2/repository/index", "/v2/repository/models/plain/load"):
        assert wire.send(post(path, "", length=False)).answer().status == 200


def test_too_large_a_body_is_413_before_it_is_read(perigee):
    with Wire(perigee) as wire:
        wire.send(post("/v2/models/small/infer", "", "Content-Length: 1025", length=False))
        answer = wire.answer()
        assert answer.status == 413 and answer.headers["perigee-error"] == "too_large"
        assert "1" in answer.json()["error"]
    with Wire(perigee) as wire:
        wire.send(post("/v2/models/small/infer", "", "Transfer-Encoding: chunked", length=False),
                  f"400\r\n{' ' * 1024}\r\n", f"400\r\n{' ' * 1024}\r\n")
        answer = wire.answer()
        assert answer.status == 413 and answer.headers["perigee-error"] == "too_large"
        assert wire.ended()
    with Wire(perigee) as wire:  # Expect: the body is never asked for
        wire.send(post("/v2/models/small/infer", "", "Content-Length: 99999999999",
                       "Expect: 100-continue", length=False))
        assert wire.answer().status == 413


@pytest.mark.parametrize("lines", [
    ["Content-Length: 5", "Content-Length: 6"], ["Content-Length: -5"], ["Content-Length: 5 5"],
    ["Content-Length: 5", "Transfer-Encoding: chunked"], ["Transfer-Encoding: gzip"],
    ["Transfer-Encoding: chunked, identity"], ["Content-Length: 99999999999999999999999"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Content-Length: 0x10"], ["Content-Length : 5"], [" Content-Length: 5"]])
def test_a_length_that_could_be_read_in_two_ways_is_refused(wire, lines):
    wire.send(post(PATH, "", *lines, length=False), "5\r\nabcde\r\n0\r\n\r\n")
    answer = wire.answer()
    assert answer.status in (400, 501) and wire.ended()


@pytest.mark.parametrize("start", [
    "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    "Content-Length: 0\r\nContent-Length: 6\r\n\r\n", "Content-Length: 0, 0\r\n\r\n",
    "Content-Length: +0\r\n\r\n", "Content-Length: -0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "X: 1\n\r\n", "X: 1\rContent-Length: 0\r\n\r\n", "X: 1\r\n Content-Length: 0\r\n\r\n",
    "X\0: 1\r\n\r\n", "X: \0\r\n\r\n", "Host: localhost\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n0\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n0\r\nNo trailer\r\n\r\n"])
def test_nothing_behind_what_could_be_read_in_two_ways_is_a_request(wire, start):
    """Another parser, of a proxy say, may see a second request here; there is one answer to all."""
    wire.send(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n", start, get("/v2/health/live"))
    answer = wire.answer()
    assert answer.status in (400, 501) and answer.headers["connection"] == "close"
    assert wire.ended()


def test_a_coding_nobody_knows_is_415(wire):
    answer = wire.send(post(PATH, BODY, "Content-Encoding: br")).answer()
    assert answer.status == 415 and "gzip" in answer.json()["error"]
    right(wire.send(post()).answer())


# --- methods and targets -------------------------------------------------------------------------


def test_head_is_get_without_a_body(wire):
    whole = wire.send(get("/v2/models/plain")).answer()
    answer = wire.send(get("/v2/models/plain", method="HEAD")).answer(head_only=True)
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(whole.body))
    assert wire.send(get("/v2/models/no", method="HEAD")).answer(head_only=True).status == 404
    assert wire.send(get("/v2/health/live")).answer().json() == {"live": True}


@pytest.mark.parametrize("method,path,allow", [
    ("GET", PATH, "POST"), ("DELETE", PATH, "POST"), ("PUT", "/v2", "GET, HEAD"),
    ("POST", "/v2/health/live", "GET, HEAD"), ("GET", "/v2/repository/index", "POST"),
    ("PATCH", "/v2/models/plain", "GET, HEAD"), ("BREW", "/v2/trace/setting", "GET, HEAD, POST"),
    ("HEAD", PATH, "POST")])
def test_a_wrong_method_is_405_with_allow(wire, method, path, allow):
    answer = wire.send(get(path, method=method)).answer(head_only=method == "HEAD")
    if method == "BREW":  # an HTTP parser may not know it at all
        assert answer.status in (400, 405, 501)
        return
    assert answer.status == 405 and answer.headers["allow"] == allow
    assert answer.headers["perigee-error"] == "bad_method"
    if method != "HEAD":
        assert allow in answer.json()["error"]


def test_an_absolute_target_is_taken_and_its_host_counts(wire):
    right(wire.send(post("http://plain.localhost/v2/models/plain/infer")).answer())
    right(wire.send(post(f"http://127.0.0.1:8000{PATH}")).answer())
    assert wire.send(post("http://example.com" + PATH)).answer().status == 421
    assert wire.send(post("http://nobody.localhost" + PATH)).answer().status == 404


def test_names_may_be_percent_encoded(perigee, wire):
    right(wire.send(post("/v2/models/%70lain/infer")).answer())
    right(wire.send(post("/v2/models/Team%2FPlain/infer")).answer())
    right(wire.send(post("/v2/models/Team/Plain/infer?query=1&x")).answer())
    for broken in ("/v2/models/%zz/infer", "/v2/models/%7/infer", "/v2/models/a%00b/infer"):
        with Wire(perigee) as other:
            assert other.send(post(broken)).answer().status == 400


@pytest.mark.parametrize("start", [
    "NONSENSE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /v2 HTTP/1.1 more\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "GET /v2\x01 HTTP/1.1\r\n\r\n",
    "GET v2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v2 HTTP/1.1\r\nHost: localhost\r\nX Y: 1\r\n\r\n",
    "GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /v2 HTTP/1.1\r\n\r\n",
    "GET /v2 HTTP/1.1\r\nHost: local host\r\n\r\n"])
def test_what_is_not_http_is_answered_and_the_connection_ended(wire, start):
    wire.send(start.encode("latin-1"))
    answer = wire.answer()
    assert answer.status in (400, 421, 501, 505)
    assert "x-request-id" in answer.headers and answer.headers["perigee-error"]
    assert wire.ended()


def test_too_long_a_target_is_414(wire):
    answer = wire.send(get("/v2/models/" + "x" * 10_000)).answer()
    assert answer.status == 414 and answer.headers["perigee-error"] == "too_large"
    assert wire.ended()


@pytest.mark.parametrize("headers", [["X-Big: " + "x" * 40_000],
                                     [f"X-{i}: 1" for i in range(200)]], ids=["long", "many"])
def test_too_many_header_bytes_or_lines_are_431(wire, headers):
    answer = wire.send(get("/v2", *headers)).answer()
    assert answer.status == 431 and answer.headers["perigee-error"] == "too_large"
    assert wire.ended()


# --- headers of answers --------------------------------------------------------------------------


def test_an_answer_says_who_gave_it_and_how_long_it_took(wire):
    headers = wire.send(post()).answer().headers
    assert len(headers["x-request-id"]) == 16 and int(headers["x-request-id"], 16) >= 0
    assert headers["perigee-pop"] and headers["perigee-revision"] == "1"
    timing = dict(part.strip().split(";dur=") for part in headers["server-timing"].split(","))
    assert set(timing) <= {"auth", "queue", "cold", "net", "infer"} and float(timing["infer"]) > 0
    assert "perigee-error" not in headers
    assert "date" in headers


@pytest.mark.parametrize("given,kept", [
    ("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("<script>", False),
    ("", False), ("\u00e9", False)])
def test_a_request_id_is_kept_when_it_is_well_formed(wire, given, kept):
    wire.send(post(PATH, BODY, "X-Request-Id: " + given).encode("latin-1"))
    headers = wire.answer().headers
    assert (headers["x-request-id"] == given) is kept
    assert kept or len(headers["x-request-id"]) == 16


def test_every_error_has_its_name_and_an_id(wire):
    for request, status, name in (
            (get("/v2/models/nobody"), 404, "not_found"), (get(PATH), 405, "bad_method"),
            (post(PATH, "{}"), 400, "bad_input"),
            (post(PATH, BODY, "Origin: http://evil.example"), 403, "forbidden"),
            (post(PATH, BODY, "Perigee-Receipt: 1"), 501, "not_supported")):
        answer = wire.send(request).answer()
        assert (answer.status, answer.headers["perigee-error"]) == (status, name)
        assert len(answer.headers["x-request-id"]) == 16 and answer.headers["perigee-pop"]
        assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("trace", [
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "nonsense", "00-0-0-0", "x" * 1000])
def test_any_traceparent_is_served(wire, trace):
    right(wire.send(post(PATH, BODY, f"traceparent: {trace}", "tracestate: a=b")).answer())


def test_a_traceparent_is_in_the_log_where_it_is_one(new_perigee):
    one = new_perigee(start=False)
    one.start("--log-level", "debug")
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    later = "cc" + good[2:]
    rows = [(good, good), (later, later), (later + "-what-comes-then", later)]
    rows += [(bad, '""') for bad in (
        good.upper(), good + "0", good + "-0", good.replace("-", "_"), "0g" + good[2:],
        good[:-1] + "g", good[:35] + "+" + good[36:], later + "0", "ff" + good[2:],
        good.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        good.replace("00f067aa0ba902b7", "0" * 16))]
    for number, (trace, logged) in enumerate(rows):
        one.request("GET", "/v2", headers={"traceparent": trace, "X-Request-Id": f"trace-{number}"})
        line = until("its line", lambda: next(
            (line for line in one.log.read_text(errors="replace").splitlines()
             if f"request=trace-{number} " in line), None))
        assert f"traceparent={logged} " in line, line


@pytest.mark.parametrize("header,value", [("Perigee-Receipt", "1"), ("Perigee-Proces-In", "EU")])
def test_headers_not_acted_upon_yet_are_refused_by_name(wire, header, value):
    answer = wire.send(post(PATH, BODY, f"{header}: {value}")).answer()
    assert answer.status == 501 and header in answer.json()["error"]
    right(wire.send(post()).answer())


def test_authorization_means_nothing_to_an_open_endpoint(wire, perigee):
    wire.send(post(PATH, BODY, "Authorization: Bearer pg_sesame", "X-Api-Key: sesame"))
    right(wire.answer())
    assert "sesame" not in perigee.log.read_text()


# --- the end -------------------------------------------------------------------------------------


def test_ending_is_graceful(new_perigee):
    """What runs is answered, idle connections are closed, and nothing new is taken."""
    perigee = new_perigee()
    apply(perigee, {"name": "slow", "model": "slow"})
    body = json.dumps({"inputs": [tensor("rounds", "INT64", [1], [100_000])]})
    with Wire(perigee) as busy, Wire(perigee) as idle, Wire(perigee) as half:
        idle.send(get("/v2/health/live")).answer()
        busy.send(get("/v2/health/live")).answer()
        # The 100 says that the request was taken: from here it is to be answered.
        busy.send(post("/v2/models/slow/infer", "", "Expect: 100-continue",
                       f"Content-Length: {len(body)}", length=False))
        assert busy.answer().status == 100
        busy.send(body)
        half.send("POST /v2/models/slow/infer HTTP/1.1\r\nHost:")
        perigee.process.terminate()
        assert idle.ended()
        answer = busy.answer()
        assert answer.status == 200 and answer.json()["outputs"][0]["data"] == [100_000]
        assert answer.headers["connection"].lower() == "close" and busy.ended()
    assert perigee.stop() == 0
