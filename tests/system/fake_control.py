# SPDX-License-Identifier: Apache-2.0
"""A control that is spoken for by the test: what an agent is told, in whatever order, and what is
answered to its reports and pulls."""
import hashlib
import http.server
import json
import queue
import re
import threading

import spoken_for
from perigee import DIGITS

PING_S = 2  # as control does, or the agent would take it for dead
CUT = object()  # in `events`, or in `first`: the watch ends


class FakeControl:
    def __init__(self, pop="paris"):
        self.pop, self.model = pop, (DIGITS / "digits.onnx").read_bytes()
        self.digest = "sha256:" + hashlib.sha256(self.model).hexdigest()
        self.blobs = {self.digest: self.model}
        self.revisions = {}  # of containers, by uid
        self.spec = {}  # of this PoP, told to who joins
        self.first = []  # events of each watch's beginning; or what gives them for its mark
        self.events = queue.Queue()  # then these
        self.watches = 0
        self.marks = []  # the Last-Event-ID of each, or None
        self.refusal = None  # of watches: (status, headers)
        self.reports, self.more = [], threading.Condition()
        self.usages = []
        self.asked = []  # what else is posted: (path, headers, body)
        self.on_report = lambda report: 200
        self.pulls = []  # the Range of each, or None
        self.on_pull = lambda handler, offset: None  # True: it has answered
        control = self

        class Handler(spoken_for.Handler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/usage"):
                    control.usages.append(body)
                    self.answer(503)
                    return
                body = json.loads(body)
                if self.path.endswith("/enrolments"):
                    self.answer(200, json.dumps({"pop": control.pop, "zone": "perigee.test",
                                                 "spec": control.spec}).encode())
                elif self.path.endswith("/report"):
                    self.answer(control.reported(body), b'{"events_seen":0}')
                else:
                    control.asked.append((self.path, str(self.headers), body))
                    self.answer(200, b"{}")

            def do_HEAD(self):
                data = control.blobs.get(self.path.rsplit("/", 1)[1])
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()

            def do_GET(self):
                if "/blobs/" in self.path:
                    control.pulled(self)
                else:
                    control.watched(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.events.put(CUT)
        self.server.shutdown()
        self.server.server_close()

    # -- the watch
    def watched(self, handler):
        if self.refusal:
            status, headers = self.refusal
            handler.answer(status, b"", **headers)
            return
        mark = handler.headers["Last-Event-ID"]
        self.marks.append(mark)
        self.watches += 1
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        for text in self.first(mark) if callable(self.first) else self.first:
            if text is CUT:
                return
            handler.wfile.write(text)
        while (text := self.next_event()) is not CUT:
            handler.wfile.write(text)

    def next_event(self):
        try:
            return self.events.get(timeout=PING_S)
        except queue.Empty:
            return b": ping\n\n"

    # -- reports
    def reported(self, report):
        status = self.on_report(report)
        with self.more:
            self.reports.append((status, report))
            self.more.notify_all()
        return status

    def told(self, kind="events"):
        """What reports that were taken have said."""
        return [item for status, report in self.reports if status == 200
                for item in report[kind]]

    # -- blobs
    def pulled(self, handler):
        given = handler.headers["Range"]
        offset = int(re.fullmatch(r"bytes=(\d+)-", given)[1]) if given else 0
        self.pulls.append(given)
        if not self.on_pull(handler, offset):
            data = self.blobs[handler.path.rsplit("/", 1)[1]]
            handler.answer(206 if given else 200, data[offset:])

    # -- what is said
    def endpoint(self, name="digits", uid=1, replicas=1, state="running", **more):
        spec = {"model": self.digest}
        return {"uid": uid, "name": name, "project": "default", "state": state, "generation": 1,
                "spec": spec, "target": 1, "pops": [{"name": self.pop, "replicas": replicas}],
                "revisions": [{"number": 1, "uid": uid << 24 | 1, "model": self.digest,
                               "runtime": "onnx", "spec": spec}], **more}

    def container(self, image, number=1, spec=None, port=8080, name="shop", uid=1, **more):
        """An endpoint of that image (engines.Image); `spec`: of its newest revision, and what
        governs it. Its blobs are to be had from here on."""
        self.blobs.update(image.blobs())
        manifest = json.loads(image.manifest)
        spec = {"name": name, "image": digest_of(image.manifest), "protocol": "http",
                "flavor": {"cpu": "1", "memory": "64MiB"}, **(spec or {})}
        rows = [{"digest": row["digest"], "size": row["size"], "media_type": row["mediaType"]}
                for row in manifest["layers"]]
        revision = {"number": number, "uid": uid << 24 | number, "model": "", "runtime": "image",
                    "spec": spec, "image": {"digest": spec["image"], "port": port,
                                            "config": {"digest": manifest["config"]["digest"],
                                                       "size": manifest["config"]["size"]},
                                            "layers": rows}}
        self.revisions[uid] = [row for row in self.revisions.get(uid, [])
                               if row["number"] != number] + [revision]
        return {"uid": uid, "name": name, "project": "default", "state": "running", "generation": 1,
                "spec": spec, "target": number, "pops": [{"name": self.pop, "replicas": 1}],
                "revisions": self.revisions[uid], **more}


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def event(kind, number, data):
    return f"event: {kind}\nid: {number}\ndata: {json.dumps(data)}\n\n".encode()
