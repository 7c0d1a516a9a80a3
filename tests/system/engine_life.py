# SPDX-License-Identifier: Apache-2.0
"""The program that drives the driver `engine` (tests/engine/engine_try.c), and what it says."""
import contextlib
import subprocess
import time

from deadline import DEADLINE, Lines, wait_exit
from perigee import PROGRAM

TRY = PROGRAM.parent / "tests" / "engine" / "engine_try"


class Life:
    """One run of engine_try: what it says, in order."""

    def __init__(self, engine, folder, image=None, data=None, **options):
        command = [TRY, f"unix:{engine.socket}"]
        if image:
            load = folder / "image.tar"
            load.write_bytes(data or image.docker_archive())
            command += ["--load", load, "image", image.digest]
        for key, value in options.items():
            for item in value if isinstance(value, list) else [value]:
                command += [key, str(item)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        bufsize=0)
        self.lines = Lines(self.process.stdout.fileno())
        self.heard = []

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")

    def wait(self, what, **like):
        """The next that is of that kind; what comes before it is kept in `heard`."""
        deadline = time.monotonic() + DEADLINE
        while True:
            line = self.lines.next(deadline, f"{what} after {self.heard[-5:]}")
            self.heard.append(line)
            if line["is"] == what and all(line.get(key) == like[key] for key in like):
                return line
            assert line["is"] != "error" or what == "error", line

    def saw(self, what, **like):
        """The same, and it may have come before."""
        for line in self.heard:
            if line["is"] == what and all(line.get(key) == like[key] for key in like):
                return line
        return self.wait(what, **like)

    def written(self):
        """Its standard output and error, each whole: between the two there is no order."""
        logs = [line for line in self.heard if line["is"] == "log"]
        return tuple("".join(line["text"] for line in logs if line["error"] == error)
                     for error in (0, 1))

    def end(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        wait_exit(self.process.pid, "the driver's end")
        assert self.process.wait() == 0
        self.process.stdout.close()
