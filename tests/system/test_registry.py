# SPDX-License-Identifier: Apache-2.0
"""The OCI registry: the specification's own program, skopeo, and what goes wrong."""
import json
import os
import shutil
import subprocess

import pytest

from deadline import DEADLINE, SANITIZED
from engine_case import engine_or_skip
from engines import Image
from outcomes import TOLD
from perigee import DIGITS
from registry import (IMAGE, INDEX, LAYER, Registry, artifact_of, descriptor, digest_of, image_of)

MODEL = (DIGITS / "digits.onnx").read_bytes()


@pytest.fixture
def shop(perigee):
    return Registry(perigee, "shop/web")


def blob_file(perigee, digest):
    kind, name = digest.split(":")
    return perigee.home / "blobs" / kind / name


def host(perigee):
    return "%s:%d" % perigee.address("control")


def uploads(perigee):
    return list((perigee.home / "blobs" / "uploads").iterdir())


# ---- other people's clients ---------------------------------------------------------------------


def test_the_conformance_program_finds_no_fault(perigee, scratch, record_property):
    program = os.environ.get("PERIGEE_CONFORMANCE")
    if not program:
        pytest.skip("OCI's conformance program is not there: `make test-all` sets it up where "
                    "there is Go 1.24 or later")
    done = subprocess.run([program], capture_output=True, text=True, timeout=DEADLINE, check=False,
                          cwd=scratch, env={"OCI_REGISTRY": host(perigee),
                                            "OCI_TLS": "disabled", "OCI_VERSION": "1.1"})
    record_property(TOLD, done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OCI Conformance Result: Pass" in done.stdout
    assert not uploads(perigee)


def layout(folder, manifest, blobs, tag="v1"):
    """An OCI image layout, as skopeo reads it."""
    (folder / "blobs/sha256").mkdir(parents=True)
    for blob in [manifest, *blobs]:
        (folder / "blobs/sha256" / digest_of(blob)[7:]).write_bytes(blob)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = descriptor(manifest, IMAGE, annotations={"org.opencontainers.image.ref.name": tag})
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return f"oci:{folder}:{tag}"


@pytest.fixture
def skopeo(scratch):
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed: tools/setup test installs it")

    def run(*arguments):
        done = subprocess.run(["skopeo", "--insecure-policy", "--tmpdir", scratch, *arguments],
                              capture_output=True, text=True, timeout=DEADLINE, check=False,
                              env={**os.environ, "HOME": str(scratch)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_skopeo_copies_an_image_there_and_back(perigee, skopeo, scratch, form):
    manifest, blobs = image_of(form.encode())
    name = f"docker://{host(perigee)}/shop/copied:{form}"
    skopeo("copy", "--dest-tls-verify=false", "--format", form,
           layout(scratch / "there", manifest, blobs), name)
    skopeo("copy", "--src-tls-verify=false", name, f"dir:{scratch}/back")
    found = json.loads(skopeo("inspect", "--tls-verify=false", name))
    assert form in found["RepoTags"]
    assert (scratch / "back" / digest_of(blobs[1])[7:]).read_bytes() == blobs[1]
    if form == "oci":
        assert found["Digest"] == digest_of(manifest)
        assert (scratch / "back" / "manifest.json").read_bytes() == manifest
    skopeo("delete", "--tls-verify=false", name)
    assert Registry(perigee, "shop/copied").error("GET", f"manifests/{form}",
                                                  status=404) == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_an_engine_pushes_an_image_and_pulls_it(perigee, scratch, name):
    if not shutil.which(name):
        pytest.skip(f"{name}'s own command is not installed")
    engine = engine_or_skip(name)
    plain = ["--tls-verify=false"] if name == "podman" else []
    theirs = {"DOCKER_CONFIG": str(scratch)} if name == "docker" else {}
    reference = f"{host(perigee)}/shop/{name}:v1"
    image = Image([("hello.txt", b"hello\n", 0o644)], {"Cmd": ["/hello"]})
    (scratch / "image.tar").write_bytes(image.docker_archive())

    def run(*arguments):
        there = ["--root", engine.folder / "root", "--runroot", engine.folder / "run", "--tmpdir",
                 engine.folder / "tmp"] if name == "podman" else ["-H", f"unix://{engine.socket}"]
        done = subprocess.run([name, *there, *arguments], capture_output=True, text=True,
                              timeout=DEADLINE, check=False, cwd=scratch,
                              env={**os.environ, **engine.environment(), **theirs,
                                   "HOME": str(scratch)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run("load", "-i", scratch / "image.tar")
        run("tag", image.digest[7:], reference)
        run("push", *plain, reference)
        run("rmi", "-f", image.digest[7:])
        run("pull", *plain, reference)
        assert image.digest[7:] in run("inspect", "--format", "{{.Id}}", reference)
    finally:
        engine.end()
    status, headers, text = Registry(perigee, f"shop/{name}").call("GET", "manifests/v1")
    assert status == 200 and json.loads(text)["config"]["digest"] == image.digest


@pytest.fixture
def oras(scratch):
    program = os.environ.get("PERIGEE_ORAS")
    if not program:
        pytest.skip("oras is not there: `make test-all` sets it up where there is Go 1.25.7 or "
                    "later")

    def run(*arguments, folder=scratch):
        done = subprocess.run([program, *arguments], capture_output=True, text=True,
                              timeout=DEADLINE, check=False, cwd=folder,
                              env={"HOME": str(scratch), "DOCKER_CONFIG": str(scratch)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_oras_pushes_a_model_and_pulls_what_runs(perigee, homes, oras, scratch):
    pushed = f"{host(perigee)}/models/oras:v1"
    (scratch / "digits.onnx").write_bytes(MODEL)
    (scratch / "note.txt").write_text("by hand\n")
    oras("push", "--plain-http", pushed, "digits.onnx", "note.txt")
    oras("attach", "--plain-http", "--artifact-type", "text/note", pushed, "note.txt")
    assert "text/note" in oras("discover", "--plain-http", "--format", "json", pushed)
    perigee.cli("deploy", "by-oras", "--model", f"oci://{pushed}")
    # Of the revision: what runs, under another tag as well, and that without its endpoint.
    runs = f"{host(perigee)}/default/by-oras"
    oras("tag", "--plain-http", f"{runs}:revision-1", "best")
    oras("push", "--plain-http", f"{runs}:again", "digits.onnx")  # is there, says HEAD
    assert oras("repo", "tags", "--plain-http", runs).split() == ["again", "best", "revision-1"]
    perigee.cli("delete", "by-oras", "--yes")
    for tag, files in (("best", ["digits.onnx", "note.txt"]), ("again", ["digits.onnx"])):
        out = scratch / tag
        oras("pull", "--plain-http", "--output", str(out), f"{runs}:{tag}")
        assert sorted(file.name for file in out.iterdir()) == files
        assert (out / "digits.onnx").read_bytes() == MODEL
    oras("manifest", "delete", "--plain-http", "--force", f"{runs}:best")
    assert Registry(perigee, "default/by-oras").error("GET", "manifests/best",
                                                      status=404) == "MANIFEST_UNKNOWN"


# ---- what stays, what goes ----------------------------------------------------------------------


def test_what_nobody_needs_is_gone_at_once_and_all_else_stays(perigee, shop):
    other = Registry(perigee, "shop/other")
    blob = b"in two repositories"
    digest = shop.push_blob(blob)
    status, headers, _ = other.call("POST", f"blobs/uploads/?mount={digest}&from=shop/web")
    assert status == 201 and headers["Location"] == f"/v2/shop/other/blobs/{digest}"
    assert shop.call("DELETE", f"blobs/{digest}")[0] == 202
    assert shop.error("DELETE", f"blobs/{digest}", status=404) == "BLOB_UNKNOWN"
    assert other.call("GET", f"blobs/{digest}")[2] == blob
    assert other.call("DELETE", f"blobs/{digest}")[0] == 202
    # Collected by the thread that also takes this one.
    shop.push_blob(b"the next thing")
    assert not blob_file(perigee, digest).exists()


def test_a_blob_that_a_revision_runs_is_never_collected(perigee, digits, shop):
    digest = shop.push_blob(MODEL)
    assert shop.call("DELETE", f"blobs/{digest}")[0] == 202
    shop.push_blob(b"and the next")
    assert blob_file(perigee, digest).read_bytes() == MODEL
    perigee.cli("wait", digits)


def test_a_deleted_manifest_takes_its_tags_along(perigee):
    repository = Registry(perigee, "shop/tags")
    manifest, blobs = image_of(b"tagged")
    digest = repository.push("v1", manifest, blobs)
    assert repository.push("v2", manifest) == digest
    assert json.loads(repository.call("GET", "tags/list")[2])["tags"] == ["v1", "v2"]
    assert repository.call("DELETE", "manifests/v1")[0] == 202
    assert repository.call("GET", f"manifests/{digest}")[2] == manifest
    assert repository.call("DELETE", f"manifests/{digest}")[0] == 202
    assert repository.error("GET", "manifests/v2", status=404) == "MANIFEST_UNKNOWN"
    assert json.loads(repository.call("GET", "tags/list")[2])["tags"] == []
    # Its layers wait for an hour: another push may be counting on them.
    assert repository.call("HEAD", f"blobs/{digest_of(blobs[1])}")[0] == 200


def test_a_tag_moves_and_the_digest_does_not(perigee):
    repository = Registry(perigee, "shop/moving")
    first, blobs = image_of(b"one")
    digest = repository.push("latest", first, blobs)
    second, blobs = image_of(b"two")
    repository.push("latest", second, blobs)
    assert repository.call("GET", "manifests/latest")[2] == second
    assert repository.call("GET", f"manifests/{digest}")[2] == first


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_upload_goes_on_after_everything_was_killed(new_perigee, algorithm):
    one = new_perigee()
    repository = Registry(one, "shop/large")
    data = os.urandom(3 << 20)
    half, digest = 1 << 20, digest_of(data, algorithm)
    location = repository.begin()
    kept = repository.push_blob(b"acknowledged before")
    status, headers, _ = repository.call("PATCH", location, data[:half],
                                         {"Content-Range": f"0-{half - 1}"})
    assert status == 202 and headers["Range"] == f"0-{half - 1}"
    one.kill()
    one.start()
    repository = Registry(one, "shop/large")
    assert repository.call("GET", f"blobs/{kept}")[2] == b"acknowledged before"
    status, headers, _ = repository.call("GET", location)
    assert status == 204 and headers["Range"] == f"0-{half - 1}"
    # Out of order: nothing is taken, and the answer says where it is.
    status, headers, _ = repository.call("PATCH", location, data[half + 5:half + 1005],
                                         {"Content-Range": f"{half + 5}-{half + 1004}"})
    assert status == 416 and headers["Range"] == f"0-{half - 1}"
    status, headers, body = repository.call("PUT", f"{location}?digest={digest}", data[half:],
                                            {"Content-Range": f"{half}-{len(data) - 1}"})
    assert status == 201, body
    assert repository.call("GET", headers["Location"])[2] == data
    assert not uploads(one)


def test_a_body_that_breaks_while_a_part_is_written_ends_nothing_else(perigee):
    repository = Registry(perigee, "shop/broken")
    before, location = perigee.role_pid("control"), repository.begin()
    part = b"x" * (512 << 10)  # a whole buffer: a thread has it when the rest comes
    for round in range(20):
        with perigee.connect("control") as sock:
            sock.sendall(f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n80000\r\n".encode() + part +
                         b"\r\nzz\r\n")
            assert sock.recv(12) == b"HTTP/1.1 400", round
        status, headers, _ = repository.call("GET", location)
        assert status == 204 and headers["Range"] == f"0-{(round + 1) * len(part) - 1}"
    assert perigee.role_pid("control") == before
    assert repository.call("DELETE", location)[0] == 204


def test_an_upload_is_of_its_repository_alone(perigee, shop):
    location = shop.begin()
    elsewhere = location.replace("/shop/web/", "/shop/other/")
    assert shop.error("GET", elsewhere, status=404) == "BLOB_UPLOAD_UNKNOWN"
    assert shop.error("PUT", f"{elsewhere}?digest={digest_of(b'')}", b"",
                      status=404) == "BLOB_UPLOAD_UNKNOWN"
    assert shop.call("DELETE", location)[0] == 204
    assert shop.error("GET", location, status=404) == "BLOB_UPLOAD_UNKNOWN"


def test_uploads_that_were_left_give_way(new_perigee):
    one = new_perigee(part="control")
    repository = Registry(one, "shop/left")
    locations = [repository.begin() for _ in range(64)]
    status, _, body = repository.call("POST", "blobs/uploads/")
    [error] = json.loads(body)["errors"]
    assert status == 503 and error["code"] == "TOOMANYREQUESTS"
    assert "64 uploads into this repository are not whole yet" in error["message"]
    Registry(one, "shop/other").begin()
    left = locations[7].rsplit("/", 1)[1]
    [file] = [file for file in uploads(one) if file.name.startswith(left)]
    os.utime(file, (0, file.stat().st_mtime - 301))
    location = repository.begin()
    assert repository.error("GET", locations[7], status=404) == "BLOB_UPLOAD_UNKNOWN"
    digest = digest_of(b"in its place")
    status, _, body = repository.call("PUT", f"{location}?digest={digest}", b"in its place")
    assert status == 201, body


def test_lists_come_in_pages(perigee):
    repository = Registry(perigee, "shop/pages")
    manifest, blobs = image_of(b"pages")
    subject = repository.push("v1", manifest, blobs)
    for tag in ("v2", "v3"):
        repository.push(tag, manifest)
    status, headers, body = repository.call("GET", "tags/list?n=2")
    assert json.loads(body) == {"name": "shop/pages", "tags": ["v1", "v2"]}
    link = headers["Link"]
    assert link.endswith('>; rel="next"')
    assert json.loads(repository.call("GET", link[1:link.index(">")])[2])["tags"] == ["v3"]
    pushed = set()
    for i in range(103):
        referrer = json.loads(manifest)
        referrer["subject"] = {"mediaType": IMAGE, "digest": subject, "size": len(manifest)}
        referrer["artifactType"] = "text/plain" if i % 2 else "text/html"
        referrer["annotations"] = {"number": str(i)}
        text = json.dumps(referrer).encode()
        status, headers, body = repository.call("PUT", f"manifests/{digest_of(text)}", text,
                                                {"Content-Type": IMAGE})
        assert status == 201 and headers["OCI-Subject"] == subject, body
        pushed.add(digest_of(text))
    found, path = [], f"referrers/{subject}"
    while path:
        status, headers, body = repository.call("GET", path)
        assert status == 200 and headers["Content-Type"] == INDEX
        found += json.loads(body)["manifests"]
        path = headers["Link"][1:headers["Link"].index(">")] if "Link" in headers else None
    assert len(found) == 103 and {one["digest"] for one in found} == pushed
    assert {one["annotations"]["number"] for one in found} == {str(i) for i in range(103)}
    status, headers, body = repository.call("GET", f"referrers/{subject}?artifactType=text/plain")
    assert headers["OCI-Filters-Applied"] == "artifactType"
    assert len(json.loads(body)["manifests"]) == 51


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory says nothing of ours")
def test_a_page_of_referrers_costs_little_more_than_one_of_them(new_perigee):
    """They are read for their annotations, one after the other: what is in them may be much."""
    one = new_perigee(part="control")
    repository = Registry(one, "shop/much")
    manifest, blobs = image_of(b"much")
    subject = repository.push("v1", manifest, blobs)
    for i in range(16):
        referrer = json.loads(manifest)
        referrer["subject"] = {"mediaType": IMAGE, "digest": subject, "size": len(manifest)}
        referrer["annotations"] = {"number": str(i)}
        referrer["more"] = [1] * 150_000
        text = json.dumps(referrer).encode()
        repository.push(digest_of(text), text)
    before = most_memory(one)
    status, headers, body = repository.call("GET", f"referrers/{subject}")
    assert status == 200 and len(json.loads(body)["manifests"]) == 16 and "Link" not in headers
    assert most_memory(one) - before < 16 << 20


def most_memory(perigee):
    """The most that control had resident so far."""
    with open(f"/proc/{perigee.role_pid('control')}/status", encoding="ascii") as file:
        [line] = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def test_a_backup_has_the_registry_in_it(new_perigee, scratch):
    one = new_perigee()
    repository = Registry(one, "shop/kept")
    manifest, blobs = image_of(b"kept")
    digest = repository.push("v1", manifest, blobs)
    data = b"named by SHA-512"
    long = repository.push_blob(data, digest_of(data, "sha512"))
    one.cli("backup", scratch / "backup.tar")
    two = new_perigee(start=False)
    two.cli("restore", scratch / "backup.tar")
    two.start()
    repository = Registry(two, "shop/kept")
    assert repository.call("GET", "manifests/v1")[2] == manifest
    assert repository.call("GET", f"blobs/{digest_of(blobs[1])}")[2] == blobs[1]
    assert repository.call("GET", f"blobs/{long}")[2] == data
    assert repository.call("HEAD", f"manifests/{digest}")[0] == 200


@pytest.mark.root
def test_a_push_that_fills_the_disk_leaves_it_as_it_was(new_perigee):
    one = new_perigee(start=False, part="control")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs",
                              str(one.home)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small disk here: " + mounted.stderr.decode().strip())
    try:
        one.start()
        repository = Registry(one, "shop/full")
        location = repository.begin()
        for _ in range(16):
            status, _, body = repository.call("PATCH", location, bytes(1 << 20))
            if status != 202:
                break
        assert status == 503 and json.loads(body)["errors"][0]["code"] == "TOOMANYREQUESTS"
        assert not uploads(one)
        assert repository.error("GET", location, status=404) == "BLOB_UPLOAD_UNKNOWN"
        digest = repository.push_blob(b"small enough")
        assert repository.call("GET", f"blobs/{digest}")[2] == b"small enough"
    finally:
        one.stop()
        subprocess.run(["umount", "-l", str(one.home)], check=False)


# ---- models -------------------------------------------------------------------------------------


def test_a_model_that_was_pushed_is_deployed_by_its_tag(perigee, homes):
    models = Registry(perigee, "models/digits")
    manifest, blobs = artifact_of(("digits.onnx", MODEL))
    models.push("v1", manifest, blobs)
    reference = f"oci://{host(perigee)}/models/digits:v1"
    perigee.cli("deploy", "pushed", "--model", reference)
    view = perigee.json("show", "pushed")
    assert view["state"] == "active" and view["spec"]["model"] == digest_of(MODEL)
    assert view["spec"]["source"] == reference
    assert "nothing" in perigee.cli("deploy", "pushed", "--model", reference).text
    # The tag moves; the revision does not, until somebody deploys again. No host: ours.
    more, blobs = artifact_of(("model.onnx", MODEL), ("labels/names.txt", b"zero\none\n"))
    models.push("v1", more, blobs)
    assert perigee.json("show", "pushed")["target"] == 1
    perigee.cli("deploy", "pushed", "--model", "oci://models/digits:v1")
    view = perigee.json("show", "pushed")
    assert view["target"] == 2 and view["state"] == "active"
    folder = perigee.home / "models" / view["spec"]["model"][7:]
    assert (folder / "labels/names.txt").read_bytes() == b"zero\none\n"
    perigee.cli("delete", "pushed", "--yes")


def test_a_revision_is_pulled_as_an_artifact(perigee, digits, scratch):
    repository = Registry(perigee, "default/digits")
    status, headers, text = repository.call("GET", "manifests/revision-1")
    assert status == 200 and headers["Content-Type"] == IMAGE
    assert headers["Docker-Content-Digest"] == digest_of(text)
    assert repository.call("GET", f"manifests/{digest_of(text)}")[2] == text
    manifest = json.loads(text)
    assert manifest["artifactType"] == "application/vnd.perigee.model.v1"
    [layer] = manifest["layers"]
    assert layer["annotations"]["org.opencontainers.image.title"] == "digits.onnx"
    assert repository.call("GET", f"blobs/{layer['digest']}")[2] == MODEL
    assert repository.call("GET", f"blobs/{manifest['config']['digest']}")[2] == b"{}"
    assert "revision-1" in json.loads(repository.call("GET", "tags/list")[2])["tags"]
    assert repository.error("GET", "manifests/revision-99", status=404) == "MANIFEST_UNKNOWN"
    assert repository.error("PUT", "manifests/revision-7", text, {"Content-Type": IMAGE},
                            status=403) == "DENIED"
    # One is another's source.
    perigee.cli("deploy", "copied", "--model", "oci://default/digits:revision-1")
    assert perigee.json("show", "copied")["spec"]["model"] == digest_of(MODEL)
    perigee.cli("delete", "copied", "--yes")


def test_a_revision_is_tagged_and_then_stays_without_its_endpoint(perigee, homes, scratch):
    """As `oras tag`, and `oras push` of a file that is here, do: HEAD, then the manifest alone."""
    model = scratch / "model"
    model.mkdir()
    (model / "model.onnx").write_bytes(MODEL)
    (model / "names.txt").write_bytes(b"of a revision alone\n")
    perigee.cli("deploy", "tagged", "--model", model)
    repository = Registry(perigee, "default/tagged")
    text = repository.call("GET", "manifests/revision-1")[2]
    manifest = json.loads(text)
    parts = [manifest["config"], *manifest["layers"]]
    assert all(repository.call("HEAD", f"blobs/{part['digest']}")[0] == 200 for part in parts)
    # A size that is not the blob's is still one.
    wrong = json.loads(text)
    wrong["layers"][0]["size"] += 1
    assert repository.error("PUT", "manifests/copy", json.dumps(wrong), {"Content-Type": IMAGE},
                            status=400) == "MANIFEST_INVALID"
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX,
                        "manifests": [descriptor(text, IMAGE)]}).encode()
    repository.push("all", index, media_type=INDEX)
    assert repository.push("copy", text) == digest_of(text)
    tags = json.loads(repository.call("GET", "tags/list")[2])["tags"]
    assert tags == ["all", "copy", "revision-1"]
    perigee.cli("delete", "tagged", "--yes")
    assert repository.call("GET", "manifests/copy")[2] == text
    assert repository.call("GET", "manifests/all")[2] == index
    assert [repository.call("GET", f"blobs/{part['digest']}")[2] for part in parts] == [
        b"{}", *({"model.onnx": MODEL, "names.txt": b"of a revision alone\n"}[
            layer["annotations"][TITLE]] for layer in manifest["layers"])]


TITLE = "org.opencontainers.image.title"
SOURCES = {
    "nobody-pushed-it": ("models/none:v1", None, "there is no repository"),
    "no-such-tag": ("models/source:none", None, "has no manifest"),
    "an-image": ("models/source:v1", image_of(b"no model"), "has no title"),
    "a-path-upwards": ("models/source:v1", artifact_of(("../../model.onnx", MODEL)),
                       "not plainly below"),
    "a-whole-path": ("models/source:v1", artifact_of(("/etc/model.onnx", MODEL)),
                     "not plainly below"),
    "one-name-twice": ("models/source:v1", artifact_of(("a.onnx", MODEL), ("a.onnx", b"x")),
                       "twice"),
    "a-packed-folder": ("models/source:v1", artifact_of(("model.onnx", MODEL), layers=[
        descriptor(MODEL, LAYER, annotations={TITLE: "m", "io.deis.oras.content.unpack": "true"})]),
                        "packed into one layer"),
    "nothing-in-it": ("models/source:v1", artifact_of(), "1 to 4096 files"),
    "another-registry": ("localhost:1/models/source:v1", None, "cannot connect to localhost:1"),
    "deeper": ("models/source/deeper:v1", None, "nothing deeper"),
    "no-reference": ("models", None, "no repository's name"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_wrong_sources(perigee, case):
    reference, pushed, word = SOURCES[case]
    source = Registry(perigee, "models/source")
    if pushed:
        source.push("v1", *pushed)
    else:
        source.push("v0", *artifact_of(("model.onnx", MODEL)))
    said = perigee.cli("deploy", "wrong-one", "--model", f"oci://{reference}", status=1).said
    assert word in said, said
    assert perigee.request("GET", "/api/v1/endpoints/wrong-one", listener="control")[0] == 404


def test_a_model_whose_file_was_deleted_is_refused(perigee):
    source = Registry(perigee, "models/gone")
    source.push("v1", *artifact_of(("model.onnx", b"not a model, and gone")))
    source.call("DELETE", f"blobs/{digest_of(b'not a model, and gone')}")
    said = perigee.cli("deploy", "wrong-one", "--model", "oci://models/gone:v1", status=1).said
    assert "was deleted from its repository" in said, said


# ---- bad input ----------------------------------------------------------------------------------


def changed(**more):
    manifest, _ = image_of(b"bad")
    return json.dumps({**json.loads(manifest), **more}).encode()


def of_layers(*layers):
    return changed(layers=list(layers))


MISSING = {"mediaType": LAYER, "digest": "sha256:" + "0" * 64, "size": 3}
MANIFESTS = {
    "no-json": (b"{", 400, "MANIFEST_INVALID"),
    "empty": (b"", 400, "MANIFEST_INVALID"),
    "schema-1": (b'{"schemaVersion": 1, "fsLayers": []}', 400, "MANIFEST_INVALID"),
    "no-type-of-ours": (changed(mediaType="text/plain"), 400, "MANIFEST_INVALID"),
    "image-and-index": (changed(manifests=[]), 400, "MANIFEST_INVALID"),
    "no-config": (b'{"schemaVersion": 2, "layers": []}', 400, "MANIFEST_INVALID"),
    "key-twice": (b'{"schemaVersion": 2, "schemaVersion": 2}', 400, "MANIFEST_INVALID"),
    "digest-with-a-path": (of_layers({**MISSING, "digest": "sha256:../../../etc/passwd"}), 400,
                           "MANIFEST_INVALID"),
    "unknown-algorithm": (of_layers({**MISSING, "digest": "md5:" + "0" * 32}), 400,
                          "MANIFEST_INVALID"),
    "negative-size": (of_layers({**MISSING, "size": -1}), 400, "MANIFEST_INVALID"),
    "layer-not-there": (of_layers(MISSING), 400, "MANIFEST_BLOB_UNKNOWN"),
    "size-that-lies": (of_layers({**descriptor(b"there", LAYER), "size": 4}), 400,
                       "MANIFEST_INVALID"),
    "too-many-layers": (of_layers(*[MISSING] * 5000), 400, "MANIFEST_INVALID"),
    "annotation-no-string": (changed(annotations={"a": 1}), 400, "MANIFEST_INVALID"),
    "deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, "MANIFEST_INVALID"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_wrong_manifests(perigee, case):
    repository = Registry(perigee, "shop/bad")
    _, blobs = image_of(b"bad")
    for blob in [*blobs, b"there"]:
        repository.push_blob(blob)
    text, status, code = MANIFESTS[case]
    headers = {"Content-Type": IMAGE}
    assert repository.error("PUT", "manifests/v1", text, headers, status=status) == code
    assert repository.error("GET", "manifests/v1", status=404) == "MANIFEST_UNKNOWN"


def test_a_manifest_that_is_too_large_is_not_read(perigee):
    with perigee.connect("control") as link:
        link.sendall(b"PUT /v2/shop/bad/manifests/v1 HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 4194305\r\n\r\n")
        answer = link.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"SIZE_INVALID"' in answer


def test_an_index_names_manifests_that_are_there(perigee):
    repository = Registry(perigee, "shop/index")
    manifest, blobs = image_of(b"index")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX,
                        "manifests": [descriptor(manifest, IMAGE)]}).encode()
    assert repository.error("PUT", "manifests/all", index, {"Content-Type": INDEX},
                            status=400) == "MANIFEST_BLOB_UNKNOWN"
    repository.push(digest_of(manifest), manifest, blobs)
    repository.push("all", index, media_type=INDEX)
    assert repository.call("GET", "manifests/all")[1]["Content-Type"] == INDEX


CALLS = {
    "deeper-path": ("GET", "/v2/shop/web/deeper/tags/list", 404, "NAME_INVALID"),
    "one-name": ("GET", "/v2/web/tags/list", 404, "NAME_INVALID"),
    "project": ("GET", "/v2/Sh/web/tags/list", 400, "NAME_INVALID"),
    "capitals": ("GET", "/v2/shop/Web/tags/list", 400, "NAME_INVALID"),
    "dots": ("GET", "/v2/shop/%2e%2e/tags/list", 400, "NAME_INVALID"),
    "unknown-repository": ("GET", "/v2/shop/nowhere/tags/list", 404, "NAME_UNKNOWN"),
    "number": ("GET", "/v2/shop/web/tags/list?n=x", 400, "UNSUPPORTED"),
    "tag": ("GET", "/v2/shop/web/manifests/-x", 400, "MANIFEST_INVALID"),
    "digest": ("GET", "/v2/shop/web/blobs/sha256:12", 400, "DIGEST_INVALID"),
    "digest-path": ("GET", "/v2/shop/web/blobs/sha256:..%2f..%2fx", 400, "DIGEST_INVALID"),
    "no-digest": ("PUT", "/v2/shop/web/blobs/uploads/" + "0" * 32, 400, "DIGEST_INVALID"),
    "unknown-upload": ("PATCH", "/v2/shop/web/blobs/uploads/" + "0" * 32, 404,
                       "BLOB_UPLOAD_UNKNOWN"),
    "upload-path": ("GET", "/v2/shop/web/blobs/uploads/..%2f..%2fx", 404, "BLOB_UPLOAD_UNKNOWN"),
    "method": ("POST", "/v2/shop/web/tags/list", 405, "UNSUPPORTED"),
    "mount": ("POST", "/v2/shop/web/blobs/uploads/?mount=sha256:12", 400, "DIGEST_INVALID"),
}


@pytest.mark.parametrize("case", CALLS)
def test_wrong_calls(shop, case):
    method, path, status, code = CALLS[case]
    assert shop.error(method, path, status=status) == code


def test_other_bytes_than_were_said(perigee, shop):
    wrong = digest_of(b"something else")
    location = shop.begin()
    assert shop.error("PUT", f"{location}?digest={wrong}", b"corrupt",
                      status=400) == "DIGEST_INVALID"
    assert not uploads(perigee)
    manifest, blobs = image_of(b"corrupt")
    shop.push("there", manifest, blobs)
    assert shop.error("PUT", f"manifests/{wrong}", manifest, {"Content-Type": IMAGE},
                      status=400) == "DIGEST_INVALID"
    location = shop.begin()
    assert shop.error("PATCH", location, b"1234", {"Content-Range": "0-9"},
                      status=400) == "SIZE_INVALID"
    assert shop.error("PATCH", location, b"1234", {"Content-Range": "4-1"},
                      status=400) == "BLOB_UPLOAD_INVALID"
    assert shop.call("DELETE", location)[0] == 204


def test_an_upload_that_is_cut_off_keeps_what_came(perigee, shop):
    location = shop.begin()
    whole = b"x" * (1 << 20)
    link = perigee.connect("control")
    link.sendall(f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\n"
                 f"Content-Length: {4 << 20}\r\n\r\n".encode() + whole)
    link.close()
    status, headers, _ = shop.call("GET", location)
    assert status == 204 and int(headers["Range"].split("-")[1]) < len(whole)
    assert shop.call("HEAD", f"blobs/{shop.push_blob(b'another')}")[0] == 200


def test_web_pages_may_not_push(shop):
    for headers, status in (({"Origin": "http://evil.example"}, 403),
                            ({"Sec-Fetch-Site": "cross-site"}, 403),
                            ({"Host": "evil.example"}, 421)):
        assert shop.error("POST", "blobs/uploads/", None, headers, status=status) == "DENIED"
        assert shop.error("DELETE", "manifests/v1", None, headers, status=status) == "DENIED"
