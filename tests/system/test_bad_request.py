# SPDX-License-Identifier: Apache-2.0
"""Requests that are wrong: each gets a clear error in the protocol's form, and nothing is lost."""
import gzip
import json
import struct

import pytest

from oip import Wire, answer_parts, apply, ask, refused, split_body, strings, tensor

pytestmark = pytest.mark.usefixtures("endpoints")
PATH = "/v2/models/pair/infer"
A = tensor("x", "FP32", [2], [1, 2])
I = tensor("i", "INT64", [1], [1])
JSON_MAX = 16 << 20


@pytest.fixture(scope="module")
def endpoints(perigee):
    apply(perigee, {"name": "pair", "model": "pick"}, {"name": "words", "model": "identity_bytes"},
          {"name": "many", "model": "many"}, {"name": "bytes", "model": "identity_uint8"},
          {"name": "log", "model": "logarithm"})


@pytest.fixture(autouse=True)
def still_well(perigee, endpoints):
    """After each: the same replica still answers, and rightly."""
    before = pids(perigee)
    yield
    assert ask(perigee, "pair", A, I)["y"]["data"] == [2]
    assert pids(perigee) == before


def pids(perigee):
    return [row["pid"] for row in perigee.get_json("/api/v1/replicas", "control")["items"]]


def post(perigee, body, headers=None, path=PATH):
    """(status, Perigee-Error, text) of an error in OIP's form."""
    status, got, answer = perigee.request("POST", path, body, headers)
    assert status >= 400, answer[:200]
    assert got["X-Request-Id"] and got["Content-Type"].startswith("application/json")
    said = json.loads(answer)
    assert list(said) == ["error"] and said["error"]
    assert len(answer) < 2000, "an error repeats what was sent"
    return status, got["Perigee-Error"], said["error"]


def bad(perigee, body, *words, headers=None, path=PATH):
    status, name, said = post(perigee, body, headers, path)
    assert (status, name) == (400, "bad_input"), said
    for word in words:
        assert word in said, said
    return said


@pytest.mark.parametrize("form", ["chunked", "gzip"])
def test_a_tensor_alone_is_no_json(perigee, form):
    """What bounds JSON does not bound it, whether its length is known or not; limits.body does."""
    head = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    path = "/v2/models/log/infer"
    for size, wanted in ((JSON_MAX + 4096, 200), ((64 << 20) + 4, 413)):
        body = b"\0\0\x80\x3f" * (size // 4)
        if form == "gzip":
            status, headers, answer = perigee.request(
                "POST", path, gzip.compress(body, 1), {**head, "Content-Encoding": "gzip"})
        else:
            with Wire(perigee) as wire:
                got = wire.send_chunks(path, head, body).answer()
            status, answer = got.status, got.body
            headers = {"Inference-Header-Content-Length":
                       got.headers.get("inference-header-content-length")}
        assert status == wanted, answer[:200]
        if wanted == 413:
            assert "67108864 bytes" in json.loads(answer)["error"]
        else:
            _, parts = answer_parts(headers, answer)
            assert parts["y"] == bytes(size)


# --- names, shapes, datatypes, counts ---------------------------------------------------------


def test_wrong_names(perigee):
    bad(perigee, {"inputs": [{**A, "name": "z"}, I]}, "'z'", "'x'", "'i'")
    bad(perigee, {"inputs": [A]}, "'i'", "missing")
    bad(perigee, {"inputs": []}, "missing")
    bad(perigee, {}, "inputs")
    bad(perigee, {"inputs": [A, A, I]}, "'x'", "twice")
    bad(perigee, {"inputs": [A, I, {**A, "name": "more"}]}, "'more'")
    bad(perigee, {"inputs": [{**A, "name": ""}, I]})
    bad(perigee, {"inputs": [{k: v for k, v in A.items() if k != "name"}, I]}, "name")
    bad(perigee, {"inputs": [{**A, "name": 7}, I]})
    bad(perigee, {"inputs": [{**A, "name": "x" * 100_000}, I]})
    bad(perigee, {"inputs": [{**A, "name": "\x1b[31m\n"}, I]})


def test_an_error_shows_no_control_characters(perigee):
    said = bad(perigee, {"inputs": [{**A, "name": "\x1b[31m\u0000\n"}, I]})
    assert not any(ord(character) < 32 for character in said)


def test_wrong_shapes(perigee):
    for shape in ([1, 2], [], [2, 1, 1], [2] * 17):
        bad(perigee, {"inputs": [{**A, "shape": shape}, I]}, "shape")
    for shape in ("2", 2, None, {}, ["2"], [2.5], [True], [[2]], [None]):
        bad(perigee, {"inputs": [{**A, "shape": shape}, I]})
    bad(perigee, {"inputs": [{k: v for k, v in A.items() if k != "shape"}, I]}, "shape")


def test_negative_dimensions(perigee):
    for size in (-1, -2, -9223372036854775808, -9223372036854775809):
        bad(perigee, {"inputs": [{**A, "shape": [size]}, I]})
    bad(perigee, {"inputs": [tensor("x", "UINT8", [-2, -2], [1, 2, 3, 4])]},
        path="/v2/models/bytes/infer")


def test_dimensions_whose_product_overflows(perigee):
    """Nothing is allocated for what the text cannot hold."""
    for shape in ([1 << 32, 1 << 32], [1 << 62, 4], [(1 << 63) - 1, (1 << 63) - 1],
                  [1 << 40, 1 << 20], [1 << 63, 1], [1 << 64, 1], [10 ** 40, 1]):
        for more in ({"data": [1, 2]}, {"parameters": {"binary_data_size": 0}},
                     {"parameters": {"binary_data_size": 1 << 40}}):
            row = {**tensor("x", "UINT8", shape), **more}
            headers, body = split_body({"inputs": [row]})
            if "data" in more:
                headers, body = {}, json.dumps({"inputs": [row]})
            status, name, _ = post(perigee, body, headers, "/v2/models/bytes/infer")
            assert (status, name) in ((400, "bad_input"), (413, "too_large"))
    # A dimension of zero beside ones that would overflow: no elements, and no surprise.
    status, _, answer = perigee.request("POST", "/v2/models/bytes/infer", {
        "inputs": [tensor("x", "UINT8", [0, (1 << 63) - 1], [])]})
    assert status in (200, 400, 413), answer


def test_wrong_datatypes(perigee):
    for kind in ("FP64", "INT64", "fp32", "FLOAT", "", "FP32 ", "TYPE_FP32", "BYTES"):
        bad(perigee, {"inputs": [{**A, "datatype": kind}, I]}, "'x'", "FP32")
    for kind in (7, None, [], {}):
        bad(perigee, {"inputs": [{**A, "datatype": kind}, I]})
    bad(perigee, {"inputs": [{k: v for k, v in A.items() if k != "datatype"}, I]}, "datatype")


def test_too_few_and_too_many_elements(perigee):
    for data, word in (([1], "fewer"), ([], "fewer"), ([1, 2, 3], "more"), ([1] * 5000, "more")):
        bad(perigee, {"inputs": [{**A, "data": data}, I]}, "'x'", word)
    many = tensor("x", "UINT8", [2, 2])
    for data in ([[1, 2], [3]], [[1, 2, 3], [4]], [[1, 2]], [[1, 2], [3, 4], [5, 6]],
                 [[1, 2], 3, 4], [1, [2, 3], 4], [[[1, 2]], [[3, 4]]], [[1, 2], [[3], 4]]):
        bad(perigee, {"inputs": [{**many, "data": data}]}, "'x'", path="/v2/models/bytes/infer")


def test_data_that_is_no_list(perigee):
    for data in (1, "12", None, {}, True, {"0": 1}):
        bad(perigee, {"inputs": [{**A, "data": data}, I]})
    bad(perigee, {"inputs": [{k: v for k, v in A.items() if k != "data"}, I]}, "data")


def test_strings_for_numbers_and_numbers_for_strings(perigee):
    bad(perigee, {"inputs": [{**A, "data": ["1", 2]}, I]}, "data[0]", "string")
    bad(perigee, {"inputs": [{**A, "data": [1, "2"]}, I]}, "data[1]", "string")
    bad(perigee, {"inputs": [{**A, "data": [1, None]}, I]}, "data[1]")
    bad(perigee, {"inputs": [{**A, "data": [1, True]}, I]}, "data[1]")
    bad(perigee, {"inputs": [tensor("x", "BYTES", [1, 2], ["a", 1])]}, "data[1]", "string",
        path="/v2/models/words/infer")


# --- binary data -------------------------------------------------------------------------------


def binary(size, *parts, shape=(2,), length=None, **more):
    row = tensor("x", "FP32", shape, binary_data_size=size)
    headers, body = split_body({"inputs": [{**row, **more}, I]}, *parts)
    if length is not None:
        headers["Inference-Header-Content-Length"] = str(length)
    return headers, body


def test_binary_sizes_that_lie(perigee):
    data = struct.pack("<2f", 1, 2)
    for size, part in ((4, data[:4]), (9, data + b"x"), (0, b""), (12, data + b"four"),
                       (8, b""), (8, data[:7]), (8, data + b"more"), (1 << 40, data),
                       ((1 << 64) - 1, data)):
        headers, body = binary(size, part)
        status, name, said = post(perigee, body, headers)
        assert (status, name) in ((400, "bad_input"), (413, "too_large")), said
    for size in (-8, 8.5, "8", None, True, [], 1 << 64):
        headers, body = binary(size, data)
        bad(perigee, body, headers=headers)


def test_binary_data_and_data_at_once(perigee):
    headers, body = binary(8, struct.pack("<2f", 1, 2), data=[1, 2])
    bad(perigee, body, "'x'", "both", headers=headers)


def test_lying_lengths_of_the_json_header(perigee):
    data = struct.pack("<2f", 1, 2)
    _, body = binary(8, data)
    text = len(body) - len(data)
    for length in (text - 1, text + 1, text + 8, len(body) + 1, 1, 1 << 40, 1 << 63, 1 << 64):
        status, name, said = post(perigee, body, {"Inference-Header-Content-Length": str(length)})
        assert (status, name) in ((400, "bad_input"), (413, "too_large")), (length, said)
    for length in ("-1", "x", "", "0x10", "1 1", "1.5", "+5"):
        bad(perigee, body, headers={"Inference-Header-Content-Length": length})


def test_a_binary_input_without_the_header(perigee):
    bad(perigee, {"inputs": [tensor("x", "FP32", [2], binary_data_size=8), I]}, "8")


def test_a_chunked_body_that_ends_early_or_late(perigee):
    header = json.dumps({"inputs": [tensor("x", "FP32", [2], binary_data_size=8), I]}).encode()
    for data in (b"", b"1234567", b"123456789"):
        with Wire(perigee) as wire:
            body = header + data
            wire.send(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                      f"Inference-Header-Content-Length: {len(header)}\r\n\r\n"
                      f"{len(body):x}\r\n".encode(), body, b"\r\n0\r\n\r\n")
            answer = wire.answer()
            assert answer.status == 400 and answer.headers["perigee-error"] == "bad_input"


def test_a_client_that_goes_away_in_its_body(perigee):
    headers, body = binary(8, struct.pack("<2f", 1, 2))
    for cut in (1, 20, len(body) - 4):
        with Wire(perigee) as wire:
            wire.send(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                      f"Inference-Header-Content-Length: "
                      f"{headers['Inference-Header-Content-Length']}\r\n\r\n", body[:cut])


def test_lying_lengths_of_binary_strings(perigee):
    for data in (struct.pack("<I", 1 << 31) + b"x", strings(b"a") + b"\0", b"\xff\xff\xff\xff",
                 b"abc"):
        headers, body = split_body(
            {"inputs": [tensor("x", "BYTES", [1, 1], binary_data_size=len(data))]}, data)
        bad(perigee, body, "'x'", headers=headers, path="/v2/models/words/infer")


# --- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "", " ", "null", "7", '"x"', "[]", "[[]]", "{", "}", '{"inputs"}', '{"inputs":}',
    '{"inputs":[}', '{"inputs":[]', '{"inputs":[]}}', '{"inputs":[],}', "{'inputs':[]}",
    '{inputs:[]}', '{"inputs":[] "outputs":[]}', '{"inputs":[]}x', '{"inputs":{}}',
    '{"inputs":[1]}', '{"inputs":[null]}', '{"inputs":"x"}', '\ufeff{"inputs":[]}',
    '{"inputs":[{"name":"x",}]}', '{"inputs":[{"name":"x" "shape":[2]}]}', '{"\\ud800":1}',
    '{"inputs":[],"inputs":[]}', '{"parameters":[]}', '{"parameters":{"n":{}}}', "nonsense",
    '{"inputs":[]}\n{"inputs":[]}', "/* no */{}", '{"inputs":[],"id":{}}'])
def test_what_is_no_request_of_json(perigee, text):
    bad(perigee, text.encode())


def test_errors_of_json_say_where(perigee):
    said = bad(perigee, b'{"inputs": [}')
    assert "byte" in said or "12" in said


def test_json_that_is_no_utf8(perigee):
    bad(perigee, b'{"id":"\xff","inputs":[]}', "UTF-8")
    bad(perigee, b'{"inputs":[{"name":"\xc0\x80"}]}')


def test_duplicate_keys(perigee):
    whole = json.dumps(A)
    for text in ('{"id":"a","id":"b","inputs":[]}',
                 '{"inputs":[%s,%s]}' % (whole[:-1] + ',"name":"x"}', json.dumps(I)),
                 '{"inputs":[%s,%s]}' % (whole[:-1] + ',"data":[3,4]}', json.dumps(I)),
                 '{"inputs":[%s,%s]}' % (whole[:-1] + ',"\\u0064ata":[3,4]}', json.dumps(I)),
                 '{"other":1,"other":2,"inputs":[%s,%s]}' % (whole, json.dumps(I)),
                 '{"parameters":{"p":1,"p":2},"inputs":[%s,%s]}' % (whole, json.dumps(I))):
        said = bad(perigee, text)
        assert "twice" in said or "again" in said or "second time" in said or "duplicate" in said


@pytest.mark.parametrize("place", ["top", "key", "unknown", "data", "shape", "parameters",
                                   "objects"])
def test_json_100_000_levels_deep(perigee, place):
    deep = "[" * 100_000 + "]" * 100_000
    objects = '{"a":' * 100_000 + "1" + "}" * 100_000
    text = {"top": deep, "key": '{"inputs":%s}' % deep, "unknown": '{"mine":%s,"inputs":[]}' % deep,
            "data": '{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":%s}]}' % deep,
            "shape": '{"inputs":[{"name":"x","shape":%s}]}' % deep,
            "parameters": '{"parameters":{"p":%s},"inputs":[]}' % deep,
            "objects": objects}[place]
    bad(perigee, text)
    bad(perigee, text[:len(text) // 2])  # and never closed


def test_huge_json(perigee):
    """Above the limit of JSON: refused by its length before it is read, or while it comes."""
    status, name, said = post(perigee, b" " * (JSON_MAX + 1))
    assert (status, name) == (413, "too_large") and "binary" in said
    with Wire(perigee) as wire:
        wire.send(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 50}\r\n\r\n")
        assert wire.answer().status == 413
    inside = json.dumps({"inputs": [A, I]})
    status, _, _ = perigee.request("POST", PATH, inside + " " * (JSON_MAX - len(inside)))
    assert status == 200


def test_huge_numbers(perigee):
    long = "1024 characters"
    for number, word in (("1" * 100_000, long), ("-" + "9" * 50_000, long),
                         ("0." + "0" * 100_000 + "1", long), ("1e99999999999", "range"),
                         ("1" * 1000, "range")):
        text = '{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,%s]},%s]}' % (
            number, json.dumps(I))
        bad(perigee, text, "data[1]", word)
    tiny = [{**A, "data": [0, 2]}, I]
    text = json.dumps({"inputs": tiny}).replace("[0, 2]", "[0." + "0" * 1000 + "1, 2]")
    assert perigee.request("POST", PATH, text)[0] == 200
    for number in ("01", "+1", ".5", "1.", "1e", "1e+", "0x10", "1_000", "--1", "1,", "- 1"):
        bad(perigee, '{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,%s]},%s]}' % (
            number, json.dumps(I)))


def test_many_tensors(perigee):
    """A thousand inputs, and a million empty ones."""
    bad(perigee, {"inputs": [{**A, "name": f"x{i}"} for i in range(1000)]})
    bad(perigee, b'{"inputs":[' + b"{}," * 1_000_000 + b"{}]}")


def test_wrong_parameters(perigee):
    for parameters in ({"binary_data_output": 1}, {"binary_data_output": "true"}, [], "x", 7,
                       {"timeout": -1}, {"timeout": "1s"}, {"timeout": 1.5}, {"p": None},
                       {"p": []}, {"p": {}}):
        status, name, _ = post(perigee, {"inputs": [A, I], "parameters": parameters})
        assert (status, name) == (400, "bad_input"), parameters
    for parameters in ([], 7, {"binary_data_size": "8"}, {"p": {}}):
        refused(perigee, "pair", [{**A, "parameters": parameters}, I])
