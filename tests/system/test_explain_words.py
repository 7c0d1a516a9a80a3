# SPDX-License-Identifier: Apache-2.0
"""What the command line says of control's answers, where a test is control: no Perigee runs."""
import contextlib
import http.server
import json
import os
import socket
import subprocess
import threading

import pytest

from deadline import DEADLINE
from perigee import DIGITS, PROGRAM

LONG = "a word that is repeated until the line is longer than any terminal " * 3


@contextlib.contextmanager
def control(answers):
    """Answers GET of a path with (status, body); yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            status, body = answers.get(self.path, (404, {"type": "urn:perigee:error:not_found",
                                                         "detail": "nothing is here"}))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "http://127.0.0.1:%d" % server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def run(url, *arguments, status=0):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PERIGEE_")}
    done = subprocess.run([PROGRAM, *arguments, "--control", url], text=True, capture_output=True,
                          env={**env, "PERIGEE_HOME": "/nonexistent"}, stdin=subprocess.DEVNULL,
                          timeout=DEADLINE, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines()), default=0) <= 80, done.stdout
    return done


def decision(status, **members):
    return {"pop": "frankfurt-am-main-1", "endpoint": "default/an-endpoint-with-quite-a-long-name",
            "at": "2026-11-23T00:00:00Z", "country": None, "why": "overloaded",
            "chosen": "tokyo", "status": status, "hop": False, "pops": [], **members}


ENDS = [  # the status, whether it was passed on to there, what is said of its end
    (200, False, "answered by tokyo: it would have waited where it came to"),
    (302, True, "passed on to here, answered by tokyo"),
    (404, False, "refused by tokyo with status 404: "),
    (451, True, "passed on to here, refused by tokyo with status 451"),
    (503, False, "refused by tokyo with status 503: "),
    (499, False, "given up by its client while at tokyo with status 499: "),
    (500, False, "failed at tokyo with status 500: "),
    (504, True, "passed on to here, failed at tokyo with status 504"),
    (None, False, "sent to tokyo: "),
]


@pytest.mark.parametrize("status,hop,words", ENDS, ids=[str(row[0]) for row in ENDS])
def test_how_a_request_ended(status, hop, words):
    answer = {"request": "abc", "decisions": [decision(status, hop=hop)]}
    with control({"/api/v1/requests/abc": (200, answer)}) as url:
        said = run(url, "explain", "abc").stdout
    assert words in " ".join(said.split()) + " "
    assert ("answered" in said) == (status in (200, 302))


@pytest.mark.parametrize("status,name,client", [
    (404, "not_found", True), (503, "overloaded", False), (500, "internal", False)])
def test_only_what_is_not_there_may_be_an_endpoint(status, name, client):
    body = {"type": f"urn:perigee:error:{name}", "detail": "so it is"}
    with control({"/api/v1/requests/abc": (status, body)}) as url:
        said = run(url, "explain", "abc", status=1).stderr
    assert "so it is" in said and ("--client" in said) == client


def test_a_table_wraps_its_reasons():
    """To 80 columns where there is no terminal; no word of them is lost."""
    pop = {"pop": "a-pop-with-a-name-of-quite-some-length", "state": "unreachable", "replicas": 0,
           "ready": 0, "chosen": False, "reason": LONG}
    answer = {"endpoint": "digits", "project": "default", "pops": [pop, {**pop, "pop": "b"}],
              "short": [], "demand": {"clients": []}}
    with control({"/api/v1/endpoints/digits/placement": (200, answer)}) as url:
        said = run(url, "explain", "placement", "digits").stdout
    lines = said.splitlines()
    column = lines[0].index("WHY")
    reasons = " ".join(line[column:].strip() for line in lines[1:lines.index("")]).split()
    assert reasons == 2 * LONG.split()


def test_figures_name_where_they_are_from():
    pop = {"pop": "a-pop-with-a-name-of-some-length", "rtt_ms": 100, "queue_felt_ms": 1000.0,
           "service_ms": 1000.0, "cold_felt_ms": 1000.0, "total_ms": 12345.6, "share": 0.5,
           "queue_ms": 1.0, "chosen": True, "near": True, "excluded": None, "in_dns": False,
           "load_reported": False, "rtt_source": "coordinates"}
    answer = {"client": {"asked": "Paris", "source": "city"}, "residency": {},
              "pops": [pop, {**pop, "chosen": False, "rtt_source": "not known",
                             "excluded": "residency does not permit it"}]}
    with control({"/api/v1/endpoints/digits/explain?client=Paris": (200, answer)}) as url:
        said = run(url, "explain", "digits", "--client", "Paris").stdout
    assert " coordinates " in said and " not known " in said and "model" not in said


def test_what_is_short_is_wrapped():
    answer = {"endpoint": "digits", "project": "default", "pops": [], "short": [LONG, "one more"],
              "demand": {"clients": []}}
    with control({"/api/v1/endpoints/digits/placement": (200, answer)}) as url:
        said = run(url, "explain", "placement", "digits").stdout
    assert said.count("short: ") == 2 and LONG.strip() in " ".join(said.split())


def header(question, count):
    """An answer's head and the question as it came, without EDNS."""
    end = question.index(b"\0", 12) + 5
    return question[:2] + b"\x84\0\0\1" + count.to_bytes(2, "big") + b"\0\0\0\0" + question[12:end]


def test_a_dns_that_falls_silent_is_given_up():
    """It names a PoP once, that nobody answers at; then nothing comes any more. What is tried ends
    with the time that the request has."""
    view = {"hosts": ["digits.localhost", "digits.perigee.test"], "urls": [], "name": "digits"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns, \
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken, \
            control({"/api/v1/endpoints/digits": (200, view)}) as url:
        dns.bind(("127.0.0.1", 0))
        taken.bind(("127.0.0.1", 0))  # and does not listen: each call is refused
        view["urls"] = ["http://127.0.0.1:%d" % taken.getsockname()[1]]
        answered = threading.Event()

        def answer_once():
            question, asker = dns.recvfrom(65535)
            dns.sendto(header(question, 1) + b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4\x7f\0\0\1", asker)
            answered.set()

        thread = threading.Thread(target=answer_once)
        thread.start()
        done = run(url, "infer", "digits", "--from", "127.0.0.1", "--dns",
                   "127.0.0.1:%d" % dns.getsockname()[1], "--timeout", "3s", "--input",
                   f"image={DIGITS / 'samples' / 'digit-7.png'}", status=1)
        thread.join()
    assert answered.is_set()
    assert "127.0.0.1 does not answer, going on" in done.stderr
    assert "tried for 3 s" in done.stderr
