# SPDX-License-Identifier: Apache-2.0
"""What is measured, and what must be reached: tables alone.

A case is a model, a form of its request, a number of connections. Its name is what --case takes.
"""
import dataclasses
import fnmatch


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    tensor: str
    shape: tuple
    low: float          # values are spread evenly over low..high
    high: float
    times: float = 1    # a measurement lasts so many times --seconds


# `source` of each is in models.py.
MODELS = {model.name: model for model in (
    Model("tiny", "x", (1, 4), 0, 1),
    Model("digits", "image", (1, 64), 0, 16),
    Model("mlp", "x", (1, 784), 0, 1),
    Model("mlp-big", "x", (1, 784), 0, 1),
    Model("squeezenet", "data_0", (1, 3, 224, 224), -2, 2.6, times=3),
)}

# json: 6 decimals a number. json17: the digits that Python's clients send for an FP32.
FORMS = ("json", "json17", "binary")

SERVERS = {
    "in-process": "ONNX Runtime from C, as many callers as replicas",
    "nginx": "`return 200` to the same request, with a body of the answer's size",
    "perigee": "the gateway with one loop (--loops 1)",
    "defaults": "the gateway as shipped, where that is more than one loop",
    "batched": "the gateway, and an endpoint with batch: {max: 16}",
    "spin": "the gateway with --spin-us 150: replicas look before they sleep",
    "fastapi": "FastAPI, orjson: one uvicorn worker, uvloop, httptools; JSON alone",
    "mlserver": "MLServer 1.7.1, no parallel workers; JSON alone",
}
FLOOR = ("in-process", "nginx", "perigee")
PEERS = ("fastapi", "mlserver")


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    form: str
    connections: int
    pinned: bool = False
    replicas: int = 1
    servers: tuple = FLOOR

    @property
    def name(self):
        copies = f"-x{self.replicas}" if self.replicas > 1 else ""
        end = "-pinned" if self.pinned else ""
        return f"{self.model}{copies}-{self.form}-c{self.connections}{end}"


def _small(model, extra):
    for form in ("json", "binary"):
        peers = PEERS if form == "json" else ()
        for connections in (1, 8, 64):
            more = extra.get((form, connections), ())
            yield Case(model, form, connections, servers=FLOOR + more + peers)
            if connections == 1:
                yield Case(model, form, 1, pinned=True)


CASES = (
    *_small("tiny", {("json", 1): ("spin",), ("json", 64): ("defaults", "spin")}),
    *(Case("digits", form, connections)
      for form in ("json", "binary") for connections in (1, 64)),
    *_small("mlp", {("binary", 64): ("batched", "fastapi")}),
    *_small("mlp-big", {("binary", 64): ("batched",)}),
    Case("squeezenet", "json", 1, servers=FLOOR + PEERS),
    Case("squeezenet", "json", 1, pinned=True),
    Case("squeezenet", "json", 8, servers=FLOOR + ("fastapi",)),
    Case("squeezenet", "json", 64),
    Case("squeezenet", "json17", 1, servers=FLOOR + PEERS),
    Case("squeezenet", "json17", 1, pinned=True),
    Case("squeezenet", "binary", 1),
    Case("squeezenet", "binary", 1, pinned=True),
    Case("squeezenet", "binary", 8),
    Case("squeezenet", "binary", 64),
    Case("squeezenet", "binary", 8, replicas=2),
)


@dataclasses.dataclass(frozen=True)
class Bar:
    case: str
    server: str
    key: str        # p50_us, p99_us, rps, cpu_us
    against: str    # a server of the same case
    sign: str       # <= or >=
    value: float


BARS = (
    Bar("tiny-json-c1", "perigee", "p50_us", "nginx", "<=", 1.8),
    Bar("tiny-json-c1-pinned", "perigee", "p50_us", "nginx", "<=", 1.8),
    Bar("tiny-json-c1", "spin", "p50_us", "nginx", "<=", 1.0),
    Bar("tiny-json-c64", "perigee", "rps", "nginx", ">=", 0.65),
    Bar("tiny-json-c64", "perigee", "cpu_us", "nginx", "<=", 2.0),
    Bar("tiny-json-c64", "perigee", "rps", "fastapi", ">=", 8),
    Bar("tiny-json-c64", "defaults", "rps", "nginx", ">=", 0.65),
    Bar("tiny-json-c64", "defaults", "cpu_us", "nginx", "<=", 2.0),
    Bar("mlp-binary-c64", "perigee", "rps", "fastapi", ">=", 8),
    Bar("mlp-binary-c64", "batched", "rps", "fastapi", ">=", 8),
    Bar("mlp-big-binary-c64", "batched", "rps", "perigee", ">=", 2),
    Bar("mlp-big-binary-c64", "batched", "p99_us", "perigee", "<=", 1.5),
    Bar("squeezenet-binary-c1", "perigee", "p50_us", "in-process", "<=", 1.04),
    Bar("squeezenet-json-c1", "perigee", "p50_us", "in-process", "<=", 1.5),
    Bar("squeezenet-json17-c1", "perigee", "p50_us", "in-process", "<=", 1.9),
    Bar("squeezenet-x2-binary-c8", "perigee", "rps", "in-process", ">=", 0.94),
)


def choose(patterns, servers):
    """The cases that `patterns` (of fnmatch) name, with those of `servers` they have."""
    found = [case for case in CASES
             if not patterns or any(fnmatch.fnmatch(case.name, one) for one in patterns)]
    if servers:
        found = [dataclasses.replace(case, servers=tuple(s for s in SERVERS if s in servers))
                 for case in found]
    return found
