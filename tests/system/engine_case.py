# SPDX-License-Identifier: Apache-2.0
"""Container engines as tests have them: where there is none the test is skipped, and says why."""
import contextlib

import pytest

from engines import Missing, compile_server, new_engine


def engine_or_skip(name, kinds=None):
    try:
        return new_engine(name, kinds)
    except Missing as why:
        pytest.skip(f"no engine: {why}")


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request):
    one = engine_or_skip(request.param)
    yield one
    one.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return compile_server(tmp_path_factory.mktemp("server"))


def log_bytes(engine):
    """Of all that the engine keeps of what containers have said; it may turn a file over now."""
    sizes = []
    for log in [*engine.folder.rglob("ctr.log*"), *engine.folder.rglob("container.log*")]:
        with contextlib.suppress(FileNotFoundError):
            sizes.append(log.stat().st_size)
    assert sizes, "there is no log"
    return sum(sizes)
