# SPDX-License-Identifier: Apache-2.0
"""Control's API, each route and rule, over real sockets: CONTROL_ALONE=... check_control.py"""
import hashlib
import json
import os
import random
import socket
import sqlite3
import struct
import threading
import unittest

from control_role import Control

DIGEST_OF_NOTHING = "sha256:" + hashlib.sha256(b"").hexdigest()


class Case(unittest.TestCase):
    def setUp(self):
        self.control = Control()
        self.addCleanup(self.control.remove)
        self.control.start()
        self.addCleanup(self.end)

    def end(self):
        if self.control.process.poll() is None:
            self.assertEqual(self.control.stop(), 0, "".join(self.control.log))

    def ok(self, answer, *statuses):
        self.assertIn(answer.status, statuses or (200,), answer.body)
        return answer.json() if answer.body else None

    def refused(self, answer, status, name, words=""):
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.headers["Perigee-Error"], name)
        problem = answer.json()
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        self.assertEqual(problem["type"], f"urn:perigee:error:{name}")
        self.assertEqual(problem["status"], status)
        self.assertIn(words, problem["detail"])

    def get(self, path):
        return self.ok(self.control.call("GET", path))


class Endpoints(Case):
    def test_create_update_repeat(self):
        c = self.control
        answer = c.deploy(labels={"team": "vision"})
        view = self.ok(answer, 201)
        self.assertEqual(answer.headers["ETag"], '"1"')
        self.assertEqual(answer.headers["Location"], "/api/v1/endpoints/digits")
        self.assertEqual((view["target"], view["generation"], view["state"], view["reason"]),
                         (1, 1, "deploying", "no_pop"))
        self.assertEqual(view["hosts"], ["digits.localhost", "digits.perigee.test"])
        # The same again changes nothing.
        self.assertEqual(self.ok(c.deploy(labels={"team": "vision"}))["generation"], 1)
        # Governed keys: the same revision.
        view = self.ok(c.deploy(labels={"team": "vision"}, scale={"min": 2}), 200, 202)
        self.assertEqual((view["target"], view["generation"]), (1, 2))
        # What runs: a new one.
        view = self.ok(c.deploy(model="another"), 202)
        self.assertEqual((view["target"], view["latest"], view["generation"]), (2, 2, 3))
        self.assertNotIn("scale", view["spec"])  # the whole truth: gone back to its default
        history = self.get("/endpoints/digits/history")["items"]
        self.assertEqual([h["generation"] for h in history], [1, 2, 3])
        self.assertIn({"key": "scale.min", "old": 0, "new": 2}, history[1]["diff"])
        kinds = [e["kind"] for e in self.get("/events")["items"]]
        self.assertEqual(kinds, ["endpoint_created", "revision_created", "endpoint_updated",
                                 "endpoint_updated", "revision_created"])
        audit = [a for a in self.get("/audit")["items"] if a["action"] == "put"]
        self.assertEqual(len(audit), 3)
        self.assertEqual(audit[0]["before"], None)
        self.assertEqual(audit[1]["before"], audit[0]["after"])
        self.assertTrue(audit[0]["from"].startswith("127.0.0.1:"))

    def test_preconditions(self):
        c = self.control
        c.deploy()
        body = {"model": c.blob("x")}
        self.refused(c.call("PUT", "/endpoints/digits", body, If_Match='"9"'), 412, "precondition")
        self.refused(c.call("PUT", "/endpoints/digits", body, If_None_Match="*"), 409, "conflict")
        self.refused(c.call("PUT", "/endpoints/other", body, If_Match="*"), 412, "precondition")
        self.ok(c.call("PUT", "/endpoints/digits", body, If_Match='"8", "1"'), 202)
        self.refused(c.call("DELETE", "/endpoints/digits", If_Match='"1"'), 412, "precondition")

    def test_dry_run(self):
        c = self.control
        body = {"model": c.blob("x"), "scale": {"min": 2}}
        plan = self.ok(c.call("PUT", "/endpoints/digits?dry_run=1", body))
        self.assertEqual((plan["created"], plan["new_revision"]), (True, True))
        self.assertEqual(self.get("/endpoints")["items"], [])
        c.call("PUT", "/endpoints/digits", body)
        plan = self.ok(c.call("PUT", "/endpoints/digits?dry_run=1", {"model": body["model"]}))
        self.assertEqual((plan["created"], plan["new_revision"]), (False, False))
        self.assertEqual(plan["diff"], [{"key": "scale.min", "old": 2, "new": 0,
                                         "what_runs": False}])

    def test_patch(self):
        c = self.control
        c.deploy()
        type = "application/merge-patch+json"
        view = self.ok(c.call("PATCH", "/endpoints/digits", {"scale": {"min": 3}}, type=type),
                       200, 202)
        self.assertEqual(view["spec"]["scale"], {"min": 3})
        view = self.ok(c.call("PATCH", "/endpoints/digits", {"scale": None}, type=type), 200, 202)
        self.assertNotIn("scale", view["spec"])
        self.refused(c.call("PATCH", "/endpoints/digits", {"scale": {}}), 415, "bad_input")
        self.refused(c.call("PATCH", "/endpoints/other", {}, type=type), 404, "not_found")
        self.refused(c.call("PATCH", "/endpoints/digits", {"name": "other"}, type=type), 400,
                     "bad_input")

    def test_rollback_never_brings_back_governed_keys(self):
        c = self.control
        c.deploy(model="one", limits={"body": "1MiB"}, source="of one")
        before = c.deploy(model="two", limits={"body": "2MiB"}, domains=["d.example.com"],
                          source="of two").json()
        answer = c.call("POST", "/endpoints/digits/rollback", {"revision": 1})
        view = self.ok(answer, 202)
        self.assertEqual(view["generation"], before["generation"] + 1)
        self.assertEqual(answer.headers["ETag"], f'"{view["generation"]}"')
        self.assertEqual(view["spec"]["source"], "of one")
        self.assertEqual((view["target"], view["latest"]), (1, 2))
        self.assertEqual(view["spec"]["limits"], {"body": "2MiB"})
        self.assertEqual(view["spec"]["domains"], ["d.example.com"])
        self.assertEqual(view["spec"]["model"], c.blob("one"))
        # Deploying the second again is a third.
        self.assertEqual(self.ok(c.deploy(model="two", limits={"body": "2MiB"},
                                          domains=["d.example.com"]), 202)["target"], 3)
        self.refused(c.call("POST", "/endpoints/digits/rollback", {"revision": 9}), 404,
                     "not_found")
        self.refused(c.call("POST", "/endpoints/digits/rollback", {}), 400, "bad_input",
                     "'revision' is missing")
        self.refused(c.call("POST", "/endpoints/digits/rollback", {"revison": 1}), 400,
                     "bad_input", "revision")

    def test_stop_and_start(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        c.serve(uid)
        self.assertEqual(self.get("/endpoints/digits")["state"], "active")
        view = self.ok(c.call("POST", "/endpoints/digits/stop", {}))
        self.assertEqual((view["state"], view["reason"]), ("stopped", "draining"))
        c.report(sequence=1, endpoints=[{"uid": uid, "serving": None, "target": 1,
                                         "target_state": "ready", "message": ""}])
        self.assertEqual(self.get("/endpoints/digits")["reason"], "stopped")
        generation = self.get("/endpoints/digits")["generation"]
        self.ok(c.call("POST", "/endpoints/digits/stop", {}))
        self.assertEqual(self.get("/endpoints/digits")["generation"], generation)
        view = self.ok(c.call("POST", "/endpoints/digits/start", {}), 202)
        self.assertEqual((view["state"], view["generation"]), ("deploying", generation + 1))
        # How it was before it was stopped says nothing of now.
        c.report(sequence=2, endpoints=[{"uid": uid, "serving": None, "target": 1,
                                         "target_state": "failed", "message": "no"}])
        self.assertEqual(self.get("/endpoints/digits")["state"], "failed")
        c.call("POST", "/endpoints/digits/stop", {})
        view = self.ok(c.call("POST", "/endpoints/digits/start", {}), 202)
        self.assertEqual((view["state"], view["message"]),
                         ("deploying", "revision 1 is being started"))

    def test_delete_and_uid(self):
        c = self.control
        first = c.deploy().json()["uid"]
        self.assertEqual(c.call("DELETE", "/endpoints/digits").status, 204)
        self.refused(c.call("GET", "/endpoints/digits"), 404, "not_found")
        self.refused(c.call("DELETE", "/endpoints/digits"), 404, "not_found")
        self.assertGreater(c.deploy().json()["uid"], first)

    def test_lists(self):
        c = self.control
        for i in range(5):
            c.deploy(f"end-{i}", labels={"odd": str(i % 2)})
        page = self.get("/endpoints?limit=2")
        names = [e["name"] for e in page["items"]]
        while page["next"]:
            page = self.get(f"/endpoints?limit=2&cursor={page['next']}")
            names += [e["name"] for e in page["items"]]
        self.assertEqual(names, [f"end-{i}" for i in range(5)])
        odd = self.get("/endpoints?labels=odd=1")["items"]
        self.assertEqual([e["name"] for e in odd], ["end-1", "end-3"])
        self.refused(c.call("GET", "/endpoints?limit=x"), 400, "bad_input", "limit")
        self.refused(c.call("GET", "/endpoints?limit=0"), 400, "bad_input", "limit")
        self.refused(c.call("GET", "/events?limit=0"), 400, "bad_input", "limit")
        self.refused(c.call("GET", "/endpoints?lables=odd=1"), 400, "bad_input", "lables")
        self.refused(c.call("GET", "/version?watch=1"), 400, "bad_input", "watch")
        self.assertEqual(len(self.get("/events?after=3&limit=2")["items"]), 2)

    def test_projects(self):
        c = self.control
        body = {"model": c.blob("x")}
        view = self.ok(c.call("PUT", "/projects/team-a/endpoints/digits", body), 201)
        self.assertEqual(view["hosts"][0], "digits--team-a.localhost")
        self.refused(c.call("GET", "/endpoints/digits"), 404, "not_found")
        self.assertEqual(self.get("/projects/team-a/endpoints")["items"][0]["project"], "team-a")
        self.refused(c.call("PUT", "/projects/Team/endpoints/digits", body), 400, "bad_input")
        self.refused(c.call("PUT", "/projects/team-a/endpoints/digits",
                            {**body, "project": "team-b"}), 400, "bad_input")

    def test_bad_specs(self):
        c = self.control
        model = c.blob("x")
        for name in ("ab", "a" * 41, "Digits", "a--b", "api", "default", "digits%2F", "-ab"):
            self.assertEqual(c.call("PUT", f"/endpoints/{name}", {"model": model}).status, 400,
                             name)
        rows = [
            ({}, "model"),
            ({"model": "./digits.onnx"}, "perigee deploy"),
            ({"model": DIGEST_OF_NOTHING}, DIGEST_OF_NOTHING),
            ({"model": "sha256:12"}, "digest"),
            ({"model": model, "modle": 1}, "model"),
            ({"model": model, "queue": {"depht": 1}}, "depth"),
            ({"model": model, "timeout": 5}, "timeout"),
            ({"model": model, "budget": {"month": "5 EUR"}}, "not acted upon yet"),
            ({"model": model, "regions": ["XX"]}, "regions: 'XX' is no country's code"),
            ({"model": model, "residency": {"process_in": ["UK"]}}, "Kingdom's is GB"),
            ({"model": model, "residency": {"process_in": ["EU"]}, "regions": ["EU"]},
             "regions and residency share no PoP"),
            ({"model": model, "name": "other"}, "other"),
        ]
        for body, words in rows:
            answer = c.call("PUT", "/endpoints/digits", body)
            self.assertIn(words, answer.body.decode(), body)
            self.assertIn(answer.status, (400, 501), body)
        for text in ("", "{", "[]", "[" * 100000, '{"model": 1, "model": 2}', "{}x"):
            self.assertEqual(c.call("PUT", "/endpoints/digits", text).status, 400, text[:20])
        answer = c.call("PUT", "/endpoints/digits", " " * (1 << 20) + "{}")
        self.refused(answer, 413, "too_large")
        self.assertEqual(self.get("/endpoints")["items"], [])

    def test_names_only_one_may_have(self):
        c = self.control
        c.deploy(aliases=["Meta/x"], domains=["a.example.com"])
        model = c.blob("y")
        for keys in ({"aliases": ["Meta/x"]}, {"domains": ["a.example.com"]},
                     {"aliases": ["digits"]}):
            self.refused(c.call("PUT", "/endpoints/other", {"model": model, **keys}), 409,
                         "conflict")
        # A name that is another's alias; an alias is a project's, a domain is everybody's.
        self.ok(c.call("PUT", "/endpoints/digits", {"model": model, "aliases": ["meta", "Meta/x"]}),
                202)
        self.refused(c.call("PUT", "/endpoints/meta", {"model": model}), 409, "conflict", "meta")
        elsewhere = "/projects/elsewhere/endpoints/other"
        self.ok(c.call("PUT", elsewhere, {"model": model, "aliases": ["Meta/x"]}), 201)
        self.ok(c.call("PUT", "/endpoints/digits", {"model": model, "domains": ["a.example.com"]}),
                200, 202)
        self.refused(c.call("PUT", elsewhere, {"model": model, "domains": ["a.example.com"]}), 409,
                     "conflict", "a.example.com")


class Blobs(Case):
    def put(self, digest, body, **headers):
        return self.control.call("PUT", f"/blobs/{digest}", body, type="application/octet-stream",
                                 **headers)

    def test_whole(self):
        c = self.control
        content = random.Random(1).randbytes(3 << 20)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.assertEqual(c.call("HEAD", f"/blobs/{digest}").status, 404)
        self.assertEqual(self.ok(self.put(digest, content), 201)["size"], len(content))
        self.ok(self.put(digest, content), 200)
        head = c.call("HEAD", f"/blobs/{digest}")
        self.assertEqual(int(head.headers["Content-Length"]), len(content))
        self.assertEqual(c.call("GET", f"/blobs/{digest}").body, content)
        self.assertEqual((c.home / "blobs/sha256" / digest[7:]).stat().st_mode & 0o222, 0)
        self.ok(self.put(DIGEST_OF_NOTHING, b""), 201)
        self.assertEqual(c.call("GET", f"/blobs/{DIGEST_OF_NOTHING}").body, b"")

    def test_resumed(self):
        c = self.control
        content = random.Random(2).randbytes(1 << 20)
        size, digest = len(content), "sha256:" + hashlib.sha256(content).hexdigest()
        part = self.put(digest, content[:1000], Content_Range=f"bytes 0-999/{size}")
        self.assertEqual((part.status, part.headers["Range"]), (202, "bytes=0-999"))
        gap = self.put(digest, content[5000:6000], Content_Range=f"bytes 5000-5999/{size}")
        self.assertEqual((gap.status, gap.headers["Range"]), (416, "bytes=0-999"))
        c.kill()
        c.start()
        self.ok(self.put(digest, content[900:], Content_Range=f"bytes 900-{size - 1}/{size}"), 201)
        self.assertEqual(c.call("GET", f"/blobs/{digest}").body, content)

    def test_wrong(self):
        c = self.control
        digest = "sha256:" + "0" * 64
        self.refused(self.put(digest, b"other bytes"), 400, "bad_input", "upload it anew")
        self.assertEqual(c.call("HEAD", f"/blobs/{digest}").status, 404)
        self.refused(self.put("sha256:xyz", b""), 400, "bad_input")
        self.refused(self.put("..%2F..%2Fetc", b""), 400, "bad_input")
        self.refused(self.put(digest, b"x", Content_Range="bytes 0-5/3"), 400, "bad_input")
        self.refused(self.put(digest, b"x", Content_Range="bytes 0-5/9"), 400, "bad_input")
        self.refused(c.call("PUT", f"/blobs/{digest}", b"x", type="text/plain"), 415, "bad_input")

    def test_two_at_once(self):
        content = random.Random(3).randbytes(4 << 20)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.put(digest, content).status))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(set(answers) <= {200, 201, 409}, answers)
        self.assertIn(201, answers)
        self.assertEqual(self.control.call("GET", f"/blobs/{digest}").body, content)

    def test_a_client_that_goes_away(self):
        content = b"z" * (1 << 20)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        connection = self.control.connection()
        connection.connect()
        connection.sock.sendall(
            (f"PUT /api/v1/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n"
             f"Content-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n")
            .encode() + content[:100000])
        connection.close()
        while True:  # until control has seen that it went
            answer = self.put(digest, content)
            if answer.status != 409:
                break
        self.ok(answer, 201)

    def manifest(self, *paths):
        content = "file content"
        digest = self.control.blob(content)
        return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "artifactType": "application/vnd.perigee.model.v1",
                "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                           "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c0"
                                     "60f61caaff8a", "data": "e30="},
                "layers": [{"mediaType": "application/octet-stream", "digest": digest,
                            "size": len(content),
                            "annotations": {"org.opencontainers.image.title": path}}
                           for path in paths]}

    def test_folders(self):
        c = self.control
        good = self.manifest("data/weights.bin", "model.onnx")
        self.ok(c.deploy(model=json.dumps(good)), 201)
        self.assertEqual(self.get("/endpoints/digits/revisions/1")["model"]["size"], 24)
        for paths in (["../x"], ["/etc/passwd"], ["a//b"], ["a/./b"], ["b", "a"], ["a", "a"],
                      ["a", "a/b"], ["a\nb"], [""], []):
            self.refused(c.deploy("other", model=json.dumps(self.manifest(*paths))), 400,
                         "bad_input", "manifest")
        missing = self.manifest("model.onnx")
        missing["layers"][0]["digest"] = "sha256:" + "1" * 64
        self.refused(c.deploy("other", model=json.dumps(missing)), 400, "bad_input", "1111")
        lying = self.manifest("model.onnx")
        lying["layers"][0]["size"] += 1
        self.refused(c.deploy("other", model=json.dumps(lying)), 400, "bad_input", "manifest says")


class Pops(Case):
    def test_report_and_view(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        watch = c.watch("/endpoints/digits?watch=1")
        self.assertEqual(watch.next()[2]["state"], "deploying")
        c.serve(uid)
        event = watch.next()
        while event[2]["state"] != "active":
            event = watch.next()
        view = self.get("/endpoints/digits")
        self.assertEqual((view["serving"], view["replicas"][0]["name"]), (1, "digits-1"))
        self.assertEqual(self.get("/replicas")["items"], view["replicas"])
        self.assertEqual(self.get("/endpoints/digits/replicas")["items"], view["replicas"])
        self.assertEqual(self.get("/pops")["items"][0]["name"], "local")
        c.report(sequence=2, models=[{"revision_uid": uid << 24 | 1, "platform": "onnx",
                                      "inputs": [{"name": "x", "datatype": "FP32",
                                                  "shape": [-1, 64]}],
                                      "outputs": [], "properties": {"k": "v"}}])
        self.assertEqual(self.get("/endpoints/digits")["model"]["inputs"][0]["shape"], [-1, 64])
        watch.close()

    def test_a_report_that_was_passed_says_how_things_were(self):
        c = self.control
        c.serve(c.deploy().json()["uid"], sequence=5)
        for report, replicas in (({"sequence": 4}, 1), ({"sequence": 6}, 0),
                                 ({"instance": 2, "sequence": 0}, 0)):
            c.report(replicas=[], **report)
            self.assertEqual(len(self.get("/replicas")["items"]), replicas, report)

    def test_a_failed_revision_says_why(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        c.serve(uid)
        c.deploy(model="broken")
        c.report(sequence=2, replicas=[{"id": "1", "name": "digits-1", "endpoint_uid": uid,
                                        "revision": 1, "state": "ready"}],
                 endpoints=[{"uid": uid, "serving": 1, "target": 2, "target_state": "failed",
                             "message": "it is not ONNX"}],
                 deaths=[c.item(endpoint_uid=uid, replica="digits-2", revision=2,
                                at="2026-11-23T10:00:00Z", reason="exit 3", log=["a", "b"])])
        view = self.get("/endpoints/digits")
        self.assertEqual((view["state"], view["serving"], view["target"]), ("failed", 1, 2))
        self.assertIn("it is not ONNX", view["message"])
        self.assertEqual(view["deaths"][0]["log"], ["a", "b"])
        self.assertEqual(self.get("/endpoints/digits/revisions/2")["state"], "failed")
        # What is said of an earlier target does not count for the present one.
        c.deploy(model="third")
        c.report(sequence=3, endpoints=[{"uid": uid, "serving": 1, "target": 2,
                                         "target_state": "failed", "message": "old"}])
        self.assertEqual(self.get("/endpoints/digits")["state"], "deploying")

    def test_repeats_are_dropped(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        logs = [c.item(endpoint_uid=uid, replica="digits-1", line=f"line {i}") for i in range(3)]
        events = [c.item(kind="replica_ready", endpoint_uid=uid, replica="digits-1", message="")]
        self.assertEqual(c.report(logs=logs, events=events)["events_seen"], 4)
        c.report(logs=logs, events=events)
        c.kill()
        c.start()
        c.report(sequence=1, logs=logs, events=events)
        c.report(instance=2, logs=[{"seq": 1, "endpoint_uid": uid, "replica": "digits-2",
                                    "line": "new life"}])
        lines = [row["line"] for row in self.get("/endpoints/digits/logs")["items"]]
        self.assertEqual(lines, ["line 0", "line 1", "line 2", "new life"])
        self.assertEqual([r["line"] for r in
                          self.get("/endpoints/digits/logs?replica=digits-2")["items"]],
                         ["new life"])
        ready = [e for e in self.get("/events")["items"] if e["kind"] == "replica_ready"]
        self.assertEqual(len(ready), 1)
        self.assertEqual(ready[0]["endpoint"], "digits")

    def test_watch_of_a_pop(self):
        c = self.control
        first = c.deploy("first").json()["uid"]
        watch = c.watch("/pops/local/watch", unix=True)
        kind, _, data = watch.next()
        self.assertEqual((kind, data["resumed"]), ("begins", False))
        kind, _, data = watch.next()
        self.assertEqual((kind, [pop["name"] for pop in data]), ("pops", ["local"]))
        kind, _, data = watch.next()
        self.assertEqual((kind, [key["pop"] for key in data["keys"]]), ("keys", ["local"]))
        self.assertEqual(watch.next()[::2], ("secrets", {"secrets": []}))
        kind, number, data = watch.next()
        self.assertEqual((kind, data["uid"], data["state"]), ("endpoint", first, "running"))
        self.assertEqual(data["revisions"][0]["uid"], first << 24 | 1)
        self.assertEqual(watch.next()[::2], ("synced", {"uids": [first]}))
        second = c.deploy("second").json()["uid"]
        kind, later, data = watch.next()
        self.assertEqual((kind, data["name"]), ("endpoint", "second"))
        self.assertGreater(later, number)
        c.call("POST", "/endpoints/first/stop", {})
        self.assertEqual(watch.next()[2]["state"], "stopped")
        c.call("DELETE", "/endpoints/second")
        self.assertEqual(watch.next()[::2], ("gone", {"uid": second}))
        watch.close()

    def join(self, name, secret, token=None):
        c = self.control
        if token is None:
            token = c.call("POST", "/pops", {"name": name}).json()["token"]
        digest = "sha256:" + hashlib.sha256(secret.encode()).hexdigest()
        answer = c.call("POST", "/enrolments", {"secret": digest},
                        Authorization=f"Bearer {token}")
        self.assertEqual(answer.status, 200, answer.body)

    def keys(self, watch, names):
        """The first keys that are with just these PoPs."""
        while True:
            kind, _, data = watch.next()
            keys = {key["pop"]: key["key"] for key in data["keys"]} if kind == "keys" else {}
            if set(keys) == set(names):
                return keys

    def test_two_pops_have_a_key_of_their_own(self):
        c = self.control
        self.join("paris", "one")
        paris = c.watch("/pops/paris/watch", unix=True)
        self.keys(paris, ["paris"])
        self.join("tokyo", "two")
        tokyo = c.watch("/pops/tokyo/watch", unix=True)
        of_paris = self.keys(paris, ["paris", "tokyo"])
        of_tokyo = self.keys(tokyo, ["paris", "tokyo"])
        self.assertEqual(of_paris["tokyo"], of_tokyo["paris"])
        self.assertEqual(len({*of_paris.values(), *of_tokyo.values()}), 3)
        for path in ("/pops", "/pops/paris", "/metrics"):
            for key in of_paris.values():
                self.assertNotIn(key, c.call("GET", path).body.decode())
        # Who joins anew has other keys; nobody keeps one with who may not join any more.
        token = c.call("POST", "/pops/tokyo/token").json()["token"]
        self.keys(paris, ["paris"])
        self.join("tokyo", "three", token)
        again = self.keys(paris, ["paris", "tokyo"])
        self.assertEqual(again["paris"], of_paris["paris"])
        self.assertNotEqual(again["tokyo"], of_paris["tokyo"])
        tokyo.close()
        # The secret stays: as it was, the keys are.
        c.kill()
        c.start()
        paris = c.watch("/pops/paris/watch", unix=True)
        self.assertEqual(self.keys(paris, ["paris", "tokyo"]), again)
        c.call("DELETE", "/pops/tokyo")
        self.keys(paris, ["paris"])
        paris.close()
        self.assertEqual((c.home / "control/hop.key").stat().st_mode & 0o777, 0o600)

    def test_where_a_gateway_listens(self):
        c = self.control
        self.join("paris", "one")
        paris = c.watch("/pops/paris/watch", unix=True)

        def port():
            while True:
                kind, _, data = paris.next()
                if kind == "pops":
                    return next(pop.get("port") for pop in data if pop["name"] == "paris")

        self.assertIsNone(port())
        c.report(pop="paris", gateway_port=9000)
        while port() != 9000:
            pass
        c.report(pop="paris", sequence=1, gateway_port=9001,
                 peers=[{"pop": "tokyo", "health": "down", "rtt_ms": None},
                        {"pop": "quito", "health": "up", "rtt_ms": 1e30}])
        self.assertEqual(port(), 9001)
        self.assertEqual(c.call("GET", "/pops/paris").json()["peers"],
                         [{"pop": "tokyo", "health": "down", "elsewhere": False, "rtt_ms": None},
                          {"pop": "quito", "health": "up", "elsewhere": False, "rtt_ms": None}])
        paris.close()
        for peers in (1, [{"pop": "tokyo", "health": "fine"}], [{"pop": "a b", "health": "up"}]):
            self.refused(c.call("POST", "/pops/paris/report", {"peers": peers}, unix=True), 400,
                         "bad_input")

    def test_only_by_the_socket(self):
        self.refused(self.control.call("POST", "/pops/local/report", {}), 401,
                     "unauthenticated")
        self.refused(self.control.call("GET", "/pops/local/watch"), 401, "unauthenticated")
        self.refused(self.control.call("POST", "/pops/LOCAL/report", {}, unix=True), 400,
                     "bad_input")
        for body in ("[]", '{"endpoints": 1}', '{"endpoints": [{"target_state": "odd"}]}'):
            self.refused(self.control.call("POST", "/pops/local/report", body, unix=True), 400,
                         "bad_input")


class Rules(Case):
    def test_hosts_and_origins(self):
        c = self.control
        for host in ("localhost", f"localhost:{c.port}", "127.0.0.1", "[::1]:1", "127.9.9.9",
                     "api.perigee.test", "API.perigee.test:443", "api.localhost"):
            self.ok(c.call("GET", "/version", Host=host))
        for host in ("evil.example", "digits.localhost", "perigee.test", "localhost.evil.example",
                     "8.8.8.8", "api.perigee.test.evil.example"):
            self.refused(c.call("GET", "/version", Host=host), 421, "misdirected")
        self.ok(c.call("GET", "/version", Origin=f"http://127.0.0.1:{c.port}"))
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://localhost",
                       f"http://127.0.0.1:{c.port}.evil.example", ""):
            self.refused(c.call("GET", "/version", Origin=origin), 403, "forbidden")
        self.refused(c.call("POST", "/endpoints/digits/stop", {}, Sec_Fetch_Site="cross-site"),
                     403, "forbidden")
        # The socket in the home is trusted.
        self.ok(c.call("GET", "/version", unix=True, Host="anything"))

    def test_types(self):
        c = self.control
        for type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            self.refused(c.call("PUT", "/endpoints/digits", "{}", type=type), 415, "bad_input")
            self.refused(c.call("POST", "/endpoints/digits/stop", "{}", type=type), 415,
                         "bad_input")
        c.deploy()
        self.ok(c.call("POST", "/endpoints/digits/stop", "{}",
                       type="application/json; charset=utf-8"))

    def test_paths_and_methods(self):
        c = self.control
        self.refused(c.call("GET", "/nothing"), 404, "not_found")
        answer = c.call("DELETE", "/endpoints")
        self.refused(answer, 405, "bad_method")
        self.assertEqual(answer.headers["Allow"], "GET, HEAD")
        answer = c.call("POST", "/endpoints/digits", {})
        self.assertEqual(answer.headers["Allow"], "GET, HEAD, PUT, PATCH, DELETE")
        self.assertEqual(c.call("HEAD", "/endpoints").body, b"")

    def test_request_ids(self):
        c = self.control
        self.assertEqual(c.call("GET", "/version", X_Request_Id="abc.1").headers["X-Request-Id"],
                         "abc.1")
        self.assertRegex(c.call("GET", "/version", X_Request_Id="a b").headers["X-Request-Id"],
                         "^[0-9a-f]{16}$")
        self.assertRegex(c.call("GET", "/nothing").headers["X-Request-Id"], "^[0-9a-f]{16}$")

    def test_health_and_metrics(self):
        c = self.control
        self.assertEqual(c.call("GET", "/healthz").body, b"ok\n")
        self.assertEqual(c.call("GET", "/readyz").body, b"ok\n")
        self.assertIn(b"perigee_control_requests_total{operation=\"getHealth\",code=\"200\"} 1",
                      c.call("GET", "/metrics").body)

    def test_openapi_has_what_serves(self):
        description = json.loads(self.control.call("GET", "/openapi.json").body)
        ids = [operation["operationId"] for path in description["paths"].values()
               for operation in path.values()]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual(description["openapi"], "3.1.0")
        for path, operations in description["paths"].items():
            for method in operations:
                filled = path.replace("{project}", "default").replace("{name}", "digits")
                filled = filled.replace("{number}", "1").replace("{digest}", DIGEST_OF_NOTHING)
                filled = filled.replace("{pop}", "local").replace("{host}", "localhost:1")
                filled = filled.replace("{secret}", "walked")
                if filled.endswith("/watch"):
                    continue
                connection = self.control.connection(unix=True)
                body = "" if method in ("get", "delete") else "{}"
                connection.request(method.upper(), filled, body)
                status = connection.getresponse().status
                connection.close()
                # A registry is told of, forgotten, and does not answer.
                more = (204, 503) if "{host}" in path else ()
                self.assertIn(status, (200, 404, 415, *more), (method, path))

        def references(value):
            if isinstance(value, dict):
                for key, inner in value.items():
                    if key == "$ref":
                        yield inner
                    yield from references(inner)
            elif isinstance(value, list):
                for inner in value:
                    yield from references(inner)

        for reference in set(references(description)):
            at = description
            for step in reference[2:].split("/"):
                at = at[step]
        # What a report may say, each item by its members; and what PoPs are there of a request.
        schemas = description["components"]["schemas"]
        report = schemas["Report"]["properties"]
        self.assertEqual(set(report["loads"]["items"]["properties"]),
                         {"endpoint_uid", "wait_ms", "service_ms", "start_ms", "weight",
                          "last_start_ms"})
        self.assertEqual(set(report["clients"]["items"]["properties"]),
                         {"endpoint_uid", "country", "requests", "near", "rtt_us"})
        past = schemas["PastRequest"]["properties"]["decisions"]["items"]["properties"]["pops"]
        self.assertEqual(set(past["items"]["properties"]), PAST_POP)


# As control says it (control/past.c).
PAST_POP = {"pop", "share", "rtt_ms", "queue_ms", "queue_felt_ms", "service_ms", "cold_ms",
            "cold_felt_ms", "total_ms", "rtt_source", "chosen", "near", "excluded"}


class Life(Case):
    def test_state_survives_kill(self):
        c = self.control
        rng = random.Random(4)
        for round in range(6):
            done = {}
            stop = threading.Event()

            def change():
                for i in range(1000):
                    name = f"end-{i % 4}"
                    try:
                        answer = c.deploy(name, model=f"{round} {i}", scale={"min": i % 3})
                    except (OSError, AssertionError, Exception):
                        return
                    if answer.status in (200, 201, 202):
                        done[name] = answer.json()
                    if stop.is_set():
                        return

            thread = threading.Thread(target=change)
            thread.start()
            thread.join(rng.uniform(0.05, 0.4))
            c.kill()
            stop.set()
            thread.join()
            c.start()
            for name, view in done.items():
                now = self.get(f"/endpoints/{name}")
                self.assertGreaterEqual(now["generation"], view["generation"])
                self.assertEqual(now["uid"], view["uid"])
                numbers = [r["number"] for r in self.get(f"/endpoints/{name}/revisions")["items"]]
                self.assertIn(now["target"], numbers)
                self.assertEqual(now["latest"], max(numbers))
                self.assertEqual(c.call("HEAD", f"/blobs/{now['spec']['model']}").status, 200)

    def test_a_state_that_cannot_be_read(self):
        c = self.control
        c.deploy()
        c.stop()
        database = c.home / "control/store.db"
        with sqlite3.connect(database) as db:
            [[known]] = db.execute("PRAGMA user_version").fetchall()
            db.execute("PRAGMA user_version = 4711")
        db.close()
        text = c.start(fails=True)
        self.assertIn("4711", text)
        with sqlite3.connect(database) as db:
            db.execute(f"PRAGMA user_version = {known}")
        db.close()
        c.start()
        self.assertEqual(self.get("/endpoints/digits")["target"], 1)
        c.stop()
        with open(database, "r+b") as file:
            file.seek(4096 * 2)
            file.write(os.urandom(4096))
        self.assertIn("perigee restore", c.start(fails=True))

    def test_clients_that_go_while_a_job_reads_for_them(self):
        """A sanitizer sees what a job reads of a request that has gone."""
        self.control.deploy()
        for i in range(50):
            gone = socket.create_connection(("127.0.0.1", self.control.port))
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            path = ["/events?endpoint=digits&project=default", "/endpoints/digits/logs?replica=r1",
                    "/endpoints/digits/explain?client=Paris"][i % 3]
            gone.sendall(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            gone.close()
        self.assertEqual(len(self.get("/events?endpoint=digits&project=default")["items"]), 2)

    def test_it_ends_while_changes_are_under_way(self):
        c = self.control
        model = c.blob("m")
        c.report()
        for i in range(20):
            body = json.dumps({"model": model})
            sent = c.connection()
            sent.request("PUT", f"/api/v1/endpoints/e{i}", body,
                         {"Content-Type": "application/json"})
            self.addCleanup(sent.close)
        self.assertEqual(c.stop(), 0, "".join(c.log))

    def test_draining_ends_watches(self):
        watch = self.control.watch("/events?watch=1")
        self.assertEqual(self.control.stop(), 0)
        self.assertIsNone(watch.next())


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # watches keep their sockets
