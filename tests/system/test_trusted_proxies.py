# SPDX-License-Identifier: Apache-2.0
"""Who is behind a connection, as trusted peers alone may say."""
import contextlib
import json
import os
import re
import socket
import struct
import subprocess

import pytest

from deadline import DEADLINE
from oip import Wire, apply, tensor
from perigee import PROGRAM

PROXY = "127.0.9.1"  # the trusted one; tests at 127.0.0.1 are nobody's proxy
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}).encode()


@pytest.fixture(scope="module")
def perigee(homes):
    found = homes("--trusted-proxies", "127.0.9.0/24, 192.0.2.7", "--log-level", "debug",
                  start=False)
    found.start("--listen-gateway", f"127.0.0.1:0,unix:{found.home}/gateway.sock")
    apply(found, {"name": "plain", "model": "identity_fp32"})
    return found


@contextlib.contextmanager
def wire(perigee, source=None, listener="gateway", path=None):
    found = object.__new__(Wire)
    found.rest = b""
    if path:
        found.socket = socket.socket(socket.AF_UNIX)
        found.socket.settimeout(DEADLINE)
        found.socket.connect(str(path))
    else:
        found.socket = socket.create_connection(perigee.address(listener), DEADLINE,
                                                (source or "127.0.0.1", 0))
    with found:
        yield found


def version1(client="203.0.113.7"):
    return f"PROXY TCP4 {client} 127.0.0.1 999 80\r\n".encode()


def version2(client="203.0.113.7", rtt_us=None):
    body = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", 999, 80)
    if rtt_us is not None:
        body += struct.pack(">BHI", 0xE7, 4, rtt_us)
    return SIGNATURE + b"\x21\x11" + struct.pack(">H", len(body)) + body


def infer(headers=""):
    return (f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\n{headers}"
            f"Content-Length: {len(BODY)}\r\n\r\n").encode() + BODY


def timing(answer, name):
    """Milliseconds of one part of Server-Timing; None: it is not there."""
    found = re.search(rf"\b{name};dur=([\d.]+)", answer.headers.get("server-timing", ""))
    return found and float(found[1])


def client_logged(perigee, answer):
    """Whose address the log has with that request."""
    line = next(line for line in perigee.log.read_text().splitlines()
                if "request done" in line and answer.headers["x-request-id"] in line)
    return re.search(r"client=(\S+)", line)[1]


def asked(perigee, wire_, *parts):
    """The answer of one inference, and who asked as the log says."""
    answer = wire_.send(*parts).answer()
    assert answer.status == 200, answer.body
    # The line is written once the answer is out: the next one's answer is behind it.
    live = wire_.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").answer()
    assert live.status == 200
    return answer, client_logged(perigee, answer)


@pytest.mark.parametrize("header", [version1(), version2()], ids=["version-1", "version-2"])
def test_a_trusted_peer_says_who_is_behind_it(perigee, header):
    with wire(perigee, PROXY) as one:
        assert asked(perigee, one, header, infer())[1] == "203.0.113.7:999"
        assert asked(perigee, one, infer())[1] == "203.0.113.7:999"


@pytest.mark.parametrize("header", [version1(), version2()], ids=["version-1", "version-2"])
@pytest.mark.parametrize("listener", ["gateway", "control"])
def test_from_anyone_else_a_proxy_header_is_bad_input(perigee, listener, header):
    with wire(perigee, listener=listener) as one:
        answer = one.send(header, infer()).answer()
        assert (answer.status, answer.headers["perigee-error"]) == (400, "bad_input")
        assert b"--trusted-proxies" in answer.body
        assert one.ended()


@pytest.mark.parametrize("header", [version1(), version2()], ids=["version-1", "version-2"])
@pytest.mark.parametrize("listener", ["gateway", "control"])
def test_behind_the_proxys_own_a_proxy_header_is_bad_input(perigee, listener, header):
    """A client's, which the proxy carries as it came; or later on a connection."""
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for first in (version1(), version2(), live, version2() + live):
        with wire(perigee, PROXY, listener) as one:
            one.send(first)
            if first.endswith(live):
                assert one.answer().status in (200, 404)
            answer = one.send(header, live).answer()
            assert (answer.status, answer.headers["perigee-error"]) == (400, "bad_input"), first
            assert b"--trusted-proxies" in answer.body
            assert one.ended()


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_the_admin_port_takes_it_too(perigee, path):
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for source, header, status in ((PROXY, version1(), 200), (PROXY, version2(), 200),
                                   (PROXY, b"", 200), (None, b"", 200), (None, version1(), 400),
                                   (PROXY, b"PROXY TCP4 203.0.113.7\r\n", 400)):
        with wire(perigee, source, "admin") as one:
            assert one.send(header, ask).answer().status == status, (source, header)


def test_a_malformed_header_of_a_trusted_peer_is_bad_input(perigee):
    for header in (b"PROXY TCP4 203.0.113.7\r\n", SIGNATURE + b"\x31\x11\0\0",
                   SIGNATURE + b"\x21\x11\0\x01z", b"PROXY TCP4 " + b"1" * 200):
        with wire(perigee, PROXY) as one:
            answer = one.send(header, infer()).answer()
            assert (answer.status, answer.headers["perigee-error"]) == (400, "bad_input")


def test_headers_are_believed_from_trusted_peers_alone(perigee):
    for header in ("X-Forwarded-For: 198.51.100.1, 203.0.113.9, 192.0.2.7",
                   "Forwarded: for=198.51.100.1, for=203.0.113.9;proto=http, for=192.0.2.7"):
        with wire(perigee, PROXY) as one:
            assert asked(perigee, one, infer(header + "\r\n"))[1] == "203.0.113.9:0"
        with wire(perigee) as one:
            assert asked(perigee, one, infer(header + "\r\n"))[1].startswith("127.0.0.1:")


def test_headers_that_tell_of_two_clients_are_bad_input(perigee):
    with wire(perigee, PROXY) as one:
        two = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.8\r\n"
        answer = one.send(infer(two)).answer()
        assert (answer.status, answer.headers["perigee-error"]) == (400, "bad_input")


def test_a_unix_socket_in_the_home_is_trusted(perigee):
    with wire(perigee, path=perigee.home / "gateway.sock") as one:
        assert asked(perigee, one, version1(), infer())[1] == "203.0.113.7:999"


def test_the_round_trip_is_what_the_trusted_peer_says(perigee):
    before = perigee.metric("perigee_client_rtt_seconds_sum", endpoint="plain")
    near = perigee.metric("perigee_client_rtt_seconds_bucket", endpoint="plain", le="0.05")
    with wire(perigee, PROXY) as one:
        answer, _ = asked(perigee, one, version2(rtt_us=240_000), infer())
        assert timing(answer, "net") == 240
    after = perigee.metric("perigee_client_rtt_seconds_sum", endpoint="plain")
    assert 0.24 <= after - before < 0.25
    assert perigee.metric("perigee_client_rtt_seconds_bucket", endpoint="plain", le="0.05") == near


def test_without_its_word_the_kernel_measures_the_round_trip(perigee):
    for source, header in (None, b""), (PROXY, version1()), (PROXY, b""):
        with wire(perigee, source) as one:
            answer, _ = asked(perigee, one, header, infer())
            assert 0 < timing(answer, "net") < 1000


def test_the_audit_log_has_the_client_behind_a_trusted_peer(perigee):
    with wire(perigee, PROXY, "control") as one:
        answer = one.send(version1(), "POST /api/v1/endpoints/plain/stop HTTP/1.1\r\n"
                          "Host: localhost\r\nContent-Type: application/json\r\n"
                          "Content-Length: 2\r\n\r\n{}").answer()
        assert answer.status < 300, answer.body
    row = perigee.get_json("/api/v1/audit", "control")["items"][-1]
    assert row["from"] == "203.0.113.7:999"
    perigee.cli("start", "plain")


@pytest.mark.parametrize("text,says", [
    ("10.0.0.1/8", "10.0.0.0/8 is meant"), ("proxy.example", "no block of addresses"),
    ("10.0.0.0/8,", "no block of addresses")], ids=["bits", "name", "empty"])
@pytest.mark.parametrize("how", ["flag", "environment"])
def test_wrong_blocks(scratch, how, text, says):
    command = [PROGRAM, "up", "--home", scratch / "home"]
    command += ["--trusted-proxies", text] if how == "flag" else []
    env = {**os.environ, **({} if how == "flag" else {"PERIGEE_TRUSTED_PROXIES": text})}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and says in done.stderr
    assert ("--trusted-proxies" if how == "flag" else "$PERIGEE_TRUSTED_PROXIES") in done.stderr
    assert not (scratch / "home").exists()
