# SPDX-License-Identifier: Apache-2.0
"""An image at a PoP that joined: control and PoP are two trees with a home each, the PoP's engine
is Podman or Docker. What runs came out of control's registry, and needs it no more."""
import os
import signal

import pytest

from deadline import until, wait_exit
from engine_case import engine, server  # fixtures  # noqa: F401
from engines import server_image
from registry import Registry
from test_parts import Fleet

JOINED = "paris"


@pytest.fixture
def fleet(new_perigee, scratch, engine):  # noqa: F811
    one = Fleet(new_perigee, scratch)
    one.engine = ("--engine", f"unix:{engine.socket}")
    one.pop = one.join(JOINED, *one.engine)
    yield one
    one.pop.stop()


def push(fleet, image, tag="v1"):
    Registry(fleet.control, "default/shop").push(tag, image.manifest, image.blobs().values())


def get(fleet):
    status, headers, body = fleet.pop.request("GET", "/", None, {"Host": "shop.localhost"})
    return status, body, headers.get("Perigee-Pop")


def test_what_was_deployed_is_pulled_by_its_digest(fleet, engine, server):  # noqa: F811
    """The PoP is away when it is deployed, and the tag is another's when it comes."""
    image, other = server_image(server, Env=["OF=first"]), server_image(server, "exit")
    push(fleet, image)
    fleet.pop.stop()
    fleet.control.cli("deploy", "shop", "--image", "default/shop:v1", "--no-wait")
    push(fleet, other)
    fleet.pop.start(*fleet.engine)
    until("an answer", lambda: get(fleet) == (200, b"hello\n", JOINED))
    assert [row["ImageID"] for row in engine.containers()] == [image.digest]
    until("control's word of it", lambda: fleet.control.json("show", "shop")["replicas"])
    [replica] = fleet.control.json("show", "shop")["replicas"]
    assert replica["pop"] == JOINED
    assert not [*(fleet.pop.home / "blobs" / "sha256").iterdir()], "the engine has it now"


def test_it_needs_control_no_more(fleet, engine, server):  # noqa: F811
    """Cut off it serves on, begins another container where one ends, and serves after a cold boot
    as well. When control is back nothing of that is begun anew."""
    push(fleet, server_image(server, Env=["OF=cut"]))
    fleet.control.cli("deploy", "shop", "--image", "default/shop:v1")
    assert get(fleet) == (200, b"hello\n", JOINED)
    fleet.control.kill()
    assert get(fleet) == (200, b"hello\n", JOINED)
    [before] = engine.containers()
    victim = engine.process_of(before["Id"])
    os.kill(victim, signal.SIGKILL)
    wait_exit(victim, "the container's process")
    until("another alone", lambda: [row["Id"] for row in engine.containers()] not in (
        [], [before["Id"]]) and len(engine.containers()) == 1)
    until("its answer", lambda: get(fleet) == (200, b"hello\n", JOINED))
    gone = {before["Id"], *(row["Id"] for row in engine.containers())}
    fleet.pop.stop()
    fleet.pop.start(*fleet.engine)
    assert get(fleet) == (200, b"hello\n", JOINED)
    [mine] = [row for row in engine.containers() if row["Id"] not in gone]
    fleet.control.start("--listen-control", fleet.url.removeprefix("http://"))
    until("control's word of it", lambda: [
        row["state"] for row in fleet.control.json("show", "shop")["replicas"]] == ["ready"])
    assert get(fleet) == (200, b"hello\n", JOINED)
    until("it alone", lambda: [row["Id"] for row in engine.containers()] == [mine["Id"]])
