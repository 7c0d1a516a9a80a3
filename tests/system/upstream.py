# SPDX-License-Identifier: Apache-2.0
"""Upstreams for tests: bytes by a script over real sockets, or aiohttp's server on a thread."""
import asyncio
import contextlib
import json
import queue
import socket
import threading

from aiohttp import web

from deadline import DEADLINE


class Request:
    """What came: the head as bytes, and the body as it stood on the wire."""

    def __init__(self, head, body):
        self.head, self.body = head, body
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = first.split(" ")
        self.lines = [tuple(line.split(": ", 1)) for line in lines if line]

    def values(self, name):
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def value(self, name):
        found = self.values(name)
        assert len(found) < 2, f"{name}: {found}"
        return found[0] if found else None


class Connection:
    """One that the gateway made."""

    def __init__(self, sock, number):
        self.sock, self.number = sock, number
        self.rest = b""

    def send(self, data):
        self.sock.sendall(data)

    def more(self):
        data = self.sock.recv(65536)
        self.rest += data
        return bool(data)

    def take(self, count):
        while len(self.rest) < count:
            if not self.more():
                return None
        data, self.rest = self.rest[:count], self.rest[count:]
        return data

    def until(self, mark):
        while mark not in self.rest:
            if not self.more():
                return None
        data, self.rest = self.rest.split(mark, 1)
        return data

    def head(self):
        """The next request without its body; None: there is none."""
        head = self.until(b"\r\n\r\n")
        return head and Request(head, b"")

    def request(self):
        request = self.head()
        if request is None:
            return None
        if request.value("Transfer-Encoding") == "chunked":
            while True:
                line = self.until(b"\r\n")
                if line is None:
                    return None
                size = int(line, 16)
                if size == 0:
                    break
                request.body += self.take(size)
                self.take(2)
            request.trailers = []
            while line := self.until(b"\r\n"):
                request.trailers.append(line.decode("latin-1"))
        elif request.value("Content-Length"):
            request.body = self.take(int(request.value("Content-Length")))
            if request.body is None:
                return None
        return request


class Scripted:
    """Each connection is answered by `serve(connection)` on a thread of its own; `requests` has
    what it saw, `ended` a word for each connection that has ended."""

    def __init__(self, serve, address="127.0.0.1", port=0):
        self.serve = serve
        self.requests = queue.Queue()
        self.ended = queue.Queue()
        self.connections = 0
        self.threads = []
        self.socks = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, port), family=family, backlog=512)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(DEADLINE)
                self.connections += 1
                self.socks.append(sock)
                thread = threading.Thread(target=self.run, daemon=True,
                                          args=(Connection(sock, self.connections),))
                self.threads.append(thread)
                thread.start()

    def run(self, connection):
        try:
            self.serve(self, connection)
        except OSError as error:
            self.ended.put(str(error))
        finally:
            connection.sock.close()
            self.ended.put("")

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in [self.thread, *self.threads]:
            thread.join(DEADLINE)


class Application:
    """aiohttp's server on a thread with a loop of its own."""

    def __init__(self, *routes, port=0, keepalive_timeout=75):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.port = self.call(self.open(routes, port, keepalive_timeout))
        self.url = f"http://127.0.0.1:{self.port}"

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE)

    async def open(self, routes, port, keepalive_timeout):
        application = web.Application(client_max_size=1 << 30)
        application.add_routes(routes)
        self.runner = web.AppRunner(application, keepalive_timeout=keepalive_timeout,
                                    shutdown_timeout=0.1, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        return site._server.sockets[0].getsockname()[1]

    def close(self):
        self.call(self.runner.cleanup())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        self.loop.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def serving(answer):
    """serve() that gives each request to answer(), which sends what it likes."""
    def serve(upstream, connection):
        while (request := connection.request()) is not None:
            upstream.requests.put(request)
            if answer(connection, request) is False:
                return
    return serve


def deploy(perigee, name, upstream, *flags, status=0):
    return perigee.cli("deploy", name, "--upstream", upstream.url, *flags, status=status)


def get(host, path="/", *headers, method="GET", version="HTTP/1.1"):
    return "\r\n".join([f"{method} {path} {version}", f"Host: {host}", *headers]) + "\r\n\r\n"


def post(host, path, body, *headers):
    return get(host, path, f"Content-Length: {len(body)}", *headers, method="POST") + body


@contextlib.contextmanager
def scripted(perigee, name, serve, *flags):
    """An endpoint whose upstream is a script; the probes' connections are closed by it as well."""
    upstream = Scripted(serve)
    try:
        deploy(perigee, name, upstream, *flags)
        yield upstream
        perigee.cli("delete", name, "--yes")
    finally:
        upstream.close()


def plain(connection, request):
    connection.send(OK)


def spec(name, upstream, **more):
    return json.dumps({"name": name, "upstream": upstream.url, **more}).encode()
