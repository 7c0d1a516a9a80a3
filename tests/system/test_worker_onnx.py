# SPDX-License-Identifier: Apache-2.0
"""perigee-worker-onnx: metadata, datatypes, shapes, load errors in ONNX Runtime's own words."""

import os

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import operators
import worker
from deadline import SANITIZED
from perigee import DIGITS
from worker import BAD_INPUT, BF16, BOOL, BYTES, DONE, FP16, FP32, INT64, elements, texts

FLOAT, STRING = TensorProto.FLOAT, TensorProto.STRING


@pytest.fixture(scope="module")
def template():
    one = worker.Template(worker.worker_path("onnx"))
    yield one
    one.close()


@pytest.fixture
def base(tmp_path):
    return worker.reachable(tmp_path)


def value(name, element, shape):
    return helper.make_tensor_value_info(name, element, shape)


def build(nodes, inputs, outputs, initializers=(), opset=18, **options):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)], **options
    )


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


@pytest.fixture
def serve(template, base):
    """serve(model, **options) -> a ready replica; all are closed at the end."""
    made = []

    def start(model, ready=True, **options):
        data = model if isinstance(model, bytes) else model.SerializeToString()
        one = template.clone(worker.folder_with(base / f"m{len(made)}", data), **options)
        made.append(one)
        return one.ready() if ready else one

    yield start
    for one in made:
        one.close()


def fails(serve, model, **options):
    """The reason why it does not get ready."""
    replica = serve(model, ready=False, **options)
    assert not replica.wait_ready()
    assert os.waitstatus_to_exitcode(replica.wait_status) == 1, replica.status.reason
    assert replica.status.reason in replica.log().replace('\\"', '"')
    return replica.status.reason


# --- what it says of a model ----------------------------------------------------------------------


def test_digits(template):
    with template.clone(DIGITS, "digits.onnx") as replica:
        replica.ready()
        model = replica.model
        assert model.inputs[0][:3] == ("image", FP32, (-1, 64))
        assert [row[:3] for row in model.outputs] == [
            ("label", INT64, (-1,)),
            ("probabilities", FP32, (-1, 10)),
        ]
        assert "perigee.image.image" in model.properties
        rows = np.zeros((3, 64), np.float32)
        completion, outputs, message = replica.ask([(0, FP32, (3, 64), rows.tobytes())])
        assert completion.status == DONE, message
        assert outputs[0][:2] == (INT64, (3,)) and outputs[1][:2] == (FP32, (3, 10))
        sums = np.frombuffer(outputs[1][2], np.float32).reshape(3, 10).sum(axis=1)
        assert np.allclose(sums, 1, atol=1e-4)


def test_metadata_and_properties(serve):
    model = build(
        [node("Concat", "a b", "y", axis=1)],
        [value("a", FLOAT, ["rows", "left", 3]), value("b", FLOAT, ["rows", None, 3])],
        [value("y", FLOAT, ["rows", None, 3])],
    )
    for key, text in (("author", "Ada"), ("perigee.image.a", "{}"), ("long", "x" * 40_000)):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    replica = serve(model, batch=8)
    assert replica.model.platform == "onnxruntime_onnx"
    assert replica.model.inputs[0] == ("a", FP32, (-1, -1, 3), ("rows", "left", ""))
    assert replica.model.inputs[1][2] == (-1, -1, 3)
    assert replica.model.batch_rows_max == 8
    assert replica.model.properties == {"author": "Ada", "perigee.image.a": "{}"}
    assert "long" in replica.log()


def test_no_batch_where_a_first_dimension_is_fixed(serve):
    model = build(
        [node("Relu", "x", "y")], [value("x", FLOAT, [2, "n"])], [value("y", FLOAT, [2, "n"])]
    )
    assert serve(model, batch=8).model.batch_rows_max == 0


def test_a_run_on_zeros_before_it_is_ready(serve):
    """Of a model that takes zeros nothing is logged; one that refuses them is ready without."""
    rows = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    four = numpy_helper.from_array(np.array([4], np.int64), "four")
    inputs = [value("i", TensorProto.INT64, ["n"])]
    outputs = [value("y", FLOAT, ["n"])]
    replica = serve(build([node("Gather", "w i", "y")], inputs, outputs, [rows]))
    assert replica.status.warm_ns > 0 and "refuses" not in replica.log()
    shifted = [node("Add", "i four", "j"), node("Gather", "w j", "y")]
    replica = serve(build(shifted, inputs, outputs, [rows, four]))  # of 0 to 3 there is no 4
    assert replica.status.warm_ns > 0
    assert "the model refuses a run on zeros, serving without" in replica.log()
    _, got, message = replica.ask([(0, INT64, (1,), np.array([-1], np.int64).tobytes())])
    assert not message and got[0][2] == np.float32(3).tobytes()


# --- shapes and datatypes -------------------------------------------------------------------------


def test_only_wanted_outputs_are_answered(serve):
    model = build(
        [node("Relu", "x", "y"), node("Neg", "x", "z")],
        [value("x", FLOAT, ["n"])],
        [value("y", FLOAT, ["n"]), value("z", FLOAT, ["n"])],
    )
    replica = serve(model)
    x = [(0, FP32, (4,), np.ones(4, np.float32).tobytes())]
    for wanted, indexes in ((1, [0]), (2, [1]), (3, [0, 1])):
        completion, outputs, _ = replica.ask(x, wanted=wanted)
        assert completion.status == DONE and list(outputs) == indexes
        assert completion.output_count == len(indexes)


def test_shapes_not_known_beforehand(serve):
    model = build(
        [node("NonZero", "x", "i")],
        [value("x", FLOAT, ["n"])],
        [value("i", TensorProto.INT64, [1, None])],
    )
    replica = serve(model)
    x = np.array([0, 3, 0, 5, 7], np.float32)
    _, outputs, _ = replica.ask([(0, FP32, (5,), x.tobytes())])
    assert outputs[0][:2] == (INT64, (1, 3))
    assert np.frombuffer(outputs[0][2], np.int64).tolist() == [1, 3, 4]
    _, outputs, _ = replica.ask([(0, FP32, (1,), bytes(4))])
    assert outputs[0] == (INT64, (1, 0), b"")


def test_a_model_that_declares_its_shapes_wrongly(serve):
    """`y` is said to have as many rows as `x`, and has two more."""
    model = build(
        [node("Concat", "x c", "y", axis=0), node("Relu", "x", "z")],
        [value("x", FLOAT, ["n", 2])],
        [value("z", FLOAT, ["n", 2]), value("y", FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((2, 2), np.float32), "c")],
    )
    replica = serve(model)
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    for _ in range(3):
        completion, outputs, message = replica.ask([(0, FP32, (3, 2), x.tobytes())])
        assert completion.status == DONE, message
        assert outputs[0][1] == (3, 2) and outputs[1][1] == (5, 2)
        assert np.frombuffer(outputs[0][2], np.float32).tolist() == [0, 1, 2, 3, 4, 5]
        assert np.frombuffer(outputs[1][2], np.float32).tolist() == [0, 1, 2, 3, 4, 5, 1, 1, 1, 1]


def test_an_input_passed_through(serve):
    model = build([node("Identity", "x", "y")], [value("x", FLOAT, [2])], [value("y", FLOAT, [2])])
    _, outputs, _ = serve(model).ask([(0, FP32, (2,), np.array([1, -2], np.float32).tobytes())])
    assert np.frombuffer(outputs[0][2], np.float32).tolist() == [1, -2]


def test_no_inputs_at_all(serve):
    model = build(
        [node("Constant", "", "y", value=numpy_helper.from_array(np.array([7], np.int64)))],
        [],
        [value("y", TensorProto.INT64, [1])],
    )
    completion, outputs, message = serve(model).ask([])
    assert (completion.status, message) == (DONE, "")
    assert np.frombuffer(outputs[0][2], np.int64).tolist() == [7]


@pytest.mark.parametrize("element", [BOOL, FP16, BF16])
def test_datatypes_that_pass_through(serve, element):
    kinds = {BOOL: TensorProto.BOOL, FP16: TensorProto.FLOAT16, BF16: TensorProto.BFLOAT16}
    model = build(
        [node("Identity", "x", "y")],
        [value("x", kinds[element], ["n"])],
        [value("y", kinds[element], ["n"])],
    )
    data = bytes([0, 1] * 4)
    dims = (8,) if element == BOOL else (4,)
    _, outputs, message = serve(model).ask([(0, element, dims, data)])
    assert outputs == {0: (element, dims, data)}, message


def test_strings(serve):
    model = build(
        [node("Identity", "x", "y")], [value("x", STRING, ["n"])], [value("y", STRING, ["n"])]
    )
    replica = serve(model)
    words = [b"", "h\u00e9llo".encode(), b"nul\0inside", b"\xff\xfe", b"x" * 100_000]
    _, outputs, message = replica.ask([(0, BYTES, (5,), texts(*words))])
    assert not message and outputs[0][:2] == (BYTES, (5,)) and elements(outputs[0][2]) == words
    for bad in (texts("a")[:-1], b"\xff\xff\xff\x7fabcd", texts("a", "b", "c"), b""):
        completion, _, message = replica.ask([(0, BYTES, (2,), bad)])
        assert completion.status == BAD_INPUT and message


def test_errors_are_onnx_runtimes_own(serve):
    model = build(
        [node("Gather", "x i", "y")],
        [value("x", FLOAT, [3]), value("i", TensorProto.INT64, ["n"])],
        [value("y", FLOAT, ["n"])],
    )
    replica = serve(model)
    x = (0, FP32, (3,), np.ones(3, np.float32).tobytes())
    completion, _, message = replica.ask([x, (1, INT64, (1,), np.array([9], np.int64).tobytes())])
    assert (
        completion.status == BAD_INPUT and "Gather" in message and "out of data bounds" in message
    )
    completion, outputs, _ = replica.ask([x, (1, INT64, (1,), np.array([2], np.int64).tobytes())])
    assert completion.status == DONE and outputs[0][1] == (1,)


def test_several_threads(serve):
    weights = numpy_helper.from_array(np.ones((512, 512), np.float32), "w")
    model = build(
        [node("MatMul", "x w", "y")],
        [value("x", FLOAT, ["n", 512])],
        [value("y", FLOAT, ["n", 512])],
        [weights],
    )
    pair, replica = serve(model, threads=2), serve(model, threads=4)
    counts = [len(os.listdir(f"/proc/{one.pid}/task")) for one in (pair, replica)]
    assert counts[1] == counts[0] + 2 and counts[1] >= 4  # a sanitizer may have one of its own
    x = np.ones((256, 512), np.float32)
    completion, outputs, _ = replica.ask([(0, FP32, x.shape, x.tobytes())])
    assert completion.status == DONE and completion.cpu_ns > 0
    assert np.frombuffer(outputs[0][2], np.float32).max() == 512


# --- models that cannot be served -----------------------------------------------------------------


def relu(**options):
    return build(
        [node("Relu", "x", "y")], [value("x", FLOAT, ["n"])], [value("y", FLOAT, ["n"])], **options
    )


def test_not_onnx(serve):
    assert "protobuf" in fails(serve, b"this is not ONNX" * 100).lower()


def test_empty(serve):
    assert fails(serve, b"")


def test_truncated(serve):
    data = relu().SerializeToString()
    weights = numpy_helper.from_array(np.ones(1000, np.float32), "w")
    data = build(
        [node("Add", "x w", "y")],
        [value("x", FLOAT, [1000])],
        [value("y", FLOAT, [1000])],
        [weights],
    ).SerializeToString()
    assert fails(serve, data[: len(data) // 2])


def test_unsupported_opset(serve):
    assert "opset" in fails(serve, relu(opset=99)).lower()


def test_unknown_operator(serve):
    model = build(
        [node("Frobnicate", "x", "y")], [value("x", FLOAT, [1])], [value("y", FLOAT, [1])]
    )
    assert "Frobnicate" in fails(serve, model)


def test_what_is_no_tensor(serve):
    x = helper.make_tensor_sequence_value_info("x", FLOAT, None)
    model = build([node("SequenceLength", "x", "y")], [x], [value("y", TensorProto.INT64, [])])
    assert "input 'x' is a sequence" in fails(serve, model)


def test_datatypes_without_a_name(serve):
    model = build(
        [node("Cast", "x", "y", to=TensorProto.FLOAT8E4M3FN)],
        [value("x", FLOAT, [1])],
        [value("y", TensorProto.FLOAT8E4M3FN, [1])],
        opset=19,
    )
    assert "output 'y' holds 8-bit floats" in fails(serve, model)


def test_too_many_inputs(serve):
    names = [f"x{i}" for i in range(65)]
    model = build(
        [helper.make_node("Sum", names, ["y"])],
        [value(n, FLOAT, [1]) for n in names],
        [value("y", FLOAT, [1])],
    )
    assert "65 inputs" in fails(serve, model)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own malloc")
def test_more_memory_than_the_flavor_has(serve):
    fill = helper.make_tensor("v", FLOAT, [1], [1.0])
    shape = numpy_helper.from_array(np.array([1 << 30], np.int64), "s")
    model = build(
        [
            node("ConstantOfShape", "s", "big", value=fill),
            node("ReduceSum", "big", "y", keepdims=0),
        ],
        [],
        [value("y", FLOAT, [])],
        [shape],
    )
    reason = fails(serve, model, memory=256 << 20)
    assert "memory" in reason and "256 MiB" in reason


# --- external data --------------------------------------------------------------------------------


def with_external_data(folder, location):
    """A model whose weights are in the file `location` beside it."""
    weights = numpy_helper.from_array(np.arange(1024, dtype=np.float32), "w")
    model = build(
        [node("Add", "x w", "y")],
        [value("x", FLOAT, [1024])],
        [value("y", FLOAT, [1024])],
        [weights],
    )
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, text
    worker.folder_with(folder, model.SerializeToString())
    return data


def test_external_data_beside_the_model(template, base):
    data = with_external_data(base / "m", "weights.bin")
    worker.folder_with(base / "m", data, "weights.bin")
    with template.clone(base / "m") as replica:
        replica.ready()
        _, outputs, message = replica.ask([(0, FP32, (1024,), bytes(4096))])
        assert not message and outputs[0][2] == data


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/hostname", "missing.bin", "link.bin"]
)
def test_external_data_elsewhere(template, base, location):
    data = with_external_data(base / "m", location)
    worker.folder_with(base, data, "weights.bin")
    if location == "link.bin":
        (base / "m" / "link.bin").symlink_to(base / "weights.bin")
    with template.clone(base / "m") as replica:
        assert not replica.wait_ready()
        assert replica.status.reason and replica.status.signal == 0, replica.status.reason


@pytest.mark.slow
def test_above_two_gibibytes(template, base):
    """Weights of 2.25 GiB, sparse on disk: mapped by ONNX Runtime, not read by us."""
    rows = 9 << 16
    model = build(
        [node("Gather", "w i", "y")],
        [value("i", TensorProto.INT64, ["n"])],
        [value("y", FLOAT, ["n", 1024])],
    )
    tensor = model.graph.initializer.add()
    tensor.name, tensor.data_type = "w", FLOAT
    tensor.dims.extend([rows, 1024])
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "weights.bin"), ("offset", "0"), ("length", str(rows * 4096))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, text
    folder = worker.folder_with(base / "m", model.SerializeToString())
    worker.folder_with(folder, b"", "weights.bin")
    with open(folder / "weights.bin", "r+b") as file:
        file.truncate(rows * 4096)
        file.seek((rows - 1) * 4096)
        file.write(np.full(1024, 7, np.float32).tobytes())
    with template.clone(folder, memory=6 << 30) as replica:
        replica.ready()
        index = np.array([rows - 1, 0], np.int64)
        _, outputs, message = replica.ask([(0, INT64, (2,), index.tobytes())])
        assert not message
        y = np.frombuffer(outputs[0][2], np.float32).reshape(2, 1024)
        assert (y[0] == 7).all() and (y[1] == 0).all()


# --- all operators, under the filter of system calls ------------------------------------------


@pytest.mark.slow
@pytest.mark.long
def test_operators_need_no_other_system_call(template, testdata):
    """Each operator case straight at a worker: none is stopped by the walls. (Whether answers are
    right through an endpoint is test_operators.py.)"""
    ran = 0
    for name, case in operators.cases(testdata):
        if isinstance(case, operators.Skip):
            continue
        with template.clone(case.folder, slot_bytes=4 << 20) as replica:
            replica.ready()
            by_name = {row[0]: i for i, row in enumerate(replica.model.inputs)}
            completion, outputs, message = replica.ask(
                [
                    (by_name[x.name], getattr(worker, x.datatype), x.array.shape, x.bytes())
                    for x in case.inputs
                ]
            )
            assert completion is not None, f"{name}: {replica.status.reason}"
            assert completion.status == DONE, f"{name}: {message}"
            assert len(outputs) == len(case.outputs)
            ran += 1
    assert ran >= 1000
