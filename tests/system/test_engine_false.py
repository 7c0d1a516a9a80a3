# SPDX-License-Identifier: Apache-2.0
"""The driver `engine` against one that is none: it says too much, or hangs up."""
import contextlib
import http.server
import json
import socketserver
import threading
import types

import pytest

from engine_life import TRY, Life

VERSION = {"Version": "4.3.1", "ApiVersion": "1.41", "Os": "linux", "Arch": "amd64",
           "Components": [{"Name": "Podman Engine"}]}


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    """Says who it is; anything else as its server's `answer` has it: None hangs up."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(VERSION).encode()
        if not self.path.endswith("/version"):
            while self.headers.get("Transfer-Encoding") and self.rfile.readline() != b"0\r\n":
                pass
            body = self.server.answer
        self.close_connection = True
        if body is None:
            return
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

    do_POST = do_GET

    def address_string(self):
        return "a"

    def log_message(self, *_):
        pass


@pytest.fixture
def begin(tmp_path):
    if not TRY.exists():
        pytest.skip("the driver's own program is beside a build alone")
    server = Server(str(tmp_path / "engine.sock"), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    lives = []

    def new(answer, image=None, **options):
        server.answer = answer
        engine = types.SimpleNamespace(socket=tmp_path / "engine.sock")
        lives.append(Life(engine, tmp_path, image, **options))
        return lives[-1]
    yield new
    for life in lives:
        life.process.kill()
        life.process.wait()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_line_that_does_not_end_is_said(begin):
    image = types.SimpleNamespace(digest="sha256:aa")
    life = begin(b"x" * 70_000, image, data=b"an archive")
    assert life.wait("error")["why"] == "a line of the engine's answer is above 65536 bytes"


def test_a_list_that_is_too_long_ends_the_sweep(begin):
    life = begin(b" " * (5 << 20), sweep="yes")
    assert life.wait("error")["why"] == "the engine's answer is above 4 MiB"


def test_one_that_may_have_been_made_is_left(begin):
    gone = begin(None, image=None).wait("gone")
    assert gone["left"] and not gone["ran"] and "cannot be asked" in gone["text"]
