# SPDX-License-Identifier: Apache-2.0
"""What `perigee infer` makes of an answer: shown, kept in a .npz, or said to be wrong."""
import contextlib
import http.server
import json
import threading

import numpy as np
import pytest

from oip import MODELS
from perigee import DIGITS

WORDS = [[b"caf\xc3\xa9", b"\xff\x00\x1b[31m", b""]]
# What JSON has no number for.
BEYOND = np.array([[np.nan, np.inf, -np.inf, 1.5]], np.float32)


@pytest.fixture(scope="module")
def served(perigee):
    for name in ("bytes", "fp32", "bf16", "bool", "int64", "fp16"):
        perigee.cli("deploy", f"same-{name}", "--model", MODELS / f"identity_{name}.onnx")
    return perigee


def infer(perigee, scratch, name, array, *arguments, **more):
    (input_name,) = [row["name"] for row in perigee.get_json(f"/v2/models/{name}")["inputs"]]
    np.save(scratch / "given.npy", array)
    return perigee.cli("infer", name, "--input", f"{input_name}={scratch / 'given.npy'}",
                       *arguments, **more)


def kept(path):
    with np.load(path) as file:
        (array,) = [file[name] for name in file.files]
        return array


def test_what_json_cannot_carry_is_shown_and_kept(served, scratch):
    done = infer(served, scratch, "same-bytes", np.array(WORDS))
    assert "caf\u00e9, \\xff\\x00\\x1b[31m, \n" in done.text
    done = infer(served, scratch, "same-bytes", np.array(WORDS), "--save", scratch / "w.npz")
    assert "1 output kept in" in done.said
    assert kept(scratch / "w.npz").tolist() == WORDS
    done = infer(served, scratch, "same-fp32", BEYOND, "--save", scratch / "n.npz")
    assert "nan, inf, -inf, 1.5\n" in done.text
    assert np.array_equal(kept(scratch / "n.npz"), BEYOND, equal_nan=True)
    refused = infer(served, scratch, "same-bytes", np.array(WORDS), "--json", status=1)
    assert "not UTF-8" in refused.said


@pytest.mark.parametrize("name,array,dtype", [
    ("fp32", np.arange(24, dtype=np.float32).reshape(6, 4) / 7, np.float32),
    ("fp16", np.array([[0.1], [65504]], np.float16), np.float16),
    ("bf16", np.array([[1.5, -2, 3e38]], np.float32), np.float32),  # NumPy has no such type
    ("bool", np.array([[True, False]]), np.bool_),
    ("int64", np.array([[-1 << 63, (1 << 63) - 1]]), np.int64),
    ("fp32", np.zeros((0, 3), np.float32), np.float32),
], ids=["fp32", "fp16", "bf16", "bool", "int64", "empty"])
def test_what_is_kept_is_what_was_answered(served, scratch, name, array, dtype):
    done = infer(served, scratch, f"same-{name}", array, "--save", scratch / "k.npz", "--json")
    got = kept(scratch / "k.npz")
    assert got.dtype == dtype and got.shape == array.shape
    if name == "bf16":
        assert np.allclose(got, array, rtol=2 ** -8)
    else:
        assert np.array_equal(got, array)
    (said,) = json.loads(done.text)["outputs"]
    assert said["shape"] == list(array.shape) and "data" not in said
    # And goes in again.
    again = infer(served, scratch, f"same-{name}", got, "--json")
    assert len(json.loads(again.text)["outputs"][0]["data"]) == array.size


def test_large_outputs_are_no_json(served, scratch):
    """At 10 bytes an element it would be more than the 64 MiB that an answer in JSON may have."""
    array = np.full((1, 7 << 20), 0.123456789, np.float32)
    done = infer(served, scratch, "same-fp32", array, "--save", scratch / "k.npz")
    assert "0.1235, 0.1235" in done.text and "more)" in done.text
    assert np.array_equal(kept(scratch / "k.npz"), array)
    refused = infer(served, scratch, "same-fp32", array, "--json", status=1)
    assert "binary" in refused.said


def test_all_outputs_are_kept_by_name(perigee, digits, scratch):
    image = np.load(DIGITS / "held_out.npz")["image"][:2].astype(np.float32)
    infer(perigee, scratch, digits, image, "--save", scratch / "k.npz")
    with np.load(scratch / "k.npz") as file:
        assert sorted(file.files) == ["label", "probabilities"]
        assert file["probabilities"].shape == (2, 10) and file["label"].dtype == np.int64
    assert sorted(path.name for path in scratch.iterdir()) == ["given.npy", "k.npz"]


def test_what_cannot_be_kept_is_said(perigee, digits, scratch):
    image = np.zeros((1, 64), np.float32)
    refused = infer(perigee, scratch, digits, image, "--save", scratch / "no/k.npz", status=1)
    assert "--save: '" in refused.said and "No such file" in refused.said
    (scratch / "folder").mkdir()
    infer(perigee, scratch, digits, image, "--save", scratch / "folder", status=1)
    assert not list(scratch.glob("*.part"))


# --- other gateways ------------------------------------------------------------------------------


@contextlib.contextmanager
def gateway(answer, binary=b"", length=True):
    """One that answers every request so; its url."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self, head, rest=b"", said=False):
            self.send_response(200)
            self.send_header("Content-Length", str(len(head) + len(rest)))
            if said:
                self.send_header("Inference-Header-Content-Length", str(len(head)))
            self.end_headers()
            self.wfile.write(head + rest)

        def do_GET(self):
            self.reply(json.dumps({"name": "m", "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1]}]}).encode())

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(json.dumps({"outputs": answer}).encode(), binary, length)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def output(shape, size=None, datatype="FP32", **more):
    parameters = {"parameters": {"binary_data_size": size}} if size is not None else {}
    return {"name": "y", "datatype": datatype, "shape": shape, **parameters, **more}


def ask(perigee, scratch, url, *arguments, status=0):
    np.save(scratch / "given.npy", np.zeros(1, np.float32))
    return perigee.cli("infer", "other", "--input", f"x={scratch / 'given.npy'}", "--url", url,
                       *arguments, status=status)


def test_a_gateway_that_knows_json_alone_is_understood(perigee, scratch):
    with gateway([output([2, 2], data=[1, 2.5, 3, 4])], length=False) as url:
        assert "y FP32 [2,2]\n  1, 2.5\n  3, 4\n" in ask(perigee, scratch, url).text
        refused = ask(perigee, scratch, url, "--save", scratch / "k.npz", status=1)
    assert "does not answer in binary" in refused.said
    assert not (scratch / "k.npz").exists()


@pytest.mark.parametrize("answer,binary,words", [
    ([output([2], 8)], bytes(4), "it is cut"),
    ([output([2], 8)], bytes(12), "4 bytes belong to no output"),
    ([output([3], 8)], bytes(8), "other bytes than its shape"),
    ([output([-1], 8)], bytes(8), "its shape cannot be"),
    ([output([1 << 62, 4], 8)], bytes(8), "its shape cannot be"),
    ([output([1] * 17, 4)], bytes(4), "it has no shape"),
    ([output(["2"], 8)], bytes(8), "it has no shape"),
    ([output([2], 8, "FP13")], bytes(8), "'FP13' is not known"),
    ([output([1], 5, "BYTES")], b"\x02\0\0\0a", "output 'y'"),
    ([output([2], 5, "BYTES")], b"\x01\0\0\0a", "output 'y'"),
], ids=["cut", "more", "shape", "negative", "absurd", "rank", "text", "datatype", "length",
        "elements"])
def test_an_answer_that_lies_is_refused(perigee, scratch, answer, binary, words):
    with gateway(answer, binary) as url:
        refused = ask(perigee, scratch, url, "--save", scratch / "k.npz", status=1)
    assert "the gateway's answer cannot be read" in refused.said and words in refused.said
    assert not (scratch / "k.npz").exists()


@pytest.mark.parametrize("shape", [None, [1, 2.0], [1] * 17], ids=["none", "float", "rank"])
def test_json_is_printed_as_it_came(perigee, scratch, shape):
    answer = [{"name": "y", "datatype": "FP32", "shape": shape, "data": [1, 2]}]
    with gateway(answer, length=False) as url:
        assert json.loads(ask(perigee, scratch, url, "--json").text)["outputs"] == answer
        assert "cannot be read" in ask(perigee, scratch, url, status=1).said


@pytest.mark.parametrize("name", ["../y", "a\\b", "y" * 1001], ids=["up", "slash", "long"])
def test_a_name_that_is_none_in_an_archive_is_refused(perigee, scratch, name):
    with gateway([output([1], 4) | {"name": name}], bytes(4)) as url:
        refused = ask(perigee, scratch, url, "--save", scratch / "k.npz", status=1)
    assert "no name for a file in an archive" in refused.said
    assert not list(scratch.glob("k.npz*"))
