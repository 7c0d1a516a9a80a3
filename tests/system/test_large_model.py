# SPDX-License-Identifier: Apache-2.0
"""A model above 2 GiB, from `perigee deploy` to an answer."""
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deadline import SANITIZED, until
from oip import ask, tensor

pytestmark = [pytest.mark.slow, pytest.mark.long]
ROWS, COLUMNS = 9 << 16, 1024  # FP32: 2.25 GiB


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """y = w[i], with its weights in a sparse file beside it."""
    made = tmp_path_factory.mktemp("large")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["w", "i"], ["y"])], "large",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", COLUMNS])])
    weights = graph.initializer.add(name="w", data_type=TensorProto.FLOAT)
    weights.dims.extend([ROWS, COLUMNS])
    weights.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "weights.bin"), ("length", str(ROWS * COLUMNS * 4))):
        weights.external_data.add(key=key, value=text)
    onnx.save(helper.make_model(graph, ir_version=10,
                                opset_imports=[helper.make_opsetid("", 18)]), made / "model.onnx")
    with open(made / "weights.bin", "wb") as file:
        file.truncate(ROWS * COLUMNS * 4)
        file.seek((ROWS - 1) * COLUMNS * 4)
        file.write(np.full(COLUMNS, 7, np.float32).tobytes())
    yield made
    (made / "weights.bin").unlink()


def deploy(perigee, folder, memory):
    """Without the command's own wait, which is longer than a step may take here."""
    flavor = f"flavor: {{memory: {memory}}}\n" if memory else ""
    text = f"name: large\nmodel: {folder}\n{flavor}"
    perigee.cli("apply", "--no-wait", "-f", "-", stdin=text.encode())


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is larger than any limit")
def test_more_than_the_flavor_has_is_said_by_its_key(perigee, folder):
    deploy(perigee, folder, None)
    shown = until("why it does not start",
                  lambda: (view := perigee.json("show", "large"))["state"] == "failed" and view)
    assert "flavor.memory is 512 MiB" in shown["message"], shown["message"]
    perigee.cli("delete", "large", "--yes")


def test_a_model_above_two_gibibytes(perigee, folder):
    deploy(perigee, folder, "6GiB")
    until("it serves", lambda: perigee.json("show", "large")["state"] == "active")
    y = ask(perigee, "large", tensor("i", "INT64", [2], [ROWS - 1, 0]))["y"]["data"]
    assert y == [7] * COLUMNS + [0] * COLUMNS
    perigee.cli("delete", "large", "--yes")
