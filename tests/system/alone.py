# SPDX-License-Identifier: Apache-2.0
"""Commands that need no Perigee."""
import os
import subprocess

from deadline import DEADLINE
from perigee import PROGRAM

COLUMNS = 80


def fits(text):
    """No table or help is wider than the terminal."""
    for line in text.splitlines():
        assert len(line) <= COLUMNS, line


def alone(*arguments, status=0, home="/nonexistent", stdin=subprocess.DEVNULL, timeout=DEADLINE,
          **more):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PERIGEE_")}
    done = subprocess.run([PROGRAM, *map(str, arguments)], text=True, capture_output=True,
                          env={**env, "PERIGEE_HOME": str(home)}, stdin=stdin, timeout=timeout,
                          check=False, **more)
    assert done.returncode == status, done.stdout + done.stderr
    return done
