# SPDX-License-Identifier: Apache-2.0
"""Makes add_one.onnx: y = x + 1, the smallest model there is. Needs the test environment's onnx."""
import pathlib

import onnx
from onnx import TensorProto, helper

graph = helper.make_graph(
    [helper.make_node("Add", ["x", "one"], ["y"])], "add_one",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
    [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 8
onnx.checker.check_model(model)
onnx.save(model, pathlib.Path(__file__).with_name("add_one.onnx"))
