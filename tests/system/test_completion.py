# SPDX-License-Identifier: Apache-2.0
"""What the shells offer after `perigee completion`."""
import shutil
import subprocess

import pytest

from alone import alone
from deadline import DEADLINE


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
    listed = ('{"items":[{"name":"digits","project":"default","model":{"inputs":[{"name":"image",'
              '"datatype":"FP32"}]}},{"name":"other","project":"default"}]}')
    assert completed("perigee show ", listed) == ["digits", "other"]
    assert completed("perigee rm d", listed) == ["digits"]


def test_completion_of_zsh():
    text = alone("completion", "zsh").stdout
    assert text.startswith("#compdef perigee") and "_perigee_names" in text
    if not shutil.which("zsh"):
        pytest.skip("there is no zsh: its completion was only printed")
    subprocess.run(["zsh", "-n", "-c", text], check=True, timeout=DEADLINE)
