# SPDX-License-Identifier: Apache-2.0
"""The worker contract's own suite: what any perigee-worker-NAME must do (include/perigee/worker.h).

Each worker comes with a model and one good request; the rest is the contract."""

import os
import pathlib
import select
import signal
import struct

import pytest

import worker
from perigee import PROGRAM
from worker import (
    BAD_INPUT,
    BEST,
    BYTES,
    CANCELED,
    DONE,
    FP32,
    REQUIRE,
    TOO_LARGE,
    Template,
    elements,
    folder_with,
    reachable,
    request,
    texts,
)

MISBEHAVE = PROGRAM.parent / "tests" / "worker" / "perigee-worker-misbehave"


class Subject:
    """A worker under test: its executable, a model's bytes, and a request with its answer."""

    def __init__(self, name):
        self.name = name
        if name == "onnx":
            onnx = pytest.importorskip("onnx")
            node = onnx.helper.make_node("Relu", ["x"], ["y"])
            values = [
                onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 4])
                for n in "xy"
            ]
            graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
            self.model = onnx.helper.make_model(
                graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]
            ).SerializeToString()
            self.path = worker.worker_path("onnx")
            self.inputs = [(0, FP32, (2, 4), struct.pack("<8f", *range(-4, 4)))]
            self.outputs = {0: (FP32, (2, 4), struct.pack("<8f", 0, 0, 0, 0, 0, 1, 2, 3))}
            self.rows = 2
        else:
            if not MISBEHAVE.exists():
                pytest.skip("an installed tree has no test-only worker")
            self.model, self.path = b"ok\n", MISBEHAVE
            self.inputs = [(0, BYTES, (1,), texts("echo hello"))]
            self.outputs = {0: (BYTES, (1,), texts("hello"))}
            self.rows = 1


@pytest.fixture(scope="module", params=["onnx", "misbehave"])
def subject(request):
    return Subject(request.param)


@pytest.fixture(scope="module")
def template(subject):
    one = Template(subject.path)
    yield one
    one.close()


@pytest.fixture(scope="module")
def folder(subject, tmp_path_factory):
    base = reachable(tmp_path_factory.mktemp("m"))
    return folder_with(base / "model", subject.model)


@pytest.fixture
def replica(template, folder):
    with template.clone(folder) as one:
        yield one.ready()


def test_hello(template, subject):
    assert template.runtime == subject.name
    assert template.library
    assert template.version_min <= worker.VERSION <= template.version_max


def test_an_answer(replica, subject):
    before = worker.now_ns()
    completion, outputs, message = replica.ask(subject.inputs)
    assert (completion.status, message, outputs) == (DONE, "", subject.outputs)
    assert completion.batch_rows == subject.rows and completion.slot == 0
    assert before <= completion.start_ns <= worker.now_ns()
    took = completion.input_ns + completion.infer_ns + completion.output_ns
    assert 0 < took <= worker.now_ns() - before
    assert 0 < completion.cpu_ns < 10**9


def test_the_metadata(replica, subject):
    assert len(replica.model.inputs) == len(subject.inputs)
    for index, datatype, dims, _ in subject.inputs:
        name, declared, shape, _ = replica.model.inputs[index]
        assert name and declared == datatype and len(shape) == len(dims)
    assert replica.model.platform
    status = replica.status
    assert status.pid == replica.pid and status.load_ns > 0
    assert 0 < status.memory_loaded_bytes < 1 << 30


def test_every_lane_and_slot_answers(template, folder, subject):
    with template.clone(folder, loops=4, slots=8) as replica:
        replica.ready()
        for i in range(64):
            lane, slot = i % replica.lanes, i * 3 % 8
            completion, outputs, _ = replica.ask(
                subject.inputs, lane=lane, slot=slot, offset=i * 4096
            )
            assert (
                completion.status == DONE
                and completion.slot == slot
                and outputs == subject.outputs
            )


def test_a_ring_goes_round(replica, subject):
    for _ in range(3 * worker.ENTRIES):
        completion, _, _ = replica.ask(subject.inputs)
        assert completion.status == DONE


def test_requests_that_wait_are_all_answered_in_order(replica, subject):
    block = request(subject.inputs, 1)
    tickets = [replica.submit(block, slot=i, offset=i * 65536) for i in range(4)]
    assert [replica.completion().ticket for _ in tickets] == tickets


def test_lanes_take_turns(replica, subject):
    """One with much to do does not keep the others waiting until it has none."""
    block = request(subject.inputs, 1)
    for slot in range(4):
        replica.enter(block, int(slot == 3), slot, 0, slot * 65536, None)
    replica.page.put("I", worker.LANES_AT + 128, 1)  # as publish(), but it is not woken
    replica.page.put("Q", worker.LANES_AT, replica.heads[0])
    replica.publish(lane=1)
    first = [replica.completion() for _ in range(3)]
    other = replica.completion(lane=1)
    assert other.start_ns < first[2].start_ns


def test_a_lane_that_is_not_armed_gets_no_byte(replica, subject):
    block = request(subject.inputs, 1)
    replica.submit(block, lane=1)
    at = worker.LANES_AT + worker.LANE_BYTES
    replica.completion(lane=1)
    replica.drain(1)
    replica.page.put("I", at + 128, 0)
    # Published by hand: submit() arms the lane.
    worker.SUBMISSION_FORM.pack_into(
        replica.page.memory, at + 192 + 64, 99, 0, len(block), 1, 0, 0, 0, 0, 0
    )
    replica.page.put("Q", at, 2)
    replica.wake()
    for _ in range(2):  # after the second the other is done too: one thread, lanes in turn
        replica.ask(subject.inputs, lane=0, slot=2, offset=65536)
    assert replica.output.u64(worker.COMPLETIONS_AT + worker.COMPLETION_LANE_BYTES) == 2
    assert replica.drain(1) == b""


def test_past_its_deadline_it_is_not_run(replica, subject):
    completion, outputs, message = replica.ask(subject.inputs, deadline=worker.now_ns() - 1)
    assert completion.status == CANCELED and not outputs and "deadline" in message
    completion, _, _ = replica.ask(subject.inputs, deadline=worker.now_ns() + 10**10)
    assert completion.status == DONE


def test_what_nobody_waits_for_is_not_run(replica, subject):
    replica.cancel(slot=3, lane=0)
    completion, outputs, _ = replica.ask(subject.inputs, slot=3)
    assert completion.status == CANCELED and not outputs
    for slot, lane in ((2, 0), (3, 1)):  # the word is about this slot, on this lane
        completion, _, _ = replica.ask(subject.inputs, slot=slot, lane=lane)
        assert completion.status == DONE
    replica.cancel(slot=3, lane=0, canceled=False)
    completion, _, _ = replica.ask(subject.inputs, slot=3)
    assert completion.status == DONE


def lies(good):
    """Requests that lie, made from a good input: (name, request, keywords of submit)."""
    index, datatype, dims, data = good

    def block(count=1, wanted=1, **changes):
        row = {
            "index": index,
            "datatype": datatype,
            "rank": len(dims),
            "offset": 256,
            "size": len(data),
            "dims": list(dims),
            **changes,
        }
        one = worker.TENSOR_FORM.pack(
            row["index"],
            row["datatype"],
            row["rank"],
            0,
            row["offset"],
            row["size"],
            *(row["dims"] + [0] * (16 - len(row["dims"]))),
        )
        head = struct.pack("<IIQ", count, 0, wanted) + one
        return head.ljust(256, b"\0") + data.ljust(256, b"\0")

    yield "no input", block(count=0), {}
    yield "more inputs than there can be", block(count=65), {}
    yield "more inputs than the block holds", block(count=3), {}
    yield "one input twice", struct.pack("<IIQ", 2, 0, 1) + block()[16:176] * 2 + block()[336:], {}
    yield "another input", block(index=1), {}
    yield "an input far off", block(index=2**32 - 1), {}
    yield "another datatype", block(datatype=datatype % 14 + 1), {}
    yield "no datatype", block(datatype=0), {}
    yield "an unknown datatype", block(datatype=77), {}
    yield "another rank", block(rank=len(dims) + 1), {}
    yield "a high rank", block(rank=17), {}
    yield "a negative dimension", block(dims=[-1] * len(dims)), {}
    yield "an overflowing product", block(dims=[2**62] * len(dims)), {}
    yield "bytes outside", block(size=2**40), {}
    yield "an offset outside", block(offset=2**40), {}
    yield "an offset that wraps", block(offset=2**64 - 64), {}
    yield "an odd offset", block(offset=257), {}
    yield "no output", block(wanted=0), {}
    yield "outputs that are not there", block(wanted=2**63), {}
    yield "a block outside the arena", block(), {"size": 2**40}
    yield "a block too short", block(), {"size": 8}


def test_requests_that_lie(replica, subject):
    for name, block, how in lies(subject.inputs[0]):
        replica.submit(block, **how)
        completion = replica.completion()
        assert completion is not None, f"{name}: it died: {replica.status.reason}"
        _, message = replica.answer(completion)
        assert completion.status == BAD_INPUT and message, f"{name}: {completion.status} {message}"
        assert completion.output_count == 0
    completion, outputs, _ = replica.ask(subject.inputs)
    assert completion.status == DONE and outputs == subject.outputs


def test_an_answer_too_large_names_the_limit(template, folder, subject):
    with template.clone(folder, slot_bytes=12288) as replica:
        replica.ready()
        if subject.name == "onnx":
            inputs = [(0, FP32, (1000, 4), bytes(16000))]
        else:
            inputs = [(0, BYTES, (1,), texts("echo " + "x" * 500))]
            replica.slot_bytes = 12288
            return  # its answers are short
        completion, outputs, message = replica.ask(inputs)
        assert completion.status == TOO_LARGE and not outputs
        assert "output_bytes_max" in message and "16000" in message
        completion, outputs, _ = replica.ask(subject.inputs)
        assert completion.status == DONE and outputs == subject.outputs


def test_bad_commands_are_refused(template, folder):
    with template.clone(folder) as good:
        good.ready()
        fields = {
            "version": worker.VERSION + 1,
            "version of a shorter one": 1,
            "lanes": 4,
            "slots": 5,
            "slot_bytes": 3,
            "submission": 4096,
            "threads": 0,
            "file": b"/etc/passwd",
            "parent": b"../x",
            "unterminated": b"x" * 256,
            "group": 3,
            "group of none": worker.GROUP_TASKS,
            "groups of no kind": 1,
        }
        values = [
            worker.MAGIC,
            worker.CLONE,
            worker.VERSION,
            1,
            2,
            4,
            1 << 20,
            worker.SUBMISSION_BYTES,
            good.output.size,
            good.arena.size,
            77,
            1 << 30,
            1,
            1,
            0,
            0,
            BEST,
            0,
            b"model.onnx",
            worker.GROUP_NONE,
            0,
        ]
        where = {
            "version": 2,
            "version of a shorter one": 2,
            "lanes": 4,
            "slots": 5,
            "slot_bytes": 6,
            "submission": 7,
            "threads": 12,
            "file": 18,
            "parent": 18,
            "unterminated": 18,
            "group": 19,
            "group of none": 19,
            "groups of no kind": 20,
        }
        for name, value in fields.items():
            bad = list(values)
            bad[where[name]] = value
            template.send(worker.CLONE_FORM.pack(*bad), [good.page.readonly] * 8)
            replica, pid, error = template.cloned()
            assert (replica, pid) == (77, -1) and error, name
        template.send(worker.CLONE_FORM.pack(*values), [good.page.readonly] * 7)  # one short
        assert template.cloned()[1] == -1
        template.send(b"x", [])
        assert template.cloned()[1] == -1


def test_the_version_before_is_spoken(template, folder, subject):
    with template.clone(folder, version=1) as replica:
        replica.ready()
        assert replica.ask(subject.inputs)[1] == subject.outputs


# Its type of file system, a hierarchy's controller, and what of a group opens the way into it.
GROUPS = {
    worker.GROUP_TASKS: ("cgroup", "pids", "tasks"),
    worker.GROUP_FOLDER: ("cgroup2", "", "."),
}


def lines_of(path):
    return pathlib.Path(path).read_text().splitlines()


def own_group(kind, controller):
    """The folder of this process's own group in that hierarchy; None: there is none here."""
    for line in lines_of("/proc/self/mounts"):
        _, mount, mounted, options = line.split()[:4]
        if mounted == kind and (not controller or controller in options.split(",")):
            break
    else:
        return None
    for line in lines_of("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return pathlib.Path(mount + path)
    return None


@pytest.fixture(params=GROUPS)
def group(request):
    """(kind, folder, descriptor) of a group that is made for it."""
    kind, controller, file = GROUPS[request.param]
    own = own_group(kind, controller)
    if not own or not os.access(own, os.W_OK):
        pytest.skip(f"no group can be made here in {kind} {controller}")
    folder = own / f"contract-{os.getpid()}"
    folder.mkdir()
    descriptor = os.open(folder / file, os.O_RDONLY if file == "." else os.O_WRONLY)
    yield request.param, folder, descriptor
    os.close(descriptor)
    if folder.exists():
        folder.rmdir()


def test_it_is_in_its_group_before_it_tells_its_name(template, folder, subject, group):
    kind, place, descriptor = group
    with template.clone(folder, group=(kind, [descriptor])) as replica:
        assert place.joinpath("cgroup.procs").read_text().split() == [str(replica.pid)]
        replica.ready()
        assert replica.ask(subject.inputs)[1] == subject.outputs
        if os.geteuid() == 0:
            held = [os.readlink(one) for one in pathlib.Path(f"/proc/{replica.pid}/fd").iterdir()]
            assert not [one for one in held if place.name in one]


def test_one_whose_group_is_gone_tells_its_name_all_the_same(template, folder, group):
    kind, place, descriptor = group
    place.rmdir()
    with template.clone(folder, group=(kind, [descriptor])) as replica:
        replica.ready()
        assert place.name not in pathlib.Path(f"/proc/{replica.pid}/cgroup").read_text()


def test_a_model_that_is_not_there(template, folder):
    with template.clone(folder, "other.onnx") as replica:
        assert not replica.wait_ready()
        assert os.waitstatus_to_exitcode(replica.wait_status) == 1
        assert replica.status.phase == "FAILED" and "other.onnx" in replica.status.reason
        assert "other.onnx" in replica.log()


def test_what_is_required_stands_or_is_missing_by_name(template, folder):
    required = {"user", "mount", "net", "ipc", "landlock"}
    with template.clone(folder, sandbox=REQUIRE) as replica:
        if required <= template.walls:
            replica.ready()
            assert required <= replica.status.walls
        else:
            assert not replica.wait_ready()
            assert "required" in replica.status.reason
            for wall in required - template.walls:
                assert f"{wall}: " in replica.status.reason


def test_the_walls_are_up(template, replica):
    status = replica.status
    assert {"nnp", "rlimits", "env", "fds", "seccomp"} <= status.walls
    assert ("uid" in status.walls) == (os.geteuid() == 0)
    assert ("landlock" in status.walls) == (status.landlock_abi > 0)
    assert status.walls == template.walls and status.landlock_abi == template.landlock_abi
    for wall in set(worker.WALLS[5:10]) - template.walls:
        assert f"{wall}: " in template.walls_off
    proc = pathlib.Path(f"/proc/{replica.pid}")
    lines = (proc / "status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    if os.geteuid() == 0 or "user" in template.walls:
        assert int(fields["CapBnd"], 16) == 0
    if os.geteuid() == 0:
        assert fields["Uid"].split() == [str(replica.uid)] * 4 == fields["Gid"].split()
        assert fields["Groups"].strip() == ""
        assert (proc / "environ").read_bytes().strip(b"\0") == b""
        assert len(list((proc / "fd").iterdir())) == 3 + replica.lanes
        limits = (proc / "limits").read_text()
        for limit in ("Max core file size        0 ", "Max file size             0 "):
            assert limit in limits


def test_no_answer_waits_while_it_looks_for_work(template, folder, subject):
    """It may look for longer than this test would wait."""
    with template.clone(folder, spin_us=10**6 * 4 * int(worker.DEADLINE)) as replica:
        replica.ready()
        for _ in range(50):
            completion, outputs, said = replica.ask(subject.inputs)
            assert completion, said
            assert completion.status == DONE and outputs == subject.outputs


@pytest.mark.parametrize("spin_us", [0, 10_000])
def test_it_sleeps_when_idle(template, folder, subject, spin_us):
    """Also where it may look for work before: that ends."""
    with template.clone(folder, spin_us=spin_us) as replica:
        replica.ready()
        for _ in range(100):
            completion, outputs, said = replica.ask(subject.inputs)
            assert completion, said
            assert completion.status == DONE and outputs == subject.outputs
        before = cpu_ticks(replica.pid)
        assert select.select([replica.pidfd], [], [], 0.5)[0] == []
        assert replica.status.sleeping == 1
        assert cpu_ticks(replica.pid) - before <= 1 + spin_us // 10_000


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_replicas_outlive_their_template(subject, folder):
    template = Template(subject.path)
    with template.clone(folder) as replica:
        replica.ready()
        template.process.send_signal(signal.SIGKILL)
        template.process.wait()
        completion, outputs, _ = replica.ask(subject.inputs)
        assert completion.status == DONE and outputs == subject.outputs
    template.channel.close()


def test_clones_draw_numbers_of_their_own(template, subject, tmp_path):
    """Whatever generator there is: a clone has the memory of its template, not its numbers."""
    if subject.name == "onnx":
        onnx = pytest.importorskip("onnx")
        values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n"])
                  for n in "xyz"]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("RandomUniformLike", ["x"], ["y"]),
             onnx.helper.make_node("RandomNormalLike", ["x"], ["z"])],
            "g", values[:1], values[1:])
        model = onnx.helper.make_model(
            graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]
        ).SerializeToString()
        inputs = [(0, FP32, (4,), bytes(16))]
    else:
        model, inputs = subject.model, [(0, BYTES, (1,), texts("draw "))]
    drawn = []
    for i in range(3):
        with template.clone(folder_with(reachable(tmp_path) / "model", model)) as one:
            completion, outputs, message = one.ready().ask(inputs)
            assert (completion.status, message) == (DONE, "")
            drawn += [(which, data[2]) for which, data in outputs.items()]
    assert len(set(drawn)) == len(drawn), drawn
    if subject.name != "onnx":  # each of the numbers, not only one
        for numbers in zip(*(elements(data)[0].split() for _, data in drawn)):
            assert len(set(numbers)) == len(numbers)


def test_a_template_ends_with_its_lifeline(subject):
    template = Template(subject.path)
    os.close(template.lifeline_kept)
    assert template.process.wait(worker.DEADLINE) == 0


def test_what_waits_is_answered_as_if_each_had_run_alone(template, folder, subject):
    """A worker may run it together, up to batch_max rows; the first of a run says how many."""
    with template.clone(folder, batch=5, slots=8, loops=2) as replica:
        replica.ready()
        block = request(subject.inputs, 1)
        tickets = replica.submit_all([block] * 8, lane=1)
        assert list(runs_of(replica, 8, 5, subject.rows)) == tickets


def runs_of(replica, count, rows_max, rows_each):
    """Tickets of `count` completions of lane 1, whose runs add up."""
    left = 0
    for _ in range(count):
        completion = replica.completion(lane=1)
        outputs, message = replica.answer(completion)
        assert completion.status == DONE and outputs and not message
        if completion.batch_rows:
            assert left == 0 and completion.batch_rows <= max(rows_max, rows_each)
            left = completion.batch_rows
        left -= rows_each
        assert left >= 0
        yield completion.ticket
    assert left == 0


def test_a_request_that_lies_does_not_hurt_those_beside_it(template, folder, subject):
    good = request(subject.inputs, 1)
    with template.clone(folder, batch=64, slots=4) as replica:
        replica.ready()
        for name, block, how in lies(subject.inputs[0]):
            sizes = [None, how.get("size"), None]
            replica.submit_all([good, block, good], sizes=sizes)
            found = [replica.completion() for _ in sizes]
            assert None not in found, f"{name}: it died: {replica.status.reason}"
            by_slot = {one.slot: one for one in found}
            assert by_slot[1].status == BAD_INPUT, name
            for slot in (0, 2):
                outputs, _ = replica.answer(by_slot[slot])
                assert by_slot[slot].status == DONE and outputs == subject.outputs, name


def test_big_answers_give_their_memory_back(template, folder, subject):
    if subject.name != "onnx":
        pytest.skip("its answers are short")
    with template.clone(folder, slots=1, slot_bytes=1 << 24) as replica:
        replica.ready()
        rows = 1 << 19
        completion, _, _ = replica.ask([(0, FP32, (rows, 4), bytes(rows * 16))])
        assert completion.status == DONE
        full = os.fstat(replica.output.fd).st_blocks * 512
        assert full > rows * 16
        for _ in range(2):  # memory goes back behind an answer and before the next
            completion, outputs, _ = replica.ask(subject.inputs)
            assert outputs == subject.outputs
        assert os.fstat(replica.output.fd).st_blocks * 512 < full - rows * 8
