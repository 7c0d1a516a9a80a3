# SPDX-License-Identifier: Apache-2.0
"""Requests passed on between gateways, in a network in a box: real processes, real HTTP, recorded
links."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import threading

import dns.message
import dns.query
import numpy as np
import pytest

from deadline import DEADLINE, children, command_line, readable, until
from oip import MODELS, tensor
from perigee import SAMPLE
from test_fleet import Fleet, named

FLEET = """
version: 1
kind: fleet
pops:
  - {name: one, coordinates: [48.85, 2.35], country: FR}
  - {name: two, coordinates: [35.69, 139.69], country: JP}
  - {name: three, coordinates: [52.52, 13.40], country: DE}
clients:
  - {name: swiss, addresses: [127.66.0.0/16], coordinates: [47.37, 8.54], country: CH}
  - {name: french, addresses: [127.67.0.0/16], coordinates: [45.76, 4.83], country: FR}
links:
  - {between: [one, two], rtt: 20ms}
  - {between: [one, three], rtt: 8ms}
  - {between: [two, three], rtt: 30ms}
  - {between: [swiss, one], rtt: 6ms}
  - {between: [french, one], rtt: 6ms}
"""
SWISS, FRENCH = "127.66.0.1", "127.67.0.1"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Box(Fleet):
    """A fleet whose links are recorded."""

    def __init__(self, home, folder, text=FLEET):
        (folder / "fleet.yaml").write_text(text)
        self.record = folder / "record"
        super().__init__(home, ["--fleet", folder / "fleet.yaml", "--record", self.record])

    def recorded(self, link="*"):
        """What went over links between PoPs, `one.two` or all of them, either way."""
        return b"".join(path.read_bytes() for path in sorted(self.record.glob(f"*.{link}.*")))

    def put(self, name, *pops, wait=True, **more):
        """An endpoint y = x at these places."""
        self.deploy(*[] if wait else ["--no-wait"], name=name, regions=list(pops),
                    model=str(MODELS / "identity_fp32.onnx"), spread={"pops": len(pops)}, **more)
        for pop in pops if wait else ():
            until(f"{name} at {pop}", lambda pop=pop: self.local(pop, name))

    def local(self, pop, name):
        """Does that place answer it by itself?"""
        with contextlib.closing(self.client(pop, self.face(pop))) as connection:
            status, headers, _ = post(connection, name)
            return status == 200 and headers["Perigee-Pop"] == pop

    def face(self, pop):
        return f"127.0.1.{list(self.pops).index(pop) + 1}"

    def knows(self, pop, name):
        """Waits until that place passes on what it does not have."""
        until(f"{pop} to reach {name}", lambda: self.ask(pop, name)[0] == 200)

    def ask(self, pop, name, source=FRENCH, **more):
        with contextlib.closing(self.client(pop, source)) as connection:
            return post(connection, name, **more)

    def counted(self, place, metric, **labels):
        with contextlib.closing(self.client(place, FRENCH, "admin")) as connection:
            connection.request("GET", "/metrics")
            total = 0.0
            for line in connection.getresponse().read().decode().splitlines():
                found = SAMPLE.match(line)
                if found and found[1] == metric and labels.items() <= dict(
                        re.findall(r'(\w+)="([^"]*)"', found[2] or "")).items():
                    total += float(found[3])
            return total

    def tree(self, pop):
        """The processes of a place: (pid, command line)."""
        todo = [int((self.home / "pops" / pop / "lock").read_text())]
        while todo:
            pid = todo.pop()
            yield pid, command_line(pid)
            todo += children(pid)

    def replica(self, pop, name):
        """The process of the endpoint's replica there."""
        return until(f"{name}'s replica at {pop}", lambda: next(
            (row["pid"] for row in self.json("show", name)["replicas"] if row["pop"] == pop),
            None))


def body_of(values):
    return json.dumps({"inputs": [tensor("x", "FP32", [1, len(values)], values)]})


def post(connection, name, values=(1, 2), headers=None, body=None, **more):
    connection.request("POST", f"/v2/models/{name}/infer", body or body_of(list(values)),
                       headers or {}, **more)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def binary(values):
    """A request with its tensor, and the wish for such an answer: (body, headers)."""
    head = json.dumps({"inputs": [tensor("x", "FP32", [1, len(values)],
                                         binary_data_size=values.nbytes)],
                       "parameters": {"binary_data_output": True}}).encode()
    return head + values.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


@pytest.fixture(scope="module")
def box(homes, tmp_path_factory):
    with Box(homes(start=False).home, tmp_path_factory.mktemp("forward")).running() as found:
        found.put("far", "two")
        found.put("both", "two", "three")
        found.put("here", "one", "two")
        found.knows("one", "far")
        found.knows("one", "both")
        yield found


# --- what passes ---------------------------------------------------------------------------------

def test_one_that_is_not_placed_here_is_answered_there(box):
    status, headers, body = box.ask("one", "far", headers={
        "X-Request-Id": "mine-1", "traceparent": TRACE, "tracestate": "a=b"})
    assert status == 200 and json.loads(body)["outputs"][0]["data"] == [1, 2]
    assert headers["Perigee-Pop"] == "two" and headers["X-Request-Id"] == "mine-1"
    assert headers["Perigee-Revision"] == "1"
    timing = dict(re.findall(r"(\w+);dur=([\d.]+)", headers["Server-Timing"]))
    assert float(timing["hop"]) == 20 and float(timing["net"]) == 6 and "infer" in timing
    sent = box.recorded("one.two")
    assert f"traceparent: {TRACE}\r\ntracestate: a=b\r\n".encode() in sent
    assert b"Perigee-Hop: v1; from=one; to=two; client=FR; deadline=0; id=mine-1; mac=" in sent
    assert FRENCH.encode() not in sent  # its country is enough


def test_calls_about_a_model_go_where_it_is(box):
    with contextlib.closing(box.client("one", FRENCH)) as connection:
        for path in "", "/ready", "/config", "/stats", "/versions/1":
            connection.request("GET", f"/v2/models/far{path}")
            answer = connection.getresponse()
            assert answer.status == 200 and b"" != answer.read(), path
            assert answer.headers["Perigee-Pop"] == "two", path


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_tensors_pass_both_ways(box, framing):
    values = np.arange(10 * 2 ** 20 // 4, dtype=np.float32)
    whole, headers = binary(values)
    with contextlib.closing(box.client("one", FRENCH)) as connection:
        for _ in range(2):  # of the same connection
            body = whole if framing == "length" else (
                whole[at:at + 100_001] for at in range(0, len(whole), 100_001))
            status, got, answer = post(connection, "far", body=body, headers=dict(headers),
                                       encode_chunked=framing == "chunked")
            assert status == 200 and got["Perigee-Pop"] == "two"
            size = int(got["Inference-Header-Content-Length"])
            assert np.array_equal(np.frombuffer(answer[size:], np.float32), values)


def test_one_connection_carries_what_stays_and_what_goes(box):
    with contextlib.closing(box.client("one", FRENCH)) as connection:
        for name, pop in ("far", "two"), ("here", "one"), ("far", "two"), ("here", "one"):
            status, headers, _ = post(connection, name)
            assert (status, headers["Perigee-Pop"]) == (200, pop)


def test_a_body_too_large_is_refused_before_it_is_passed_on(box):
    with contextlib.closing(box.client("one", FRENCH)) as connection:
        connection.putrequest("POST", "/v2/models/far/infer")
        connection.putheader("Content-Length", str(2 ** 40))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_errors_of_the_other_one_come_back(box):
    status, headers, body = box.ask("one", "far", body='{"inputs": []}')
    assert status == 400 and headers["Perigee-Pop"] == "two"
    assert headers["Perigee-Error"] == "bad_input" and "error" in json.loads(body)


def test_a_client_that_goes_away_ends_it_there_too(box):
    pid = box.replica("two", "far")
    os.kill(pid, signal.SIGSTOP)
    try:
        before = box.counted("two", "perigee_requests_canceled_total", endpoint="far")
        connection = box.client("one", FRENCH)
        connection.request("POST", "/v2/models/far/infer", body_of([7, 7]), {"X-Canary": "gone"})
        until("it to pass", lambda: b"X-Canary: gone" in box.recorded("one.two"))
        connection.close()
        until("the other one to notice", lambda: box.counted(
            "two", "perigee_requests_canceled_total", endpoint="far") > before)
        assert box.counted("one", "perigee_forwards_total", pop="two", result="canceled") >= 1
    finally:
        os.kill(pid, signal.SIGCONT)
    box.knows("one", "far")


def test_a_deadline_goes_along(box):
    pid = box.replica("two", "far")
    os.kill(pid, signal.SIGSTOP)
    try:
        status, headers, _ = box.ask("one", "far", headers={"Perigee-Timeout": "300ms",
                                                            "X-Request-Id": "too-late"})
        assert status == 504 and headers["Perigee-Error"] == "deadline"
    finally:
        os.kill(pid, signal.SIGCONT)
    left = [int(found) for found in re.findall(rb"; deadline=(\d+);", box.recorded("one.two"))]
    assert 0 < max(left) <= 300
    assert b"Perigee-Timeout" not in box.recorded("one.two")
    assert re.search(r"request=too-late .* status=504 .* passed_to=two", box.tail(10_000))
    box.knows("one", "far")


def test_a_slow_link_is_slow(box):
    box.cli("fleet", "slow", "one", "two", "100ms")
    try:
        status, headers, _ = box.ask("one", "far")
        assert status == 200 and headers["Perigee-Pop"] == "two"
    finally:
        box.cli("fleet", "heal")


def test_pops_say_which_parameters_of_a_hop_they_know(box):
    until("one to ask two", lambda: re.search(
        rb"GET /\.perigee/mesh\?life=\d+&since=\d+&version=\d+&hop=1 HTTP/1.1\r\n"
        rb"(?:[^\r]+\r\n)*Perigee-Hop: v1; from=one; to=two; ", box.recorded("one.two")))


# --- what is forged ------------------------------------------------------------------------------

@pytest.mark.parametrize("headers", [
    ["v1; from=one; to=two; client=FR; deadline=0; id=a; mac=" + "0" * 64], ["v1"], [""],
    ["v1; from=one; to=two; client=FR; deadline=0; spent=0; id=a; mac=" + "0" * 64],
    ["v1; from=one; to=two; client=FR; deadline=0; id=a; mac=" + "0" * 64] * 2],
    ids=["forged", "cut", "empty", "odd-time", "twice"])
def test_a_hop_that_no_pop_signed_is_refused(box, headers):
    with contextlib.closing(box.client("two", FRENCH)) as connection:
        connection.putrequest("POST", "/v2/models/far/infer")
        for header in headers:
            connection.putheader("Perigee-Hop", header)
        connection.putheader("Content-Length", "2")
        connection.endheaders(b"{}")
        answer = connection.getresponse()
        assert answer.status == 400 and answer.headers["Connection"] == "close"
        assert "fleet" in json.loads(answer.read())["error"] or len(headers) == 2


def test_a_hop_seen_on_the_wire_says_nothing_of_another_request(box):
    box.ask("one", "far")
    hop = re.findall(rb"Perigee-Hop: ([^\r]*)", box.recorded("one.two"))[-1].decode()
    for name, more in ("both", {}), ("far", {"Perigee-Process-In": "JP"}):
        status, headers, _ = box.ask("two", name, headers={"Perigee-Hop": hop, **more})
        assert status == 400 and headers["Perigee-Error"] == "bad_input"
    status, _, _ = box.ask("three", "both", headers={"Perigee-Hop": hop})
    assert status == 400


# --- where it may go -----------------------------------------------------------------------------

def test_a_pop_outside_transit_refuses_and_sends_nothing(box):
    rules = {"rules": [{"clients": ["FR"], "process_in": ["JP"], "transit": ["JP", "FR"]},
                       {"clients": ["CH"], "process_in": ["JP"]}]}
    box.put("bound", "two", wait=False, residency=rules)
    box.knows("one", "bound")
    assert box.ask("one", "bound")[1]["Perigee-Pop"] == "two"
    with contextlib.closing(box.client("one", SWISS)) as connection:
        status, headers, body = post(connection, "bound", headers={"X-Canary": "swiss"})
        assert status == 451 and headers["Connection"] == "close"
        assert "permitted PoPs: two" in json.loads(body)["error"]
    # In place of 100 Continue as well.
    host, port = box.pops["one"]["gateway"][0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), DEADLINE, (SWISS, 0)) as client:
        client.sendall(b"POST /v2/models/bound/infer HTTP/1.1\r\nHost: localhost\r\n"
                       b"Content-Length: 5\r\nExpect: 100-continue\r\nX-Canary: swiss\r\n\r\n")
        assert readable(client, DEADLINE) and client.recv(12) == b"HTTP/1.1 451"
    pid = box.replica("two", "bound")
    os.kill(pid, signal.SIGSTOP)  # where it may pass and not be logged, no line is written of it
    status, _, _ = box.ask("one", "bound", headers={
        "X-Canary": "french", "X-Request-Id": "unlogged", "Perigee-Timeout": "300ms"})
    os.kill(pid, signal.SIGCONT)
    assert status == 504
    assert not re.search("request=unlogged .* passed_to=two", box.tail(10_000))
    assert b"X-Canary: french" in box.recorded("one.two")
    assert b"X-Canary: swiss" not in box.recorded()
    box.wait_event("residency_refused", endpoint="bound")


def test_a_request_narrows_where_it_goes(box):
    status, headers, _ = box.ask("one", "here", headers={"Perigee-Process-In": "JP"})
    assert status == 200 and headers["Perigee-Pop"] == "two"
    status, headers, body = box.ask("one", "here", headers={"Perigee-Process-In": "DE"})
    assert status == 451 and "permitted PoPs: three" in json.loads(body)["error"]


# --- when something fails ------------------------------------------------------------------------

def template(box, pop, *endpoints):
    """The process that replicas are cloned from: their like, and none of them."""
    return next(pid for pid, line in box.tree(pop) if line.endswith("perigee-worker-onnx")
                and pid not in [box.replica(pop, name) for name in endpoints])


def why(box, name, pop):
    """What DNS says of that place to who asks from France."""
    question = dns.message.make_query(f"_why.{name}.perigee.test", "TXT")
    host, port = box.address("dns")
    answer = dns.query.tcp(question, host, port=port, source=FRENCH, timeout=DEADLINE)
    return next(line for line in (str(row).strip('"') for rrset in answer.answer for row in rrset)
                if line.startswith(pop + ": "))


def hidden_ms(box, name, pop):
    """How long a start takes there that another place hides; 0: none does."""
    found = re.search(r" start [\d.]+ \(of ([\d.]+): hidden\)", why(box, name, pop))
    return float(found[1]) if found else 0


def test_a_cold_pop_is_hidden_by_a_warm_one(box):
    """Though starts have taken a few milliseconds there, and a round trip may take as many: whoever
    waits because of that does so for a second, and nobody does after that. However long it takes,
    DNS names it to those who are near: who else would have it start?"""
    stopped = template(box, "one", "here")
    os.kill(stopped, signal.SIGSTOP)  # so that the next replica does not come before we say so
    try:
        os.kill(box.replica("one", "here"), signal.SIGKILL)
        until("the warm one", lambda: box.ask("one", "here", headers={
            "Perigee-Timeout": "1s"})[1]["Perigee-Pop"] == "two")
        for _ in range(5):
            status, headers, _ = box.ask("one", "here")
            assert (status, headers["Perigee-Pop"]) == (200, "two")
        assert box.counted("one", "perigee_requests_forwarded_total", endpoint="here",
                           reason="cold") >= 5
        until("DNS to hear of it", lambda: hidden_ms(box, "here", "one") > 1000)
        assert named(box, FRENCH, "here") == [box.face("one")]
    finally:
        os.kill(stopped, signal.SIGCONT)
    until("its own again", lambda: box.ask("one", "here")[1]["Perigee-Pop"] == "one")
    assert {box.ask("one", "here")[1]["Perigee-Pop"] for _ in range(5)} == {"one"}


def start_ms(box, name, pop):
    """As control has heard, until a replica is ready there; None: it has not."""
    row = next(row for row in box.json("explain", name, "--client", "Lyon")["pops"]
               if row["pop"] == pop)
    return row["cold_ms"] if row["load_reported"] else None


def test_clients_wake_the_pop_near_them(box):
    """At zero everywhere, then the far one alone is asked for. It keeps nobody who is near another;
    how long that takes to start its agent has seen: long, since a start that takes no longer than
    to hide it does is not hidden."""
    stopped = template(box, "one", "here")
    os.kill(stopped, signal.SIGSTOP)
    try:
        box.put("sleepy", "one", "two", wait=False, scale={"min": 0, "idle": "3s"})
        box.wait_event("scaled", endpoint="sleepy")  # the far one, ready and idle for 3 s by then
    finally:
        os.kill(stopped, signal.SIGCONT)
    until("both to sleep", lambda: all(start_ms(box, "sleepy", pop) for pop in ("one", "two")))
    assert start_ms(box, "sleepy", "one") > 50
    assert 3000 not in [start_ms(box, "sleepy", pop) for pop in ("one", "two")]  # nobody knows

    def far_is_warm():
        assert box.ask("two", "sleepy", SWISS)[0] == 200
        return " start 0.0;" in why(box, "sleepy", "two") and hidden_ms(box, "sleepy", "one")
    until("the far one to be warm", far_is_warm)
    assert named(box, FRENCH, "sleepy") == [box.face("one")]
    until("the near one", lambda: box.ask("one", "sleepy")[1]["Perigee-Pop"] == "one")
    until("DNS to hear of it", lambda: box.ask("one", "sleepy")[0] == 200 and
          " start 0.0;" in why(box, "sleepy", "one"))
    box.cli("delete", "sleepy", "--yes")


def test_a_pop_that_dies_with_a_request_is_replaced_by_another(box):
    """`both` is at two and three, of which three is nearer to one."""
    until("three", lambda: box.ask("one", "both")[1]["Perigee-Pop"] == "three")
    os.kill(box.replica("three", "both"), signal.SIGSTOP)
    with contextlib.closing(box.client("one", FRENCH)) as connection:
        connection.request("POST", "/v2/models/both/infer", body_of([3, 4]), {"X-Canary": "dies"})
        until("it to pass", lambda: b"X-Canary: dies" in box.recorded("one.three"))
        box.cli("fleet", "kill", "three")
        answer = connection.getresponse()
        assert json.loads(answer.read())["outputs"][0]["data"] == [3, 4]
        assert (answer.status, answer.headers["Perigee-Pop"]) == (200, "two")
    assert box.counted("one", "perigee_forward_retries_total", result="elsewhere") >= 1
    for _ in range(10):  # nobody meets it any more
        assert box.ask("one", "both")[1]["Perigee-Pop"] == "two"
    box.cli("fleet", "heal", "three")
    box.wait_state("three", "up")


def test_a_cut_link_is_given_up_by_those_that_wait_on_it(box):
    """Nothing is told by such a link: what the PoPs measure of each other is."""
    until("three", lambda: box.ask("one", "both")[1]["Perigee-Pop"] == "three")
    box.cli("fleet", "cut", "one", "three")
    try:
        status, headers, _ = box.ask("one", "both")
        assert (status, headers["Perigee-Pop"]) == (200, "two")
        assert box.ask("one", "both")[1]["Perigee-Pop"] == "two"
    finally:
        box.cli("fleet", "heal")


def test_a_full_queue_overflows_to_another_pop(box):
    box.put("narrow", "one", "two", queue={"depth": 1}, scale={"concurrency": 1})
    pid = box.replica("one", "narrow")
    os.kill(pid, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(contextlib.closing(box.client("one", FRENCH)))
                   for _ in range(2)]
        for connection in waiting:  # one runs, one waits
            connection.request("POST", "/v2/models/narrow/infer", body_of([1, 2]))
        until("the third to go on", lambda: box.ask(
            "one", "narrow", headers={"Perigee-Timeout": "5s"})[1]["Perigee-Pop"] == "two")
        assert box.counted("one", "perigee_requests_forwarded_total", endpoint="narrow",
                           reason="overloaded") >= 1
        os.kill(pid, signal.SIGCONT)
        for connection in waiting:
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.headers["Perigee-Pop"]) == (200, "one")


def test_a_draining_pop_passes_on(box):
    box.put("moves", "one", "two")
    box.cli("pops", "drain", "one")
    try:
        until("two", lambda: box.ask("one", "moves")[1]["Perigee-Pop"] == "two")
    finally:
        box.cli("pops", "drain", "one", "--undo")
    until("one", lambda: box.ask("one", "moves")[1]["Perigee-Pop"] == "one")


def test_no_request_is_lost_when_a_pop_dies_under_load(box):
    """Clients of `one`, which passes all on to the nearest of two: they see nothing but answers."""
    until("three", lambda: box.ask("one", "both")[1]["Perigee-Pop"] == "three")
    seen, dead = [], threading.Event()

    def client():
        with contextlib.closing(box.client("one", FRENCH)) as connection:
            left = 40
            while left:  # so many once it is dead
                left -= dead.is_set()
                status, headers, _ = post(connection, "both")
                seen.append((status, headers["Perigee-Pop"]))

    clients = [threading.Thread(target=client) for _ in range(12)]
    for one in clients:
        one.start()
    until("some answers", lambda: len(seen) > 200)
    box.cli("fleet", "kill", "three")
    dead.set()
    for one in clients:
        one.join(DEADLINE)
    box.cli("fleet", "heal", "three")
    box.wait_state("three", "up")
    assert {status for status, _ in seen} == {200}
    assert {pop for _, pop in seen} == {"two", "three"}


def test_a_gateway_without_keys_turns_nobody_away(box):
    """Its agent is late in telling them: until then it could not tell who passes something on."""
    def process(role):
        return next((pid for pid, line in box.tree("two") if f"role {role}" in line), None)

    def backlog():
        """Connections that the gateway has not accepted."""
        rows = [row.split() for row in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(int(row[4].partition(":")[2], 16) for row in rows
                   if row[3] == "0A" and row[1].startswith("0202007F:"))

    def listens(pid):
        """It has what the supervisor gives it, and does nothing more for now."""
        process = pathlib.Path(f"/proc/{pid}")
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return state == "S" and "perigee-mesh" in (process / "maps").read_text()

    agent, gateway = process("pop"), process("gateway")
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(box.ask("one", "far")[0]))
               for _ in range(8)]
    os.kill(agent, signal.SIGSTOP)
    try:
        os.kill(gateway, signal.SIGKILL)
        until("the next one", lambda: process("gateway") not in (gateway, None))
        until("it to wait", lambda: listens(process("gateway")))
        for one in clients:
            one.start()
        until("them to be there", lambda: answers or backlog() > 2)
    finally:
        os.kill(agent, signal.SIGCONT)
    for one in clients:
        one.join(DEADLINE)
    assert answers == [200] * len(clients)


@pytest.mark.parametrize("how", ["killed", "upgraded"])
def test_a_gateway_that_is_replaced_loses_nothing_of_what_others_pass_on(box, how):
    """Its sockets stay; what was in it is sent again over new connections."""
    seen, killed = [], threading.Event()

    def gateways():
        return [pid for pid, line in box.tree("two") if "role gateway" in line]

    def client():
        with contextlib.closing(box.client("one", FRENCH)) as connection:
            left = 40
            while left:
                left -= killed.is_set()
                seen.append(post(connection, "far")[0])

    clients = [threading.Thread(target=client) for _ in range(8)]
    for one in clients:
        one.start()
    until("some answers", lambda: len(seen) > 100)
    before = gateways()
    if how == "killed":
        os.kill(*before, signal.SIGKILL)
    else:
        os.kill(next(pid for pid, _ in box.tree("two")), signal.SIGUSR2)
    until("the next one", lambda: len(gateways()) == 1 and gateways() != before)
    killed.set()
    for one in clients:
        one.join(DEADLINE)
    assert set(seen) == {200}
