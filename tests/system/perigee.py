# SPDX-License-Identifier: Apache-2.0
"""A real Perigee, started on free ports in a home of its own, and what tests ask of it."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import signal
import socket
import stat
import subprocess
import time

from deadline import (DEADLINE, SANITIZED, Lines, children, command_line, wait_exit, wait_file)

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("PERIGEE_BIN", ROOT / "build" / "perigee"))
DIGITS = ROOT / "examples" / "digits"
SANITIZER_FOUND = re.compile(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error:")
SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')
LISTENERS = ("gateway", "control", "admin", "dns")


PART_LISTENERS = {"up": LISTENERS, "fleet": LISTENERS,
                  "control": ["control"], "pop": ["gateway", "admin"],
                  "dns": ["admin", "dns"]}


class Perigee:
    """One `perigee up`, `control`, `pop` or `dns`. start() and stop() may be called in turn on the
    same home."""

    program = PROGRAM
    wrap = ()  # a command before it: machine.NO_USER_NAMESPACES

    def __init__(self, home, arguments=(), part="up"):
        self.part = part
        self.home = pathlib.Path(home)
        self.arguments = list(arguments)
        self.log = self.home.parent / f"{self.home.name}.log"
        self.process = None
        self.addresses = {}

    # --- its life ------------------------------------------------------------------------------

    def environment(self):
        env = {key: value for key, value in os.environ.items() if not key.startswith("PERIGEE_")}
        env.update(PERIGEE_HOME=str(self.home))
        return env

    def start(self, *arguments, wait=True, limits=()):
        """Starts it; returns once all listen, or fails with its last words. `limits`: (RLIMIT_X,
        (soft, hard)) in turn."""
        addresses = self.home / "run" / "addresses.json"
        addresses.unlink(missing_ok=True)
        command = [*self.wrap, self.program, self.part]
        given = self.arguments + list(arguments)
        for name in PART_LISTENERS["fleet" if "--fleet" in given else self.part]:
            if f"--listen-{name}" not in given:
                command += [f"--listen-{name}", "127.0.0.1:0"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command + given, env=self.environment(),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=lambda: [
                                                resource.setrlimit(*row) for row in limits])
        if wait:
            wait_file(addresses, self.process, time.monotonic() + DEADLINE)
            if not addresses.exists():
                raise AssertionError(f"perigee {self.part} ended with {self.process.wait()}:\n"
                                     f"{self.tail()}")
            self.addresses = json.loads(addresses.read_text())
        return self

    def stop(self, by=signal.SIGTERM):
        """Ends it, and checks that nothing is left behind. Returns its exit status."""
        if self.process is None:
            return None
        mine = self.pids()
        if self.process.poll() is None:
            self.process.send_signal(by)
            try:
                wait_exit(self.process.pid, "the supervisor's end")
            except AssertionError:
                self.process.kill()
                self.process.wait()
                raise
        status = self.process.wait()
        self.process = None
        self.check_nothing_left(mine)
        return status

    @contextlib.contextmanager
    def running(self):
        """Started, and ended however what is done with it ends."""
        try:
            yield self.start()
        finally:
            self.stop()

    def kill(self):
        """As if the power went for this one process: SIGKILL to the supervisor."""
        return self.stop(signal.SIGKILL)

    def check_nothing_left(self, mine):
        """Processes are gone (orphans come to us, who are a subreaper), and no port listens."""
        for pid in mine:
            line = command_line(pid)
            try:
                wait_exit(pid, f"the end of what was left behind: {pid} {line}", seconds=5)
            finally:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        for name, addresses in self.addresses.items():
            for address in addresses:
                assert not listens(address), f"{name} still listens at {address}"
        self.addresses = {}
        for text in self.words():
            found = SANITIZER_FOUND.search(text)
            assert not found, f"a sanitizer spoke:\n{text[found.start():][:6000]}"

    def words(self):
        """What its processes have said: the log, and what control kept of replicas."""
        yield self.log.read_text(errors="replace")
        for path in self.home.glob("control/*.db*") if SANITIZED else ():
            yield path.read_bytes().decode("latin-1")

    def tail(self, count=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    # --- its processes -------------------------------------------------------------------------

    def pids(self):
        """All processes of the tree, the supervisor included."""
        found, todo = set(), [self.process.pid] if self.process else []
        while todo:
            pid = todo.pop()
            found.add(pid)
            todo += children(pid) - found
        return found

    def role_pid(self, role):
        return next(pid for pid in children(self.process.pid)
                    if f"role {role}" in command_line(pid))

    # --- talking to it -------------------------------------------------------------------------

    def address(self, listener="gateway"):
        host, port = self.addresses[listener][0].rsplit(":", 1)
        return host.strip("[]"), int(port)

    def connect(self, listener="gateway"):
        return socket.create_connection(self.address(listener), timeout=DEADLINE)

    def request(self, method, path, body=None, headers=None, listener="gateway"):
        """One request on a connection of its own: (status, headers, body)."""
        connection = http.client.HTTPConnection(*self.address(listener), timeout=DEADLINE)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get_json(self, path, listener="gateway", status=200):
        got, _, body = self.request("GET", path, listener=listener)
        assert got == status, f"GET {path}: {got} {body[:500]!r}"
        return json.loads(body)

    def metric(self, name, **labels):
        """The sum of a metric's samples with these labels."""
        status, headers, body = self.request("GET", "/metrics", listener="admin")
        assert status == 200 and headers["Content-Type"].startswith("text/plain")
        total = 0.0
        for line in body.decode().splitlines():
            if line.startswith("#") or not line:
                continue
            found = SAMPLE.match(line)
            assert found, f"not Prometheus text: {line!r}"
            given = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
            if found[1] == name and labels.items() <= given.items():
                total += float(found[3])
        return total

    def wait_metric(self, wanted, name, **labels):
        """Until wanted(value) is true: a loop of the gateway counts once a second."""
        deadline = time.monotonic() + DEADLINE
        while not wanted(value := self.metric(name, **labels)):
            assert time.monotonic() < deadline, f"{name} {labels} stays at {value}"

    def cli(self, *arguments, status=0, stdin=None, cwd=None):
        """Runs a command against this Perigee; fails unless it ends with `status`."""
        done = subprocess.run([self.program, *map(str, arguments)], env=self.environment(), cwd=cwd,
                              input=stdin, capture_output=True, timeout=DEADLINE * 2)
        said = done.stderr.decode(errors="replace")
        assert status is None or done.returncode == status, (
            f"perigee {' '.join(map(str, arguments))}: exit {done.returncode}, not {status}\n"
            f"{done.stdout.decode(errors='replace')}{said}")
        done.text, done.said = done.stdout.decode(errors="replace"), said
        return done

    def json(self, *arguments):
        return json.loads(self.cli(*arguments, "--json").stdout)

    @contextlib.contextmanager
    def events(self, new=False):
        """Follows events: `with perigee.events() as events: ...; events.wait(...)`. Those that have
        happened already come first, unless `new`."""
        said = self.cli("events", "--limit", 1000, "--json").text if new else ""
        last = max((json.loads(line)["id"] for line in said.splitlines()), default=0)
        process = subprocess.Popen([self.program, "events", "--follow", "--json"],
                                   env=self.environment(), stdout=subprocess.PIPE)
        try:
            yield Events(process.stdout.fileno(), last)
        finally:
            process.terminate()
            process.wait(DEADLINE)
            process.stdout.close()

    def wait_event(self, kind, **fields):
        """Waits for an event, those that have happened already included."""
        with self.events() as events:
            return events.wait(kind, **fields)


class Events:
    def __init__(self, descriptor, last=0):
        self.lines = Lines(descriptor)
        self.last = last
        self.seen = []

    def wait(self, kind, **fields):
        wanted = {"kind": kind, **fields}
        deadline = time.monotonic() + DEADLINE
        while True:
            event = self.lines.next(deadline, f"the event {wanted}; seen: {self.seen[-5:]}")
            self.seen.append(event)
            if event["id"] > self.last and all(
                    event.get(key) == value for key, value in wanted.items()):
                return event


def listens(address):
    if address.startswith("unix:"):
        path = pathlib.Path(address[5:])
        return path.exists() and stat.S_ISSOCK(path.stat().st_mode)
    host, port = address.rsplit(":", 1)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host.strip("[]"), int(port))) == 0
