# SPDX-License-Identifier: Apache-2.0
"""`perigee up`: what it refuses, and how it says so."""
import os
import subprocess

import pytest

from deadline import DEADLINE
from perigee import PROGRAM

# arguments, exit status, what it must say
REFUSED = [
    (["--listen-tls", "127.0.0.1:8443"], 2, "--listen-tls: not yet"),
    (["--listen-dns", "unix:/x"], 2, "--listen-dns takes ADDR:PORT"),
    (["--listen-dns", "0.0.0.0:53"], 2, "say --open"),
    (["--why-from", "10.0.0.0/33"], 2, "--why-from: "), (["--why-from", ""], 2, "--why-from: "),
    (["--why-from", ",".join(["10.0.0.0/8"] * 17)], 2, "more than 16"),
    (["--https-record", "h2"], 2, "--https-record: 'h2' is neither alpn="),
    (["--https-record", ""], 2, "it says nothing: alpn=h2,http/1.1 port=443"),
    (["--https-record", "alpn=h2 port=0"], 2, "'0' is no number from 1 to 65535"),
    (["--geo", "x.mmdb"], 2, "--geo: 'x.mmdb': No such file"),
    (["--engine", "tcp:/x"], 2, "is not unix:PATH"),
    (["--sandbox", "none"], 2, "best or require"),
    (["--listen-gateway", "0.0.0.0:8000"], 2, "say --open"),
    (["--listen-admin", "[::]:8002"], 2, "say --open"),
    (["--listen-gateway", "8000"], 2, "--listen-gateway: '8000' is no address"),
    (["--listen-control", "127.0.0.1:99999"], 2, "is no address"),
    (["--listen-control", "unix:" + "x" * 200], 2, "at most 107"),
    (["--loops", "0"], 2, "from 1 to 8"),
    (["--loops", "many"], 2, "from 1 to 8"),
    (["--spin-us", "10001"], 2, "from 0 to 10000"),
    (["--spin-us", "20us"], 2, "from 0 to 10000"),
    (["--country", "germany"], 2, "two capitals"), (["--country", "XX"], 2, "ISO 3166-1"),
    (["--country", "UK"], 2, "the United Kingdom's is GB"),
    (["--pop", "A"], 2, "--pop"),
    (["--zone", "nodot"], 2, "--zone"),
    (["--log-level", "loud"], 2, "--log-level takes"),
    (["--home", "/" + "x" * 100], 2, "--home DIR"),
    (["--no-such-flag"], 2, "--no-such-flag"),
    (["surplus"], 2, ""),
    (["--listen-gateway", "192.0.2.1:8000", "--open"], 1, "this machine has no address"),
]


def up(scratch, *arguments, **environment):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PERIGEE_")}
    env.update(PERIGEE_HOME=str(scratch / "home"), **environment)
    return subprocess.run([PROGRAM, "up", *arguments], env=env, capture_output=True, text=True,
                          timeout=DEADLINE)


def test_an_address_from_the_environment_is_told_as_that(scratch):
    done = up(scratch, PERIGEE_LISTEN_GATEWAY="8000")
    assert done.returncode == 2
    assert "$PERIGEE_LISTEN_GATEWAY: '8000' is no address" in done.stderr


@pytest.mark.parametrize("arguments,status,words", REFUSED,
                         ids=[" ".join(row[0])[:40] for row in REFUSED])
def test_up_refuses(scratch, arguments, status, words):
    done = up(scratch, *arguments)
    assert words in done.stderr
    assert done.returncode == status, done.stderr
    assert done.stdout == ""


def test_a_listener_may_stand_in_the_environment(scratch):
    done = up(scratch, PERIGEE_LISTEN_TLS="127.0.0.1:8443")
    assert done.returncode == 2 and "--listen-tls: not yet" in done.stderr


def test_a_read_only_home(scratch):
    if os.geteuid() == 0:
        home = "/proc/1/home"  # root may write anywhere but where nobody can
    else:
        (scratch / "closed").mkdir(mode=0o500)
        home = scratch / "closed" / "home"
    done = up(scratch, "--home", str(home))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr and "--home DIR" in done.stderr


def test_roles_are_not_started_by_hand():
    done = subprocess.run([PROGRAM, "role", "gateway"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=DEADLINE)
    assert done.returncode in (1, 2) and "perigee up" in done.stderr
