# SPDX-License-Identifier: Apache-2.0
"""Nothing lost: files that cannot be read, full disks, clocks that jump, kills in the middle."""
import os
import signal
import time

from deadline import wait_exit
from test_processes import infer, kill, right, role_pid, served, shown, until


def test_a_desired_state_that_cannot_be_read_costs_no_replica(perigee, digits):
    """A new agent knows nothing before control has spoken: what runs stays, and serves."""
    before = shown(perigee, digits)
    control = role_pid(perigee, "control")
    os.kill(control, signal.SIGSTOP)  # it will not speak for now
    try:
        (perigee.home / "pop" / "desired.json").write_text("{\"version\": 1, \"endpo")
        victim = role_pid(perigee, "pop")
        kill(victim)
        until("another agent", lambda: role_pid(perigee, "pop") not in (None, victim))
        until("that it knows nothing",
              lambda: b"no desired state" in perigee.request("GET", "/readyz", listener="admin")[2])
        status, body = infer(perigee)
        assert status == 200 and right(body)
    finally:
        os.kill(control, signal.SIGCONT)
    until("the same replicas", lambda: shown(perigee, digits) == before)
    assert right(served(perigee))
    # What control says is on disk again: the file is whole.
    until("the file", lambda: (perigee.home / "pop" / "desired.json").read_text().endswith("]}\n"))
