# SPDX-License-Identifier: Apache-2.0
"""`perigee explain REQUEST_ID`: where a request went and why, as the PoPs remember it, and nothing
of what it said or of who asked."""
import contextlib
import json
import re

import pytest

from deadline import until
from test_fleet import BODY, Fleet

FLEET = """
version: 1
kind: fleet
pops:
  - {name: one, coordinates: [48.85, 2.35], country: FR}
  - {name: two, coordinates: [35.69, 139.69], country: JP}
clients:
  - {name: near, addresses: [127.67.0.0/16], coordinates: [48.8, 2.3], country: FR}
"""


@pytest.fixture(scope="module", name="fleet")
def _fleet(homes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    with Fleet.of(homes(start=False).home, folder, FLEET).running() as found:
        found.deploy(regions=["two"], spread={"pops": 1})
        yield found


def asked(fleet, pop, **headers):
    with contextlib.closing(fleet.client(pop, "127.67.0.1")) as connection:
        connection.request("POST", "/v2/models/digits/infer", BODY, headers)
        answer = connection.getresponse()
        answer.read()
        return answer


def explained(fleet, request):
    """Once it has ended at the gateways as well."""
    return until("the request", lambda: fleet.cli("explain", request, "--json", status=None).text)


def test_a_request_that_was_passed_on(fleet):
    """Both PoPs remember it: the one that it came to, with every figure, and who had it."""
    answer = until("the way", lambda: (got := asked(fleet, "one")).status == 200 and got)
    said = until("both", lambda: (found := json.loads(explained(
        fleet, answer.headers["X-Request-Id"])))["decisions"][1:] and found)
    assert said["pops_asked"] == said["pops_answered"] == 2
    rows = {row["pop"]: row for row in said["decisions"]}
    first = rows["one"]
    assert (first["endpoint"], first["why"], first["chosen"], first["status"], first["country"],
            first["hop"]) == ("default/digits", "away", "two", 200, "FR", False)
    two = {row["pop"]: row for row in first["pops"]}["two"]
    assert two["chosen"] and two["rtt_ms"] > 100
    # The relay tells how far the client is; the hop's own connection is not its.
    assert first["client_rtt_source"] == "trusted peer" and 14 < first["client_rtt_ms"] < 16
    assert two["total_ms"] >= two["rtt_ms"] + first["client_rtt_ms"] - 0.01
    assert rows["two"]["client_rtt_ms"] is None and rows["two"]["client_rtt_source"] is None
    assert {row["pop"]: row for row in first["pops"]}["one"]["excluded"] == \
        "no replica is placed there"
    assert rows["two"]["hop"] and rows["two"]["why"] == "here" and not rows["two"]["pops"]
    text = fleet.cli("explain", answer.headers["X-Request-Id"]).text
    assert "answered by two: the endpoint is not placed where it came to" in text
    assert re.search(r"^two +\d+\.\d +\w+ .*chosen", text, re.M)
    assert re.search(r"TOTAL has its client's way there as well: 1\d\.\d \(trusted peer\)",
                     " ".join(text.split()))
    assert max(map(len, text.splitlines())) <= 80
    assert "127.67" not in json.dumps(said) and "FP32" not in json.dumps(said)


def test_a_request_that_was_served_where_it_came_to(fleet):
    answer = asked(fleet, "two", **{"X-Request-Id": "mine-1"})
    assert answer.status == 200 and answer.headers["X-Request-Id"] == "mine-1"
    said = json.loads(explained(fleet, "mine-1"))
    [row] = said["decisions"]
    assert (row["pop"], row["chosen"], row["why"], row["pops"]) == ("two", "two", "here", [])
    assert "nobody else was looked at" in fleet.cli("explain", "mine-1").text


def test_requests_that_nobody_remembers(fleet):
    for request in ("0" * 16, "digits", "x" * 64, "a%20b"):
        done = fleet.cli("explain", request, status=1)
        assert "no PoP remembers request" in done.said and "2 of 2 answered" in done.said
    assert "at most 64" in fleet.cli("explain", "x" * 65, status=1).said
    # The ring goes on: an old one is forgotten.
    asked(fleet, "two", **{"X-Request-Id": "old"})
    explained(fleet, "old")
    with contextlib.closing(fleet.client("two", "127.0.1.2")) as connection:
        for _ in range(300):
            connection.request("POST", "/v2/models/digits/infer", BODY)
            connection.getresponse().read()
    until("it to be forgotten", lambda: "no PoP remembers" in fleet.cli(
        "explain", "old", status=None).said)


def test_answers_to_questions_that_nobody_asked(fleet):
    """A PoP may say what it likes: only what is waited for counts."""
    status, _, _ = fleet.request("POST", "/api/v1/pops/one/answers", {"question": 99},
                                 listener="control")
    assert status == 401  # without its secret
