# SPDX-License-Identifier: Apache-2.0
"""Inference: several tensors, outputs asked for, ids, parameters, classification, compression."""
import gzip
import http.client
import json
import zlib

import numpy as np
import onnx
import pytest
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from deadline import DEADLINE, SANITIZED
from oip import (MODELS, Wire, answer_parts, apply, ask, infer, refused, split_body, strings,
                 tensor, triton)
from perigee import DIGITS

pytestmark = pytest.mark.usefixtures("endpoints")
MANY = "/v2/models/many/infer"


@pytest.fixture(scope="module")
def endpoints(perigee):
    apply(perigee, {"name": "many", "model": "many"}, {"name": "pick", "model": "pick"},
          {"name": "grow", "model": "grow"}, {"name": "words", "model": "identity_bytes"},
          {"name": "plain", "model": "identity_fp32"},
          {"name": "optional", "model": "optional"},
          {"name": "digits", "model": DIGITS / "digits.onnx"})


@pytest.fixture(scope="module")
def client(perigee):
    with triton(perigee) as client:
        yield client


def many_inputs(rows=2):
    """As JSON, and what the model makes of it."""
    a = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    b = np.ones((rows, 3), np.float32)
    inputs = [tensor("a", "FP32", a.shape, a.tolist()), tensor("b", "FP32", b.shape, b.tolist()),
              tensor("scale", "FP32", [], [0.5]), tensor("flag", "BOOL", [2], [True, False]),
              tensor("words", "BYTES", [3], ["x", "", "\u00e9"])]
    return inputs, {"sum": (a + 0.5).ravel().tolist(), "inverse": [False, True],
                    "same": ["x", "", "\u00e9"], "total": [float((a + 0.5).sum())]}


def data_of(answer):
    return {row["name"]: row["data"] for row in answer["outputs"]}


# --- several inputs and outputs, ranks, shapes ---------------------------------------------------


def test_several_inputs_and_outputs(perigee):
    inputs, wanted = many_inputs()
    status, _, answer = infer(perigee, "many", inputs)
    assert status == 200
    assert answer["model_name"] == "many" and answer["model_version"] == "1"
    assert [row["name"] for row in answer["outputs"]] == ["sum", "inverse", "same", "total"]
    assert [row["shape"] for row in answer["outputs"]] == [[2, 3], [2], [3], []]
    assert [row["datatype"] for row in answer["outputs"]] == ["FP32", "BOOL", "BYTES", "FP32"]
    assert data_of(answer) == wanted
    assert "id" not in answer


def test_the_order_of_inputs_does_not_matter(perigee):
    inputs, wanted = many_inputs()
    status, _, answer = infer(perigee, "many", inputs[::-1])
    assert status == 200 and data_of(answer) == wanted


def test_inputs_may_be_mixed_of_json_and_binary(perigee):
    inputs, wanted = many_inputs()
    parts = []
    for at, part in ((4, strings(b"x", b"", "\u00e9".encode())),
                     (1, np.ones((2, 3), np.float32).tobytes()),
                     (2, np.float32(0.5).tobytes())):
        row = inputs[at]
        inputs[at] = tensor(row["name"], row["datatype"], row["shape"],
                            binary_data_size=len(part))
        parts.append((at, part))
    headers, body = split_body({"inputs": inputs}, *[part for _, part in sorted(parts)])
    status, got, answer = perigee.request("POST", MANY, body, headers)
    assert status == 200, answer
    assert got["Content-Type"].startswith("application/json")
    assert data_of(json.loads(answer)) == wanted


def test_a_scalar_has_no_dimensions(client):
    scalar = np.array(2.0, np.float32)
    for binary in (True, False):
        given = [triton_http.InferInput(name, list(array.shape), kind).set_data_from_numpy(
            array, binary_data=binary) for name, kind, array in (
                ("a", "FP32", np.zeros((1, 3), np.float32)),
                ("b", "FP32", np.ones((1, 3), np.float32)), ("scale", "FP32", scalar),
                ("flag", "BOOL", np.array([True, True])),
                ("words", "BYTES", np.array([b"w"], np.object_)))]
        result = client.infer("many", given)
        assert result.as_numpy("total").shape == ()
        assert result.as_numpy("total") == 6 and result.as_numpy("sum").tolist() == [[2, 2, 2]]


def test_a_dimension_of_zero_among_several(perigee):
    inputs, _ = many_inputs(0)
    inputs[4] = tensor("words", "BYTES", [0], [])
    answer = ask(perigee, "many", *inputs)
    assert answer["sum"]["shape"] == [0, 3] and answer["sum"]["data"] == []
    assert answer["same"]["data"] == [] and answer["total"]["data"] == [0]


def test_dimensions_of_one_symbol_that_differ_are_refused_and_nothing_else_suffers(perigee):
    inputs, wanted = many_inputs()
    bad = [tensor("b", "FP32", [3, 3], [1] * 9) if row["name"] == "b" else row for row in inputs]
    said = refused(perigee, "many", bad)
    assert "'rows' is 2 in input 'a' and 3 in input 'b'" in said
    assert data_of(infer(perigee, "many", inputs)[2]) == wanted


def test_an_error_while_the_model_runs_is_told_in_its_words(perigee):
    bad = [tensor("x", "FP32", [3], [1, 2, 3]), tensor("i", "INT64", [1], [7])]
    status, headers, answer = infer(perigee, "pick", bad)
    assert status in (400, 500) and headers["Perigee-Error"] in ("bad_input", "internal")
    assert "Gather" in answer["error"] or "indices" in answer["error"]
    bad[1] = tensor("i", "INT64", [1], [2])
    assert ask(perigee, "pick", *bad)["y"]["data"] == [3]


def test_an_answer_may_be_much_larger_than_the_request(perigee):
    wanted = {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    status, headers, body = perigee.request(
        "POST", "/v2/models/grow/infer",
        {"inputs": [tensor("n", "INT64", [1], [1_000_000])], **wanted})
    assert status == 200
    _, parts = answer_parts(headers, body)
    assert parts["y"] == bytes(4_000_000)
    text = ask(perigee, "grow", tensor("n", "INT64", [1], [100_000]))["y"]
    assert text["shape"] == [100_000] and not any(text["data"])


def test_an_answer_that_does_not_fit_is_too_large(perigee):
    status, headers, answer = infer(perigee, "grow", [tensor("n", "INT64", [1], [80_000_000])])
    assert (status, headers["Perigee-Error"]) == (413, "too_large"), answer
    assert "'y'" in answer["error"]
    if SANITIZED:
        return  # its allocator ends a process that asks for so much as below
    # What the model's own memory cannot hold is no fault of the answer's size.
    status, _, answer = infer(perigee, "grow", [tensor("n", "INT64", [1], [1 << 40])])
    assert status == 500 and "memory" in answer["error"]
    assert ask(perigee, "grow", tensor("n", "INT64", [1], [2]))["y"]["data"] == [0, 0]


# --- which outputs, and how ----------------------------------------------------------------------


def test_only_the_outputs_asked_for_in_their_order(perigee):
    inputs, wanted = many_inputs()
    for names in (["total"], ["same", "sum"], ["total", "inverse", "same", "sum"]):
        status, _, answer = infer(perigee, "many", inputs, outputs=[{"name": n} for n in names])
        assert status == 200
        assert [row["name"] for row in answer["outputs"]] == names
        assert data_of(answer) == {name: wanted[name] for name in names}


def test_an_empty_list_of_outputs_means_all(perigee):
    inputs, wanted = many_inputs()
    assert data_of(infer(perigee, "many", inputs, outputs=[])[2]) == wanted


def test_binary_flags_of_each_output(perigee):
    inputs, wanted = many_inputs()
    body = {"inputs": inputs, "outputs": [
        {"name": "sum", "parameters": {"binary_data": True}}, {"name": "same"},
        {"name": "inverse", "parameters": {"binary_data": False}},
        {"name": "total", "parameters": {"binary_data": True}}]}
    status, headers, answer = perigee.request("POST", MANY, body)
    assert status == 200 and headers["Content-Type"] == "application/octet-stream"
    header, parts = answer_parts(headers, answer)
    assert parts["sum"] == np.array(wanted["sum"], np.float32).tobytes()
    assert parts["total"] == np.array(wanted["total"], np.float32).tobytes()
    assert parts["same"] == wanted["same"] and parts["inverse"] == wanted["inverse"]
    assert [("data" in row, row.get("parameters")) for row in header["outputs"]] == [
        (False, {"binary_data_size": 24}), (True, None), (True, None),
        (False, {"binary_data_size": 4})]


def test_binary_data_output_is_the_default_of_all_outputs(perigee):
    inputs, wanted = many_inputs()
    body = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    status, headers, answer = perigee.request("POST", MANY, body)
    assert status == 200
    _, parts = answer_parts(headers, answer)
    assert parts["inverse"] == b"\0\1" and parts["same"] == strings(b"x", b"", "\u00e9".encode())
    body["outputs"] = [{"name": "total", "parameters": {"binary_data": False}}, {"name": "inverse"}]
    status, headers, answer = perigee.request("POST", MANY, body)
    header, parts = answer_parts(headers, answer)
    assert parts == {"total": wanted["total"], "inverse": b"\0\1"}


def test_json_alone_has_no_inference_header_length(perigee):
    inputs, _ = many_inputs()
    _, headers, _ = infer(perigee, "many", inputs)
    assert headers["Inference-Header-Content-Length"] is None


@pytest.mark.parametrize("outputs", [
    [{"name": "nobody"}], [{"name": "sum"}, {"name": "sum"}], [{}], [{"name": 7}], ["sum"], "sum",
    [{"name": "sum", "parameters": {"binary_data": 1}}],
    [{"name": "sum", "parameters": {"classification": -1}}],
    [{"name": "same", "parameters": {"classification": 2}}]])
def test_wrong_outputs_are_refused(perigee, outputs):
    inputs, _ = many_inputs()
    refused(perigee, "many", inputs, outputs=outputs)


# --- ids, parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["7", "", "an id with \"quotes\" and \u00e9", "x" * 1000])
def test_the_id_comes_back(perigee, given):
    inputs, _ = many_inputs()
    assert infer(perigee, "many", inputs, id=given)[2]["id"] == given


def test_a_wrong_id_is_refused(perigee):
    inputs, _ = many_inputs()
    refused(perigee, "many", inputs, id=7)
    refused(perigee, "many", inputs, status=413, id="x" * 5000)


def test_parameters_of_ones_own_are_let_through(client, perigee):
    inputs, wanted = many_inputs()
    status, _, answer = infer(perigee, "many", inputs,
                              parameters={"mine": "x", "n": 3, "f": 0.5, "b": True})
    assert status == 200 and data_of(answer) == wanted
    given = triton_http.InferInput("x", [1, 1], "FP32").set_data_from_numpy(
        np.ones((1, 1), np.float32))
    assert client.infer("plain", [given], request_id="r-1", timeout=10_000_000,
                        parameters={"mine": 1}).get_response()["id"] == "r-1"


@pytest.mark.parametrize("parameters", [{"sequence_id": 3}, {"sequence_start": True}])
def test_parameters_not_acted_upon_are_refused_by_name(perigee, parameters):
    inputs, _ = many_inputs()
    said = refused(perigee, "many", inputs, 501, parameters=parameters)
    assert next(iter(parameters)) in said


# --- classification ------------------------------------------------------------------------------


def test_classification_of_digits(client):
    held_out = np.load(DIGITS / "held_out.npz")
    images = held_out["image"][:5].astype(np.float32)
    given = triton_http.InferInput("image", [5, 64], "FP32").set_data_from_numpy(images)
    for binary in (True, False):
        wanted = triton_http.InferRequestedOutput("probabilities", binary_data=binary,
                                                  class_count=3)
        result = client.infer("digits", [given], outputs=[
            wanted, triton_http.InferRequestedOutput("label")])
        row = result.get_output("probabilities")
        assert row["datatype"] == "BYTES" and row["shape"] == [5, 3]
        for best, label in zip(result.as_numpy("probabilities"), result.as_numpy("label")):
            texts = [t.decode() if isinstance(t, bytes) else t for t in best]
            values = [float(text.split(":")[0]) for text in texts]
            assert values == sorted(values, reverse=True) and 0 <= values[0] <= 1
            assert int(texts[0].split(":")[1]) == label


def test_more_classes_than_there_are_gives_all(perigee):
    answer = ask(perigee, "digits", tensor("image", "FP32", [1, 64], [0.0] * 64),
                 outputs=[{"name": "probabilities", "parameters": {"classification": 1000}}])
    row = answer["probabilities"]
    assert row["shape"] == [1, 10]
    assert sorted(int(text.split(":")[1]) for text in row["data"]) == list(range(10))


def test_classes_have_the_names_that_the_model_gives_them(perigee):
    """perigee.labels.y in the model's metadata has three; the fourth element has none."""
    answer = ask(perigee, "optional", tensor("x", "FP32", [4], [3, 1, 4, 1.5]),
                 outputs=[{"name": "y", "parameters": {"classification": 4}}])
    assert answer["y"]["data"] == ["8.000000:2:caf\u00e9", "6.000000:0:cat", "3.000000:3",
                                   "2.000000:1:dog"]


@pytest.mark.parametrize("labels", ["", "no json", '{"0": "cat"}', '["cat", 1]'],
                         ids=["empty", "no-json", "object", "number"])
def test_names_of_classes_that_cannot_be_read_are_left_out(perigee, scratch, labels):
    model = onnx.load(MODELS / "optional.onnx")
    onnx.helper.set_model_props(model, {"perigee.labels.y": labels})
    onnx.save(model, scratch / "odd.onnx")
    apply(perigee, {"name": "odd-labels", "model": scratch / "odd.onnx"})
    answer = ask(perigee, "odd-labels", tensor("x", "FP32", [2], [1, 2]),
                 outputs=[{"name": "y", "parameters": {"classification": 1}}])
    assert answer["y"]["data"] == ["4.000000:1"]


# --- optional inputs -----------------------------------------------------------------------------


def test_an_optional_input_may_be_sent_or_left_out(perigee, client):
    x = tensor("x", "FP32", [2], [1, 2])
    assert ask(perigee, "optional", x)["y"]["data"] == [2, 4]
    assert ask(perigee, "optional", tensor("factor", "FP32", [1], [10]), x)["y"]["data"] == [10, 20]
    assert ask(perigee, "optional", x)["y"]["data"] == [2, 4]  # the model's own again
    assert "input 'x'" in refused(perigee, "optional", [tensor("factor", "FP32", [1], [10])])
    assert "factor" in refused(perigee, "optional",
                               [x, tensor("factor", "FP32", [2], [1, 2])])
    config = client.get_model_config("optional")
    assert [row["optional"] for row in config["input"]] == [False, True]


# --- a body without a header ---------------------------------------------------------------------


def test_a_body_without_a_header_is_the_one_input(perigee):
    image = np.load(DIGITS / "held_out.npz")["image"][:2].astype(np.float32)
    status, headers, body = perigee.request("POST", "/v2/models/digits/infer", image.tobytes(),
                                            {"Inference-Header-Content-Length": "0"})
    assert status == 200, body
    header, parts = answer_parts(headers, body)
    assert len(parts["label"]) == 16 and len(parts["probabilities"]) == 80
    assert [row["shape"] for row in header["outputs"]] == [[2], [2, 10]]
    for path, sent in (("many", b"1234"), ("words", b"1234"), ("digits", b"123")):
        status, _, body = perigee.request("POST", f"/v2/models/{path}/infer", sent,
                                          {"Inference-Header-Content-Length": "0"})
        assert status == 400 and json.loads(body)["error"]


# --- compression ---------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tritonclient_compresses_both_ways(client, algorithm, binary):
    sent = np.arange(4000, dtype=np.float32).reshape(4, 1000)
    given = triton_http.InferInput("x", [4, 1000], "FP32").set_data_from_numpy(sent, binary)
    wanted = triton_http.InferRequestedOutput("y", binary_data=binary)
    for request, response in ((algorithm, None), (None, algorithm), (algorithm, algorithm)):
        result = client.infer("plain", [given], outputs=[wanted],
                              request_compression_algorithm=request,
                              response_compression_algorithm=response)
        assert result.as_numpy("y").tobytes() == sent.tobytes()


@pytest.mark.parametrize("algorithm,unpack", [("gzip", gzip.decompress),
                                              ("deflate", zlib.decompress)])
def test_an_answer_is_compressed_when_it_is_asked_for(perigee, algorithm, unpack):
    body = {"inputs": [tensor("x", "FP32", [1, 1000], [1.5] * 1000)]}
    path = "/v2/models/plain/infer"
    status, headers, plain = perigee.request("POST", path, body)
    assert status == 200 and headers["Content-Encoding"] is None
    status, headers, small = perigee.request("POST", path, body, {"Accept-Encoding": algorithm})
    assert headers["Content-Encoding"] == algorithm and len(small) < len(plain) / 10
    assert unpack(small) == plain
    status, headers, got = perigee.request("POST", path, body, {
        "Accept-Encoding": f"identity, {algorithm};q=0"})
    assert headers["Content-Encoding"] is None and got == plain


def test_a_small_answer_is_not_compressed(perigee):
    body = {"inputs": [tensor("x", "FP32", [1, 2], [1.5] * 2)]}
    status, headers, _ = perigee.request("POST", "/v2/models/plain/infer", body,
                                         {"Accept-Encoding": "gzip"})
    assert status == 200 and headers["Content-Encoding"] is None


def test_an_unknown_coding_is_415(perigee):
    inputs, _ = many_inputs()
    for coding in ("br", "gzip, gzip", "compress"):
        status, headers, _ = perigee.request("POST", MANY, {"inputs": inputs},
                                             {"Content-Encoding": coding})
        assert status in (400, 415) and headers["Perigee-Error"] == "bad_input"


@pytest.mark.parametrize("name,values", [("Content-Encoding", ("identity", "gzip")),
                                         ("Inference-Header-Content-Length", ("5", "7"))])
def test_what_says_how_a_body_is_read_comes_once(perigee, name, values):
    with Wire(perigee) as wire:
        wire.send(f"POST {MANY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n",
                  *(f"{name}: {value}\r\n" for value in values), "\r\n", "123456789")
        answer = wire.answer()
    assert answer.status == 400 and answer.headers["perigee-error"] == "bad_input"
    assert f"the header {name} came twice" in answer.body.decode()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "trailing", "checksum"])
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_damaged_compression_is_refused(perigee, algorithm, damage):
    inputs, _ = many_inputs()
    pack = gzip.compress if algorithm == "gzip" else zlib.compress
    good = pack(json.dumps({"inputs": inputs}).encode())
    bad = {"truncated": good[:-9], "garbage": b"no " + good, "trailing": good + b"more",
           "checksum": good[:-6] + bytes([good[-6] ^ 1]) + good[-5:]}[damage]
    if algorithm == "deflate" and damage == "checksum":
        bad = good[:-2] + bytes([good[-2] ^ 1]) + good[-1:]
    status, headers, _ = perigee.request("POST", MANY, bad, {"Content-Encoding": algorithm})
    assert (status, headers["Perigee-Error"]) == (400, "bad_input")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_bomb_is_413(perigee, algorithm):
    """A few hundred KB that would be hundreds of MB: as JSON, and as a tensor."""
    kind = 31 if algorithm == "gzip" else 15
    pack = zlib.compressobj(9, zlib.DEFLATED, kind)
    chunk = b" " * (1 << 20)
    bomb = pack.compress(b'{"inputs":[') + b"".join(
        pack.compress(chunk) for _ in range(128)) + pack.flush()
    assert len(bomb) < 1 << 20
    status, headers, _ = perigee.request("POST", MANY, bomb, {"Content-Encoding": algorithm})
    assert (status, headers["Perigee-Error"]) == (413, "too_large")
    header = json.dumps({"inputs": [tensor("x", "FP32", [128, 262144],
                                           binary_data_size=128 << 20)]}).encode()
    pack = zlib.compressobj(9, zlib.DEFLATED, kind)
    bomb = pack.compress(header) + b"".join(
        pack.compress(bytes(1 << 20)) for _ in range(128)) + pack.flush()
    status, headers, _ = perigee.request("POST", "/v2/models/plain/infer", bomb, {
        "Content-Encoding": algorithm, "Inference-Header-Content-Length": str(len(header))})
    assert (status, headers["Perigee-Error"]) == (413, "too_large")


# --- digits --------------------------------------------------------------------------------------


def test_digits_in_binary_are_right_as_often_as_promised(client):
    held_out = np.load(DIGITS / "held_out.npz")
    images, labels = held_out["image"].astype(np.float32), held_out["label"]
    given = triton_http.InferInput("image", list(images.shape), "FP32").set_data_from_numpy(images)
    result = client.infer("digits", [given])
    right = int((result.as_numpy("label") == labels).sum())
    assert right / len(labels) >= 0.97
    one_by_one = []
    for image in images[:50]:
        given = triton_http.InferInput("image", [1, 64], "FP32").set_data_from_numpy(
            image.reshape(1, 64))
        one_by_one.append(client.infer("digits", [given]).as_numpy("label")[0])
    assert one_by_one == result.as_numpy("label")[:50].tolist()


def test_async_inference_of_tritonclient(perigee):
    images = np.load(DIGITS / "held_out.npz")["image"][:16].astype(np.float32)
    with triton(perigee, concurrency=4) as client:
        asked = [client.async_infer("digits", [triton_http.InferInput(
            "image", [1, 64], "FP32").set_data_from_numpy(image.reshape(1, 64))])
            for image in images]
        labels = [one.get_result().as_numpy("label")[0] for one in asked]
    assert labels == np.load(DIGITS / "held_out.npz")["label"][:16].tolist()


def test_an_error_reaches_tritonclient(client):
    given = triton_http.InferInput("image", [1, 3], "FP32").set_data_from_numpy(
        np.zeros((1, 3), np.float32))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("digits", [given])
    assert caught.value.status() == "400" and "[batch,64]" in caught.value.message()


def test_a_tensor_in_pieces_arrives_whole(perigee):
    """A large binary input that comes in many writes, also chunked."""
    sent = np.random.default_rng(1).random((16, 65536), np.float32)
    headers, body = split_body({"inputs": [tensor("x", "FP32", sent.shape,
                                                  binary_data_size=sent.nbytes)],
                                "parameters": {"binary_data_output": True}}, sent.tobytes())
    status, got, answer = perigee.request("POST", "/v2/models/plain/infer", body, headers)
    assert status == 200 and answer_parts(got, answer)[1]["y"] == sent.tobytes()
    connection = http.client.HTTPConnection(*perigee.address(), timeout=DEADLINE)
    pieces = (body[at:at + 70_001] for at in range(0, len(body), 70_001))
    connection.request("POST", "/v2/models/plain/infer", pieces, headers, encode_chunked=True)
    got = connection.getresponse()
    assert got.status == 200
    assert answer_parts(got.headers, got.read())[1]["y"] == sent.tobytes()
    connection.close()
