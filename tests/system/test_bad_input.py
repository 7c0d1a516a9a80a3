# SPDX-License-Identifier: Apache-2.0
"""Bad input: a clear error, and nothing lost. tests/bad_input.md lists each case with its test."""
import json
import os
import re
import socket
import sqlite3
import struct
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import OUTCOMES
from deadline import DEADLINE, SANITIZED
from oip import Wire, split_body, tensor
from perigee import DIGITS, PROGRAM, ROOT

LIST = ROOT / "tests" / "bad_input.md"
MODEL = DIGITS / "digits.onnx"
INFER = "/v2/models/digits/infer"


@pytest.fixture
def intact(perigee, digits):
    """Whatever is sent, the endpoint goes on as it was, by the same replica."""
    before = perigee.json("show", digits)
    yield
    good = [tensor("image", "FP32", [1, 64], [0] * 64)]
    status, _, body = perigee.request("POST", INFER, {"inputs": good})
    assert status == 200, body
    after = perigee.json("show", digits)
    for key in ("generation", "target", "serving", "state", "deaths"):
        assert after[key] == before[key]
    assert [r["pid"] for r in after["replicas"]] == [r["pid"] for r in before["replicas"]]


# --- requests ------------------------------------------------------------------------------------

PIXELS = [0] * 64


def request(**changes):
    """A request that is right but for what is changed; a value of None leaves the key out."""
    row = {**tensor("image", "FP32", [1, 64], PIXELS), **changes}
    return {"inputs": [{key: value for key, value in row.items() if value is not None}]}


# name: (what is sent, the status, words of the error)
REQUESTS = {
    "unknown-input": (request(name="imago"), 400, "imago"),
    "no-name": (request(name=None), 400, "name"),
    "no-input": ({"inputs": []}, 400, "image"),
    "input-twice": ({"inputs": request()["inputs"] * 2}, 400, "image"),
    "unknown-output": ({**request(), "outputs": [{"name": "labels"}]}, 400, "labels"),
    "unknown-datatype": (request(datatype="FP128"), 400, "FP128"),
    "other-datatype": (request(datatype="INT64"), 400, "INT64"),
    "other-rank": (request(shape=[64]), 400, "shape"),
    "other-shape": (request(shape=[8, 8]), 400, "shape"),
    "no-shape": (request(shape=None), 400, "shape"),
    "negative-dimension": (request(shape=[-1, 64]), 400, "-1"),
    "dimension-not-whole": (request(shape=[1.5, 64]), 400, "integer"),
    "overflowing-product": (request(shape=[2**62, 64]), 413, "too large"),
    "dimension-too-large": (request(shape=[2**64, 64]), 400, "64 bits"),
    "too-few": (request(data=PIXELS[1:]), 400, "fewer than the 64 elements"),
    "too-many": (request(data=PIXELS + [0]), 400, "more than the 64 elements"),
    "no-data": (request(data=None), 400, "data"),
    "string-for-number": (request(data=["0"] * 64), 400, "number"),
    "null-for-number": (request(data=[None] * 64), 400, "number"),
    "list-for-request": ([], 400, "a JSON object is expected, and this begins with '[]'"),
    "inputs-no-list": ({"inputs": {}}, 400, "array"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_request(perigee, intact, case):
    body, wanted, words = REQUESTS[case]
    status, headers, text = perigee.request("POST", INFER, body)
    error = json.loads(text)["error"]
    assert status == wanted, error
    assert headers["Perigee-Error"] == ("bad_input" if wanted == 400 else "too_large")
    assert words in error
    assert len(error) < 600


DEEP = 100_000
GOOD = json.dumps(request())
TEXTS = {
    "empty": ("", 400, "the body is empty"),
    "not-json": ("nonsense", 400, "this begins with 'nonsense'"),
    "cut": (GOOD[:-2], 400, "a value is not closed"),
    "trailing": (GOOD + "x", 400, "does not end with the '}'"),
    "comma": (GOOD[:-1] + ",}", 400, "a key in quotes is expected"),
    "twice-a-key": (GOOD[:-1] + ', "inputs": []}', 400, "twice"),
    "not-utf8": (GOOD.encode().replace(b"image", b"im\xffge"), 400, "UTF-8"),
    "nan": (GOOD.replace("[0,", "[NaN,").replace("[0, ", "[NaN, "), 400, "NaN"),
    "deep-lists": ("[" * DEEP + "]" * DEEP, 400, "this begins with '[["),
    "deep-objects": ('{"a":' * DEEP + "1" + "}" * DEEP, 400, "deep"),
    "deep-data": ('{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": '
                  + "[" * DEEP + "0" + "]" * DEEP + "}]}", 400, "deep"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_json(perigee, intact, case):
    text, wanted, words = TEXTS[case]
    body = text if isinstance(text, bytes) else text.encode()
    status, headers, answer = perigee.request("POST", INFER, body,
                                              {"Content-Type": "application/json"})
    assert status == wanted, answer
    assert headers["Perigee-Error"] == "bad_input"
    assert words in json.loads(answer)["error"] and len(json.loads(answer)["error"]) < 600


def test_huge_json(perigee, intact):
    """Larger than limits.body: refused by its length, and when it has none by what comes."""
    with perigee.connect() as connection:
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                           f"application/json\r\nContent-Length: {10**12}\r\n\r\n".encode())
        assert connection.recv(65536).split(b" ", 2)[1] == b"413"

    with Wire(perigee) as wire:
        answer = wire.send_chunks(INFER, {"Content-Type": "application/json"},
                                  b'{"inputs": [' + b" " * (80 << 20)).answer()
    assert answer.status == 413 and answer.headers["perigee-error"] == "too_large"
    assert "(json_bytes_max)" in json.loads(answer.body)["error"]


def binary(size, said, shape=(1, 64), more=b""):
    row = tensor("image", "FP32", shape, binary_data_size=said)
    return split_body({"inputs": [row]}, bytes(size) + more)


BINARY = {
    "too-short": binary(252, 252),
    "too-long": binary(260, 260),
    "says-more-than-there-is": binary(256, 512),
    "says-less-than-there-is": binary(256, 128),
    "negative": binary(256, -256),
    "absurd": binary(256, 2**63),
    "bytes-behind": binary(256, 256, more=b"surplus"),
    "no-bytes": binary(0, 256),
    "overflowing-shape": binary(256, 256, shape=(2**61, 64)),
}


@pytest.mark.parametrize("case", BINARY)
def test_binary_length(perigee, intact, case):
    headers, body = BINARY[case]
    status, got, answer = perigee.request("POST", INFER, body, headers)
    assert status == (413 if case == "overflowing-shape" else 400), answer
    assert got["Perigee-Error"] in ("bad_input", "too_large") and json.loads(answer)["error"]


@pytest.mark.parametrize("length", ["99999999", "-1", "x", "", "1", "18446744073709551616"],
                         ids=["beyond", "negative", "text", "empty", "inside", "overflowing"])
def test_inference_header_length(perigee, intact, length):
    _, body = binary(256, 256)
    status, got, answer = perigee.request("POST", INFER, body, {
        "Inference-Header-Content-Length": length, "Content-Type": "application/octet-stream"})
    assert status in (400, 413), answer
    assert got["Perigee-Error"] in ("bad_input", "too_large") and json.loads(answer)["error"]


@pytest.mark.parametrize("payload", [struct.pack("<I", 100) + b"short", b"\1\0",
                                     struct.pack("<I", 2**32 - 1)],
                         ids=["beyond", "cut", "absurd"])
def test_lying_string_length(perigee, payload):
    perigee.cli("deploy", "strings", "--model", ROOT / "tests/models/identity_bytes.onnx")
    row = tensor("x", "BYTES", [1], binary_data_size=len(payload))
    headers, body = split_body({"inputs": [row]}, payload)
    status, got, answer = perigee.request("POST", "/v2/models/strings/infer", body, headers)
    assert (status, got["Perigee-Error"]) == (400, "bad_input"), answer


# --- models --------------------------------------------------------------------------------------


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def build(nodes, inputs, outputs, weights=(), opset=17):
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(weights))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made


def adding(count=1024, opset=17):
    """y = x + w"""
    weights = numpy_helper.from_array(np.arange(count, dtype=np.float32), "w")
    return build([helper.make_node("Add", ["x", "w"], ["y"])], [value("x", [count])],
                 [value("y", [count])], [weights], opset)


def external(folder, location):
    """A folder with a model whose weights are in the file `location`."""
    made = adding()
    row = made.graph.initializer[0]
    data = row.raw_data
    row.ClearField("raw_data")
    row.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        entry = row.external_data.add()
        entry.key, entry.value = key, text
    folder.mkdir()
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return data


def deploy_fails(perigee, model, words):
    """The command says why; the endpoint that was there goes on with its earlier revision."""
    perigee.cli("deploy", "victim", "--model", MODEL)
    before = perigee.json("show", "victim")
    done = perigee.cli("deploy", "victim", "--model", model, status=1)
    assert re.search(words, done.said), done.said
    assert done.said.startswith("perigee: ") and "\x1b" not in done.said
    after = perigee.json("show", "victim")
    assert after["serving"] == before["serving"]
    good = [tensor("image", "FP32", [1, 64], PIXELS)]
    status, headers, body = perigee.request("POST", "/v2/models/victim/infer", {"inputs": good})
    assert status == 200, body
    assert headers["Perigee-Revision"] == str(before["serving"])
    perigee.cli("delete", "victim", "--yes")


def test_model_not_onnx(perigee, scratch):
    (scratch / "model.onnx").write_bytes(b"this is not ONNX\x1b[31m" * 100)
    deploy_fails(perigee, scratch / "model.onnx", "(?i)protobuf")


def test_model_empty(perigee, scratch):
    (scratch / "model.onnx").touch()
    deploy_fails(perigee, scratch / "model.onnx", "No graph was found")


def test_model_truncated(perigee, scratch):
    data = adding().SerializeToString()
    (scratch / "model.onnx").write_bytes(data[:len(data) // 2])
    deploy_fails(perigee, scratch / "model.onnx", "(?i)protobuf|parse")


def test_model_of_an_unsupported_opset(perigee, scratch):
    onnx.save(adding(opset=99), scratch / "model.onnx")
    deploy_fails(perigee, scratch / "model.onnx", "Opset 99")
    assert "onnxruntime_src" not in perigee.log.read_text()


@pytest.mark.parametrize("location,words", [
    ("../weights.bin", "escapes model directory"), ("/etc/hostname", "Absolute path not allowed"),
    ("missing.bin", "missing.bin")], ids=["above", "absolute", "missing"])
def test_model_with_data_outside_its_folder(perigee, scratch, location, words):
    data = external(scratch / "model", location)
    (scratch / "weights.bin").write_bytes(data)
    deploy_fails(perigee, scratch / "model", words)


@pytest.mark.parametrize("how", ["file", "relative", "folder", "two-links", "sibling", "device",
                                 "like-a-cache"])
def test_model_whose_data_is_a_link_to_outside(perigee, scratch, how):
    """Whoever made the folder picks no file of ours, though it could be read."""
    folder = scratch / "model"
    data = external(folder, "out/weights.bin" if how == "folder" else "out")
    outside = scratch / ("model-of-another" if how == "sibling" else "secrets")
    outside.mkdir()
    target = outside / "weights.bin"
    target.write_bytes(data)
    link = folder / "out"
    if how == "relative":
        link.symlink_to("../secrets/weights.bin")
    elif how == "folder":
        link.symlink_to(outside)
        target = outside
    elif how == "two-links":
        (folder / "step").symlink_to(target)
        link.symlink_to("step")
    elif how == "device":
        target = "/dev/zero"
        link.symlink_to(target)
    elif how == "like-a-cache":  # but its `blobs` is elsewhere
        (scratch / "models--a--b" / "snapshots").mkdir(parents=True)
        (scratch / "models--a--b" / "blobs").symlink_to(outside)
        folder = folder.rename(scratch / "models--a--b" / "snapshots" / "c0ffee")
        target = target.rename(outside / "beef")
        (folder / "out").symlink_to("../../blobs/beef")
    else:
        link.symlink_to(target)
    done = perigee.cli("deploy", "linked", "--model", folder, status=1)
    assert f"leads to '{target}', out of the model's folder" in done.said
    assert any(f"'{folder}/{name}'" in done.said for name in ("out", "step")), done.said


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is larger than any limit")
def test_model_that_takes_all_memory(perigee, scratch):
    fill = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    shape = numpy_helper.from_array(np.array([1 << 30], np.int64), "s")
    onnx.save(build([helper.make_node("ConstantOfShape", ["s"], ["big"], value=fill),
                     helper.make_node("ReduceSum", ["big"], ["y"], keepdims=0)], [],
                    [value("y", [])], [shape]), scratch / "model.onnx")
    deploy_fails(perigee, scratch / "model.onnx", "(?i)memory")


@pytest.mark.parametrize("files,words", [
    ([], "has no file in it"), (["a.onnx", "b.onnx"], "has 2 .onnx files"),
    (["weights.bin"], "has no .onnx file")], ids=["empty", "two", "none"])
def test_folder_without_one_model(perigee, scratch, files, words):
    (scratch / "model").mkdir()
    for name in files:
        (scratch / "model" / name).write_bytes(MODEL.read_bytes())
    done = perigee.cli("deploy", "nothing", "--model", scratch / "model", status=1)
    assert words in done.said, done.said
    perigee.cli("delete", "nothing", "--yes", status=None)


@pytest.mark.parametrize("path", ["missing.onnx", ".", "/dev/null"],
                         ids=["missing", "empty-folder", "device"])
def test_model_path(perigee, scratch, path):
    done = perigee.cli("deploy", "nothing", "--model", path, status=1, cwd=scratch)
    assert path in done.said or "no file" in done.said


# --- names ---------------------------------------------------------------------------------------

NAMES = {
    "empty": ("", "is empty"),
    "too-short": ("ab", "has 2 characters; it needs 3 to 40"),
    "too-long": ("a" * 41, "has 41 characters; it needs 3 to 40"),
    "capitals": ("Digits", "may hold small letters, digits and hyphens, not 'D'"),
    "underscore": ("my_model", "not '_'"),
    "dot": ("my.model", r"not '\.'"),
    "slash": ("a/../b", "not '/'"),
    "two-hyphens": ("my--model", "may not hold '--'"),
    "hyphen-first": ("-model", "must begin with a letter|option"),
    "hyphen-last": ("model-", "must not end with a hyphen"),
    "digit-first": ("1model", "must begin with a letter"),
    "space": ("my model", "not ' '"),
    "escape": ("my\x1b[2Jmodel", r"not '\\x1b'"),
    "not-ascii": ("modèle", r"not '\\xc3'"),
    "not-utf8": (b"mod\xffle", r"not '\\xff'"),
    "reserved": ("console", "'console' is reserved"),
    "reserved-number": ("ns3", "'ns3' is reserved"),
}


@pytest.mark.parametrize("case", NAMES)
def test_name_on_the_command_line(perigee, case):
    name, words = NAMES[case]
    done = subprocess.run([PROGRAM, "deploy", name, "--model", str(MODEL)], capture_output=True,
                          env=perigee.environment(), timeout=DEADLINE, check=False)
    said = done.stderr.decode()
    assert done.returncode == 2 and re.search(words, said), said
    assert "\x1b" not in said and done.stdout == b""


@pytest.mark.parametrize("case", NAMES)
def test_name_in_the_api(perigee, digits, case):
    name, words = NAMES[case]
    raw = name if isinstance(name, bytes) else name.encode()
    path = "/api/v1/endpoints/" + "".join(f"%{byte:02X}" for byte in raw)
    model = perigee.json("show", digits)["spec"]["model"]
    status, headers, body = perigee.request("PUT", path, {"model": model}, listener="control")
    detail = json.loads(body)["detail"]
    if case == "empty":  # no name, no endpoint: another path
        assert (status, headers["Perigee-Error"]) == (404, "not_found"), body
    else:
        assert (status, headers["Perigee-Error"]) == (400, "bad_input"), body
        assert re.search(words, detail), detail
    assert [e["name"] for e in perigee.json("endpoints")["items"] if e["name"] == name] == []


# --- specs ---------------------------------------------------------------------------------------

# name: (YAML, words of the error)
SPECS = {
    "unknown-key": ("modle: x.onnx", ["modle", "model"]),
    "unknown-key-inside": ("model: x.onnx\nscale: {mni: 1}", ["scale.mni", "min"]),
    "unknown-key-near-nothing": ("model: x.onnx\nzzzzzzzz: 1", ["zzzzzzzz"]),
    "not-yet": ("model: x.onnx\nbudget: {month: 5 EUR}", ["budget", "yet"]),
    "residency-of-nothing": ("model: x.onnx\nresidency: {}", ["residency", "says nothing"]),
    "residency-of-no-country": ("model: x.onnx\nresidency: {process_in: [eu]}", ["'eu'", "EU"]),
    "residency-for-nobody": ("model: x.onnx\nresidency: {rules: []}", ["residency.rules"]),
    "residency-misspelt": ("model: x.onnx\nresidency: {proces_in: [EU]}", ["process_in"]),
    "regions-nowhere": ("model: x.onnx\nregions: []", ["regions", "empty"]),
    "not-yet-of-an-image": ("image: default/a:1\negress: [a.example]", ["egress", "yet"]),
    "volume-at-the-root": ("image: default/a:1\nvolumes: [{path: /, size: 1GiB}]", ["volumes[0]"]),
    "volume-over-tmp": ("image: default/a:1\nvolumes: [{path: /tmp/a, size: 1GiB}]", ["/tmp"]),
    "volumes-overlap": ("image: default/a:1\nvolumes: [{path: /a, size: 1GiB}, "
                        "{path: /a/b, size: 1GiB}]", ["overlap"]),
    "volume-without-a-unit": ("image: default/a:1\nvolumes: [{path: /a, size: 5}]",
                              ["volumes[0]", "1GiB"]),
    "image-of-no-name": ("image: nginx:1", ["image", "nginx:1"]),
    "image-and-model": ("image: default/a:1\nmodel: x.onnx", ["model", "image", "one runs"]),
    "image-key-of-a-model": ("model: x.onnx\npids: 5", ["pids", "image"]),
    "batch-of-none": ("model: x.onnx\nbatch: {max: 0}", ["batch.max", "below 1"]),
    "batch-delay-alone": ("model: x.onnx\nbatch: {delay: 1ms}", ["batch.delay", "batch.max"]),
    "reserved-key": ("model: x.onnx\nrollout: {}", ["rollout", "yet"]),
    "text-for-number": ("model: x.onnx\nscale: {min: many}", ["scale.min", "integer"]),
    "number-for-text": ("model: 7", ["model"]),
    "list-for-map": ("model: x.onnx\nscale: [1, 2]", ["scale"]),
    "map-for-list": ("model: x.onnx\ndomains: {a: b}", ["domains"]),
    "negative-number": ("model: x.onnx\nscale: {min: -1}", ["scale.min", "-1"]),
    "no-unit-of-time": ("model: x.onnx\ntimeout: 30", ["timeout", "ms, s"]),
    "no-unit-of-size": ("model: x.onnx\nlimits: {body: 1048576}", ["limits.body", "MiB"]),
    "unknown-unit": ("model: x.onnx\ntimeout: 30sec", ["timeout", "30sec"]),
    "min-above-max": ("model: x.onnx\nscale: {min: 5, max: 2}", ["scale.min", "scale.max"]),
    "no-model": ("labels: {a: b}", ["model"]),
    "newer-version": ("version: 2\nmodel: x.onnx", ["version", "2"]),
    "bad-label": ("model: x.onnx\nlabels: [a]", ["labels"]),
    "key-twice": ("model: x.onnx\nmodel: y.onnx", ["model"]),
    "no-yaml": ("model: [x.onnx", ["line"]),
    "a-tab": ("model:\n\t- x", ["line"]),
    "anchors-that-explode": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi"))
        + "model: x.onnx", ["more than 100000 values (aliases count as copies)"]),
    "escape": ("\"mod\\x1bel\": x.onnx", ["x1b"]),
}


@pytest.mark.parametrize("case", SPECS)
def test_spec(perigee, scratch, case):
    text, words = SPECS[case]
    (scratch / "spec.yaml").write_text(f"name: from-a-file\n{text}\n")
    done = perigee.cli("apply", "-f", scratch / "spec.yaml", status=1)
    assert "spec.yaml" in done.said
    for word in words:
        assert word in done.said, done.said
    assert "\x1b" not in done.said and len(done.said) < 900
    assert "from-a-file" not in [e["name"] for e in perigee.json("endpoints")["items"]]


@pytest.mark.parametrize("case", ["unknown-key", "not-yet", "text-for-number", "no-unit-of-time"])
def test_spec_in_the_api(perigee, digits, case):
    body = {"unknown-key": {"modle": "x"}, "not-yet": {"budget": {"month": "5 EUR"}},
            "text-for-number": {"scale": {"min": "many"}}, "no-unit-of-time": {"timeout": 30}}[case]
    before = perigee.json("show", digits)
    model = before["spec"]["model"]
    status, headers, answer = perigee.request(
        "PUT", "/api/v1/endpoints/digits", {"model": model, **body}, listener="control")
    problem = json.loads(answer)
    assert status in (400, 501), problem
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["type"] == f"urn:perigee:error:{headers['Perigee-Error']}"
    assert perigee.json("show", digits)["generation"] == before["generation"]


def test_one_bad_document_of_several_changes_nothing(perigee, scratch):
    (scratch / "a.yaml").write_text(f"name: first-one\nmodel: {MODEL}\n---\nname: first-two\n"
                                    f"model: {MODEL}\n")
    (scratch / "b.yaml").write_text("name: second-one\nmodle: x\n")
    done = perigee.cli("apply", "-f", scratch, status=1)
    assert "b.yaml" in done.said and "modle" in done.said
    names = [e["name"] for e in perigee.json("endpoints")["items"]]
    assert not {"first-one", "first-two", "second-one"} & set(names)


# --- the machine ---------------------------------------------------------------------------------


def up(home, *arguments, wrap=()):
    """Runs `perigee up` until it gives up; what it said."""
    command = [*wrap, PROGRAM, "up", "--home", str(home)]
    for name in ("gateway", "control", "admin", "dns"):
        if f"--listen-{name}" not in arguments:
            command += [f"--listen-{name}", "127.0.0.1:0"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PERIGEE_")}
    done = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True,
                          timeout=DEADLINE, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_read_only_home(scratch):
    if os.geteuid() == 0:
        home = "/proc/1/home"  # root may write everywhere else
    else:
        (scratch / "closed").mkdir(mode=0o500)
        home = scratch / "closed" / "home"
    said = up(home)
    assert "cannot be written" in said and "--home DIR" in said


@pytest.mark.root
@pytest.mark.parametrize("there", ["new", "empty", "used"])
def test_a_home_on_a_read_only_file_system(new_perigee, scratch, there):
    """Also where it was one that could be written, until the disk was mounted otherwise."""
    (scratch / "disk").mkdir(mode=0o700)
    home = scratch / "disk" / "home"
    if there != "new":
        home.mkdir(mode=0o700)
    if there == "used":
        one = new_perigee(start=False)
        one.home = home
        one.start()
        one.stop()
    wrap = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
            'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"', home.parent]
    said = up(home, wrap=wrap)
    assert "cannot be written: it is on a read-only file system" in said and "--home DIR" in said
    assert home.exists() == (there != "new")


@pytest.mark.parametrize("listener", ["gateway", "control", "admin", "dns"])
def test_port_in_use(scratch, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = up(scratch / "home", f"--listen-{listener}", address)
    assert f"--listen-{listener}" in said and address in said
    assert f"process {os.getpid()}" in said
    assert not (scratch / "home" / "run" / "addresses.json").exists()


def test_second_up_on_one_home(new_perigee):
    one = new_perigee()
    said = up(one.home)
    assert "already runs" in said and str(one.process.pid) in said
    assert one.json("endpoints")["items"] == []  # the first goes on


def test_newer_database(new_perigee):
    one = new_perigee()
    one.cli("deploy", "digits", "--model", MODEL)
    one.stop()
    database = one.home / "control/store.db"
    with sqlite3.connect(database) as connection:
        old = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("PRAGMA user_version = 4711")
    connection.close()
    said = up(one.home)
    assert "4711" in said and str(old) in said
    doctor = one.cli("doctor", "--json", status=1)
    checks = {row["name"]: row for row in json.loads(doctor.text)["checks"]}
    assert checks["database"]["status"] == "fail" and "4711" in checks["database"]["message"]
    with sqlite3.connect(database) as connection:
        connection.execute(f"PRAGMA user_version = {old}")
    connection.close()
    one.start()  # nothing was lost
    one.cli("wait", "digits")


def test_damaged_database(new_perigee):
    one = new_perigee()
    one.stop()
    (one.home / "control/store.db").write_bytes(b"no database" * 1000)
    for name in ("store.db-wal", "store.db-shm"):
        (one.home / "control" / name).unlink(missing_ok=True)
    said = up(one.home)
    assert "store.db" in said


# --- the list ------------------------------------------------------------------------------------


def listed():
    """The tests named in bad_input.md's tables: each row has one at least."""
    rows = [line for line in LIST.read_text().splitlines()
            if line.startswith("|") and line not in ("| case | test |", "| --- | --- |")]
    names = [(line, re.findall(r"`(test_\w+\.py::[^`]+)`", line)) for line in rows]
    assert [line for line, found in names if not found] == []
    return [name for _, found in names for name in found]


def short(node):
    """test_file.py::test[case] of a node id, whatever folder it is run from."""
    file, rest = node.split("::", 1)
    return f"{file.rsplit('/', 1)[-1]}::{rest}"


def of_engine(name):
    """Not everywhere, nor for everybody, does an engine run: `make test` runs half of the tests
    with each."""
    return name.startswith(("test_engine", "test_containers", "test_image_chain"))


def may_skip(name, why):
    """A sanitizer's run has all that does not say it cannot be under one; where no engine runs, in
    an installed tree, and as an ordinary user those are left out that say they want one, what a
    build alone has, or root."""
    return (of_engine(name) or why.startswith("no engine: ") or
            (why == "needs root" and os.geteuid() != 0) or
            why.endswith("is beside a build alone") or
            (SANITIZED and why.startswith(("a sanitizer", "AddressSanitizer"))))


def each_case(names, there):
    """`test[*]` stands for all cases of that test that there are."""
    for name in names:
        cases = [one for one in there if name.endswith("[*]") and one.startswith(name[:-2])]
        yield from sorted(cases) or [name]


def left_out(names, ran, deselected, asked_for_all, whys=()):
    """Of the listed tests those that a run should have shown and has not: {name: outcome}. Of a
    whole run (there is a test of each file) all; of a part of one those of its files that are gone,
    or failed. What was deselected is missed only where all was asked for. `whys`: {name: why it was
    skipped}."""
    whys = dict(whys)
    there = ran.keys() | set(deselected)
    names = list(each_case(names, there))
    seen = {name.split("::")[0] for name in there}
    whole = {name.split("::")[0] for name in names} <= seen
    chosen = {name for name in deselected if not asked_for_all or of_engine(name)}
    if whole:
        return {name: ran.get(name) for name in names if ran.get(name) != "passed"
                and not (ran.get(name) == "skipped" and may_skip(name, whys.get(name, "")))
                and name not in chosen}
    return {name: ran.get(name) for name in names if ran.get(name) == "failed"
            or (name.split("::")[0] in seen and name not in there)}


A, B, C = "test_a.py::test_a[x]", "test_a.py::test_b", "test_c.py::test_c"
GOOD_RUN = {A: "passed", B: "passed", C: "passed"}


@pytest.mark.parametrize("ran,deselected,all_of_it,missed", [
    (GOOD_RUN, ["test_c.py::test_long"], True, set()),  # another one than those listed
    (GOOD_RUN | {B: "failed"}, [], True, {B}),
    (GOOD_RUN | {B: "skipped"}, [], True, {B}),
    ({A: "passed", C: "passed"}, [], True, {B}),
    ({A: "passed", C: "passed"}, [B], True, {B}),
    ({A: "passed", C: "passed"}, [B], False, set()),
    ({A: "passed", C: "passed"}, ["test_a.py::test_long"], False, {B}),
    ({A: "passed", B: "skipped"}, [], True, set()),  # a part: of one file alone
    ({A: "passed"}, [], True, {B}),
    ({A: "failed"}, [B], False, {A}),
], ids=["whole", "failed", "skipped", "gone", "long", "chosen", "chosen-and-gone", "part",
        "part-and-gone", "part-and-failed"])
def test_what_is_left_out_is_found(ran, deselected, all_of_it, missed):
    assert left_out([A, B, C], ran, deselected, all_of_it).keys() == missed


EACH = "test_a.py::test_a[*]"


@pytest.mark.parametrize("ran,missed", [
    ({A: "passed"}, set()), ({A: "passed", "test_a.py::test_a[y]": "passed"}, set()),
    ({A: "passed", "test_a.py::test_a[y]": "skipped"}, {"test_a.py::test_a[y]"}),
    ({"test_a.py::test_ab[x]": "passed", "test_a.py::test_a": "passed"}, {EACH}),
], ids=["one", "two", "one-of-two", "none"])
def test_all_cases_of_a_test_may_be_listed_as_one(ran, missed):
    assert left_out([EACH], ran, [], True).keys() == missed


@pytest.mark.parametrize("why,sanitized,user,missed", [
    ("a sanitizer's own malloc", True, 0, set()), ("a sanitizer's own malloc", False, 0, {B}),
    ("no engine: docker.io is not installed", False, 0, set()),
    ("the clock's shim is beside a build alone", False, 0, set()),
    ("needs root", True, 0, {B}), ("needs root", False, 1000, set()), ("", True, 1000, {B})],
    ids=["its-own", "without", "no-engine", "installed", "root", "user", "no-reason"])
def test_what_cannot_be_run_here_is_excused_alone(monkeypatch, why, sanitized, user, missed):
    monkeypatch.setitem(globals(), "SANITIZED", sanitized)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert left_out([A, B, C], GOOD_RUN | {B: "skipped"}, [], True, {B: why}).keys() == missed


@pytest.mark.last
def test_all_listed_have_run(request):
    session, option = request.config.stash[OUTCOMES], request.config.option
    names = listed()
    assert len(names) > 100 and len(set(names)) == len(names)
    ran = {short(name): outcome for name, outcome in session.outcomes.items()}
    asked_for_all = not option.keyword and option.markexpr in ("", "not long")
    whys = {short(name): why for name, why in session.whys.items()}
    assert not left_out(names, ran, [short(name) for name in session.deselected], asked_for_all,
                        whys)
