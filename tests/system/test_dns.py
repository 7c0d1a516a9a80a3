# SPDX-License-Identifier: Apache-2.0
"""`perigee up` answers DNS: names of endpoints, by dnspython and dig; behind unbound, to an
inference; what is sent that is no question; and its process killed and replaced."""
import contextlib
import itertools
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdtypes.svcbbase
import pytest

from deadline import DEADLINE, wait_readable
from perigee import DIGITS, PROGRAM
from resolver import resolve, unbound
from test_processes import ZEROS, kill, right, role_pid, until
from test_upgrade import another

ZONE = "perigee.test"


@pytest.fixture(scope="module")
def named(perigee):
    perigee.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    perigee.cli("deploy", "digits", "--project", "vision", "--model", DIGITS / "digits.onnx",
                "--no-wait")
    until("the name in its project", lambda: addresses(perigee, f"digits--vision.{ZONE}"))
    return perigee


def ask(one, name, kind="A", tcp=False, subnet=None, options=(), **more):
    """The answer to one question, asked once."""
    if subnet:
        options = [dns.edns.ECSOption(*subnet), *options]
    question = dns.message.make_query(name, kind, use_edns=0, options=list(options), **more)
    host, port = one.address("dns")
    send = dns.query.tcp if tcp else dns.query.udp
    return send(question, host, port=port, timeout=DEADLINE)


def addresses(one, name, **more):
    return [row.address for rrset in ask(one, name, **more).answer for row in rrset]


def option(answer, code):
    return next((one for one in answer.options if one.otype == code), None)


def texts(answer):
    return [string.decode() for rrset in answer.answer for row in rrset for string in row.strings]


# --- names ---------------------------------------------------------------------------------------

ANSWERS = [  # name, type, rcode, answer, who says no
    (f"digits.{ZONE}", "A", "NOERROR", ["127.0.0.1"]),
    (f"DiGiTs.{ZONE}", "A", "NOERROR", ["127.0.0.1"]),
    (f"digits--vision.{ZONE}", "A", "NOERROR", ["127.0.0.1"]),
    (ZONE, "A", "NOERROR", ["127.0.0.1"]),
    (f"api.{ZONE}", "A", "NOERROR", ["127.0.0.1"]),
    (f"ns1.{ZONE}", "A", "NOERROR", ["127.0.0.1"]),
    (ZONE, "NS", "NOERROR", [f"ns1.{ZONE}."]),
    (f"digits.{ZONE}", "ANY", "NOERROR", ['"RFC8482" ""']),
    (f"digits.{ZONE}", "AAAA", "NOERROR", []),
    (f"digits.{ZONE}", "HTTPS", "NOERROR", []),  # nothing is said of TLS
    (f"none.{ZONE}", "A", "NXDOMAIN", []),
    (f"a.digits.{ZONE}", "A", "NXDOMAIN", []),
    ("example.com", "A", "REFUSED", []),
    ("test", "NS", "REFUSED", []),
]


@pytest.mark.parametrize("tcp", (False, True), ids=("udp", "tcp"))
@pytest.mark.parametrize("name,kind,rcode,wanted", ANSWERS,
                         ids=[f"{row[0]}-{row[1]}" for row in ANSWERS])
def test_names(named, name, kind, rcode, wanted, tcp):
    answer = ask(named, name, kind, tcp=tcp)
    assert dns.rcode.to_text(answer.rcode()) == rcode
    assert [row.to_text() for rrset in answer.answer for row in rrset] == wanted
    assert bool(answer.flags & dns.flags.AA) == (rcode != "REFUSED")
    assert not answer.flags & (dns.flags.RA | dns.flags.TC)
    if not wanted and rcode != "REFUSED":  # RFC 2308
        assert [rrset.ttl for rrset in answer.authority] == [5]
        assert answer.authority[0][0].minimum == 5
    assert option(answer, dns.edns.OptionType.EDE) is None or rcode == "REFUSED"


def test_https_where_something_else_ends_tls(new_perigee):
    """One record for all that is an endpoint's, with the addresses that A gives, for as long."""
    one = new_perigee("--https-record", "alpn=h2,http/1.1 port=8443")
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    until("the name", lambda: addresses(one, f"digits.{ZONE}"))
    for name, tcp, subnet in ((f"digits.{ZONE}", False, None), (ZONE, True, None),
                              (f"digits.{ZONE}", False, ("203.0.113.0", 24))):
        (plain,), (rrset,) = (ask(one, name, kind, tcp=tcp, subnet=subnet).answer
                              for kind in ("A", "HTTPS"))
        assert [row.to_text() for row in rrset] == [
            '1 . alpn="h2,http/1.1" port="8443" ipv4hint="127.0.0.1"']
        assert rrset.ttl in (plain.ttl, 20)  # it may have become stable between
        key = dns.rdtypes.svcbbase.ParamKey.IPV4HINT
        assert list(rrset[0].params[key].addresses) == [row.address for row in plain]
    for name in (f"api.{ZONE}", f"ns1.{ZONE}"):
        assert not ask(one, name, "HTTPS").answer
    kill(role_pid(one, "dns"))  # the next process has heard of it, too
    until("it to answer", lambda: ask(one, f"digits.{ZONE}", "HTTPS").answer)


def test_who_is_not_there_may_be_so_soon(named):
    """A TTL of 5 s until the place is known to stay; 20 s then."""
    assert ask(named, f"digits.{ZONE}").answer[0].ttl in (5, 20)


def test_a_client_subnet_is_answered_with_its_scope(named):
    """One place alone: the answer is everybody's."""
    for subnet in (("203.0.113.0", 24), ("2001:db8::", 48), ("0.0.0.0", 0)):
        answer = ask(named, f"digits.{ZONE}", subnet=subnet)
        said = option(answer, dns.edns.OptionType.ECS)
        assert (said.address, said.srclen, said.scopelen) == (*subnet, 0)
    assert option(ask(named, f"digits.{ZONE}"), dns.edns.OptionType.ECS) is None
    named.wait_metric(lambda value: value >= 3, "perigee_dns_client_subnets_total")


def test_a_cookie_is_given_and_known_again(named):
    asked = dns.edns.CookieOption(b"12345678", b"")
    given = option(ask(named, ZONE, options=[asked]), dns.edns.OptionType.COOKIE)
    assert given.client == b"12345678" and len(given.server) == 16
    again = option(ask(named, ZONE, options=[given]), dns.edns.OptionType.COOKIE)
    assert again.client == b"12345678" and len(again.server) == 16
    named.wait_metric(lambda value: value >= 1, "perigee_dns_cookies_total", state="right")


@pytest.mark.parametrize("tcp", (False, True), ids=("udp", "tcp"))
def test_who_asks_nothing_gets_a_cookie(named, tcp):
    """RFC 7873, 5.4. Without one it is no question; and a refusal speaks EDNS to who does."""
    def told(*options, opcode=dns.opcode.QUERY):
        host, port = named.address("dns")
        question = dns.message.Message()
        question.set_opcode(opcode)
        question.use_edns(0, options=list(options))
        return (dns.query.tcp if tcp else dns.query.udp)(question, host, port=port,
                                                         timeout=DEADLINE)
    answer = told(dns.edns.CookieOption(b"12345678", b""))
    assert answer.rcode() == dns.rcode.NOERROR and not answer.question and not answer.answer
    given = option(answer, dns.edns.OptionType.COOKIE)
    again = option(told(given), dns.edns.OptionType.COOKIE)
    assert given.client == again.client == b"12345678" and len(again.server) == 16
    for answer, code in ((told(), dns.rcode.FORMERR),
                         (told(opcode=dns.opcode.STATUS), dns.rcode.NOTIMP)):
        assert answer.rcode() == code and answer.edns == 0


def test_dig(named):
    host, port = named.address("dns")
    done = subprocess.run(["dig", f"@{host}", "-p", str(port), f"digits.{ZONE}",
                           "+norecurse", "+subnet=203.0.113.0/24"],
                          capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert "status: NOERROR" in done.stdout and "CLIENT-SUBNET: 203.0.113.0/24/0" in done.stdout
    assert "(good)" in done.stdout  # its cookie came back
    assert "WARNING" not in done.stdout and "malformed" not in done.stdout


def test_why_says_what_was_chosen_and_only_to_whom_it_may(named, new_perigee):
    said = texts(ask(named, f"_why.digits.{ZONE}", "TXT", subnet=("203.0.113.0", 24)))
    assert said[0].startswith("client 203.0.113.0/24, country unknown")
    assert said[1].startswith("local: 0.0 ms = rtt")
    shy = new_perigee("--why-from", "192.0.2.0/24")
    shy.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    until("the name", lambda: addresses(shy, f"digits.{ZONE}"))
    answer = ask(shy, f"_why.digits.{ZONE}", "TXT")
    assert answer.rcode() == dns.rcode.REFUSED and not answer.answer
    ede = option(answer, dns.edns.OptionType.EDE)
    assert ede.code == dns.edns.EDECode.PROHIBITED and "--why-from" in ede.text


def test_a_deleted_endpoint_has_no_name(named):
    named.cli("deploy", "passing", "--model", DIGITS / "digits.onnx", "--no-wait")
    until("its name", lambda: addresses(named, f"passing.{ZONE}"))
    named.cli("delete", "passing", "--yes")
    until("no name", lambda: ask(named, f"passing.{ZONE}").rcode() == dns.rcode.NXDOMAIN)


def test_another_zone_on_all_addresses(new_perigee):
    """Where it listens on all, each asker is told the address it asked."""
    one = new_perigee("--zone", "edge.example", "--open", "--listen-dns", "0.0.0.0:0",
                      "--listen-gateway", "0.0.0.0:0", "--sandbox", "best")
    port = one.address("dns")[1]
    for host, tcp in itertools.product(("127.0.0.1", "127.0.3.4"), (False, True)):
        one.addresses["dns"] = [f"{host}:{port}"]
        until("the zone", lambda tcp=tcp: addresses(one, "edge.example", tcp=tcp))
        assert addresses(one, "edge.example", tcp=tcp) == [host]
    one.addresses = {}


def test_without_dns(new_perigee):
    one = new_perigee("--listen-dns", "none")
    assert one.addresses["dns"] == [] and role_pid(one, "dns") is None


# --- ports ---------------------------------------------------------------------------------------


def up_where_dns_is_taken(perigee, address):
    """What `up` says of --listen-dns ADDRESS."""
    command = [PROGRAM, "up", "--listen-dns", address]
    for name in ("gateway", "control", "admin"):
        command += [f"--listen-{name}", "127.0.0.1:0"]
    done = subprocess.run(command, env=perigee.environment(), capture_output=True, text=True,
                          timeout=DEADLINE)
    assert done.returncode == 1
    assert "--listen-dns (or $PERIGEE_LISTEN_DNS) moves it" in done.stderr
    assert address in done.stderr
    return done.stderr


@pytest.mark.parametrize("kind", (socket.SOCK_STREAM, socket.SOCK_DGRAM), ids=("tcp", "udp"))
def test_a_taken_port_names_the_flag_and_the_process(new_perigee, kind):
    # Both kinds of the port are ours, so that no connection of somebody else has the other one.
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            one, other = (stack.enter_context(socket.socket(socket.AF_INET, each))
                          for each in (kind, socket.SOCK_STREAM + socket.SOCK_DGRAM - kind))
            one.bind(("127.0.0.1", 0))
            try:
                other.bind(one.getsockname())
                break
            except OSError:
                pass
        other.close()
        if kind == socket.SOCK_STREAM:
            one.listen()
        said = up_where_dns_is_taken(new_perigee(start=False), "%s:%d" % one.getsockname())
        assert f"taken by process {os.getpid()}" in said


@pytest.mark.parametrize("ended", (False, True), ids=("open", "ended"))
def test_a_port_taken_by_a_connection(new_perigee, ended):
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        with client, server.accept()[0] as accepted:
            address = "%s:%d" % client.getsockname()
            if ended:
                client.close()
                assert accepted.recv(1) == b""
                accepted.close()
            said = up_where_dns_is_taken(new_perigee(start=False), address)
    assert ("taken by a connection that has ended" if ended else
            f"taken by a connection of process {os.getpid()}") in said


# --- what is no question -------------------------------------------------------------------------

HEAD = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0"
ASK = b"\6digits\7perigee\4test\0\0\1\0\1"
BAD = [  # the answer's code; None: there is none
    ("nothing", b"", None), ("half a head", HEAD[:7], None),
    ("an answer", b"\x12\x34\x81" + HEAD[3:] + ASK, None), ("a head alone", HEAD, 1),
    ("cut off", HEAD + ASK[:-3], 1), ("a loop", HEAD + b"\xc0\x0c\0\1\0\1", 1),
    ("two questions", HEAD[:5] + b"\2" + HEAD[6:] + ASK * 2, 1),
    ("records said to come", HEAD[:10] + b"\xff\xff" + ASK, 1),
    ("behind it more", HEAD + ASK + b"x" * 1000, 1), ("class chaos", HEAD + ASK[:-1] + b"\3", 5),
    ("an update", HEAD[:2] + b"\x28" + HEAD[3:] + ASK, 4),
    ("a huge client subnet", HEAD[:11] + b"\1" + ASK + b"\0\0\x29\4\xd0\0\0\0\0\3\xf0"
     + b"\0\x08\3\xec\0\1\x18\0" + b"x" * 1000, 1),
    ("too large for us", HEAD + b"x" * 9000, 1),
]


@pytest.mark.parametrize("message,code", [row[1:] for row in BAD],
                         ids=[row[0].replace(" ", "-") for row in BAD])
def test_bad_messages(named, message, code):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(named.address("dns"))
        client.send(message)
        client.send(HEAD + ASK)  # and then it goes on
        client.settimeout(DEADLINE)
        got = [client.recv(65535)]
        if code is not None:
            got.append(client.recv(65535))
            assert got[0][3] & 15 == code and got[0][:2] == HEAD[:2]
        assert got[-1][3] & 15 == 0 and got[-1][7] == 1


@pytest.mark.parametrize("tcp", (False, True), ids=("udp", "tcp"))
@pytest.mark.parametrize("version", (1, 2, 255))
def test_edns_of_another_version(named, version, tcp):
    """It is told which one is spoken (RFC 6891, 6.1.3), and nothing else."""
    host, port = named.address("dns")
    question = dns.message.make_query(f"digits.{ZONE}", "A", use_edns=version)
    answer = (dns.query.tcp if tcp else dns.query.udp)(question, host, port=port, timeout=DEADLINE)
    assert answer.rcode() == dns.rcode.BADVERS and answer.edns == 0
    assert not answer.answer and not answer.authority
    assert addresses(named, f"digits.{ZONE}", tcp=tcp) == ["127.0.0.1"]


def test_a_flood_from_one_prefix_is_answered_shortly(named):
    """Above its rate and without a cookie no answer is larger than three times its question; with
    TC set who is real comes by TCP, or shows a cookie."""
    question = HEAD + b"\4_why" + ASK[:-4] + b"\0\x10\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.77.1", 0))
        client.connect(named.address("dns"))
        client.settimeout(DEADLINE)
        sizes, truncated = [], 0
        for _ in range(3000):
            client.send(question)
            answer = client.recv(65535)
            sizes.append(len(answer))
            truncated += bool(answer[2] & 2)
        assert sizes[0] > 3 * len(question) and not truncated == len(sizes)
        assert truncated > 1000
        assert all(size <= 3 * len(question) for size in sizes if size != sizes[0])
    assert named.metric("perigee_dns_truncated_total", reason="rate") >= truncated
    with_cookie = ask(named, f"_why.digits.{ZONE}", "TXT", tcp=True)
    assert len(texts(with_cookie)) == 2


def test_a_connection_that_dribbles_is_closed_and_holds_up_nobody(named):
    with socket.create_connection(named.address("dns"), timeout=DEADLINE) as slow:
        slow.send(struct.pack(">H", len(HEAD + ASK)) + HEAD)
        began = time.monotonic()
        while not select_readable(slow, 0.2):
            with contextlib.suppress(OSError):
                slow.send(b"\1")
            assert addresses(named, f"digits.{ZONE}", tcp=True) == ["127.0.0.1"]
            assert time.monotonic() - began < DEADLINE
            if time.monotonic() - began > 3.5:
                break
        wait_readable([slow], time.monotonic() + DEADLINE, "the end of a slow connection")
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(1) == b""
    named.wait_metric(lambda value: value >= 1, "perigee_dns_connections_closed_total",
                      reason="slow")


def select_readable(connection, seconds):
    with contextlib.suppress(AssertionError):
        return bool(wait_readable([connection], time.monotonic() + seconds, "a byte"))
    return False


# --- its process ---------------------------------------------------------------------------------


def test_what_was_asked_while_it_was_dead_is_answered(named):
    victim = role_pid(named, "dns")
    before = named.metric("perigee_dns_answers_total")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, \
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        client.connect(named.address("dns"))
        os.kill(victim, signal.SIGSTOP)  # it takes nothing more
        for _ in range(50):
            client.send(HEAD + ASK)
        kill(victim)
        stream.settimeout(DEADLINE)
        stream.connect(named.address("dns"))
        stream.send(struct.pack(">H", len(HEAD + ASK)) + HEAD + ASK)
        client.settimeout(DEADLINE)
        for _ in range(50):
            assert client.recv(65535)[7] == 1
        assert stream.recv(65535)[9] == 1
    until("another", lambda: role_pid(named, "dns") not in (None, victim))
    assert named.metric("perigee_dns_answers_total") > before  # it went on counting


class Asking:
    """Asks without pause from a thread of its own: what was not answered well."""

    def __init__(self, one):
        self.one, self.stop, self.asked, self.faults = one, False, 0, []
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop:
            try:
                if addresses(self.one, f"digits.{ZONE}") != ["127.0.0.1"]:
                    self.faults.append("another answer")
            except Exception as fault:  # it is told by the test
                self.faults.append(repr(fault))
            self.asked += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join(DEADLINE)

    def more(self, count=20):
        wanted = self.asked + count
        until("more answers", lambda: self.asked >= wanted)


def test_an_upgrade_loses_no_question(new_perigee, scratch):
    one = new_perigee()
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    until("its name", lambda: addresses(one, f"digits.{ZONE}"))
    first = role_pid(one, "dns")
    with Asking(one) as asking:
        asking.more()
        done = one.cli("upgrade", "--binary", another(scratch))
        assert "dns is replaced" in done.text
        asking.more()
    assert asking.faults == []
    assert role_pid(one, "dns") != first


def test_it_answers_after_a_cold_boot_without_agent_and_control(new_perigee):
    one = new_perigee()
    one.cli("deploy", "digits", "--model", DIGITS / "digits.onnx")
    until("its name", lambda: addresses(one, f"digits.{ZONE}"))
    one.stop()
    one.start(wait=False)
    frozen = [until(role, lambda role=role: role_pid(one, role)) for role in ("pop", "control")]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        pid = until("dns", lambda: role_pid(one, "dns"))
        one.addresses = {"dns": [f"127.0.0.1:{until('its port', lambda: port_of(pid))}"]}
        until("its name", lambda: addresses(one, f"digits.{ZONE}"))
        assert "answering from the table on disk" in one.tail()
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def port_of(pid):
    """The port that a process's UDP socket has."""
    mine = set()
    with contextlib.suppress(FileNotFoundError, PermissionError):
        for path in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            mine.add(os.readlink(path))
        with open("/proc/net/udp", encoding="ascii") as file:
            for row in list(file)[1:]:
                fields = row.split()
                if f"socket:[{fields[9]}]" in mine:
                    return int(fields[1].split(":")[1], 16)
    return None


# --- a resolver in front -------------------------------------------------------------------------

@pytest.fixture
def resolver(named, scratch):
    with unbound(scratch, ZONE, named.address("dns")) as address:
        yield address


def test_an_inference_by_name_through_unbound(named, resolver):
    answer = resolve(resolver, f"digits.{ZONE}")
    assert answer.rcode() == dns.rcode.NOERROR
    address = answer.answer[0][0].address
    port = named.address()[1]
    done = subprocess.run(["curl", "-sS", "--resolve", f"digits.{ZONE}:{port}:{address}",
                           "-H", "Content-Type: application/json", "-d", json.dumps(ZEROS),
                           f"http://digits.{ZONE}:{port}/v2/models/digits/infer"],
                          capture_output=True, timeout=DEADLINE, check=True)
    assert right(done.stdout)
    assert named.metric("perigee_dns_client_subnets_total") > 0  # unbound said whose question it is
    assert resolve(resolver, f"none.{ZONE}").rcode() == dns.rcode.NXDOMAIN
    assert resolve(resolver, f"digits.{ZONE}", "AAAA").rcode() == dns.rcode.NOERROR
