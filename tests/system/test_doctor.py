# SPDX-License-Identifier: Apache-2.0
"""perigee doctor: what it looks at, and what it finds."""
import json
import os
import re
import shutil
import stat
import subprocess

from alone import alone, fits
from deadline import DEADLINE
from perigee import PROGRAM


def test_doctor(scratch):
    done = alone("doctor", home=scratch / "home")
    fits(re.sub(r"/\S+", "", done.stdout))
    said = json.loads(alone("doctor", "--json", home=scratch / "home").stdout)
    checks = {row["name"]: row for row in said["checks"]}
    assert {"kernel", "seccomp", "landlock", "workers", "libcurl", "memory", "home", "disk",
            "database", "perigee", "ports", "open files", "clock", "time zones",
            "engine"} <= set(checks)
    assert said["ok"] and checks["seccomp"]["status"] == "ok"
    assert not (scratch / "home").exists(), "doctor changes nothing"


def test_doctor_finds_what_is_wrong(scratch):
    home = scratch / "home"
    (home / "control").mkdir(parents=True)
    home.chmod(0o755)
    (home / "control" / "store.db").write_bytes(b"no database" * 1000)
    done = alone("doctor", "--json", home=home, status=1)
    checks = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert checks["home"]["status"] == "warn" and "chmod 700" in checks["home"]["advice"]
    assert checks["database"]["status"] == "fail" and checks["database"]["advice"]
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


LIBRARY = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
[[gnu::constructor]] static void begin(void)
{
    const char *value = getenv("ORT_DISABLE_TELEMETRY");
    if (!value || strcmp(value, "1") != 0)
        _exit(7);
}
"""


def test_doctor_loads_onnx_runtime_without_telemetry(scratch):
    """In the library's place one that ends where the variable is not set."""
    place = next(folder for folder in (PROGRAM.parent, PROGRAM.parent.parent)
                 if (folder / "lib/perigee").is_dir())
    program = scratch / PROGRAM.relative_to(place)
    shutil.copytree(place / "lib/perigee", scratch / "lib/perigee",
                    ignore=shutil.ignore_patterns("libonnxruntime*"))
    program.parent.mkdir(exist_ok=True)
    shutil.copy(PROGRAM, program)
    subprocess.run(["gcc", "-std=gnu2x", "-shared", "-fPIC", "-o",
                    scratch / "lib/perigee/libonnxruntime.so.1", "-x", "c", "-"],
                   input=LIBRARY, text=True, check=True, timeout=DEADLINE)
    done = subprocess.run([program, "doctor", "--json", "--home", scratch / "home"],
                          stdout=subprocess.PIPE, timeout=DEADLINE, check=False,
                          env={name: value for name, value in os.environ.items()
                               if name != "ORT_DISABLE_TELEMETRY"})
    checks = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert checks["workers"]["status"] == "ok", checks["workers"]
