# SPDX-License-Identifier: Apache-2.0
"""Makes the benchmark's models, the same bytes each time. Needs the test environment's onnx.

usage: make.py FOLDER     (bench/run calls it for build/bench/models)

add_one     y = x + 1, the smallest model there is (committed beside this)
mlp         784-256-10
mlp-big     784-2048-2048-10, 23 MB
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MLPS = {"mlp": (784, 256, 10), "mlp-big": (784, 2048, 2048, 10)}


def graph_save(path, nodes, width_in, width_out, weights):
    graph = helper.make_graph(
        nodes, path.stem.replace("-", "_"),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", width_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", width_out])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


def add_one(path):
    graph_save(path, [helper.make_node("Add", ["x", "one"], ["y"])], 4, 4,
               [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])])


def mlp(path, widths):
    """Weights of a variance that keeps the numbers of every layer of one size."""
    random = np.random.RandomState(7)
    nodes, weights, value = [], [], "x"
    layers = len(widths) - 1
    for i, (width_in, width_out) in enumerate(zip(widths, widths[1:])):
        scale = np.sqrt(2 / width_in)
        weight = (random.standard_normal((width_in, width_out)) * scale).astype(np.float32)
        bias = (random.standard_normal(width_out) * 0.1).astype(np.float32)
        weights += [numpy_helper.from_array(weight, f"w{i}"),
                    numpy_helper.from_array(bias, f"b{i}")]
        last = i == layers - 1
        sum_name = "y" if last else f"sum{i}"
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [sum_name]))
        if not last:
            value = f"relu{i}"
            nodes.append(helper.make_node("Relu", [sum_name], [value]))
    graph_save(path, nodes, widths[0], widths[-1], weights)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    add_one(folder / "add_one.onnx")
    for name, widths in MLPS.items():
        mlp(folder / f"{name}.onnx", widths)


if __name__ == "__main__":
    main()
