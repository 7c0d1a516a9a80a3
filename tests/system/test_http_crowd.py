# SPDX-License-Identifier: Apache-2.0
"""What many connections cost: idle ones, answers that nobody reads, slow ones of each kind."""
import contextlib
import resource

import pytest

import crowd
from crowd import LIVE, MIB, PLAIN, Slow, connections, grow, memory, private, whole
from deadline import DEADLINE, SANITIZED, readable
from oip import Wire, apply

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory says nothing of ours")


@pytest.fixture(autouse=True)
def descriptors():
    """As many as we may have."""
    count, before = crowd.descriptors()
    yield count
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def crowded(homes):
    perigee = homes()
    apply(perigee, *crowd.ENDPOINTS)
    return perigee


# --- idle ----------------------------------------------------------------------------------------


def test_ten_thousand_idle_connections_take_less_than_100_mib(crowded, descriptors):
    count = 10_000
    if descriptors < count + 200:
        pytest.skip(f"needs {count} descriptors, and may have {descriptors}")
    for _ in range(3):
        assert crowded.request("GET", "/v2/health/live")[0] == 200
    before = whole(crowded)
    with connections(crowded, count) as sockets:
        for one in sockets:
            one.sendall(LIVE + b"\r\n")
        for one in sockets:
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")
        grown = whole(crowded) - before
        print(f"{count} idle connections: {grown / MIB:.1f} MiB, {grown // count} bytes each")
        assert grown < 100 * MIB
        crowded.wait_metric(lambda open: open >= count, "perigee_connections")
        for one in sockets[::500]:
            one.sendall(LIVE + b"\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")


# --- answers nobody reads ------------------------------------------------------------------------


def test_an_unread_answer_of_64_mib_takes_less_than_1_mib(crowded):
    elements = 64 * MIB // 4
    with connections(crowded, 1) as (one,):  # what the first of them makes
        one.sendall(grow(elements))
        left = 64 * MIB
        while left > 0:
            read = len(one.recv(MIB))
            assert read
            left -= read
    before = private(crowded)
    with connections(crowded, 1, 4096) as (one,):
        one.sendall(grow(elements))
        assert readable(one, DEADLINE)
        grown = private(crowded) - before
        print(f"an unread answer of 64 MiB: {grown / 1024:.0f} KiB")
        assert grown < MIB


def test_a_thousand_unread_answers_take_less_than_100_mib(crowded):
    """Some are being written, the others wait for a slot of the replica."""
    before = private(crowded)
    with connections(crowded, 1000, 4096) as sockets:
        for one in sockets:
            one.sendall(grow(64 * MIB // 4))
        crowded.wait_metric(lambda count: count + sum(readable(one, 0) for one in sockets) >= 1000,
                            "perigee_queue_requests", endpoint="grow")
        grown = private(crowded) - before
        print(f"1000 unread answers of 64 MiB: {grown / MIB:.1f} MiB")
        assert grown < 100 * MIB
    crowded.wait_metric(lambda count: count == 0, "perigee_queue_requests", endpoint="grow")


# --- slow ----------------------------------------------------------------------------------------


def test_a_thousand_slow_connections_hold_nobody_up(crowded):
    """A head, a body and an answer that take for ever, as slowhttptest has them; of another client
    of another endpoint all requests succeed meanwhile."""
    with contextlib.ExitStack() as stack, Wire(crowded) as wire:
        slow = Slow(stack, crowded, 1000)
        for turn in range(10):
            slow.trickle(turn)
            for _ in range(30):
                answer = wire.send(PLAIN).answer()
                assert answer.status == 200 and answer.json()["outputs"][0]["data"] == [1, 2]


def test_slow_readers_give_the_replica_up_for_those_who_wait(crowded):
    """They hold all of its slots; its timeout is ten minutes, and nothing else ends them."""
    crowded.wait_metric(lambda count: count == 0, "perigee_queue_requests", endpoint="grow")
    with connections(crowded, 16, 4096) as slow, connections(crowded, 1) as (other,):
        for one in slow:
            one.sendall(grow(4 * MIB))
        crowded.wait_metric(lambda count: count > 0, "perigee_queue_requests", endpoint="grow")
        other.sendall(grow(2))
        assert other.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_short_runs_leave_large_answers_no_more_slots(crowded):
    """While runs are short a replica has more slots, and an answer that is not read keeps its own:
    small ones between large ones must not let those take more memory than its flavor says."""
    apply(crowded, {"name": "small", "model": "grow", "flavor": {"memory": "128MiB"},
                    "timeout": "600s", "queue": {"depth": 1000, "timeout": "600s"}})
    shown = crowded.get_json("/api/v1/endpoints/small/replicas", "control")["items"][0]
    tiny, large = grow(2, "small"), grow(31 * MIB // 8, "small")  # 15.5 MiB: a slot has 16
    with connections(crowded, 32, 4096) as slow, connections(crowded, 1) as (other,):
        for one in slow:
            for _ in range(100):
                other.sendall(tiny)
                if not readable(other, 1):  # no slot is left for it: nor for a large one
                    break
                assert other.recv(4096).startswith(b"HTTP/1.1 200 ")
            else:
                one.sendall(large)
                continue
            break
        else:
            pytest.fail("as many unread answers as there were clients were made")
        held = memory(shown["pid"], "Pss_Shmem")
        print(f"unread answers of 15.5 MiB: {held / MIB:.0f} MiB of the replica's")
        assert held < 150 * MIB
    again = crowded.get_json("/api/v1/endpoints/small/replicas", "control")["items"][0]
    assert (again["pid"], again["state"]) == (shown["pid"], shown["state"])
