# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured side by side. Each has a port, its processes, and stop()."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

from harness import models, processes, requests

sys.path.insert(0, str(models.ROOT / "tests" / "system"))
os.environ.setdefault("PERIGEE_BIN", str(models.BUILD / "perigee"))
from perigee import Perigee  # noqa: E402  (the tests' own way to start one)

START_SECONDS = 90


class NotBuilt(Exception):
    """This Perigee refuses what the case needs as `not yet`."""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_port(port, process, log):
    """Until it listens; with the last words of one that ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench: {process.args[0]} does not start: "
                             f"{pathlib.Path(log).read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS)


def ask(port, request):
    """(headers, body) of one answer, which must be a 200."""
    with connect(port) as connection:
        connection.sendall(request)
        status, headers, body = requests.read_answer(connection.makefile("rb"))
    if status != 200:
        raise SystemExit(f"bench: port {port} answers {status}: {body[:400]!r}")
    return headers, body


class Spawned:
    """A program of someone else's."""

    def __init__(self, command, port, folder, environment=None):
        self.port = port
        log = folder / "log"
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
                env={**os.environ, **(environment or {})})
        try:
            wait_port(port, self.process, log)
        except BaseException:
            self.stop()
            raise

    def pids(self):
        return processes.tree(self.process.pid)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


NGINX = """
daemon off; master_process on; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    map $host $kib {{ default "{kib}"; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ default_type application/json; return 200 "{body}"; }}
    }}
}}
"""


class Nginx(Spawned):
    """One worker, no log, keep-alive without end; the answer is `answer_bytes` long."""

    def __init__(self, folder, answer_bytes):
        folder.mkdir(exist_ok=True)
        port = free_port()
        # A word of its configuration has at most 4 KiB: a long answer is of a variable.
        body = "${kib}" * (answer_bytes // 1024) + "x" * (answer_bytes % 1024)
        (folder / "nginx.conf").write_text(
            NGINX.format(folder=folder, port=port, kib="x" * 1024, body=body))
        super().__init__(["nginx", "-p", folder, "-c", folder / "nginx.conf"], port, folder)

    def check_reads(self, request):
        """It answers before it reads a body; that it does read is what makes it a floor."""
        with connect(self.port) as connection:
            connection.sendall(request)
            requests.read_answer(connection.makefile("rb"))
            deadline = time.monotonic() + START_SECONDS
            while (left := unread(connection)) > 0:
                if time.monotonic() > deadline:
                    raise SystemExit(f"bench: nginx leaves {left} bytes of a body unread")
                time.sleep(0.001)


def unread(connection):
    """What we sent over a connection on loopback and its other end has not read."""
    def hexadecimal(address):
        host, port = address
        return f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"

    mine, peer = hexadecimal(connection.getsockname()), hexadecimal(connection.getpeername())
    total = 0
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        sending, receiving = (int(part, 16) for part in words[4].split(":"))
        if words[1:3] == [mine, peer]:
            total += sending
        elif words[1:3] == [peer, mine]:
            total += receiving
    return total


class Gateway:
    """A `perigee up` of its own. Endpoints are made when first asked for."""

    def __init__(self, folder, *arguments):
        folder.mkdir(exist_ok=True)
        (folder / "home").mkdir(mode=0o700)
        self.perigee = Perigee(folder / "home", arguments)
        self.perigee.start()
        self.port = self.perigee.address()[1]
        self.made = set()

    def endpoint(self, model, path, replicas=1, batch=0):
        name = f"{model}{f'-x{replicas}' if replicas > 1 else ''}{'-batched' if batch else ''}"
        if name in self.made:
            return name
        spec = {"name": name, "model": str(path), "scale": {"min": replicas, "max": replicas}}
        if batch:
            spec["batch"] = {"max": batch}
        done = self.perigee.cli("apply", "-f", "-", stdin=json.dumps(spec).encode(), status=None)
        if done.returncode and re.search(r"not yet|not acted upon yet", done.said):
            raise NotBuilt(done.said.strip())
        if done.returncode:
            raise SystemExit(f"bench: perigee apply: {done.said.strip()}")
        self.made.add(name)
        return name

    def pids(self):
        return processes.tree(self.perigee.process.pid)

    def stop(self):
        self.perigee.stop()


class FastApi(Spawned):
    def __init__(self, folder, paths):
        folder.mkdir(exist_ok=True)
        port = free_port()
        command = [models.component("fastapi") / "venv/bin/uvicorn", "fastapi_app:app",
                   "--app-dir", models.ROOT / "bench" / "peers", "--port", str(port),
                   "--workers", "1", "--loop", "uvloop", "--http", "httptools",
                   "--no-access-log", "--log-level", "warning"]
        super().__init__(command, port, folder, {
            "PERIGEE_BENCH_MODELS": json.dumps({name: str(path) for name, path in paths.items()}),
            "PYTHONDONTWRITEBYTECODE": "1"})


class MlServer(Spawned):
    def __init__(self, folder, paths):
        folder.mkdir(exist_ok=True)
        port = free_port()
        (folder / "settings.json").write_text(json.dumps({
            "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(),
            "metrics_port": free_port(), "debug": False, "parallel_workers": 0,
            "gzip_enabled": False}))
        for name, path in paths.items():
            (folder / name).mkdir()
            (folder / name / "model-settings.json").write_text(json.dumps({
                "name": name, "implementation": "mlserver_onnx.OnnxModel",
                "parameters": {"uri": str(path)}}))
        super().__init__(
            [models.component("mlserver") / "venv/bin/mlserver", "start", folder], port, folder,
            {"PYTHONPATH": str(models.ROOT / "bench" / "peers"), "PYTHONDONTWRITEBYTECODE": "1"})
        self.wait_models(paths)

    def wait_models(self, paths):
        """It listens before its models are loaded."""
        deadline = time.monotonic() + START_SECONDS
        for name in paths:
            path = f"GET /v2/models/{name}/ready HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            while time.monotonic() < deadline:
                with connect(self.port) as connection:
                    connection.sendall(path)
                    if requests.read_answer(connection.makefile("rb"))[0] == 200:
                        break
                time.sleep(0.1)
