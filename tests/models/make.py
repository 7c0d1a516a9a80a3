#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the small models of the system tests; run after a change, and commit what it writes."""
import json
import pathlib

import onnx
from onnx import TensorProto as T
from onnx import helper as h

FOLDER = pathlib.Path(__file__).resolve().parent
TYPES = {
    "bool": T.BOOL, "uint8": T.UINT8, "uint16": T.UINT16, "uint32": T.UINT32, "uint64": T.UINT64,
    "int8": T.INT8, "int16": T.INT16, "int32": T.INT32, "int64": T.INT64, "fp16": T.FLOAT16,
    "bf16": T.BFLOAT16, "fp32": T.FLOAT, "fp64": T.DOUBLE, "bytes": T.STRING,
}


def save(name, nodes, inputs, outputs, constants=(), opset=17, properties=()):
    graph = h.make_graph(nodes, name, [h.make_tensor_value_info(*row) for row in inputs],
                         [h.make_tensor_value_info(*row) for row in outputs], list(constants))
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8,
                         producer_name="perigee-tests")
    h.set_model_props(model, dict(properties))
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / f"{name}.onnx")


def identities():
    """y = x, for each datatype; two dimensions of any size."""
    for name, kind in TYPES.items():
        save(f"identity_{name}", [h.make_node("Identity", ["x"], ["y"])],
             [("x", kind, ["n", "m"])], [("y", kind, ["n", "m"])])


def many():
    """Several inputs and outputs of several ranks: sum = a + b * scale, not = !flag ..."""
    save("many", [
        h.make_node("Mul", ["b", "scale"], ["scaled"]),
        h.make_node("Add", ["a", "scaled"], ["sum"]),
        h.make_node("Not", ["flag"], ["inverse"]),
        h.make_node("Identity", ["words"], ["same"]),
        h.make_node("ReduceSum", ["sum"], ["total"], keepdims=0),
    ], [("a", T.FLOAT, ["rows", 3]), ("b", T.FLOAT, ["rows", 3]), ("scale", T.FLOAT, []),
        ("flag", T.BOOL, [2]), ("words", T.STRING, ["count"])],
        [("sum", T.FLOAT, ["rows", 3]), ("inverse", T.BOOL, [2]), ("same", T.STRING, ["count"]),
         ("total", T.FLOAT, [])])


def logarithm():
    """y = log x, which is -inf at 0 and NaN below."""
    save("logarithm", [h.make_node("Log", ["x"], ["y"])],
         [("x", T.FLOAT, ["n"])], [("y", T.FLOAT, ["n"])])


def pick():
    """y = x[i], which fails while it runs when i is out of bounds."""
    save("pick", [h.make_node("Gather", ["x", "i"], ["y"])],
         [("x", T.FLOAT, ["n"]), ("i", T.INT64, ["k"])], [("y", T.FLOAT, ["k"])])


def grow():
    """y = n zeros: a small request with an answer as large as it says."""
    save("grow", [h.make_node("ConstantOfShape", ["n"], ["y"])],
         [("n", T.INT64, [1])], [("y", T.FLOAT, ["size"])])


def optional():
    """y = x * factor, where factor need not be sent: it is 2; y's first three have names."""
    factor = h.make_tensor("factor", T.FLOAT, [1], [2.0])
    save("optional", [h.make_node("Mul", ["x", "factor"], ["y"])],
         [("x", T.FLOAT, ["n"]), ("factor", T.FLOAT, [1])], [("y", T.FLOAT, ["n"])], [factor],
         properties={"perigee.labels.y": json.dumps(["cat", "dog", "caf\u00e9"])})


def slow():
    """Runs `rounds` rounds of a loop, so that a request takes as long as it says; y = rounds."""
    body = h.make_graph([
        h.make_node("Identity", ["going"], ["going_on"]),
        h.make_node("MatMul", ["state", "weights"], ["product"]),
        h.make_node("Tanh", ["product"], ["next"]),
    ], "body", [h.make_tensor_value_info("round", T.INT64, []),
                h.make_tensor_value_info("going", T.BOOL, []),
                h.make_tensor_value_info("state", T.FLOAT, [16, 16])],
        [h.make_tensor_value_info("going_on", T.BOOL, []),
         h.make_tensor_value_info("next", T.FLOAT, [16, 16])])
    values = [((i * 7 + 3) % 11 - 5) / 16 for i in range(256)]
    save("slow", [
        h.make_node("Squeeze", ["rounds"], ["trip"]),
        h.make_node("Loop", ["trip", "", "start"], ["end"], body=body),
        h.make_node("ReduceSum", ["end"], ["some"], keepdims=0),
        h.make_node("IsNaN", ["some"], ["never"]),
        h.make_node("Cast", ["never"], ["nothing"], to=T.INT64),
        h.make_node("Add", ["rounds", "nothing"], ["y"]),
    ], [("rounds", T.INT64, [1])], [("y", T.INT64, [1])],
        [h.make_tensor("weights", T.FLOAT, [16, 16], values),
         h.make_tensor("start", T.FLOAT, [16, 16], values)])


if __name__ == "__main__":
    for make in (identities, many, logarithm, pick, grow, optional, slow):
        make()
