# SPDX-License-Identifier: Apache-2.0
"""Who waits for how long, and what ends a wait: full queues, time-outs, hangs, a stop."""
import concurrent.futures
import http.client
import json
import os
import signal
import time

import pytest

from deadline import DEADLINE, SANITIZED, wait_exit
from oip import Wire, apply, ask, infer, tensor

pytestmark = pytest.mark.usefixtures("endpoints")
FOR_EVER = 1 << 50


@pytest.fixture(scope="module")
def endpoints(perigee):
    """One request at a time each; they differ in how long one may wait and run."""
    one = {"model": "slow", "scale": {"concurrency": 1}}
    apply(perigee,
          {**one, "name": "shallow", "queue": {"depth": 2, "timeout": "30s"}, "timeout": "60s"},
          {**one, "name": "impatient", "queue": {"depth": 16, "timeout": "150ms"},
           "timeout": "60s"},
          {**one, "name": "strict", "timeout": "1s"},
          {**one, "name": "closed", "timeout": "60s"},
          {**one, "name": "stormy", "queue": {"depth": 4, "timeout": "30s"}, "timeout": "60s"},
          {"name": "roomy", "model": "slow", "scale": {"concurrency": 4}, "timeout": "60s"})


@pytest.fixture(scope="module")
def rounds(perigee):
    """rounds(seconds): how many of them take about so long on this machine, now."""
    found = []
    for _ in range(3):
        headers = infer(perigee, "shallow", work(5000))[1]
        timing = dict(part.strip().split(";dur=") for part in headers["Server-Timing"].split(","))
        found.append(float(timing["infer"]))
    per_round = sorted(found)[1] / 1000 / 5000
    return lambda seconds: int(seconds / per_round)


def work(count):
    return [tensor("rounds", "INT64", [1], [count])]


def at_once(perigee, endpoint, count, inputs, headers=None):
    """So many requests side by side: [(status, headers, answer, seconds)]."""
    def one(_):
        began = time.monotonic()
        return (*infer(perigee, endpoint, inputs, headers), time.monotonic() - began)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def replica(perigee, endpoint):
    found = [row for row in perigee.json("show", endpoint)["replicas"] if row["state"] == "ready"]
    return found[0] if found else None


# --- queues --------------------------------------------------------------------------------------


def test_a_full_queue_is_503_with_retry_after(perigee, rounds):
    """Of 8 at once one runs and two wait; the others are told at once."""
    answers = at_once(perigee, "shallow", 8, work(rounds(0.7)))
    done = [row for row in answers if row[0] == 200]
    refused = [row for row in answers if row[0] == 503]
    assert (len(done), len(refused)) == (3, 5), [row[0] for row in answers]
    for _, headers, answer, _ in refused:
        assert headers["Perigee-Error"] == "overloaded" and int(headers["Retry-After"]) >= 1
        assert "queue" in answer["error"]
        assert headers["Server-Timing"] is None  # it has not waited
    assert all("queue;dur=" in row[1]["Server-Timing"] for row in done)
    assert ask(perigee, "shallow", *work(1))["y"]["data"] == [1]


def test_waiting_past_queue_timeout_is_504(perigee, rounds):
    answers = at_once(perigee, "impatient", 4, work(rounds(0.8)))
    assert sorted(row[0] for row in answers) == [200, 504, 504, 504]
    for status, headers, answer, seconds in answers:
        if status == 504:
            assert headers["Perigee-Error"] == "deadline" and "queue.timeout" in answer["error"]
            assert 0.15 <= seconds


def test_a_clients_deadline_bounds_the_wait_and_the_run(perigee, rounds):
    """What runs is cut at its deadline; what waits is told then, or at once if it is hopeless."""
    answers = at_once(perigee, "shallow", 3, work(rounds(2)), {"Perigee-Timeout": "200ms"})
    assert {row[0] for row in answers} <= {503, 504} and 504 in {row[0] for row in answers}
    for status, headers, answer, seconds in answers:
        assert headers["Perigee-Error"] == {503: "overloaded", 504: "deadline"}[status]
        assert "deadline" in answer["error"]
        assert status == 503 or 0.2 <= seconds
    status, _, answer = infer(perigee, "shallow", work(rounds(2)),
                              parameters={"timeout": 100_000})
    assert status in (503, 504) and "deadline" in answer["error"]
    # Late answers reach nobody; the replica is not killed for a client's own deadline.
    before = replica(perigee, "shallow")["pid"]
    for count in (3, 5, 7):
        assert ask(perigee, "shallow", *work(count))["y"]["data"] == [count]
    assert replica(perigee, "shallow")["pid"] == before


NO_TIMES = {"empty": "", "no-unit": "5", "negative": "-1s", "words": "soon", "zero": "0s",
            "decimals": "1.5s", "too-big": "99999999999999999999s"}


@pytest.mark.parametrize("header", ["Perigee-Timeout", "grpc-timeout"])
@pytest.mark.parametrize("case", NO_TIMES)
def test_a_deadline_that_is_no_time_is_refused(perigee, case, header):
    value = NO_TIMES[case].upper() if header == "grpc-timeout" else NO_TIMES[case]
    status, headers, answer = infer(perigee, "shallow", work(1), {header: value})
    assert (status, headers["Perigee-Error"]) == (400, "bad_input") and header in answer["error"]
    if case == "no-unit":  # the forms that are right are shown
        assert ("us, ms, s, m, h, d" if header == "Perigee-Timeout" else
                "H, M, S, m, u, n") in answer["error"]


@pytest.mark.parametrize("value", ["high", "", "1", "Batch", "interactive, batch"],
                         ids=["unknown", "empty", "number", "capital", "both"])
def test_a_class_that_is_none_is_refused(perigee, value):
    status, _, answer = infer(perigee, "shallow", work(1), {"Perigee-Priority": value})
    assert status == 400, answer
    for part in ("Perigee-Priority", "interactive", "batch"):
        assert part in answer["error"]


def test_terms_in_parameters_that_are_no_numbers_are_refused(perigee):
    for parameters in ({"priority": "batch"}, {"priority": -1}, {"priority": 1.5},
                       {"priority": None}, {"priority": 1 << 64}, {"timeout": "5s"},
                       {"timeout": -5}, {"timeout": [5]}, {"timeout": 1 << 64}):
        status, headers, answer = infer(perigee, "shallow", work(1), parameters=parameters)
        assert (status, headers["Perigee-Error"]) == (400, "bad_input"), (parameters, answer)
        assert "parameters" in answer["error"]
    for parameters in ({"priority": 0}, {"priority": 1}, {"priority": (1 << 64) - 1},
                       {"timeout": 0}, {"timeout": (1 << 64) - 1}):
        assert ask(perigee, "shallow", *work(2), parameters=parameters)["y"]["data"] == [2]


def test_terms_that_come_twice_are_refused(perigee):
    body = json.dumps({"inputs": work(1)})
    for name, value in (("Perigee-Timeout", "5s"), ("Perigee-Priority", "batch"),
                        ("grpc-timeout", "5S")):
        with Wire(perigee) as wire:
            wire.send(f"POST /v2/models/shallow/infer HTTP/1.1\r\nHost: localhost\r\n"
                      f"{name}: {value}\r\n{name.upper()}: {value}\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n", body)
            answer = wire.answer()
            assert answer.status == 400 and b"twice" in answer.body, answer


def test_a_client_that_goes_away_leaves_the_queue(perigee, rounds):
    body = json.dumps({"inputs": work(rounds(0.6))})
    head = (f"POST /v2/models/shallow/infer HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    for _ in range(6):  # without leaving, the second of these would fill the queue
        with Wire(perigee) as wire:
            wire.send(head, body)
    answer = infer(perigee, "shallow", work(2))
    while answer[0] == 503:  # until the gateway has seen them go
        answer = infer(perigee, "shallow", work(2))
    assert answer[0] == 200


def test_what_nobody_waits_for_is_not_run(perigee, rounds):
    """Three that lie in the replica behind one that runs, whose clients go: it passes them over."""
    body = json.dumps({"inputs": work(FOR_EVER)})  # run, they would take all that is left
    head = (f"POST /v2/models/roomy/infer HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    before = {name: perigee.metric(f"perigee_requests_{name}_total")
              for name in ("skipped", "canceled")}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(infer, perigee, "roomy", work(rounds(2)))
        wait_running(replica(perigee, "roomy")["pid"])
        for _ in range(3):
            with Wire(perigee) as wire:
                wire.send(head, body)
        perigee.wait_metric(lambda value: value == before["canceled"] + 3,
                            "perigee_requests_canceled_total")
        assert asked.result()[0] == 200
        assert ask(perigee, "roomy", *work(3))["y"]["data"] == [3]
    perigee.wait_metric(lambda value: value == before["skipped"] + 3,
                        "perigee_requests_skipped_total")


# --- far more than there is room for -------------------------------------------------------------


def storm(perigee, clients, each, rounds):
    """So many clients that ask again at once, whatever they are told: [(asked for, status, headers,
    answer)]. Every other one is batch."""
    def client(number):
        connection = http.client.HTTPConnection(*perigee.address(), timeout=DEADLINE)
        headers = {"Perigee-Priority": "batch"} if number % 2 else {}
        found = []
        for i in range(each):
            count = rounds + number * each + i
            connection.request("POST", "/v2/models/stormy/infer",
                               json.dumps({"inputs": work(count)}), headers)
            got = connection.getresponse()
            found.append((count, got.status, got.headers, json.loads(got.read())))
        connection.close()
        return found

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return [row for rows in pool.map(client, range(clients)) for row in rows]


def gateway_bytes(perigee):
    return perigee.metric("perigee_process_resident_bytes", process="gateway")


def test_ten_times_too_many_are_answered_right_or_refused(perigee, rounds):
    """Of 64 clients five may run or wait: who is not answered rightly is told to come again, nobody
    else's endpoint notices, and nothing is held afterwards."""
    clients, each = 64, 12
    sizes = []
    for _ in range(3):
        before = {reason: perigee.metric("perigee_requests_overloaded_total", endpoint="stormy",
                                         reason=reason) for reason in ("queue", "displaced")}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            storming = pool.submit(storm, perigee, clients, each, rounds(0.01))
            calm = 0
            while not storming.done() or calm < 20:
                assert ask(perigee, "strict", *work(2 + calm))["y"]["data"] == [2 + calm]
                calm += 1
            answers = storming.result()
        assert len(answers) == clients * each
        refused = [row for row in answers if row[1] == 503]
        for count, status, headers, answer in answers:
            if status == 200:
                assert answer["outputs"][0]["data"] == [count]
            else:
                assert (status, headers["Perigee-Error"]) == (503, "overloaded"), answer
                assert 1 <= int(headers["Retry-After"]) <= 30 and "queue" in answer["error"]
        assert len(answers) - len(refused) >= 5 and refused
        for name, labels in (("perigee_queue_requests", {}), ("perigee_running_requests", {})):
            perigee.wait_metric(lambda value: value == 0, name, endpoint="stormy", **labels)
        perigee.wait_metric(lambda value: value == 0, "perigee_request_memory_bytes")
        now = {reason: perigee.metric("perigee_requests_overloaded_total", endpoint="stormy",
                                      reason=reason) - before[reason] for reason in before}
        assert sum(now.values()) == len(refused) and now["displaced"] > 0, now
        sizes.append(gateway_bytes(perigee))
    if not SANITIZED:  # which keeps what was freed
        assert sizes[2] <= sizes[0] * 1.1, sizes  # what a storm needs it has after the first


# --- a replica that hangs, or is killed ----------------------------------------------------------


def test_a_hang_is_504_and_the_replica_is_killed_and_replaced(perigee):
    victim = replica(perigee, "strict")
    began = time.monotonic()
    with perigee.events(new=True) as events:
        status, headers, answer = infer(perigee, "strict", work(FOR_EVER))
        took = time.monotonic() - began
        assert (status, headers["Perigee-Error"]) == (504, "deadline")
        assert "timeout" in answer["error"] and 1.0 <= took
        wait_exit(victim["pid"], "the end of the replica that hangs")
        assert 1.9 <= time.monotonic() - began
        events.wait("replica_ready", endpoint="strict")
    assert ask(perigee, "strict", *work(3))["y"]["data"] == [3]
    assert replica(perigee, "strict")["pid"] != victim["pid"]
    death = perigee.json("show", "strict")["deaths"][-1]
    assert "timeout" in death["reason"] or "SIGKILL" in death["reason"], death


def test_a_request_in_a_replica_that_dies_is_answered_by_the_next(perigee, rounds):
    """Killed while it runs: the inputs are unchanged, so it goes once to another replica."""
    victim = replica(perigee, "closed")["pid"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(infer, perigee, "closed", work(rounds(0.8)))
        wait_running(victim)
        os.kill(victim, signal.SIGKILL)
        status, _, answer = asked.result()
    assert status == 200, answer
    assert answer["outputs"][0]["data"][0] > 1


def test_a_request_that_kills_two_replicas_is_502(perigee):
    """It is not tried for ever: the second death is told."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool, perigee.events(new=True) as events:
        first = replica(perigee, "closed")["pid"]
        asked = pool.submit(infer, perigee, "closed", work(FOR_EVER))
        wait_running(first)
        os.kill(first, signal.SIGKILL)
        event = events.wait("replica_ready", endpoint="closed")
        second = replica(perigee, "closed")["pid"]
        assert second != first, event
        wait_running(second)
        os.kill(second, signal.SIGKILL)
        status, headers, answer = asked.result()
    assert (status, headers["Perigee-Error"]) == (502, "replica_died"), answer
    perigee.cli("wait", "closed")


def wait_running(pid):
    """Until the process has used 50 ms of CPU more: it works on a request."""
    def used():
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    began, deadline = used(), time.monotonic() + 30
    while used() < began + 5:
        assert time.monotonic() < deadline, f"{pid} does not run"
        os.sched_yield()


# --- stopped -------------------------------------------------------------------------------------


def test_a_stopped_endpoint_is_503_without_retry_after(perigee):
    perigee.cli("stop", "closed")  # says that it shall be so; control says when it is
    deadline = time.monotonic() + DEADLINE
    while perigee.get_json("/api/v1/endpoints/closed", "control")["serving"] is not None:
        assert time.monotonic() < deadline, "it is served for ever"
    status, headers, answer = infer(perigee, "closed", work(1))
    assert (status, headers["Perigee-Error"]) == (503, "stopped")
    assert headers["Retry-After"] is None and "closed" in answer["error"]
    perigee.cli("start", "closed")
    assert ask(perigee, "closed", *work(1))["y"]["data"] == [1]


def test_a_wait_ends_when_its_endpoint_is_deleted(perigee, rounds):
    apply(perigee, {"name": "passing", "model": "slow", "scale": {"concurrency": 1},
                    "timeout": "60s"})
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(infer, perigee, "passing", work(rounds(2))) for _ in range(3)]
        wait_running(replica(perigee, "passing")["pid"])
        perigee.cli("delete", "passing", "--yes")
        answers = [one.result() for one in asked]
    # What runs is finished; what waits is told.
    assert sorted(status for status, _, _ in answers) == [200, 404, 404], answers
    assert infer(perigee, "passing", work(1))[0] == 404
