# SPDX-License-Identifier: Apache-2.0
"""Endpoints of container images: what a file, or a name in the registry, becomes; with Podman and
Docker until something answers."""
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest

from deadline import DEADLINE, until
from engine_case import engine_or_skip
from engines import Image, archive, compile_server, server_image, sha256
from registry import INDEX, Registry, descriptor

RUN = {"Entrypoint": ["/hello"], "ExposedPorts": {"8080/tcp": {}}}


@pytest.fixture(scope="module")
def perigee(homes):
    """One that has no engine: what is deployed is kept, and runs nowhere."""
    return homes("--engine", "unix:/nonexistent/engine.sock")


@pytest.fixture
def name(perigee, request):
    name = "i-" + "".join(c if c.isalnum() else "-" for c in request.node.name.split("[")[0])[5:34]
    name = "-".join(filter(None, name.split("-")))
    yield name
    perigee.cli("delete", name, "--yes")


def plain(content=b"hello\n", **config):
    return Image([("hello", content, 0o755)], config or RUN)


def layout(image, more=(), **platform):
    """An OCI layout as a tar; `more`: further (name, bytes, mode) rows."""
    row = descriptor(image.manifest, "application/vnd.oci.image.manifest.v1+json",
                     **({"platform": platform} if platform else {}))
    rows = [(f"blobs/sha256/{digest[7:]}", data, 0o644)
            for digest, data in [*image.blobs().items(), (row["digest"], image.manifest)]]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [row]}
    return archive([("oci-layout", b'{"imageLayoutVersion": "1.0.0"}', 0o644),
                    ("index.json", json.dumps(index).encode(), 0o644), *rows, *more])


def unpack(tar, folder):
    with tarfile.open(fileobj=io.BytesIO(tar)) as file:
        file.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else \
            file.extractall(folder)
    return folder


def push(perigee, repository, image, tag):
    registry = Registry(perigee, repository)
    for blob in image.blobs().values():
        registry.push_blob(blob)
    status, headers, body = registry.call(
        "PUT", f"manifests/{tag}", image.manifest,
        {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
    assert status == 201, body
    return headers["Docker-Content-Digest"]


def revision(perigee, name, number):
    return next(row for row in perigee.get_json(f"/api/v1/endpoints/{name}/revisions",
                                                "control")["items"] if row["number"] == number)


def deploy(perigee, name, image, *more, **how):
    return perigee.cli("deploy", name, "--image", image, "--no-wait", *more, **how)


# ---- files --------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["docker-archive", "oci-layout", "folder"])
def test_a_file_becomes_a_revision(perigee, scratch, name, form):
    """Uploaded once, kept by its digest, and pulled by who has a client of registries."""
    image = plain(form.encode())
    path = scratch / "image.tar"
    if form == "folder":
        path = unpack(layout(image), scratch / "image.tar.d")
    else:
        path.write_bytes(image.docker_archive() if form == "docker-archive" else layout(image))
    deploy(perigee, name, path)
    spec = perigee.json("show", name)["spec"]
    assert spec["image"].startswith("sha256:") and spec["source"] == str(path)
    if form != "docker-archive":
        assert spec["image"] == sha256(image.manifest)
    row = revision(perigee, name, 1)
    assert row["runtime"] == "image" and row["image"]["digest"] == spec["image"]
    assert row["image"]["port"] == 8080 and row["image"]["config"]["digest"] == image.digest
    assert [layer["digest"] for layer in row["image"]["layers"]] == [sha256(image.layer)]
    assert row["model"]["size"] == len(image.config) + len(image.layer)
    assert "nothing changed" in deploy(perigee, name, path).text
    shown = perigee.cli("show", name).text
    assert spec["image"][:20] in shown and "image.tar" in shown
    exported = perigee.cli("export", name).text
    assert f"image: {spec['image']}" in exported and "read_only" not in exported
    pulled = Registry(perigee, f"default/{name}")
    status, headers, text = pulled.call("GET", "manifests/revision-1")
    assert status == 200 and headers["Docker-Content-Digest"] == spec["image"]
    config = json.loads(text)["config"]["digest"]
    assert pulled.call("GET", f"blobs/{config}")[2] == image.config


def test_a_file_beside_a_spec(perigee, scratch, name):
    """Relative to it, with all that it says of the container; and the same file is sent once."""
    (scratch / "deep").mkdir()
    (scratch / "deep" / "app.tar").write_bytes(layout(plain()))
    (scratch / "deep" / "app.yaml").write_text(
        f"name: {name}\nimage: ./app.tar\nport: 81\npids: 9\nenv: {{A: b}}\n"
        "probes: {readiness: {http: {path: /ok}}}\n")
    perigee.cli("apply", "-f", scratch / "deep", "--no-wait")
    row = revision(perigee, name, 1)
    assert row["image"]["port"] == 81
    wanted = {"pids": 9, "shm": "64MiB", "read_only": True, "egress": [], "env": {"A": "b"},
              "protocol": "http", "probes": {"readiness": {"http": {"path": "/ok"}}}}
    assert {key: row["spec"][key] for key in wanted} == wanted
    perigee.cli("apply", "-f", scratch / "deep", "--no-wait")
    assert perigee.json("show", name)["target"] == 1


def test_flags_change_what_runs(perigee, scratch, name):
    """Of an image, then of an upstream, then of an image again: nothing stays of the other."""
    (scratch / "app.tar").write_bytes(layout(plain()))
    perigee.cli("deploy", name, "--image", "app.tar", "--port", "81", "--no-wait", cwd=scratch)
    assert revision(perigee, name, 1)["image"]["port"] == 81
    perigee.cli("deploy", name, "--upstream", "http://127.0.0.1:9", "--no-wait")
    spec = perigee.json("show", name)["spec"]
    assert "image" not in spec and "port" not in spec and "source" not in spec
    deploy(perigee, name, scratch / "app.tar")
    assert revision(perigee, name, 3)["image"]["port"] == 8080
    assert "one of --model, --image and --upstream" in perigee.cli(
        "deploy", name, "--image", "a23/b", "--model", "c", status=2).said


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_skopeo_makes_the_file(perigee, scratch, name, form):
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed: tools/setup test installs it")
    image = plain(b"by skopeo")
    folder = unpack(layout(image), scratch / "layout")
    target = f"{form}:{scratch}/made.tar" + (":default/x:v1" if form == "docker-archive" else "")
    done = subprocess.run(["skopeo", "--insecure-policy", "--tmpdir", scratch, "copy",
                           f"oci:{folder}", target], capture_output=True, text=True,
                          timeout=DEADLINE, check=False, env={**os.environ, "HOME": str(scratch)})
    assert done.returncode == 0, done.stderr
    assert (scratch / "made.tar").is_dir() == (form == "oci")
    deploy(perigee, name, scratch / "made.tar")
    row = revision(perigee, name, 1)
    assert row["image"]["config"]["digest"] == image.digest and row["image"]["port"] == 8080


@pytest.mark.root
@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_an_engine_saves_the_file(perigee, scratch, name, engine):
    if not shutil.which(engine):
        pytest.skip(f"{engine}'s own command is not installed")
    one = engine_or_skip(engine)
    image = plain(engine.encode())
    (scratch / "image.tar").write_bytes(image.docker_archive())
    there = ["--root", one.folder / "root", "--runroot", one.folder / "run", "--tmpdir",
             one.folder / "tmp"] if engine == "podman" else ["-H", f"unix://{one.socket}"]

    def run(*arguments):
        done = subprocess.run([engine, *there, *arguments], capture_output=True, text=True,
                              timeout=DEADLINE, check=False, cwd=scratch,
                              env={**os.environ, **one.environment(), "HOME": str(scratch)})
        assert done.returncode == 0, done.stderr

    try:
        run("load", "-i", scratch / "image.tar")
        run("tag", image.digest[7:], "team/app:v1")
        run("save", "-o", scratch / "saved.tar", "team/app:v1")
    finally:
        one.end()
    deploy(perigee, name, scratch / "saved.tar")
    assert revision(perigee, name, 1)["image"]["config"]["digest"] == image.digest


# ---- names --------------------------------------------------------------------------------------

def test_a_tag_is_looked_up_once(perigee, name):
    """It moves, and what was deployed stays; the same again is a new revision, which can be taken
    back though no tag names it any more."""
    first = push(perigee, "team/app", plain(b"1"), "v1")
    deploy(perigee, name, "team/app:v1")
    second = push(perigee, "team/app", plain(b"2"), "v1")
    assert perigee.json("show", name)["spec"]["image"] == first
    deploy(perigee, name, "team/app:v1")
    shown = perigee.json("show", name)
    assert shown["spec"]["image"] == second and shown["target"] == 2
    assert shown["source"] == "team/app:v1"
    registry = Registry(perigee, "team/app")
    for digest in (first, second):
        assert registry.call("DELETE", f"manifests/{digest}")[0] == 202
    perigee.cli("rollback", name, "--revision", "1", "--no-wait")
    assert perigee.json("show", name)["spec"]["image"] == first
    blob = revision(perigee, name, 1)["image"]["layers"][0]["digest"]
    assert perigee.request("HEAD", f"/api/v1/blobs/{blob}", listener="control")[0] == 200


def test_an_index_gives_the_image_of_this_machine(perigee, name):
    ours, other = plain(b"ours"), Image([("hello", b"x", 0o755)], RUN, architecture="s390x")
    registry = Registry(perigee, "team/many")
    push(perigee, "team/many", other, "other")
    digest = push(perigee, "team/many", ours, "ours")
    machine = json.loads(ours.config)["architecture"]
    rows = [descriptor(image.manifest, "application/vnd.oci.image.manifest.v1+json",
                       platform={"os": "linux", "architecture": architecture})
            for image, architecture in ((other, "s390x"), (ours, machine))]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}
    kind = {"Content-Type": INDEX}
    assert registry.call("PUT", "manifests/both", json.dumps(index).encode(), kind)[0] == 201
    deploy(perigee, name, "team/many:both")
    assert perigee.json("show", name)["spec"]["image"] == digest
    index["manifests"] = rows[:1]
    assert registry.call("PUT", "manifests/none", json.dumps(index).encode(), kind)[0] == 201
    said = deploy(perigee, name, "team/many:none", status=1).said
    assert "but for: linux/s390x" in said, said


# name: (image, more flags, words of the error)
WRONG = {
    "another-machine": (lambda: Image([("a", b"", 0o755)], RUN, "s390x"), [], "'s390x'"),
    "no-entry-point": (lambda: plain(ExposedPorts={"1/tcp": {}}), [], "command"),
    "no-port": (lambda: plain(Cmd=["/hello"]), [], "say with 'port'"),
    "two-ports": (lambda: plain(Cmd=["/hello"], ExposedPorts={"1/tcp": {}, "2/tcp": {}}), [],
                  "1, 2"),
    "port-above-all": (plain, ["--port", "70000"], "70000 is above 65535"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_run_is_refused(perigee, scratch, case):
    image, flags, words = WRONG[case]
    (scratch / "image.tar").write_bytes(layout(image()))
    done = deploy(perigee, "nothing", scratch / "image.tar", *flags, status=1)
    assert words in done.said, done.said
    assert [row for row in perigee.json("endpoints")["items"] if row["name"] == "nothing"] == []


NAMES = {
    "no-repository": ("team/nowhere:v1", "push it first"),
    "no-tag": ("team/here:v9", "has no manifest 'v9'"),
    "a-model": ("team/model:v1", "it is no container image"),
    "another-registry": ("localhost:1/team/app:v1", "cannot connect to localhost:1"),
    "no-name": ("nginx", "nginx"),
    "no-blob": ("sha256:" + "0" * 64, "is not here"),
    "no-file": ("./nowhere.tar", "No such file"),
    "a-folder": ("/tmp", "it is no OCI layout"),
}


@pytest.mark.parametrize("case", NAMES)
def test_what_is_not_there_is_refused(perigee, case):
    image, words = NAMES[case]
    push(perigee, "team/here", plain(), "v1")
    model = Registry(perigee, "team/model")
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": model.push_blob(b"{}"),
             "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "artifactType": "a/b", "config": empty, "layers": [empty]}
    assert model.call("PUT", "manifests/v1", json.dumps(manifest).encode(),
                      {"Content-Type": manifest["mediaType"]})[0] == 201
    said = deploy(perigee, "nothing", image, status=1).said
    assert words in said, said


def corrupt(data):
    return data.replace(gzip.compress(b"", mtime=0)[:4], b"\x1f\x8b\x08\x01", 1)


# name: (bytes of the file, words of the error)
FILES = {
    "no-tar": (lambda: b"hello " * 1000, ""),
    "nothing": (lambda: b"", ""),
    "half": (lambda: layout(plain())[:2000], ""),
    "a-layer-of-another-digest": (lambda: corrupt(layout(plain(os.urandom(4096)))),
                                  "the bytes that came are"),
    "out-of-the-tar": (lambda: layout(plain(), [("../evil", b"x", 0o644)]), "evil"),
    "a-link-out-of-the-tar": (lambda: layout(plain(), [("blobs/x", "../../../etc/passwd", 0)]),
                              ""),
    "nothing-of-an-image": (lambda: archive([("a", b"b", 0o644)]), ""),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files_are_refused(perigee, scratch, case):
    data, words = FILES[case]
    (scratch / "image.tar").write_bytes(data())
    done = deploy(perigee, "nothing", scratch / "image.tar", status=1)
    assert words in done.said and "image.tar'" in done.said, done.said
    assert [row for row in perigee.json("endpoints")["items"] if row["name"] == "nothing"] == []


def blob_of(folder, digest):
    return folder / "blobs" / "sha256" / digest[7:]


def away(path, link=None):
    path.unlink()
    if link is not None:
        path.symlink_to(link)


def nested(folder, image):
    """An index that names itself cannot be: each names the one before, and the last the image."""
    index = (folder / "index.json").read_bytes()
    for _ in range(5):
        blob_of(folder, sha256(index)).write_bytes(index)
        index = json.dumps({"schemaVersion": 2, "manifests": [descriptor(index, INDEX)]}).encode()
    (folder / "index.json").write_bytes(index)


# name: (what is done to a good folder, words of the error)
FOLDERS = {
    "no-layout": (lambda folder, _: away(folder / "oci-layout"), "it is no OCI layout"),
    "no-index": (lambda folder, _: away(folder / "index.json"), "'index.json' is not in it"),
    "an-index-elsewhere": (lambda folder, _: away(folder / "index.json", "/etc/passwd"),
                           "leads out of it"),
    "no-layer": (lambda folder, image: away(blob_of(folder, sha256(image.layer))),
                 "is not in it"),
    "a-layer-elsewhere": (lambda folder, image: away(blob_of(folder, sha256(image.layer)),
                                                     "../../../layer"), "leads out of it"),
    "a-layer-of-another-size": (lambda folder, image: blob_of(folder, sha256(image.layer))
                                .write_bytes(image.layer + b"x"), "and should have"),
    "a-layer-of-another-digest": (lambda folder, image: blob_of(folder, sha256(image.layer))
                                  .write_bytes(os.urandom(len(image.layer))),
                                  "the bytes that came are"),
    "a-configuration-of-another-digest": (lambda folder, image: blob_of(folder, image.digest)
                                          .write_bytes(b"x" * len(image.config)), "is damaged"),
    "indexes-too-deep": (nested, "name each other too deep"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_wrong_folders_are_refused(perigee, scratch, case):
    """And what they lead to outside is not read, though it is the very layer."""
    change, words = FOLDERS[case]
    image = plain(os.urandom(64))
    (scratch / "layer").write_bytes(image.layer)
    folder = unpack(layout(image), scratch / "image")
    change(folder, image)
    done = deploy(perigee, "nothing", "./image", status=1, cwd=scratch)
    assert words in done.said and "image './image'" in done.said, done.said
    assert [row for row in perigee.json("endpoints")["items"] if row["name"] == "nothing"] == []


def test_a_path_is_not_opened_for_a_client(perigee):
    for path in ("/etc/passwd", "./x.tar"):
        status, _, body = perigee.request(
            "PUT", "/api/v1/endpoints/nothing", json.dumps({"image": path}).encode(),
            {"Content-Type": "application/json"}, listener="control")
        assert status == 400 and "the API opens none" in json.loads(body)["detail"], body


# ---- until something answers --------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["podman", "docker"])
def test_from_a_file_to_an_answer(new_perigee, scratch, tmp_path_factory, kind):
    """Deployed from a file, then another from the registry, then back; gone when deleted."""
    server = compile_server(tmp_path_factory.mktemp("server"))
    engine = engine_or_skip(kind)
    try:
        one = new_perigee("--engine", f"unix:{engine.socket}")
        (scratch / "shop.tar").write_bytes(server_image(server).docker_archive())
        one.cli("deploy", "shop", "--image", scratch / "shop.tar")

        def get():
            return one.request("GET", "/", None, {"Host": "shop.localhost"})
        status, headers, body = get()
        assert (status, body, headers["Perigee-Revision"]) == (200, b"hello\n", "1")
        push(one, "default/shop", server_image(server, "loud"), "v2")
        one.cli("deploy", "shop", "--image", "default/shop:v2")
        until("the second one", lambda: get()[1]["Perigee-Revision"] == "2")
        one.cli("rollback", "shop", "--revision", "1")
        until("the first again", lambda: get()[1]["Perigee-Revision"] == "1")
        assert "image" in one.cli("show", "shop").text
        one.cli("delete", "shop", "--yes")
        until("the end of its containers", lambda: not engine.containers())
        one.stop()
    finally:
        engine.end()
