# SPDX-License-Identifier: Apache-2.0
"""Which agents are told which secrets, and in what order: CONTROL_ALONE=... check_secrets.py.
Agents are spoken for by the test."""
import contextlib
import json
import os
import re
import socket
import unittest

from pops_case import Joined
from control_role import SECONDS

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


class Secrets(Joined):
    def image(self):
        c, layer = self.control, "no tar, and nobody unpacks it here"
        config = json.dumps({
            "architecture": MACHINE, "os": "linux",
            "config": {"Entrypoint": ["/s"], "ExposedPorts": {"80/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": [c.blob(layer)]}})
        kinds = "application/vnd.oci.image."
        return c.blob(json.dumps({
            "schemaVersion": 2, "mediaType": kinds + "manifest.v1+json",
            "config": {"mediaType": kinds + "config.v1+json", "digest": c.blob(config),
                       "size": len(config)},
            "layers": [{"mediaType": kinds + "layer.v1.tar", "digest": c.blob(layer),
                        "size": len(layer)}]}))

    def tell(self, name, value):
        self.ok(self.control.call("PUT", f"/secrets/{name}", {"value": value}))

    def shop(self, region, **env):
        spec = {"image": self.image(), "regions": [region],
                "env": {key: {"secret": name} for key, name in env.items()}}
        self.ok(self.control.call("PUT", "/endpoints/shop", spec), 200, 201, 202)

    def patch(self, spec):
        return self.control.call("PATCH", "/endpoints/shop", spec,
                                 type="application/merge-patch+json")

    def again(self, pop, mark):
        """What a watch begins with of secrets, and up to where that is all."""
        pop.events.close()
        pop.events = pop.watch(mark)
        self.addCleanup(pop.events.close)
        kind, _, begins = pop.events.next()
        self.assertEqual(kind, "begins")
        heard = []
        while True:
            kind, number, data = pop.events.next()
            if kind == "secret":
                heard.append((data["name"], data["value"]))
            if kind == "secrets":
                heard.append([row["name"] for row in data["secrets"]])
            if kind == "synced":
                return begins["resumed"], heard, f"{begins['epoch']}-{number}"

    def heard(self, pop, last="shop"):
        """Of secrets, up to the endpoint's next view, or (None) to the next list."""
        heard = []
        while True:
            kind, _, data = pop.events.next()
            if kind == "secret":
                heard.append((data["name"], data.get("value")))
            if kind == "secrets":
                heard.append([row["name"] for row in data["secrets"]])
            if (last and kind == "endpoint" and data["name"] == last) or (
                    not last and kind == "secrets"):
                return heard

    def test_who_is_told_what(self):
        c = self.control
        north, south = self.there("paris", region="north"), self.there("rome", region="south")
        self.tell("hub-token", "hush")
        self.tell("api-key", "hush too")
        self.tell("nobodys", "never said")
        self.shop("north", A="hub-token", B="api-key")
        self.assertEqual(self.heard(north), [("hub-token", "hush"), ("api-key", "hush too")])
        self.assertEqual(self.heard(south), [])  # it names the endpoint to clients, no more
        self.tell("hub-token", "changed")
        self.shop("north", A="hub-token", B="api-key", C="nobodys")
        self.assertEqual(self.heard(north), [("hub-token", "changed"), ("nobodys", "never said")])
        self.assertEqual(self.heard(south), [])
        c.call("DELETE", "/endpoints/shop")
        self.assertEqual(self.heard(north, None)[-1], [])
        self.shop("south", A="api-key")
        self.assertEqual(self.heard(south), [("api-key", "hush too")])
        self.assertEqual(self.heard(north), [])

    def test_an_agent_that_comes_again_is_told_all_first(self):
        north = self.there("paris", region="north")
        self.tell("hub-token", "hush")
        self.shop("north", A="hub-token")
        self.heard(north)
        self.control.kill()
        self.control.start()
        again = north.watch()
        self.addCleanup(again.close)
        north.events = again
        self.assertEqual(self.heard(north), [["hub-token"], ("hub-token", "hush")])

    def test_an_agent_that_was_away_is_told_what_is_new(self):
        north = self.there("paris", region="north")
        self.tell("hub-token", "hush")
        self.tell("api-key", "hush too")
        self.shop("north", A="hub-token", B="api-key")
        self.heard(north)
        self.assertEqual(self.again(north, None)[:2],
                         (False, [["hub-token", "api-key"], ("hub-token", "hush"),
                                  ("api-key", "hush too")]))
        mark = self.again(north, None)[2]
        self.assertEqual(self.again(north, mark)[:2], (True, [["hub-token", "api-key"]]))
        self.tell("api-key", "another")
        resumed, heard, newer = self.again(north, mark)
        self.assertEqual((resumed, heard),
                         (True, [["hub-token", "api-key"], ("api-key", "another")]))
        self.shop("north", B="api-key")
        self.ok(self.control.call("DELETE", "/endpoints/shop"), 202, 204)
        self.assertEqual(self.again(north, newer)[:2], (True, [[]]))

    def test_what_a_lost_key_left_untold_is_told_once_it_is_back(self):
        """Control reads it with the next secret that is told, whichever that is."""
        c, north = self.control, self.there("paris", region="north")
        self.tell("hub-token", "hush")
        self.tell("api-key", "hush too")
        self.shop("north", A="hub-token", B="api-key")
        self.heard(north)
        key, away = c.home / "control" / "seal.key", c.home / "seal.key"
        c.kill()
        key.rename(away)
        c.start()
        north.events.close()
        north.events = north.watch()
        self.addCleanup(north.events.close)
        self.assertEqual(self.heard(north), [["hub-token", "api-key"], ("hub-token", None),
                                             ("api-key", None)])
        away.rename(key)
        self.tell("nobodys", "never said")
        self.shop("north", A="hub-token", B="api-key", C="nobodys")
        self.assertEqual(self.heard(north), [("hub-token", "hush"), ("api-key", "hush too"),
                                             ("nobodys", "never said")])
        self.tell("api-key", "another")  # the key is the same: of no other again
        self.shop("north", A="hub-token", B="api-key")
        self.assertEqual([row for row in self.heard(north) if isinstance(row, tuple)],
                         [("api-key", "another")])

    def test_no_traffic_for_a_revision_whose_secret_is_gone(self):
        c = self.control
        self.there("paris", region="north")
        for name in ("first-one", "second-one", "third-one"):
            self.tell(name, "hush")
        for name in ("first-one", "second-one", "third-one"):
            self.shop("north", A=name)
        split = {"traffic": {"split": [{"revision": 2, "weight": 1},
                                       {"revision": "latest", "weight": 9}]}}
        self.ok(self.patch(split), 200, 202)
        self.refused(c.call("DELETE", "/secrets/second-one"), 409, "conflict", "'shop'")
        self.ok(c.call("DELETE", "/secrets/first-one"), 204)
        of_first = "revision 1: env.A: there is no secret 'first-one' in project 'default'"
        split["traffic"]["split"][0]["revision"] = 1
        for spec in (split, {**split, "env": {"A": "plain"}}):
            self.refused(self.patch(spec), 400, "bad_input",
                         "traffic.split[0]: " + of_first)
        self.refused(c.call("POST", "/endpoints/shop/rollback", {"revision": 1}), 400,
                     "bad_input", of_first)
        self.assertEqual(self.get("/endpoints/shop")["spec"]["traffic"]["split"][0]["revision"], 2)
        split["traffic"]["split"][0]["weight"] = 0
        self.ok(self.patch(split), 200, 202)  # it gets nothing, and is not started
        self.ok(c.call("POST", "/endpoints/shop/rollback", {"revision": 2}), 200, 202)
        self.ok(c.call("DELETE", "/secrets/third-one"), 204)
        split["traffic"]["split"][0] = {"revision": 2, "weight": 1}
        self.refused(self.patch(split), 400, "bad_input",
                     "traffic.split[1]: revision 3: env.A: there is no secret 'third-one'")
        self.tell("third-one", "hush again")
        self.ok(self.patch(split), 200, 202)
        self.refused(c.call("DELETE", "/secrets/third-one"), 409, "conflict", "'shop'")

    def regions_with(self, word):
        """Of control's memory: those that hold it, and whether a core file would have them."""
        found, region = [], None
        with open(f"/proc/{self.control.pid}/smaps", encoding="utf-8") as rows, \
                open(f"/proc/{self.control.pid}/mem", "rb", buffering=0) as memory:
            for row in rows:
                words = row.split()
                if re.fullmatch("[0-9a-f]+-[0-9a-f]+", words[0]):
                    region = [int(edge, 16) for edge in words[0].split("-")]
                elif words[0] == "VmFlags:" and region[1] - region[0] < 1 << 30:
                    with contextlib.suppress(OSError, OverflowError):  # the kernel's, or gone
                        memory.seek(region[0])
                        if word in memory.read(region[1] - region[0]):
                            found.append("dd" not in words)
        return found

    def held(self, word, there):
        """The same once it is there, or is not: each answer is a turn of control's loop."""
        for _ in range(1000):
            self.get("/secrets")
            found = self.regions_with(word)
            if bool(found) == there:
                return found
        return self.fail(f"is it there? {not there}")

    def test_what_has_come_of_a_value_is_in_no_core_file(self):
        c = self.control
        body = json.dumps({"value": "a" * 100_000 + "canary-7f3a" + "b" * 20_000})
        for path in ("secrets/hub-token", "registries/hub.example"):
            head = (f"PUT /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
            with socket.create_connection(("127.0.0.1", c.port), SECONDS) as half:
                half.sendall(head.encode() + body[:110_000].encode())
                try:
                    self.assertFalse(any(self.held(b"canary-7f3a", True)), path)
                except PermissionError:
                    self.skipTest("another process's memory cannot be read here")
            self.held(b"canary-7f3a", False)

    def test_nothing_shows_a_value(self):
        c = self.control
        self.there("paris", region="north")
        self.tell("hub-token", "hush-hush")
        self.shop("north", A="hub-token")
        (row,) = self.get("/secrets")["items"]
        self.assertEqual((row["name"], row["used_by"]), ("hub-token", ["shop"]))
        for path in ("/secrets", "/endpoints/shop", "/endpoints/shop/history", "/audit", "/events",
                     "/endpoints/shop/revisions"):
            self.assertNotIn(b"hush", c.call("GET", path).body, path)
        self.refused(c.call("GET", "/secrets/hub-token"), 405, "bad_method")
        self.refused(c.call("DELETE", "/secrets/hub-token"), 409, "conflict",
                     "in use by endpoint 'shop'")


if __name__ == "__main__":
    unittest.main()
