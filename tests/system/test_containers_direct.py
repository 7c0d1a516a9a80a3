# SPDX-License-Identifier: Apache-2.0
"""Containers whose network cannot be entered, as Perigee may not: they have a network of their
endpoint's own, which leads nowhere, and are reached by address. Where that is too weak they do not
run."""
import json
import os
import shutil
import signal

import pytest

from deadline import until, wait_exit
from engines import server_image
from fake_control import event
from test_containers import engine, place, server, warm  # fixtures  # noqa: F401
from test_containers_engine import between  # fixture  # noqa: F401


@pytest.fixture
def weak(place):  # noqa: F811
    """Without what entering takes."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    place.pop.wrap = ["setpriv", "--bounding-set=-sys_admin"]
    return place


def networks(place):  # noqa: F811
    status, body = place.engine.ask("GET", "/v1.41/networks")
    assert status == 200, body
    return [row for row in json.loads(body) if row["Name"].startswith("perigee-")]


def docker(place):  # noqa: F811
    if place.engine.name != "Docker":
        pytest.skip("Podman lets nobody reach them")


def test_they_are_reached_by_address(weak, server):  # noqa: F811
    docker(weak)
    weak.tell(server_image(server), spec=warm())
    weak.start()
    until("an answer", weak.answers)
    assert weak.get()[1] == b"hello\n"
    until("its report", lambda: weak.replicas(state="ready"))
    assert "weaker" in weak.replicas(state="ready")[0]["sandbox"]
    assert "cannot be entered" in weak.failed("cannot be entered")  # the first one said so
    assert [row["Internal"] for row in networks(weak)] == [True]
    weak.control.events.put(event("gone", 299, {"uid": 1}))
    until("the end of its network", lambda: not networks(weak))
    assert not weak.ours()


def test_their_network_goes_with_the_place(weak, server):  # noqa: F811
    docker(weak)
    weak.tell(server_image(server), spec=warm())
    weak.start()
    until("an answer", weak.answers)
    weak.pop.stop()
    assert not networks(weak) and not weak.ours()


def test_with_podman_there_is_no_other_way(weak, server):  # noqa: F811
    if weak.engine.name != "Podman":
        pytest.skip("Docker has one")
    weak.tell(server_image(server), spec=warm())
    weak.start()
    assert "cannot be entered" in weak.failed("by address Podman")
    until("its end", lambda: not weak.ours())
    assert not networks(weak)


def test_residency_wants_more(weak, server):  # noqa: F811
    weak.control.spec = {"country": "FR"}
    weak.tell(server_image(server), spec={**warm(), "residency": {"process_in": ["FR"]}})
    weak.start()
    assert "which residency forbids" in weak.failed("residency")
    assert not networks(weak)


@pytest.fixture
def direct(between, weak, server):  # noqa: F811
    docker(weak)
    weak.tell(server_image(server), spec=warm())
    weak.start(engine=between.path)
    until("an answer", weak.answers)
    until("its report", lambda: weak.replicas(state="ready"))
    weak.between = between
    return weak


def test_its_resolver_asks_nobody(direct):
    """Docker before 25.0.5 else asks for it from outside (CVE-2024-29018)."""
    [row] = direct.ours()
    host = json.loads(direct.engine.ask("GET", f"/v1.41/containers/{row['Id']}/json")[1])
    assert host["HostConfig"]["Dns"] == ["127.0.0.1"]


@pytest.mark.parametrize("noted", [True, False])
def test_they_live_on_when_their_agent_is_killed(direct, noted):
    """By what that one noted, or by the engine's word alone. The next one has learned by them that
    it cannot enter: what it begins later is reached by address at once."""
    before, note = [row["Id"] for row in direct.ours()], direct.pop.home / "pop" / "containers"
    until("it to be noted", lambda: before[0] in note.read_text())
    direct.control.reports.clear()
    victim = direct.pop.role_pid("pop")
    os.kill(victim, signal.SIGKILL)
    wait_exit(victim)
    if not noted:
        note.write_text("{}")
    until("the next agent's word", lambda: direct.replicas(state="ready"))
    assert "weaker" in direct.replicas(state="ready")[0]["sandbox"]
    assert direct.get()[1] == b"hello\n"
    assert [row["Id"] for row in direct.ours()] == before
    assert [row["Internal"] for row in networks(direct)] == [True]
    until("what it has learned", lambda: direct.pop.log.read_text().count("going on by addr") == 2)
    os.kill(direct.replicas(state="ready")[0]["pid"], signal.SIGKILL)
    until("the next one", lambda: direct.ours() and direct.ours()[0]["Id"] not in before)
    until("an answer", direct.answers)
    assert not direct.told("revision_failed")


def test_their_network_goes_with_the_endpoint(direct):
    """Not with the next look at all that the engine has, of which one has just been."""
    looks = len(direct.between.asked("/containers/json"))
    until("a look", lambda: len(direct.between.asked("/containers/json")) > looks)
    direct.control.events.put(event("gone", 299, {"uid": 1}))
    until("the end of its network", lambda: not networks(direct))
    seen = [line.split(b" ")[:2] for line in direct.between.asked("")]
    gone = max(i for i, (how, where) in enumerate(seen)
               if how == b"DELETE" and b"/containers/" in where)
    ends = max(i for i, (how, where) in enumerate(seen)
               if how == b"DELETE" and b"/networks/" in where)
    assert gone < ends
    assert not [where for how, where in seen[gone:ends] if b"/containers/json" in where]
