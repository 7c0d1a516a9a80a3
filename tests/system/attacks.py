# SPDX-License-Identifier: Apache-2.0
"""What a hostile worker tries. A row: what for, what, the steps (commands of tests/worker), and in
which ways of building the worker it may get through: no wall that stands against it is left.

The last step's success is the breach. `{name}` is filled in by the test: another replica's pid and
model, a listener of this process, its shared memory."""
import collections
import signal
import struct

WHOLE, NO_SECCOMP, NO_SPACES = "misbehave", "without-seccomp", "without-namespaces"
SPACES_ALONE, LANDLOCK_ALONE = "namespaces-alone", "landlock-alone"
WAYS = (WHOLE, NO_SECCOMP, NO_SPACES, SPACES_ALONE, LANDLOCK_ALONE)
TITLES = ("all walls", "without seccomp", "without namespaces", "namespaces alone",
          "Landlock alone")

Attack = collections.namedtuple("Attack", "aim what steps through alone breach sent",
                                defaults=((), False, (), None))
# alone: seccomp alone stands against it; it is not tried without. breach: errnos that say that it
# was allowed and failed for another reason. sent: the signal that shows the parent that it was.


def attack(aim, what, *steps, **more):
    return Attack(aim, what, steps, **more)


def ipv4(port_name):
    return f"x:0200{{{port_name}}}7f000001" + "00" * 8


def unix_name(name):
    return f"x:0100{{{name}}}"


def hexed(data):
    return data.hex()


def port(number):
    return struct.pack(">H", number).hex()


OPEN = "call openat -100 s:{} 0"
O_CREAT_RDWR = 0o102
MODEL, MEMORY, REQUESTS = "another's model", "another's memory", "another's requests"
FILES, ENVIRONMENT, NETWORK = "the host's files", "the host's environment", "the network"
PROCESSES, DISK, ROOM = "processes without end", "the disk", "memory beyond its limit"
SIGNALS, OWN, RIGHTS = "signals", "its own model", "rights"

ATTACKS = [
    attack(MODEL, "by its path", OPEN.format("{victim_model}")),
    attack(MODEL, "by `..`", OPEN.format("../victim/model")),
    attack(MODEL, "by /proc/PID/cwd", OPEN.format("/proc/{victim}/cwd/model")),
    attack(MODEL, "by /proc/PID/root", OPEN.format("/proc/{victim}/root")),
    attack(MODEL, "open_by_handle_at", "call open_by_handle_at -100 b 0",
           breach=("ESTALE",)),
    attack(MEMORY, "/proc/PID/mem", "call openat -100 s:/proc/{victim}/mem 2"),
    attack(MEMORY, "/proc/PID/maps", OPEN.format("/proc/{victim}/maps")),
    attack(MEMORY, "process_vm_readv",
           "call process_vm_readv {victim} x:" + "00000100000000001000000000000000" + " 1 x:" +
           "00000100000000001000000000000000" + " 1 0", breach=("EFAULT",)),
    attack(MEMORY, "ptrace", "call ptrace 16 {victim} 0 0"),
    attack(MEMORY, "pidfd_getfd", "call pidfd_open {victim} 0", "call pidfd_getfd r 0 0"),
    attack(REQUESTS, "/proc/PID/fd", OPEN.format("/proc/{victim}/fd/1")),
    attack(REQUESTS, "the host's SysV memory", "call shmat {shm} 0 0",
           through=(LANDLOCK_ALONE,)),
    attack(REQUESTS, "the host's message queue", "call mq_open s:{queue} 0 0 0",
           through=(LANDLOCK_ALONE,)),
    attack(REQUESTS, "writing to the input arena", "write-input"),
    attack(REQUESTS, "making the input arena writable", "call mprotect i 4096 3"),
    attack(REQUESTS, "emptying the input arena", "call madvise i 4096 9"),  # MADV_REMOVE
    attack(FILES, "/etc/passwd", OPEN.format("/etc/passwd")),
    attack(FILES, "`..` upon `..`", OPEN.format("../../../../../../etc/passwd")),
    attack(FILES, "/proc/1/root", OPEN.format("/proc/1/root/etc/passwd")),
    attack(FILES, "/dev/zero", OPEN.format("/dev/zero")),
    attack(FILES, "listing /home", OPEN.format("/home")),
    attack(FILES, "execve", "exec"),
    attack(FILES, "chroot", "call chroot s:/proc"),
    attack(FILES, "mount", "call mount s:x s:/ s:tmpfs 0 0"),
    attack(FILES, "umount2", "call umount2 s:/model 2"),
    attack(FILES, "pivot_root", "call pivot_root s:/model s:/model"),
    attack(FILES, "its parent's namespace", "call openat -100 s:/proc/{parent}/ns/mnt 0",
           "call setns r 0"),
    attack(ENVIRONMENT, "/proc/self/environ", OPEN.format("/proc/self/environ")),
    attack(ENVIRONMENT, "its template's", OPEN.format("/proc/{template}/environ")),
    attack(ENVIRONMENT, "its parent's", OPEN.format("/proc/{parent}/environ")),
    attack(NETWORK, "TCP over IPv4", "call socket 2 1 0", "call connect r " + ipv4("tcp") + " 16",
           breach=("ECONNREFUSED", "EINPROGRESS")),
    attack(NETWORK, "UDP over IPv4", "call socket 2 2 0", "call connect r " + ipv4("udp") + " 16",
           through=(LANDLOCK_ALONE,)),
    attack(NETWORK, "TCP over IPv6", "call socket 10 1 0",
           "call connect r x:0a00{tcp6}00000000" + "00" * 15 + "01" + "00000000 28",
           breach=("ECONNREFUSED", "EINPROGRESS")),
    attack(NETWORK, "a Unix socket by path", "call socket 1 1 0",
           "call connect r " + unix_name("unix_path") + " {unix_path_bytes}",
           through=(LANDLOCK_ALONE,)),
    attack(NETWORK, "an abstract Unix socket", "call socket 1 1 0",
           "call connect r " + unix_name("abstract") + " {abstract_bytes}",
           through=(LANDLOCK_ALONE,)),  # before ABI 6
    attack(NETWORK, "packets", "call socket 17 3 768"),
    attack(NETWORK, "raw IP", "call socket 2 3 255"),
    attack(NETWORK, "netlink", "call socket 16 3 0", alone=True),
    attack(NETWORK, "the kernel's ciphers (AF_ALG)", "call socket 38 5 0", alone=True),
    attack(NETWORK, "a virtual machine's host (AF_VSOCK)", "call socket 40 1 0", alone=True),
    attack(NETWORK, "Bluetooth", "call socket 31 3 1", alone=True),
    attack(NETWORK, "socketpair", "call socketpair 1 1 0 b", alone=True),
    attack(NETWORK, "io_uring", "call io_uring_setup 1 b", alone=True),
    attack(PROCESSES, "fork", "forks 1000", through=(LANDLOCK_ALONE,)),
    attack(PROCESSES, "clone3", "call clone3 b 88", breach=("EINVAL",), alone=True),
    attack(PROCESSES, "vfork's call", "call clone 16657 0 0 0 0", alone=True),
    attack(PROCESSES, "threads", "threads 10000"),
    attack(DISK, "a file beside its model", f"call openat -100 s:new {O_CREAT_RDWR} 384"),
    attack(DISK, "a file in /", f"call openat -100 s:/new {O_CREAT_RDWR} 384"),
    attack(DISK, "a file in /tmp", f"call openat -100 s:/tmp/pg-attack {O_CREAT_RDWR} 384"),
    attack(DISK, "a file in /dev/shm", f"call openat -100 s:/dev/shm/pg-attack {O_CREAT_RDWR} 384"),
    attack(DISK, "a nameless file in /tmp", "call openat -100 s:/tmp 4259842 384"),
    attack(DISK, "a folder", "call mkdirat -100 s:/model/new 448"),
    attack(DISK, "a file in memory", "call memfd_create s:x 0", "call write r b 4096"),
    attack(DISK, "a file in memory, grown", "call memfd_create s:x 0",
           "call ftruncate r 1073741824"),
    attack(ROOM, "malloc", "alloc 2000"),
    attack(ROOM, "shared mappings", "call mmap 0 8589934592 3 33 -1 0", alone=True),
    attack(ROOM, "a mapping that grows down", "call mmap 0 65536 3 290 -1 0", alone=True),
    attack(ROOM, "executable memory", "call mmap 0 4096 7 34 -1 0", alone=True),
    attack(ROOM, "memory made executable", "call mmap 0 4096 3 34 -1 0", "call mprotect r 4096 5",
           alone=True),
    attack(ROOM, "locked memory", "call mlockall 3"),
    attack(ROOM, "a message queue of its own", f"call mq_open s:pg-attack {O_CREAT_RDWR} 384 0"),
    attack(ROOM, "descriptors", "opens 10000"),
    attack(ROOM, "raising its limits", "prlimit"),
    attack(SIGNALS, "its parent", "call kill {parent} 0", through=(SPACES_ALONE, LANDLOCK_ALONE)),
    attack(SIGNALS, "its template", "call kill {template} 0",
           through=(SPACES_ALONE, LANDLOCK_ALONE)),
    attack(SIGNALS, "another replica", "call kill {victim} 0",
           through=(SPACES_ALONE, LANDLOCK_ALONE)),
    attack(SIGNALS, "another's thread (tgkill)", "call tgkill {victim} {victim} 0",
           through=(SPACES_ALONE, LANDLOCK_ALONE)),
    attack(SIGNALS, "another's thread (tkill)", "call tkill {victim} 0",
           through=(SPACES_ALONE, LANDLOCK_ALONE)),
    attack(SIGNALS, "by a pidfd", "call pidfd_open {victim} 0",
           "call pidfd_send_signal r 0 0 0", through=(SPACES_ALONE, LANDLOCK_ALONE)),
    attack(SIGNALS, "by a descriptor's owner (F_SETOWN)", "call fcntl 2 8 {parent}",
           "own-pipe {parent} 0", through=(SPACES_ALONE, LANDLOCK_ALONE), sent=signal.SIGIO),
    attack(SIGNALS, "likewise one of its choice (F_SETSIG)", "call fcntl 2 10 12",
           "own-pipe {parent} 12", through=(SPACES_ALONE, LANDLOCK_ALONE), sent=signal.SIGUSR2),
    attack(OWN, "opening it to write", "call openat -100 s:model 1"),
    attack(OWN, "opening it to cut it", "call openat -100 s:model 513"),
    attack(OWN, "truncate", "call truncate s:model 0"),
    attack(OWN, "unlinkat", "call unlinkat -100 s:model 0"),
    attack(OWN, "renameat", "call renameat -100 s:model -100 s:gone"),
    attack(OWN, "linkat", "call linkat -100 s:model -100 s:more 0"),
    attack(OWN, "fchmodat", "call fchmodat -100 s:model 511", through=(LANDLOCK_ALONE,)),
    attack(OWN, "utimensat", "call utimensat -100 s:model 0 0", through=(LANDLOCK_ALONE,)),
    attack(RIGHTS, "a user namespace within", "call unshare 268435456",
           through=(LANDLOCK_ALONE,)),
    attack(RIGHTS, "to be looked into (prctl)", "call prctl 4 1 0 0 0", alone=True),
    attack(RIGHTS, "to outlive its parent (prctl)", "call prctl 1 0 0 0 0", alone=True),
    attack(RIGHTS, "uid 0", "call setresuid 0 0 0"),
    attack(RIGHTS, "gid 0", "call setresgid 0 0 0"),
    attack(RIGHTS, "a host name", "call sethostname s:x 1"),
    attack(RIGHTS, "the clock", "call clock_settime 0 b"),
    attack(RIGHTS, "a kernel module", "call init_module b 1 s:"),
    attack(RIGHTS, "reboot", "call reboot 0xfee1dead 0x28121969 0x89abcdef 0"),
    attack(RIGHTS, "swapon", "call swapon s:/model/model 0"),
    attack(RIGHTS, "bpf", "call bpf 5 b 64", alone=True),
    attack(RIGHTS, "perf_event_open", "call perf_event_open b 0 -1 -1 0", alone=True),
    attack(RIGHTS, "userfaultfd", "call userfaultfd 0", alone=True),
    attack(RIGHTS, "keys", "call keyctl 0 -3 0", alone=True),
    attack(RIGHTS, "the kernel's log", "call syslog 3 b 4096", alone=True),
]
# "1000 threads" and such succeed in part: so many are none too many.
MADE_AT_MOST = {"forks": 64, "threads": 64, "opens": 96}
