# SPDX-License-Identifier: Apache-2.0
"""What tests of the data plane share: endpoints of the small models, requests, raw HTTP/1.1."""
import contextlib
import json
import os
import socket
import struct

import ml_dtypes
import numpy as np
import tritonclient.http

from deadline import DEADLINE
from perigee import ROOT

MODELS = ROOT / "tests" / "models"
JSON = "application/json"

# Numpy's type of each datatype of the protocol.
DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64,
    "BYTES": np.object_,
}


def apply(perigee, *endpoints):
    """Makes endpoints of specs; `model` is a name in tests/models. Returns when all are ready.
    Those that say nothing of it have one replica: what is filled and killed is to stay alone."""
    documents = []
    for spec in endpoints:
        model = spec["model"]
        path = model if isinstance(model, os.PathLike) else MODELS / f"{model}.onnx"
        scale = spec.get("scale", {})
        scale = {"max": max(1, scale.get("min", 1)), **scale}
        documents.append(json.dumps({**spec, "model": str(path), "scale": scale}))
    return perigee.cli("apply", "-f", "-", stdin="\n---\n".join(documents).encode())


def identities():
    """An endpoint of y = x for each datatype: identity-fp32 and so on."""
    return [{"name": f"identity-{name.lower()}", "model": f"identity_{name.lower()}"}
            for name in DTYPES]


@contextlib.contextmanager
def triton(perigee, **options):
    host, port = perigee.address()
    with tritonclient.http.InferenceServerClient(f"{host}:{port}", **options) as client:
        yield client


def tensor(name, datatype, shape, data=None, **parameters):
    """A tensor of a request as JSON has it."""
    found = {"name": name, "datatype": datatype, "shape": list(shape)}
    if data is not None:
        found["data"] = data
    if parameters:
        found["parameters"] = parameters
    return found


def infer(perigee, endpoint, inputs, headers=None, **more):
    """POST of JSON: (status, headers, answer)."""
    status, got, body = perigee.request("POST", f"/v2/models/{endpoint}/infer",
                                        {"inputs": inputs, **more}, headers)
    return status, got, json.loads(body)


def ask(perigee, endpoint, *inputs, **more):
    """The outputs of an inference that must succeed, by name."""
    status, _, answer = infer(perigee, endpoint, list(inputs), **more)
    assert status == 200, answer
    return {row["name"]: row for row in answer["outputs"]}


def refused(perigee, endpoint, inputs, status=400, **more):
    """The text of an inference that must fail."""
    got, headers, answer = infer(perigee, endpoint, inputs, **more)
    assert got == status, answer
    assert list(answer) == ["error"] and isinstance(answer["error"], str)
    assert headers["Perigee-Error"] and headers["X-Request-Id"]
    return answer["error"]


def split_body(header, *parts):
    """(headers, body) of the binary tensor extension."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return ({"Inference-Header-Content-Length": str(len(text)),
             "Content-Type": "application/octet-stream"}, text + b"".join(parts))


def strings(*elements):
    """BYTES as binary data has them."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def answer_parts(headers, body):
    """(JSON, outputs by name: bytes where binary) of an answer."""
    length = headers["Inference-Header-Content-Length"]
    header = json.loads(body[:int(length)] if length else body)
    rest = body[int(length):] if length else b""
    found = {}
    for row in header["outputs"]:
        size = row.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[row["name"]] = row["data"]
        else:
            found[row["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return header, found


class Wire:
    """One connection, byte by byte: for what no client library would send."""

    def __init__(self, perigee, listener="gateway"):
        self.socket = perigee.connect(listener)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def send(self, *parts):
        self.socket.sendall(b"".join(p if isinstance(p, bytes) else p.encode() for p in parts))
        return self

    def send_chunks(self, path, headers, body, size=1 << 20):
        """A POST whose length is not told; sends no more once the other side does not listen."""
        self.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n",
                  *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(body), size):
                part = body[at:at + size]
                self.send(f"{len(part):x}\r\n", part, "\r\n")
            self.send("0\r\n\r\n")
        return self

    def _more(self):
        read = self.socket.recv(65536)
        if not read:
            raise EOFError(f"the connection ended after {self.rest[:200]!r}")
        self.rest += read

    def _take(self, size):
        parts, missing = [self.rest[:size]], size - len(self.rest)
        self.rest = self.rest[size:]
        while missing > 0:  # apart from `rest`, which would be copied whole with each piece
            read = self.socket.recv(min(missing, 1 << 20))
            if not read:
                raise EOFError(f"the connection ended {missing} bytes before the end of a body")
            parts.append(read)
            missing -= len(read)
        return b"".join(parts)

    def _line(self):
        while b"\r\n" not in self.rest:
            self._more()
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line.decode("latin-1")

    def answer(self, head_only=False):
        """The next answer: Answer(version, status, headers by small name, body, chunked)."""
        version, status, *_ = self._line().split(" ", 2)
        headers = {}
        while line := self._line():
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        body, chunked = b"", "chunked" in headers.get("transfer-encoding", "")
        if head_only or int(status) in (204, 304) or int(status) < 200:
            pass
        elif chunked:
            while size := int(self._line().split(";")[0], 16):
                body += self._take(size)
                assert self._take(2) == b"\r\n"
            while self._line():
                pass
        elif "content-length" in headers:
            body = self._take(int(headers["content-length"]))
        else:
            with contextlib.suppress(EOFError):
                while True:
                    self._more()
            body, self.rest = self.rest, b""
        return Answer(version, int(status), headers, body)

    def final(self):
        """The next answer behind those of 1xx."""
        while (answer := self.answer()).status < 200 and answer.status != 101:
            pass
        return answer

    def ended(self):
        """True when the peer closes, with nothing more to read."""
        self.socket.settimeout(DEADLINE)
        try:
            return not self.rest and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)


class Answer:
    def __init__(self, version, status, headers, body):
        self.version, self.status, self.headers, self.body = version, status, headers, body

    def json(self):
        return json.loads(self.body)
