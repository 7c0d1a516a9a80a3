# SPDX-License-Identifier: Apache-2.0
"""Containers with `egress: [any]` and without: what leads out of the one leads nowhere for the
other, tried from inside by the very same questions. With Podman and Docker, whose bridge is in a
network of their own."""
import json
import socket

import pytest

from deadline import DEADLINE, until
from engine_case import engine_or_skip
from engine_outside import BRIDGE, BRIDGE6, METADATA, NAMED, OUTSIDE, PORT, Outside, in_network
from engines import Image, compile_known
from registry import Registry

SHUT = ("no: Network is unreachable", "no: Cannot assign requested address")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_known(tmp_path_factory.mktemp("asks"), "asks")


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request):
    one = engine_or_skip(request.param, OUTSIDE)
    outside = Outside(one)
    yield one
    outside.close()
    one.end()


@pytest.fixture(scope="module")
def perigee(engine, homes, program):
    """Three of one image: two may get out, one may not."""
    one = homes("--engine", f"unix:{engine.socket}")
    image = Image([("asks", program, 0o755)], {"Entrypoint": ["/asks"],
                                               "ExposedPorts": {"8080/tcp": {}}})
    Registry(one, "default/asks").push("v1", image.manifest, image.blobs().values())
    for name, egress in (("open", ["any"]), ("shut", []), ("other", ["any"])):
        spec = {"name": name, "image": "default/asks:v1", "egress": egress, "scale": {"min": 1},
                "flavor": {"cpu": 1, "memory": "64MiB"}}
        one.cli("apply", "-f", "-", stdin=json.dumps(spec).encode())
    yield one
    one.stop()
    assert engine.containers() == []


def asked(perigee, name, question):
    """What it says that it found."""
    status, _, body = perigee.request("GET", question, None, {"Host": f"{name}.localhost"})
    assert status == 200, body
    return body.decode()


def address_of(engine, name):
    """Of its container, on the bridge."""
    [row] = [row for row in engine.containers()
             if row["Names"][0].lstrip("/").startswith(f"perigee-{name}-")]
    status, body = engine.ask("GET", f"/v1.41/containers/{row['Id']}/json")
    assert status == 200, body
    [network] = json.loads(body)["NetworkSettings"]["Networks"].values()
    return network["IPAddress"]


# what leads out: (what is asked, what is found with egress)
WAYS = {
    "the-bridge-of-the-host": (f"/connect/{BRIDGE}/{PORT}", "ok: outside"),
    "metadata": (f"/connect/{METADATA}/{PORT}", "ok: outside"),
    "a-resolver": (f"/ask/{BRIDGE}", f"ok: {NAMED}"),
    "ipv6": (f"/connect/{BRIDGE6}/{PORT}", "ok: outside"),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_leads_out_leads_nowhere_without_egress(perigee, way):
    question, found = WAYS[way]
    # An address of IPv6 is looked for twice in its network, which takes a while.
    until("it to be found with egress", lambda: asked(perigee, "open", question) == found)
    assert asked(perigee, "shut", question) in SHUT


def test_another_container_is_not_reached_by_its_address(engine, perigee):
    address = address_of(engine, "other")
    question = f"/connect/{address}/8080"
    assert asked(perigee, "open", question).startswith("ok: HTTP/1.1 200 OK")
    assert asked(perigee, "shut", question) in SHUT

    def from_the_host():
        with socket.create_connection((address, 8080), DEADLINE) as one:
            one.sendall(b"GET /who HTTP/1.0\r\n\r\n")
            return one.recv(4096)
    assert in_network(engine.process.pid, from_the_host).startswith(b"HTTP/1.1 200 OK")


def test_names_are_found_by_the_engines_resolver_with_egress_alone(perigee):
    assert asked(perigee, "open", "/ask/resolver") == f"ok: {NAMED}"
    assert asked(perigee, "shut", "/ask/resolver").startswith("no: ")


def test_show_says_who_may_get_out(perigee):
    words = {"open": "egress any", "shut": "no network"}
    for name, word in words.items():
        [replica] = perigee.json("show", name)["replicas"]
        assert word in replica["sandbox"], replica
