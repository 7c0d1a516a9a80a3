# SPDX-License-Identifier: Apache-2.0
"""WebSockets by way of another PoP, in a network in a box: real clients, real servers, recorded
links."""
import asyncio
import contextlib
import json
import queue
import re
import socket

import aiohttp
import pytest
from aiohttp import web

from deadline import DEADLINE, until
from test_forward import FRENCH, SWISS, Box
from test_upstream_life import socket_echo
from upstream import Application, Scripted

BIG = 1 << 20


async def pour(request):
    """As fast as it is taken."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    for _ in range(int(request.query["count"])):
        await ws.send_bytes(bytes(BIG))
        request.app["sent"].put(BIG)
    await ws.close(code=4001)
    return ws


async def drop(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.receive()
    request.transport.abort()
    return ws


@pytest.fixture(scope="module")
def application():
    one = Application(web.get("/ws", socket_echo), web.get("/pour", pour), web.get("/drop", drop))
    one.runner.app._state["sent"] = queue.Queue()
    yield one
    one.close()


def place(box, name, upstream, *pops, **more):
    """What runs there already, as an endpoint of these places; `one` is where clients come to."""
    spec = {"name": name, "upstream": upstream.url, "regions": list(pops),
            "spread": {"pops": len(pops)}, **more}
    box.cli("apply", "-f", "-", stdin=json.dumps(spec).encode())
    until(f"one to reach {name}", lambda: reached(box, "one", name))


def reached(box, pop, name):
    """Whatever the server says of such a path."""
    with contextlib.closing(box.client(pop, FRENCH)) as connection:
        connection.request("GET", "/none", headers={"Host": f"{name}.localhost"})
        answer = connection.getresponse()
        answer.read()
        return "Perigee-Error" not in answer.headers


@pytest.fixture(scope="module")
def box(homes, tmp_path_factory, application):
    with Box(homes(start=False).home, tmp_path_factory.mktemp("tunnel")).running() as found:
        found.wait_joined()
        place(found, "talk", application, "two")
        place(found, "pair", application, "two", "three")
        yield found


def talk(box, work, pop="one", name="talk", source=FRENCH):
    """work(session, base), a client from there of that endpoint."""
    async def run():
        connector = aiohttp.TCPConnector(local_addr=(source, 0))
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers={
                "Host": f"{name}.localhost"}) as session:
            return await work(session, f"http://{box.pops[pop]['gateway'][0]}")
    return asyncio.run(run())


def head_of(ws):
    return ws._response.headers


# --- what passes ---------------------------------------------------------------------------------

def test_a_websocket_talks_both_ways_by_way_of_another_pop(box):
    async def work(session, base):
        async with session.ws_connect(f"{base}/ws?a=b", protocols=["chat"], headers={
                "X-Request-Id": "talks-1"}) as ws:
            assert ws.protocol == "chat"
            assert head_of(ws)["Perigee-Pop"] == "two"
            assert head_of(ws)["X-Request-Id"] == "talks-1"
            timing = dict(re.findall(r"(\w+);dur=([\d.]+)", head_of(ws)["Server-Timing"]))
            assert float(timing["hop"]) == 20 and float(timing["net"]) == 6
            for i in range(20):
                await ws.send_str(f"hello {i}")
                assert (await ws.receive(DEADLINE)).data == f"HELLO {i}"
            await ws.send_bytes(bytes(BIG))
            assert (await ws.receive(DEADLINE)).data == bytes(BIG)
            await ws.send_str("close")
            closed = await ws.receive(DEADLINE)
            assert (closed.type, ws.close_code) == (aiohttp.WSMsgType.CLOSE, 4000)
    before = box.counted("two", "perigee_upstream_requests_total", endpoint="talk",
                         result="upgraded")
    talk(box, work)
    assert box.counted("two", "perigee_upstream_requests_total", endpoint="talk",
                       result="upgraded") == before + 1
    assert box.counted("one", "perigee_forwards_total", pop="two", result="upgraded") >= 1
    assert box.counted("one", "perigee_upstream_requests_total", endpoint="talk") == 0
    sent = box.recorded("one.two")
    assert re.search(rb"GET /ws\?a=b HTTP/1.1\r\n(?:[^\r]+\r\n)*Perigee-Hop: v1; from=one; to=two; "
                     rb"client=FR; [^\r]*id=talks-1; mac=[^\r]*\r\nConnection: Upgrade\r\n"
                     rb"Upgrade: websocket\r\n", sent)
    assert FRENCH.encode() not in sent


def test_both_pops_remember_it_while_it_lasts(box):
    def remembered():
        found = box.cli("explain", "lasts-1", "--json", status=None).text
        rows = {row["pop"]: row for row in json.loads(found)["decisions"]} if found else {}
        return rows if len(rows) == 2 else None

    async def work(session, base):
        async with session.ws_connect(f"{base}/ws", headers={"X-Request-Id": "lasts-1"}) as ws:
            rows = await asyncio.to_thread(until, "both to remember it", remembered)
            await ws.send_str("a")
            assert (await ws.receive(DEADLINE)).data == "A"
        return rows

    rows = talk(box, work)
    assert (rows["one"]["why"], rows["one"]["chosen"], rows["one"]["status"]) == (
        "away", "two", 101)
    assert (rows["two"]["hop"], rows["two"]["chosen"], rows["two"]["status"]) == (
        True, "two", 101)
    assert "answered by two: the endpoint is not placed where it came to" in box.cli(
        "explain", "lasts-1").text


def test_it_is_counted_as_usage_where_it_is_served(box):
    async def work(session, base):
        async with session.ws_connect(f"{base}/ws") as ws:
            await ws.send_bytes(bytes(BIG))
            assert (await ws.receive(DEADLINE)).data == bytes(BIG)

    def used():
        return {row["pop"]: row for row in box.json("usage", "talk", "--by", "pop")["items"]}

    before = used().get("two", {"bytes_in": 0, "requests": 0})
    talk(box, work)
    rows = until("its windows", lambda: (now := used()).get("two", before)["bytes_in"] >=
                 before["bytes_in"] + BIG and now)
    assert rows["two"]["requests"] > before["requests"]
    assert "one" not in rows or rows["one"]["bytes_in"] == rows["one"]["requests"] == 0


def test_who_reads_slowly_is_waited_for(box, application):
    """Kernels and the relay of the link hold some of it; the gateways next to nothing."""
    count = 192

    def sent_at_most():
        sent = 0
        with contextlib.suppress(queue.Empty):
            while True:  # until nothing moves any more
                sent += application.runner.app["sent"].get(timeout=1)
        return sent

    async def work(session, base):
        async with session.ws_connect(f"{base}/pour?count={count}", max_msg_size=0) as ws:
            ws._response.connection.transport.pause_reading()
            assert await asyncio.to_thread(sent_at_most) < count * BIG / 2
            ws._response.connection.transport.resume_reading()
            got = 0
            async for message in ws:
                got += len(message.data)
            assert (got, ws.close_code) == (count * BIG, 4001)
    talk(box, work)


# --- its end -------------------------------------------------------------------------------------

def running(box, pop):
    return box.counted(pop, "perigee_running_requests", endpoint="talk")


def test_a_client_that_goes_away_ends_it_at_the_server(box):
    async def work(session, base):
        ws = await session.ws_connect(f"{base}/ws")
        await ws.send_str("a")
        assert (await ws.receive(DEADLINE)).data == "A"
        until("it to run there", lambda: running(box, "two") == 1)
        ws._response.connection.transport.abort()
    talk(box, work)
    until("its end there", lambda: running(box, "two") == 0)


def test_a_server_that_goes_away_ends_it_at_the_client(box):
    async def work(session, base):
        async with session.ws_connect(f"{base}/drop") as ws:
            await ws.send_str("a")
            assert (await ws.receive(DEADLINE)).type in (aiohttp.WSMsgType.CLOSED,
                                                         aiohttp.WSMsgType.ERROR)
    talk(box, work)


ASK = ("GET /raw HTTP/1.1\r\nHost: {name}.localhost\r\nConnection: Upgrade\r\n"
       "Upgrade: websocket\r\n{more}\r\n")


def raw(box, pop, source, name, *more):
    """A tunnel of bare bytes: (socket, head of the answer)."""
    host, port = box.pops[pop]["gateway"][0].rsplit(":", 1)
    client = socket.create_connection((host, int(port)), DEADLINE, (source, 0))
    client.sendall(ASK.format(name=name, more="".join(f"{line}\r\n" for line in more)).encode())
    head = b""
    while b"\r\n\r\n" not in head and (byte := client.recv(1)):
        head += byte
    return client, head


def tunnel(upstream, connection):
    """Echoes what comes, as it is, and has a last word."""
    request = connection.request()
    if request is None:  # a probe
        return
    if request.value("Upgrade") != "websocket":
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return
    connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                    b"Upgrade: websocket\r\n\r\n")
    while data := connection.rest or connection.sock.recv(65536):
        connection.rest = b""
        connection.send(data)
    connection.send(b"bye")


@pytest.fixture(scope="module")
def bare(box):
    upstream = Scripted(tunnel)
    place(box, "bare", upstream, "two")
    yield upstream
    upstream.close()


def test_one_side_may_end_before_the_other(box, bare):
    client, head = raw(box, "one", FRENCH, "bare")
    with client:
        assert head.startswith(b"HTTP/1.1 101 ")
        client.sendall(b"words")
        client.shutdown(socket.SHUT_WR)
        got = b""
        while data := client.recv(64):
            got += data
        assert got == b"wordsbye"


def test_one_that_is_silent_is_ended_where_it_is_served(box, bare):
    place(box, "silent", bare, "two", timeout="300ms")
    client, head = raw(box, "one", FRENCH, "silent")
    with client:
        assert head.startswith(b"HTTP/1.1 101 ") and client.recv(1) == b""


# --- where it may go -----------------------------------------------------------------------------

def test_where_it_may_not_pass_it_is_refused_from_its_head(box, bare):
    place(box, "bound", bare, "two", residency={"rules": [
        {"clients": ["FR"], "process_in": ["JP"], "transit": ["JP", "FR"]},
        {"clients": ["CH"], "process_in": ["JP"]}]})
    client, head = raw(box, "one", FRENCH, "bound", "X-Canary: french")
    with client:
        assert head.startswith(b"HTTP/1.1 101 ") and b"Perigee-Pop: two" in head
    client, head = raw(box, "one", SWISS, "bound", "X-Canary: swiss")
    with client:
        assert head.startswith(b"HTTP/1.1 451 ") and b"Connection: close" in head
    assert b"X-Canary: french" in box.recorded("one.two")
    assert b"X-Canary: swiss" not in box.recorded()


def law(box, name, upstream, process, transit, clients="FR"):
    """The endpoint, at two and three, for clients of there; the Swiss may always."""
    always = {"clients": ["CH"], "process_in": ["JP", "DE"], "transit": ["JP", "DE", "FR"]}
    spec = {"name": name, "upstream": upstream.url, "regions": ["two", "three"],
            "spread": {"pops": 2}, "residency": {"rules": [always, {
                "clients": [clients], "process_in": process, "transit": process + transit}]}}
    box.cli("apply", "-f", "-", stdin=json.dumps(spec).encode())


def ended(client):
    """All that comes of it, up to its end."""
    with contextlib.suppress(ConnectionResetError):
        while client.recv(64):
            pass
    return True


@pytest.mark.parametrize("pop, process, transit", [("one", ["JP"], []), ("one", ["DE"], ["FR"]),
                                                   ("two", ["DE"], ["FR"])],
                         ids=["passing", "elsewhere", "served"])
def test_an_open_one_does_not_outlive_the_law(box, bare, pop, process, transit):
    """It may not pass at the first PoP any more, or not be processed where it is; those of other
    clients go on."""
    name = f"law-{pop}-{process[0].lower()}"
    law(box, name, bare, ["JP"], ["FR"])
    until(f"{pop} to reach it", lambda: reached(box, pop, name))
    (client, head), (other, _) = (raw(box, pop, source, name) for source in (FRENCH, SWISS))
    with client, other:
        assert b"Perigee-Pop: two" in head
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        law(box, name, bare, process, transit)
        assert ended(client)
        other.sendall(b"still")
        assert other.recv(5, socket.MSG_WAITALL) == b"still"
    until("it to be counted, by who had the table first", lambda: sum(box.counted(
        at, "perigee_requests_denied_total", endpoint=name, reason="ended")
        for at in ("one", "two")) in (1, 2))
    box.wait_event("residency_refused", endpoint=name,
                   message="1 request under way ended: residency has changed")
    assert re.search(f"requests under way are ended .*endpoint '{name}': rule 2 of its residency "
                     "does not let it", box.tail(10_000))


def test_a_pop_that_drains_passes_new_ones_on_and_keeps_the_others(box, application):
    place(box, "moves", application, "one", "two")
    until("one to have it", lambda: talk(box, pop_of, name="moves") == "one")

    async def work(session, base):
        async with session.ws_connect(f"{base}/ws") as ws:
            assert head_of(ws)["Perigee-Pop"] == "one"
            await asyncio.to_thread(box.cli, "pops", "drain", "one")
            await asyncio.to_thread(until, "two", lambda: talk(box, pop_of, name="moves") == "two")
            await ws.send_str("still")
            assert (await ws.receive(DEADLINE)).data == "STILL"
    try:
        talk(box, work, name="moves")
    finally:
        box.cli("pops", "drain", "one", "--undo")


async def pop_of(session, base):
    """Who serves a new one; None: nobody."""
    try:
        async with session.ws_connect(f"{base}/ws") as ws:
            return head_of(ws)["Perigee-Pop"]
    except aiohttp.WSServerHandshakeError:
        return None


# Last of its file: a PoP that was killed is out of answers for a while.
def test_a_pop_that_dies_ends_its_own_and_the_next_goes_elsewhere(box):
    async def work(session, base):
        async with session.ws_connect(f"{base}/ws") as ws:
            assert head_of(ws)["Perigee-Pop"] == "three"
            await ws.send_str("a")
            assert (await ws.receive(DEADLINE)).data == "A"
            await asyncio.to_thread(box.cli, "fleet", "kill", "three")
            assert (await ws.receive(DEADLINE)).type in (aiohttp.WSMsgType.CLOSED,
                                                         aiohttp.WSMsgType.ERROR)
        async with session.ws_connect(f"{base}/ws") as ws:
            assert head_of(ws)["Perigee-Pop"] == "two"
    until("three", lambda: talk(box, pop_of, name="pair") == "three")
    try:
        talk(box, work, name="pair")
    finally:
        box.cli("fleet", "heal", "three")
        box.wait_state("three", "up")
