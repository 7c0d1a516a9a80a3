# SPDX-License-Identifier: Apache-2.0
"""Containers whose Perigee changes around them: who enters their networks is killed, a new program
takes over. They stay, and no request is lost by it, whether or not the engine says anything."""
import concurrent.futures
import contextlib
import http.client
import os
import signal
import threading

import pytest

from deadline import DEADLINE, children, command_line, until, wait_exit
from engine_between import LATER
from engines import server_image
from fake_control import event
from test_containers import engine, place, server, warm  # fixtures  # noqa: F401
from test_containers_engine import answer, between  # fixtures  # noqa: F401


def netns_pids(pop):
    return [pid for pid in children(pop.process.pid) if command_line(pid).endswith("role netns")]


@pytest.fixture
def one(place, server):
    place.tell(server_image(server), spec=warm())
    place.start()
    until("an answer", place.answers)
    return place


@pytest.fixture
def silent(between, place, server):
    """One that serves, of an engine that answers nobody new from here on."""
    place.tell(server_image(server), spec=warm())
    place.start(engine=between.path)
    until("an answer", place.answers)
    until("its report", lambda: place.replicas(state="ready"))
    before = [row["Id"] for row in place.ours()]
    noted = place.pop.home / "pop" / "containers"
    until("it to be noted", lambda: before[0] in noted.read_text())
    between.instead("/version", LATER)
    place.before, place.between, place.noted = before, between, noted
    return place


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        wait_exit(pid)


@contextlib.contextmanager
def asked(place):
    """Requests, one after the other, each over connections of its own: their statuses."""
    over, answers = threading.Event(), []

    def ask():
        while not over.is_set():
            answers.append(place.get()[0])
    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield answers
    finally:
        over.set()
        asker.join()


def speaks(place):
    """It does now, and the container is the same, taken for what it is."""
    place.between.through.set()
    until("its log to be followed again", lambda: place.between.asked("/logs?")[1:])
    assert place.answers()
    assert [row["Id"] for row in place.ours()] == place.before
    assert not place.told("replica_exited")


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
    with asked(one) as answers:
        assert one.pop.cli("upgrade").text.endswith("serves now.\n")
    assert answers and set(answers) == {200}
    assert one.get()[:2] == (200, b"hello\n")
    until("another helper", lambda: netns_pids(one.pop) not in ([], [helper]))
    assert [row["Id"] for row in one.ours()] == before
    assert not one.told("replica_exited")
    assert "nobody asked for" not in one.pop.log.read_text()


def test_an_upgrade_needs_no_word_of_the_engine(silent):
    with asked(silent) as answers:
        assert silent.pop.cli("upgrade").text.endswith("serves now.\n")
        silent.control.reports.clear()
        until("the next agent's word", lambda: silent.replicas(state="ready"))
        until("some more answers", lambda seen=len(answers): len(answers) > seen + 3)
    assert set(answers) == {200}
    speaks(silent)


def test_agent_and_helper_that_are_killed_need_no_word_of_the_engine(silent):
    silent.control.reports.clear()
    with asked(silent) as answers:
        kill([silent.pop.role_pid("pop"), *netns_pids(silent.pop)])
        until("the next agent's word", lambda: silent.replicas(state="ready"))
        until("some more answers", lambda seen=len(answers): len(answers) > seen + 3)
    assert set(answers) == {200}
    speaks(silent)


def test_one_that_is_away_is_not_needed_either(silent, scratch):
    """There is not even a socket."""
    socket = silent.between.path
    socket.rename(scratch / "aside")
    silent.between.cut()
    until("that it is seen", lambda: "the container engine is away" in silent.pop.log.read_text())
    silent.control.reports.clear()
    kill([silent.pop.role_pid("pop"), *netns_pids(silent.pop)])
    until("the next agent's word", lambda: silent.replicas(state="ready"))
    assert [silent.get()[0] for _ in range(4)] == [200] * 4
    (scratch / "aside").rename(socket)
    speaks(silent)


def test_without_a_note_requests_wait_for_the_engine(silent):
    """As an agent of an older version leaves it: who asks waits until the engine has said which
    there are. Control says nothing, so that the table stays as it is meanwhile."""
    silent.control.first = []
    before = len(silent.between.asked("/version"))
    kill([silent.pop.role_pid("pop"), *netns_pids(silent.pop)])
    silent.noted.write_text("this home has had containers\n")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked_now = [pool.submit(silent.get) for _ in range(4)]
        until("the next agent", lambda: len(silent.between.asked("/version")) > before)
        assert netns_pids(silent.pop) and not any(one.done() for one in asked_now)
        silent.between.through.set()
        assert [one.result()[0] for one in asked_now] == [200] * 4
    assert [row["Id"] for row in silent.ours()] == silent.before


def test_one_that_the_engine_does_not_know_is_replaced(silent):
    """It may have forgotten it, or be another one: what it says counts."""
    silent.between.instead("/containers/json", answer(b"[]"), times=1)
    victim = silent.replicas(state="ready")[0]["pid"]
    kill([silent.pop.role_pid("pop")])
    silent.between.through.set()
    wait_exit(victim, "the container's process")
    until("its end", lambda: silent.told("replica_exited", "does not know it any more"))
    until("another", lambda: silent.ours() and silent.ours()[0]["Id"] not in silent.before)
    until("an answer", silent.answers)


def test_what_is_noted_of_a_process_that_has_ended_is_not_believed(silent):
    """Its number may be another's by now."""
    victim = silent.replicas(state="ready")[0]["pid"]
    note = silent.noted.read_text()
    assert f'"pid":{victim},' in note
    kill([silent.pop.role_pid("pop")])
    mine = f'"pid":{silent.pop.process.pid},'  # it lives, and began at another time
    silent.noted.write_text(note.replace(f'"pid":{victim},', mine))
    silent.control.reports.clear()
    silent.between.through.set()
    until("the next agent's word", lambda: silent.replicas(state="ready"))
    assert silent.replicas(state="ready")[0]["pid"] == victim
    assert silent.pop.process.poll() is None and silent.answers()


def test_who_asks_after_a_boot_waits_for_what_comes(between, place, server):
    """The table on disk names the container that ended with the one before: nobody is sent there.
    The engine says nothing until the request is there."""
    place.tell(server_image(server), spec=warm())
    place.start(engine=between.path)
    until("an answer", place.answers)
    place.pop.stop()
    before = len(between.asked("/version"))
    between.instead("/version", LATER)
    place.start(engine=between.path)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked_now = pool.submit(place.get)
        place.pop.wait_metric(lambda now: now == 1, "perigee_queue_requests", endpoint="shop",
                              **{"class": "interactive"})
        until("the agent's question", lambda: len(between.asked("/version")) > before)
        assert not asked_now.done()
        between.through.set()
        assert asked_now.result()[:2] == (200, b"hello\n")


# ---- drained while two gateways are there -------------------------------------------------------

def test_what_the_old_gateway_has_there_is_waited_for(place, server):
    """A request that began before the upgrade goes on at a container which then is not wanted any
    more: the new gateway, which has nothing there, is no reason to end it."""
    image = server_image(server, "keeps")
    place.tell(image, spec={**warm(), "timeout": "5m"})
    place.start()
    until("an answer", place.answers)
    told = place.control.container(image, spec={**warm(), "timeout": "5m"}, state="stopped")
    place.control.first = [event("endpoint", 150, told),  # to the next agent
                           event("synced", 150, {"uids": [told["uid"]]})]
    old = http.client.HTTPConnection(*place.pop.address(), timeout=DEADLINE)
    old.putrequest("POST", "/", skip_host=True)
    old.putheader("Host", "shop.localhost")
    old.putheader("Content-Length", "60000")
    old.endheaders()
    sent = []

    def still(look):
        """It sends on while it is looked; its server gives up who says nothing for 5 s."""
        def more():
            sent.append(old.send(b"x"))
            return look()
        return more
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        upgrade = pool.submit(place.pop.cli, "upgrade")
        until("that it is to end", still(lambda: place.replicas(state="draining")
                                         or place.told("replica_exited")))
        assert not upgrade.done() and not place.told("replica_exited")
        old.send(b"x" * (60000 - len(sent)))
        assert old.getresponse().status == 200
        old.close()
        until("its end", lambda: place.told("replica_exited", "it was stopped"))
        assert upgrade.result().text.endswith("serves now.\n")
