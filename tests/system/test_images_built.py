# SPDX-License-Identifier: Apache-2.0
"""An image as people make them: built by podman of a Dockerfile, in several layers of which later
ones take away what earlier ones brought, pushed to control's registry by podman, and run by what it
says itself. With Podman and Docker."""
import gzip
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

import pytest

from deadline import DEADLINE, until
from engine_case import engine  # fixture  # noqa: F401
from engines import BUSYBOX, Missing, Podman, compile_known, unmount
from registry import Registry

NAME = "localhost/team/built:v1"
DOCKERFILE = """
FROM scratch
COPY busybox asks /
COPY gone kept /data/
COPY old /deep/
RUN ["/busybox", "rm", "/data/gone"]
RUN ["/busybox", "sh", "-c", "/busybox rm -r /deep && /busybox mkdir /deep && echo 2 > /deep/new"]
ENV LEVEL="two words"
USER 1234:5678
EXPOSE 9090
ENTRYPOINT ["/asks"]
CMD ["and", "more"]
"""


class Builder:
    """podman's command with a storage of its own, without a service."""

    def __init__(self, folder):
        self.folder, self.podman = folder, Podman(folder)

    def run(self, *arguments):
        there = ["--root", self.folder / "root", "--runroot", self.folder / "run", "--tmpdir",
                 self.folder / "tmp"]
        env = {**os.environ, **self.podman.environment(), "HOME": str(self.folder),
               "TMPDIR": str(self.folder)}
        done = subprocess.run(["podman", *there, *arguments], capture_output=True, text=True,
                              timeout=2 * DEADLINE, check=False, cwd=self.folder, env=env)
        assert done.returncode == 0, done.stdout + done.stderr

    def build(self, program):
        context = self.folder / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        shutil.copy(BUSYBOX, context / "busybox")
        (context / "asks").write_bytes(program)
        (context / "asks").chmod(0o755)
        for name in ("gone", "kept", "old"):
            (context / name).write_text(f"{name}\n")
        self.run("build", "--pull=never", "--network", "none", "--layers", "-t", NAME, context)

    def push(self, perigee):
        self.run("push", "--tls-verify=false", NAME,
                 "docker://%s:%d/team/built:v1" % perigee.address("control"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("no engine: engines are tried as root alone")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pg-build-", dir="/tmp"))
    try:
        builder = Builder(folder)
        builder.build(compile_known(tmp_path_factory.mktemp("asks"), "asks"))
        yield builder
    except Missing as why:
        pytest.skip(f"no engine: {why}")
    finally:
        unmount(folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def perigee(engine, homes, built):  # noqa: F811
    one = homes("--engine", f"unix:{engine.socket}")
    built.push(one)
    one.cli("deploy", "built", "--image", "team/built:v1")
    yield one
    one.cli("delete", "built", "--yes")
    until("the end of its containers", lambda: not engine.containers())
    one.stop()


def pushed(perigee):
    registry = Registry(perigee, "team/built")
    status, _, text = registry.call("GET", "manifests/v1")
    assert status == 200
    return registry, json.loads(text)


def asked(perigee, question):
    status, _, body = perigee.request("GET", question, None, {"Host": "built.localhost"})
    assert status == 200, body
    return body.decode()


def test_it_has_layers_that_take_away_what_others_brought(perigee):
    """What the others are about: a file that is gone, and a folder that begins anew."""
    registry, manifest = pushed(perigee)
    names = []
    for layer in manifest["layers"]:
        assert layer["mediaType"].endswith("tar+gzip")
        data = gzip.decompress(registry.call("GET", f"blobs/{layer['digest']}")[2])
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names.append(tar.getnames())
    assert len(names) >= 4
    first = {name: at for at, row in reversed([*enumerate(names)]) for name in row}
    assert first["data/gone"] < first["data/.wh.gone"]
    assert first["deep/old"] < first["deep/.wh..wh..opq"] <= first["deep/new"]


FOUND = {
    "/file/data/gone": "no: No such file or directory",
    "/file/data/kept": "ok: kept\n",
    "/file/deep/old": "no: No such file or directory",
    "/file/deep/new": "ok: 2\n",
    "/who": "ok: 1234 5678",
    "/env/LEVEL": "ok: two words",
    "/env/PORT": "ok: 9090",
    "/words": "ok: and more",
}


def test_it_runs_as_its_own_configuration_says(perigee):
    """It was deployed by its name and nothing else: where it listens is what it exposes."""
    assert {question: asked(perigee, question) for question in FOUND} == FOUND
    row = perigee.get_json("/api/v1/endpoints/built/revisions", "control")["items"][0]
    assert row["image"]["port"] == 9090
    assert len(row["image"]["layers"]) == len(pushed(perigee)[1]["layers"])


def test_the_engine_has_the_image_that_was_built(perigee, engine):  # noqa: F811
    """By its configuration's digest: the layers are those that podman made."""
    [row] = engine.containers()
    assert row["ImageID"] == pushed(perigee)[1]["config"]["digest"]
