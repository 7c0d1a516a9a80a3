# SPDX-License-Identifier: Apache-2.0
"""Images and models of other registries: copied ahead of need, whatever those do wrong."""
import contextlib
import json
import os
import shutil
import signal
import socket
import threading

import pytest

from copies import (MODEL, SECRET, add, infer, kinds, name, other,  # fixtures  # noqa: F401
                    perigee, push_model)
from deadline import DEADLINE, readable, until
from elsewhere import Elsewhere
from engine_case import engine_or_skip
from engines import Image, compile_server, server_image
from registry import IMAGE, INDEX, Registry, artifact_of, descriptor, digest_of

RUN = {"Entrypoint": ["/hello"], "ExposedPorts": {"8080/tcp": {}}}


def push_image(other, repository, image, tag="v1"):
    return other.push(repository, tag, image.manifest, image.blobs().values())


# ---- copies -------------------------------------------------------------------------------------

def test_a_model_is_copied_and_runs_without_its_registry(perigee, other, name):  # noqa: F811
    manifest = push_model(other, "deep/models/digits")
    reference = f"oci://{other.host}/deep/models/digits"
    perigee.cli("deploy", name, "--model", f"{reference}:v1")
    assert infer(perigee, name) == 200
    shown = perigee.json("show", name)
    assert shown["source"] == f"{reference}:v1" and shown["copying"] is None
    assert shown["spec"]["model"] == digest_of(MODEL)
    assert kinds(perigee, name).count("copy_done") == 1
    other.on_request = lambda handler: handler.cut() or True  # it is gone
    perigee.stop()
    perigee.start()
    perigee.cli("wait", name)
    assert infer(perigee, name) == 200
    said = perigee.cli("deploy", name, "--model", f"{reference}:v1", status=1).said
    assert other.host in said
    asked = len(other.seen)
    perigee.cli("deploy", name, "--model", f"{reference}@{manifest}")
    assert len(other.seen) == asked  # what is here by its digest needs no asking


def test_a_folder_of_files(perigee, other, name):  # noqa: F811
    push_model(other, **{"model.onnx": MODEL, "notes/labels.txt": b"0 1 2 3 4 5 6 7 8 9\n"})
    perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1")
    assert infer(perigee, name) == 200


def test_an_image_of_another_perigee(perigee, homes, name):  # noqa: F811
    """Resolved for this machine, copied whole, and pulled from here by whoever wants it."""
    there = homes("--engine", "unix:/nonexistent/engine.sock")
    image = Image([("hello", b"hello\n", 0o755)], RUN)
    far = Registry(there, "team/app")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        descriptor(image.manifest, "application/vnd.oci.image.manifest.v1+json",
                   platform={"os": "linux", "architecture": "amd64"})]}).encode()
    manifest = far.push("one", image.manifest, image.blobs().values())
    far.push("v1", index, media_type=INDEX)
    host, port = there.address("control")
    perigee.cli("deploy", name, "--image", f"{host}:{port}/team/app:v1", "--no-wait")
    perigee.wait_event("copy_done", endpoint=name)
    there.stop()
    here = Registry(perigee, f"default/{name}")
    status, headers, text = here.call("GET", "manifests/revision-1")
    assert status == 200 and headers["Docker-Content-Digest"] == manifest
    for blob in image.blobs().values():
        assert here.call("GET", f"blobs/{digest_of(blob)}")[2] == blob
    assert perigee.json("show", name)["spec"]["image"] == manifest


class Held:
    """The blob's bytes stop half way until they are let go."""

    def __init__(self, other, digest):
        self.begun, self.go = threading.Event(), threading.Event()
        data = other.blobs[digest]

        def answer(handler):
            if not handler.path.endswith(digest):
                return False
            offset = handler.offset()
            handler.begin(len(data) - offset, 206 if offset else 200)
            half = max(offset, len(data) // 2)
            handler.wfile.write(data[offset:half])
            self.begun.set()
            assert self.go.wait(DEADLINE)
            handler.wfile.write(data[half:])
            return True

        other.on_request = answer


def test_a_revision_serves_until_the_next_one_is_here(perigee, other, name):  # noqa: F811
    """And a new endpoint is not served before; progress is seen by whoever asks."""
    more = MODEL + b"\0" * 8  # another file that nobody runs, as it is held
    push_model(other)
    perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1")
    push_model(other, tag="v2", **{"model.onnx": MODEL, "more.bin": more})
    held = Held(other, digest_of(more))
    try:
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v2", "--no-wait")
        assert held.begun.wait(DEADLINE)
        shown = until("its progress", lambda: moved(perigee, name))
        assert shown["state"] == "deploying" and shown["reason"] == "copying"
        assert shown["target"] == 2 and shown["serving"] == 1
        assert shown["copying"]["from"] == other.host
        assert 0 < shown["copying"]["bytes_done"] < shown["copying"]["bytes"]
        assert "revision 1 keeps the traffic" in shown["message"], shown["message"]
        assert infer(perigee, name) == 200
    finally:
        held.go.set()
    perigee.cli("wait", name)
    shown = perigee.json("show", name)
    assert shown["serving"] == 2 and shown["copying"] is None
    assert infer(perigee, name) == 200


def moved(perigee, name):
    shown = perigee.json("show", name)
    return shown if shown["copying"] and shown["copying"]["bytes_done"] else None


def test_a_new_endpoint_is_not_served_before_it_is_here(perigee, other, name):  # noqa: F811
    push_model(other, **{"model.onnx": MODEL, "more.bin": b"more"})
    held = Held(other, digest_of(b"more"))
    try:
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1", "--no-wait")
        assert held.begun.wait(DEADLINE)
        assert infer(perigee, name) == 404
        assert perigee.json("show", name)["reason"] == "copying"
    finally:
        held.go.set()
    perigee.cli("wait", name)
    assert infer(perigee, name) == 200


def test_what_runs_changes_while_it_is_copied(perigee, other, name, homes):  # noqa: F811
    """A second revision of the same blobs waits for them too; a backup meanwhile leaves them out,
    and the restored home asks for them again."""
    push_model(other, **{"model.onnx": MODEL, "more.bin": b"more of it"})
    held = Held(other, digest_of(b"more of it"))
    archive = perigee.home.parent / f"{name}.tar"
    try:
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1", "--no-wait")
        assert held.begun.wait(DEADLINE)
        spec = perigee.json("show", name)["spec"]
        spec["batch"] = {"max": 2, "delay": "1ms"}
        status, _, body = perigee.request("PUT", f"/api/v1/endpoints/{name}", spec,
                                          listener="control")
        assert status == 202, body
        assert perigee.json("show", name)["target"] == 2
        perigee.cli("backup", archive)
    finally:
        held.go.set()
    perigee.cli("wait", name)
    assert infer(perigee, name) == 200
    perigee.cli("delete", name, "--yes")
    fresh = homes("--engine", "unix:/nonexistent/engine.sock")
    fresh.stop()
    shutil.rmtree(fresh.home)
    fresh.cli("restore", archive)
    asked = len(other.asked(digest_of(b"more of it")))
    fresh.start()
    fresh.cli("wait", name)
    assert infer(fresh, name) == 200
    assert len(other.asked(digest_of(b"more of it"))) == asked + 1
    fresh.stop()


def test_control_killed_while_it_copies_goes_on_there(perigee, other, name):  # noqa: F811
    more = os.urandom(1 << 20)
    push_model(other, **{"model.onnx": MODEL, "more.bin": more})
    held = Held(other, digest_of(more))
    try:
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1", "--no-wait")
        assert held.begun.wait(DEADLINE)
        until("half of it", lambda: any(
            path.stat().st_size >= len(more) // 2
            for path in (perigee.home / "blobs" / "uploads").iterdir()))
        os.kill(perigee.role_pid("control"), signal.SIGKILL)
    finally:
        held.go.set()
    until("control again", lambda: perigee.cli("wait", name, status=None).returncode == 0)
    ranges = [headers.get("Range") for headers in other.asked(digest_of(more))]
    assert ranges[-1] == f"bytes={len(more) // 2}-", ranges
    assert infer(perigee, name) == 200


class Slow:
    """A registry whose files come at so many bytes a second."""

    def __init__(self, name, files, rate):
        self.other, self.name = Elsewhere(), name
        self.files = [os.urandom(1 << 20) for _ in range(files)]
        push_model(self.other, **{"model.onnx": MODEL, **{
            f"{i}.bin": data for i, data in enumerate(self.files)}})
        self.sent, self.gone = {}, threading.Event()

        def answer(handler):
            data = self.other.blobs.get(handler.path.rpartition("/")[2])
            if data not in self.files:
                return False
            at = handler.offset()
            handler.begin(len(data) - at, 206 if at else 200)
            with contextlib.suppress(OSError):
                while not readable(handler.connection, 1):
                    handler.wfile.write(data[at:at + rate])
                    at += rate
                    self.sent[data] = self.sent.get(data, 0) + 1
            self.gone.set()
            handler.close_connection = True
            return True

        self.other.on_request = answer

    def deploy(self, perigee):
        perigee.cli("deploy", self.name, "--model", f"oci://{self.other.host}/models/digits:v1",
                    "--no-wait")

    def times(self):
        return min(self.sent.values(), default=0)


def test_who_is_gone_ends_what_is_copied_for_them(perigee, name):  # noqa: F811
    """Not with its last byte alone, which may never come."""
    slow = Slow(name, 1, 4096)  # fast enough that its pace does not end it
    try:
        slow.deploy(perigee)
        until("a third byte", lambda: slow.times() > 2)
        assert "copy_failed" not in kinds(perigee, name)
        perigee.cli("delete", name, "--yes")
        assert slow.gone.wait(DEADLINE)
    finally:
        slow.other.close()


@pytest.mark.long
@pytest.mark.parametrize("rate", [1, 4096])
def test_four_drips_hold_no_other_registry_up(perigee, other, name, rate):  # noqa: F811
    """What stands still is ended, and what is slow gives way (policy/pace.h): one registry holds
    three places of the four at the most."""
    slow = [Slow(f"{name}-a", 4, rate), Slow(f"{name}-b", 1, rate)]
    push_model(other, **{"model.onnx": MODEL, "a.bin": str(rate).encode()})
    try:
        for one in slow:
            one.deploy(perigee)
        until("four of them", lambda: [len(one.sent) for one in slow] == [3, 1])
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1", "--no-wait")
        until("half a span", lambda: min(one.times() for one in slow) >= 15)
        assert "copy_done" not in kinds(perigee, name)
        until("a place", lambda: any(one.gone.is_set() for one in slow))
        perigee.wait_event("copy_done", endpoint=name)
        failed = any("copy_failed" in kinds(perigee, one.name) for one in slow)
        assert failed == (rate == 1)
    finally:
        for one in slow:
            perigee.cli("delete", one.name, "--yes", status=None)
            one.other.close()


def test_one_layer_has_one_size(perigee, other, name):  # noqa: F811
    """Two registries that say otherwise do not spoil each other's copies, and who is wrong is
    told."""
    more = os.urandom(4096)
    liar = Elsewhere()
    push_model(other, **{"model.onnx": MODEL, "more.bin": more})
    manifest, blobs = artifact_of(("model.onnx", MODEL), ("more.bin", more))
    manifest = manifest.replace(b'"size": 4096', b'"size": 4097')
    assert b"4097" in manifest
    liar.push("models/digits", "v1", manifest, blobs)
    held = Held(other, digest_of(more))
    try:
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1", "--no-wait")
        assert held.begun.wait(DEADLINE)
        wrong = f"{name}-wrong", "--model", f"oci://{liar.host}/models/digits:v1"
        said = perigee.cli("deploy", *wrong, status=1).said
        assert f"{liar.host} says" in said and "being copied, 4096" in said, said
    finally:
        held.go.set()
    try:
        perigee.cli("wait", name)
        said = perigee.cli("deploy", *wrong, status=1).said
        assert "has 4097 bytes, and it has 4096" in said, said
        assert infer(perigee, name) == 200
    finally:
        liar.close()


def test_nothing_is_copied_for_who_is_gone(perigee, other, name):  # noqa: F811
    push_model(other, **{"model.onnx": MODEL, "more.bin": b"for nobody"})
    held = Held(other, digest_of(b"for nobody"))
    try:
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1", "--no-wait")
        assert held.begun.wait(DEADLINE)
        perigee.cli("delete", name, "--yes")
    finally:
        held.go.set()
    push_model(other, "models/two")
    other.on_request = lambda handler: False
    perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/two:v1")
    assert len(other.asked(digest_of(b"for nobody"))) == 1


def test_a_tag_that_moves_is_looked_up_once(perigee, other, name):  # noqa: F811
    first = Image([("hello", b"one\n", 0o755)], RUN)
    second = Image([("hello", b"two\n", 0o755)], RUN)
    reference = f"{other.host}/team/app:v1"
    one = push_image(other, "team/app", first)
    perigee.cli("deploy", name, "--image", reference, "--no-wait")
    perigee.wait_event("copy_done", endpoint=name)
    assert "nothing changed" in perigee.cli("deploy", name, "--image", reference, "--no-wait").text
    two = push_image(other, "team/app", second)
    perigee.cli("deploy", name, "--image", reference, "--no-wait")
    rows = perigee.get_json(f"/api/v1/endpoints/{name}/revisions", "control")["items"]
    assert [row["image"]["digest"] for row in rows] == [one, two]
    assert perigee.json("show", name)["source"] == reference


# ---- what registries do -------------------------------------------------------------------------

def once(answer, part):
    """The first call of `part` is answered so, then all as usual."""
    done = []

    def on_request(handler):
        if part not in handler.path or done:
            return False
        done.append(True)
        answer(handler)
        return True

    return on_request


def cut_half(handler, data):
    handler.begin(len(data))
    handler.wfile.write(data[:len(data) // 2])
    handler.wfile.flush()
    handler.cut()


def too_often(handler, _):
    handler.error(429, "TOOMANYREQUESTS", Retry_After="1")


# Of which call (None: the blob's), and what is answered to the first one.
TROUBLES = {
    "429-for-the-tag": ("/manifests/", too_often),
    "503-for-the-tag": ("/manifests/", lambda h, _: h.error(503, "UNKNOWN")),
    "cut-for-the-tag": ("/manifests/", lambda h, _: h.cut()),
    "429": (None, too_often),
    "500": (None, lambda h, _: h.error(500, "UNKNOWN")),
    "no-json": (None, lambda h, _: h.answer(502, b"<html>bad gateway")),
    "cut-before-the-head": (None, lambda h, _: h.cut()),
    "cut-half-way": (None, cut_half),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_passing_trouble_is_got_over(perigee, other, name, case):  # noqa: F811
    data = case.encode() * 100
    push_model(other, f"models/{case}", **{"model.onnx": MODEL, "a.bin": data})
    part, answer = TROUBLES[case]
    other.on_request = once(lambda handler: answer(handler, data), part or digest_of(data))
    perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/{case}:v1", "--no-wait")
    perigee.wait_event("copy_done", endpoint=name)
    assert ("copy_failed" in kinds(perigee, name)) == (part is None and case != "cut-half-way")


def big(size=1 << 20):
    return os.urandom(size)


def test_a_cut_answer_is_gone_on_with(perigee, other, name):  # noqa: F811
    data = big()
    push_model(other, **{"model.onnx": MODEL, "a.bin": data})
    other.on_request = once(lambda handler: cut_half(handler, data), digest_of(data))
    perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1")
    ranges = [headers.get("Range") for headers in other.asked(digest_of(data))]
    assert ranges[0] is None and ranges[1].startswith("bytes=") and len(ranges) == 2, ranges
    assert "copy_failed" not in kinds(perigee, name)


def test_a_registry_without_ranges_begins_anew(perigee, other, name):  # noqa: F811
    data = big()
    push_model(other, **{"model.onnx": MODEL, "a.bin": data})
    other.ranges = False
    other.on_request = once(lambda handler: cut_half(handler, data), digest_of(data))
    perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1")
    ranges = [headers.get("Range") for headers in other.asked(digest_of(data))]
    assert ranges[-1] is None, ranges


def test_redirects_are_followed_without_credentials(perigee, other, name, scratch):  # noqa: F811
    data = b"behind a redirect"
    push_model(other, **{"model.onnx": MODEL, "a.bin": data})
    other.auth, other.user = "basic", ("robot", SECRET)
    add(perigee, scratch, other)
    store = Elsewhere()  # another port, and so somebody else
    store.on_request = lambda handler: handler.answer(200, data) or True
    try:
        other.on_request = lambda handler: digest_of(data) in handler.path and (handler.answer(
            307, Location=f"{store.url}/signed?key=abc") or True)
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1")
        assert store.seen and all("Authorization" not in headers for _, headers in store.seen)
        assert infer(perigee, name) == 200
    finally:
        store.close()
        perigee.cli("registries", "remove", other.host, "--yes")


LASTING = {
    "wrong-bytes": (lambda h, data: h.answer(200, data[:-1] + b"?"), "other bytes"),
    "more-bytes": (lambda h, data: h.answer(200, data + b"?"), "more bytes"),
    "gone": (lambda h, _: h.error(404, "BLOB_UNKNOWN"), "(BLOB_UNKNOWN)"),
    "to-a-file": (lambda h, _: h.answer(302, Location="file:///etc/passwd"), "may be followed"),
    "to-plain-http-elsewhere": (lambda h, _: h.answer(302, Location="http://localhost:1/x"),
                                "may lead to its own host alone"),
    "a-token-by-plain-http-elsewhere": (
        lambda h, _: h.answer(401, WWW_Authenticate='Bearer realm="http://localhost:1/token"'),
        "fetched by plain http from 'localhost'"),
    "in-circles": (lambda h, _: h.answer(302, Location=h.path), "more than 5 times"),
    "no-challenge": (lambda h, _: h.answer(401, WWW_Authenticate='"'), "no list of challenges"),
    "token-from-nowhere": (lambda h, _: h.answer(401, WWW_Authenticate='Bearer realm="ftp://x/"'),
                           "tokens are"),
}


@pytest.mark.parametrize("case", LASTING)
def test_lasting_trouble_is_said(perigee, other, name, case):  # noqa: F811
    """By the endpoint and an event; deployed again once it is mended, it comes."""
    answer, words = LASTING[case]
    data = case.encode() * 100
    push_model(other, f"models/{case}", **{"model.onnx": MODEL, "a.bin": data})
    other.on_request = lambda handler: digest_of(data) in handler.path and (
        answer(handler, data) or True)
    reference = f"oci://{other.host}/models/{case}:v1"
    said = perigee.cli("deploy", name, "--model", reference, status=1).said
    assert "is failed" in said and words in said, said
    event = perigee.wait_event("copy_failed", endpoint=name)
    assert words in event["message"]
    other.on_request = lambda handler: False
    perigee.cli("deploy", name, "--model", reference, "--no-wait")
    perigee.cli("wait", name)
    assert infer(perigee, name) == 200


def manifest_of(**changes):
    manifest = json.loads(artifact_of(("model.onnx", MODEL))[0])
    manifest.update(changes)
    return json.dumps(manifest).encode()


REFUSED = {
    "no-tag": (None, "does not have it (MANIFEST_UNKNOWN)"),
    "no-manifest": (b"<html>", "line 1"),
    "schema-1": (json.dumps({"schemaVersion": 1, "name": "a"}).encode(), "schema"),
    "too-large": (b" " * (5 << 20), "larger than expected"),
    "sha512": (manifest_of(layers=[{"mediaType": "a/b", "digest": "sha512:" + "0" * 128,
                                    "size": 1}]), "sha256"),
    "elsewhere": (manifest_of(layers=[{
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": "sha256:" + "0" * 64, "size": 1}]), "elsewhere"),
    "above-the-bound": (manifest_of(layers=[{"mediaType": "a/b", "digest": "sha256:" + "0" * 64,
                                             "size": 1 << 40}]),
                        "has 1099511627776 bytes, and a blob at most 137438953472"),
    "an-image": (manifest_of(layers=[{"mediaType": "a/b", "digest": "sha256:" + "0" * 64,
                                      "size": 1}]), "has no title"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_deployed_is_refused_at_once(perigee, other, name, case):  # noqa: F811
    text, words = REFUSED[case]
    if text is not None:
        other.push("models/x", "v1", text)
    said = perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/x:v1", status=1).said
    assert words in said, said
    assert perigee.request("GET", f"/api/v1/endpoints/{name}", listener="control")[0] == 404


def test_a_manifest_of_other_bytes_is_refused(perigee, other, name):  # noqa: F811
    push_model(other)
    wanted = "sha256:" + "0" * 64
    text, kind = other.manifests["models/digits", "v1"]
    other.manifests["models/digits", wanted] = (text, kind)
    said = perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits@{wanted}",
                       status=1).said
    assert "other bytes" in said, said


def test_a_digest_that_is_none_is_told_within_bounds(perigee, other, name):  # noqa: F811
    push_model(other)
    text, kind = other.manifests["models/digits", "v1"]
    said = "sha256:" + "\x1b[31m'" * 500
    other.on_request = lambda handler: "/manifests/" in handler.path and (handler.answer(
        200, text, Content_Type=kind, Docker_Content_Digest=said) or True)
    said = perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1",
                       status=1).said
    assert "Docker-Content-Digest" in said and "\x1b" not in said and len(said) < 600, said


def test_who_a_registry_sends_to_is_not_taken_for_it(perigee, other, name):  # noqa: F811
    """What a store of signed addresses refuses says nothing of credentials, and passes."""
    data = b"behind an address that has run out"
    push_model(other, **{"model.onnx": MODEL, "a.bin": data})
    store = Elsewhere()
    store.on_request = lambda handler: handler.error(403, "DENIED") or True
    other.on_request = lambda handler: digest_of(data) in handler.path and (handler.answer(
        307, Location=f"{store.url}/signed?key=abc") or True)
    try:
        perigee.cli("deploy", name, "--model", f"oci://{other.host}/models/digits:v1", "--no-wait")
        event = perigee.wait_event("copy_failed", endpoint=name)
        assert "may have run out" in event["message"] and "credentials" not in event["message"]
        assert perigee.json("show", name)["state"] == "deploying"
        store.on_request = lambda handler: handler.answer(200, data) or True
        perigee.cli("wait", name)
        assert infer(perigee, name) == 200
    finally:
        store.close()


def test_dockers_registry_is_known_in_any_case(new_perigee, monkeypatch):
    """It is asked where it is: a proxy hears where to."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        one = new_perigee()
        asking = threading.Thread(target=lambda: one.cli("registries", "test", "Docker.IO",
                                                         status=None))
        asking.start()
        proxy.settimeout(DEADLINE)
        connection, _ = proxy.accept()
        with connection:
            connection.settimeout(DEADLINE)
            assert connection.recv(4096).startswith(b"CONNECT registry-1.docker.io:443 ")
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        asking.join(DEADLINE)
        assert not asking.is_alive()


def test_nobody_there(perigee, name):  # noqa: F811
    said = perigee.cli("deploy", name, "--image", "localhost:1/team/app:v1", "--no-wait",
                       status=1).said
    assert "cannot connect to localhost:1" in said, said


# ---- until something answers --------------------------------------------------------------------

def test_an_image_of_another_registry_answers(
        new_perigee, tmp_path_factory, scratch, other):  # noqa: F811
    """With credentials, through an index, in a container that has no way out."""
    server = compile_server(tmp_path_factory.mktemp("server"))
    engine = engine_or_skip("podman")
    image = server_image(server)
    other.auth, other.user = "bearer", ("robot", SECRET)
    push_image(other, "team/deep/shop", image, "amd64")
    other.push("team/deep/shop", "v1", json.dumps({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            descriptor(b"{}", IMAGE, platform={"os": "linux", "architecture": "s390x"}),
            descriptor(image.manifest, IMAGE, platform={"os": "linux", "architecture": "amd64"})],
    }).encode(), media_type=INDEX)
    try:
        one = new_perigee("--engine", f"unix:{engine.socket}")
        add(one, scratch, other)
        one.cli("deploy", "shop", "--image", f"{other.host}/team/deep/shop:v1")
        other.on_request = lambda handler: handler.cut() or True
        status, _, body = one.request("GET", "/", None, {"Host": "shop.localhost"})
        assert (status, body) == (200, b"hello\n")
        assert one.json("show", "shop")["spec"]["image"] == digest_of(image.manifest)
        one.cli("delete", "shop", "--yes")
        until("the end of its containers", lambda: not engine.containers())
        one.stop()
    finally:
        engine.end()
