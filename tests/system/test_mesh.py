# SPDX-License-Identifier: Apache-2.0
"""What PoPs measure of each other, in a network in a box: whom DNS names when a place dies, when a
link is cut, and when control is away. Waits end by what is seen; how long it took is nobody's test
(docs/pops.md has figures)."""
import contextlib
import http.client
import re

import dns.message
import dns.query
import pytest

from deadline import DEADLINE, until
from perigee import DIGITS
from test_fleet import Fleet, infer, named

FLEET = """
version: 1
kind: fleet
pops:
  - {name: paris, coordinates: [48.85, 2.35], country: FR}
  - {name: tokyo, coordinates: [35.69, 139.69], country: JP}
  - {name: quito, coordinates: [-0.18, -78.47], country: EC}
clients:
  - {name: near-tokyo, addresses: [127.66.0.0/16], coordinates: [35.69, 139.69], country: JP}
links:
  - {between: [paris, tokyo], rtt: 40ms}
  - {between: [paris, quito], rtt: 20ms}
  - {between: [tokyo, quito], rtt: 30ms}
"""
JAPAN, TOKYO = "127.66.0.1", "127.0.1.2"
CONTROL, PARIS = "127.0.0.1", "127.0.1.1"  # who is at the first stands in Paris, too
DNS = "box-dns"


@pytest.fixture(scope="module")
def fleet(homes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mesh")
    with Fleet.of(homes(start=False).home, folder, FLEET).running() as found:
        found.deploy(spread={"pops": 3})
        yield found


def why(fleet):
    """What DNS says of its choice, one line for each PoP."""
    question = dns.message.make_query("_why.digits.perigee.test", "TXT")
    host, port = fleet.address("dns")
    answer = dns.query.tcp(question, host, port=port, timeout=DEADLINE)
    return [str(row).strip('"') for rrset in answer.answer for row in rrset]


def of(fleet, pop):
    return next(line for line in why(fleet) if line.startswith(pop + ":"))


def explained(fleet, pop):
    """To which PoP `explain` sends a client in Japan, and its row of one."""
    said = fleet.json("explain", "digits", "--client", JAPAN)
    return (next((row["pop"] for row in said["pops"] if row["chosen"]), None),
            next(row for row in said["pops"] if row["pop"] == pop))


def ttl(fleet):
    question = dns.message.make_query("digits.perigee.test", "A")
    host, port = fleet.address("dns")
    return dns.query.udp(question, host, port=port, source=JAPAN, timeout=DEADLINE).answer[0].ttl


def metrics(fleet, pop):
    """A place's, or DNS's."""
    host, port = (fleet.dns if pop == DNS else fleet.pops[pop])["admin"][0].rsplit(":", 1)
    with contextlib.closing(http.client.HTTPConnection(host, int(port), DEADLINE)) as admin:
        admin.request("GET", "/metrics")
        text = admin.getresponse().read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.M)}


def peers(fleet, pop):
    return {row["pop"]: row for row in fleet.json("pops", "show", pop).get("peers", [])}


def rounds(fleet, pop):
    """How often its agent has asked its own gateway, which is once a second: seconds as that place
    has lived them, however busy the machine is."""
    return metrics(fleet, pop)[f'perigee_mesh_probes_total{{peer="{pop}",result="ok"}}']


def all_up(fleet):
    """As all places see each other, and as DNS names them."""
    return all(metrics(fleet, pop).get(f'perigee_mesh_up{{peer="{other}"}}') == 1
               for pop in [*fleet.pops, DNS] for other in fleet.pops) and \
        named(fleet, JAPAN) == [TOKYO] and named(fleet, CONTROL) == [PARIS] and \
        f"health and load as {DNS} measures them" in why(fleet)


@pytest.fixture(autouse=True)
def healed(fleet):
    until("all to be up", lambda: all_up(fleet))
    yield
    fleet.cli("fleet", "heal")


def test_each_place_measures_the_others(fleet):
    for pop, other, rtt in ("paris", "tokyo", 0.04), ("tokyo", "quito", 0.03), \
            ("quito", "paris", 0.02):
        name = f'perigee_mesh_rtt_seconds{{peer="{other}"}}'
        until("a round trip", lambda p=pop, n=name: metrics(fleet, p).get(n))
        assert metrics(fleet, pop)[name] >= rtt
    until("control to hear of it", lambda: peers(fleet, "paris").get("tokyo", {}).get("rtt_ms"))
    assert peers(fleet, "paris")["tokyo"]["rtt_ms"] >= 40
    assert peers(fleet, "paris")["tokyo"]["health"] == "up"
    text = fleet.cli("pops", "show", "paris").text
    assert re.search(r"tokyo +up, [\d.]+ ms", text), text
    assert ttl(fleet) == 5  # it is not up for two minutes yet


def test_a_place_that_dies_is_not_named_and_comes_back(fleet):
    def left():
        """Seen by all that ask it: some may have been asking it just then."""
        return sum(metrics(fleet, pop)['perigee_mesh_left_total{peer="tokyo"}']
                   for pop in ("paris", "quito", DNS))

    before, ended = rounds(fleet, "paris"), left()
    fleet.cli("fleet", "kill", "tokyo")
    until("DNS to name another", lambda: named(fleet, JAPAN) not in ([TOKYO], []))
    assert rounds(fleet, "paris") - before <= 2, why(fleet)
    assert left() > ended
    assert of(fleet, "tokyo") == "tokyo: down"
    # Explain says it as well, by what places say of each other, and by whom: control itself hears
    # only later that one is silent.
    _, row = until("explain to leave it out", lambda: (found := explained(fleet, "tokyo"))[1][
        "excluded"] and found)
    assert (row["excluded"], row["reached_by"]) == ("down", 0)
    assert {"paris", "quito"} <= set(row["missed"]) and row["state"] == "ready"
    assert re.search("tokyo: not reached by (box-dns, )?paris, quito$", fleet.cli(
        "explain", "digits", "--client", JAPAN).text, re.M)
    fleet.cli("fleet", "heal", "tokyo")
    until("it to be back", lambda: named(fleet, JAPAN) == [TOKYO])
    assert metrics(fleet, DNS)['perigee_mesh_up{peer="tokyo"}'] == 1  # not at its first answer
    until("explain to have it back", lambda: explained(fleet, "tokyo")[0] == "tokyo")


def watches(fleet):
    """How many control has ever been opened."""
    _, _, text = fleet.request("GET", "/metrics", listener="control")
    return sum(map(int, re.findall(rb'^perigee_control_pop_watches_begun_total{.*} (\d+)$', text,
                                   re.M)))


def test_the_first_place_dies_and_dns_does_not(fleet):
    """It stands there, as control does, and has nothing of it: no connection either."""
    before, own, watched = rounds(fleet, "quito"), metrics(fleet, DNS), watches(fleet)
    pids = {home: (fleet.home / home / "lock").read_text() for home in ("fleet-dns",
                                                                       "fleet-control")}
    fleet.cli("fleet", "kill", "paris")
    until("DNS to name another", lambda: named(fleet, CONTROL) not in ([PARIS], []))
    assert rounds(fleet, "quito") - before <= 3, why(fleet)
    assert of(fleet, "paris") == "paris: down"
    assert named(fleet, JAPAN) == [TOKYO] and watches(fleet) == watched
    text = fleet.cli("infer", "digits", "--from", "paris", "--input",
                     f"image={DIGITS / 'samples' / 'digit-7.png'}").text
    assert re.search(r"\nrevision 1 at (tokyo|quito);", text), text
    fleet.cli("fleet", "heal", "paris")
    until("it to be back", lambda: named(fleet, CONTROL) == [PARIS])
    assert pids == {home: (fleet.home / home / "lock").read_text() for home in pids}
    answered = 'perigee_dns_answers_total{transport="udp",rcode="NOERROR"}'
    assert metrics(fleet, DNS)[answered] > own[answered]  # it is the same process, too


def test_a_cut_between_control_and_a_place_changes_nothing_for_clients(fleet):
    """Control and DNS stand in Paris. Tokyo is not reached from there, as all of them see; Quito
    reaches it, and so do clients."""
    fleet.cli("fleet", "cut", "paris", "tokyo")
    for one in "paris", DNS:
        until("Paris to miss it", lambda one=one: metrics(fleet, one)[
            'perigee_mesh_up{peer="tokyo"}'] == 0)
    until("control to miss it", lambda: peers(fleet, "paris")["tokyo"]["health"] == "down")
    assert named(fleet, JAPAN) == [TOKYO]
    assert metrics(fleet, "quito")['perigee_mesh_up{peer="tokyo"}'] == 1

    def halves():
        first, row = explained(fleet, "tokyo")
        assert first == "tokyo", row
        return row["reached_by"] == 1 and set(row["missed"]) - {"box-dns"} == {"paris"}

    until("explain to have the words of both", halves)  # quito's of the test before may be its last
    assert re.search("tokyo: not reached by (box-dns, )?paris, but by 1 other$", fleet.cli(
        "explain", "digits", "--client", JAPAN).text, re.M)
    with contextlib.closing(fleet.client("tokyo", JAPAN)) as connection:
        assert infer(connection).headers["Perigee-Pop"] == "tokyo"
    # It dies behind the cut: then nobody reaches it.
    fleet.cli("fleet", "kill", "tokyo")
    until("DNS to name another", lambda: named(fleet, JAPAN) not in ([TOKYO], []))


def test_control_may_be_away(fleet):
    """Places ask each other by what they know, whatever control does. To Paris, and to DNS beside
    it, all others are silent at once: it is Paris that is cut off, and clients are sent where they
    were, while it lasts and when it ends."""
    asked = 'perigee_mesh_probes_total{peer="tokyo",result="ok"}'
    before = metrics(fleet, "quito")[asked]

    def missed(state, *pops):
        assert named(fleet, JAPAN) == [TOKYO], why(fleet)
        return all(state(pop) for pop in pops)

    fleet.cli("fleet", "cut", "paris")  # control's place, from all
    until("quito to miss Paris", lambda: missed(lambda pop: metrics(fleet, pop)[
        'perigee_mesh_up{peer="paris"}'] == 0, "quito"))
    until("it to ask on", lambda: metrics(fleet, "quito")[asked] > before)
    assert metrics(fleet, "quito")['perigee_mesh_up{peer="tokyo"}'] == 1
    for one in "paris", DNS:
        until("Paris to miss all", lambda one=one: missed(lambda pop: metrics(fleet, one)[
            f'perigee_mesh_up{{peer="{pop}"}}'] == 0, "tokyo", "quito"))
    assert metrics(fleet, DNS)['perigee_mesh_up{peer="paris"}'] == 1
    with contextlib.closing(fleet.client("tokyo", JAPAN)) as connection:
        assert infer(connection).headers["Perigee-Pop"] == "tokyo"
    more = rounds(fleet, "paris") + 5
    until("some more time", lambda: missed(lambda pop: rounds(fleet, pop) > more, "paris"))
    fleet.cli("fleet", "heal")
    for one in "paris", DNS:
        until("all to be up", lambda one=one: missed(lambda pop: metrics(fleet, one)[
            f'perigee_mesh_up{{peer="{pop}"}}'] == 1, "tokyo", "quito"))


def test_a_forged_question_finds_nothing(fleet):
    host, port = fleet.pops["tokyo"]["gateway"][0].rsplit(":", 1)
    mac = "0123456789abcdef" * 4
    for hop in None, f"v1; from=paris; to=tokyo; client=-; deadline=0; id=x; mac={mac}", "v1", \
            f"v1; from=tokyo; to=tokyo; client=-; deadline=0; id=x; mac={mac}":
        with contextlib.closing(http.client.HTTPConnection(host, int(port), DEADLINE)) as asker:
            asker.request("GET", "/.perigee/mesh", headers={"Perigee-Hop": hop} if hop else {})
            answer = asker.getresponse()
            answer.read()
            assert answer.status in (400, 404), hop
