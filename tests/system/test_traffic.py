# SPDX-License-Identifier: Apache-2.0
"""Revisions in traffic: canary, split, sticky, by header; rolled back under load, crashed, started
again. A share is held to five standard deviations: one run in a million is outside."""
import concurrent.futures
import http.client
import json
import math
import threading

import pytest

from deadline import DEADLINE, until
from oip import tensor
from perigee import DIGITS
from test_fleet import FLEET, Fleet

ZEROS = json.dumps({"inputs": [tensor("image", "FP32", [1, 64], [0] * 64)]})
ANY = "127.0.0.1"


def spec(memory=512, traffic=None, model=None, **more):
    """Each `memory` is another revision."""
    return {"name": "digits", "model": str(model or DIGITS / "digits.onnx"),
            "flavor": {"memory": f"{memory}MiB"}, **({"traffic": traffic} if traffic else {}),
            **more}


def apply(one, memory=512, traffic=None, status=0, **more):
    return one.cli("apply", "-f", "-", stdin=json.dumps(spec(memory, traffic, **more)).encode(),
                   status=status)


def connect(one, source=ANY):
    host, port = one.address()[:2]
    return http.client.HTTPConnection(host, int(port), timeout=DEADLINE,
                                      source_address=(source, 0))


def ask(connection, headers=None, path="/v2/models/digits/infer"):
    """(status, the revision that answered, what it said)."""
    connection.request("POST", path, ZEROS, headers or {})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    if answer.status == 200:
        assert body["model_version"] == answer.headers["Perigee-Revision"]
    return answer.status, answer.headers["Perigee-Revision"], body


def revisions(one, count, source=ANY, headers=None):
    connection = connect(one, source)
    try:
        answers = [ask(connection, headers) for _ in range(count)]
    finally:
        connection.close()
    assert {answer[0] for answer in answers} == {200}, [row for row in answers if row[0] != 200][0]
    return [int(answer[1]) for answer in answers]


def within(found, share, of):
    bound = 5 * math.sqrt(of * share * (1 - share))
    assert abs(found - of * share) <= bound, f"{found} of {of}, not {share} +- {bound:.0f}"


def sources(count):
    return [f"127.40.{i // 250}.{i % 250 + 1}" for i in range(count)]


def by_source(one, addresses):
    return {address: revisions(one, 1, address)[0] for address in addresses}


def words(text):
    return " ".join(text.split())


@pytest.fixture
def two(new_perigee):
    """Revision 1, and 2 as its canary of 10 %."""
    one = new_perigee()
    apply(one)
    apply(one, 513, {"canary": "10%"})
    return one


def test_a_canary_gets_its_share(two):
    shown = two.json("show", "digits")
    assert shown["state"] == "active" and (shown["serving"], shown["target"]) == (1, 2)
    assert shown["traffic"] == {"shares": [{"revision": 1, "weight": 900000},
                                           {"revision": 2, "weight": 100000}], "canary": 2}
    said = words(two.cli("show", "digits").text)
    assert "90% revision 1 (ready), 10% revision 2 (canary, ready)" in said
    within(revisions(two, 1000).count(2), 0.1, 1000)
    # Who names one gets it.
    for name, number in (("canary", 2), ("2", 2), ("1", 1)):
        assert set(revisions(two, 20, headers={"Perigee-Revision": name})) == {number}
    connection = connect(two)
    path = "/v2/models/digits/versions/2/infer"
    assert {ask(connection, path=path)[1] for _ in range(20)} == {"2"}
    connection.close()
    # A larger share; then the key is taken away, which promotes it.
    apply(two, 513, {"canary": "60%"})
    until("the larger share", lambda: two.json("show", "digits")["serving"] == 2)
    within(revisions(two, 400).count(2), 0.6, 400)
    apply(two, 513)
    until("it to have all", lambda: set(revisions(two, 50)) == {2})
    assert two.json("show", "digits")["traffic"] is None
    # It was asked for by number, and so stays until it has been idle.
    apply(two, 513, scale={"idle": "1s", "min": 1})
    until("the old one to end", lambda: {
        row["revision"] for row in two.json("show", "digits")["replicas"]} == {2})


def test_a_split_and_its_rollback(two):
    apply(two, 514, {"split": [{"revision": 1, "weight": 1}, {"revision": "latest", "weight": 3}]})
    until("both", lambda: two.json("show", "digits")["state"] == "active")
    assert two.json("show", "digits")["traffic"]["shares"] == [
        {"revision": 1, "weight": 1}, {"revision": 3, "weight": 3}]
    found = revisions(two, 400)
    within(found.count(3), 0.75, 400)
    assert set(found) == {1, 3}
    two.cli("rollback", "digits", "--revision", "1")
    assert set(revisions(two, 50)) == {1}
    shown = two.json("show", "digits")
    assert shown["traffic"] is None and "split" not in shown["spec"].get("traffic", {})


def test_sticky_by_address(two):
    addresses = sources(300)
    apply(two, 513, {"canary": "10%", "sticky": "address"})
    before = by_source(two, addresses)
    within(list(before.values()).count(2), 0.1, len(addresses))
    apply(two, 513, {"canary": "30%", "sticky": "address"})
    after = by_source(two, addresses)
    within(list(after.values()).count(2), 0.3, len(addresses))
    assert all(after[address] == 2 for address in addresses if before[address] == 2)
    # However many replicas there are, and while they come and go.
    for count in (3, 1):
        two.cli("scale", "digits", "--min", count, "--max", count)
        assert by_source(two, addresses) == after
        until("so many of the stable one", lambda n=count: sum(
            row["revision"] == 1 for row in two.json("show", "digits")["replicas"]) == n)
        assert by_source(two, addresses) == after
    # All of it starts again. What is not ready at the gateway yet gives its share to the other.
    of_both = {after[address]: address for address in addresses}.values()
    for end in (two.stop, two.kill):
        end()
        two.start()
        until("both again", lambda: sorted(by_source(two, of_both).values()) == [1, 2])
        assert by_source(two, addresses) == after


class Load:
    """Requests without pause, over connections of their own, until it ends."""

    def __init__(self, one, threads=4):
        self.one, self.ending = one, threading.Event()
        self.answers, self.failed = [], []
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self):
        connection = connect(self.one)
        while not self.ending.is_set():
            try:
                self.answers.append(ask(connection)[:2])
            except Exception as error:  # pylint: disable=broad-except
                self.failed.append(repr(error))
                return
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join(DEADLINE)

    def seen(self, revision):
        return (200, str(revision)) in self.answers

    def check(self):
        assert not self.failed and self.answers
        assert {status for status, _ in self.answers} == {200}


def test_a_rollback_under_load_loses_nothing(two):
    with Load(two) as load:
        until("the canary to answer", lambda: load.seen(2))
        two.cli("rollback", "digits")
        assert set(revisions(two, 100)) == {1}
        apply(two, 514, {"canary": "50%"})
        until("the next one", lambda: load.seen(3))
        apply(two, 514)  # promoted
        until("it to have all", lambda: set(revisions(two, 20)) == {3})
    load.check()


def test_a_canary_that_crashes_takes_no_traffic(new_perigee, scratch):
    one = new_perigee()
    apply(one)
    pid = one.json("show", "digits")["replicas"][0]["pid"]
    bad = scratch / "model.onnx"
    bad.write_bytes(b"no model")
    with Load(one, 2) as load:
        answer = apply(one, 513, {"canary": "50%"}, model=bad, status=1)
        with one.events() as events:
            for _ in range(3):  # its back-off goes on
                events.wait("replica_exited", endpoint="digits")
    load.check()
    assert {revision for _, revision in load.answers} == {"1"}
    assert "revision 1 keeps the traffic" in words(answer.said)
    shown = one.json("show", "digits")
    assert shown["state"] == "failed" and shown["serving"] == 1
    assert pid in [row["pid"] for row in shown["replicas"] if row["revision"] == 1]
    death = shown["deaths"][0]
    assert death["revision"] == 2 and "Protobuf parsing failed" in death["reason"]
    said = words(one.cli("show", "digits").text)
    assert "50% revision 1 (ready), 50% revision 2 (canary, " in said
    assert "Protobuf parsing failed" in said
    one.cli("rollback", "digits")
    assert one.json("show", "digits")["state"] == "active"


def test_sticky_where_another_place_answers(homes, tmp_path):
    """The place that is asked knows the address, and says in the signed hop which revision."""
    fleet = Fleet.of(homes(start=False).home, tmp_path, FLEET)
    addresses = [f"127.66.0.{i + 1}" for i in range(60)]

    def asked(address):
        connection = fleet.client("one", address)
        connection.request("POST", "/v2/models/digits/infer", ZEROS)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return (answer.status, answer.headers["Perigee-Pop"], answer.headers["Perigee-Revision"])

    with fleet.running():
        fleet.wait_joined()
        apply(fleet, 512, regions=["two"])
        apply(fleet, 513, {"canary": "50%", "sticky": "address"}, regions=["two"])
        until("it to be reached", lambda: asked(addresses[0])[0] == 200)
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            first, again = [dict(zip(addresses, pool.map(asked, addresses))) for _ in range(2)]
        assert {(status, pop) for status, pop, _ in first.values()} == {(200, "two")}
        within([number for _, _, number in first.values()].count("2"), 0.5, len(addresses))
        assert again == first


BAD = {
    "not-kept": ({"split": [{"revision": 9, "weight": 1}]},
                 "traffic.split[0]: revision 9 is not kept"),
    "no-weight": ({"split": [{"revision": 1, "weight": 0}]}, "all weights are 0"),
    "too-many": ({"split": [{"revision": i + 1, "weight": 1} for i in range(5)]},
                 "5 entries; there can be 1 to 4"),
    "twice": ({"split": [{"revision": 1, "weight": 1}] * 2}, "that revision is there twice"),
    "both": ({"canary": "10%", "split": [{"revision": 1, "weight": 1}]}, "leave one of them out"),
    "key": ({"canary": "10%", "sticky": "key"}, "'key' is not acted upon yet"),
    "shadow": ({"shadow": 1}, "'traffic.shadow' is not acted upon yet"),
    "share": ({"canary": "110%"}, "traffic.canary"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(perigee, digits, case):
    traffic, says = BAD[case]
    before = perigee.json("show", "digits")["generation"]
    answer = apply(perigee, 512, traffic, status=1)
    assert says in words(answer.said)
    assert perigee.json("show", "digits")["generation"] == before


HEADERS = {
    "none": ("canary", 404, "has no canary now"),
    "not-kept": ("7", 404, "has no revision 7"),
    "word": ("newest", 400, "neither a revision's number nor 'canary'"),
    "zero": ("0", 400, "neither"),
    "large": ("99999999999999999999", 400, "neither"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_is_refused(perigee, digits, case):
    value, status, says = HEADERS[case]
    connection = connect(perigee)
    got, _, body = ask(connection, {"Perigee-Revision": value})
    connection.close()
    assert got == status and says in body["error"]


def test_header_and_path_disagree(two):
    connection = connect(two)
    status, _, body = ask(connection, {"Perigee-Revision": "1"},
                          "/v2/models/digits/versions/2/infer")
    connection.close()
    assert status == 400 and "the path version 2" in body["error"]
