# SPDX-License-Identifier: Apache-2.0
"""The driver `engine` against real engines, Podman and Docker: a container's life, its walls, and
what goes wrong. The driver runs in a program of its own (tests/engine/engine_try.c)."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess

import pytest

from deadline import until, wait_exit
from engine_life import TRY, Life
from engine_case import engine, log_bytes, server  # fixtures too  # noqa: F401
from engines import Image, busybox_image, server_image
from perigee import PROGRAM

HOME = "try"


pytestmark = pytest.mark.skipif(
    not TRY.exists(), reason="the driver's own program is beside a build alone")


@pytest.fixture
def begin(engine, tmp_path):
    lives = []

    def new(image=None, **options):
        lives.append(Life(engine, tmp_path, image, **options))
        return lives[-1]
    yield new
    for life in lives:
        if life.process.poll() is None:
            life.process.kill()
        life.process.wait()
    for container in engine.containers():
        engine.ask("DELETE", f"/v1.41/containers/{container['Id']}?force=1")


def ours(engine):
    return [row["Names"] for row in engine.containers()]


def folders_of(group):
    """Of either version, and the monitor's first."""
    root = pathlib.Path("/sys/fs/cgroup")
    return [folder for name in (f"{group[1:]}/conmon", group[1:])
            for folder in [*root.glob(name), *root.glob(f"*/{name}")]]


def empty(folder):
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


# ---- a life -----------------------------------------------------------------------------------

def test_a_container_is_loaded_checked_reached_and_stopped(engine, begin, server):
    group = f"/perigee-test-{os.getpid()}"
    life = begin(server_image(server), group=group)
    life.wait("loaded")
    pid = life.wait("running")["pid"]
    assert life.wait("answer")["text"].endswith("hello\n")
    folders = folders_of(group)
    assert folders, "it has a group of its own"
    life.say("stop 20000")
    gone = life.wait("gone")
    assert gone["exit_code"] == 0 and gone["text"] == "it was stopped" and gone["ran"]
    assert gone["cpu_us"] > 0 and gone["memory_bytes_max"] > 0
    assert life.written() == ("listens\nends\n", "")
    life.end()
    wait_exit(pid, "the container's process")
    assert ours(engine) == []
    # Podman makes that of its monitor anew, now and then, after it was removed (docs/roadmap.md).
    left = [folder for folder in folders if folder.exists()]
    assert not left or (engine.name == "Podman" and all(
        [below.name for below in folder.iterdir() if below.is_dir()] in ([], ["conmon"])
        for folder in left))


def test_the_kernel_shows_its_walls(begin, server):
    life = begin(server_image(server), pids=40, memory=50 << 20)
    pid = life.wait("running")["pid"]
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    mounts = [line.split() for line in
              pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    root = next(row for row in mounts if row[4] == "/")
    assert "ro" in root[5].split(",")
    tmp = next(row for row in mounts if row[4] == "/tmp")
    assert {"rw", "nosuid", "nodev"} <= set(tmp[5].split(","))
    assert os.stat(os.path.join("/proc", str(pid), "root", "tmp")).st_mode & 0o7777 == 0o1777
    for name in ("net", "mnt", "pid", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    life.say("stop 0")
    life.wait("gone")


def test_command_user_and_environment_are_told(begin):
    image = busybox_image("/bin/missing")
    life = begin(image, command=["/bin/busybox", "sh", "-c",
                                 "id -u; echo $LEVEL $PORT; touch /no; touch /tmp/yes && echo tmp"],
                 user="1234:1234", env="LEVEL=two words")
    gone = life.wait("gone")
    assert life.written() == ("1234\ntwo words 8080\ntmp\n",
                              "touch: /no: Read-only file system\n")
    assert gone["text"] == "it ended by itself with status 0"


# ---- what goes wrong --------------------------------------------------------------------------

# abort() of the first process in a namespace: SIGABRT is ignored there, and glibc goes on to hlt.
ENDS = {
    "exits": (["exit"], {}, "it ended by itself with status 3", "no weights\n"),
    "crashes": (["crash"], {}, "it ended by itself: killed by SIGSEGV", ""),
}


@pytest.mark.parametrize("name", ENDS)
def test_one_that_ends_says_how(begin, server, name):
    command, options, text, log = ENDS[name]
    life = begin(server_image(server, *command), **options)
    gone = life.wait("gone")
    assert gone["text"] == text and gone["ran"] and life.written() == ("", log)


def test_one_that_takes_too_much_memory_is_told_from_a_killed_one(begin, server):
    life = begin(server_image(server, "eat"), memory=32 << 20,
                 group=f"/perigee-test-{os.getpid()}")
    gone = life.wait("gone")
    assert gone["out_of_memory"], gone
    assert gone["text"] == "it ran out of memory (flavor.memory is 32 MiB)"


def test_one_that_ignores_sigterm_is_killed(begin, server):
    life = begin(server_image(server, "stubborn"))
    life.wait("answer")
    life.say("stop 1000")
    gone = life.wait("gone")
    assert gone["exit_code"] == 137 and gone["text"] == "it was stopped"


@pytest.mark.parametrize("how", ["deaf", "elsewhere"])
def test_one_that_does_not_listen_there_is_not_reached(begin, server, how):
    life = begin(server_image(server, how))
    life.wait("running")
    life.say("get")
    life.wait("nothing")
    life.say("stop 0")
    life.wait("gone")


def test_an_entry_point_that_is_not_there(engine, begin, server):
    life = begin(Image([("server", server, 0o755)], {"Entrypoint": ["/nothing"]}))
    gone = life.wait("gone")
    assert not gone["ran"] and "the engine says:" in gone["text"] and "/nothing" in gone["text"]
    assert ours(engine) == []


def test_an_image_without_an_entry_point(engine, begin, server):
    gone = begin(Image([("server", server, 0o755)], {})).wait("gone")
    assert not gone["ran"] and "the engine says:" in gone["text"]
    assert ours(engine) == []


def test_an_image_with_a_volume(engine, begin, server):
    """It would be written without a bound, on this machine's disk."""
    gone = begin(server_image(server, Volumes={"/data": {}})).wait("gone")
    assert not gone["ran"] and "VOLUME '/data'" in gone["text"], gone
    assert ours(engine) == []


def test_a_program_of_another_machine(begin, server):
    other = bytearray(server)
    other[18:20] = (0xb7 if os.uname().machine == "x86_64" else 0x3e).to_bytes(2, "little")
    life = begin(Image([("server", bytes(other), 0o755)], {"Entrypoint": ["/server"]}))
    gone = life.wait("gone")
    assert "exec format error" in "\n".join([gone["text"], *life.written()]).lower(), gone


def test_a_corrupt_layer_is_refused_though_the_engine_answers_200(engine, begin, server):
    image = Image([("server", server, 0o755), ("other", os.urandom(4096), 0o644)],
                  {"Entrypoint": ["/server"]})  # a layer that it has not yet
    broken = bytearray(image.layer)
    broken[len(broken) // 2] ^= 0xff
    life = begin(image, data=image.docker_archive(bytes(broken)))
    why = life.wait("error")["why"]
    assert why.startswith("the engine says: "), why
    assert ours(engine) == []


def test_one_that_writes_without_end_is_read_and_stopped(engine, begin, server):
    life = begin(server_image(server, "chatty"), watch="yes")

    def read(size):
        told = 0
        while told < size:
            told += len(life.wait("log")["text"])
            life.heard.clear()
    read(12 << 20)  # its file is bounded, what is read goes on behind that
    if engine.name == "Podman":
        engine.kill()
        life.wait("lost")
        engine.start()
        life.wait("list")
        read(2 << 20)  # what was on its way is less
    assert log_bytes(engine) < 32 << 20
    life.say("stop 0")
    life.wait("gone")


# ---- the engine itself ------------------------------------------------------------------------

def test_an_engine_that_is_away_is_said(engine, begin, server):
    engine.stop()
    try:
        done = subprocess.run([TRY, f"unix:{engine.folder}/none"], capture_output=True, check=False)
        assert b"there is no socket" in done.stderr
        if engine.socket.exists():
            assert "cannot be asked" in begin(server_image(server)).wait("error")["why"]
    finally:
        engine.start()


def test_a_container_that_others_remove_is_gone(engine, begin, server):
    life = begin(server_image(server))
    life.wait("answer")
    engine.ask("DELETE", "/v1.41/containers/perigee-try?force=1")
    gone = life.wait("gone")
    assert gone["ran"] and not gone["left"]


def test_the_engine_ends_and_comes_again(engine, begin, server):
    life = begin(server_image(server, "loud"))
    pid = life.wait("running")["pid"]
    life.wait("answer")
    life.saw("log", text="asked\n")
    if engine.name == "Podman":
        engine.kill()  # what it started lives on
        life.say("get")
        life.wait("answer")
        engine.start()
        life.wait("log", text="asked\n")
        life.say("stop 20000")
    else:
        engine.stop()  # and ends what it started
        engine.start()
    gone = life.wait("gone")
    assert gone["ran"]
    if engine.name == "Podman":
        assert life.written() == ("listens\nasked\nasked\nends\n", "")
    wait_exit(pid, "the container's process")
    begin(sweep="yes", home=HOME).wait("swept")
    assert ours(engine) == []


def test_a_command_inside_says_its_status(begin, server):
    life = begin(server_image(server))
    life.wait("answer")
    for words, code in (("/server exit", 3), ("/server ways", 0)):
        life.say(f"exec 60000 {words}")
        assert life.wait("exec") == {"is": "exec", "why": "", "exit_code": code}
    life.say("exec 60000 /nothing")
    none = life.wait("exec")
    assert none["exit_code"] in (126, 127) or "/nothing" in none["why"], none
    life.say("exec 2000 /server deaf")  # for ever
    assert life.wait("exec")["why"] == "the command did not end in time"
    life.say("stop 0")
    life.wait("gone")


def test_events_are_told_and_told_again_after_the_engine_was_away(engine, begin, server):
    life = begin(server_image(server), watch="yes")
    life.wait("answer")
    life.saw("event", action="start")
    engine.ask("POST", "/v1.41/containers/perigee-try/pause")  # by somebody else
    life.wait("event", action="pause")
    engine.ask("POST", "/v1.41/containers/perigee-try/unpause")
    if engine.name == "Podman":
        engine.kill()
        life.wait("lost")
        engine.start()
        life.wait("list", count=1)
    life.saw("event", action="unpause")
    life.say("stop 20000")
    life.wait("gone")


def test_one_is_ended_while_the_engine_is_away(engine, begin, server):
    group = f"/perigee-test-{os.getpid()}"
    life = begin(server_image(server), group=group)
    pid = life.wait("running")["pid"]
    life.wait("answer")
    if engine.name == "Podman":
        engine.kill()
    else:
        engine.process.send_signal(signal.SIGSTOP)  # dockerd would end it itself
    try:
        life.say("stop 0")
        if engine.name == "Podman":
            gone = life.wait("gone")
            assert gone["left"] and not gone["out_of_memory"] and gone["cpu_us"] > 0
            wait_exit(pid, "the container's process")
    finally:
        if engine.name == "Podman":
            engine.start()
        else:
            engine.process.send_signal(signal.SIGCONT)
            life.wait("gone")
    begin(sweep="yes", home=HOME).wait("swept")
    assert ours(engine) == []
    until("the end of its monitor", lambda: all(map(empty, folders_of(group))))


def test_what_is_left_behind_is_found_by_its_labels(engine, begin, server):
    image = server_image(server)
    life = begin(image)
    life.wait("answer")
    life.process.kill()  # nobody knows of the container any more
    life.process.wait()
    other = begin(image, name="perigee-other", home="other")
    other.wait("answer")
    assert len(ours(engine)) == 2
    assert begin(sweep="yes", home=HOME).wait("swept")["removed"] == 1
    assert len(ours(engine)) == 1, "that of another home stays"
    other.say("stop 0")
    other.wait("gone")


def test_doctor_names_the_engine(engine):
    env = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}", "PERIGEE_HOME": "/nonexistent"}
    done = subprocess.run([PROGRAM, "doctor", "--json"], env=env, stdout=subprocess.PIPE,
                          check=False)
    row = next(row for row in json.loads(done.stdout)["checks"] if row["name"] == "engine")
    assert row["message"].startswith(engine.name) and "API 1.41" in row["message"]
    assert row["status"] == "ok", row
    env["DOCKER_HOST"] = "unix:///nonexistent"
    done = subprocess.run([PROGRAM, "doctor", "--json"], env=env, stdout=subprocess.PIPE,
                          check=False)
    row = next(row for row in json.loads(done.stdout)["checks"] if row["name"] == "engine")
    assert row["status"] == "warn" and "no socket at" in row["message"]
    env["DOCKER_HOST"] = ""  # as if it were not there
    done = subprocess.run([PROGRAM, "doctor", "--json"], env=env, stdout=subprocess.PIPE,
                          check=False)
    row = next(row for row in json.loads(done.stdout)["checks"] if row["name"] == "engine")
    assert row["status"] == "ok", row


# ---- no way out -------------------------------------------------------------------------------

def test_nothing_leads_out(begin, server):
    """The metadata address, bridges of this machine, a resolver, IPv6, by TCP and by UDP."""
    life = begin(server_image(server, "ways"))
    life.wait("gone")
    output, error = life.written()
    lines = output.splitlines()
    assert not error and len(lines) == 17 and lines[-1] == "over"
    for line in lines[:-1]:
        inside = line.startswith("127.")  # its own loopback, where nobody is
        words = ["Connection refused"] if inside else ["Network is unreachable",
                                                       "Cannot assign requested address"]
        assert line.split(" ", 1)[1] in words, lines


def test_there_is_a_loopback_and_nothing_else(begin, server):
    pid = begin(server_image(server)).wait("running")["pid"]
    rows = pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    assert [row.split(":")[0].strip() for row in rows if ":" in row] == ["lo"]
