# SPDX-License-Identifier: Apache-2.0
"""Containers whose network cannot be entered, as Perigee may not: they have a network of their
endpoint's own, which leads nowhere, and are reached by address. Where that is too weak they do not
run."""
import json
import shutil

import pytest

from deadline import until
from engines import server_image
from fake_control import event
from test_containers import engine, place, server, warm  # fixtures  # noqa: F401


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
