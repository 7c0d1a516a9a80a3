# SPDX-License-Identifier: Apache-2.0
"""What this machine allows, and how a program is run as if it allowed less.

As a program: `machine.py COMMAND...` runs the command where no user namespace can be made. As root
that is a chroot into a second mount of the same root, which the kernel refuses namespaces; as an
ordinary user a namespace whose limit of further ones is zero."""

import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
NO_USER_NAMESPACES = [sys.executable, os.path.abspath(__file__)]
LANDLOCK_CREATE_RULESET, VERSION_FLAG = 444, 1


def unshare(flags):
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")


def user_namespaces():
    """Whether an ordinary user (this one, or as root another) may make one here."""
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            unshare(CLONE_NEWUSER)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def as_user(uid, work):
    """The errno of what work() raised in a process of that user and group, 0 when it did not."""
    pid = os.fork()
    if pid == 0:
        try:
            if uid != os.geteuid():
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            work()
        except OSError as error:
            os._exit(error.errno)
        except BaseException:  # pylint: disable=broad-exception-caught
            os._exit(255)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def user_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("Uid:")).split()[1])


def landlock_abi():
    return max(0, libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG))


def _mount(source, target, flags):
    if libc.mount(source.encode(), target.encode(), None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}")


def _as_root():
    unshare(CLONE_NEWNS)
    _mount("none", "/", MS_REC | MS_PRIVATE)
    here = os.getcwd()
    _mount("/", "/mnt", MS_BIND | MS_REC)
    os.chroot("/mnt")
    os.chdir(here)


def _as_user():
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write("0")


if __name__ == "__main__":
    if os.geteuid() == 0:
        _as_root()
    else:
        _as_user()
    os.execv(sys.argv[1], sys.argv[1:])
