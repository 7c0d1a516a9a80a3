# SPDX-License-Identifier: Apache-2.0
"""The built programs themselves: hardening, what they link, what they name."""
import os
import pathlib
import subprocess

import pytest

from perigee import PROGRAM


def programs():
    beside = PROGRAM.parent / "lib" / "perigee"
    private = beside if beside.is_dir() else PROGRAM.parent.parent / "lib" / "perigee"
    return [PROGRAM] + sorted(private.glob("perigee-worker-*"))


def readelf(path, *flags):
    return subprocess.run(["readelf", "-W", *flags, path], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


@pytest.mark.smoke
@pytest.mark.parametrize("path", programs(), ids=lambda path: pathlib.Path(path).name)
def test_a_program_is_hardened(path):
    dynamic, segments = readelf(path, "-d"), readelf(path, "-l")
    symbols = readelf(path, "--dyn-syms")
    assert "PIE" in dynamic
    assert "BIND_NOW" in dynamic or " NOW" in dynamic
    assert "GNU_RELRO" in segments
    stack = [line for line in segments.splitlines() if "GNU_STACK" in line][0]
    assert " RWE " not in stack
    if os.environ.get("PERIGEE_SANITIZED") != "1":
        assert "__stack_chk_fail" in symbols
        assert "_chk@" in symbols, "no fortified call"


@pytest.mark.smoke
def test_the_program_links_no_library_of_machine_learning():
    needed = [line for line in readelf(PROGRAM, "-d").splitlines() if "NEEDED" in line]
    for name in ("onnxruntime", "curl", "stdc++"):
        assert not any(name in line for line in needed), needed
