# SPDX-License-Identifier: Apache-2.0
"""What else than plain HTTP is spoken to a container: Open Inference Protocol by a model's name,
server-sent events, WebSocket; by other people's clients. With Podman and Docker."""
import asyncio
import json

import aiohttp
import pytest

from deadline import DEADLINE, children, until
from engine_case import engine  # fixture  # noqa: F401
from engines import Image, compile_known
from registry import Registry

HOST = {"Host": "spoken.localhost"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_known(tmp_path_factory.mktemp("speaks"), "speaks", "-lcrypto")


@pytest.fixture(scope="module")
def perigee(engine, homes, program):  # noqa: F811
    one = homes("--engine", f"unix:{engine.socket}")
    image = Image([("speaks", program, 0o755)], {"Entrypoint": ["/speaks"],
                                                 "ExposedPorts": {"8080/tcp": {}}})
    Registry(one, "default/speaks").push("v1", image.manifest, image.blobs().values())
    for name, protocol in (("spoken", "oip"), ("plain", "http")):
        spec = {"name": name, "image": "default/speaks:v1", "protocol": protocol,
                "flavor": {"cpu": 1, "memory": "64MiB"}, "scale": {"min": 1}}
        one.cli("apply", "-f", "-", stdin=json.dumps(spec).encode())
    yield one
    one.stop()
    assert engine.containers() == []


def run(perigee, work):
    """With a client's session, and where the gateway is."""
    async def whole():
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with aiohttp.ClientSession(timeout=timeout, headers=HOST) as session:
            await work(session, "http://%s:%d" % perigee.address())
    asyncio.run(whole())


def test_one_that_speaks_oip_is_reached_by_its_model_name(perigee):
    """On any of the gateway's hosts, as models are; one that does not say so is not."""
    for method, path in (("POST", "/infer"), ("GET", ""), ("GET", "/ready")):
        body = b"{}" if method == "POST" else None
        status, headers, text = perigee.request(method, f"/v2/models/spoken{path}", body)
        assert (status, headers["Perigee-Revision"]) == (200, "1")
        assert json.loads(text) == {"asked": f"{method} /v2/models/spoken{path} HTTP/1.1"}
        assert perigee.request(method, f"/v2/models/plain{path}", body)[0] == 404


def test_server_sent_events_come_one_by_one(perigee):
    """The next one is not written before the client has the one before."""
    async def work(session, base):
        async with session.get(f"{base}/events") as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            for i in range(5):
                assert await response.content.readuntil(b"\n\n") == f"data: {i}\n\n".encode()
                async with session.get(f"{base}/next") as other:
                    assert other.status == 200
            assert await response.content.read() == b""
    run(perigee, work)


def test_a_websocket_talks_both_ways(perigee):
    async def work(session, base):
        async with session.ws_connect(f"{base}/ws") as ws:
            for i in range(100):
                await ws.send_str(f"hello {i}")
                assert (await ws.receive(DEADLINE)).data == f"HELLO {i}"
            big = bytes(range(256)) * (1 << 12)
            await ws.send_bytes(big)
            assert (await ws.receive(DEADLINE)).data == big
            await ws.send_str("close")
            closed = await ws.receive(DEADLINE)
            assert (closed.type, ws.close_code) == (aiohttp.WSMsgType.CLOSE, 4000)
    run(perigee, work)
    perigee.wait_metric(lambda now: now >= 1, "perigee_upstream_requests_total", endpoint="spoken",
                        result="upgraded")


def test_a_websocket_that_its_client_drops_is_over_in_the_container(perigee, engine):  # noqa: F811
    """Its process there ends, and so does what the gateway counts."""
    [mine] = [row["Id"] for row in engine.containers()
              if row["Names"][0].lstrip("/").startswith("perigee-spoken-")]
    server = engine.process_of(mine)

    async def work(session, base):
        ws = await session.ws_connect(f"{base}/ws")
        await ws.send_str("a")
        assert (await ws.receive(DEADLINE)).data == "A"
        assert len(children(server)) == 1
        ws._response.connection.transport.abort()
    until("it alone", lambda: not children(server))  # what others asked is over
    run(perigee, work)
    perigee.wait_metric(lambda now: now == 0, "perigee_running_requests", endpoint="spoken")
    until("it alone", lambda: not children(server))
