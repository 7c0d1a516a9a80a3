# SPDX-License-Identifier: Apache-2.0
"""Another registry, spoken for by the test: what it has, what it wants to be shown, and what it
does wrong."""
import base64
import contextlib
import http.server
import json
import re
import socket
import ssl
import threading

import spoken_for
from registry import IMAGE, digest_of

TOKEN = "a.token-of_the+test/0123456789"


class Elsewhere:
    """`on_request(handler)` answers in its place when it returns True. `seen`: (path, headers) of
    all requests, in order."""

    def __init__(self, tls=None, host="127.0.0.1"):
        self.manifests, self.blobs = {}, {}  # by (repository, reference); by digest
        self.auth = None  # "basic", "bearer"
        self.user = None  # (name, password); None with "bearer": everybody gets a token
        self.ranges = True
        self.on_request = lambda handler: False
        self.seen, self.more = [], threading.Condition()
        self.realm = None  # in place of its own
        registry = self

        class Handler(spoken_for.Handler):
            def begin(self, length, status=200, **headers):
                """A head alone; the body is the caller's."""
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                self.send_header("Content-Length", str(length))
                self.end_headers()

            def cut(self):
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

            def error(self, status, code, **headers):
                self.answer(status, json.dumps({"errors": [{"code": code,
                                                            "message": "no"}]}).encode(),
                            **headers)

            def offset(self):
                found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
                return int(found[1]) if found and registry.ranges else 0

            def do_GET(self):
                with registry.more:
                    registry.seen.append((self.path, dict(self.headers)))
                    registry.more.notify_all()
                with contextlib.suppress(OSError):
                    registry.on_request(self) or registry.respond(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"{host}:{self.server.server_port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    # ---- what it has --------------------------------------------------------------------------

    def push(self, repository, reference, manifest, blobs=(), media_type=IMAGE):
        digest = digest_of(manifest)
        for name in (reference, digest):
            self.manifests[repository, name] = (manifest, media_type)
        self.blobs.update({digest_of(blob): blob for blob in blobs})
        return digest

    # ---- what it does -------------------------------------------------------------------------

    def basic(self):
        return "Basic " + base64.b64encode(":".join(self.user).encode()).decode()

    def respond(self, handler):
        path = handler.path.partition("?")[0]
        shown = handler.headers.get("Authorization")
        if path == "/token":
            good = self.user is None or shown == self.basic()
            handler.answer(200 if good else 401,
                           json.dumps({"token": TOKEN} if good else {}).encode())
            return
        if self.auth == "basic" and shown != self.basic():
            handler.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="it"')
            return
        if self.auth == "bearer" and shown != f"Bearer {TOKEN}":
            realm = self.realm or f"{self.url}/token"
            handler.error(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="{realm}",'
                          'service="a registry, of a test"')
            return
        if path == "/v2/":
            handler.answer(200, b"{}")
            return
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path)
        repository, kind, reference = found.groups() if found else (None, None, None)
        if kind == "manifests" and (repository, reference) in self.manifests:
            text, media_type = self.manifests[repository, reference]
            handler.answer(200, text, Content_Type=media_type,
                           Docker_Content_Digest=digest_of(text))
        elif kind == "blobs" and reference in self.blobs:
            self.send_blob(handler, self.blobs[reference])
        else:
            handler.error(404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN")

    def send_blob(self, handler, data):
        offset = handler.offset()
        if offset:
            handler.answer(206, data[offset:],
                           Content_Range=f"bytes {offset}-{len(data) - 1}/{len(data)}")
        else:
            handler.answer(200, data)

    # ---- what it was asked --------------------------------------------------------------------

    def asked(self, part):
        with self.more:
            return [headers for path, headers in self.seen if part in path]
