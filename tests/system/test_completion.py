# SPDX-License-Identifier: Apache-2.0
"""What the shells offer after `perigee completion`."""
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest

from alone import alone
from deadline import DEADLINE, wait_readable
from perigee import PROGRAM


def completed(line, names=""):
    """What bash offers for the line."""
    words = line.split(" ")
    script = (f"perigee() {{ printf '%s' '{names}'; }}\n" + alone("completion", "bash").stdout +
              "COMP_WORDS=(" + " ".join(f"'{word}'" for word in words) + f")\n"
              f"COMP_CWORD={len(words) - 1}\n_perigee\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n")
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True,
                          check=True, timeout=DEADLINE)
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_of_bash(scratch):
    assert "deploy" in completed("perigee ") and "ls" in completed("perigee ")
    assert completed("perigee dep") == ["deploy"]
    assert {"--model", "--json"} <= set(completed("perigee deploy --"))
    assert completed("perigee deploy --mod") == ["--model"]
    assert completed("perigee completion ") == ["bash", "zsh"]
    assert completed("perigee show ", LISTED) == ["digits", "other"]
    assert completed("perigee rm d", LISTED) == ["digits"]


ZSH = r"""
PS1='ready> ' PS2= RPS1=
unsetopt prompt_cr prompt_sp beep
autoload -Uz compinit; compinit -u -D
perigee() { print -r -- '%(names)s' }
. <(%(program)s completion zsh)
report() { print -r -- "<<$BUFFER>>"; BUFFER=; zle redisplay }
zle -N report; bindkey '^[r' report
"""
LISTED = ('{"items":[{"name":"digits","project":"default","model":{"inputs":[{"name":"image",'
          '"datatype":"FP32"}]}},{"name":"other","project":"default"}]}')


class Zsh:
    """One on a terminal, as somebody types; asked what Tab made of a line."""

    def __init__(self, folder):
        (folder / ".zshrc").write_text(ZSH % {"names": LISTED, "program": PROGRAM})
        (folder / "weights.onnx").touch()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(shutil.which("zsh"), ["zsh", "-d", "-i"],
                      {"PATH": os.environ["PATH"], "HOME": str(folder), "ZDOTDIR": str(folder),
                       "TERM": "dumb", "LC_ALL": "C.UTF-8"})
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.said = ""
        self.read_until("ready> ")

    def read_until(self, wanted):
        deadline = time.monotonic() + DEADLINE
        while wanted not in self.said:
            wait_readable([self.terminal], deadline, f"{wanted!r} in {self.said!r}")
            self.said += os.read(self.terminal, 65536).decode(errors="replace")
        before, self.said = self.said.split(wanted, 1)
        return before

    def completed(self, line):
        os.write(self.terminal, f"{line}\t\x1br".encode())
        self.read_until("<<")
        return self.read_until(">>")

    def end(self):
        os.close(self.terminal)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_completion_of_zsh(scratch):
    text = alone("completion", "zsh").stdout
    assert text.startswith("#compdef perigee") and "_perigee_names" in text
    if not shutil.which("zsh"):
        pytest.skip("there is no zsh: its completion was only printed")
    subprocess.run(["zsh", "-n", "-c", text], check=True, timeout=DEADLINE)
    zsh = Zsh(scratch)
    try:
        assert zsh.completed("perigee dep") == "perigee deploy "
        assert zsh.completed("perigee show di") == "perigee show digits "
        assert zsh.completed("perigee rm ot") == "perigee rm other "
        assert zsh.completed("perigee deploy --mod") == "perigee deploy --model="
        assert zsh.completed("perigee deploy --model=wei") == "perigee deploy --model=weights.onnx "
        assert zsh.completed("perigee completion z") == "perigee completion zsh "
        assert zsh.completed("perigee show --jso") == "perigee show --json "
    finally:
        zsh.end()
