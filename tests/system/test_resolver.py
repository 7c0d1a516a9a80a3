# SPDX-License-Identifier: Apache-2.0
"""Two PoPs, clients of two subnets, and one resolver that they share: what differs by subnet is
kept apart in its cache, and what does not is asked once."""
import json
import subprocess

import pytest

from deadline import DEADLINE, until
from resolver import resolve, unbound
from test_dns import ZONE
from test_dns_alone import MODEL, Named
from test_processes import ZEROS, right

# Each country has a /16, of which the resolver tells a /24.
FRENCH, JAPANESE = "127.66.1.1", "127.67.1.1"
PARIS, TOKYO = "127.0.1.1", "127.0.1.2"
NAME = f"digits.{ZONE}"


@pytest.fixture(name="named")
def _named(new_perigee, scratch):
    named = Named(new_perigee, scratch)
    with open(named.map, "a", encoding="ascii") as file:
        file.write("127.66.0.0/16 FR 48.9 2.4\n127.67.0.0/16 JP 35.7 139.7\n")
    named.both()
    named.serve()
    named.control.cli("apply", "-f", "-", stdin=(
        f"name: digits\nmodel: {MODEL}\nspread: {{pops: 2}}\n").encode())
    named.until_both()
    return named


def test_what_differs_by_subnet_is_kept_apart(named, scratch):
    with unbound(scratch, ZONE, named.server.address("dns")) as resolver:
        def told(source):
            return [row.address for rrset in resolve(resolver, NAME, source=source).answer
                    for row in rrset]

        def asked():
            return named.server.metric("perigee_dns_client_subnets_total")

        for _ in range(3):  # in turns: neither is told what the other was
            assert (told(FRENCH), told(JAPANESE)) == ([PARIS], [TOKYO])
        # The scope is the country's block: who else is in it is answered out of the cache, as are
        # those who ask again.
        before = asked()
        for host in range(1, 51):
            assert told(f"127.66.{host}.7") == [PARIS] and told(f"127.67.{host}.7") == [TOKYO]
        assert asked() - before <= 20  # of 100: two each time the answer's TTL is over
        # Nearest by name, to an inference.
        for source, pop in (FRENCH, "paris"), (JAPANESE, "tokyo"):
            port, [address] = named.ports[pop], told(source)
            done = subprocess.run(
                ["curl", "-sSi", "--interface", source, "--resolve", f"{NAME}:{port}:{address}",
                 "-H", "Content-Type: application/json", "-d", json.dumps(ZEROS),
                 f"http://{NAME}:{port}/v2/models/digits/infer"],
                capture_output=True, timeout=DEADLINE, check=True)
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            assert f"perigee-pop: {pop}".encode() in head.lower() and right(body), head
        # What one subnet is told anew is not told to the other.
        named.pops["tokyo"].stop()
        until("another answer for its clients", lambda: told(JAPANESE) == [PARIS])
        assert told(FRENCH) == [PARIS]
