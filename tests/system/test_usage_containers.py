# SPDX-License-Identifier: Apache-2.0
"""What containers used is what the kernel says of their control groups, without the engine's
monitor; by requests and in idle, whoever is killed meanwhile. With Podman and Docker."""
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from deadline import until
from engines import CGROUPS, server_image
from test_image_chain import deploy, get, ours, push, ready
from test_image_chain import engine, perigee, server  # fixtures  # noqa: F401
from test_usage import of_endpoint, pids_of, until_counted

REQUESTS, REQUEST_US = 60, 20_000   # what each uses (engines.py: "burn")
IDLE_US = 300_000
MONITOR_US = 1_000_000
LAG_US = 20_000     # v1 counts what runs at each tick, and two figures are not read at once
BURN = f"""
import sys, time
sys.stdin.readline()
while time.process_time() < {MONITOR_US / 1e6}: pass
"""


class Group:
    """The control group that stands above the one container of `shop`."""

    def __init__(self, engine):
        [row] = ours(engine)
        self.inside = json.loads(engine.ask("GET", f"/v1.41/containers/{row['Id']}/json")[1])
        self.path = self.inside["HostConfig"]["CgroupParent"].lstrip("/")
        files = [*CGROUPS.glob(f"*/{self.path}/cpuacct.usage"),
                 *CGROUPS.glob(f"{self.path}/cpu.stat")]
        self.folder = files[0].parent
        self.monitor = self.folder / "conmon"   # Podman's

    @staticmethod
    def read_us(folder):
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text()) // 1000
        rows = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return int(rows["usage_usec"])

    def whole_us(self):
        return self.read_us(self.folder)

    def monitor_us(self):
        return self.read_us(self.monitor) if self.monitor.exists() else 0

    def own_us(self):
        """Of the container itself, which the engine has put below."""
        [own] = [below for below in self.folder.iterdir()
                 if below.is_dir() and below != self.monitor]
        return self.read_us(own)

    def keep_monitor_busy(self):
        """As if it had much to do: a second more in its group."""
        process = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE)
        (self.monitor / "cgroup.procs").write_text(str(process.pid))
        process.communicate(b"\n")
        assert process.returncode == 0

    def has(self, pid):
        rows = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        return any(row.split(":", 2)[2].lstrip("/").startswith(self.path) for row in rows)


def parent_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def burns(perigee, server, **scale):
    push(perigee, server_image(server, "burn"))
    deploy(perigee, scale={"min": 1, "max": 1, **scale})
    until("one that is ready", lambda: ready(perigee) == 1)


def ask(perigee, count):
    for _ in range(count):
        assert get(perigee)[0] == 200


def quiet(perigee):
    """From now on it uses nothing but for requests."""
    status, _, _ = perigee.request("GET", "/quiet", headers={"Host": "shop.localhost"})
    assert status == 200


def check(row, kernel_us):
    assert abs(row["cpu_us"] - kernel_us) <= kernel_us / 100, (row, kernel_us)
    assert row["busy_us"] + row["start_us"] + row["idle_us"] == row["cpu_us"]


def test_the_sum_is_the_kernels_within_one_percent_without_the_monitors(perigee, engine, server):
    burns(perigee, server)
    group = Group(engine)
    [pid] = pids_of(perigee, "shop")
    assert group.has(pid)
    if engine.name == "Podman":
        group.keep_monitor_busy()
        assert group.monitor_us() >= MONITOR_US - LAG_US
    else:
        assert not group.has(parent_of(pid)), "Docker's monitor is elsewhere"
    ask(perigee, REQUESTS)
    until("what it used in idle",
          lambda: of_endpoint(perigee, "shop").get("idle_us", 0) >= IDLE_US)
    quiet(perigee)
    whole, monitor, own = group.whole_us(), group.monitor_us(), group.own_us()
    assert abs(whole - monitor - own) <= LAG_US, "there is nobody else in it"
    assert own > REQUESTS * REQUEST_US + IDLE_US
    row = until_counted(perigee, REQUESTS + 1, "shop")
    assert row["requests"] == REQUESTS + 1
    check(row, own)
    assert row["busy_us"] >= row["requests"] * REQUEST_US - LAG_US
    assert row["idle_us"] >= IDLE_US and row["starts"] == row["cold_starts"] == 1


@pytest.mark.long
def test_killed_agents_count_nothing_twice_and_lose_nothing(perigee, engine, server):
    burns(perigee, server)
    group = Group(engine)
    until("its start to be counted", lambda: of_endpoint(perigee, "shop").get("start_us"))
    for _ in range(3):
        ask(perigee, REQUESTS // 3)
        victim = perigee.role_pid("pop")
        os.kill(victim, signal.SIGKILL)
        until("the next agent has it", lambda: ready(perigee) == 1)
    quiet(perigee)
    own = group.own_us()
    row = until_counted(perigee, REQUESTS + 1, "shop")
    assert row["requests"] == REQUESTS + 1 and row["starts"] == 1
    check(row, own)
    assert row["busy_us"] >= row["requests"] * REQUEST_US - LAG_US
