# SPDX-License-Identifier: Apache-2.0
"""Layers that lead out of the image: names and links that would write, or show, what is this
machine's. They are pushed as they are; it is the engine that unpacks them."""
import json

import pytest

from deadline import until
from engine_case import engine  # fixture  # noqa: F401
from engines import Image, compile_known
from registry import Registry

UP = "../" * 12  # from whatever folder of an engine's storage to the root
SECRET = b"of this machine"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_known(tmp_path_factory.mktemp("asks"), "asks")


@pytest.fixture(scope="module")
def perigee(engine, homes):  # noqa: F811
    one = homes("--engine", f"unix:{engine.socket}")
    yield one
    one.stop()


@pytest.fixture
def outside(scratch):
    """A folder of this machine with a file, and nothing else in it afterwards."""
    (scratch / "secret").write_bytes(SECRET)
    yield scratch
    assert [path.name for path in scratch.iterdir()] == ["secret"]
    assert (scratch / "secret").read_bytes() == SECRET
    assert (scratch / "secret").stat().st_nlink == 1


def evil(path):
    return (path, b"was here", 0o644)


NOT_THERE = "no such file or directory"

# `there` being a folder of this machine: (rows of the layer; why the engine refuses it, or None:
# the image runs, and what the row names is in it)
LAYERS = {
    "a-name-that-leads-up": (lambda there: [evil(f"{UP}{there[1:]}/evil")], None),
    "a-name-from-the-root": (lambda there: [evil(f"{there}/evil")], None),
    "through-a-link-to-the-root": (
        lambda there: [("out", there, 0o777), evil("out/evil")], NOT_THERE),
    "through-a-link-that-leads-up": (
        lambda there: [("out", f"{UP}{there[1:]}", 0o777), evil("out/evil")], NOT_THERE),
    "through-a-link-to-what-it-has": (
        lambda there: [(there[1:], None, 0o755), ("out", there, 0o777), evil("out/evil")], None),
    "a-hard-link-that-leads-up": (
        lambda there: [("link", ("hard", f"{UP}{there[1:]}/secret"), 0o644)], NOT_THERE),
    "a-hard-link-from-the-root": (
        lambda there: [("link", ("hard", f"{there}/secret"), 0o644)], NOT_THERE),
    "over-a-hard-link": (
        lambda there: [("link", ("hard", f"{UP}{there[1:]}/secret"), 0o644), evil("link")],
        NOT_THERE),
}


def deploy(perigee, image):
    Registry(perigee, "default/evil").push("v1", image.manifest, image.blobs().values())
    spec = {"name": "evil", "image": "default/evil:v1",
            "flavor": {"cpu": 1, "memory": "64MiB"}}
    return perigee.cli("apply", "-f", "-", stdin=json.dumps(spec).encode(), status=None)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_writes_and_shows_nothing_outside(perigee, engine, program, outside,  # noqa: F811
                                                  layer):
    rows, why = LAYERS[layer]
    there = str(outside)
    image = Image([("asks", program, 0o755), ("tmp", None, 0o1777), *rows(there)],
                  {"Entrypoint": ["/asks"], "ExposedPorts": {"8080/tcp": {}}})
    done = deploy(perigee, image)
    try:
        assert (done.returncode == 0) == (why is None), done.said
        if why:
            assert "giving the engine the image: the engine says: " in done.said
            assert why in done.said, done.said
        else:
            for name in (f"{there[1:]}/secret", "link"):
                status, _, body = perigee.request("GET", f"/file/{name}", None,
                                                  {"Host": "evil.localhost"})
                assert (status, body) == (200, b"no: No such file or directory")
    finally:
        perigee.cli("delete", "evil", "--yes")
        until("the end of its containers", lambda: not engine.containers())
