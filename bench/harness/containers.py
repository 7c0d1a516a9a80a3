# SPDX-License-Identifier: Apache-2.0
"""Containers that are measured beside Perigee's: what the engine itself takes for the same one, and
an image of the peer that most people write."""
import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import re
import socket
import subprocess
import tarfile
import time

from harness import models, servers     # servers: the tests' own modules are on the path then

from engine_between import Between
from engines import CGROUPS, archive

API = "/v1.41"
PORT = 8080
TRY_SECONDS = 0.0005
CREATE = re.compile(rb"POST \S*/containers/create\S* HTTP/1\.1\r\n(.*?\r\n)\r\n", re.S)
LENGTH = re.compile(rb"^Content-Length: *(\d+)", re.M | re.I)
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


# ---- what the engine itself takes ----------------------------------------------------------------

class Overheard(Between):
    """Between a Perigee and its engine: hears what containers it asks for."""

    def __init__(self, engine, path):
        self.heard = {}
        super().__init__(engine, path)

    def forward(self, outer, some):
        self.heard.setdefault(outer, bytearray()).extend(some)
        super().forward(outer, some)

    def asked_for(self):
        """The body of a request to create one."""
        for said in map(bytes, self.heard.values()):
            if found := CREATE.search(said):
                size = int(LENGTH.search(found[1])[1])
                return json.loads(said[found.end():found.end() + size])
        raise SystemExit("bench: no container was asked for")


def socket_inside(pid):
    """One of the network that a process is in, made as Perigee's own helper does."""
    own, theirs = (os.open(f"/proc/{one}/ns/net", os.O_RDONLY) for one in ("thread-self", pid))
    try:
        if os.path.sameopenfile(own, theirs):
            raise SystemExit("bench: a container is in the machine's own network")
        if libc.setns(theirs, CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), "setns")
        one = socket.socket()
        if libc.setns(own, CLONE_NEWNET) < 0:
            raise SystemExit("bench: no way back from a container's network")
        return one
    finally:
        os.close(own)
        os.close(theirs)


class Bare:
    """Containers by the engine's API alone, over one kept connection."""

    def __init__(self, engine, wanted):
        self.group = f"perigee-bench-{os.getpid()}"
        host = {**wanted["HostConfig"], "CgroupParent": f"/{self.group}/1"}
        self.wanted = {**wanted, "HostConfig": host, "Labels": {}}  # not Perigee's to sweep
        self.connection, self.made = engine.connection(), 0

    def ask(self, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body else {}
        self.connection.request(method, API + path, body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"bench: {method} {path}: {answer.status} {content[:300]!r}")
        return content

    def begin_ms(self, until):
        """From the command to create one to the end of until(connect); it is removed then."""
        self.ask("GET", "/version")     # the connection is there
        self.made += 1
        name, wanted = f"bare-{os.getpid()}-{self.made}", json.dumps(self.wanted)
        begin = time.monotonic()
        one = json.loads(self.ask("POST", f"/containers/create?name={name}", wanted))["Id"]
        try:
            self.ask("POST", f"/containers/{one}/start")
            pid = self.process(one)
            until(lambda: self.connect(pid))
            return (time.monotonic() - begin) * 1000
        finally:
            self.ask("DELETE", f"/containers/{one}?force=1&v=1")

    def process(self, one):
        """From its control group: the engine need not be asked a third time."""
        for top in (CGROUPS / "pids", CGROUPS):
            for name in (one, f"libpod-{one}"):
                procs = top / self.group / "1" / name / "cgroup.procs"
                with contextlib.suppress(OSError, IndexError):
                    return int(procs.read_text().split()[0])
        return json.loads(self.ask("GET", f"/containers/{one}/json"))["State"]["Pid"]

    @staticmethod
    def connect(pid):
        """A connection to its port, once it listens."""
        deadline = time.monotonic() + servers.START_SECONDS
        while time.monotonic() < deadline:
            one = socket_inside(pid)
            one.settimeout(servers.START_SECONDS)
            if one.connect_ex(("127.0.0.1", PORT)) == 0:
                return one
            one.close()
            time.sleep(TRY_SECONDS)
        raise SystemExit("bench: a container never listens")

    def close(self):
        self.connection.close()
        for top in [*CGROUPS.glob(f"*/{self.group}"), CGROUPS / self.group]:
            for folder in sorted(top.glob("**/"), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()


# ---- FastAPI with ONNX Runtime in an image -------------------------------------------------------

LEFT_OUT = ("/test", "/idlelib", "/tkinter", "/dist-packages", "/ensurepip", "/config-", "/lib2to3")


def libraries(files):
    """Where the machine's own shared libraries are that these need, by the name looked for."""
    done = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False)
    rows = re.findall(r"^\s+(?:(\S+) => )?(/(?:usr/)?lib\S+) \(0x", done.stdout, re.M)
    return {name or os.path.basename(where): where for name, where in rows}


def fastapi_layer(path, model):
    """This machine's Python, the peer's environment, its application and the model, all with their
    times, so that what is compiled is used as it is."""
    environment = models.component("fastapi") / "venv"
    python = pathlib.Path(os.path.realpath(environment / "bin" / "python"))
    said = subprocess.run([python, "-c", "import os; print(os.__file__)"], capture_output=True,
                          text=True, check=True).stdout
    standard = pathlib.Path(said).parent
    packages = next((environment / "lib").glob("python*/site-packages"))
    programs = [python, *standard.glob("lib-dynload/*.so"), *packages.glob("**/*.so*")]
    with tarfile.open(path, "w") as tar:
        tar.add(python, python)
        tar.add(standard, standard, filter=lambda row: None if any(
            part in row.name for part in LEFT_OUT) else row)
        tar.add(packages, "site")
        for name, where in libraries(programs).items():
            folder = "usr/lib64" if name.startswith("ld-") else "usr/lib/x86_64-linux-gnu"
            tar.add(os.path.realpath(where), f"{folder}/{name}")
        for name in ("lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        tar.add(models.ROOT / "bench" / "peers" / "fastapi_app.py", "app/fastapi_app.py")
        tar.add(model, "app/model.onnx")
    return python


def fastapi_image(folder, name, model):
    """(a docker-archive, the digest of its configuration)."""
    layer, whole = folder / "layer.tar", folder / "fastapi.tar"
    python = fastapi_layer(layer, model)
    with open(layer, "rb") as file:
        diff = hashlib.file_digest(file, "sha256").hexdigest()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {
            "Entrypoint": [str(python), "-m", "uvicorn", "fastapi_app:app", "--app-dir", "/app",
                           "--port", str(PORT), "--workers", "1", "--loop", "uvloop", "--http",
                           "httptools", "--no-access-log", "--log-level", "warning"],
            "Env": ["PYTHONPATH=/site", "PYTHONDONTWRITEBYTECODE=1",
                    "PERIGEE_BENCH_MODELS=" + json.dumps({name: "/app/model.onnx"})]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]}}).encode()
    digest = hashlib.sha256(config).hexdigest()
    listed = [{"Config": f"{digest}.json", "RepoTags": None, "Layers": ["layer.tar"]}]
    whole.write_bytes(archive([(f"{digest}.json", config, 0o644),
                               ("manifest.json", json.dumps(listed).encode(), 0o644)]))
    with tarfile.open(whole, "a") as tar:
        tar.add(layer, "layer.tar")
    layer.unlink()
    return whole, f"sha256:{digest}"


def load(engine, whole):
    with contextlib.closing(engine.connection()) as connection, open(whole, "rb") as file:
        connection.request("POST", f"{API}/images/load", file,
                           {"Content-Type": "application/x-tar",
                            "Content-Length": str(whole.stat().st_size)})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200 or b'"error"' in said:
            raise SystemExit(f"bench: the engine does not load FastAPI's image: {said[-300:]!r}")
