# SPDX-License-Identifier: Apache-2.0
"""What `explain` says, over rules by chance: it names no PoP that the law denies, and denies none
that the law allows. The law is read here as docs/residency.md has it: CONTROL_ALONE=...
check_law.py"""
import os
import random
import tempfile
import unittest

from pops_case import Joined

EU = {"AT", "DE", "ES", "FR", "IT", "PL", "SE"}  # those of it that stand here
PLACES = ["FR", "FR", "DE", "IT", "CH", "NO", "US", "JP", "BR", ""]  # of PoPs
CLIENTS = ["FR", "DE", "SE", "CH", "NO", "US", "JP", "ZA", None]  # None: nobody knows
ROUNDS, RULES = 150, 3


def address(client):
    return f"203.0.113.{1 + CLIENTS.index(client)}"


def listed(draw, words):
    if words and draw.random() < 0.3:
        return draw.choice(words)
    names = ["EU", "EEA", *{*PLACES, *filter(None, CLIENTS)} - {""}]
    return draw.sample(sorted(names), draw.randint(1, 3))


def holds(where, country, client=None):
    if where == "any":
        return True
    if not country:
        return False
    if where == "same-country":
        return country == client
    return country in where or (country in EU and bool({"EU", "EEA"} & {*where})) or (
        country == "NO" and "EEA" in where)


class Law:
    def __init__(self, draw):
        count = draw.randint(1, RULES)
        self.rules = [{"clients": listed(draw, ["any"] if last else []),
                       "process_in": listed(draw, ["any", "same-country"])}
                      for last in [False] * (count - 1) + [True]]
        self.unknown = draw.choice(["refuse", "DE"])

    def spec(self):
        return {"rules": self.rules, "unknown_client": self.unknown}

    def process(self, client, pop):
        asks = any(rule["clients"] != "any" or rule["process_in"] == "same-country"
                   for rule in self.rules)
        if client is None and self.unknown == "refuse" and asks:
            return False
        client = client or (None if self.unknown == "refuse" else self.unknown)
        for rule in self.rules:
            if holds(rule["clients"], client):
                return holds(rule["process_in"], pop, client)
        return False


class Explained(Joined):
    def setUp(self):
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.writelines(f"{address(client)}/32 {client}\n" for client in CLIENTS if client)
        self.addCleanup(os.unlink, file.name)
        os.environ["PERIGEE_ADDRESSES"] = file.name
        self.addCleanup(os.environ.pop, "PERIGEE_ADDRESSES")
        super().setUp()
        self.country = {"local": ""}
        for i, country in enumerate(PLACES):
            name = f"pop-{i}"
            self.country[name] = country
            pop = self.there(name, **({"country": country} if country else {}))
            self.ok(pop.report())

    def test_nothing_denied_is_named(self):
        draw, named, denied = random.Random(7), 0, 0
        for number in range(ROUNDS):
            law = Law(draw)
            with self.subTest(number=number, law=law.spec()):
                self.ok(self.control.deploy(residency=law.spec(), spread={"pops": len(PLACES)}),
                        200, 201, 202)
                placed = self.places()
                for client in CLIENTS:
                    said = self.get(f"/endpoints/digits/explain?client={address(client)}")
                    self.assertEqual(said["client"]["country"], client)
                    self.assertLessEqual({*placed}, {row["pop"] for row in said["pops"]})
                    for row in said["pops"]:
                        may = law.process(client, self.country[row["pop"]])
                        named += row["excluded"] is None
                        denied += not may
                        if row["pop"] in placed and row["state"] == "ready":
                            self.assertEqual(row["excluded"] is None, may, row)
                        self.assertTrue(may or not (row["chosen"] or row["near"]), row)
                        self.assertTrue(may or row["excluded"], row)
        self.assertGreater(named, 100)
        self.assertGreater(denied, 100)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
