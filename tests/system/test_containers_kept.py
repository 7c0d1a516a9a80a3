# SPDX-License-Identifier: Apache-2.0
"""Containers whose Perigee changes around them: who enters their networks is killed, a new program
takes over. They stay, and no request is lost by it."""
import os
import signal
import threading

import pytest

from deadline import children, command_line, until, wait_exit
from engines import server_image
from fake_control import event
from test_containers import engine, place, server, warm  # fixtures  # noqa: F401


def netns_pids(pop):
    return [pid for pid in children(pop.process.pid) if command_line(pid).endswith("role netns")]


@pytest.fixture
def one(place, server):
    place.tell(server_image(server), spec=warm())
    place.start()
    until("an answer", place.answers)
    return place


def test_nobody_enters_networks_before_there_is_a_container(place, server):
    place.control.first = [event("synced", 100, {"uids": []})]
    place.start()
    assert netns_pids(place.pop) == []
    place.tell(server_image(server), spec=warm())
    until("an answer", place.answers)
    assert len(netns_pids(place.pop)) == 1


def test_who_enters_networks_may_be_killed(one):
    """The server closes each connection, so that each request needs another: those of the time
    without a helper wait for the next one."""
    before = [row["Id"] for row in one.ours()]
    for _ in range(2):
        [victim] = netns_pids(one.pop)
        os.kill(victim, signal.SIGKILL)
        wait_exit(victim)
        assert [one.get()[:2] for _ in range(4)] == [(200, b"hello\n")] * 4
        assert victim not in netns_pids(one.pop) and len(netns_pids(one.pop)) == 1
    assert [row["Id"] for row in one.ours()] == before
    assert not one.told("replica_exited")


def test_a_gateway_that_comes_again_finds_its_way_in(one):
    before = [row["Id"] for row in one.ours()]
    victim = one.pop.role_pid("gateway")
    os.kill(victim, signal.SIGKILL)
    wait_exit(victim)
    assert one.get()[:2] == (200, b"hello\n")
    assert [row["Id"] for row in one.ours()] == before


def test_an_upgrade_keeps_containers_and_loses_no_request(one):
    before, [helper] = [row["Id"] for row in one.ours()], netns_pids(one.pop)
    over, answers = threading.Event(), []

    def ask():
        while not over.is_set():
            answers.append(one.get()[0])
    asker = threading.Thread(target=ask)
    asker.start()
    try:
        assert one.pop.cli("upgrade").text.endswith("serves now.\n")
    finally:
        over.set()
        asker.join()
    assert answers and set(answers) == {200}
    assert one.get()[:2] == (200, b"hello\n")
    until("another helper", lambda: netns_pids(one.pop) not in ([], [helper]))
    assert [row["Id"] for row in one.ours()] == before
    assert not one.told("replica_exited")
    assert "nobody asked for" not in one.pop.log.read_text()
