# SPDX-License-Identifier: Apache-2.0
"""A hostile worker tries each thing of attacks.py: with all walls, and with walls left out, so that
those behind them are seen to stand. docs/attacks.md is the list with what refused each; a refusal
that is not in it fails, and PERIGEE_WRITE_ATTACKS=FILE adds what was seen to that copy of it."""
import contextlib
import ctypes
import os
import pathlib
import re
import signal
import socket

import pytest

import attacks
import machine
from attacks import ATTACKS, NO_SPACES, WAYS, WHOLE
from deadline import SANITIZED
from test_worker_contract import MISBEHAVE
from worker import Template, folder_with, reachable, say, worker_path

pytestmark = pytest.mark.skipif(
    not MISBEHAVE.exists(), reason="an installed tree has no test-only worker")

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
WRITE = os.environ.get("PERIGEE_WRITE_ATTACKS")
PAGE = pathlib.Path(WRITE) if WRITE else DOCS / "attacks.md"
MARK = "<!-- the table is written by tests/system/test_attacks.py -->"
libc = ctypes.CDLL(None, use_errno=True)
IPC_PRIVATE, IPC_RMID = 0, 0


def clone(template, folder, **options):
    return template.clone(folder, "model", memory=256 << 20, **options)


def another_user():
    """As root each replica has a uid of its own."""
    return {"uid": 99_999} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    return request.param


@pytest.fixture(scope="module")
def template(way):
    one = Template(MISBEHAVE.parent / f"perigee-worker-{way}")
    needs = {"without-seccomp": {"user", "landlock"}, "namespaces-alone": {"user"},
             "landlock-alone": {"landlock"}}.get(way, set())
    try:
        if needs - one.walls:
            pytest.skip(f"this machine has no {', '.join(needs - one.walls)}: {one.walls_off}")
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = reachable(tmp_path_factory.mktemp("attacks"))
    folder_with(folder / "own", b"ok\n", "model")
    folder_with(folder / "victim", b"ok\nsecret\n", "model")
    return folder


def listen(family, kind, address):
    one = socket.socket(family, kind)
    one.bind(address)
    if kind == socket.SOCK_STREAM:
        one.listen()
    return one


@contextlib.contextmanager
def targets(base):
    """What is there to be reached on the host, open to everybody."""
    with contextlib.ExitStack() as stack:
        made = {name: stack.enter_context(listen(*row)) for name, row in {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "tcp6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            "path": (socket.AF_UNIX, socket.SOCK_STREAM, str(base / "socket")),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0perigee-{os.getpid()}"),
        }.items()}
        stack.callback((base / "socket").unlink)
        (base / "socket").chmod(0o777)
        shm = libc.shmget(IPC_PRIVATE, 4096, 0o1666)
        assert shm >= 0
        stack.callback(libc.shmctl, shm, IPC_RMID, None)
        queue = f"perigee-{os.getpid()}"
        rt = ctypes.CDLL("librt.so.1", use_errno=True)
        before = os.umask(0)
        descriptor = rt.mq_open(f"/{queue}".encode(), os.O_RDONLY | os.O_CREAT, 0o666, None)
        os.umask(before)
        assert descriptor >= 0
        os.close(descriptor)
        stack.callback(rt.mq_unlink, f"/{queue}".encode())
        path, abstract = str(base / "socket").encode(), made["abstract"].getsockname()
        yield {
            **{name: attacks.port(made[name].getsockname()[1]) for name in ("tcp", "udp", "tcp6")},
            "zero": "0000",
            "unix_path": (path + b"\0").hex(), "unix_path_bytes": 3 + len(path),
            "abstract": abstract.hex(), "abstract_bytes": 2 + len(abstract),
            "shm": shm, "queue": queue, "parent": os.getpid(),
            "victim_model": base / "victim" / "model",
        }


@contextlib.contextmanager
def heard():
    """Signals of ATTACKS that come to this process: the kernel has sent them by then to whoever is
    told of the attack's end."""
    signals, before = [], {}
    for number in {attack.sent for attack in ATTACKS if attack.sent}:
        before[number] = signal.signal(number, lambda number, _: signals.append(number))
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_of(replica):
    """How it died of what it tried."""
    status = replica.wait_status
    if not os.WIFSIGNALED(status):
        return f"exit {os.WEXITSTATUS(status)}"
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGSYS":
        assert replica.status.signal == signal.SIGSYS
        return "seccomp: " + re.search(r": (\w+) \(\d+\)", replica.status.reason).group(1)
    return name


def outcome_of(replica, attack, names):
    for step in attack.steps:
        said = say(replica, step.format(**names))
        if said is None:
            end = end_of(replica)
            return "through" if end == "exit 0" else end
        assert said not in ("no such call", "no such command"), step
        if said in attack.breach:
            return "through"
        if not re.fullmatch(r"-?\d+", said):
            return said
    if attack.sent:
        return "through" if attack.sent in names["heard"] else "not sent"
    most = attacks.MADE_AT_MOST.get(attack.steps[-1].split()[0])
    return f"at most {most}" if most and int(said) <= most else "through"


def tried(way, attack):
    return way in (WHOLE, NO_SPACES) or not attack.alone


# ---- the list ------------------------------------------------------------------------------------


def read_page():
    """{(aim, what): [set of outcomes, one for each way]} as docs/attacks.md has it."""
    rows = {}
    for line in PAGE.read_text().split(MARK)[-1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 2 + len(WAYS) and cells[0] not in ("aim", "---"):
            rows[tuple(cells[:2])] = [set(cell.split(", ")) - {""} for cell in cells[2:]]
    return rows


def write_page(rows):
    head = PAGE.read_text().split(MARK)[0]
    lines = ["| aim | what it tries | " + " | ".join(attacks.TITLES) + " |",
             "| --- " * (2 + len(WAYS)) + "|"]
    for attack in ATTACKS:
        cells = rows.get((attack.aim, attack.what), [set() for _ in WAYS])
        shown = [", ".join(sorted(cell)) for cell in cells]
        lines.append(f"| {attack.aim} | {attack.what} | " + " | ".join(shown) + " |")
    PAGE.write_text(head + MARK + "\n\n" + "\n".join(lines) + "\n")


def note(way, seen):
    """Each outcome stands in the list; with PERIGEE_WRITE_ATTACKS it is put there."""
    rows = read_page()
    missing = []
    for attack, outcome in seen.items():
        cells = rows.setdefault((attack.aim, attack.what), [set() for _ in WAYS])
        cell = cells[WAYS.index(way)]
        if outcome not in cell:
            missing.append(f"{attack.aim}, {attack.what}: {outcome}; listed: {sorted(cell)}")
            cell.add(outcome)
    if missing and WRITE:
        write_page(rows)
    else:
        assert not missing, f"not in {PAGE.name} for {way}:\n" + "\n".join(missing)


def try_all(template, base, way):
    """What each attack came to; fails when one gets through that may not."""
    seen, through = {}, []
    folder = base / "own"
    with targets(base) as names, heard() as signals, clone(
            template, base / "victim", **another_user()) as victim:
        names.update(victim=victim.ready().pid, template=template.process.pid, heard=signals)
        for attack in ATTACKS:
            if SANITIZED and attack.what == "malloc":
                continue  # its own allocator ends the process, not the limit
            if not tried(way, attack):
                seen[attack] = "not tried"
                continue
            with clone(template, folder) as replica:
                replica.ready()
                seen[attack] = outcome_of(replica, attack, names)
            if seen[attack] == "through" and way not in attack.through:
                through.append(f"{attack.aim}: {attack.what}")
            assert (folder / "model").read_bytes() == b"ok\n", attack
            assert sorted(p.name for p in folder.iterdir()) == ["model"], attack
        assert say(victim, "echo alive") == "alive"
    assert not through, f"{way}: these got through: {through}"
    return seen


def test_every_attack_is_refused(template, base, way):
    note(way, try_all(template, base, way))


def test_every_attack_is_refused_where_no_user_namespace_can_be_made(base):
    """As root the other namespaces are made without one; an ordinary user has none."""
    one = Template(MISBEHAVE, machine.NO_USER_NAMESPACES)
    try:
        assert "user" not in one.walls and "seccomp" in one.walls
        assert ("mount" in one.walls) == (os.geteuid() == 0)
        try_all(one, base, WHOLE)
    finally:
        one.close()


def test_the_list_has_these_attacks_and_no_other():
    assert list(read_page()) == [(attack.aim, attack.what) for attack in ATTACKS]


def test_flags_it_clears_are_its_own(template, base):
    """Its ends of pipes are not the gateway's descriptions: ours stay as they were."""
    with clone(template, base / "own") as replica:
        replica.ready()
        for descriptor in (int(word) for word in say(replica, "descriptors").split()):
            say(replica, f"call fcntl {descriptor} 4 0")  # F_SETFL
            assert replica.wait_status is None
        assert not any(os.get_blocking(pipe) for pipe in replica.pipes)
        assert say(replica, "echo on") == "on"


def test_what_it_inherits(template, base):
    with clone(template, base / "own") as replica:
        replica.ready()
        kept = {int(word) for word in say(replica, "descriptors").split()}
        assert {0, 1, 2} < kept and len(kept) == 3 + replica.lanes
        assert say(replica, "environ") == ""


FAMILIES = 64  # more than the kernel knows


@pytest.mark.parametrize("kind", (WHOLE, NO_SPACES))
def test_no_socket_of_any_family(base, kind):
    """In the list are those that reach somewhere; seccomp refuses the call, whatever it names."""
    one = Template(MISBEHAVE.parent / f"perigee-worker-{kind}")
    try:
        for family in range(FAMILIES):
            with clone(one, base / "own") as replica:
                replica.ready()
                assert say(replica, f"call socket {family} 1 0") is None, family
                assert end_of(replica) == "seccomp: socket", family
    finally:
        one.close()


def test_only_the_tests_workers_leave_walls_out():
    """What is shipped promises all that this machine has."""
    shipped = Template(worker_path("onnx"))
    try:
        assert {"nnp", "rlimits", "env", "fds", "seccomp"} <= shipped.walls
        assert ("user" in shipped.walls) == machine.user_namespaces()
        assert shipped.landlock_abi == machine.landlock_abi()
    finally:
        shipped.close()
