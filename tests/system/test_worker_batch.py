# SPDX-License-Identifier: Apache-2.0
"""Batches formed by perigee-worker-onnx: what waits runs as one, and no answer tells."""

import struct

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

import worker
from oip import MODELS
from perigee import DIGITS
from test_worker_onnx import base, build, node, serve, template, value  # noqa: F401  (fixtures)
from worker import BYTES, CANCELED, DONE, FAULT, FP32, INT64, TOO_LARGE, request, texts

FLOAT, LONG, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
MINUTE_US = 60_000_000


def relu(rows, scale=1.0):
    """An input of so many rows of four for the Relu model, and its output."""
    x = (np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) - 2) * np.float32(scale)
    return [(0, FP32, x.shape, x.tobytes())], np.maximum(x, 0).tobytes()


RELU = build([node("Relu", "x", "y")], [value("x", FLOAT, ["n", 4])], [value("y", FLOAT, ["n", 4])])
# y[r] = x[r][i[r]]: an index that is out of bounds fails the run
PICK = build(
    [node("GatherElements", "x i", "y", axis=1)],
    [value("x", FLOAT, ["n", 4]), value("i", LONG, ["n", 1])],
    [value("y", FLOAT, ["n", 1])],
)


def answers(replica, count, lane=0):
    """(completion, outputs, message) of the next ones, by slot."""
    found = {}
    for _ in range(count):
        completion = replica.completion(lane)
        assert completion is not None, replica.status.reason
        found[completion.slot] = (completion, *replica.answer(completion))
    return [found[slot] for slot in sorted(found)]


def runs(found):
    """batch_rows of the completions, in order of slots."""
    return [completion.batch_rows for completion, _, _ in found]


def ask_all(replica, inputs, wanted=1, **options):
    replica.submit_all([request(one, wanted) for one in inputs], **options)
    return answers(replica, len(inputs))


# --- which run together ---------------------------------------------------------------------------


def test_what_waits_runs_together_counted_in_rows(serve):
    replica = serve(RELU, batch=8, slots=8)
    assert replica.model.batch_rows_max == 8
    asked = [relu(rows, i + 1) for i, rows in enumerate((1, 2, 1, 3, 1))]
    found = ask_all(replica, [inputs for inputs, _ in asked])
    assert runs(found) == [8, 0, 0, 0, 0]
    for (completion, outputs, message), (inputs, wanted) in zip(found, asked):
        assert (completion.status, message) == (DONE, "")
        assert outputs == {0: (FP32, inputs[0][2], wanted)}
    assert len({(c.start_ns, c.input_ns, c.infer_ns) for c, _, _ in found}) == 1
    cpu = [completion.cpu_ns for completion, _, _ in found]
    assert cpu[0] == cpu[2] == cpu[4] > 0
    assert abs(cpu[1] - 2 * cpu[0]) <= 2 and abs(cpu[3] - 3 * cpu[0]) <= 3


def test_never_more_rows_than_batch_max(serve):
    replica = serve(RELU, batch=4, slots=16)
    found = ask_all(replica, [relu(1, i)[0] for i in range(10)])
    assert runs(found) == [4, 0, 0, 0, 4, 0, 0, 0, 2, 0]
    found = ask_all(replica, [relu(rows)[0] for rows in (3, 2, 9, 1)])
    assert runs(found) == [3, 2, 9, 1]
    assert [outputs[0][2] for _, outputs, _ in found] == [relu(n)[1] for n in (3, 2, 9, 1)]


def test_without_batch_each_runs_alone(serve):
    replica = serve(RELU, slots=8)
    assert replica.model.batch_rows_max == 1
    assert runs(ask_all(replica, [relu(1)[0]] * 5 + [relu(3)[0]])) == [1] * 5 + [3]


def test_an_answer_does_not_wait_for_a_long_run_behind_it(serve):
    """Short runs share a wake-up of the loop; but this model is known to take its time."""
    replica = serve((MODELS / "slow.onnx").read_bytes(), slots=4)
    rounds = [struct.pack("<q", count) for count in (20_000, 1, 1_000_000_000)]
    replica.submit_all([request([(0, INT64, (1,), data)], 1) for data in rounds])
    assert [replica.completion().slot, replica.completion().slot] == [0, 1]


def test_unequal_signatures_never_mix_and_the_oldest_comes_first(serve):
    model = build(
        [node("Relu", "x", "y"), node("Neg", "x", "z")],
        [value("x", FLOAT, ["n", "m"])],
        [value("y", FLOAT, ["n", "m"]), value("z", FLOAT, ["n", "m"])],
    )
    replica = serve(model, batch=8, slots=8)
    narrow, wide = np.float32([[1, -2]]), np.float32([[1, -2, 3]])
    asked = [(narrow, 1), (wide, 1), (narrow, 1), (narrow, 3), (wide, 1), (narrow, 2)]
    blocks = [request([(0, FP32, x.shape, x.tobytes())], wanted) for x, wanted in asked]
    tickets = replica.submit_all(blocks)
    order = [replica.completion() for _ in asked]
    assert [tickets.index(one.ticket) for one in order] == [0, 2, 1, 4, 3, 5]
    assert [one.batch_rows for one in order] == [2, 0, 2, 0, 1, 1]
    for one in order:
        x, wanted = asked[one.slot]
        outputs, _ = replica.answer(one)
        expected = {0: np.maximum(x, 0), 1: -x}
        assert outputs == {
            i: (FP32, x.shape, y.tobytes()) for i, y in expected.items() if wanted >> i & 1
        }


def test_batches_see_all_lanes(serve):
    replica = serve(RELU, batch=4, delay_us=MINUTE_US, slots=8, loops=2)
    for lane in range(4):
        block = request(relu(1, lane + 1)[0], 1)
        replica.submit(block, lane=lane, slot=lane, offset=lane * 4096)
    found = [answers(replica, 1, lane)[0] for lane in range(4)]
    assert runs(found) == [4, 0, 0, 0]
    for lane, (_, outputs, _) in enumerate(found):
        assert outputs[0][2] == relu(1, lane + 1)[1]


def test_one_past_its_deadline_is_not_run_with_the_others(serve):
    replica = serve(RELU, batch=8, slots=8)
    blocks = [request(relu(1)[0], 1)] * 3
    replica.submit_all(blocks, deadlines=[0, worker.now_ns() - 1, worker.now_ns() + 10**11])
    found = answers(replica, 3)
    assert [completion.status for completion, _, _ in found] == [DONE, CANCELED, DONE]
    assert runs(found) == [2, 1, 0]


# --- batch.delay ----------------------------------------------------------------------------------


def test_a_full_batch_does_not_wait(serve):
    replica = serve(RELU, batch=3, delay_us=MINUTE_US, slots=8)
    for i in range(3):
        replica.submit(request(relu(1, i)[0], 1), slot=i, offset=i * 4096)
    assert runs(answers(replica, 3)) == [3, 0, 0]


def test_a_batch_with_room_waits_for_more_and_not_for_ever(serve):
    replica = serve(RELU, batch=3, delay_us=20_000, slots=8)
    before = worker.now_ns()
    completion, outputs, _ = replica.ask(relu(1)[0])
    assert completion.batch_rows == 1 and outputs[0][2] == relu(1)[1]
    assert completion.start_ns >= before + 20_000_000


def test_nobody_waits_while_others_do_nor_past_a_deadline(serve):
    model = build(
        [node("Relu", "x", "y")], [value("x", FLOAT, ["n", "m"])], [value("y", FLOAT, ["n", "m"])]
    )
    replica = serve(model, batch=3, delay_us=MINUTE_US, slots=8)
    replica.submit(request([(0, FP32, (1, 1), bytes(4))], 1), slot=0)
    replica.submit(request([(0, FP32, (1, 2), bytes(8))], 1), slot=1, offset=4096)
    assert runs(answers(replica, 1)) == [1]
    replica.submit(request([(0, FP32, (2, 2), bytes(16))], 1), slot=2, offset=8192)
    assert runs(answers(replica, 2)) == [3, 0]
    completion, _, _ = replica.ask(
        [(0, FP32, (1, 1), bytes(4))], deadline=worker.now_ns() + MINUTE_US * 500
    )
    assert completion.status == DONE


# --- when it goes wrong ---------------------------------------------------------------------------


def pick(rows, *indexes):
    x = np.arange(rows * 4, dtype=np.float32)
    i = np.int64(indexes)
    return [(0, FP32, (rows, 4), x.tobytes()), (1, INT64, (rows, 1), i.tobytes())]


def test_a_row_with_bad_values_fails_alone(serve):
    replica = serve(PICK, batch=16, slots=8)
    found = ask_all(replica, [pick(1, 2), pick(1, 99), pick(2, 0, 3), pick(1, 1)])
    assert [completion.status for completion, _, _ in found] == [DONE, FAULT, DONE, DONE]
    assert "out" in found[1][2] or "bounds" in found[1][2] or "index" in found[1][2].lower()
    picked = [np.frombuffer(o[0][2], np.float32).tolist() for c, o, _ in found if c.status == DONE]
    assert picked == [[2], [0, 7], [1]]
    assert runs(found) == [1, 1, 2, 1]
    assert runs(ask_all(replica, [pick(1, 2), pick(1, 3)])) == [2, 0]  # and together again


def test_an_answer_too_large_fails_alone(serve):
    replica = serve(RELU, batch=1024, slots=4, slot_bytes=16384)
    found = ask_all(replica, [relu(1)[0], relu(600)[0], relu(2)[0]])
    assert [completion.status for completion, _, _ in found] == [DONE, TOO_LARGE, DONE]
    assert "9600" in found[1][2]
    assert [found[i][1][0][2] for i in (0, 2)] == [relu(1)[1], relu(2)[1]]


def test_strings_that_lie_fail_alone(serve):
    model = build(
        [node("Identity", "x", "y")], [value("x", STRING, ["n"])], [value("y", STRING, ["n"])]
    )
    replica = serve(model, batch=8, slots=4)
    found = ask_all(
        replica,
        [
            [(0, BYTES, (2,), texts("a", "bc"))],
            [(0, BYTES, (1,), struct.pack("<I", 2**32 - 1) + b"xxxx")],
            [(0, BYTES, (1,), texts("def"))],
        ],
    )
    assert [completion.status for completion, _, _ in found] == [DONE, worker.BAD_INPUT, DONE]
    assert worker.elements(found[0][1][0][2]) == [b"a", b"bc"]
    assert worker.elements(found[2][1][0][2]) == [b"def"]


def test_a_model_whose_outputs_have_no_row_for_each_runs_alone(serve):
    """Its output is as long as its input has elements: that shows only once a batch ran."""
    model = build(
        [node("Reshape", "x shape", "y")],
        [value("x", FLOAT, ["n", 4])],
        [value("y", FLOAT, ["m"])],
        [numpy_helper.from_array(np.int64([-1]), "shape")],
    )
    replica = serve(model, batch=8, slots=4)
    for _ in range(2):
        found = ask_all(replica, [relu(1, 3)[0], relu(2)[0]])
        assert runs(found) == [1, 2]
        for (_, outputs, _), (inputs, _) in zip(found, (relu(1, 3), relu(2))):
            assert outputs[0] == (FP32, (len(inputs[0][3]) // 4,), inputs[0][3])
    assert replica.log().count("alone from now on") == 1


def test_who_sends_an_optional_input_runs_alone(serve):
    """The others, for whom the model's own value counts, are batches as if there were none."""
    model = build([node("Mul", "x factor", "y")],
                  [value("x", FLOAT, ["n", 4]), value("factor", FLOAT, [1])],
                  [value("y", FLOAT, ["n", 4])],
                  [numpy_helper.from_array(np.float32([2]), "factor")])
    replica = serve(model, batch=8, slots=8)
    assert replica.model.batch_rows_max == 8 and "has no effect" not in replica.log()
    x = relu(2)[0][0]
    data = np.frombuffer(x[3], np.float32)
    plain, scaled = [x], [x, (1, FP32, (1,), np.float32([10]).tobytes())]
    asked = (plain, scaled, plain, scaled, plain)
    found = ask_all(replica, asked)
    assert runs(found) == [6, 1, 0, 1, 0]
    for (completion, outputs, _), inputs in zip(found, asked):
        factor = np.float32(10 if inputs is scaled else 2)
        assert completion.status == DONE
        assert outputs == {0: (FP32, (2, 4), (data * factor).tobytes())}


def test_an_optional_input_that_names_the_rows_makes_no_batch(serve):
    """Its own value has as many elements as it has, whoever else is asked with."""
    model = build([node("Add", "x offsets", "y")],
                  [value("x", FLOAT, ["n"]), value("offsets", FLOAT, ["n"])],
                  [value("y", FLOAT, ["n"])], [numpy_helper.from_array(np.float32([2]), "offsets")])
    replica = serve(model, batch=8)
    assert replica.model.batch_rows_max == 0 and "not only" in replica.log()


@pytest.mark.parametrize(
    "shapes, words",
    [
        ((["n", 4], ["k", 4], ["n", 4]), "not only"),
        (([1, 4], [1, 4], [1, 4]), "is not open"),
        (([], ["n", 4], ["n", 4]), "is not open"),
        ((["n", "n"], ["n", "n"], ["n", "n"]), "not only"),
        ((["n", 4], ["n", 4], [2, 4]), "is not that of the inputs"),
    ],
)
def test_a_model_whose_rows_are_no_batch_says_so(serve, shapes, words):
    a, b, c = shapes
    model = build([node("Add", "a b", "c")], [value("a", FLOAT, a), value("b", FLOAT, b)],
                  [value("c", FLOAT, c)])
    replica = serve(model, batch=8)
    assert replica.model.batch_rows_max == 0
    assert "has no effect" in replica.log() and words in replica.log()
    assert "has no effect" not in serve(model).log()


# --- equal to unbatched ---------------------------------------------------------------------------


def weights(random, *shape):
    return (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def mlp(random, *sizes):
    nodes, constants, at = [], [], "x"
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        constants += [numpy_helper.from_array(weights(random, a, b), f"w{i}"),
                      numpy_helper.from_array(weights(random, b), f"b{i}")]
        nodes += [node("Gemm", f"{at} w{i} b{i}", f"g{i}"), node("Relu", f"g{i}", f"h{i}")]
        at = f"h{i}"
    nodes += [node("Softmax", at, "y", axis=1), node("ArgMax", at, "label", axis=1, keepdims=0)]
    return build(nodes, [value("x", FLOAT, ["n", sizes[0]])],
                 [value("y", FLOAT, ["n", sizes[-1]]), value("label", LONG, ["n"])], constants)


def convolution(random):
    constants = [numpy_helper.from_array(weights(random, 8, 3, 3, 3), "w"),
                 numpy_helper.from_array(np.int64([0, -1]), "flat"),
                 numpy_helper.from_array(weights(random, 8 * 16 * 16, 5), "v")]
    return build([node("Conv", "x w", "c", pads=[1] * 4), node("Relu", "c", "r"),
                  node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
                  node("Reshape", "p flat", "f"), node("MatMul", "f v", "y")],
                 [value("x", FLOAT, ["n", 3, 32, 32])], [value("y", FLOAT, ["n", 5])], constants)


def lstm(random):
    constants = [numpy_helper.from_array(weights(random, 1, 32, 6), "w"),
                 numpy_helper.from_array(weights(random, 1, 32, 8), "r")]
    return build([node("Transpose", "x", "t", perm=[1, 0, 2]),
                  node("LSTM", "t w r", "all last", hidden_size=8),
                  node("Transpose", "last", "y", perm=[1, 0, 2])],
                 [value("x", FLOAT, ["n", "steps", 6])], [value("y", FLOAT, ["n", 1, 8])],
                 constants)


def strings():
    return build([node("Identity", "x", "y"), node("Identity", "n", "m")],
                 [value("x", STRING, ["rows", 2]), value("n", LONG, ["rows"])],
                 [value("y", STRING, ["rows", 2]), value("m", LONG, ["rows"])])


def random_input(random, index, datatype, dims):
    if datatype == BYTES:
        words = [bytes(random.integers(0, 256, random.integers(0, 9), np.uint8))
                 for _ in range(np.prod(dims))]
        return index, datatype, dims, texts(*words)
    if datatype == INT64:
        return index, datatype, dims, random.integers(0, 4, dims).tobytes()
    return index, datatype, dims, random.standard_normal(dims).astype(np.float32).tobytes()


# name: (model, the open dimensions of its inputs behind the first)
EQUAL = {
    "digits": (lambda _: (DIGITS / "digits.onnx").read_bytes(), ()),
    "mlp": (lambda random: mlp(random, 64, 256, 10), ()),
    "mlp-wide": (lambda random: mlp(random, 784, 512, 512, 10), ()),
    "convolution": (convolution, ()),
    "lstm": (lstm, (7,)),
    "strings": (lambda _: strings(), ()),
    "pick": (lambda _: PICK, ()),
    "identity": (lambda _: (MODELS / "identity_fp32.onnx").read_bytes(), (5,)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_to_unbatched(serve, name):
    make, inner = EQUAL[name]
    random = np.random.default_rng(7)
    model = make(random)
    together, alone = serve(model, batch=16, slots=16), serve(model, slots=16)
    assert together.model.batch_rows_max == 16
    asked = []
    for rows in (1, 3, 1, 2, 5, 1, 1, 2):
        asked.append([
            random_input(random, i, datatype, (rows, *inner) if inner and len(dims) == 2
                         else (rows, *(inner or ()), *dims[1 + len(inner):]))
            for i, (_, datatype, dims, _) in enumerate(together.model.inputs)])
    wanted = (1 << len(together.model.outputs)) - 1
    one, other = (ask_all(replica, asked, wanted) for replica in (together, alone))
    assert runs(one) == [16] + [0] * 7 and 0 not in runs(other)
    equal = True
    for (_, got, _), (completion, expected, _) in zip(one, other):
        assert completion.status == DONE and got.keys() == expected.keys()
        for index, (datatype, dims, data) in expected.items():
            assert got[index][:2] == (datatype, dims)
            equal &= got[index][2] == data
            if datatype == FP32:
                a, b = (np.frombuffer(d, np.float32) for d in (got[index][2], data))
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
            else:  # labels and texts
                assert got[index][2] == data
    print(f"{name}: {'byte-equal' if equal else 'equal within 1e-5'}")
