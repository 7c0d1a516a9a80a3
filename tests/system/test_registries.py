# SPDX-License-Identifier: Apache-2.0
"""Other registries as they are told of: credentials, certificates, what is no registry."""
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import termios

import pytest

from copies import (MODEL, SECRET, add, infer, kinds, name, other,  # fixtures  # noqa: F401
                    perigee, push_model, secret_file)
from deadline import DEADLINE, readable
from elsewhere import TOKEN, Elsewhere

# ---- credentials --------------------------------------------------------------------------------

def nowhere(perigee, *secrets):
    """They are in nothing that Perigee wrote or shows."""
    shown = perigee.cli("registries", "list", "--json").text + perigee.cli("events", "--json").text
    shown += perigee.log.read_text() + json.dumps(perigee.get_json("/api/v1/audit", "control"))
    kept = b"".join(path.read_bytes() for path in (perigee.home / "control").glob("store.db*"))
    for secret in secrets:
        assert secret not in shown and secret.encode() not in kept


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_credentials_are_shown_to_who_asks(perigee, other, name, scratch, auth):  # noqa: F811
    push_model(other)
    other.auth, other.user = auth, ("robot", SECRET)
    reference = f"oci://{other.host}/models/digits:v1"
    said = perigee.cli("deploy", name, "--model", reference, status=1).said
    assert f"perigee registries add {other.host}" in said, said
    add(perigee, scratch, other, password="wrong one")
    said = perigee.cli("registries", "test", other.host, status=1).said
    assert "refuses the credentials" in said and "wrong one" not in said
    add(perigee, scratch, other)
    tested = perigee.json("registries", "test", other.host)
    assert tested["asks"] == {"basic": "basic", "bearer": "token"}[auth]
    perigee.cli("deploy", name, "--model", reference)
    assert infer(perigee, name) == 200
    if auth == "bearer":
        tokens = [path for path, _ in other.seen if path.startswith("/token")]
        assert any("scope=repository%3Amodels%2Fdigits%3Apull" in path for path in tokens), tokens
        assert "service=a%20registry%2C%20of%20a%20test" in tokens[-1]
    listed = next(row for row in perigee.json("registries", "list")["items"]
                  if row["host"] == other.host)
    assert listed["username"] == "robot" and listed["password"] is True
    assert other.host in perigee.cli("registries").text
    key = perigee.home / "control" / "seal.key"
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_size == 32
    nowhere(perigee, SECRET, "wrong one", TOKEN, other.basic()[6:])
    perigee.cli("registries", "remove", other.host, "--yes")
    perigee.cli("registries", "remove", other.host, "--yes", status=1)


def test_everybody_gets_a_token(perigee, other, name):  # noqa: F811
    push_model(other)
    other.auth = "bearer"
    perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1")
    assert all("Authorization" not in headers for headers in other.asked("/token"))


def test_new_credentials_are_tried_at_once(perigee, other, name, scratch):  # noqa: F811
    push_model(other, **{"model.onnx": MODEL, "a.bin": b"of who is known"})
    other.user = ("robot", SECRET)
    other.on_request = lambda handler: "/blobs/" in handler.path and handler.headers.get(
        "Authorization") != other.basic() and (
            handler.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"') or True)
    said = perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1",
                       status=1).said
    assert "is failed" in said and "perigee registries add" in said, said
    assert perigee.json("show", name)["reason"] == "copy_failed"
    assert "copy_failed" in kinds(perigee, name)
    add(perigee, scratch, other)
    perigee.cli("wait", name)
    assert infer(perigee, name) == 200
    perigee.cli("registries", "remove", other.host, "--yes")


def test_a_backup_opens_nothing_without_the_key(perigee, other, scratch, homes):  # noqa: F811
    other.auth, other.user = "basic", ("robot", SECRET)
    add(perigee, scratch, other)
    said = perigee.cli("backup", scratch / "without.tar").said
    assert "--with-key" in said
    assert perigee.cli("backup", scratch / "with.tar", "--with-key").said == ""
    assert SECRET.encode() not in (scratch / "with.tar").read_bytes()
    perigee.cli("registries", "remove", other.host, "--yes")
    fresh = homes("--engine", "unix:/nonexistent/engine.sock")
    fresh.stop()
    shutil.rmtree(fresh.home)
    said = fresh.cli("restore", scratch / "without.tar").said
    assert "control/seal.key" in said and "registries add" in said
    fresh.start()
    said = fresh.cli("registries", "test", other.host, status=1).said
    assert "control/seal.key is not there" in said, said
    add(fresh, scratch, other)  # it has a key of its own now
    fresh.stop()
    said = fresh.cli("restore", scratch / "without.tar", "--yes").said
    assert "of this home is another key" in said and "registries add" in said, said
    assert fresh.cli("restore", scratch / "with.tar", "--yes").said == ""
    fresh.start()
    assert fresh.json("registries", "test", other.host)["asks"] == "basic"


@pytest.mark.parametrize("end", [b"\x03", b"secret\n"], ids=["interrupted", "answered"])
def test_a_terminal_shows_again_what_is_typed(perigee, other, end):  # noqa: F811
    """Whatever ends the question for a password."""
    leader, terminal = pty.openpty()
    try:
        asking = subprocess.Popen(
            [perigee.program, "registries", "add", other.host, "--username", "robot",
             "--password-file", "-"], env=perigee.environment(), stdin=terminal,
            stdout=subprocess.DEVNULL, stderr=terminal, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        said = b""
        while b"Password: " not in said:
            assert readable(leader, DEADLINE)
            said += os.read(leader, 4096)
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO
        os.write(leader, end)
        status = asking.wait(DEADLINE)
        assert status == (-signal.SIGINT if end == b"\x03" else 0), said
        assert termios.tcgetattr(terminal)[3] & termios.ECHO
    finally:
        os.close(leader)
        os.close(terminal)
        perigee.cli("registries", "remove", other.host, "--yes", status=None)


BODIES = {
    "user-alone": ({"username": "x"}, "come together"),
    "password-alone": ({"password": "x"}, "come together"),
    "colon": ({"username": "a:b", "password": "x"}, "without ':'"),
    "control-character": ({"username": "a", "password": "x\n"}, "control characters"),
    "long": ({"username": "a", "password": "x" * 9000}, "at most"),
    "no-ca": ({"ca": "x"}, "PEM"),
    "ca-over-http": ({"ca": "-----BEGIN CERTIFICATE-----", "plain_http": True}, "plain http"),
    "unknown": ({"pasword": SECRET}, "pasword"),
    "list": ([], "object"),
}


@pytest.mark.parametrize("case", BODIES)
def test_what_is_no_registry_is_refused(perigee, case):  # noqa: F811
    body, words = BODIES[case]
    status, _, text = perigee.request("PUT", "/api/v1/registries/ghcr.io", body,
                                      listener="control")
    assert status == 400 and words in json.loads(text)["detail"], text
    assert SECRET not in text.decode()
    assert perigee.json("registries", "list")["items"] == []


@pytest.mark.parametrize("host", ["ghcr", "user@ghcr.io", "ghcr.io/x", "https://ghcr.io"])
def test_what_is_no_host_is_refused(perigee, host):  # noqa: F811
    assert "no registry's host" in perigee.cli("registries", "add", host, status=2).said


# ---- TLS ----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True,
                   timeout=DEADLINE)
    return paths


def test_certificates_are_checked(perigee, name, certificate):  # noqa: F811
    other = Elsewhere(certificate, host="localhost")
    try:
        push_model(other)
        reference = f"oci://{other.host}/models/digits:v1"
        perigee.cli("registries", "add", other.host, "--ca-file", certificate[0])
        perigee.cli("deploy", name, "--model", reference)
        assert infer(perigee, name) == 200
        status, _, body = perigee.request("PUT", f"/api/v1/registries/{other.host}",
                                          {"plain_http": False}, listener="control")
        assert status == 200, body
        said = perigee.cli("registries", "test", other.host, status=1).said
        assert "certificate" in said.lower() or "ssl" in said.lower(), said
    finally:
        perigee.cli("registries", "remove", other.host, "--yes", status=None)
        other.close()


@pytest.mark.parametrize("what", ["redirect", "token"])
def test_https_leads_to_no_plain_http(perigee, name, certificate, scratch, what):  # noqa: F811
    other, plain = Elsewhere(certificate, host="localhost"), Elsewhere()
    try:
        push_model(other, **{"model.onnx": MODEL, "a.bin": what.encode()})
        if what == "redirect":
            other.on_request = lambda handler: "/manifests/" in handler.path and (handler.answer(
                302, Location=f"{plain.url}/v2/x") or True)
        else:
            other.auth, other.realm = "bearer", f"{plain.url}/token"
        perigee.cli("registries", "add", other.host, "--ca-file", certificate[0], "--username",
                    "robot", "--password-file", secret_file(scratch))
        said = perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1",
                           status=1).said
        assert "plain http" in said, said
        assert not plain.seen
    finally:
        perigee.cli("registries", "remove", other.host, "--yes", status=None)
        other.close()
        plain.close()
