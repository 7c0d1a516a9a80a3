# SPDX-License-Identifier: Apache-2.0
"""How a PoP joins, reports, and is shut out: late, cut, twice, without end; over real sockets:
CONTROL_ALONE=... check_reports.py. Its agents are spoken for by the test."""
import hashlib
import json
import os
import socket
import sqlite3
import struct
import threading
import time
import unittest

from control_role import SECONDS
from pops_case import FILES_MAX, Joined, Pop, replica, served


class Order(Joined):
    def test_a_late_report_changes_nothing(self):
        c = self.control
        paris = self.there("paris")
        uid = c.deploy().json()["uid"]

        def say(instance, sequence, endpoints, **lists):
            answer = c.call("POST", "/pops/paris/report",
                            {"instance": instance, "sequence": sequence, "endpoints": endpoints,
                             **lists}, **paris.bearer)
            return self.ok(answer)

        event = [c.item(kind="process_started", message=f"{i}") for i in range(4)]
        say(2, 5, [served(uid)], events=event[:1])
        # Sent before it, or by the agent before it, and heard after.
        late = [served(uid, state="failed", message="old")]
        for instance, sequence in ((2, 4), (1, 9)):
            say(instance, sequence, late)
            view = self.get("/endpoints/digits")
            self.assertEqual((view["serving"], view["state"] == "failed"), (1, False))
            self.assertEqual(self.get("/endpoints/digits/revisions/1")["state"], "ready")
        # What happened is not lost with it, and is not said twice.
        self.assertEqual(say(2, 3, late, events=event[:2]), {"events_seen": 2})
        self.assertEqual(self.get("/endpoints/digits/revisions/1")["state"], "ready")
        say(1, 9, [], events=event)
        say(2, 6, [served(uid)], events=event[:3])
        self.assertEqual([row["message"] for row in self.get("/events?after=0")["items"]
                          if row["kind"] == "process_started"], ["0", "1", "2"])

    def test_a_report_that_is_cut(self):
        paris = self.there("paris")
        uid = self.control.deploy().json()["uid"]
        self.ok(paris.report(endpoints=[served(uid)]))
        half = self.begin_report(paris, paris.body(endpoints=[served(uid, state="failed")]))
        half.close()
        deadline = time.monotonic() + SECONDS
        while (answer := paris.report(endpoints=[served(uid)])).status == 503:
            self.assertLess(time.monotonic(), deadline)  # until it is seen to be cut
        self.ok(answer)
        self.assertEqual(self.get("/endpoints/digits/revisions/1")["state"], "ready")

    def begin_report(self, pop, body):
        """All of it but its last byte, which end_report() sends."""
        text = json.dumps(body).encode()
        connection = self.control.connection()
        connection.connect()
        connection.putrequest("POST", f"/api/v1/pops/{pop.name}/report")
        for key, value in {**pop.bearer, "Content-Type": "application/json",
                           "Content-Length": str(len(text))}.items():
            connection.putheader(key, value)
        connection.endheaders(text[:-1])
        self.last = text[-1:]
        return connection

    def end_report(self, connection):
        connection.send(self.last)
        return connection.getresponse()

    def test_one_report_at_a_time(self):
        paris, rome = self.join("paris"), self.join("rome")
        half = self.begin_report(paris, paris.body())
        self.get("/version")  # its head is read
        answer = paris.report()
        self.refused(answer, 503, "overloaded", "another report of PoP 'paris'")
        self.assertEqual(answer.headers["Retry-After"], "2")
        self.ok(rome.report())
        self.assertEqual(self.end_report(half).status, 200)
        self.ok(paris.report())
        self.assertFalse([line for line in self.control.log if "call failed" in line])

    def test_reports_without_end(self):
        paris, rome = self.join("paris"), self.join("rome")
        answers = []
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            answers.append(paris.report())
            if answers[-1].status != 200:
                break
        self.refused(answers[-1], 429, "rate_limited", "PoP 'paris' reports more than")
        self.assertEqual(answers[-1].headers["Retry-After"], "1")
        self.assertGreaterEqual(len(answers), 101)
        self.ok(rome.report())
        self.assertFalse([line for line in self.control.log if "call " in line])
        while paris.report().status == 429:  # what it says then is taken
            self.assertLess(time.monotonic(), began + 2 * SECONDS)

    def test_refused_for_now_is_no_error_and_said_so_often(self):
        for count in range(FILES_MAX):
            watch = socket.create_connection(("127.0.0.1", self.control.port), SECONDS)
            self.addCleanup(watch.close)
            watch.sendall(b"GET /api/v1/events?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if watch.recv(12) != b"HTTP/1.1 200":
                break
        self.assertIn(count, range(500, FILES_MAX - 100))
        for _ in range(30):
            self.refused(self.control.call("GET", "/events?watch=1"), 503, "overloaded",
                         "watches are open already")
        self.assertEqual(self.metric("perigee_control_store_errors_total"), 0)
        log = self.control.whole_log()
        said = [line for line in log if "call refused for now" in line]
        self.assertEqual({line.split()[1] for line in said}, {"warn"})
        self.assertEqual(len(said), 10)
        self.assertFalse([line for line in log if "call failed" in line])

    def test_one_watch_each(self):
        paris, rome = self.there("paris"), self.there("rome")
        newer = paris.watch()
        self.addCleanup(newer.close)
        newer.until("synced")
        while paris.events.next() is not None:
            pass  # the older one ends
        self.control.deploy("later", regions=["paris"])
        for watch in (newer, rome.events):
            while watch.until("endpoint")[2]["name"] != "later":
                pass
        self.assertEqual(self.get("/pops/paris")["state"], "ready")

    def test_shut_out_while_its_report_comes_in(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        for shut_out, status in ((("POST", "/token"), 401), (("DELETE", ""), 410)):
            pop = self.there(f"pop{status}")
            c.deploy(regions=[pop.name])
            connection = self.begin_report(pop, pop.body(endpoints=[served(uid)]))
            # Its head is read, and was good, once control has answered something behind it.
            self.get("/version")
            method, path = shut_out
            self.ok(c.call(method, f"/pops/{pop.name}{path}",
                           {} if method == "POST" else None))
            self.assertEqual(self.end_report(connection).status, status)
            self.assertIsNone(self.get("/endpoints/digits")["serving"])
            connection.close()


class Tokens(Joined):
    def test_two_that_join_with_one_token(self):
        token = self.create("paris")["token"]
        agents = [Pop(self.control, "paris", token, f"secret {i}") for i in range(8)]
        answers = [None] * len(agents)

        def enrol(i):
            answers[i] = agents[i].enrol().status

        threads = [threading.Thread(target=enrol, args=[i]) for i in range(len(agents))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        self.assertEqual(sorted(answers), [200] + [401] * 7)
        [winner] = [agent for agent, status in zip(agents, answers) if status == 200]
        self.ok(winner.report())
        for agent in agents:
            if agent is not winner:
                self.refused(agent.report(), 401, "unauthenticated")

    def test_deleted_is_told_as_such(self):
        c = self.control
        old = self.there("paris")
        self.ok(c.call("DELETE", "/pops/paris"))
        self.refused(old.report(), 410, "gone", "was deleted")
        self.refused(c.call("GET", "/pops/paris/watch", **old.bearer), 410, "gone")
        # It is its own secret that is over, nobody else's; also once there is another of the name.
        self.refused(Pop(c, "paris", "", "guess").report(), 401, "unauthenticated")
        new = Pop(c, "paris", self.create("paris")["token"], "new")
        self.ok(new.enrol())
        self.refused(old.report(), 410, "gone", "perigee pops create")
        self.ok(new.report())
        c.kill()
        c.start()
        self.refused(old.report(), 410, "gone")
        # A token that replaces another's shuts it out, and deletes nothing.
        self.ok(c.call("POST", "/pops/paris/token", {}))
        self.refused(new.report(), 401, "unauthenticated", "new token")
        # One of the name that never joined leaves the tombstone of the one before.
        self.ok(c.call("DELETE", "/pops/paris"))
        self.refused(old.report(), 410, "gone")

    def test_the_audit_says_where_a_client_that_is_gone_came_from(self):
        """Its row is made on the loop: when the store's thread comes to it there is no client."""
        c = self.control
        layer = b"layer"
        digest = "sha256:" + hashlib.sha256(layer).hexdigest()
        upload = f"/v2/default/shop/blobs/uploads/?digest={digest}"
        self.ok(c.call("POST", upload.replace("shop", "one"), layer,
                       type="application/octet-stream"), 201)
        asked = {
            "pop_created": ("POST", "/api/v1/pops", b'{"name": "oslo"}'),
            "prices_set": ("PUT", "/api/v1/prices", b'{"prices": [{"request": "0.1 EUR"}]}'),
            "mount blob": ("POST", upload.replace("digest", "mount"), b""),
            "delete blob": ("DELETE", f"/v2/default/one/blobs/{digest}", b""),
        }
        database = sqlite3.connect(c.home / "control/store.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        ports = {}
        for action, (method, path, body) in asked.items():
            client = socket.create_connection(("127.0.0.1", c.port), SECONDS)
            client.sendall((f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                            f"application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() +
                           body)
            ports[action] = f"127.0.0.1:{client.getsockname()[1]}"
            self.get("/version")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # a reset: heard of at once
        for _ in range(3):
            self.get("/version")
        database.execute("ROLLBACK")
        database.close()
        self.create("rome")  # behind it
        rows = {row["action"]: row["from"] for row in self.get("/audit")["items"]
                if row["endpoint"] != "rome"}
        self.assertEqual({action: rows.get(action) for action in ports}, ports)


class Placed(Joined):
    def test_those_that_were_deleted_count_for_nothing(self):
        c = self.control
        text = c.home / "control/store.db"
        c.stop()
        with sqlite3.connect(text) as database:
            database.executemany(
                "INSERT INTO pops (name, instance, seq, reported_ns, report, spec, wanted) "
                "VALUES (?, 0, 0, 0, '', ?, 'retired')",
                [(f"a{i}", json.dumps({"name": f"a{i}"})) for i in range(1500)])
        database.close()
        c.start()
        self.there("zagreb")
        c.deploy()
        self.assertEqual(self.places(), {"zagreb": 1})
        # Of them the last ones stay.
        self.ok(c.call("DELETE", "/pops/zagreb"))
        c.kill()
        c.start()
        states = [row["state"] for row in self.get("/pops")["items"]]
        self.assertEqual(len(states), 1000)
        self.assertEqual(self.get("/pops/zagreb")["state"], "retired")

    def test_what_nobody_follows_stays(self):
        """Its replicas have grown out of the only PoP there is: they serve on."""
        c = self.control
        paris = self.there("paris", limits={"memory": "1GiB"})
        uid = c.deploy(flavor={"memory": "512MiB"}).json()["uid"]
        self.ok(paris.report(replicas=[replica("digits", uid)], endpoints=[served(uid)]))
        self.ok(c.deploy(flavor={"memory": "2GiB"}), 200, 202)
        self.assertEqual(self.places(), {"paris": 1})
        # One that does not serve has nothing to lose.
        self.ok(paris.report(replicas=[], endpoints=[]))
        self.assertEqual(self.places(), {})

    def test_a_watch_that_ends_is_noticed(self):
        """Also of a PoP that has never reported, so that no report can stop."""
        paris = self.there("paris")
        rome = self.there("rome")

        self.assertEqual(self.get("/pops/paris")["state"], "ready")
        rome.events.pings = True
        paris.events.close()
        pings = 0  # one a tick; the end of the quiet time after a start, in which all is looked
        while True:  # at as well, is 50 ticks away
            kind, _, data = rome.events.next()
            pings += kind == "ping"
            if kind == "pops" and {p["name"]: p["state"] for p in data}["paris"] == "joining":
                break
        self.assertLess(pings, 10)


class Proxied(Joined):
    """A proxy on this machine, which says who is behind it."""

    def setUp(self):
        os.environ["PERIGEE_TRUSTED_PROXIES"] = "127.0.0.0/8"
        self.addCleanup(os.environ.pop, "PERIGEE_TRUSTED_PROXIES")
        super().setUp()

    def test_joining_from_this_machine_means_the_client(self):
        pop = Pop(self.control, "paris", self.create("paris")["token"])
        for header in ({"Forwarded": "for=203.0.113.7"}, {"X_Forwarded_For": "203.0.113.7"},
                       {"Forwarded": "for=unknown"}, {"Forwarded": "for=_hidden"}):
            self.refused(pop.enrol(**header), 501, "not_supported", "another machine")
        self.ok(pop.enrol())


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # watches keep their sockets
