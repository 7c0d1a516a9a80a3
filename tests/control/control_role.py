# SPDX-License-Identifier: Apache-2.0
"""The control role by itself (control_alone), for tests: started over a new home, called over TCP
and over the home's socket. Python's own library is all that is needed."""
import hashlib
import http.client
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

PROGRAM = os.environ["CONTROL_ALONE"]
SECONDS = 30


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    def json(self):
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=SECONDS)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self.path)


class Watch:
    """Server-sent events; next() waits for one."""

    def __init__(self, connection, path, headers):
        self.connection, self.events = connection, queue.Queue()
        self.pings = False  # True: they are events as well
        connection.request("GET", path, headers=headers)
        self.response = connection.getresponse()
        self.status = self.response.status
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        event = {}
        try:
            for line in self.response:
                line = line.decode().rstrip("\n")
                if line == "":
                    if "data" in event:
                        self.events.put((event["event"], int(event["id"]),
                                         json.loads(event["data"])))
                    event = {}
                elif line.startswith(":"):
                    if self.pings:
                        self.events.put(("ping", 0, None))
                else:
                    key, _, value = line.partition(": ")
                    event[key] = value
        except (OSError, ValueError, http.client.HTTPException):
            pass
        self.events.put(None)

    def next(self):
        return self.events.get(timeout=SECONDS)

    def until(self, kind):
        while True:
            event = self.next()
            assert event is not None, f"the watch ended before '{kind}'"
            if event[0] == kind:
                return event

    def close(self):
        try:
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass


class Control:
    def __init__(self, home=None):
        self.home = home or pathlib.Path(tempfile.mkdtemp(prefix="pgc-", dir="/tmp"))
        self.seq = 0
        self.process = None

    def start(self, fails=False):
        self.process = subprocess.Popen([PROGRAM, str(self.home)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        if fails:
            assert not line, line
            self.process.stdin.close()
            self.process.stdout.close()
            text = self.process.stderr.read()
            self.process.stderr.close()
            self.process.wait(SECONDS)
            return text
        if not line:
            raise AssertionError(self.process.stderr.read())
        self.port, self.pid = int(line[1]), int(line[2])
        self.log = []
        self.reader = threading.Thread(target=self._read_log, args=[self.process.stderr],
                                       daemon=True)
        self.reader.start()
        return self

    def _read_log(self, stream):
        for line in stream:
            self.log.append(line)
        stream.close()

    def _ended(self):
        self.process.stdin.close()
        self.process.wait(SECONDS)
        self.process.stdout.close()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self._ended()

    def stop(self):
        self._ended()
        return self.process.returncode

    def whole_log(self):
        """All lines, of one that has ended by now: a live one's come as they are read."""
        assert self.stop() == 0, "".join(self.log)
        self.reader.join(SECONDS)
        return self.log

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)

    # -- calls
    def connection(self, unix=False):
        if unix:
            return UnixConnection(str(self.home / "run/control.sock"))
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def call(self, method, path, body=None, unix=False, type="application/json", **headers):
        connection = self.connection(unix)
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        if body is not None or method in ("PUT", "POST", "PATCH"):
            headers.setdefault("Content-Type", type)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        root = path in ("/openapi.json", "/healthz", "/readyz", "/metrics") or path[:4] == "/v2/"
        try:
            connection.request(method, path if root else "/api/v1" + path, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # answered before all of the body was wanted
        response = connection.getresponse()
        answer = Answer(response, response.read())
        connection.close()
        return answer

    def watch(self, path, unix=False, **headers):
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        return Watch(self.connection(unix), "/api/v1" + path, headers)

    def blob(self, content):
        if isinstance(content, str):
            content = content.encode()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        answer = self.call("PUT", f"/blobs/{digest}", content, type="application/octet-stream")
        assert answer.status in (200, 201), answer.body
        return digest

    def deploy(self, name="digits", model="a model", **keys):
        return self.call("PUT", f"/endpoints/{name}", {"model": self.blob(model), **keys})

    def report(self, instance=1, sequence=0, pop="local", **lists):
        answer = self.call("POST", f"/pops/{pop}/report",
                           {"instance": instance, "sequence": sequence, **lists}, unix=True)
        assert answer.status == 200, answer.body
        return answer.json()

    def item(self, **members):
        self.seq += 1
        return {"seq": self.seq, **members}

    def serve(self, uid, revision=1, state="ready", sequence=0, name="digits"):
        return self.report(
            sequence=sequence,
            replicas=[{"id": "1", "name": f"{name}-1", "endpoint": name, "project": "default",
                       "endpoint_uid": uid, "revision": revision, "state": state, "pid": 7,
                       "since": "2026-11-23T00:00:00.000Z"}],
            endpoints=[{"uid": uid, "serving": revision, "target": revision,
                        "target_state": "ready", "message": ""}])
