# SPDX-License-Identifier: Apache-2.0
"""The whole way of an image: pushed to control's registry, deployed by its tag, called by host,
scaled, moved, and everything in between killed. With Podman and Docker."""
import http.client
import json
import os
import signal
import threading

import pytest

from deadline import DEADLINE, children, until
from engine_case import engine, log_bytes, server  # fixtures too  # noqa: F401
from engines import Image, compile_known, server_image, sha256
from registry import Registry


HOST = {"Host": "shop.localhost"}


@pytest.fixture
def perigee(engine, new_perigee):
    one = new_perigee("--engine", f"unix:{engine.socket}")
    yield one
    one.stop()
    assert ours(engine) == [], one.tail(60)


def ours(engine):
    return [row for row in engine.containers()
            if row["Names"][0].lstrip("/").startswith("perigee-shop-")]


def push(perigee, image, tag="v1"):
    Registry(perigee, "default/shop").push(tag, image.manifest, image.blobs().values())


def get(perigee, method="GET", body=None):
    status, headers, body = perigee.request(method, "/", body, HOST)
    return status, body, headers


def deploy(perigee, image="default/shop:v1", **more):
    spec = {"name": "shop", "image": image, "flavor": {"cpu": 1, "memory": "64MiB"}, **more}
    return perigee.cli("apply", "-f", "-", stdin=json.dumps(spec).encode())


def test_a_pushed_image_is_deployed_called_updated_and_deleted(perigee, engine, server):
    image = server_image(server, "loud")
    push(perigee, image)
    deploy(perigee)
    assert get(perigee)[:2] == (200, b"hello\n")
    assert [row["ImageID"] for row in ours(engine)] == [image.digest]
    shown = perigee.json("show", "shop")
    assert shown["replicas"][0]["state"] == "ready"
    until("what it wrote", lambda: "asked" in perigee.cli("logs", "shop").text)
    # The tag moves; nothing else does, until it is deployed again.
    push(perigee, server_image(server))
    assert get(perigee)[2]["Perigee-Revision"] == "1"
    deploy(perigee)
    assert get(perigee)[2]["Perigee-Revision"] == "2"
    perigee.cli("rollback", "shop", "--revision", 1)
    until("the first again", lambda: get(perigee)[2]["Perigee-Revision"] == "1")
    until("its usage", lambda: any(row["requests"] > 0 and row["cpu_us"] > 0
                                   for row in perigee.json("usage", "shop")["items"]))
    perigee.cli("delete", "shop", "--yes")
    until("their end", lambda: ours(engine) == [])
    until("the end of the engine's copy", lambda: engine.ask(
        "GET", f"/v1.41/images/{image.digest}/json")[0] == 404)


def test_whoever_is_killed_it_answers_again(perigee, engine, server):
    push(perigee, server_image(server))
    deploy(perigee, scale={"min": 1})
    before = {row["Id"] for row in ours(engine)}
    for role in ("netns", "gateway", "pop", "control"):
        os.kill(perigee.role_pid(role), signal.SIGKILL)
        until(f"an answer after the end of {role}", lambda: answers(perigee))
        until("the next agent has it", lambda: ready(perigee) == 1)
    assert {row["Id"] for row in ours(engine)} == before, "none of it was the container's"


def test_an_upgrade_leaves_it_running(perigee, engine, server):
    push(perigee, server_image(server))
    deploy(perigee, scale={"min": 1})
    before = {row["Id"] for row in ours(engine)}
    perigee.cli("upgrade")
    assert get(perigee)[0] == 200
    assert {row["Id"] for row in ours(engine)} == before
    perigee.cli("scale", "shop", "--min", 2)  # the next agent has it, and makes more
    until("two", lambda: len(ours(engine)) == 2)


def ready(perigee):
    try:
        return perigee.metric("perigee_replicas", state="ready")
    except OSError:
        return None


def answers(perigee):
    try:
        return get(perigee)[0] == 200
    except OSError:
        return False


def test_no_request_is_lost_while_it_is_scaled_up_and_down(perigee, server):
    """Requests, POSTs among them, while replicas come and go under them."""
    push(perigee, server_image(server))
    deploy(perigee, scale={"min": 1, "max": 3})
    over, seen = threading.Event(), []

    def client(method, body):
        while not over.is_set():
            try:
                seen.append(get(perigee, method, body)[0])
            except (OSError, http.client.HTTPException) as error:
                seen.append(repr(error))
    clients = [threading.Thread(target=client, args=row)
               for row in (("GET", None), ("POST", b"x" * 1000), ("POST", b"y"))]
    for one in clients:
        one.start()
    try:
        for least in (3, 1, 2, 1, 3, 1):
            perigee.cli("scale", "shop", "--min", least, "--max", least)
            until(f"{least} replicas", lambda n=least: sum(
                row["state"] == "ready" for row in perigee.json("show", "shop")["replicas"]) == n)
    finally:
        over.set()
        for one in clients:
            one.join()
    assert len(seen) > 100 and set(seen) == {200}, {status: seen.count(status) for status in seen}


def test_one_that_writes_without_end_slows_nobody(perigee, engine, server, tmp_path):
    """What is kept of it is bounded, at the engine too; it serves on, and so do others, whose own
    lines come; and what was left out is said."""
    program = compile_known(tmp_path, "asks")
    image = Image([("asks", program, 0o755)], {"Entrypoint": ["/asks"],
                                               "ExposedPorts": {"8080/tcp": {}}})
    Registry(perigee, "default/chat").push("v1", image.manifest, image.blobs().values())
    push(perigee, server_image(server, "loud"))
    deploy(perigee, name="chat", image="default/chat:v1", flavor={"cpu": 0.5, "memory": "64MiB"})
    deploy(perigee)
    [before] = [row["Id"] for row in engine.containers() if "chat" in row["Names"][0]]

    def ask(path):
        return perigee.request("GET", path, None, {"Host": "chat.localhost"})[0]

    def logs(name):
        return perigee.cli("logs", name, "--limit", 1000).text
    told = set()

    def left_out():
        told.update(line for line in logs("chat").splitlines() if "lines dropped: more" in line)
        return len(told) > 2
    assert ask("/chat") == 200
    until("that lines are left out", left_out)
    assert [get(perigee)[:2] for _ in range(200)] == [(200, b"hello\n")] * 200
    until("lines of the other", lambda: "asked" in logs("shop"))
    assert [ask("/who") for _ in range(20)] == [200] * 20
    assert "the same line again" in logs("chat")
    assert log_bytes(engine) < 32 << 20
    assert before in [row["Id"] for row in engine.containers()]
    perigee.cli("delete", "chat", "--yes")
    until("its end", lambda: before not in [row["Id"] for row in engine.containers()])


@pytest.mark.slow
def test_ten_thousand_requests_across_fifty_changes(perigee, engine, server):
    """POSTs among them, over kept connections, at a server that closes those idle for 5 s: twice
    all clients rest until none is left, and go on at once."""
    push(perigee, server_image(server, "keeps"))
    deploy(perigee, scale={"min": 1, "max": 2})
    seen, changed, lock = {}, threading.Event(), threading.Lock()
    awake = threading.Event()
    awake.set()

    def kept():
        """Connections that the containers have: each is a process there."""
        return sum(len(children(engine.process_of(row["Id"]))) for row in ours(engine))

    def client(number):
        connection = http.client.HTTPConnection(*perigee.address(), timeout=DEADLINE)
        while not changed.is_set() or sum(seen.values()) < 10_000:
            awake.wait()
            body = None if number % 2 else b"x" * 5000
            try:
                connection.request("POST" if body else "GET", "/", body, HOST)
                answer = connection.getresponse()
                outcome = answer.status, answer.read() == b"hello\n"
            except (OSError, http.client.HTTPException) as error:
                outcome = repr(error), False
                connection.close()  # the next request makes another
            with lock:
                seen[outcome] = seen.get(outcome, 0) + 1
        connection.close()
    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for one in clients:
        one.start()
    try:
        for change in range(50):
            least = 2 - change % 2
            perigee.cli("scale", "shop", "--min", least, "--max", least)
            until(f"{least} replicas", lambda n=least: perigee.metric(
                "perigee_replicas", endpoint="shop", state="ready") == n)
            if change in (20, 40):
                assert kept()
                awake.clear()
                until("the end of all connections", lambda: not kept())
                awake.set()
    finally:
        changed.set()
        awake.set()
        for one in clients:
            one.join()
    assert set(seen) == {(200, True)} and sum(seen.values()) >= 10_000, seen


def test_the_digest_is_deployed_whatever_the_tag_says(perigee, server):
    image = server_image(server)
    push(perigee, image)
    deploy(perigee, image=f"default/shop@{sha256(image.manifest)}")
    assert get(perigee)[0] == 200
