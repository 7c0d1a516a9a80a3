# SPDX-License-Identifier: Apache-2.0
"""Each operator case of ONNX, served through an endpoint of its own: shapes, datatypes and values.

Judged by in-process ONNX Runtime: a case that it does not pass is skipped, and the reason counted.
"""

import collections
import concurrent.futures
import hashlib
import http.client
import json
import threading

import numpy as np
import pytest

import operators
from deadline import DEADLINE

IN_FLIGHT = 4
WRONG_MAX = 20  # then something general is wrong
NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": np.uint16,
}


class Endpoints:
    """Follows control's stream of endpoints, so that a state can be waited for."""

    def __init__(self, perigee):
        self.changed = threading.Condition()
        self.views = {}
        self.connection = http.client.HTTPConnection(*perigee.address("control"))
        self.connection.request("GET", "/api/v1/endpoints?watch=1&limit=1000")
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self):
        try:
            for line in self.answer:
                if line.startswith(b"data: ") and b'"state"' in line:
                    view = json.loads(line[6:])
                    with self.changed:
                        self.views[view["name"]] = view
                        self.changed.notify_all()
        except (OSError, ValueError, AttributeError):
            pass  # closed

    def wait_settled(self, name):
        def settled():
            return self.views.get(name, {}).get("state") in ("active", "failed")

        with self.changed:
            assert self.changed.wait_for(settled, DEADLINE), f"{name}: {self.views.get(name)}"
            return self.views.pop(name)

    def close(self):
        self.connection.sock.shutdown(2)
        self.thread.join(DEADLINE)


class Client(threading.local):
    """A thread's own connections."""

    def __init__(self, perigee):
        self.connections = {
            listener: http.client.HTTPConnection(*perigee.address(listener), timeout=DEADLINE)
            for listener in ("gateway", "control")
        }

    def call(self, listener, method, path, body=None, **headers):
        connection = self.connections[listener]
        connection.request(
            method, path, body, {key.replace("_", "-"): value for key, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def infer(client, name, case):
    """The outputs by name, all binary both ways."""
    inputs, data = [], b""
    for tensor in case.inputs:
        content = tensor.bytes()
        inputs.append(
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.array.shape),
                "parameters": {"binary_data_size": len(content)},
            }
        )
        data += content
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    status, headers, body = client.call(
        "gateway",
        "POST",
        f"/v2/models/{name}/infer",
        head + data,
        Inference_Header_Content_Length=str(len(head)),
        Content_Type="application/octet-stream",
    )
    assert status == 200, f"{status} {body[:400]!r}"
    size = int(headers["Inference-Header-Content-Length"])
    answer, at, outputs = json.loads(body[:size]), size, {}
    for output in answer["outputs"]:
        size = output["parameters"]["binary_data_size"]
        content, at = body[at : at + size], at + size
        if output["datatype"] == "BYTES":
            array = np.array(list(texts(content)), dtype=object)
        else:
            array = np.frombuffer(content, NUMPY[output["datatype"]])
        outputs[output["name"]] = operators.Tensor(
            output["name"], output["datatype"], array.reshape(output["shape"])
        )
    assert at == len(body)
    return outputs


def texts(data):
    while data:
        size = int.from_bytes(data[:4], "little")
        yield data[4 : 4 + size]
        data = data[4 + size :]


def serve(client, endpoints, name, case):
    """None, or what is wrong."""
    model = (case.folder / "model.onnx").read_bytes()
    digest = "sha256:" + hashlib.sha256(model).hexdigest()
    status, _, body = client.call(
        "control",
        "PUT",
        f"/api/v1/blobs/{digest}",
        model,
        Content_Type="application/octet-stream",
    )
    assert status in (200, 201), f"{status} {body[:400]!r}"
    spec = json.dumps({"name": name, "model": digest})
    status, _, body = client.call(
        "control", "PUT", f"/api/v1/endpoints/{name}", spec, Content_Type="application/json"
    )
    assert status in (200, 201, 202), f"{status} {body[:400]!r}"
    try:
        view = endpoints.wait_settled(name)
        if view["state"] != "active":
            return f"{view['state']}: {view['message']}"
        outputs = infer(client, name, case)
        if sorted(outputs) != sorted(wanted.name for wanted in case.outputs):
            return f"outputs {sorted(outputs)}"
        wrong = [operators.equal(outputs[wanted.name], wanted) for wanted in case.outputs]
        return next((words for words in wrong if words), None)
    finally:
        status, _, body = client.call("control", "DELETE", f"/api/v1/endpoints/{name}")
        assert status in (202, 204), f"{status} {body[:400]!r}"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("each, least", [
    pytest.param(8, 40, id="each eighth"),
    pytest.param(1, 300, id="all", marks=pytest.mark.long),
])
def test_every_operator_through_an_endpoint(perigee, testdata, capsys, each, least):
    client, endpoints = Client(perigee), Endpoints(perigee)
    skipped, wrong, passed = collections.Counter(), {}, 0
    with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        running = {}

        def finish(futures):
            nonlocal passed
            for future in futures:
                name = running.pop(future)
                try:
                    words = future.result()
                except Exception as fault:  # told below, with all others
                    words = repr(fault)
                if words:
                    wrong[name] = words
                else:
                    passed += 1

        for number, (name, case) in enumerate(operators.cases(testdata)):
            if len(wrong) >= WRONG_MAX:
                break
            if isinstance(case, operators.Skip):
                skipped[str(case)] += 1
                continue
            if number % each:
                continue
            running[pool.submit(serve, client, endpoints, f"op-{number}", case)] = name
            if len(running) > 2 * IN_FLIGHT:
                finish(concurrent.futures.wait(running, None, "FIRST_COMPLETED").done)
        finish(concurrent.futures.wait(running).done)
    endpoints.close()
    with capsys.disabled():
        print(f"\noperator cases: {passed} passed, {len(wrong)} failed")
        for reason, count in skipped.most_common():
            print(f"  {count:4} skipped: {reason}")
    assert not wrong, "\n".join(f"{name}: {words}" for name, words in sorted(wrong.items()))
    assert passed >= least
