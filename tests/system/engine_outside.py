# SPDX-License-Identifier: Apache-2.0
"""Engines whose containers may have a network, and what is outside of it.

The service runs in a network namespace of its own, so that its bridge is nobody's: this machine's
network, and that of the tests, stay as they are. There stands who is asked from inside.

As a program: `engine_outside.py COMMAND...` runs the command in such a network."""
import concurrent.futures
import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
import threading

import dns.message
import dns.rrset

from engines import Docker, Podman
from machine import libc, unshare

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1
BRIDGE, BRIDGE6, METADATA = "10.232.0.1", "fd00:232::1", "169.254.169.254"
PORT, NAMED = 80, "192.0.2.7"
IN_NETWORK = [sys.executable, os.path.abspath(__file__)]


def enter_new_network():
    """With a loopback, and the address by which clouds tell machines who they are."""
    unshare(CLONE_NEWNET)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
        fcntl.ioctl(any_socket, SIOCSIFADDR, struct.pack(
            "16sHH4s16x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(METADATA)))


def in_network(pid, work):
    """What `work` gives, done in the network of that process: sockets that it makes stay there."""
    def there():
        with open(f"/proc/{pid}/ns/net", "rb") as network:
            assert libc.setns(network.fileno(), CLONE_NEWNET) == 0
        return work()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:  # which ends with it
        return thread.submit(there).result()


class PodmanOutside(Podman):
    def __init__(self, folder):
        super().__init__(folder)
        with open(self.config, "a", encoding="ascii") as file:
            file.write(f'[containers]\ndns_servers = ["{BRIDGE}"]\n')
        network = {"type": "bridge", "bridge": "pg0", "isGateway": True, "hairpinMode": True,
                   "ipam": {"type": "host-local", "dataDir": f"{folder}/leases",
                            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                            "ranges": [[{"subnet": "10.232.0.0/24", "gateway": BRIDGE}],
                                       [{"subnet": "fd00:232::/64", "gateway": BRIDGE6}]]}}
        (folder / "networks").mkdir()
        (folder / "networks" / "87-podman.conflist").write_text(json.dumps(
            {"cniVersion": "0.4.0", "name": "podman", "plugins": [network]}))

    def command(self):
        return [*IN_NETWORK, *super().command()]


class DockerOutside(Docker):
    network = ("--bip", f"{BRIDGE}/24", "--ipv6", "--fixed-cidr-v6", "fd00:232::/64",
               "--dns", BRIDGE)

    def command(self):
        return [*IN_NETWORK, *super().command()]


OUTSIDE = {"podman": PodmanOutside, "docker": DockerOutside}


class Outside:
    """In an engine's network: a server by TCP that says so, and a resolver. Whoever may ask."""

    def __init__(self, engine):
        self.tcp, self.udp = in_network(engine.process.pid, self._sockets)
        self.threads = [threading.Thread(target=run, daemon=True)
                        for run in (self._answer, self._resolve)]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _sockets():
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("", 53))
        return socket.create_server(("", PORT), family=socket.AF_INET6,
                                    dualstack_ipv6=True), udp

    def _answer(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.tcp.accept()
                with one:
                    one.recv(4096)
                    one.sendall(b"outside")

    def _resolve(self):
        with contextlib.suppress(OSError):
            while True:
                text, sender = self.udp.recvfrom(4096)
                if not text:
                    return
                question = dns.message.from_wire(text)
                answer = dns.message.make_response(question)
                answer.answer.append(dns.rrset.from_text(question.question[0].name, 1, "IN", "A",
                                                         NAMED))
                self.udp.sendto(answer.to_wire(), sender)

    def close(self):
        for one in (self.tcp, self.udp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for one in (self.tcp, self.udp):
            one.close()


if __name__ == "__main__":
    enter_new_network()
    os.execvp(sys.argv[1], sys.argv[1:])
