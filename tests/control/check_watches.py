# SPDX-License-Identifier: Apache-2.0
"""Watches of control's API, over real sockets: CONTROL_ALONE=... check_watches.py"""
import contextlib
import re
import socket
import unittest

from check_control import Case
from pops_case import Joined
from control_role import SECONDS


class Watches(Case):
    def test_endpoints(self):
        c = self.control
        c.deploy("first")
        watch = c.watch("/endpoints?watch=1")
        self.assertEqual(watch.next()[2]["name"], "first")
        self.assertEqual(watch.next()[::2], ("synced", {"names": ["first"]}))
        c.deploy("second")
        kind, number, view = watch.next()
        self.assertEqual((kind, view["name"]), ("endpoint", "second"))
        watch.close()
        c.call("DELETE", "/endpoints/first")
        c.deploy("third")
        watch = c.watch("/endpoints?watch=1", Last_Event_ID=str(number))
        seen = [watch.next() for _ in range(3)]
        self.assertEqual([(e[0], e[2].get("name")) for e in seen],
                         [("deleted", "first"), ("endpoint", "third"), ("synced", None)])
        watch.close()

    def test_one_endpoint(self):
        c = self.control
        c.deploy()
        watch = c.watch("/endpoints/digits?watch=1")
        _, number, _ = watch.next()
        again = c.watch("/endpoints/digits?watch=1", Last_Event_ID=str(number))
        c.call("DELETE", "/endpoints/digits")
        self.assertEqual(watch.next()[0], "deleted")
        self.assertEqual(again.next()[0], "deleted")
        self.assertIsNone(watch.next())
        self.refused(c.call("GET", "/endpoints/digits?watch=1"), 404, "not_found")

    def test_events_and_logs(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        events = c.watch("/events?watch=1&endpoint=digits")
        self.assertEqual([events.next()[2]["kind"] for _ in range(2)],
                         ["endpoint_created", "revision_created"])
        logs = c.watch("/endpoints/digits/logs?watch=1")
        c.deploy("other")
        for i in range(50):
            c.report(sequence=i, logs=[c.item(endpoint_uid=uid, replica="digits-1", line=str(i))])
        self.assertEqual([logs.next()[2]["line"] for _ in range(50)], [str(i) for i in range(50)])
        c.call("POST", "/endpoints/digits/stop", {})
        kind, number, event = events.next()
        self.assertEqual(event["message"], "stopped")
        events.close()
        c.call("POST", "/endpoints/digits/start", {})
        events = c.watch("/events?watch=1", Last_Event_ID=str(number))
        self.assertEqual(events.next()[2]["message"], "started")
        events.close()
        logs.close()

    def lines(self, uid, sequence):
        """Some 800 KiB of a log."""
        self.control.report(sequence=sequence, logs=[
            self.control.item(endpoint_uid=uid, replica="digits-1", line=f"{i} ".ljust(4000, "x"))
            for i in range(200)])

    def cut(self):
        found = re.search(r"^perigee_control_watches_cut_total (\d+)$",
                          self.control.call("GET", "/metrics").body.decode(), re.M)
        return found is not None and found[1] != "0"

    def test_a_reader_that_is_far_behind_is_cut(self):
        c = self.control
        uid = c.deploy().json()["uid"]
        other = c.watch("/endpoints/digits/logs?watch=1")
        with socket.socket(socket.AF_UNIX) as slow:
            slow.settimeout(SECONDS)
            slow.connect(str(c.home / "run/control.sock"))
            slow.sendall(b"GET /api/v1/endpoints/digits/logs?watch=1 HTTP/1.1\r\n"
                         b"Host: localhost\r\n\r\n")
            got = b""
            while b": watching\n\n" not in got:
                got += slow.recv(4096)
            reports = 0
            while not self.cut():
                self.assertLess(reports, 20)
                self.lines(uid, reports)
                reports += 1
                for _ in range(200):  # who reads gets all of it
                    self.assertEqual(other.next()[0], "log")
            with contextlib.suppress(ConnectionError):
                while data := slow.recv(1 << 20):
                    got += data
        self.assertGreater(reports, 4)  # 4 MiB are kept for it
        self.assertFalse(got.endswith(b"\r\n0\r\n\r\n"))  # not as if that had been all
        self.lines(uid, reports)
        newest = [other.next()[1] for _ in range(200)][-1]
        last = int(re.findall(rb"^id: (\d+)\ndata: .*\n\n", got, re.M)[-1])
        rest, seen = c.watch("/endpoints/digits/logs?watch=1", Last_Event_ID=str(last)), [last]
        while seen[-1] < newest:  # behind what it has
            seen.append(rest.next()[1])
        self.assertEqual(seen, sorted(set(seen)))
        rest.close()
        other.close()


def told(watch):
    """How a watch begins: whether it goes on, what it tells, and up to where that is all."""
    kind, _, begins = watch.next()
    assert kind == "begins", kind
    items, last = [], None
    while last != "synced":
        last, number, data = watch.next()
        if last != "secrets":  # the names, each time
            items.append((last, data.get("name", data.get("uid"))
                          if isinstance(data, dict) else None))
    return begins["resumed"], items[:-1], f"{begins['epoch']}-{number}"


class Resumed(Joined):
    """A watch goes on where it was cut (tests/unit/test_watch.c has each case)."""

    def begun(self, how):
        return self.metric(f'perigee_control_pop_watches_begun_total{{how="{how}"}}')

    def again(self, pop, mark):
        watch = pop.watch(mark)
        self.addCleanup(watch.close)
        return told(watch)

    def test_what_has_changed_since(self):
        c = self.control
        paris = self.join("paris")
        uids = [c.deploy(name, regions=["paris"]).json()["uid"] for name in ("one", "two")]
        resumed, items, mark = self.again(paris, None)
        self.assertFalse(resumed)
        self.assertEqual(sorted(map(str, items)), sorted(map(str, [
            ("pops", None), ("keys", None), ("endpoint", "one"), ("endpoint", "two")])))
        self.assertEqual(self.again(paris, mark)[:2], (True, []))
        c.deploy("one", regions=["paris"], scale={"min": 2})
        self.ok(c.call("DELETE", "/endpoints/two"), 202, 204)
        self.assertEqual(self.again(paris, mark)[:2],
                         (True, [("gone", uids[1]), ("endpoint", "one")]))
        rome = self.join("rome")
        resumed, items, newer = self.again(paris, mark)
        self.assertTrue(resumed)
        self.assertEqual([kind for kind, _ in items], ["pops", "keys", "gone", "endpoint"])
        # Its keys are its own: what another has heard says nothing of them.
        self.assertIn(("keys", None), self.again(rome, mark)[1])
        self.assertEqual(self.begun("resumed"), 4)
        self.assertEqual(self.begun("first"), 1)
        # Live, with the next number: from there on nothing is missing.
        watch = paris.watch(newer)
        self.addCleanup(watch.close)
        self.assertTrue(told(watch)[0])
        c.deploy("three", regions=["paris"])
        number = watch.until("endpoint")[1]
        c.deploy("four", regions=["paris"])
        resumed, items, _ = self.again(paris, f"{newer.split('-')[0]}-{number}")
        self.assertTrue(resumed)
        self.assertEqual({name for kind, name in items if kind == "endpoint"} - {"three"},
                         {"four"})

    def test_what_is_no_place_to_go_on_from(self):
        c = self.control
        paris = self.join("paris")
        c.deploy("one", regions=["paris"])
        everything = [("pops", None), ("keys", None), ("endpoint", "one")]
        mark = self.again(paris, None)[2]
        epoch, number = mark.split("-")
        for other, how in ((number, "first"), ("x" * 2000, "first"), (f"{epoch}-", "first"),
                           (f"{epoch}-{int(number) + 10**9}", "ahead"),
                           (f"{int(epoch, 16) ^ 2:016x}-{number}", "epoch")):
            before = self.begun(how)
            self.assertEqual(self.again(paris, other)[:2], (False, everything), other[:40])
            self.assertEqual(self.begun(how), before + 1)
        # Another control: it may have been restored, whatever its numbers are.
        c.kill()
        c.start()
        self.assertEqual(self.again(paris, mark)[:2], (False, everything))
        self.assertEqual(self.begun("epoch"), 1)


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # watches keep their sockets
