# SPDX-License-Identifier: Apache-2.0
"""An agent whose control is spoken for by the test: messages that are late, cut, repeated or
nonsense, reports that are refused, pulls that break off."""
import os
import re
import threading
import time

import pytest

from deadline import until
from fake_control import CUT, FakeControl, event
from test_processes import infer, right


@pytest.fixture(name="control")
def _control():
    control = FakeControl()
    yield control
    control.close()


@pytest.fixture(name="join")
def _join(control, new_perigee, scratch):
    def join(*more):
        pop = new_perigee(part="pop", start=False)
        (scratch / "token").write_text("pgj_" + "0" * 32)
        pop.start("--join", control.url, "--token-file", scratch / "token", *more)
        return pop
    return join


def serves(pop):
    status, body = infer(pop)
    return status == 200 and right(body)


def replica_ids(control):
    """Of the last report."""
    return [row["id"] for row in control.reports[-1][1]["replicas"]]


def test_events_out_of_order_repeated_cut_and_odd(control, join):
    digits = control.endpoint()
    control.first = [event("endpoint", 10, digits), event("synced", 10, {"uids": [1]})]
    pop = join()
    until("it to serve", lambda: serves(pop))
    until("its replica", lambda: len(replica_ids(control)) == 1)
    before = replica_ids(control)

    def heard(uid):
        """All that was sent before has been taken: this endpoint is known."""
        control.events.put(event("endpoint", 20 + uid, control.endpoint(f"e{uid}", uid, 0)))
        until("the next event", lambda: pop.metric("perigee_endpoints") == uid)

    control.events.put(event("endpoint", 12, digits))
    control.events.put(event("endpoint", 12, digits))  # twice
    control.events.put(event("endpoint", 9, control.endpoint(replicas=0)))  # what was before
    control.events.put(event("gone", 11, {"uid": 1}))
    control.events.put(event("endpoint", 11, control.endpoint(state="stopped")))
    control.events.put(event("gone", 13, {"uid": 77}))  # never heard of
    for odd in ({"uid": 1}, {"uid": 1 << 60, "name": "x"}, [], "x", {**digits, "spec": 7},
                {**digits, "revisions": "none"}):
        control.events.put(event("endpoint", 14, odd))
        control.events.put(event("gone", 14, {"uid": "1"}))
    control.events.put(b"event: endpoint\nid: 15\ndata: {\"uid\": 1,\n\n")
    control.events.put(b"event: what\nid: x\n\n\n\nid: 16\n\ndata: 1\n\n: ping\n\n")
    heard(2)
    assert serves(pop)
    # Cut in the midst of an event, and in the midst of the state: nothing is concluded from it.
    control.events.put(event("gone", 40, {"uid": 1})[:-6])
    control.first, whole = [], control.first
    control.events.put(CUT)
    until("the next watch", lambda: control.watches == 2)
    control.events.put(CUT)
    until("the one after it", lambda: control.watches == 3)
    control.first = whole
    control.events.put(CUT)
    until("the whole state", lambda: control.watches == 4 and pop.metric(
        "perigee_control_connected") == 1)
    heard(2)
    assert serves(pop)
    control.reports.clear()
    until("a report", lambda: control.reports)
    assert replica_ids(control) == before


def begins(number, resumed, epoch="00000000000000a1"):
    return event("begins", number, {"epoch": epoch, "resumed": resumed})


def test_a_watch_goes_on_where_it_was_cut(control, join):
    """Numbers of an epoch, as control says it; what does not fit to them is told anew, all of it,
    and takes nothing away meanwhile."""
    digits = control.endpoint()
    whole = [begins(10, False), event("endpoint", 10, digits), event("synced", 10, {"uids": [1]})]
    control.first = whole
    pop = join()
    until("it to serve", lambda: serves(pop))
    control.events.put(event("endpoint", 20, control.endpoint("e2", 2, 0)))
    until("the second", lambda: pop.metric("perigee_endpoints") == 2)
    control.first = [begins(21, True), event("gone", 21, {"uid": 2}),
                     event("endpoint", 21, control.endpoint("e3", 3, 0)),
                     event("endpoint", 21, control.endpoint("e4", 4, 0)),
                     event("synced", 21, {"uids": [1, 3, 4]})]
    control.events.put(CUT)
    until("what has changed", lambda: pop.metric("perigee_endpoints") == 3)
    until("it to be in touch", lambda: pop.metric("perigee_control_connected") == 1)
    assert control.marks == [None, "00000000000000a1-20"]
    # Half of what has changed: it is told again.
    control.first = [begins(30, True), event("gone", 30, {"uid": 4})]
    control.events.put(CUT)
    until("the first half", lambda: pop.metric("perigee_endpoints") == 2)
    control.first = [begins(31, True), event("gone", 31, {"uid": 4}), event("gone", 31, {"uid": 3}),
                     event("synced", 31, {"uids": [1]})]
    control.events.put(CUT)
    until("all of it", lambda: pop.metric("perigee_endpoints") == 1)
    assert control.marks[2:] == ["00000000000000a1-21"] * 2
    # Another epoch, or an endpoint that it was never told of: all, please.
    for odd in ([begins(40, True, "00000000000000a2"), event("synced", 40, {"uids": []})],
                [begins(41, True), event("synced", 41, {"uids": [1, 77]})],
                [event("begins", 42, {"epoch": 7}), event("synced", 42, {"uids": []})]):
        seen = len(control.marks)
        control.first = lambda mark, odd=odd: [*odd, CUT] if mark else whole
        control.events.put(CUT)
        until("both watches", lambda seen=seen: len(control.marks) == seen + 2)
        until("all of it", lambda: pop.metric("perigee_control_connected") == 1)
        assert control.marks[seen] and control.marks[seen + 1] is None
        assert pop.metric("perigee_endpoints") == 1 and serves(pop)
    # A control of before says no epoch.
    control.first = whole[1:]
    for mark in ("00000000000000a1-10", None):
        seen = len(control.marks)
        control.events.put(CUT)
        until("the next watch", lambda seen=seen: len(control.marks) == seen + 1)
        until("all of it", lambda: pop.metric("perigee_control_connected") == 1)
        assert control.marks[-1] == mark
    assert serves(pop)


def items(report):
    return sum(len(report[kind]) for kind in ("events", "deaths", "logs", "models"))


@pytest.mark.parametrize("status", [400, 413])
def test_a_report_that_is_refused_comes_in_parts(control, join, status):
    """What control cannot take at once it gets in parts; what it cannot take at all is given up,
    and nothing else is."""
    def on_report(report):
        bad = any(row["kind"] == "replica_ready" for row in report["events"])
        return status if bad or items(report) > 3 else 200

    control.on_report = on_report
    control.first = [event("endpoint", 10, control.endpoint()), event("synced", 10, {"uids": [1]})]
    pop = join()
    until("it to be told", lambda: {"replica_started", "traffic_moved", "process_started"} <=
          {row["kind"] for row in control.told()})
    until("its model", lambda: control.told("models"))
    until("the last one", lambda: pop.metric("perigee_report_items_dropped_total",
                                             reason="refused") == 1)
    seqs = [row["seq"] for row in control.told()]
    assert len(seqs) == len(set(seqs)) and sorted(seqs) == seqs
    assert "leaving that out what=event" in "".join(pop.words())
    # Where the state itself is refused nothing is given up.
    control.on_report = lambda report: status
    pid = pop.role_pid("gateway")
    os.kill(pid, 9)
    until("its end is told, again and again", lambda: [
        report for said, report in control.reports if said == status and items(report) == 0])
    control.reports.clear()
    until("again", lambda: len(control.reports) > 2)
    control.on_report = lambda report: 200
    until("its end", lambda: "process_exited" in {row["kind"] for row in control.told()})
    assert pop.metric("perigee_report_items_dropped_total") == 1


def test_a_pull_that_breaks_off(control, join):
    """It goes on where it was; a whole answer to a question for the rest is not put behind that."""
    half = len(control.model) // 2

    def on_pull(handler, offset):
        count = len(control.pulls)
        if count == 1:  # breaks off
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(control.model)))
            handler.end_headers()
            handler.wfile.write(control.model[:half])
            handler.close_connection = True
            return True
        if count == 2:  # knows no ranges
            handler.answer(200, control.model)
            return True
        return False

    control.on_pull = on_pull
    control.first = [event("endpoint", 10, control.endpoint()), event("synced", 10, {"uids": [1]})]
    pop = join()
    until("it to serve", lambda: serves(pop))
    assert control.pulls == [None, f"bytes={half}-", None]


def test_what_is_kept_gives_way_to_what_comes_before_it_is_there(control, join):
    """Once it is known how large it is: both together would be above the bound."""
    size, let = len(control.model), threading.Event()
    control.on_pull = lambda *_: not let.wait()
    control.first = [event("synced", 10, {"uids": []})]
    pop = join("--model-cache", f"{size * 3 // 2}B")
    kept = pop.home / "models" / ("0" * 64)
    kept.mkdir(parents=True)
    (kept / "model.onnx").write_bytes(bytes(size))
    try:
        control.events.put(event("endpoint", 11, control.endpoint()))
        until("the pull", lambda: control.pulls)
        until("room for it", lambda: not kept.exists())
    finally:
        let.set()
    until("it to serve", lambda: serves(pop))


def test_what_pulls_have_left_is_removed(control, join):
    """After a day, when there is the next one; with 64 of them nothing new would be pulled."""
    control.first = [event("synced", 10, {"uids": []})]
    pop = join()
    old, new = [], []
    for folder in ("uploads", "sha256"):
        (pop.home / "blobs" / folder).mkdir(parents=True, exist_ok=True)
        for i in range(70):
            path = pop.home / "blobs" / folder / f"{i:064x}"
            path.write_bytes(b"left")
            if i < 60:
                os.utime(path, (time.time() - 90_000, time.time() - 90_000))
            (old if i < 60 else new).append(path)
    control.events.put(event("endpoint", 11, control.endpoint()))
    until("it to serve", lambda: serves(pop))
    assert not [path for path in old if path.exists()]
    assert all(path.exists() for path in new)
    assert re.search("what pulls that failed had left is removed files=120", "".join(pop.words()))


def test_only_control_can_say_that_a_pop_was_deleted(control, join):
    control.first = [event("endpoint", 10, control.endpoint()), event("synced", 10, {"uids": [1]})]
    pop = join()
    until("it to serve", lambda: serves(pop))
    control.refusal = (410, {})
    control.events.put(CUT)
    until("the refusal", lambda: "refuses the watch, trying again status=410" in
          "".join(pop.words()))
    assert serves(pop)
    control.refusal = (410, {"Perigee-Error": "gone"})
    until("it to hear of it", lambda: infer(pop)[0] == 404)
    status, _, body = pop.request("GET", "/readyz", listener="admin")
    assert status == 503 and b"was deleted at control" in body
    until("its replicas' end", lambda: pop.metric("perigee_replicas") == 0)


# The fields of docs/residency.md, "What leaves a PoP towards control": one more here is one more
# there.
FIELDS = {
    "": {"instance", "sequence", "sets", "gateway_port", "peers", "replicas", "endpoints",
         "volumes", "models", "clients", "loads", "activity", "demand", "events", "deaths", "logs"},
    "replicas": {"id", "name", "endpoint", "project", "endpoint_uid", "revision", "revision_uid",
                 "pid", "state", "since", "restarts", "memory_bytes", "sandbox", "message"},
    "endpoints": {"uid", "serving", "target", "generation", "target_state", "message", "lines_kept",
                  "scale"},
    "volumes": {"endpoint_uid", "bytes"},
    "models": {"revision_uid", "platform", "inputs", "outputs", "properties"},
    "events": {"seq", "kind", "endpoint_uid", "replica", "at", "message"},
    "deaths": {"seq", "endpoint_uid", "replica", "revision", "at", "reason", "log"},
    "logs": {"seq", "endpoint_uid", "replica", "at", "line"},
    "peers": {"pop", "health", "elsewhere", "rtt_ms"},
    "loads": {"endpoint_uid", "wait_ms", "service_ms", "start_ms", "weight"},
    "clients": {"endpoint_uid", "country", "requests", "near", "rtt_us"},
    "activity": {"endpoint_uid", "window_ms", "requests", "errors", "running", "queued", "took"},
}


def test_nothing_but_what_is_written_leaves_a_pop(control, join):
    """Whatever is asked of it meanwhile: the canary is in the path, a header and the body."""
    control.first = [event("endpoint", 10, control.endpoint()), event("synced", 10, {"uids": [1]})]
    pop = join()
    until("it to serve", lambda: serves(pop))
    canary = "kanarienvogel"
    for path in ("/v2/models/digits/infer", f"/v2/models/{canary}/infer", f"/{canary}"):
        status, _, _ = pop.request("POST", f"{path}?{canary}", {canary: [canary]},
                                   {"X-Request-Id": canary, "X-Canary": canary})
        assert status >= 400
    status, _, _ = pop.request("POST", f"/v2/repository/models/digits/load?{canary}", {},
                               {"X-Request-Id": canary, "X-Canary": canary})
    assert status == 200 and len(control.asked) == 1
    assert canary not in str(control.asked)
    [pid] = until("its process", lambda: [row["pid"] for row in control.reports[-1][1]["replicas"]
                                          if row["pid"] > 1])
    os.kill(pid, 9)
    until("its death", lambda: control.told("deaths"))
    until("another", lambda: serves(pop))
    assert canary.encode() not in until("its usage", lambda: b"".join(control.usages))
    for _, report in control.reports:
        assert canary not in str(report)
        assert report.keys() <= FIELDS[""]
        for kind in FIELDS.keys() - {""}:
            for row in report.get(kind, []):
                assert row.keys() <= FIELDS[kind], kind
        demand = report.get("demand", {"window_ms": 0, "endpoints": []})
        assert demand.keys() == {"window_ms", "endpoints"}
        for row in demand["endpoints"]:
            assert row.keys() == {"uid", "clients"}
            for client in row["clients"]:
                assert client.keys() <= {"country", "latitude", "longitude", "requests"}
