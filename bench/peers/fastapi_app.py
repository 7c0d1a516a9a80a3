# SPDX-License-Identifier: Apache-2.0
"""The peer that most people write: FastAPI, orjson, onnxruntime. As quick as it is without more
code: inference runs on the event loop (a thread pool costs more than these models), numpy reads
and writes the lists.

PERIGEE_BENCH_MODELS is JSON: {"name": "path.onnx"}.
"""
import json
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import orjson  # noqa: E402
from fastapi import FastAPI, Request, Response  # noqa: E402


def session_open(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


onnxruntime.disable_telemetry_events()
sessions = {name: session_open(path)
            for name, path in json.loads(os.environ["PERIGEE_BENCH_MODELS"]).items()}
names = {name: [output.name for output in session.get_outputs()]
         for name, session in sessions.items()}
app = FastAPI()


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request):
    asked = orjson.loads(await request.body())
    feeds = {tensor["name"]: np.array(tensor["data"], np.float32).reshape(tensor["shape"])
             for tensor in asked["inputs"]}
    found = sessions[name].run(None, feeds)
    answer = {"model_name": name, "outputs": [
        {"name": output, "datatype": "FP32", "shape": value.shape, "data": value.ravel()}
        for output, value in zip(names[name], found)]}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY),
                    media_type="application/json")
