# SPDX-License-Identifier: Apache-2.0
"""Each datatype through y = x, as JSON and as binary data; what is exact, and what is refused."""
import json
import struct

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton_http

from oip import (DTYPES, answer_parts, apply, ask, identities, infer, refused, split_body, strings,
                 tensor, triton)

NUMBERS = [name for name in DTYPES if name not in ("BOOL", "BYTES")]
INTEGERS = [name for name in NUMBERS if "INT" in name]
FLOATS = [name for name in NUMBERS if "INT" not in name]


@pytest.fixture(scope="module", autouse=True)
def endpoints(perigee):
    apply(perigee, *identities(), {"name": "logarithm", "model": "logarithm"})


def endpoint_of(datatype):
    return f"identity-{datatype.lower()}"


def samples(datatype):
    """A 2 by 3 array with the ends of the datatype's range in it."""
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        values = [True, False, True, False, False, True]
    elif datatype == "BYTES":
        values = [b"", b"plain", "\u00e9\u4e2d\U0001f600".encode(), b'quote " and \\', b"\n\t\x01",
                  b"x" * 300]
    elif datatype in INTEGERS:
        ends = np.iinfo(dtype)
        values = [ends.min, ends.max, 0, 1, ends.max - 1, ends.min + 1]
    else:
        ends = ml_dtypes.finfo(dtype)
        values = [ends.max, -ends.max, ends.smallest_subnormal, 0.0, dtype(0.1), -1.5]
    return np.array(values, dtype=dtype).reshape(2, 3)


def same(a, b):
    if a.dtype == np.object_:
        return a.shape == b.shape and a.ravel().tolist() == b.ravel().tolist()
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
def test_tritonclient_gets_back_what_it_sent(perigee, datatype, binary_in, binary_out):
    if datatype == "BF16" and not binary_in:
        return  # tritonclient sends it as binary data alone; the JSON is tested below
    sent = samples(datatype)
    given = triton_http.InferInput("x", list(sent.shape), datatype)
    given.set_data_from_numpy(sent, binary_data=binary_in)
    wanted = triton_http.InferRequestedOutput("y", binary_data=binary_out)
    with triton(perigee) as client:
        result = client.infer(endpoint_of(datatype), [given], outputs=[wanted])
    row = result.get_output("y")
    assert (row["datatype"], row["shape"]) == (datatype, [2, 3])
    got = result.as_numpy("y")
    if datatype == "BYTES" and not binary_out:
        got = np.array([text.encode() for text in got.ravel()], np.object_).reshape(got.shape)
    assert same(got, sent)


@pytest.mark.parametrize("datatype", DTYPES)
def test_data_may_be_flat_or_nested(perigee, datatype):
    sent = samples(datatype)
    values = [v.decode() for v in sent.ravel()] if datatype == "BYTES" else (
        sent.astype(np.float64) if datatype in ("BF16", "FP16") else sent).ravel().tolist()
    nested = [values[:3], values[3:]]
    answers = [ask(perigee, endpoint_of(datatype), tensor("x", datatype, [2, 3], data))["y"]
               for data in (values, nested)]
    assert answers[0] == answers[1]
    assert answers[0]["shape"] == [2, 3]
    assert answers[0]["data"] == pytest.approx(values, rel=1e-2) if datatype == "BF16" else (
        np.array(answers[0]["data"], sent.dtype).tolist() == np.array(values, sent.dtype).tolist())


@pytest.mark.parametrize("datatype", DTYPES)
def test_a_dimension_may_be_zero(perigee, datatype):
    for shape, data in (([0, 3], []), ([2, 0], []), ([2, 0], [[], []]), ([0, 0], [])):
        row = ask(perigee, endpoint_of(datatype), tensor("x", datatype, shape, data))["y"]
        assert (row["shape"], row["data"]) == (shape, [])
    empty = np.empty((0, 3), DTYPES[datatype])
    given = triton_http.InferInput("x", [0, 3], datatype).set_data_from_numpy(empty)
    with triton(perigee) as client:
        assert client.infer(endpoint_of(datatype), [given]).as_numpy("y").shape == (0, 3)


# --- numbers -------------------------------------------------------------------------------------


def numbers(perigee, datatype, text, shape=None):
    """Sends the JSON text as it stands; the answer's numbers as text."""
    count = len(json.loads(text))
    body = (f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape or [1, count]},'
            f'"data":{text}}}]}}').encode()
    status, _, answer = perigee.request("POST", f"/v2/models/{endpoint_of(datatype)}/infer", body)
    return status, json.loads(answer, parse_float=str, parse_int=str)


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_are_exact_over_their_whole_range(perigee, datatype):
    ends = np.iinfo(DTYPES[datatype])
    values = [str(v) for v in (ends.min, ends.min + 1, 0, ends.max - 1, ends.max)]
    status, answer = numbers(perigee, datatype, "[" + ",".join(values) + "]")
    assert status == 200, answer
    assert answer["outputs"][0]["data"] == values


@pytest.mark.parametrize("datatype", INTEGERS)
def test_an_integer_out_of_range_is_refused_with_its_place(perigee, datatype):
    ends = np.iinfo(DTYPES[datatype])
    for value in (ends.max + 1, ends.min - 1, 10 ** 30, -10 ** 30):
        said = refused(perigee, endpoint_of(datatype),
                       [tensor("x", datatype, [1, 3], [0, 1, value])])
        assert "data[2]" in said and "range" in said and datatype in said, said
        said = refused(perigee, endpoint_of(datatype),
                       [tensor("x", datatype, [2, 2], [[0, 1], [value, 1]])])
        assert "data[1][0]" in said, said


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("value", ["1.5", '"1"', "true", "null", "[]", "{}"])
def test_what_is_no_integer_is_refused(perigee, datatype, value):
    status, answer = numbers(perigee, datatype, f"[{value}]", [1, 1])
    assert status == 400
    assert ("a tensor holds no objects" if value == "{}" else "data[0]") in answer["error"], answer


HALVES = [  # text, FP16, BF16: to nearest, ties to even, straight from the decimal digits
    ("2049", 2048, 2048), ("2051", 2052, 2048), ("2049.0000000000000000000001", 2050, 2048),
    ("257", 257, 256), ("259", 259, 260), ("257.00000000000000000000000001", 257, 258),
    ("0.1", float(np.float16(0.1)), float(ml_dtypes.bfloat16(0.1))), ("-0.0", -0.0, -0.0),
    ("65504", 65504, 65536), ("65519.99", 65504, 65536), ("1e-8", 0.0, float(
        ml_dtypes.bfloat16(1e-8))), ("5.960464477539063e-08", 2.0 ** -24, float(
            ml_dtypes.bfloat16(2.0 ** -24))),
]


@pytest.mark.parametrize("text,half,brain", HALVES)
def test_fp16_and_bf16_take_numbers_rounded_to_nearest_even(perigee, text, half, brain):
    for datatype, wanted in (("FP16", half), ("BF16", brain)):
        status, answer = numbers(perigee, datatype, f"[{text}]")
        assert status == 200, answer
        got = float(answer["outputs"][0]["data"][0])
        assert DTYPES[datatype](got) == DTYPES[datatype](wanted)
        assert np.signbit(got) == np.signbit(wanted)


def test_float_answers_read_back_to_the_same_bits(perigee):
    random = np.random.default_rng(4)
    for datatype, bits in (("FP16", np.uint16), ("BF16", np.uint16), ("FP32", np.uint32),
                           ("FP64", np.uint64)):
        dtype = DTYPES[datatype]
        sent = random.integers(0, np.iinfo(bits).max, 4096, bits, endpoint=True).view(dtype)
        sent = sent[np.isfinite(sent)].reshape(1, -1)
        headers, body = split_body(
            {"inputs": [tensor("x", datatype, sent.shape, binary_data_size=sent.nbytes)]},
            sent.tobytes())
        status, _, answer = perigee.request(
            "POST", f"/v2/models/{endpoint_of(datatype)}/infer", body, headers)
        assert status == 200, answer
        got = np.array(json.loads(answer)["outputs"][0]["data"], np.float64).astype(dtype)
        assert got.tobytes() == sent.tobytes(), datatype


@pytest.mark.parametrize("datatype,value", [
    ("FP16", "65520"), ("FP16", "-1e6"), ("BF16", "3.4e38"), ("BF16", "1e39"), ("FP32", "3.5e38"),
    ("FP32", "-1e39"), ("FP64", "1.8e308"), ("FP64", "-1e400")])
def test_a_float_out_of_range_is_refused_with_its_place(perigee, datatype, value):
    body = (f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[1,2],'
            f'"data":[0,{value}]}}]}}')
    status, _, answer = perigee.request("POST", f"/v2/models/{endpoint_of(datatype)}/infer", body)
    assert status == (200 if value == "3.4e38" and datatype == "FP32" else 400), answer
    assert b"data[1]" in answer and b"range" in answer


@pytest.mark.parametrize("datatype", FLOATS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"'])
def test_nan_and_infinities_in_json_are_refused_with_a_hint_at_binary(perigee, datatype, value):
    body = (f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[1,2],'
            f'"data":[0,{value}]}}]}}')
    status, headers, answer = perigee.request(
        "POST", f"/v2/models/{endpoint_of(datatype)}/infer", body)
    assert (status, headers["Perigee-Error"]) == (400, "bad_input")
    assert b"binary" in answer and b"data[1]" in answer, answer


@pytest.mark.parametrize("datatype", FLOATS)
def test_nan_and_infinities_pass_as_binary_and_are_null_in_json(perigee, datatype):
    sent = np.array([[np.nan, np.inf, -np.inf, 1]], DTYPES[datatype])
    headers, body = split_body(
        {"inputs": [tensor("x", datatype, sent.shape, binary_data_size=sent.nbytes)]},
        sent.tobytes())
    path = f"/v2/models/{endpoint_of(datatype)}/infer"
    status, _, answer = perigee.request("POST", path, body, headers)
    assert status == 200
    assert json.loads(answer)["outputs"][0]["data"] == [None, None, None, 1]
    headers, body = split_body(
        {"inputs": [tensor("x", datatype, sent.shape, binary_data_size=sent.nbytes)],
         "parameters": {"binary_data_output": True}}, sent.tobytes())
    status, got, answer = perigee.request("POST", path, body, headers)
    assert status == 200 and answer_parts(got, answer)[1]["y"] == sent.tobytes()


def test_what_a_model_makes_of_numbers_may_be_null(perigee):
    row = ask(perigee, "logarithm", tensor("x", "FP32", [3], [1, 0, -1]))["y"]
    assert row["data"] == [0, None, None]


# --- BOOL and BYTES ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "0", '"true"', "null", "truer", "tru"])
def test_what_is_neither_true_nor_false_is_refused(perigee, value):
    body = ('{"inputs":[{"name":"x","datatype":"BOOL","shape":[1,1],"data":[%s]}]}' % value)
    status, _, answer = perigee.request("POST", "/v2/models/identity-bool/infer", body)
    assert status == 400, answer


def test_strings_keep_every_character(perigee):
    text = r'["", "\u0000", "\"\\\/\b\f\n\r\t", "\ud83d\ude00", "é中", "a\u0301"]'
    status, answer = numbers(perigee, "BYTES", text)
    assert status == 200
    assert answer["outputs"][0]["data"] == json.loads(text)


@pytest.mark.parametrize("text", [r'["\ud83d"]', r'["\udc00"]', r'["\ud83dx"]', r'["\x"]', '["a',
                                  '["\x01"]'])
def test_a_string_that_is_no_string_of_json_is_refused(perigee, text):
    body = '{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,1],"data":%s}]}' % text
    status, _, answer = perigee.request("POST", "/v2/models/identity-bytes/infer", body)
    assert status == 400, answer


def test_json_that_is_not_utf8_is_refused(perigee):
    body = (b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,1],"data":["\xff\xfe"]}]}')
    status, _, answer = perigee.request("POST", "/v2/models/identity-bytes/infer", body)
    assert status == 400 and "UTF-8" in json.loads(answer)["error"]


def test_bytes_that_are_not_utf8_need_binary_data_on_the_way_out(perigee):
    data = strings(b"fine", b"\xff\x00\xfe")
    path = "/v2/models/identity-bytes/infer"
    inputs = [tensor("x", "BYTES", [1, 2], binary_data_size=len(data))]
    headers, body = split_body({"inputs": inputs}, data)
    status, got, answer = perigee.request("POST", path, body, headers)
    assert (status, got["Perigee-Error"]) == (400, "bad_input")
    said = json.loads(answer)["error"]
    assert "binary_data" in said and "'y'" in said and "1" in said
    headers, body = split_body({"inputs": inputs, "outputs": [
        {"name": "y", "parameters": {"binary_data": True}}]}, data)
    status, got, answer = perigee.request("POST", path, body, headers)
    assert status == 200 and answer_parts(got, answer)[1]["y"] == data


@pytest.mark.parametrize("data,shape", [
    (strings(b"ab") + b"\0", [1, 1]), (struct.pack("<I", 5) + b"abc", [1, 1]),
    (struct.pack("<I", 0xffffffff) + b"abc", [1, 1]), (strings(b"a", b"b"), [1, 1]),
    (strings(b"a") + b"\1\0\0", [1, 2]), (strings(b"abcd"), [1, 2])])
def test_lying_lengths_of_strings_are_refused(perigee, data, shape):
    headers, body = split_body(
        {"inputs": [tensor("x", "BYTES", shape, binary_data_size=len(data))]}, data)
    status, _, answer = perigee.request("POST", "/v2/models/identity-bytes/infer", body, headers)
    assert status == 400 and "'x'" in json.loads(answer)["error"], answer
    assert infer(perigee, "identity-bytes", [tensor("x", "BYTES", [1, 1], ["on"])])[0] == 200
