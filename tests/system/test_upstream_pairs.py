# SPDX-License-Identifier: Apache-2.0
"""An upstream whose name has two addresses."""
import contextlib
import json

import pytest

from deadline import until
from upstream import OK, Scripted, serving


def plain(connection, request):
    connection.send(OK)


@contextlib.contextmanager
def two(perigee, name, first, second, **more):
    """One name, two addresses."""
    one = Scripted(first)
    other = Scripted(second, "127.0.0.2", one.port)
    try:
        perigee.cli("apply", "-f", "-", stdin=json.dumps({
            "name": name, "upstream": f"http://pair.test:{one.port}", **more}).encode())
        until("both to be ready", lambda: [row["state"] for row in perigee.json("show", name)[
            "replicas"]] == ["ready", "ready"])
        yield one, other
        perigee.cli("delete", name, "--yes")
    finally:
        one.close()
        other.close()


@pytest.fixture
def pairs(new_perigee, scratch):
    """A Perigee whose /etc/hosts has a name with two addresses."""
    hosts = scratch / "hosts"
    hosts.write_text("127.0.0.1 localhost pair.test\n127.0.0.2 pair.test\n")
    perigee = new_perigee(start=False)
    perigee.wrap = ["unshare", "-m", "sh", "-c",
                    f"mount --bind {hosts} /etc/hosts && exec \"$@\"", "sh"]
    return perigee.start()


def silent(upstream, connection):
    while (request := connection.request()) is not None:
        upstream.requests.put(request)
        if request.target == "/hang":
            connection.until(b"never")
        return  # without a byte


@pytest.mark.root
def test_what_fails_at_one_address_is_tried_at_the_other(pairs):
    perigee = pairs
    with two(perigee, "pair", silent, serving(plain)) as (bad, good):
        for _ in range(20):
            status, _, body = perigee.request("GET", "/", headers={"Host": "pair.localhost"})
            assert (status, body) == (200, b"ok")
        assert good.requests.qsize() == 20 and bad.requests.qsize() >= 5
        # Five failures in a row, and it is left alone for a while.
        assert bad.requests.qsize() < 20
        perigee.wait_metric(lambda now: now == bad.requests.qsize(),
                            "perigee_upstream_retries_total", endpoint="pair", result="elsewhere")


@pytest.mark.root
def test_one_that_hangs_is_given_up_for_the_other_in_time(pairs):
    perigee = pairs
    with two(perigee, "slowpair", silent, silent, timeout="600ms") as both:
        status, headers, _ = perigee.request("GET", "/hang", headers={"Host": "slowpair.localhost"})
        assert (status, headers["Perigee-Error"]) == (504, "deadline")
        assert [one.requests.qsize() for one in both] == [1, 1]
        status, _, _ = perigee.request("POST", "/hang", b"x", {"Host": "slowpair.localhost"})
        assert status == 504 and sum(one.requests.qsize() for one in both) == 3
