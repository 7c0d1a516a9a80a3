# SPDX-License-Identifier: Apache-2.0
"""Replicas that are containers: a PoP's agent with a real engine, Podman and Docker, and a control
that is spoken for by the test. From the image's blobs to an answer, and what goes wrong."""
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import signal

import pytest

from deadline import command_line, until, wait_exit
from engine_case import engine, server  # fixtures  # noqa: F401
from engines import CGROUPS, Image, server_image
from fake_control import CUT, FakeControl, event
from test_durable import small_disk


class Place:
    """A PoP with an engine, and its control."""

    def __init__(self, pop, control, engine, token):
        self.pop, self.control, self.engine, self.number = pop, control, engine, 100
        self.join = ["--join", control.url, "--token-file", token]

    def start(self, *more, engine=None):
        self.pop.start(*self.join, "--engine", f"unix:{engine or self.engine.socket}", *more)
        self.join = []
        return self

    def tell(self, image, **more):
        self.number += 1
        told = self.control.container(image, **more)
        said = event("endpoint", self.number, told)
        self.control.first = [said, event("synced", self.number, {"uids": [told["uid"]]})]
        self.control.events.put(said)
        if self.control.watches == 0:
            self.control.events.put(self.control.first[1])

    def get(self, path="/", host="shop.localhost", method="GET", body=None):
        status, headers, body = self.pop.request(method, path, body, {"Host": host})
        return status, body, headers

    def answers(self):
        return self.get()[0] == 200

    def ours(self):
        return [row for row in self.engine.containers()
                if row["Names"][0].lstrip("/").startswith("perigee-")]

    def groups(self):
        """Control groups of this home's containers, of either version."""
        return [row for group in self.home_groups() for row in group.glob("*/")]

    def home_groups(self):
        name = f"perigee-{hashlib.sha256(str(self.pop.home).encode()).hexdigest()[:8]}"
        return [*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]

    def replicas(self, **like):
        rows = self.control.reports[-1][1]["replicas"] if self.control.reports else []
        return [row for row in rows if all(row[key] == like[key] for key in like)]

    def told(self, kind, word=""):
        return [row for row in self.control.told()
                if row["kind"] == kind and word in row.get("message", "")]

    def failed(self, word):
        until(f"it to fail with '{word}'", lambda: self.told("revision_failed", word))
        return self.told("revision_failed", word)[-1]["message"]


def cleared(group):
    """The home's own stays, and so does that of who watches a command inside when Perigee ends: it
    is removed at the next start."""
    for folder in [*sorted(group.glob("**/"), reverse=True), group]:
        with contextlib.suppress(OSError):
            folder.rmdir()
    return not group.exists()


@pytest.fixture
def place(engine, new_perigee, scratch):
    control = FakeControl()
    (scratch / "token").write_text("pgj_" + "0" * 32)
    one = Place(new_perigee(part="pop", start=False), control, engine, scratch / "token")
    yield one
    one.pop.stop()
    control.close()
    for row in one.ours():
        engine.ask("DELETE", f"/v1.41/containers/{row['Id']}?force=1")
    until("the end of its groups", lambda: all([cleared(row) for row in one.home_groups()]))


def warm(**scale):
    return {"scale": {"min": 1, **scale}}


# ---- from blobs to an answer --------------------------------------------------------------------

def test_an_image_answers_and_is_gone_with_the_place(place, server):
    place.tell(server_image(server), spec=warm())
    place.start()
    until("an answer", place.answers)
    assert place.get()[1] == b"hello\n"
    row = place.ours()[0]
    assert row["Names"][0].lstrip("/").startswith("perigee-shop-1-") and len(place.ours()) == 1
    until("its report", lambda: place.replicas(state="ready"))
    replica = place.replicas(state="ready")[0]
    assert "seccomp" in replica["sandbox"] and replica["pid"] > 0
    assert replica["memory_bytes"] > 0
    blobs = place.pop.home / "blobs" / "sha256"
    assert not [*blobs.iterdir()], "the engine has it now"
    assert place.groups(), "it has a group of its own"
    place.pop.stop()
    assert place.ours() == []


def test_it_scales_to_zero_and_back(place, server):
    """Without requests it is gone after scale.idle; the next request waits for it."""
    place.tell(server_image(server), spec={"scale": {"idle": "1s"}})
    place.start()
    until("an answer", place.answers)
    until("zero", lambda: not place.ours() and not place.replicas())
    until("the end of its control groups", lambda: not place.groups())
    assert place.get()[1] == b"hello\n"
    assert len(place.ours()) == 1
    exits = place.told("replica_exited")
    assert exits and exits[0]["message"] == "it was stopped"
    for part in ("all", "spawn", "walls", "load"):
        labels = {"endpoint": "shop", "cold": "true", "part": part}
        assert place.pop.metric("perigee_replica_start_seconds_sum", **labels) > 0, part


def test_a_new_revision_takes_over_and_no_request_is_lost(place, server):
    """The one before is ended scale.idle after its last request, once nothing runs there."""
    place.tell(server_image(server), spec=warm(idle="1s"))
    place.start()
    until("an answer", place.answers)
    place.tell(server_image(server, "loud"), spec=warm(idle="1s"), number=2)
    answers = []

    def moved():
        answers.append(place.get())
        return answers[-1][2]["Perigee-Revision"] == "2"
    until("the second one", moved)
    assert {status for status, _, _ in answers} == {200}
    until("the end of the first", lambda: len(place.ours()) == 1)
    assert place.ours()[0]["Labels"]["perigee.revision"] == str(1 << 24 | 2)


# ---- who is killed -------------------------------------------------------------------------------

def test_it_lives_on_when_its_agent_is_killed(place, server):
    place.tell(server_image(server), spec=warm())
    place.start()
    until("an answer", place.answers)
    before = place.ours()[0]["Id"]
    place.control.reports.clear()
    os.kill(place.pop.role_pid("pop"), signal.SIGKILL)
    until("the next agent's word", lambda: place.replicas(state="ready"))
    assert place.get()[1] == b"hello\n"
    assert [row["Id"] for row in place.ours()] == [before]


def test_what_is_left_after_everything_was_killed_is_swept(place, server):
    place.tell(server_image(server), spec=warm())
    place.start()
    until("an answer", place.answers)
    before = place.ours()[0]["Id"]
    place.pop.kill()
    assert [row["Id"] for row in place.ours()] == [before], "nobody was left to end it"
    place.control.first = [event("synced", 200, {"uids": []})]  # it was deleted meanwhile
    place.start()
    until("its end", lambda: not place.ours() and not place.groups())


def test_groups_of_containers_that_are_gone_are_removed_at_the_next_start(place, server):
    place.tell(server_image(server), spec=warm())
    place.start()
    until("an answer", place.answers)
    place.pop.kill()
    for row in place.ours():  # by somebody else
        place.engine.ask("DELETE", f"/v1.41/containers/{row['Id']}?force=1")
    before = set(place.groups())
    assert before
    place.start()
    until("their end", lambda: not before & set(place.groups()))


def test_one_that_is_killed_is_started_again(place, server):
    place.tell(server_image(server, "loud"), spec=warm())
    place.start()
    until("an answer", place.answers)
    until("its process", lambda: place.replicas(state="ready"))
    os.kill(place.replicas(state="ready")[0]["pid"], signal.SIGKILL)
    until("its death", lambda: place.control.told("deaths"))
    death = place.control.told("deaths")[0]
    assert "SIGKILL" in death["reason"], death
    assert "listens" in json.dumps(death)
    assert place.answers()


def test_what_it_writes_stays_where_residency_keeps_it(place, server):
    """It writes its requests, whole: none of that goes to control, which may be anywhere, in lines
    nor in those of its death, until the law lets lines leave."""
    place.control.spec = {"country": "FR"}
    law = {"rules": [{"clients": "any", "process_in": ["FR"]}]}
    place.tell(server_image(server, "tells"), spec={**warm(), "residency": law})
    place.start()
    until("an answer", place.answers)
    canary = "kanarienvogel"

    def ask():
        status, _, _ = place.pop.request("POST", f"/{canary}?{canary}", canary.encode(),
                                         {"Host": "shop.localhost", "X-Canary": canary})
        assert status == 200

    ask()
    until("the count", lambda: any("kept at this PoP" in row["line"]
                                   for row in place.control.told("logs")))
    until("its process", lambda: place.replicas(state="ready"))
    os.kill(place.replicas(state="ready")[0]["pid"], signal.SIGKILL)
    until("its death", lambda: place.control.told("deaths"))
    until("another", place.answers)
    ask()
    until("all of it to be counted", lambda: place.control.reports[-1][1]["endpoints"][0].get(
        "lines_kept", 0) > 2)
    [death] = place.control.told("deaths")
    assert "SIGKILL" in death["reason"] and "kept at this PoP" in death["log"][0]
    assert canary not in json.dumps(place.control.reports)
    law["rules"][0]["logs"] = "any"
    place.tell(server_image(server, "tells"), spec={**warm(), "residency": law})

    def told():
        ask()
        return any(canary in row["line"] for row in place.control.told("logs"))
    until("lines that may leave", told)


# ---- what does not start -------------------------------------------------------------------------

def test_one_that_ends_at_once_says_why(place, server):
    place.tell(server_image(server, "exit"), spec=warm())
    place.start()
    assert place.failed("ended by itself") == "it ended by itself with status 3"
    until("its last words", lambda: "no weights" in json.dumps(place.control.told("deaths")))
    until("them as a log", lambda: any("no weights" in json.dumps(row)
                                       for row in place.control.told("logs")))


@pytest.mark.parametrize("how", ["deaf", "elsewhere"])
def test_one_that_never_listens_is_given_up(place, server, how):
    startup = {"startup": {"tcp": {"port": 8080}, "period": "1s", "failures": 2, "timeout": "1s"}}
    place.tell(server_image(server, how), spec={**warm(), "probes": startup})
    place.start()
    why = place.failed("not well within 2 s")
    assert "refused" in why, why


def test_an_entry_point_that_is_not_there(place, server):
    place.tell(Image([("server", server, 0o755)], {"Entrypoint": ["/nothing"]}), spec=warm())
    place.start()
    assert "/nothing" in place.failed("could not be started")


def test_a_corrupt_layer(place, server):
    image = Image([("server", server, 0o755), ("other", os.urandom(4096), 0o644)],
                  {"Entrypoint": ["/server"]})
    place.tell(image, spec=warm())
    digest = next(key for key, data in place.control.blobs.items() if data == image.layer)
    broken = bytearray(image.layer)
    broken[len(broken) // 2] ^= 0xff
    place.control.blobs[digest] = bytes(broken)
    place.start()
    assert digest in place.failed("")
    assert not place.ours()
    place.control.blobs[digest] = image.layer
    until("an answer", place.answers)


@pytest.mark.root
def test_models_that_are_kept_give_way_to_an_image_on_a_full_disk(place, server):
    image = Image([("server", server, 0o755), ("other", os.urandom(11 << 20), 0o644)],
                  {"Entrypoint": ["/server"]})
    with small_disk(place.pop.home, "16m"):
        kept = place.pop.home / "models" / ("0" * 64)
        kept.mkdir(parents=True)
        (kept / "model.onnx").write_bytes(bytes(6 << 20))
        place.tell(image, spec=warm())
        place.start()
        until("an answer", place.answers)
        assert not kept.exists()
        place.pop.stop()


def test_an_engine_that_is_away_and_comes(place, server, scratch):
    place.tell(server_image(server), spec=warm())
    away = scratch / "none.sock"
    place.start(engine=away)
    assert "there is no socket" in place.failed("engine")
    away.symlink_to(place.engine.socket)
    until("an answer", place.answers)


def test_an_engine_that_ends_and_comes_again(place, engine, server):
    place.tell(server_image(server), spec=warm())
    place.start()
    until("an answer", place.answers)
    before = place.ours()[0]["Id"]
    if engine.name == "Podman":
        engine.kill()  # what it started lives on
        assert place.answers()
    else:
        engine.stop()  # and ends what it started
    engine.start()
    until("an answer", place.answers)
    until("one alone", lambda: len(place.ours()) == 1)
    if engine.name == "Podman":
        assert place.ours()[0]["Id"] == before


def test_requests_wait_while_an_engine_is_away(place, engine, server):
    """Each start fails meanwhile; nobody is refused, and all are answered once it is back."""
    place.tell(server_image(server), spec={"scale": {"idle": "1s"}})
    place.start()
    until("an answer", place.answers)
    until("zero", lambda: not place.ours() and not place.replicas())
    engine.stop()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = [pool.submit(place.get)]
        until("a start that failed", lambda: place.told("revision_failed"))
        until("who waits", lambda: place.pop.metric("perigee_queue_requests", endpoint="shop",
                                                    **{"class": "interactive"}) == 1)
        asked += [pool.submit(place.get) for _ in range(4)]
        until("who comes later", lambda: place.pop.metric(
            "perigee_queue_requests", endpoint="shop", **{"class": "interactive"}) == 5)
        engine.start()
        assert [one.result()[0] for one in asked] == [200] * 5


def test_an_image_that_nobody_needs_goes_once_the_engine_is_back(place, engine, server):
    """The engine was away when its endpoint was deleted."""
    image = server_image(server, "loud", Env=["OF=nobody-else"])
    place.tell(image, spec={"scale": {"idle": "1s"}})
    place.start()
    until("an answer", place.answers)
    until("zero", lambda: not place.ours())
    engine.stop()
    place.control.first = [event("synced", 300, {"uids": []})]
    place.control.events.put(event("gone", 299, {"uid": 1}))
    until("that it is gone", lambda: place.control.reports[-1][1]["endpoints"] == [])
    engine.start()
    until("its end", lambda: engine.ask("GET", f"/v1.41/images/{image.digest}/json")[0] == 404)
    until("a file that names none", lambda: not (place.pop.home / "pop" / "images").read_text())


def test_an_image_that_was_not_noted_goes_as_well(place, engine, server):
    """The agent was killed between giving it and noting it."""
    image = server_image(server, "loud", Env=["OF=nobody-noted"])
    place.tell(image, spec={"scale": {"idle": "1s"}})
    place.start()
    until("an answer", place.answers)
    place.pop.stop()
    place.control.events.put(CUT)  # that watch's
    (place.pop.home / "pop" / "images").unlink()
    place.start()
    until("an answer", place.answers)
    place.control.events.put(event("gone", 299, {"uid": 1}))
    until("its end", lambda: engine.ask("GET", f"/v1.41/images/{image.digest}/json")[0] == 404)


# ---- probes --------------------------------------------------------------------------------------

def test_a_command_inside_decides(place, server):
    """probes.readiness by exec; one that ends with another status than 0 is not well."""
    ready = {"readiness": {"exec": {"command": ["/server", "exit"]}, "period": "5s"},
             "startup": {"exec": {"command": ["/server", "exit"]}, "period": "5s", "failures": 1}}
    place.tell(server_image(server), spec={**warm(), "probes": ready})
    place.start()
    assert "ended with status 3" in place.failed("not well within 5 s")


def test_readiness_bounds_no_start(place, server):
    """Asked often it fails often: how long a start may take is queue.cold's to say."""
    ready = {"readiness": {"http": {"path": "/health"}, "period": "10ms", "failures": 1}}
    place.tell(server_image(server, "late"), spec={**warm(), "probes": ready})
    place.start()
    until("an answer", place.answers)
    assert not place.told("revision_failed")


def moody(**more):
    """Ready by /health, which GET /ill makes fail for 8 looks."""
    return {"probes": {"readiness": {"http": {"path": "/health"}, "period": "1s", "failures": 2}},
            **warm(concurrency=4, idle="1s", **more)}


def test_one_that_falls_ill_gets_nothing_until_it_is_well(place, server):
    """Its readiness has `failures` of its own, also where that probe was the startup's as well."""
    place.tell(server_image(server, "moody"), spec=moody())
    place.start()
    until("an answer", place.answers)
    assert place.get("/ill")[0] == 200
    until("that it is ill", lambda: place.told("replica_unready", "answered 503"))
    until("that it is well", lambda: len(place.told("replica_ready")) == 2)
    until("an answer", place.answers)
    assert not place.told("replica_exited")


@pytest.mark.parametrize("how", ["stopped", "replaced"])
def test_one_that_is_ill_keeps_its_requests_when_it_ends(place, server, how):
    """What it was asked before is answered, and it is ended then."""
    place.tell(server_image(server, "moody"), spec=moody())
    place.start()
    until("an answer", place.answers)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        held = pool.submit(place.get, "/hold")
        place.pop.wait_metric(lambda now: now == 1, "perigee_running_requests", endpoint="shop")
        assert place.get("/ill")[0] == 200
        until("that it is ill", lambda: place.told("replica_unready"))
        if how == "stopped":
            place.tell(server_image(server, "moody"), spec=moody(), state="stopped")
        else:
            place.tell(server_image(server), spec=warm(idle="1s"), number=2)
        until("its drain", lambda: place.replicas(state="draining"))
        assert held.result()[:2] == (200, b"held\n")
    until("its end", lambda: place.told("replica_exited", "it was stopped"))


def test_a_command_that_hangs_is_asked_for_once(place, server):
    """Each look counts as failed, and the container does not fill with them."""
    command = ["/server", "deaf", place.control.url]
    hangs = {"startup": {"exec": {"command": command}, "period": "5s", "failures": 1,
                         "timeout": "1s"}}
    place.tell(server_image(server), spec={**warm(), "probes": hangs})
    place.start()
    most = [0]

    def over():
        pids = [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*")]
        most.append([command_line(pid) for pid in pids].count(" ".join(command)))
        return place.told("revision_failed", "not well within 5 s")
    until("its end", over)
    assert "did not end in time" in place.failed("not well within 5 s")
    assert max(most) == 1, most


def test_an_engine_that_is_away_says_nothing_of_who_is_alive(place, engine, server):
    if engine.name == "Docker":
        pytest.skip("a dockerd that ends, ends its containers")
    alive = {"liveness": {"exec": {"command": ["/server", "fine"]}, "period": "5s", "failures": 1}}
    place.tell(server_image(server), spec={**warm(), "probes": alive})
    place.start()
    until("an answer", place.answers)
    before = place.ours()[0]["Id"]
    engine.kill()
    until("two looks", lambda: place.pop.log.read_text().count("command was not run") >= 2)
    assert place.answers()
    engine.start()
    until("its next look", lambda: list(place.ours())[0]["Id"] == before)
    assert not place.told("replica_exited") and not place.control.told("deaths")


def test_one_whose_liveness_fails_is_ended(place, server):
    alive = {"liveness": {"http": {"path": "/", "port": 8099}, "period": "1s", "failures": 2}}
    place.tell(server_image(server), spec={**warm(), "probes": alive})
    place.start()
    until("its end", lambda: any("probes.liveness" in row["reason"]
                                 for row in place.control.told("deaths")))


# ---- no way out ----------------------------------------------------------------------------------

def test_nothing_leads_out(place, server):
    place.tell(server_image(server, "ways"), spec=warm())
    place.start()
    until("its words", lambda: any("over" in json.dumps(row)
                                   for row in place.control.told("logs")))
    lines = [row["line"] for row in place.control.told("logs")]
    assert not [line for line in lines if "REACHED" in line]
    assert len([line for line in lines if "unreachable" in line or "refused" in line
                or "assign" in line]) >= 16
