# SPDX-License-Identifier: Apache-2.0
"""Where the models are, and the bench's programs: made or found before the first round."""
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
MADE = BUILD / "bench" / "models"
LIBRARY = BUILD / "lib" / "perigee" / "libonnxruntime.so.1"
PROGRAMS = ("bench_load", "bench_inprocess", "bench_overload")


def component(name):
    """A folder of tools/setup; None where this release has none."""
    found = subprocess.run([ROOT / "tools" / "setup", "--path", name], capture_output=True,
                           text=True)
    if found.returncode and "needs a Python below" in found.stderr:
        return None
    if found.returncode:
        raise SystemExit(f"bench: {found.stderr.strip()}; `tools/setup bench` gets all it needs")
    return pathlib.Path(found.stdout.strip())


def program(name):
    return BUILD / "bench" / name


def build():
    """build/perigee and the bench's programs."""
    subprocess.run([ROOT / "tools" / "build"], check=True)
    subprocess.run(["ninja", "-C", BUILD, "--quiet", *(f"bench/{name}" for name in PROGRAMS)],
                   check=True)


def paths():
    """The file of each model, by name."""
    maker = ROOT / "bench" / "models" / "make.py"
    stamp = MADE / "made-by"
    if not stamp.exists() or stamp.read_bytes() != maker.read_bytes():
        MADE.mkdir(parents=True, exist_ok=True)
        subprocess.run([component("python") / "venv/bin/python", maker, MADE], check=True)
        shutil.copy(maker, stamp)
    return {"tiny": ROOT / "bench" / "models" / "add_one.onnx",
            "digits": ROOT / "examples" / "digits" / "digits.onnx",
            "mlp": MADE / "mlp.onnx",
            "mlp-big": MADE / "mlp-big.onnx",
            "squeezenet": component("testdata") / "onnx/light/light_squeezenet.onnx"}
