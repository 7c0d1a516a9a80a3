# SPDX-License-Identifier: Apache-2.0
"""`perigee dns`: a joined server of names, which runs nothing and is no place for anything."""
import json

import dns.rcode
import pytest

from deadline import until
from perigee import DIGITS
from test_dns import ZONE, addresses, ask, option, texts
from test_parts import Fleet, serves
from test_processes import kill, role_pid

MODEL = DIGITS / "digits.onnx"
FRANCE, JAPAN = ("198.51.100.0", 24), ("203.0.113.0", 24)


class Named(Fleet):
    """Paris and Tokyo with addresses, and a DNS server beside them."""

    def __init__(self, new, scratch):
        super().__init__(new, scratch)
        self.map = scratch / "map"
        self.map.write_text("203.0.113.0/24 JP 35.7 139.7\n198.51.100.0/24 FR 48.9 2.4\n")
        self.server, self.ports = None, {}

    def place(self, name, country, at, address):
        file = self.scratch / f"{name}.token"
        self.control.cli("pops", "create", name, "--country", country, "--at", at, "--address",
                         address, "--token-file", file)
        self.pops[name] = self.new(part="pop", start=False).start(
            "--join", self.url, "--token-file", file, "--listen-gateway", f"{address}:0")
        self.ports[name] = self.pops[name].address()[1]

    def both(self):
        self.place("paris", "FR", "48.86,2.35", "127.0.1.1")
        self.place("tokyo", "JP", "35.68,139.69", "127.0.1.2")

    def serve(self, *arguments):
        file = self.scratch / "ns.token"
        self.control.cli("pops", "create", "ns-1", "--dns", "--token-file", file)
        self.server = self.new(part="dns", start=False)
        self.server.start("--join", self.url, "--token-file", file, "--addresses", self.map,
                          *arguments)

    def named(self, subnet):
        return addresses(self.server, f"digits.{ZONE}", subnet=subnet)

    def until_both(self):
        until("both names", lambda: self.named(FRANCE) == ["127.0.1.1"]
              and self.named(JAPAN) == ["127.0.1.2"])

    def until_measured(self):
        until("what it measures", lambda: "health and load as ns-1 measures them" in texts(ask(
            self.server, f"_why.digits.{ZONE}", "TXT", subnet=JAPAN)))


@pytest.fixture(name="named")
def _named(new_perigee, scratch):
    return Named(new_perigee, scratch)


def roles(one):
    return {role for role in ("gateway", "pop", "dns", "control")
            if role_pid(one, role) is not None}


def test_dns_alone_names_the_nearest_and_is_nobodys_place(named):
    named.serve()
    server = named.server
    assert roles(server) == {"pop", "dns"}  # no gateway, no templates
    assert server.request("GET", "/readyz", listener="admin")[0] == 200
    # Alone with control there is nothing to place on; it is none of the PoPs that there are.
    named.control.cli("deploy", "digits", "--model", MODEL, "--no-wait")
    shown = named.control.json("show", "digits")
    assert shown["pops"] == [] and "ns-1" not in json.dumps(shown)
    answer = until("the name", lambda: (got := ask(server, f"digits.{ZONE}")).rcode() == 0 and got)
    assert not answer.answer and option(answer, 15).code == 14  # no PoP with an address has it yet
    assert ask(server, f"none.{ZONE}").rcode() == dns.rcode.NXDOMAIN
    named.both()
    named.apply(2)
    until("both serve", lambda: all(serves(one) for one in named.pops.values()))
    named.until_both()
    assert {row["name"] for row in named.control.json("show", "digits")["pops"]} == {"paris",
                                                                                   "tokyo"}
    assert addresses(server, ZONE, subnet=JAPAN) == ["127.0.1.2"]
    measured = "health and load as ns-1 measures them"
    why = until("what it measures", lambda: (said := texts(ask(
        server, f"_why.digits.{ZONE}", "TXT", subnet=JAPAN))) and measured in said
        and said[1].startswith("tokyo: 1") and said)  # both have said that they are warm
    assert not any(line.startswith("ns-1") for line in why)
    assert addresses(server, f"ns1.{ZONE}") == ["127.0.0.1"]
    assert server.metric("perigee_dns_answers_total") > 0
    # What it is, in words.
    rows = {row["name"]: row for row in named.control.json("pops", "list")["items"]}
    assert rows["ns-1"]["state"] == "ready" and rows["ns-1"]["spec"]["kind"] == "dns"
    assert rows["ns-1"]["replicas_placed"] == 0
    assert "(dns)" in named.control.cli("pops", "list").text
    assert "runs nothing to drain" in named.control.cli("pops", "drain", "ns-1", status=1).said
    # A stopped endpoint keeps its address, as where a gateway is.
    named.control.cli("stop", "digits")
    until("the gateways", lambda: not any(serves(one) for one in named.pops.values()))
    named.until_both()
    # Nothing of it is missed by anybody.
    server.stop()
    named.control.cli("start", "digits")
    assert all(serves(one) for one in named.pops.values())


def test_dns_alone_without_control(named):
    """Control's death is not noticed; nor is a cold boot while cut, with the agent killed."""
    named.both()
    named.apply(2)
    named.serve()
    named.until_measured()  # the PoPs have the key by which it asks them
    named.until_both()      # and a replica is ready at each
    # What it was told a moment ago is saved beside its loop.
    until("the keys on its disk", (named.server.home / "pop" / "peers.keys").exists)
    named.control.kill()
    assert named.named(JAPAN) == ["127.0.1.2"]
    kill(named.server.role_pid("pop"))
    kill(named.server.role_pid("dns"))
    named.until_both()
    named.server.kill()
    named.server.start("--addresses", named.map)
    named.until_both()
    # A PoP that dies meanwhile is not named any more: it asks them itself.
    named.until_measured()
    named.pops["tokyo"].kill()
    until("the other", lambda: named.named(JAPAN) == ["127.0.1.1"])
    named.pops["tokyo"].start("--listen-gateway", "127.0.1.2:%d" % named.ports["tokyo"])
    named.until_both()
    # It is heard again, where control comes back.
    named.control.start("--listen-control", named.url.removeprefix("http://"))
    until("its report", lambda: named.states()["ns-1"] == "ready")
    named.until_both()


def test_a_zone_and_askers_of_its_own(named):
    named.place("paris", "FR", "48.86,2.35", "127.0.1.1")
    named.apply(1)
    named.serve("--zone", "edge.example", "--why-from", "192.0.2.0/24")
    until("the name", lambda: addresses(named.server, "digits.edge.example") == ["127.0.1.1"])
    assert ask(named.server, f"digits.{ZONE}").rcode() == dns.rcode.REFUSED
    assert ask(named.server, "_why.digits.edge.example", "TXT").rcode() == dns.rcode.REFUSED


def test_upgrade(named):
    named.both()
    named.apply(2)
    named.serve()
    named.until_both()
    before = {role: named.server.role_pid(role) for role in ("pop", "dns")}
    assert json.loads(named.server.cli("upgrade", "--json").text)["version"]
    assert roles(named.server) == {"pop", "dns"}
    assert all(named.server.role_pid(role) != before[role] for role in before)
    named.until_both()


def test_pops_and_dns_servers_are_not_taken_for_each_other(named, scratch):
    named.control.cli("pops", "create", "ns-1", "--dns", "--token-file", scratch / "ns")
    named.control.cli("pops", "create", "paris", "--country", "FR", "--token-file",
                      scratch / "paris")
    pop, server = (named.new(part=part, start=False) for part in ("pop", "dns"))
    ports = ["--listen-admin", "127.0.0.1:0", "--join", named.url, "--token-file"]

    def refused(words, one, *arguments, status=1):
        done = one.cli(*arguments, status=status)
        assert words in done.said, done.said

    refused("`perigee dns`", pop, "pop", "--listen-gateway", "127.0.0.1:0", *ports, scratch / "ns")
    refused("`perigee pop`", server, "dns", *ports, scratch / "paris")
    refused("perigee dns --join", server, "dns", status=2)
    refused("--zone", server, "dns", "--zone", "a..b", *ports, scratch / "ns", status=2)
    for flag in ("--listen-gateway", "--listen-control", "--sandbox"):
        refused(flag, server, "dns", flag, "127.0.0.1:0", status=2)
    refused("nothing to run", server, "dns", *ports, scratch / "ns", "--listen-dns", "none",
            status=2)
    refused("--why-from", server, "dns", *ports, scratch / "ns", "--why-from", "x", status=2)
    refused("--beside", server, "dns", *ports, scratch / "ns", "--beside", "Paris", status=2)
    # No token was used up by that. A home stays what it has joined as.
    server.start("--join", named.url, "--token-file", scratch / "ns")
    until("it reports", lambda: named.states()["ns-1"] == "ready")
    server.stop()
    refused("nothing to run", server, "dns", "--listen-dns", "none", status=2)
    refused("joined with `perigee dns`", server, "pop", "--listen-gateway", "127.0.0.1:0",
            "--listen-admin", "127.0.0.1:0")
    for arguments, words in ((["--cpu", "4"], "limits: not of a DNS server"),
                             (["--address", "192.0.2.1"], "addresses"),
                             (["--flavor", "h100"], "flavors"),
                             (["--price-cpu", "1 EUR"], "prices")):
        refused(words, named.control, "pops", "create", "ns-2", "--dns", *arguments)
