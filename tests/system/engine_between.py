# SPDX-License-Identifier: Apache-2.0
"""What stands between a Perigee and its engine, and answers some requests itself: an engine that
fails, forgets, or hangs."""
import contextlib
import socket
import threading

FAILS = (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 26\r\n"
         b"Connection: close\r\n\r\n" b'{"message":"out of order"}')
FORGETS = (b"HTTP/1.1 404 Not Found\r\nContent-Length: 31\r\n"
           b"Connection: close\r\n\r\n" b'{"message":"No such container"}')
HANGS = b""
LATER = None  # it reaches the engine once it is let through, whoever waits for the answer by then


class Between:
    """instead(): what is answered to the next requests whose first line has that word."""

    def __init__(self, engine, path):
        self.engine, self.path, self.rules, self.seen = engine, path, [], []
        self.sockets, self.lock = [], threading.Lock()
        self.through = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self._thread(self._accept)

    def instead(self, word, answer, times=1 << 30):
        with self.lock:
            self.rules.append([word.encode(), answer, times])

    def asked(self, word):
        with self.lock:
            return [line for line in self.seen if word.encode() in line]

    def cut(self):
        """All connections, as if the engine had ended."""
        with self.lock:
            there = list(self.sockets)  # not those that come because these go
        for one in there:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def break_off(self):
        """What hangs fails now, and all is answered again."""
        with self.lock:
            self.rules.clear()
        self.cut()

    def close(self):
        self.through.set()
        self.break_off()
        for one in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @staticmethod
    def _thread(run, *words):
        threading.Thread(target=run, args=words, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self.listener.accept()
                outer = socket.socket(socket.AF_UNIX)
                self.sockets += [inner, outer]
                self._thread(self._requests, inner, outer)

    def _rule(self, line):
        with self.lock:
            self.seen.append(line)
            for rule in self.rules:
                if rule[2] > 0 and rule[0] in line:
                    rule[2] -= 1
                    return rule[1]
        return True

    def _requests(self, inner, outer):
        """A request begins with what is read: ours sends none before the last was answered."""
        with contextlib.suppress(OSError):
            outer.connect(str(self.engine.socket))
            self._thread(self._answers, outer, inner)
            while some := inner.recv(65536):
                line = some.split(b"\r\n", 1)[0]
                if not line.endswith(b" HTTP/1.1"):
                    self.forward(outer, some)
                    continue
                answer = self._rule(line)
                if answer is LATER:
                    self.through.wait()
                if answer is LATER or answer is True:
                    self.forward(outer, some)
                elif answer:
                    inner.sendall(answer)
                    break
        for one in (inner, outer):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def forward(self, outer, some):
        outer.sendall(some)

    @staticmethod
    def _answers(outer, inner):
        with contextlib.suppress(OSError):
            while some := outer.recv(65536):
                inner.sendall(some)
            inner.shutdown(socket.SHUT_RDWR)
