# SPDX-License-Identifier: Apache-2.0
"""`perigee infer --from`: a client that stands elsewhere resolves by our DNS, goes to the PoP that
it names, and to the next one where that fails. In a network in a box, and beside one."""
import contextlib
import http.client
import json
import re
import socket

import pytest

from deadline import DEADLINE, until
from perigee import DIGITS
from test_fleet import Fleet, named

FLEET = """
version: 1
kind: fleet
pops:
  - {name: paris, city: Paris}
  - {name: tokyo, city: Tokyo}
clients:
  - {addresses: [127.66.0.0/16, 203.0.113.0/25], city: Tokyo}
  - {addresses: [127.55.0.0/16], city: São Paulo}
  - {addresses: [198.51.100.0/24], city: New York}
links:
  - {between: [paris, São Paulo], rtt: 24ms}
"""
DIGIT = f"image={DIGITS / 'samples' / 'digit-7.png'}"


@pytest.fixture(scope="module", name="fleet")
def _fleet(homes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("from")
    with Fleet.of(homes(start=False).home, folder, FLEET).running() as found:
        found.deploy()
        until("both names", lambda: named(found, "127.66.0.1") == ["127.0.1.2"]
              and named(found, "127.55.0.1") == ["127.0.1.1"])
        yield found


def asked(fleet, place, *arguments):
    done = fleet.cli("infer", "digits", "--from", place, "--input", DIGIT, *arguments)
    return done.text, done.said


WHERE = [  # --from, what is said of it, the PoP that answers, net at least
    ("Tokyo", "From Tokyo (127.66.0.1) digits.perigee.test is 127.0.1.2 (tokyo) for ", "tokyo", 0),
    ("tokyo, JP", "From tokyo, JP (127.66.0.1) ", "tokyo", 0),
    ("127.66.3.4", "From 127.66.3.4 digits.perigee.test is 127.0.1.2 (tokyo) for ", "tokyo", 0),
    ("Sao Paulo", "From Sao Paulo (127.55.0.1) digits.perigee.test is 127.0.1.1 (paris) for ",
     "paris", 24),
    ("paris", "From paris (127.0.1.1) ", "paris", None),  # who stands where a PoP does
    # Told to DNS by a client subnet; connections come from that place where the box has one.
    ("203.0.113.7", "is 127.0.1.2 (tokyo) for ", "tokyo", 0),
    ("New York", "From New York (198.51.100.1), told to DNS alone, ", "paris", None),
    ("192.0.2.9", "From 192.0.2.9, told to DNS alone, ", None, None),
]


@pytest.mark.parametrize("place,words,pop,net", WHERE, ids=[row[0] for row in WHERE])
def test_where_a_client_goes(fleet, place, words, pop, net):
    text, said = asked(fleet, place)
    assert words in text and "going on" not in said, (text, said)
    assert max(map(len, text.split("\nrevision ")[0].splitlines())) <= 80, text
    if pop:
        assert f"\nrevision 1 at {pop}; " in text and f"\n{pop}: " in text, text  # and why
    timing = re.search(r"net;dur=([\d.]+)", text)
    if net is not None:
        assert timing and float(timing[1]) >= net, text
    assert re.search(r"^ *7 █{20}", text, re.M)


def test_json_is_the_answer_alone(fleet):
    text, said = asked(fleet, "Tokyo", "--json")
    assert json.loads(text)["outputs"][0]["name"] == "label"
    assert "From Tokyo" in said and "at tokyo;" in said


def test_without_control_and_with_flags(fleet):
    """The zone is told, or the usual one; nothing else of it is control's."""
    text, _ = asked(fleet, "Tokyo", "--zone", "perigee.test", "--dns",
                    "%s:%d" % fleet.address("dns"))
    assert "at tokyo;" in text
    text, _ = asked(fleet, "Tokyo", "--control", "http://127.0.0.1:1", "--image",
                    "8x8,gray,flat,0:16,invert")
    assert "at tokyo;" in text


REFUSED = [
    (["--from", "Lima"], 1, "no clients stand in Lima; there are: Tokyo, São Paulo, New York"),
    (["--from", "Atlantis"], 1, "Atlantis"),
    (["--from", "Paris,US"], 1, "no clients stand in Paris,US"),
    (["--from", "Tokyo", "--url", "http://localhost:8000"], 2, "wants an address"),
    (["--from", "Tokyo", "--url", "ftp"], 2, "--url"),
    (["--dns", "127.0.0.1:53"], 2, "--dns stands beside --from"),
    (["--from", "Tokyo", "--dns", "nowhere"], 2, "--dns wants an address"),
    (["--from", "Tokyo", "--dns", "127.0.0.1:1"], 1, "no answer of DNS at 127.0.0.1:1"),
    (["--from", "Tokyo", "--zone", "example.org"], 1, "not in the server's zone"),
    (["--from", "Tokyo", "--zone", "a..b"], 2, "--zone"),
]


@pytest.mark.parametrize("arguments,status,words", REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_refused(fleet, arguments, status, words):
    done = fleet.cli("infer", "digits", "--input", DIGIT, *arguments, status=status)
    assert words in done.said


def test_a_client_that_chooses_its_pop_itself(fleet):
    url = "http://" + fleet.pops["paris"]["gateway"][0]
    done = fleet.cli("infer", "digits", "--input", DIGIT, "--from", "Tokyo", "--url", url)
    assert "From Tokyo (127.66.0.1) to 127.0.1.1 (paris), without asking DNS" in done.text
    assert "at paris;" in done.text and float(re.search(r"net;dur=([0-9.]+)", done.text)[1]) > 100


def test_names_that_there_are_not(fleet):
    done = fleet.cli("infer", "nothing", "--from", "Tokyo", "--input", DIGIT, status=1)
    assert "there is no such name" in done.said
    fleet.cli("apply", "-f", "-", "--no-wait", stdin=json.dumps({
        "name": "at-home", "model": str(DIGITS / "digits.onnx"),
        "residency": {"process_in": "same-country"}}).encode())
    until("the refusal", lambda: "residency permits none" in fleet.cli(
        "infer", "at-home", "--from", "Sao Paulo", "--input", DIGIT, status=1).said)
    fleet.cli("delete", "at-home", "--yes")


def test_show_says_how_far_clients_are(fleet):
    """By country and PoP, as the trusted relay tells of each connection; control's sums are those
    of the PoPs' own histograms."""
    def counted(country):
        return sum(int(count) for pop in fleet.pops for count in re.findall(
            r'perigee_country_rtt_seconds_count{project="default",endpoint="digits",'
            rf'country="{country}"}} (\d+)', page(pop)))

    def page(pop):
        host, port = fleet.pops[pop]["admin"][0].rsplit(":", 1)
        with contextlib.closing(http.client.HTTPConnection(host, int(port), DEADLINE)) as admin:
            admin.request("GET", "/metrics")
            return admin.getresponse().read().decode()

    before = counted("JP"), counted("BR")
    for place in ("Tokyo", "Tokyo", "Sao Paulo"):
        asked(fleet, place)
    until("the histograms", lambda: (counted("JP"), counted("BR")) == (before[0] + 2,
                                                                       before[1] + 1))
    assert re.search(r'perigee_country_rtt_seconds_bucket{project="default",endpoint="digits",'
                     r'country="BR",le="0.05"} [1-9]', page("paris"))
    shown = until("the reports", lambda: (said := fleet.json("show", "digits")["clients"])
                  and said["requests"] == counted("[^\"]+") and said)
    countries = {row["country"]: row for row in shown["countries"]}
    assert countries["JP"]["requests"] == before[0] + 2
    assert countries["BR"]["requests"] == before[1] + 1
    assert countries["BR"]["rtt_mean_ms"] >= 24 and countries["JP"]["rtt_mean_ms"] >= 14.4
    assert {row["pop"] for row in shown["pops"]} == {"paris", "tokyo"}
    assert 0.5 < shown["under_50ms"] <= 1 and shown["requests"] == sum(
        row["requests"] for row in shown["pops"])
    text = fleet.cli("show", "digits").text
    assert re.search(r"^clients  \d+ requests, \d+.\d % of them from under 50 ms, ", text, re.M)
    assert re.search(r"^BR +\d+ +\d+\.\d % +\d+\.\d ms", text, re.M)
    assert re.search(r"^tokyo +\d+ +\d+\.\d % +\d+\.\d ms", text, re.M)
    assert max(map(len, text[text.index("\nclients"):].splitlines())) <= 80


def test_a_pop_dies_and_its_clients_go_on(fleet):
    """The address that DNS names does not answer; a fresh answer has another, or the other one."""
    fleet.cli("fleet", "kill", "tokyo")
    text, said = asked(fleet, "Tokyo")
    assert "at paris;" in text or "at paris;" in said
    fleet.cli("fleet", "heal", "tokyo")
    fleet.wait_state("tokyo", "up")


def test_a_city_wants_a_box(new_perigee):
    one = new_perigee()
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    done = one.cli("infer", "digits", "--from", "Tokyo", "--input", DIGIT, status=1)
    assert "none runs with the home" in done.said
    text = until("the name", lambda: one.cli("infer", "digits", "--from", "127.0.3.4", "--input",
                                             DIGIT, status=None).text)
    assert "at local;" in text


def test_a_server_that_answers_nonsense(fleet):
    """Forged and broken answers are not taken: nothing is gone to."""
    import threading
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind(("127.0.0.1", 0))

        def lie():
            question, asker = liar.recvfrom(65535)
            liar.sendto(b"\0\0" + question[2:], asker)  # another's number, and no answer
            liar.sendto(b"x", asker)
            liar.sendto(question[:2] + b"\x85\0\0\1\0\1\0\0\0\0" + question[12:-11] + b"\xc0",
                        asker)  # says of one record, and breaks off

        thread = threading.Thread(target=lie)
        thread.start()
        done = fleet.cli("infer", "digits", "--from", "Tokyo", "--input", DIGIT, "--dns",
                         "127.0.0.1:%d" % liar.getsockname()[1], status=1)
        thread.join()
    assert "broken" in done.said
