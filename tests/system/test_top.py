# SPDX-License-Identifier: Apache-2.0
"""`perigee top`: on a terminal (a pty), and without one."""
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest

from deadline import DEADLINE, until, wait_exit, wait_readable
from perigee import PROGRAM
from test_processes import infer

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Screen:
    """`perigee top` in a terminal of so many rows and columns."""

    def __init__(self, one, *arguments, rows=24, columns=80):
        self.mine, theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        env = {**one.environment(), "TERM": "xterm"}
        self.process = subprocess.Popen([PROGRAM, "top", "--every", "200ms", *arguments], env=env,
                                        stdin=theirs, stdout=theirs, stderr=theirs,
                                        start_new_session=True, preexec_fn=self.take)
        self.seen = b""

    @staticmethod
    def take():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.mine, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys):
        os.write(self.mine, keys.encode())

    def read(self):
        self.seen += os.read(self.mine, 65536)

    def picture(self):
        """The last whole picture, as lines."""
        pictures = self.seen.split(b"\x1b[H")[1:]
        whole = [one for one in pictures if b"\x1b[J" in one]
        text = whole[-1].split(b"\x1b[J")[0].decode() if whole else ""
        return [ESCAPES.sub("", line).rstrip("\r") for line in text.split("\r\n")]

    def until(self, what, look):
        """Of a picture drawn from now on."""
        self.seen = b""
        deadline = time.monotonic() + DEADLINE
        while not look(self.picture()):
            wait_readable([self.mine], deadline, what)
            self.read()
        return self.picture()

    def ended(self):
        """Its exit status, once it has given the terminal back as it was."""
        deadline = time.monotonic() + DEADLINE
        while LEAVE not in self.seen:
            wait_readable([self.mine], deadline, "the end of the other screen")
            self.read()
        wait_exit(self.process.pid, "the end of top")
        status = self.process.wait()
        assert termios.tcgetattr(self.theirs) == self.before
        assert self.seen.rstrip().endswith(LEAVE)
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.mine)
        os.close(self.theirs)


@pytest.fixture(name="top")
def _top(perigee, digits):
    made = []

    def new(*arguments, **how):
        made.append(Screen(perigee, *arguments, **how))
        return made[-1]
    yield new
    for screen in made:
        screen.close()


def row_of(lines, name):
    return next((line.split() for line in lines if line.startswith(name)), None)


def test_what_is_asked_is_seen(perigee, digits):
    def asked():
        infer(perigee, digits)
        item = perigee.json("top")["items"][0]
        return item["rate"] > 0 and item["p99_ms"] is not None and item

    item = until("its requests to be told", asked)
    assert item["endpoint"] == "digits" and item["ready"] == item["replicas"] == 1
    assert 0 < item["p50_ms"] <= item["p99_ms"] and item["error_rate"] == 0
    assert [row["pop"] for row in item["pops"]] == ["local"]
    table = perigee.cli("top", "--once").text
    assert all(len(line) <= 80 for line in table.splitlines())
    assert row_of(table.splitlines(), "digits")[1:3] == ["active", "1/1"]
    assert "at local" in perigee.cli("top", "--pops").text


def test_without_a_terminal_it_is_one_table(perigee, digits):
    text = perigee.cli("top").text
    assert "\x1b" not in text and "ENDPOINT" in text and "digits" in text
    assert json.loads(perigee.cli("top", "--json").text)["endpoints"] == 1


def test_q_ends_it(top):
    screen = top()
    lines = screen.until("the table", lambda lines: row_of(lines, "digits"))
    assert "1 endpoint, 1/1 replicas ready" in " ".join(lines)
    assert any("REQ/S\u2193" in line for line in lines)
    screen.press("q")
    assert screen.ended() == 0


def test_keys_sort_and_show_pops(top):
    screen = top()
    screen.until("the table", lambda lines: row_of(lines, "digits"))
    screen.press("n")
    screen.until("by name", lambda lines: any("ENDPOINT\u2191" in line for line in lines))
    screen.press("n")
    screen.until("from the last", lambda lines: any("ENDPOINT\u2193" in line for line in lines))
    screen.press("p")
    screen.until("the PoP's row", lambda lines: any("at local" in line for line in lines))
    screen.press("\x1b[B\x1b[A\x1b[5~\x1b[6~\x1b[99~xyz")
    screen.press("l")
    screen.until("by the 99th", lambda lines: any("P99\u2193" in line for line in lines))
    screen.press("q")
    assert screen.ended() == 0


def test_it_fits_what_the_terminal_is_now(top):
    screen = top(rows=10, columns=60)
    fits = screen.until("the table", lambda lines: row_of(lines, "digits"))
    assert len(fits) <= 10 and all(len(line) <= 60 for line in fits)
    assert not any("REVISION" in line for line in fits)
    screen.resize(30, 140)
    screen.until("more columns", lambda lines: any("REVISION" in line for line in lines))
    screen.resize(4, 50)
    small = screen.until("fewer", lambda lines: 0 < len(lines) <= 4 and "endpoint" in lines[0])
    assert all(len(line) <= 50 for line in small)
    screen.press("q")
    assert screen.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT,
                                    signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_gives_the_terminal_back(top, number):
    screen = top()
    screen.until("the table", lambda lines: row_of(lines, "digits"))
    screen.process.send_signal(number)
    assert screen.ended() == -number


def test_ctrl_c_and_ctrl_z(top):
    screen = top()
    screen.until("the table", lambda lines: row_of(lines, "digits"))
    screen.press("\x1a")
    assert os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED).si_status == signal.SIGSTOP
    while LEAVE not in screen.seen:
        screen.read()
    assert termios.tcgetattr(screen.theirs) == screen.before
    screen.process.send_signal(signal.SIGCONT)
    screen.until("the table again", lambda lines: row_of(lines, "digits"))
    screen.press("\x03")
    assert screen.ended() == -signal.SIGINT


def test_a_control_that_is_away_is_said(new_perigee, top):
    one = new_perigee()
    screen = Screen(one)
    try:
        screen.until("an empty table", lambda lines: any("ENDPOINT" in line for line in lines))
        one.stop()
        screen.until("why there is nothing new",
                     lambda lines: any("perigee up" in line for line in lines))
        screen.press("q")
        assert screen.ended() == 0
    finally:
        screen.close()


def test_wrong_options(perigee):
    assert "did you mean rate?" in perigee.cli("top", "--sort", "rat", status=2).said
    assert "--every is within" in perigee.cli("top", "--every", "1ms", status=2).said
    assert "needs a unit" in perigee.cli("top", "--every", "2", status=2).said
