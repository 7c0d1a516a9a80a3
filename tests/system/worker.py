# SPDX-License-Identifier: Apache-2.0
"""Supervisor and gateway for one worker executable: perigee/worker.h from the other side."""

import ctypes
import fcntl
import mmap
import os
import pathlib
import select
import signal
import socket
import stat
import struct
import subprocess
import time

from deadline import DEADLINE
from perigee import PROGRAM, SANITIZER_FOUND

MAGIC, VERSION = 0x31676550, 2
HELLO, CLONE, CLONED = 1, 2, 3
LANES_MAX, ENTRIES, SLOTS_MAX, ALIGN = 16, 256, 512, 64
BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16 = range(1, 8)
INT32, INT64, FP16, FP32, FP64, BYTES, BF16 = range(8, 15)
PHASES = ("NONE", "WALLS", "LOADING", "WARMING", "READY", "FAILED")
DONE, BAD_INPUT, TOO_LARGE, FAULT, CANCELED = range(5)
BEST, REQUIRE = 0, 1
GROUP_NONE, GROUP_TASKS, GROUP_FOLDER = range(3)
WALLS = (
    "nnp",
    "rlimits",
    "env",
    "fds",
    "seccomp",
    "landlock",
    "user",
    "mount",
    "net",
    "ipc",
    "uid",
)

HELLO_FORM = struct.Struct("<4I16s64s2I512s")
CLONE_FORM = struct.Struct("<6I6Q6I256s2I")
CLONE_BYTES_1 = CLONE_FORM.size - 8  # of version 1, without the two last
CLONED_FORM = struct.Struct("<2IQ2i")
SUBMISSION_FORM = struct.Struct("<QQQIIq3Q")
COMPLETION_FORM = struct.Struct("<6Q4I")
TENSOR_FORM = struct.Struct("<4I2Q16q")
STATUS_FORM = struct.Struct("<4I3i3I3Q1024s")

PAGE = 4096
LANE_BYTES = 192 + ENTRIES * 64
LANES_AT = 192
SUBMISSION_BYTES = -(-(LANES_AT + LANES_MAX * LANE_BYTES) // PAGE) * PAGE
MODEL_AT, MODEL_BYTES = PAGE, 128 * 1024
COMPLETIONS_AT = MODEL_AT + MODEL_BYTES
COMPLETION_LANE_BYTES = 128 + ENTRIES * 64
SLOTS_AT = -(-(COMPLETIONS_AT + LANES_MAX * COMPLETION_LANE_BYTES) // PAGE) * PAGE
ANSWER_OUTPUTS_AT = 1024
F_ADD_SEALS, SEALS = 1033, 0x2 | 0x4 | 0x1
SYS_FUTEX, FUTEX_WAKE = 202 if os.uname().machine == "x86_64" else 98, 1
libc = ctypes.CDLL(None, use_errno=True)


def worker_path(name):
    """perigee-worker-NAME beside the program under test, in a build folder or installed."""
    for folder in (PROGRAM.parent / "lib" / "perigee", PROGRAM.parent.parent / "lib" / "perigee"):
        if (folder / f"perigee-worker-{name}").exists():
            return folder / f"perigee-worker-{name}"
    raise AssertionError(f"no perigee-worker-{name} near {PROGRAM}")


class Region:
    """Shared memory: `fd` can be written, `readonly` is its read-only reopening."""

    def __init__(self, name, size):
        self.size = size
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.fchmod(self.fd, 0o400)
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, F_ADD_SEALS, SEALS)
        self.readonly = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        self.memory = mmap.mmap(self.fd, size)

    def close(self):
        os.close(self.fd)
        os.close(self.readonly)
        self.memory.close()

    # One store or load each, as the other side sees it; struct's "<" would go byte by byte.
    def u32(self, at):
        return struct.unpack_from("@I", self.memory, at)[0]

    def u64(self, at):
        return struct.unpack_from("@Q", self.memory, at)[0]

    def put(self, form, at, value):
        # Not pack_into(), which writes zeros first: who looks then sees an index go back.
        number = struct.pack("@" + form, value)
        self.memory[at : at + len(number)] = number


def walls_of(bits):
    return {name for bit, name in enumerate(WALLS) if bits >> bit & 1}


class Template:
    def __init__(self, path, wrap=()):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lifeline, self.lifeline_kept = os.pipe()
        wanted = {3: theirs.fileno(), 4: self.lifeline}
        self.process = subprocess.Popen(
            [
                "bash",
                "-c",
                'exec 3<&"$1" 4<&"$2"; shift 2; exec env -i "$@"',
                "-",
                str(theirs.fileno()),
                str(self.lifeline),
                *wrap,
                str(path),
            ],
            pass_fds=wanted.values(),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self.channel.settimeout(DEADLINE)
        message = self.channel.recv(65536)
        assert len(message) == HELLO_FORM.size, f"no hello: {message!r}"
        (
            magic,
            kind,
            self.version_min,
            self.version_max,
            runtime,
            library,
            walls,
            self.landlock_abi,
            walls_off,
        ) = HELLO_FORM.unpack(message)
        assert (magic, kind) == (MAGIC, HELLO)
        self.runtime, self.library, self.walls_off = (
            text.split(b"\0")[0].decode() for text in (runtime, library, walls_off)
        )
        self.walls = walls_of(walls)
        self.clones = 0
        # A folder is of one mount namespace: that of the template, which as root is another here.
        self.root = f"/proc/{self.process.pid}/root" if wrap and os.geteuid() == 0 else ""

    def send(self, message, descriptors):
        socket.send_fds(self.channel, [message], descriptors)

    def cloned(self):
        message = self.channel.recv(65536)
        magic, kind, replica, pid, error = CLONED_FORM.unpack(message)
        assert (magic, kind) == (MAGIC, CLONED)
        return replica, pid, error

    def clone(self, folder, file="model.onnx", **options):
        return Replica(self, folder, file, **options)

    def close(self):
        self.channel.close()
        os.close(self.lifeline_kept)
        os.close(self.lifeline)
        assert self.process.wait(DEADLINE) == 0


class Replica:
    """A clone, and the memory it serves from. Closed by close(), which kills it."""

    def __init__(
        self,
        template,
        folder,
        file="model.onnx",
        loops=1,
        slots=4,
        slot_bytes=1 << 20,
        arena_bytes=1 << 24,
        memory=1 << 30,
        threads=1,
        batch=1,
        delay_us=0,
        spin_us=0,
        sandbox=BEST,
        uid=None,
        readonly=True,
        version=VERSION,
        group=(GROUP_NONE, []),
    ):
        if uid is None:
            uid = 100_000 + os.getpid() % 10_000 if os.geteuid() == 0 else 0
        self.uid, self.slots, self.slot_bytes, self.lanes = uid, slots, slot_bytes, 2 * loops
        self.page = Region("submission", SUBMISSION_BYTES)
        self.output = Region("output", SLOTS_AT + slots * slot_bytes)
        self.arena = Region("arena", arena_bytes)
        self.log_read, log = os.pipe()
        os.set_blocking(self.log_read, False)
        pipes = [os.pipe() for _ in range(self.lanes)]
        self.pipes = [read for read, _ in pipes]
        for read in self.pipes:
            os.set_blocking(read, False)
        model = os.open(f"{template.root}{folder}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        given = [
            self.page.readonly if readonly else self.page.fd,
            self.output.fd,
            self.arena.readonly,
            model,
            log,
            template.lifeline,
        ] + [write for _, write in pipes] + group[1]
        template.clones += 1
        self.id = template.clones
        template.send(
            CLONE_FORM.pack(
                MAGIC,
                CLONE,
                version,
                loops,
                self.lanes,
                slots,
                slot_bytes,
                SUBMISSION_BYTES,
                self.output.size,
                self.arena.size,
                self.id,
                memory,
                threads,
                batch,
                delay_us,
                spin_us,
                sandbox,
                uid,
                file.encode(),
                group[0],
                len(group[1]),
            )[: CLONE_FORM.size if version > 1 else CLONE_BYTES_1],
            given,
        )
        replica, self.pid, error = template.cloned()
        assert replica == self.id
        for descriptor in [model, log] + [write for _, write in pipes]:
            os.close(descriptor)
        assert self.pid > 0, f"clone: {os.strerror(error)}"
        self.said, self.wait_status = b"", None
        self.heads, self.seen, self.ticket = [0] * self.lanes, [0] * self.lanes, 0
        self.pidfd = os.pidfd_open(self.pid)

    # --- what it says --------------------------------------------------------------------------

    @property
    def status(self):
        return Status(self.output.memory[: STATUS_FORM.size])

    def log(self):
        try:
            while True:
                more = os.read(self.log_read, 65536)
                if not more:
                    break
                self.said += more
        except BlockingIOError:
            pass
        return self.said.decode(errors="replace")

    def reap(self):
        """Waits for its end; returns the wait status."""
        if self.wait_status is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            assert poll.poll(
                DEADLINE * 1000
            ), f"replica {self.pid} does not end: {self.status.phase}"
            _, self.wait_status = os.waitpid(self.pid, 0)
        return self.wait_status

    def _wait(self, descriptors):
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(DEADLINE * 1000)
        assert ready, f"nothing from the replica in {DEADLINE} s:\n{self.log()}"
        return [descriptor for descriptor, _ in ready]

    def drain(self, lane):
        """Bytes in a lane's pipe."""
        try:
            return os.read(self.pipes[lane], 65536)
        except BlockingIOError:
            return b""

    def wait_ready(self):
        """True when it is ready; False when it ended, which it must then have explained."""
        while self.status.phase != "READY":
            if self.pidfd in self._wait([self.pipes[0], self.pidfd]):
                self.reap()
                return False
        for lane in range(self.lanes):
            if not self.drain(lane):
                self._wait([self.pipes[lane]])
                self.drain(lane)
        self.model = Model(self.output.memory[MODEL_AT : MODEL_AT + self.status.model_bytes])
        return True

    def ready(self):
        assert self.wait_ready(), f"not ready: {self.status.reason}\n{self.log()}"
        return self

    # --- asking --------------------------------------------------------------------------------

    def submit(self, block, lane=0, slot=0, deadline=0, offset=0, size=None):
        """Publishes a request; returns its ticket."""
        ticket = self.enter(block, lane, slot, deadline, offset, size)
        self.publish(lane)
        return ticket

    def submit_all(self, blocks, lane=0, deadlines=None, sizes=None):
        """Publishes them all at once, each with a slot and a piece of the arena; their tickets."""
        piece, count = self.arena.size // len(blocks) // ALIGN * ALIGN, len(blocks)
        tickets = [
            self.enter(block, lane, slot, deadline, slot * piece, size)
            for slot, (block, deadline, size) in enumerate(
                zip(blocks, deadlines or [0] * count, sizes or [None] * count)
            )
        ]
        self.publish(lane)
        return tickets

    def enter(self, block, lane, slot, deadline, offset, size):
        """Writes a request into the ring, not to be seen before publish()."""
        self.arena.memory[offset : offset + len(block)] = block
        self.ticket += 1
        at = LANES_AT + lane * LANE_BYTES
        SUBMISSION_FORM.pack_into(
            self.page.memory,
            at + 192 + self.heads[lane] % ENTRIES * 64,
            self.ticket,
            offset,
            len(block) if size is None else size,
            slot,
            0,
            deadline,
            0,
            0,
            0,
        )
        self.heads[lane] += 1
        return self.ticket

    def publish(self, lane=0):
        at = LANES_AT + lane * LANE_BYTES
        self.page.put("I", at + 128, 1)  # armed: we are going to sleep
        self.page.put("Q", at, self.heads[lane])
        self.wake()

    def wake(self):
        self.page.put("I", 64, self.page.u32(64) + 1 & 0xFFFFFFFF)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.page.memory, 64))
        libc.syscall(SYS_FUTEX, ctypes.c_void_p(address), FUTEX_WAKE, 1, None, None, 0)

    def cancel(self, slot, lane=0, canceled=True):
        """Says that nobody waits for the answer in this slot, or takes it back."""
        at = LANES_AT + lane * LANE_BYTES + 136 + slot % ENTRIES // 64 * 8
        bit = 1 << slot % 64
        now = self.page.u64(at)
        self.page.put("Q", at, now | bit if canceled else now & ~bit)

    def completion(self, lane=0):
        """The next one of a lane, or None when the replica has ended before it."""
        at = COMPLETIONS_AT + lane * COMPLETION_LANE_BYTES
        while self.output.u64(at) == self.seen[lane]:
            ready = self._wait([self.pipes[lane], self.pidfd])
            self.drain(lane)
            if self.pidfd in ready and self.output.u64(at) == self.seen[lane]:
                self.reap()
                return None
        entry = at + 128 + self.seen[lane] % ENTRIES * 64
        self.seen[lane] += 1
        self.page.put("Q", LANES_AT + lane * LANE_BYTES + 64, self.seen[lane])
        return Completion(self.output.memory[entry : entry + 64])

    def answer(self, completion):
        """(outputs by index, message) of its slot."""
        at = SLOTS_AT + completion.slot * self.slot_bytes
        count, message_bytes = struct.unpack_from("<2I", self.output.memory, at)
        message = self.output.memory[at + 8 : at + 8 + message_bytes].decode()
        outputs = {}
        for i in range(count):
            index, datatype, rank, _, offset, size, *dims = TENSOR_FORM.unpack_from(
                self.output.memory, at + ANSWER_OUTPUTS_AT + i * TENSOR_FORM.size
            )
            assert offset % ALIGN == 0 and offset + size <= self.slot_bytes
            outputs[index] = (
                datatype,
                tuple(dims[:rank]),
                self.output.memory[at + offset : at + offset + size],
            )
        return outputs, message

    def ask(self, inputs, wanted=None, **options):
        """One request: (completion, outputs, message). `inputs`: (index, datatype, dims, bytes)."""
        wanted = (1 << len(self.model.outputs)) - 1 if wanted is None else wanted
        ticket = self.submit(request(inputs, wanted), **options)
        completion = self.completion(options.get("lane", 0))
        if completion is None:
            return None, {}, f"it ended: {self.wait_status}, {self.status.reason}\n{self.log()}"
        assert completion.ticket == ticket
        return completion, *self.answer(completion)

    def close(self):
        if self.wait_status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.reap()
        said = self.log()
        assert not SANITIZER_FOUND.search(said), said
        for descriptor in [self.log_read, self.pidfd, *self.pipes]:
            os.close(descriptor)
        for region in (self.page, self.output, self.arena):
            try:
                region.close()
            except BufferError:
                pass  # an address of it is still held by ctypes

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def request(inputs, wanted):
    """struct perigee_request with its tensors and their bytes."""
    head = 16 + TENSOR_FORM.size * len(inputs)
    at, rows, data = -(-head // ALIGN) * ALIGN, b"", b""
    begin = at
    for index, datatype, dims, content in inputs:
        rows += TENSOR_FORM.pack(
            index, datatype, len(dims), 0, at, len(content), *(list(dims) + [0] * (16 - len(dims)))
        )
        data += content.ljust(-(-len(content) // ALIGN) * ALIGN, b"\0")
        at = begin + len(data)
    return (struct.pack("<IIQ", len(inputs), 0, wanted) + rows).ljust(begin, b"\0") + data


def texts(*elements):
    """BYTES elements as the contract has them."""
    return b"".join(
        struct.pack("<I", len(e)) + e
        for e in (e.encode() if isinstance(e, str) else e for e in elements)
    )


def elements(data):
    found = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def say(replica, command):
    """What the test-only worker says to a command; None when it died of it."""
    completion, outputs, message = replica.ask([(0, BYTES, (1,), texts(command))])
    if completion is None:
        return None
    assert completion.status == DONE, message
    return elements(outputs[0][2])[0].decode()


class Completion:
    def __init__(self, data):
        (
            self.ticket,
            self.start_ns,
            self.input_ns,
            self.infer_ns,
            self.output_ns,
            self.cpu_ns,
            self.slot,
            self.status,
            self.output_count,
            self.batch_rows,
        ) = COMPLETION_FORM.unpack(data)


class Status:
    def __init__(self, data):
        (
            self.magic,
            self.version,
            phase,
            self.sleeping,
            self.pid,
            self.signal,
            self.syscall,
            walls,
            self.landlock_abi,
            self.model_bytes,
            self.memory_loaded_bytes,
            self.load_ns,
            self.warm_ns,
            reason,
        ) = STATUS_FORM.unpack(data)
        self.phase = PHASES[phase]
        self.walls = walls_of(walls)
        self.reason = reason.split(b"\0")[0].decode()


class Model:
    """struct perigee_model: inputs and outputs are (name, datatype, dims, symbols)."""

    IO = struct.Struct("<2I4I16q32I")

    def __init__(self, data):
        self.data = data
        self.platform = self._text(*struct.unpack_from("<2I", data))
        inputs, outputs, properties, self.batch_rows_max = struct.unpack_from("<4I", data, 8)
        at = 24
        self.inputs = [self._io(at + i * self.IO.size) for i in range(inputs)]
        at += 64 * self.IO.size
        self.outputs = [self._io(at + i * self.IO.size) for i in range(outputs)]
        at += 64 * self.IO.size
        self.properties = {}
        for i in range(properties):
            key, key_bytes, value, value_bytes = struct.unpack_from("<4I", data, at + i * 16)
            self.properties[self._text(key, key_bytes)] = self._text(value, value_bytes)

    def _text(self, offset, size):
        return self.data[offset : offset + size].decode()

    def _io(self, at):
        name, name_bytes, datatype, rank, _, _, *rest = self.IO.unpack_from(self.data, at)
        dims, symbols = rest[:rank], rest[16 : 16 + 2 * rank]
        return (
            self._text(name, name_bytes),
            datatype,
            tuple(dims),
            tuple(self._text(*symbols[2 * i : 2 * i + 2]) for i in range(rank)),
        )


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def reachable(folder):
    """A folder for replicas, which have uids of their own: pytest makes it 0700. Nothing is taken
    from anybody: where --basetemp lies in /tmp that is one of these."""
    for part in (folder, *folder.parents[:2]):
        part.chmod(stat.S_IMODE(part.stat().st_mode) | 0o055)
    return folder


def folder_with(folder, data, file="model.onnx"):
    """A model's folder as the agent makes it: readable by a uid of its own."""
    folder = pathlib.Path(folder)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / file).write_bytes(data)
    (folder / file).chmod(0o644)
    return folder
