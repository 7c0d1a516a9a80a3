# SPDX-License-Identifier: Apache-2.0
"""ONNX's own operator cases (Debian's libonnx-testdata), judged by in-process ONNX Runtime."""

import collections
import os

import numpy as np
import onnx
from onnx import numpy_helper

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is loaded
import onnxruntime  # noqa: E402
import onnxruntime.capi.onnxruntime_pybind11_state as errors  # noqa: E402

RTOL, ATOL = 1e-3, 1e-5
# ONNX's element types -> the protocol's. The rest have no name in it.
DATATYPES = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: "BYTES",
    onnx.TensorProto.BFLOAT16: "BF16",
}


# A tensor: the protocol's datatype, and an array (BF16: its bits as uint16; BYTES: objects).
class Tensor(collections.namedtuple("Tensor", "name datatype array")):
    def bytes(self):
        """As it goes over the wire: row-major, BYTES with their lengths."""
        if self.datatype != "BYTES":
            return self.array.tobytes()
        return b"".join(len(e).to_bytes(4, "little") + e for e in self.array.flat)


# What ONNX Runtime says by a status; anything else is a fault of ours.
REFUSALS = tuple(
    each for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, Exception)
)
# The package's folders of single operators.
FOLDERS = ("node", "pytorch-operator")
Case = collections.namedtuple("Case", "name folder inputs outputs")


class Skip(Exception):
    """This case is not for us; the reason groups it."""


def read_tensor(path, name):
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    datatype = DATATYPES.get(proto.data_type)
    if not datatype:
        raise Skip(f"element type {onnx.TensorProto.DataType.Name(proto.data_type)}")
    array = numpy_helper.to_array(proto)
    if datatype == "BF16":
        array = array.view(np.uint16)
    if datatype == "BYTES":
        array = np.array(
            [e if isinstance(e, bytes) else str(e).encode() for e in array.flat], dtype=object
        ).reshape(array.shape)
    return Tensor(name, datatype, np.ascontiguousarray(array).reshape(array.shape))


def value_name(value):
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise Skip(f"{kind.replace('_type', '')} as input or output")
    if value.type.tensor_type.elem_type not in DATATYPES:
        element = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        raise Skip(f"element type {element}")
    return value.name


def read_case(folder):
    """Inputs and expected outputs; Skip for what is not tensors of the protocol's types."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    initializers = {tensor.name for tensor in model.graph.initializer}
    names = [value_name(v) for v in model.graph.input if v.name not in initializers]
    outputs = [value_name(v) for v in model.graph.output]
    data = folder / "test_data_set_0"
    if len(names) > 64 or len(outputs) > 64:
        raise Skip("more than 64 inputs or outputs")
    for kind, values in (("input", names), ("output", outputs)):
        if len(list(data.glob(f"{kind}_*.pb"))) != len(values):
            raise Skip(f"{kind}s without a file")
    return Case(
        folder.name,
        folder,
        [read_tensor(data / f"input_{i}.pb", name) for i, name in enumerate(names)],
        [read_tensor(data / f"output_{i}.pb", name) for i, name in enumerate(outputs)],
    )


def equal(got, wanted):
    """None, or what differs."""
    if got.datatype != wanted.datatype:
        return f"{wanted.name}: datatype {got.datatype}, not {wanted.datatype}"
    if tuple(got.array.shape) != tuple(wanted.array.shape):
        return f"{wanted.name}: shape {got.array.shape}, not {wanted.array.shape}"
    a, b = got.array, wanted.array
    if got.datatype == "BF16":
        a, b = ((x.astype(np.uint32) << 16).view(np.float32) for x in (a, b))
    if got.datatype == "BYTES":
        same = list(a.flat) == list(b.flat)
    elif a.dtype.kind == "f":
        with np.errstate(all="ignore"):
            same = np.allclose(
                a.astype(np.float64), b.astype(np.float64), RTOL, ATOL, equal_nan=True
            )
    else:
        same = np.array_equal(a, b)
    return None if same else f"{wanted.name}: {str(a.flat[:6])[:80]}, not {str(b.flat[:6])[:80]}"


def ort_value(tensor):
    if tensor.datatype == "BF16":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
            tensor.array, onnx.TensorProto.BFLOAT16
        )
    return onnxruntime.OrtValue.ortvalue_from_numpy(tensor.array)


def texts(array):
    """BYTES as in-process ONNX Runtime takes them."""
    return np.array([e.decode() for e in array.flat], dtype=object).reshape(array.shape)


def run(session, case):
    """(datatype, array) of each output. Strings have no OrtValue, and BF16 has nothing else."""
    names = [tensor.name for tensor in case.outputs]
    if any(tensor.datatype == "BYTES" for tensor in case.inputs):
        feeds = {
            tensor.name: texts(tensor.array) if tensor.datatype == "BYTES" else tensor.array
            for tensor in case.inputs
        }
        for array in session.run(names, feeds):
            known = onnx.TensorProto.STRING
            if array.dtype.kind not in "OUS":
                known = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            yield DATATYPES.get(known, "?"), array
        return
    feeds = {tensor.name: ort_value(tensor) for tensor in case.inputs}
    for value in session.run_with_ort_values(names, feeds):
        datatype = DATATYPES.get(value.element_type(), "?")
        yield datatype, None if datatype == "BF16" else value.numpy()


def judge(case):
    """Skip unless in-process ONNX Runtime answers as the case expects."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            case.folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        values = list(run(session, case))
    except REFUSALS as fault:
        words = str(fault)
        raise Skip(
            "in-process ONNX Runtime has no kernel"
            if "NOT_IMPLEMENTED" in words
            else "in-process ONNX Runtime refuses it"
        ) from fault
    for (datatype, array), wanted in zip(values, case.outputs):
        if datatype != wanted.datatype:
            raise Skip("in-process ONNX Runtime answers otherwise")
        if datatype == "BF16":
            continue  # its numpy() cannot say them; the answer is compared to what is expected
        if wanted.datatype == "BYTES":
            array = np.array([str(e).encode() for e in array.flat], dtype=object).reshape(
                array.shape
            )
        if equal(Tensor(wanted.name, datatype, array), wanted):
            raise Skip("in-process ONNX Runtime answers otherwise")


def cases(testdata):
    """Yields (name, Case or Skip) in order."""
    for folder in (each for name in FOLDERS for each in sorted((testdata / name).iterdir())):
        try:
            case = read_case(folder)
            judge(case)
            yield folder.name, case
        except Skip as reason:
            yield folder.name, reason
