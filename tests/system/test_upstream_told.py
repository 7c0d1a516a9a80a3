# SPDX-License-Identifier: Apache-2.0
"""What an upstream hears beside requests, what it says before answers, and what is counted."""
from deadline import DEADLINE, until
from oip import Wire
from test_upstream import get, plain, post, scripted, spec
from upstream import OK, Scripted, serving


def test_a_probe_leaves_no_connection_idle(perigee):
    def serve(upstream, connection):
        while (request := connection.request()) is not None:
            upstream.requests.put(request)
            connection.send(OK)

    upstream = Scripted(serve)
    try:
        perigee.cli("apply", "-f", "-", stdin=spec(
            "frugal", upstream, probes={"readiness": {"http": {"path": "/health"}}}))
        probe = upstream.requests.get(timeout=DEADLINE)
        assert (probe.target, probe.value("Connection")) == ("/health", "close")
        assert upstream.ended.get(timeout=DEADLINE) == ""
        perigee.cli("delete", "frugal", "--yes")
    finally:
        upstream.close()


def test_what_it_is_asked_for_is_counted(perigee):
    with scripted(perigee, "counted", serving(plain)), Wire(perigee) as wire:
        for _ in range(5):
            assert wire.send(post("counted.localhost", "/", "body")).answer().status == 200
        perigee.cli("stop", "counted")
        until("all to be counted", lambda: [
            (row["requests"], row["failures"], row["bytes_in"], row["bytes_out"])
            for row in perigee.json("usage", "counted")["items"]] == [(5, 0, 20, 10)])


def test_what_comes_before_an_answer_is_passed_on(perigee):
    def answer(connection, request):
        connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)

    with scripted(perigee, "hints", serving(answer)), Wire(perigee) as wire:
        hint = wire.send(get("hints.localhost")).answer()
        assert (hint.status, hint.headers) == (103, {"link": "</a>"})
        assert wire.answer().body == b"ok"
        old = wire.send(get("hints.localhost", version="HTTP/1.0")).answer()
        assert (old.status, old.body) == (200, b"ok")  # who asks so does not know it
