# SPDX-License-Identifier: Apache-2.0
"""Under load: no copies of tensors, counters that add up, a killed replica fails only its own."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import threading

import numpy as np
import pytest

from deadline import DEADLINE, descriptors
from oip import answer_parts, apply, infer, split_body, tensor
from perigee import DIGITS

pytestmark = pytest.mark.usefixtures("endpoints")


@pytest.fixture(scope="module")
def endpoints(perigee):
    apply(perigee, {"name": "plain", "model": "identity_fp32"},
          {"name": "other", "model": "identity_fp32"},
          {"name": "twins", "model": DIGITS / "digits.onnx",
           "scale": {"min": 2, "max": 2, "concurrency": 4}},
          {"name": "alone", "model": DIGITS / "digits.onnx"})


def wait_quiet(perigee, endpoint):
    """Until nothing waits or runs: a loop sets these gauges once a second."""
    for name in ("perigee_queue_requests", "perigee_running_requests"):
        perigee.wait_metric(lambda value: value == 0, name, endpoint=endpoint)


def connection_of(perigee):
    return http.client.HTTPConnection(*perigee.address(), timeout=DEADLINE)


def test_a_thousand_aligned_binary_requests_copy_no_tensor(perigee):
    sent = np.random.default_rng(2).random((16, 1024), np.float32)
    data = sent.tobytes()
    headers, body = split_body({"inputs": [tensor("x", "FP32", sent.shape,
                                                  binary_data_size=len(data))],
                                "parameters": {"binary_data_output": True}}, data)
    before = perigee.metric("perigee_requests_total", endpoint="plain", code="200")
    connection = connection_of(perigee)
    for _ in range(1000):
        connection.request("POST", "/v2/models/plain/infer", body, headers)
        got = connection.getresponse()
        answer = got.read()
        assert got.status == 200 and answer.endswith(data)
    connection.close()
    assert perigee.metric("perigee_tensor_copied_bytes_total", endpoint="plain") == 0
    assert perigee.metric("perigee_requests_total", endpoint="plain",
                   code="200") == before + 1000
    for way, size in (("request", len(body)), ("response", len(data))):
        name = f"perigee_{way}_body_bytes_total"
        assert perigee.metric(name, endpoint="plain") >= 1000 * size


def test_what_must_be_copied_is_counted(perigee):
    data = np.ones((1, 65536), np.float32).tobytes()
    headers, body = split_body({"inputs": [tensor("x", "FP32", [1, 65536],
                                                  binary_data_size=len(data))]}, data)
    before = perigee.metric("perigee_tensor_copied_bytes_total", endpoint="plain")
    connection = connection_of(perigee)
    connection.request("POST", "/v2/models/plain/infer",
                       (body[at:at + 9999] for at in range(0, len(body), 9999)), headers,
                       encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert perigee.metric("perigee_tensor_copied_bytes_total", endpoint="plain") > before


def test_metrics_tell_of_requests_errors_and_phases(perigee):
    labels = {"project": "default", "endpoint": "alone"}
    image = [tensor("image", "FP32", [1, 64], [0.0] * 64)]
    before = {code: perigee.metric("perigee_requests_total", code=code, **labels)
              for code in ("200", "400")}
    errors = perigee.metric("perigee_request_errors_total", error="bad_input", **labels)
    counts = {name: perigee.metric(f"perigee_request_{name}seconds_count", **labels)
              for name in ("", "queue_", "infer_")}
    for _ in range(5):
        assert infer(perigee, "alone", image)[0] == 200
    assert infer(perigee, "alone", [])[0] == 400
    assert perigee.metric("perigee_requests_total", code="200", **labels) == before["200"] + 5
    assert perigee.metric("perigee_requests_total", code="400", **labels) == before["400"] + 1
    assert perigee.metric("perigee_request_errors_total", error="bad_input",
                   **labels) == errors + 1
    for name, count in counts.items():
        whole = f"perigee_request_{name}seconds"
        assert perigee.metric(f"{whole}_count", **labels) == count + 5
        assert perigee.metric(f"{whole}_bucket", le="+Inf", **labels) == count + 5
        assert perigee.metric(f"{whole}_sum", **labels) > 0
    wait_quiet(perigee, "alone")


def test_the_admin_port_says_that_all_is_well(perigee):
    for path in ("/healthz", "/readyz"):
        assert perigee.request("GET", path, listener="admin")[0] == 200
        assert perigee.request("GET", path, listener="control")[0] == 200
    status, _, body = perigee.request("GET", "/metrics", listener="admin")
    names = {line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE")}
    assert names and all(name.startswith("perigee_") for name in names)
    helped = {line.split()[2] for line in body.decode().splitlines() if line.startswith("# HELP")}
    assert helped == names
    for method, path, wanted, name in (("GET", "/nonsense", 404, "not_found"),
                                       ("POST", "/metrics", 405, "bad_method")):
        status, headers, _ = perigee.request(method, path, listener="admin")
        assert status == wanted
        assert {key.lower(): value for key, value in dict(headers).items()}["perigee-error"] == name


def arena_bytes(perigee):
    """What the input arenas really hold, by the kernel's word: their files' pages."""
    pages = {}
    for pid in perigee.pids():
        try:
            opened = descriptors(pid)
        except PermissionError:  # not dumpable, and we are not root: the supervisor has them too
            continue
        for number, name in opened.items():
            with contextlib.suppress(FileNotFoundError):
                if name.startswith("/memfd:perigee-arena"):
                    found = os.stat(f"/proc/{pid}/fd/{number}")
                    pages[found.st_ino] = found.st_blocks * 512
    assert pages
    return sum(pages.values())


@pytest.mark.parametrize("size", [4096, 1 << 20, 8 << 20])
def test_arenas_hold_what_is_counted(perigee, size):
    """Requests come and go on two endpoints: the pages that stay are those the metrics tell of."""
    sent = np.ones((1, size // 4), np.float32)
    headers, body = split_body({"inputs": [tensor("x", "FP32", sent.shape,
                                                  binary_data_size=sent.nbytes)]}, sent.tobytes())

    def one(number):
        name = ("plain", "other")[number % 2]
        return perigee.request("POST", f"/v2/models/{name}/infer", body, headers)[0]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert set(pool.map(one, range(24))) == {200}
    perigee.wait_metric(lambda value: value == 0, "perigee_request_memory_bytes")
    untold = 5 * ((256 << 10) + (64 << 10))  # of each endpoint here: a step, and edges of blocks
    perigee.wait_metric(lambda kept: arena_bytes(perigee) <= kept + untold,
                        "perigee_request_memory_kept_bytes")


# --- load ----------------------------------------------------------------------------------------


class Load:
    """Clients that ask for digits over and over, in JSON and in binary, and know the answers."""

    def __init__(self, perigee, endpoint, clients):
        held_out = np.load(DIGITS / "held_out.npz")
        self.images = held_out["image"].astype(np.float32)
        self.perigee, self.endpoint = perigee, endpoint
        self.wanted = self.expected()
        self.wrong, self.failed, self.done = [], [], [0] * clients
        self.ends = threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(clients)
        self.clients = clients

    def expected(self):
        headers, body = self.request(self.images)
        status, got, answer = self.perigee.request(
            "POST", f"/v2/models/{self.endpoint}/infer", body, headers)
        assert status == 200, answer
        return np.frombuffer(answer_parts(got, answer)[1]["label"], np.int64)

    def request(self, images):
        return split_body({"inputs": [tensor("image", "FP32", images.shape,
                                             binary_data_size=images.nbytes)],
                           "parameters": {"binary_data_output": True}}, images.tobytes())

    def client(self, number):
        random = np.random.default_rng(number)
        connection = connection_of(self.perigee)
        while not self.ends.is_set():
            at = random.integers(0, len(self.images) - 8)
            rows = int(random.integers(1, 8))
            images = self.images[at:at + rows]
            if number % 2:
                headers, body = self.request(images)
            else:
                headers, body = {}, json.dumps({"inputs": [tensor(
                    "image", "FP32", images.shape, images.ravel().tolist())]})
            try:
                connection.request("POST", f"/v2/models/{self.endpoint}/infer", body, headers)
                got = connection.getresponse()
                answer = got.read()
            except (OSError, http.client.HTTPException) as fault:
                self.failed.append(repr(fault))
                connection.close()
                connection = connection_of(self.perigee)
                continue
            if got.status != 200:
                self.failed.append(answer)
                continue
            label = answer_parts(got.headers, answer)[1]["label"]
            label = np.frombuffer(label, np.int64) if number % 2 else np.array(label)
            if label.tolist() != self.wanted[at:at + rows].tolist():
                self.wrong.append((at, rows, label))
            self.done[number] += 1
        connection.close()

    def wait(self, count):
        """Until every client has had so many more answers."""
        wanted = [done + count for done in self.done]
        while any(a < b for a, b in zip(self.done, wanted)):
            assert not self.ends.wait(0.01)
            for one in self.running:
                if one.done():
                    one.result()

    def __enter__(self):
        self.running = [self.pool.submit(self.client, i) for i in range(self.clients)]
        return self

    def __exit__(self, *exception):
        self.ends.set()
        for one in self.running:
            one.result(DEADLINE)
        self.pool.shutdown()


def ready(perigee, endpoint):
    return [row for row in perigee.json("show", endpoint)["replicas"] if row["state"] == "ready"]


@pytest.mark.parametrize("endpoint", ["twins", "alone"])
def test_a_replica_killed_under_load_fails_only_its_own_requests(perigee, endpoint):
    """With a second replica, or once there is a next one, even those are tried again."""
    with Load(perigee, endpoint, 8) as load:
        load.wait(20)
        for _ in range(2):
            victim = ready(perigee, endpoint)[0]
            with perigee.events(new=True) as events:
                os.kill(victim["pid"], signal.SIGKILL)
                events.wait("replica_ready", endpoint=endpoint)
            load.wait(20)
    assert load.wrong == []
    assert load.failed == []
    assert min(load.done) >= 60


def test_the_gateway_killed_under_load_cuts_connections_and_nothing_more(perigee):
    with Load(perigee, "twins", 8) as load:
        load.wait(20)
        before = {row["pid"] for row in ready(perigee, "twins")}
        gateway = next(pid for pid in perigee.pids()
                       if open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")[1:3]
                       == [b"role", b"gateway"])
        os.kill(gateway, signal.SIGKILL)
        load.wait(20)
    assert load.wrong == []
    assert len(load.failed) <= 2 * load.clients, load.failed[:20]
    assert {row["pid"] for row in ready(perigee, "twins")} == before


# --- several loops -----------------------------------------------------------------------------


@pytest.fixture
def four_loops(new_perigee):
    """Connections are spread over four loops, which share queues and replicas."""
    perigee = new_perigee("--loops", "4")
    apply(perigee, {"name": "twins", "model": DIGITS / "digits.onnx",
                    "scale": {"min": 2, "max": 2, "concurrency": 2}},
          {"name": "narrow", "model": DIGITS / "digits.onnx", "scale": {"concurrency": 1}},
          {"name": "slow", "model": "slow", "scale": {"concurrency": 1},
           "queue": {"depth": 3, "timeout": "30s"}})
    return perigee


def threads_of(perigee, role):
    for pid in perigee.pids():
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read().split(b"\0")[1:3] == [b"role", role]:
                return len(os.listdir(f"/proc/{pid}/task"))
    raise AssertionError(f"no {role}")


def test_loops_share_replicas_queues_and_limits(four_loops):
    perigee = four_loops
    assert threads_of(perigee, b"gateway") >= 5
    with Load(perigee, "narrow", 16) as one, Load(perigee, "twins", 16) as two:
        one.wait(20)
        two.wait(20)
        for _ in range(2):
            victim = ready(perigee, "twins")[0]
            with perigee.events(new=True) as events:
                os.kill(victim["pid"], signal.SIGKILL)
                events.wait("replica_ready", endpoint="twins")
            two.wait(20)
    for load in (one, two):
        assert load.wrong == [] and load.failed == []
    for endpoint in ("narrow", "twins"):
        wait_quiet(perigee, endpoint)
        assert perigee.metric("perigee_requests_total", endpoint=endpoint, code="200") == sum(
            (one if endpoint == "narrow" else two).done) + 1


def test_the_depth_of_a_queue_is_that_of_all_loops(four_loops):
    """Of 24 at once, over four loops, one runs and three wait."""
    body = [tensor("rounds", "INT64", [1], [60_000])]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: infer(four_loops, "slow", body)[0], range(24)))
    assert sorted(answers) == [200] * 4 + [503] * 20
