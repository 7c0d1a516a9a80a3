# SPDX-License-Identifier: Apache-2.0
"""Endpoints of driver `upstream` as they live: streams and websockets, health, revisions, kills."""
import asyncio
import http.client
import os
import signal
import socket
import threading

import aiohttp
import pytest
from aiohttp import web

from deadline import DEADLINE, until
from oip import Wire
from upstream import OK, Application, Scripted, deploy, get, plain, scripted, serving, spec


# --- applications --------------------------------------------------------------------------------


async def sse(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for i in range(int(request.query["n"])):
        await response.write(f"data: {i}\n\n".encode())
        if request.query.get("wait"):
            await request.app["go"].wait()
            request.app["go"].clear()
    await response.write_eof()
    return response


async def socket_echo(request):
    ws = web.WebSocketResponse(protocols=["chat"])
    await ws.prepare(request)
    async for message in ws:
        if message.data == "close":
            await ws.close(code=4000)
        elif message.type == aiohttp.WSMsgType.TEXT:
            await ws.send_str(message.data.upper())
        else:
            await ws.send_bytes(message.data)
    return ws


@pytest.fixture(scope="module")
def application(perigee):
    one = Application(web.get("/sse", sse), web.get("/ws", socket_echo))
    one.runner.app._state["go"] = one.call(make_event())
    deploy(perigee, "app", one)
    yield one
    one.close()


async def make_event():
    return asyncio.Event()


def client_run(perigee, work):
    async def run():
        host, port = perigee.address()
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with aiohttp.ClientSession(timeout=timeout, headers={
                "Host": "app.localhost"}) as session:
            return await work(session, f"http://{host}:{port}")
    return asyncio.run(run())


def test_server_sent_events_come_one_by_one(perigee, application):
    async def work(session, base):
        async with session.get(f"{base}/sse?n=5&wait=1") as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            for i in range(5):  # the next is not written before this one was read
                assert await response.content.readuntil(b"\n\n") == f"data: {i}\n\n".encode()
                application.loop.call_soon_threadsafe(application.runner.app["go"].set)
            assert await response.content.read() == b""
    client_run(perigee, work)


def test_a_websocket_talks_both_ways(perigee, application):
    async def work(session, base):
        async with session.ws_connect(f"{base}/ws", protocols=["chat"]) as ws:
            assert ws.protocol == "chat"
            for i in range(100):
                await ws.send_str(f"hello {i}")
                assert (await ws.receive(DEADLINE)).data == f"HELLO {i}"
            big = bytes(1 << 20)
            await ws.send_bytes(big)
            assert (await ws.receive(DEADLINE)).data == big
            await ws.send_str("close")
            closed = await ws.receive(DEADLINE)
            assert (closed.type, ws.close_code) == (aiohttp.WSMsgType.CLOSE, 4000)
    client_run(perigee, work)
    perigee.wait_metric(lambda now: now >= 1, "perigee_upstream_requests_total", endpoint="app",
                        result="upgraded")


def test_a_websocket_that_the_client_drops_ends_at_the_server(perigee, application):
    async def work(session, base):
        ws = await session.ws_connect(f"{base}/ws")
        await ws.send_str("a")
        assert (await ws.receive(DEADLINE)).data == "A"
        ws._response.connection.transport.abort()
    client_run(perigee, work)
    perigee.wait_metric(lambda now: now == 0, "perigee_running_requests", endpoint="app")


def test_a_websocket_that_is_silent_is_ended(perigee):
    def serve(upstream, connection):
        if connection.request():
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                            b"Upgrade: websocket\r\n\r\n")
            upstream.ended.put(connection.sock.recv(1))

    upstream = Scripted(serve)
    try:
        perigee.cli("apply", "-f", "-", stdin=spec("silent", upstream, timeout="300ms"))
        with Wire(perigee) as wire:
            wire.send(get("silent.localhost", "/", "Connection: Upgrade", "Upgrade: websocket"))
            assert wire.answer(head_only=True).status == 101
            assert wire.socket.recv(1) == b""
        perigee.cli("delete", "silent", "--yes")
    finally:
        upstream.close()


# --- health --------------------------------------------------------------------------------------


def test_deploying_what_does_not_answer_says_why(perigee):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = perigee.cli("deploy", "nobody", "--upstream", f"http://127.0.0.1:{port}", status=1)
    assert f"http://127.0.0.1:{port}" in result.said and "refused" in result.said
    status, headers, body = perigee.request("GET", "/", headers={"Host": "nobody.localhost"})
    assert (status, headers["Perigee-Error"]) == (503, "overloaded") and b"refused" in body
    perigee.cli("delete", "nobody", "--yes")


def probe_turns(perigee, upstream, well, events):
    perigee.cli("apply", "-f", "-", stdin=spec("probed", upstream, probes={
        "readiness": {"http": {"path": "/health"}, "period": "50ms", "failures": 2}}))
    ask = {"Host": "probed.localhost"}
    assert perigee.request("GET", "/x", headers=ask)[0] == 200
    well.clear()
    events.wait("replica_unready", endpoint="probed")
    status, _, body = until("the table", lambda: next(
        (a for a in [perigee.request("GET", "/x", headers=ask)] if a[0] != 200), None))
    assert status == 503 and b"answered 500" in body
    well.set()
    events.wait("replica_ready", endpoint="probed")
    until("the table", lambda: perigee.request("GET", "/x", headers=ask)[0] == 200)


def test_a_probe_that_fails_takes_it_out_and_one_that_does_brings_it_back(perigee):
    well = threading.Event()
    well.set()

    def answer(connection, request):
        good = request.target != "/health" or well.is_set()
        connection.send(OK if good else b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    upstream = Scripted(serving(answer))
    try:
        with perigee.events(new=True) as events:
            probe_turns(perigee, upstream, well, events)
        perigee.cli("delete", "probed", "--yes")
    finally:
        upstream.close()


def test_a_new_revision_takes_over_when_it_is_ready(perigee):
    def named(name):
        return serving(lambda connection, request: connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name))

    first, second = Scripted(named(b"1")), Scripted(named(b"2"))
    try:
        deploy(perigee, "moved", first)
        ask = {"Host": "moved.localhost"}
        assert perigee.request("GET", "/", headers=ask)[2] == b"1"
        deploy(perigee, "moved", second)
        status, headers, body = perigee.request("GET", "/", headers=ask)
        assert (status, headers["Perigee-Revision"], body) == (200, "2", b"2")
        perigee.cli("rollback", "moved")
        assert perigee.request("GET", "/", headers=ask)[2] == b"1"
        perigee.cli("stop", "moved")
        status, headers, _ = perigee.request("GET", "/", headers=ask)
        assert (status, headers["Perigee-Error"]) == (503, "stopped")
        perigee.cli("start", "moved")
        assert perigee.request("GET", "/", headers=ask)[0] == 200
        perigee.cli("delete", "moved", "--yes")
    finally:
        first.close()
        second.close()


# --- kills ---------------------------------------------------------------------------------------


def test_it_serves_through_kills_of_agent_and_control(new_perigee):
    perigee = new_perigee()
    with scripted(perigee, "lasting", serving(plain)):
        ask = {"Host": "lasting.localhost"}
        for role in ("pop", "control"):
            os.kill(perigee.role_pid(role), signal.SIGKILL)
            for _ in range(200):
                assert perigee.request("GET", "/", headers=ask)[0] == 200
        os.kill(perigee.role_pid("gateway"), signal.SIGKILL)
        until("a gateway", lambda: answered(perigee, ask))


def answered(perigee, ask):
    try:
        return perigee.request("GET", "/", headers=ask)[0] == 200
    except (OSError, http.client.HTTPException):
        return False
