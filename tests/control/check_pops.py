# SPDX-License-Identifier: Apache-2.0
"""What control believes of a PoP that has joined, over real sockets: CONTROL_ALONE=...
check_pops.py. Its agents are spoken for by the test."""
import concurrent.futures
import datetime
import hashlib
import json
import sqlite3
import threading
import time
import unittest

from check_control import Case
from control_role import SECONDS
from pops_case import Joined, Pop, replica, served


class Deleted(Case):
    def test_delete_is_answered_when_no_gateway_serves_it(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        c.serve(uid)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            watch = c.watch("/endpoints/digits?watch=1")
            answer = pool.submit(c.call, "DELETE", "/endpoints/digits")
            watch.until("deleted")
            self.refused(c.call("GET", "/endpoints/digits"), 404, "not_found")
            self.assertFalse(answer.done())
            c.report(sequence=1, endpoints=[])
            self.assertEqual(answer.result().status, 202)  # its replica is told of until then
        uid = c.deploy().json()["uid"]  # a PoP that says nothing new holds it up for a while
        c.report(sequence=2, endpoints=[served(uid)])
        self.assertEqual(c.call("DELETE", "/endpoints/digits").status, 204)


class Activity(Case):
    def test_activity(self):
        uid = self.control.deploy().json()["uid"]
        took = [[5000, 90], [10000, 9], [120_000_000, 1], [7, "x"], "y", []]
        row = {"endpoint_uid": uid, "window_ms": 5000, "requests": 100, "errors": 200,
               "running": 3, "queued": 1, "took": took}
        self.control.report(sequence=1, activity=[
            row, {**row, "requests": 7}, {**row, "endpoint_uid": 99}, {**row, "window_ms": 0}, {}])
        told = self.get("/activity")
        (item,) = told["items"]
        self.assertEqual(told["endpoints"], 1)
        self.assertEqual((item["endpoint"], item["rate"], item["error_rate"], item["running"],
                          item["queued"]), ("digits", 20, 20, 3, 1))
        self.assertTrue(2.5 < item["p50_ms"] <= 5 < item["p99_ms"] <= 10)
        (pop,) = item["pops"]
        self.assertEqual((pop["rate"], pop["p99_ms"]), (item["rate"], item["p99_ms"]))
        self.control.report(sequence=2)
        (item,) = self.get("/activity")["items"]
        self.assertEqual((item["rate"], item["p50_ms"], item["pops"]), (0, None, []))
        self.assertEqual(self.get("/projects/other/activity")["items"], [])
        self.refused(self.control.call("GET", "/activity?limit=0"), 400, "bad_input")


class Believed(Joined):
    def setUp(self):
        super().setUp()
        c = self.control
        self.paris = self.there("paris", region="north")
        self.rome = self.there("rome", region="south")
        self.mine = c.deploy("digits", regions=["north"]).json()["uid"]
        self.other = c.deploy("other", model="m2", regions=["south"]).json()["uid"]
        self.assertEqual(self.places("digits"), {"paris": 1})
        self.assertEqual(self.places("other"), {"rome": 1})

    def test_endpoints_of_others(self):
        self.ok(self.rome.report(replicas=[replica("other", self.other)],
                                 endpoints=[served(self.other)]))
        self.ok(self.paris.report(
            replicas=[replica("digits", self.mine), replica("other", self.other, ordinal=2)],
            endpoints=[served(self.mine), served(self.other, state="failed", message="forged")],
            models=[{"revision_uid": self.other << 24 | 1, "platform": "forged"}]))
        view = self.get("/endpoints/other")
        self.assertEqual([row["pop"] for row in view["replicas"]], ["rome"])
        self.assertEqual((view["state"], view["model"]), ("active", None))
        self.assertEqual(self.get("/endpoints/digits")["state"], "active")
        self.assertEqual(self.metric("perigee_control_report_items_refused_total"), 3)
        # Neither does it count when nobody else says anything of the endpoint.
        self.ok(self.rome.report())
        self.ok(self.paris.report(endpoints=[served(self.other)]))
        self.assertIsNone(self.get("/endpoints/other")["serving"])

    def test_revisions_that_there_are_not(self):
        self.ok(self.paris.report(replicas=[replica("digits", self.mine, 9)],
                                  endpoints=[served(self.mine, 9)]))
        view = self.get("/endpoints/digits")
        self.assertEqual((view["serving"], view["replicas"]), (None, []))
        # What serves is kept when old revisions go: no PoP names what is to stay.
        for number in range(2, 15):
            self.control.deploy("digits", model=f"v{number}", regions=["north"])
            self.ok(self.paris.report(endpoints=[served(self.mine, 1 << 20)]))
        numbers = [row["number"] for row in self.get("/endpoints/digits/revisions")["items"]]
        self.assertIn(14, numbers)
        self.assertLessEqual(len(numbers), 12)

    def test_what_happened_to_others(self):
        c = self.control
        logs = [c.item(endpoint_uid=self.mine, replica="digits-1", line="mine"),
                c.item(endpoint_uid=self.mine, replica="other-1", line="forged"),
                c.item(endpoint_uid=self.other, replica="other-1", line="forged"),
                c.item(endpoint_uid=0, replica="digits-1", line="forged")]
        deaths = [c.item(endpoint_uid=self.mine, replica="digits-1", revision=1, reason="mine"),
                  c.item(endpoint_uid=self.mine, replica="digits-1", revision=9, reason="forged"),
                  c.item(endpoint_uid=self.other, replica="other-1", revision=1, reason="forged")]
        events = [c.item(kind=kind, message="m", **members) for kind, members in (
            ("replica_ready", {"endpoint_uid": self.mine, "replica": "digits-1"}),
            ("replica_unready", {"endpoint_uid": self.mine, "replica": "digits-1"}),
            ("replica_ready", {"endpoint_uid": self.other, "replica": "other-1"}),
            ("replica_ready", {"endpoint_uid": self.mine, "replica": "../x"}),
            ("replica_ready", {}),
            ("endpoint_deleted", {"endpoint_uid": self.mine}),
            ("pop_joined", {}), ("pop_retired", {}), ("", {}),
            ("process_exited", {}), ("process_exited", {"endpoint_uid": self.mine}),
            # Requests are refused at every PoP, whether its endpoint is there or not.
            ("residency_refused", {"endpoint_uid": self.other}))]
        last = c.seq
        # All of it is acknowledged, or it would come again and again.
        self.assertEqual(self.ok(self.paris.report(logs=logs, deaths=deaths, events=events)),
                         {"events_seen": last})
        self.assertEqual([row["line"] for row in self.get("/endpoints/digits/logs")["items"]],
                         ["mine"])
        self.assertEqual(self.get("/endpoints/other/logs")["items"], [])
        self.assertEqual([row["reason"] for row in self.get("/endpoints/digits")["deaths"]],
                         ["mine"])
        self.assertEqual(self.get("/endpoints/other")["deaths"], [])
        self.assertEqual([row for row in self.kinds() if row[1] == "paris"],
                         [("pop_created", "paris", None), ("pop_joined", "paris", None),
                          ("replica_ready", "paris", "digits"),
                          ("replica_unready", "paris", "digits"),
                          ("process_exited", "paris", None),
                          ("residency_refused", "paris", "other")])

    def kept(self):
        """Where digits is placed, as it is on disk."""
        database = sqlite3.connect(self.control.home / "control/store.db")
        rows = database.execute("SELECT pop, replicas FROM placements WHERE endpoint = ?",
                                [self.mine]).fetchall()
        database.close()
        return rows

    def test_volumes_are_shown_where_they_are(self):
        """Also at a PoP that it is not placed at, until that says that they are gone."""
        def shown():
            return {row["pop"]: row["bytes"] for row in self.get("/endpoints/digits")["volumes"]}
        self.ok(self.paris.report())  # with the first one all is made anew, in time
        self.assertEqual(shown(), {})
        here = {"endpoint_uid": self.mine, "bytes": 16 << 20}
        self.ok(self.paris.report(volumes=[{"endpoint_uid": 77, "bytes": 5}, here]))
        self.assertEqual(shown(), {"paris": 16 << 20})
        self.control.deploy("digits", regions=["south"])
        self.assertEqual(self.places(), {"rome": 1})
        self.assertEqual(shown(), {"paris": 16 << 20})
        self.ok(self.paris.report(volumes=[{**here, "bytes": 32 << 20}]))
        self.assertEqual(shown(), {"paris": 32 << 20})
        gone = self.control.item(kind="volume_removed", endpoint_uid=self.mine, message="m")
        self.ok(self.paris.report(volumes=[{**here, "bytes": 0}], events=[gone]))
        self.assertEqual(shown(), {})
        self.assertIn(("volume_removed", "paris", "digits"), self.kinds())
        self.assertEqual(self.paris.report(volumes=[here] * 4097).status, 413)

    def test_lines_that_stay_at_a_pop_are_counted(self):
        def shown():
            return {row["pop"]: row["lines"] for row in self.get("/endpoints/digits")["lines_kept"]}
        row = {**served(self.mine), "lines_kept": 12}
        self.ok(self.paris.report(endpoints=[row]))
        self.assertEqual(shown(), {"paris": 12})
        self.ok(self.paris.report(endpoints=[{**row, "lines_kept": 40}]))
        self.assertEqual(shown(), {"paris": 40})
        self.ok(self.paris.report(endpoints=[served(self.mine)]))
        self.assertEqual(shown(), {})

    def test_what_it_had_lately(self):
        c = self.control
        self.ok(self.paris.report(replicas=[replica("digits", self.mine)],
                                  endpoints=[served(self.mine)]))
        c.deploy("digits", regions=["south"])
        self.assertEqual(self.places(), {"rome": 1})
        # It runs out, and what it says of that is heard.
        self.ok(self.paris.report(
            replicas=[replica("digits", self.mine, state="draining")],
            events=[c.item(kind="replica_exited", endpoint_uid=self.mine, replica="digits-1",
                           message="asked to")]))
        self.assertEqual([(row["pop"], row["state"]) for row in
                          self.get("/endpoints/digits")["replicas"]], [("paris", "draining")])
        self.assertIn(("replica_exited", "paris", "digits"), self.kinds())
        # Also by a control that was not there when it was taken away.
        deadline = time.monotonic() + SECONDS
        while self.kept() != [("rome", 1)]:
            self.assertLess(time.monotonic(), deadline)
        c.kill()
        c.start()
        for state in ("draining", "gone"):
            self.ok(self.paris.report(replicas=[replica("digits", self.mine, state=state)]))
            self.assertEqual([(row["pop"], row["state"]) for row in
                              self.get("/endpoints/digits")["replicas"]], [("paris", state)])

    def test_more_replicas_than_it_was_given(self):
        c = self.control
        c.deploy("digits", regions=["north", "south"], scale={"min": 4}, spread={"pops": 2})
        given = self.places()
        self.assertEqual((set(given), sum(given.values())), ({"paris", "rome"}, 4))
        self.ok(self.paris.report(
            replicas=[replica("digits", self.mine, ordinal=i) for i in range(1, 2001)],
            endpoints=[served(self.mine)]))
        view = self.get("/endpoints/digits")
        self.assertEqual(view["state"], "partial", view["message"])
        self.assertIn(f"{given['paris']} of 4", view["message"])
        self.assertEqual(len(view["replicas"]), 1024)
        self.ok(self.paris.report(replicas=[replica("digits", self.mine, state="odd"),
                                            replica("other", self.mine)]))
        self.assertEqual(self.get("/endpoints/digits")["replicas"], [])

    def test_models(self):
        uid = self.mine << 24 | 1
        tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 64], "more": {"a": ["deep"]}}
        model = {"revision_uid": uid, "platform": "onnx", "inputs": [tensor] * 100,
                 "outputs": "none", "properties": {"k": "v", "n": 1}, "secret": "x"}
        # One that is larger than any may be is not taken; the next one is.
        self.ok(self.paris.report(models=[{**model, "platform": "x" * (2 << 20)}]))
        self.assertIsNone(self.get("/endpoints/digits")["model"])
        self.ok(self.paris.report(models=[model]))
        said = self.get("/endpoints/digits")["model"]
        self.assertEqual(said["inputs"],
                         [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}] * 64)
        self.assertEqual((said["outputs"], "secret" in said), ([], False))
        # The same again is nothing, another is told of.
        self.ok(self.paris.report(models=[model]))
        self.assertNotIn("model_differs", {row[0] for row in self.kinds()})
        self.ok(self.paris.report(models=[{**model, "platform": "other"}]))
        self.assertIn(("model_differs", "paris", "digits"), self.kinds())
        self.assertEqual(self.get("/endpoints/digits")["model"], said)

    def test_events_without_end(self):
        c = self.control
        for _ in range(3):
            self.ok(self.paris.report(events=[c.item(kind="process_started", message="x")
                                              for _ in range(4000)]))
        kept = 0
        after = 0
        while page := self.get(f"/events?limit=1000&after={after}")["items"]:
            kept += sum(row["kind"] == "process_started" for row in page)
            after = page[-1]["id"]
        self.assertLess(kept, 8000)
        self.assertGreaterEqual(kept, 5000)

    def test_ready_and_not_ready_in_turn(self):
        def ready(number):
            return [row["pop"] for row in self.get("/events?limit=1000&after=0")["items"]
                    if row["kind"] == "revision_ready" and row["message"] == f"revision {number}"]

        for _ in range(20):
            self.ok(self.paris.report(endpoints=[served(self.mine, state="failed")]))
            self.ok(self.paris.report(endpoints=[served(self.mine)]))
        self.assertIn(len(ready(1)), (5, 6, 7))  # one more in 10 s
        # Each is taken as such, and a newer revision is told of.
        self.assertEqual(self.get("/endpoints/digits/revisions/1")["state"], "ready")
        self.control.deploy("digits", model="v2", regions=["north"])
        self.ok(self.paris.report(endpoints=[served(self.mine, 2)]))
        self.assertEqual(ready(2), ["paris"])

    def test_log_lines_without_end(self):
        c = self.control
        uid = c.deploy("both", model="m3", spread={"pops": 2}).json()["uid"]
        self.assertEqual(self.places("both"), {"paris": 1, "rome": 1})

        def tell(pop, count, line):
            self.ok(pop.report(logs=[c.item(endpoint_uid=uid, replica="both-1", line=line)
                                     for _ in range(count)]))

        tell(self.rome, 50, "of rome")
        for _ in range(3):
            tell(self.paris, 4000, "without end")
        lines = []
        while page := self.get("/endpoints/both/logs?limit=1000&after="
                               f"{lines[-1]['id'] if lines else 0}")["items"]:
            lines += page
        self.assertEqual([row["pop"] for row in lines if row["line"] == "of rome"], ["rome"] * 50)
        self.assertTrue(3000 < len(lines) <= 4000, len(lines))


    def test_requests_refused_without_end(self):
        c = self.control
        uid = self.other  # which is not placed there, and asked for there all the same

        def rows():
            return [row for row in self.get("/audit?limit=500")["items"]
                    if row["action"] == "residency_refused"]

        def tell(uid, count=20, **members):
            self.ok(self.paris.report(events=[
                c.item(kind="residency_refused", endpoint_uid=uid, **members)
                for _ in range(count)]))

        tell(uid, message="1 request refused: no_rule")
        self.assertLessEqual(len(rows()), 2)
        tell(uid, message="1 request refused: place")
        self.assertIn(len(rows()), (3, 4))
        for i in range(20):  # whatever it calls the reason
            tell(uid, 1, message=f"forged {i} " + "x" * 500)
        self.assertLessEqual(len(rows()), 6)
        self.assertEqual(max(len(row["from"]) for row in rows()), 64)
        before = len(rows())
        tell(1 << 40, message="1 request refused: place")
        self.assertEqual(len(rows()), before)
        # It cannot tell of the future, nor of what is long past.
        tell(self.mine, 1, message="1 request refused: place", at="2001-01-01T00:00:00Z")
        tell(self.mine, 1, message="1 request refused: no_rule", at="2200-01-01T00:00:00Z")
        years = {row["at"][:4] for row in rows()}
        self.assertFalse(years & {"2001", "2200"}, years)
        # Each 10 s one, also of a PoP that was cut off meanwhile.
        now = datetime.datetime.now(datetime.timezone.utc)
        before = len(rows())
        self.ok(self.paris.report(events=[
            c.item(kind="residency_refused", endpoint_uid=uid,
                   message="1 request refused: narrowed",
                   at=(now - datetime.timedelta(seconds=10 * i)).strftime("%Y-%m-%dT%H:%M:%SZ"))
            for i in range(9, 0, -1)]))
        self.assertEqual(len(rows()), before + 9)


class Past(Joined):
    """Where a request went, from PoPs that may say anything."""

    def ask(self, *pops):
        got = []
        thread = threading.Thread(
            target=lambda: got.append(self.control.call("GET", "/requests/abc")))
        thread.start()
        questions = {pop.events.until("explain")[2]["question"] for pop in pops}
        self.assertEqual(len(questions), 1)
        return thread, got, questions.pop()

    def answer(self, pop, question, decision):
        return self.control.call("POST", f"/pops/{pop.name}/answers",
                                 {"question": question, "decision": decision}, **pop.bearer)

    def test_each_that_was_asked_counts_once(self):
        paris, rome = self.there("paris"), self.there("rome")
        stranger = self.join("oslo")
        thread, got, question = self.ask(paris, rome)
        for pop in (paris, paris, stranger, paris, rome):
            self.ok(self.answer(pop, question, {"why": "here", "chosen": pop.name}))
        thread.join(SECONDS)
        said = self.ok(got[0])
        self.assertEqual((said["pops_asked"], said["pops_answered"]), (2, 2))
        self.assertEqual([row["pop"] for row in said["decisions"]], ["paris", "rome"])

    def test_figures_and_words_that_cannot_be(self):
        paris = self.there("paris")
        thread, got, question = self.ask(paris)
        self.ok(self.answer(paris, question, {
            "why": "\x1b[31mforged", "chosen": "nowhere", "status": 7, "country": "\x1b[",
            "pops": [{"pop": "paris", "share": 2, "rtt_ms": 1e30, "queue_ms": -1, "total_ms": 4.5,
                      "rtt_source": "guessed", "excluded": "down"}, {"pop": "nowhere"}, 7]}))
        thread.join(SECONDS)
        [row] = self.ok(got[0])["decisions"]
        self.assertEqual([row[key] for key in ("why", "chosen", "status", "country")], [None] * 4)
        [pop] = row["pops"]
        self.assertEqual([pop[key] for key in ("share", "rtt_ms", "queue_ms", "rtt_source")],
                         [None] * 4)
        self.assertEqual((pop["pop"], pop["total_ms"], pop["excluded"]), ("paris", 4.5, "down"))

    def test_one_that_is_shut_out_answers_nothing(self):
        paris, rome = self.there("paris"), self.there("rome")
        thread, got, question = self.ask(paris, rome)
        text = json.dumps({"question": question, "decision": {"why": "here"}}).encode()
        connection = self.control.connection()
        connection.connect()
        connection.putrequest("POST", "/api/v1/pops/paris/answers")
        for key, value in {**paris.bearer, "Content-Type": "application/json",
                           "Content-Length": str(len(text))}.items():
            connection.putheader(key, value)
        connection.endheaders(text[:-1])
        self.get("/version")  # its head is read, and was good
        self.ok(self.control.call("POST", "/pops/paris/token", {}))
        connection.send(text[-1:])
        self.assertEqual(connection.getresponse().status, 401)
        connection.close()
        self.ok(self.answer(rome, question, {"why": "here"}))
        thread.join(SECONDS)
        self.assertEqual([row["pop"] for row in self.ok(got[0])["decisions"]], ["rome"])

    def test_clients_are_said_once(self):
        paris, named = self.there("paris"), Pop(self.control, "named", self.create(
            "named", kind="dns")["token"])
        self.ok(self.control.call("POST", "/enrolments", {
            "secret": "sha256:" + hashlib.sha256(named.secret.encode()).hexdigest(),
            "kind": "dns"}, Authorization=f"Bearer {named.token}"))
        uid = self.control.deploy().json()["uid"]
        row = {"endpoint_uid": uid, "country": "FR", "requests": 10, "near": 4, "rtt_us": 100}
        absurd = {**row, "country": "JP", "rtt_us": 1 << 50}
        self.ok(paris.report(clients=[row, {**row, "requests": 1000}, absurd]))
        self.ok(named.report(clients=[row]))
        said = self.get("/endpoints/digits/clients")
        self.assertEqual([(pop["pop"], pop["requests"]) for pop in said["pops"]], [("paris", 10)])
        self.assertEqual([place["country"] for place in said["countries"]], ["FR"])


class Sets(Joined):
    def differ(self):
        return [row for row in self.get("/events?limit=1000&after=0")["items"]
                if row["kind"] == "sets_differ"]

    def test_sets_of_countries_that_are_not_those_of_control(self):
        c = self.control
        c.report()  # an agent from before there was a digest
        own = "sha256:" + "0" * 64
        self.assertEqual((self.get("/pops/local")["sets"], self.differ()), (None, []))
        paris = self.join("paris")
        self.ok(paris.report(sets="none"))  # is no digest
        self.ok(paris.report(sets=7))
        self.assertEqual((self.get("/pops/paris")["sets_differ"], self.differ()), (False, []))
        for _ in range(2):  # said once
            self.ok(paris.report(sets=own))
            view = self.get("/pops/paris")
            self.assertEqual((view["sets"], view["sets_differ"]), (own, True))
            self.assertEqual([row["pop"] for row in self.differ()], ["paris"])
        c.kill()
        c.start()
        self.ok(paris.report(sets=own))
        self.assertTrue(self.get("/pops/paris")["sets_differ"])
        self.assertEqual(len(self.differ()), 1)
        self.ok(paris.report(sets=own[:-1] + "1"))
        self.assertEqual(len(self.differ()), 2)


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # watches keep their sockets
