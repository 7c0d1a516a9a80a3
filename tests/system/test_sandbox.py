# SPDX-License-Identifier: Apache-2.0
"""The walls as an operator meets them: which stand, `--sandbox`, a second project, `doctor`.

Each test says itself which walls this machine allows, found without Perigee: a wall that silently
fell would not be missed by asking Perigee alone."""
import errno
import os
import re
import socket
import subprocess

import pytest

import machine
from deadline import DEADLINE, children, command_line
from perigee import DIGITS, PROGRAM

MODEL = DIGITS / "digits.onnx"
PNG = DIGITS / "samples" / "digit-0.png"
SPACES = ("user", "mnt", "net", "ipc")


def sandbox_of(perigee, name):
    return perigee.get_json(f"/api/v1/endpoints/{name}/replicas", "control")["items"][0]


def words_expected(user_namespaces):
    """What `show` must say here, before the cgroup."""
    words = "nnp rlimits env fds seccomp"
    if machine.landlock_abi():
        words += f" landlock({machine.landlock_abi()})"
    if user_namespaces:
        words += " user"
    if user_namespaces or os.geteuid() == 0:
        words += " mount net ipc"
    return words + (" uid" if os.geteuid() == 0 else "")


def stand(replica, user_namespaces):
    text = replica["sandbox"]
    assert re.match(re.escape(words_expected(user_namespaces)) + r"( cgroup|, no |$)", text), text
    return text


@pytest.fixture(params=["with", "without"])
def user_namespaces(request):
    """Whether there are any in the test: both, and a machine without any says so."""
    if request.param == "with" and not machine.user_namespaces():
        pytest.skip("this machine allows no user namespaces")
    return request.param == "with"


@pytest.fixture
def perigee(new_perigee, user_namespaces):
    one = new_perigee(start=False)
    one.wrap = () if user_namespaces else machine.NO_USER_NAMESPACES
    return one


def test_the_walls_that_stand_are_shown(perigee, user_namespaces):
    perigee.start("--sandbox", "best")
    perigee.cli("deploy", "digits", "--model", MODEL)
    replica = sandbox_of(perigee, "digits")
    text = stand(replica, user_namespaces)
    assert text in " ".join(perigee.cli("show", "digits").text.split())
    if os.geteuid() == 0:  # others are not shown the namespaces of who may not be dumped
        ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in SPACES}
        theirs = {name: os.readlink(f"/proc/{replica['pid']}/ns/{name}") for name in SPACES}
        for name in SPACES:
            assert (ours[name] != theirs[name]) == (name != "user" or user_namespaces), name
    if not user_namespaces:
        assert "no user: " in text


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def users_of(pid):
    fields = status_of(pid)
    return {*fields["Uid"].split(), *fields["Gid"].split(), *fields["Groups"].split()}


def test_roles_keep_no_privilege(new_perigee):
    perigee = new_perigee()
    perigee.cli("deploy", "digits", "--model", MODEL)
    roles = {line.split()[-1]: pid for pid in children(perigee.process.pid)
             if " role " in (line := command_line(pid))}
    assert set(roles) == {"gateway", "pop", "control", "dns"}
    for role, pid in roles.items():
        fields = status_of(pid)
        assert fields["NoNewPrivs"] == "1", role
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(fields[name], 16) == 0, f"{role}: {name}"
        assert os.geteuid() != 0 or int(fields["CapBnd"], 16) == 0, role


@pytest.mark.root
def test_as_root_the_gateway_has_a_user_of_its_own(new_perigee):
    """Neither root's files and sockets are its own, nor a replica's memory; nor is another
    gateway's, which an upgrade has beside it: it cannot be dumped."""
    perigee = new_perigee()
    perigee.cli("deploy", "digits", "--model", MODEL)
    gateway = perigee.role_pid("gateway")
    users = users_of(gateway)
    others = users_of(perigee.role_pid("dns"))
    assert len(others) == 1 and "0" not in others and not others & users
    assert len(users) == 1 and "0" not in users  # user, group, no other group
    assert not users & users_of(sandbox_of(perigee, "digits")["pid"])
    assert os.stat(f"/proc/{gateway}/mem").st_uid == 0  # who may be dumped owns it
    assert perigee.metric("perigee_process_open_fds", process="gateway") > 0  # the agent sees it
    for role in ("pop", "control"):  # root's files are what they work on
        assert "0" in users_of(perigee.role_pid(role)), role
    perigee.cli("infer", "digits", "--input", f"image={PNG}")
    perigee.cli("upgrade")
    after = perigee.role_pid("gateway")
    assert after != gateway and users_of(after) == users
    perigee.cli("infer", "digits", "--input", f"image={PNG}")


@pytest.mark.root
def test_the_gateways_user_cannot_ask_for_an_upgrade(new_perigee):
    perigee = new_perigee()
    uid = machine.user_of(perigee.role_pid("gateway"))
    path = str(perigee.home / "run" / "upgrade.sock")

    def connect():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
            one.connect(path)

    assert machine.as_user(0, connect) == 0
    assert machine.as_user(uid, connect) == errno.EACCES


@pytest.mark.root
def test_a_home_that_is_walked_to_by_privilege_alone(scratch):
    closed = scratch / "theirs"
    closed.mkdir(mode=0o700)
    os.chown(closed, 65534, 65534)
    done = subprocess.run([PROGRAM, "up", "--home", closed / "home"], capture_output=True,
                          text=True, timeout=DEADLINE, check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1 and "closed to all but user 65534" in said and "--home DIR" in said


def test_root_without_room_for_users(new_perigee):
    """Root of a user namespace with one user: no replica gets one of its own, and that is said."""
    if not machine.user_namespaces():
        pytest.skip("this machine allows no user namespaces")
    perigee = new_perigee(start=False)
    perigee.wrap = ("unshare", "--user", "--map-root-user")
    perigee.start("--sandbox", "require", wait=False)
    assert perigee.process.wait(DEADLINE) == 1
    wanted = "uid: no room for 4096 users in /proc/self/uid_map"
    assert wanted in perigee.tail()
    perigee.start()
    perigee.cli("deploy", "digits", "--model", MODEL)
    text = sandbox_of(perigee, "digits")["sandbox"]
    assert f"no {wanted}" in text or f"; {wanted}" in text
    done = perigee.cli("deploy", "digits", "--model", MODEL, "--project", "other", status=None)
    assert done.returncode != 0 and wanted in " ".join(done.said.split())
    done = subprocess.run([*perigee.wrap, PROGRAM, "doctor"], capture_output=True, text=True,
                          timeout=DEADLINE, check=False, cwd="/")
    assert wanted in " ".join(done.stdout.split())


HIDDEN = ("unshare", "--mount", "--propagation", "private", "sh", "-c",
          "mount -t proc -o hidepid=2 proc /proc &&"
          ' exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"')


@pytest.mark.root
def test_a_proc_that_hides_processes(new_perigee, scratch):
    """As an ordinary user, to whom such a /proc does not show who may not be dumped."""
    if subprocess.run([*HIDDEN, "test", "-x", PROGRAM], check=False).returncode != 0:
        pytest.skip("the program is where no other user can run it")
    perigee = new_perigee(start=False)
    scratch.chmod(0o755)
    (perigee.home / "run").mkdir(mode=0o700)  # as start() would, for itself
    for folder in (perigee.home, perigee.home / "run"):
        os.chown(folder, 65534, 65534)
    perigee.wrap = HIDDEN
    perigee.start()
    done = perigee.cli("deploy", "digits", "--model", MODEL, status=None)
    said = " ".join(done.said.split())
    assert done.returncode != 0 and "/proc does not show it (mounted with hidepid?)" in said
    done = subprocess.run([*HIDDEN, PROGRAM, "doctor"], capture_output=True, text=True,
                          timeout=DEADLINE, check=False, cwd="/")
    assert done.returncode == 1
    assert "does not show replicas to this user" in " ".join(done.stdout.split())


def test_required(perigee, user_namespaces):
    whole = user_namespaces and machine.landlock_abi() > 0
    if whole:
        perigee.start("--sandbox", "require")
        perigee.cli("deploy", "digits", "--model", MODEL)
        stand(sandbox_of(perigee, "digits"), True)
        return
    perigee.start("--sandbox", "require", wait=False)
    assert perigee.process.wait(DEADLINE) == 1
    said = perigee.tail()
    assert "--sandbox require, and walls around replicas do not stand here: " in said
    assert "--sandbox best" in said and "doctor" in said
    if not user_namespaces:
        assert "user: " in said
    if not user_namespaces and os.geteuid() != 0:
        for name in ("mount", "net", "ipc"):
            assert f"{name}: wants a user namespace" in said


def test_beyond_this_machine_it_is_required_unless_told(perigee, user_namespaces):
    listen = ("--open", "--listen-gateway", "0.0.0.0:0")
    if user_namespaces and machine.landlock_abi() > 0:
        perigee.start(*listen)
        return
    perigee.start(*listen, wait=False)
    assert perigee.process.wait(DEADLINE) == 1
    assert "listening beyond this machine wants the sandbox whole" in perigee.tail()
    perigee.start(*listen, "--sandbox", "best")


def test_a_second_project_wants_the_walls(perigee, user_namespaces):
    perigee.start()
    perigee.cli("deploy", "digits", "--model", MODEL)
    if user_namespaces and machine.landlock_abi() > 0:
        perigee.cli("deploy", "digits", "--model", MODEL, "--project", "other")
        return
    done = perigee.cli("deploy", "digits", "--model", MODEL, "--project", "other", status=None)
    assert done.returncode != 0
    said = " ".join(done.said.split())
    assert "project 'default' has endpoints here, and walls between two projects" in said
    assert "--sandbox best" in said and ("user: " in said or user_namespaces)
    perigee.cli("deploy", "more", "--model", MODEL)  # the first goes on
    assert not perigee.json("ls", "--project", "other")["items"]
    perigee.stop()
    perigee.start("--sandbox", "best")
    perigee.cli("deploy", "digits", "--model", MODEL, "--project", "other")


def test_doctor_tells(user_namespaces):
    wrap = [] if user_namespaces else machine.NO_USER_NAMESPACES
    done = subprocess.run([*wrap, PROGRAM, "doctor"], capture_output=True, text=True,
                          timeout=DEADLINE, check=False, cwd="/")
    said = " ".join(done.stdout.split())
    if user_namespaces:
        assert "user, mount, net, ipc: one of each for each replica" in said
    else:
        assert "namespaces not all stand: user: " in said and "max_user_namespaces" in said
    if machine.landlock_abi():
        assert f"landlock ABI {machine.landlock_abi()}" in said
