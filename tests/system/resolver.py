# SPDX-License-Identifier: Apache-2.0
"""Debian's unbound in front of our DNS, as docs/dns.md has it set up."""
import contextlib
import os
import shutil
import socket
import subprocess

import dns.message
import dns.query
import pytest

from deadline import DEADLINE, until, wait_exit
from perigee import listens

CONFIG = """
server:
  interface: 127.0.0.1
  port: {port}
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  domain-insecure: "test."
  local-zone: "test." nodefault
  module-config: "subnetcache iterator"
  send-client-subnet: 127.0.0.1
  access-control: 127.0.0.0/8 allow
  hide-identity: yes
stub-zone:
  name: "{zone}"
  stub-addr: {server}
remote-control:
  control-enable: no
"""


def free_port():
    """Free for TCP and UDP both."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            stream.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                datagrams.bind(stream.getsockname())
                return stream.getsockname()[1]


@contextlib.contextmanager
def unbound(scratch, zone, server):
    """Yields where it is asked."""
    program = shutil.which("unbound") or "/usr/sbin/unbound"
    if not os.path.exists(program):
        pytest.skip("needs Debian's unbound")
    port, config, log = free_port(), scratch / "unbound.conf", scratch / "unbound.log"
    config.write_text(CONFIG.format(port=port, folder=scratch, zone=zone,
                                    server="%s@%d" % server))
    with open(log, "wb") as out:
        process = subprocess.Popen([program, "-d", "-c", config], stdout=out, stderr=out)
    try:
        until("unbound", lambda: listens(f"127.0.0.1:{port}") or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield "127.0.0.1", port
    finally:
        process.terminate()
        wait_exit(process.pid)
        process.wait()


def resolve(resolver, name, kind="A", source=None):
    """The answer to who asks from `source`."""
    host, port = resolver
    return dns.query.udp(dns.message.make_query(name, kind), host, port=port, source=source,
                         timeout=DEADLINE)
