# SPDX-License-Identifier: Apache-2.0
"""What tests of other registries share: a Perigee that copies, and a registry to copy from."""
import hashlib
import json

import pytest

from elsewhere import Elsewhere
from perigee import DIGITS
from registry import artifact_of

MODEL = (DIGITS / "digits.onnx").read_bytes()
SECRET = "correct horse battery staple"


@pytest.fixture(scope="module")
def perigee(homes):
    """One that has no engine: images are kept, models run."""
    return homes("--engine", "unix:/nonexistent/engine.sock")


@pytest.fixture
def other():
    registry = Elsewhere()
    yield registry
    registry.close()


@pytest.fixture
def name(perigee, request):
    name = f"e-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    yield name
    perigee.cli("delete", name, "--yes", status=None)


def push_model(other, repository="models/digits", tag="v1", **files):
    rows = files or {"model.onnx": MODEL}
    return other.push(repository, tag, *artifact_of(*rows.items()))


def infer(perigee, name):
    return perigee.request("POST", f"/v2/models/{name}/infer", {"inputs": [
        {"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]})[0]


def secret_file(scratch, text=SECRET):
    path = scratch / "password"
    path.write_text(text + "\n")
    return path


def add(perigee, scratch, other, user="robot", password=SECRET):
    perigee.cli("registries", "add", other.host, "--username", user, "--password-file",
                secret_file(scratch, password))


def kinds(perigee, name):
    lines = perigee.cli("events", name, "--json").text.splitlines()
    return [json.loads(line)["kind"] for line in lines]
