# SPDX-License-Identifier: Apache-2.0
"""Containers whose engine fails, forgets or hangs while they live: what serves goes on, what is
dead is replaced, and nothing is left to run."""
import json
import os
import signal

import pytest

from deadline import until, wait_exit
from engine_between import FAILS, FORGETS, HANGS, LATER, Between
from engines import Image, server_image
from fake_control import event
from test_containers import engine, place, server, warm  # fixtures  # noqa: F401
from test_durable import small_disk

BOUNDS_NOTHING = b'{"CgroupDriver":"cgroupfs","CgroupVersion":"1"}'


def answer(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.fixture
def between(engine, scratch):
    one = Between(engine, scratch / "between.sock")
    yield one
    one.close()


@pytest.fixture
def begun(between, place, server):
    """One container that serves; its process."""
    place.tell(server_image(server), spec=warm())
    place.start(engine=between.path)
    until("an answer", place.answers)
    until("its report", lambda: place.replicas(state="ready"))
    return place.replicas(state="ready")[0]["pid"]


def test_a_dead_one_is_replaced_before_it_is_cleaned_away(between, place, begun):
    """The engine never says how it ended."""
    between.instead("/wait", HANGS)
    os.kill(begun, signal.SIGKILL)
    until("that it is known", lambda: place.told("replica_unready", "it has ended"))
    assert [place.get()[0] for _ in range(8)] == [200] * 8
    assert not place.told("replica_exited") and len(place.ours()) == 2
    until("the next one's report", lambda: place.replicas(state="ready"))
    assert place.replicas(state="ready")[0]["pid"] != begun
    between.break_off()
    until("how it ended", lambda: place.told("replica_exited", "SIGKILL"))
    until("the other alone", lambda: len(place.ours()) == 1)


def test_a_list_that_failed_once_is_asked_for_again(between, place, server):
    between.instead("/containers/json", FAILS, times=1)
    place.tell(server_image(server), spec=warm())
    place.start(engine=between.path)
    until("an answer", place.answers)
    assert "out of order" in place.pop.log.read_text()
    assert len(between.asked("/containers/json")) >= 2


def test_one_that_the_engine_does_not_know_any_more_is_killed(between, place, begun, server):
    between.instead("/stop", FORGETS)
    place.tell(server_image(server), spec=warm(), state="stopped")
    wait_exit(begun, "the container's process")
    until("its end", lambda: place.told("replica_exited", "it was stopped"))


def test_nothing_runs_on_beside_an_engine_that_hangs(between, place, begun):
    between.instead("/containers/", HANGS)
    place.pop.stop()
    wait_exit(begun, "the container's process")
    place.control.first = [event("synced", 200, {"uids": []})]
    between.break_off()
    place.start(engine=between.path)
    until("its end", lambda: not place.ours())
    until("the end of its control groups", lambda: not place.groups())


def test_one_that_could_not_be_removed_is_removed_later(between, place, begun):
    between.instead("DELETE", FAILS, times=3)
    os.kill(begun, signal.SIGKILL)
    until("three tries", lambda: len(between.asked("DELETE")) >= 3)
    until("the next one", lambda: place.replicas(state="ready")
          and place.replicas(state="ready")[0]["pid"] != begun)
    until("one alone", lambda: len(place.ours()) == 1)


def test_one_that_is_made_when_nobody_waits_any_more_is_removed(between, place, server):
    """The agent that asked for it was killed; the next one has looked before it was there."""
    between.instead("/containers/create", LATER, times=1)
    place.tell(server_image(server), spec=warm())
    place.start(engine=between.path)
    until("that it is asked for", lambda: between.asked("/containers/create"))
    os.kill(place.pop.role_pid("pop"), signal.SIGKILL)
    until("an answer", place.answers)
    mine = [row["Id"] for row in place.ours()]
    between.through.set()
    until("the late one", lambda: len(place.ours()) == 2)
    until("the other alone", lambda: [row["Id"] for row in place.ours()] == mine)


def test_an_engine_that_comes_again_is_asked_who_it_is(between, place, begun):
    """It bounds nothing now, so that nothing is run there; what runs serves on."""
    between.instead("/info", answer(BOUNDS_NOTHING))
    between.cut()
    until("that it is seen", lambda: "bounds no container by" in place.pop.log.read_text())
    assert place.answers()
    between.break_off()
    os.kill(begun, signal.SIGKILL)
    until("the next one", lambda: place.replicas(state="ready")
          and place.replicas(state="ready")[0]["pid"] != begun)


@pytest.mark.root
def test_an_image_that_has_no_room_at_the_engine_is_not_pulled(between, place, server, scratch):
    image = Image([("server", server, 0o755), ("other", os.urandom(3 << 20), 0o644)],
                  {"Entrypoint": ["/server"]})
    said = json.loads(between.engine.ask("GET", "/v1.41/info")[1])
    with small_disk(scratch / "disk", "5m"):
        said["DockerRootDir"] = str(scratch / "disk")
        between.instead("/info", answer(json.dumps(said).encode()))
        place.tell(image, spec=warm())
        place.start(engine=between.path)
        assert "has 5 MiB free" in place.failed("the engine's disk")
    assert not between.asked("/images/load") and not place.control.pulls


@pytest.mark.root
def test_an_image_makes_room_for_one_that_the_engine_has_no_room_for(between, place, server,
                                                                     scratch):
    """The one that nobody uses goes, though its revision is kept; the one that serves stays. Who
    asks for the first again has it fetched again."""
    images = [Image([("server", server, 0o755), ("other", os.urandom(size), 0o644)],
                    {"Entrypoint": ["/server"]}) for size in (1000, 2000, 3 << 20)]

    def there(image):
        return place.engine.ask("GET", f"/v1.41/images/{image.digest}/json")[0] == 200

    said = json.loads(between.engine.ask("GET", "/v1.41/info")[1])
    with small_disk(scratch / "disk", "5m"):
        said["DockerRootDir"] = str(scratch / "disk")
        between.instead("/info", answer(json.dumps(said).encode()))
        place.tell(images[0], spec=warm())
        place.start(engine=between.path)
        until("an answer", place.answers)
        place.tell(images[1], number=2, spec=warm())
        until("the second", lambda: place.get()[2]["Perigee-Revision"] == "2")
        until("it alone", lambda: len(place.ours()) == 1)
        assert there(images[0]) and there(images[1])
        place.tell(images[2], number=3, spec=warm())
        assert "has 5 MiB free" in place.failed("the engine's disk")
        assert not there(images[0]) and there(images[1])
        place.tell(images[0], number=1, spec=warm())
        until("the first again", lambda: place.get()[2]["Perigee-Revision"] == "1")
        assert there(images[0])


def test_what_starts_is_asked_by_command_each_period(between, place, server):
    """One costs the engine 90 ms: it is no way to look for what has just begun."""
    ready = {"startup": {"exec": {"command": ["/server", "exit"]}, "period": "5s", "failures": 2}}
    place.tell(server_image(server), spec={**warm(), "probes": ready})
    place.start(engine=between.path)
    assert "ended with status 3" in place.failed("not well within 10 s")
    begun = [line.split()[1].split(b"/")[-2] for line in between.asked("POST")
             if line.split()[1].endswith(b"/exec")]
    assert begun and begun.count(begun[0]) <= 3


def test_an_engine_that_runs_no_command_inside_is_told(between, place, server):
    """It may be for the container's sake: each counts as failed."""
    alive = {"liveness": {"exec": {"command": ["/server", "fine"]}, "period": "5s", "failures": 1}}
    place.tell(server_image(server), spec={**warm(), "probes": alive})
    between.instead("/exec", FAILS)
    place.start(engine=between.path)
    until("its end", lambda: any("probes.liveness" in row["reason"] and "out of order" in
                                 row["reason"] for row in place.control.told("deaths")))
