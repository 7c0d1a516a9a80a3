# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests: the real binaries ($PERIGEE_BIN) over real sockets."""
import os
import pathlib
import shutil
import tempfile
import zlib

import pytest

from deadline import become_subreaper
from outcomes import TURNS, Outcomes, turn, write_plan
from perigee import DIGITS, PROGRAM, Perigee


OUTCOMES = pytest.StashKey()
ENGINES = ["podman", "docker"]

# Several places, engines, upgrades, minutes of load: slow as a whole.
SLOW = {"test_bench", "test_clock", "test_containers", "test_demo_edge", "test_dns_alone",
        "test_engine", "test_engine_false", "test_explain", "test_explain_request",
        "test_explain_words", "test_fleet", "test_fleet_faults", "test_forward",
        "test_forward_canary", "test_forward_tunnel", "test_infer_from", "test_make_run",
        "test_mesh", "test_parts", "test_resolver", "test_run_tests", "test_scale", "test_setup",
        "test_simulate", "test_top", "test_traffic", "test_upgrade", "test_upstream_told",
        "test_usage"}


# Docker's end is its containers' as well.
PODMAN_ALONE = {"test_an_engine_that_is_away_says_nothing_of_who_is_alive"}


def engine_of_make_test(name):
    """Of a test with each engine `make test` runs one: which, its name says, half of them each."""
    return ENGINES[zlib.crc32(name.encode()) % 2 if name not in PODMAN_ALONE else 0]


def pytest_itemcollected(item):
    if item.module.__name__.rpartition(".")[2] in SLOW:
        item.add_marker("slow")
    values = item.callspec.params.values() if hasattr(item, "callspec") else []
    values = [value for value in values if isinstance(value, str)]
    if any(name in values for name in ENGINES if name != engine_of_make_test(item.originalname)):
        item.add_marker("long")


def pytest_addoption(parser):  # outcomes.py says what for
    parser.addoption("--turn", choices=TURNS)
    parser.addoption("--outcomes", metavar="FILE")
    parser.addoption("--plan", metavar="FILE", type=pathlib.Path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: TURNS.index(turn(item)))
    if config.getoption("--turn", None):
        items[:] = [item for item in items if turn(item) == config.option.turn]
    if config.getoption("--plan", None):
        write_plan(config.option.plan, items)


SCRATCH = pytest.StashKey()


def pytest_configure(config):
    config.stash[OUTCOMES] = Outcomes(config.getoption("--outcomes", None))
    config.pluginmanager.register(config.stash[OUTCOMES])
    become_subreaper()
    if not PROGRAM.exists():
        pytest.exit(f"there is no {PROGRAM}: run `make build`, or set PERIGEE_BIN", 2)
    if not config.option.basetemp:  # pytest would keep the last three runs' files
        config.stash[SCRATCH] = tempfile.mkdtemp(prefix="pg-pytest-")
        config.option.basetemp = os.path.join(config.stash[SCRATCH], "t")


def pytest_unconfigure(config):
    if SCRATCH in config.stash:
        shutil.rmtree(config.stash[SCRATCH], ignore_errors=True)


def pytest_runtest_setup(item):
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for name in ("perigee", "homes", "new_perigee"):
            fixture = item.funcargs.get(name) if hasattr(item, "funcargs") else None
            for one in [fixture] if isinstance(fixture, Perigee) else getattr(fixture, "made", []):
                if one.log.exists():
                    report.sections.append((f"log of {one.home}", one.tail()))


def _scratch():
    """A folder with a short path: Unix sockets allow 107 bytes."""
    return pathlib.Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))


@pytest.fixture
def scratch():
    folder = _scratch()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _homes(folder, made):
    def new(*arguments, start=True, part="up"):
        home = folder / f"h{len(made)}"
        home.mkdir(mode=0o700)
        one = Perigee(home, arguments, part)
        made.append(one)
        return one.start() if start else one

    new.made = made
    return new


def _end(made):
    faults = []
    for one in made:
        try:
            one.stop()
        except AssertionError as fault:
            faults.append(str(fault))
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def homes():
    """new_perigee() for the tests of a file."""
    folder, made = _scratch(), []
    try:
        yield _homes(folder, made)
        _end(made)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def perigee(homes):
    """One running Perigee for the tests of a file; each leaves it as it found it."""
    return homes()


@pytest.fixture
def new_perigee(scratch):
    """new_perigee(*arguments, start=True) makes one with a home of its own, ended afterwards."""
    new = _homes(scratch, [])
    yield new
    _end(new.made)


@pytest.fixture(scope="module")
def digits(perigee):
    """The bundled model, deployed and ready, as endpoint `digits`."""
    perigee.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    return "digits"


@pytest.fixture(scope="session")
def testdata():
    """ONNX's operator cases: .../node/test_NAME/{model.onnx, test_data_set_0/*.pb}."""
    folder = os.environ.get("PERIGEE_TESTDATA")
    if not folder:
        pytest.skip("PERIGEE_TESTDATA is not set: run the tests with tools/run-tests")
    return pathlib.Path(folder) / "onnx"
