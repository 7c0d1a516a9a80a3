# SPDX-License-Identifier: Apache-2.0
"""The audit log: who changed what, from where, and the digests before and after:
CONTROL_ALONE=... check_audit.py"""
import hashlib
import json
import unittest

from check_control import Case


class Audit(Case):
    def test_audit_says_who_and_from_where(self):
        c = self.control
        model = c.blob("x")
        self.ok(c.call("PUT", "/endpoints/one", {"model": model}), 201)
        self.ok(c.call("PUT", "/endpoints/two", {"model": model}, unix=True), 201)
        one, two = (a for a in self.get("/audit")["items"] if a["action"] == "put")
        self.assertEqual((one["who"], two["who"], two["from"]), ("open", "socket", "unix"))
        self.assertTrue(one["from"].startswith("127.0.0.1:"))

    def rows(self, *calls):
        """(action, before, after) that the calls have left."""
        last = max((row["id"] for row in self.get("/audit")["items"]), default=0)
        for method, path, body, *type in calls:
            headers = {"type": type[0]} if type else {}
            self.ok(self.control.call(method, path, body, **headers), 200, 201, 202, 204)
        return [(row["action"], row["before"], row["after"])
                for row in self.get(f"/audit?after={last}")["items"]]

    def assert_chain(self, rows, *actions, ends=True):
        """Each begins with what the one before ended with; the last one takes it away."""
        self.assertEqual([action for action, _, _ in rows], list(actions))
        self.assertIsNone(rows[0][1])
        for (_, _, after), (_, before, _) in zip(rows, rows[1:]):
            self.assertRegex(before, "^sha256:[0-9a-f]{64}$")
            self.assertEqual(before, after)
        self.assertEqual(rows[-1][2] is None, ends)

    def test_audit_has_digests_of_what_was_before_and_is_after(self):
        prices = [{"prices": [{"request": f"0.000{i} EUR"}]} for i in (1, 2)]
        rows = self.rows(*[("PUT", "/prices", each) for each in prices])
        self.assert_chain(rows, "prices_set", "prices_set", ends=False)
        self.assertNotEqual(rows[1][1], rows[1][2])
        told = [{"username": "u", "password": word} for word in ("one", "two")]
        host = "/registries/registry.example.com"
        rows = self.rows(*[("PUT", host, each) for each in told], ("DELETE", host, None))
        self.assert_chain(rows, "registry_set", "registry_set", "registry_deleted")
        self.assertNotEqual(rows[1][1], rows[1][2])
        rows = self.rows(*[("PUT", "/secrets/told", {"value": word}) for word in ("one", "two")],
                         ("DELETE", "/secrets/told", None))
        self.assert_chain(rows, "secret_set", "secret_set", "secret_deleted")
        self.assertNotEqual(rows[1][1], rows[1][2])
        self.assertNotIn("sha256:" + hashlib.sha256(b"one").hexdigest(), rows[0])
        rows = self.rows(("POST", "/pops", {"name": "oslo"}), ("POST", "/pops/oslo/drain", {}),
                         ("DELETE", "/pops/oslo", None))
        self.assert_chain(rows, "pop_created", "pop_draining", "pop_retired")

    def test_audit_has_what_is_pushed_and_deleted(self):
        octets = "application/octet-stream"
        layer = "sha256:" + hashlib.sha256(b"layer").hexdigest()
        begin = "/v2/default/{}/blobs/uploads/?{}=" + layer
        rows = self.rows(("POST", begin.format("one", "digest"), b"layer", octets),
                         ("POST", begin.format("two", "mount"), b"", octets),
                         ("DELETE", f"/v2/default/two/blobs/{layer}", None))
        self.assertEqual(rows, [("push blob", None, layer), ("mount blob", None, layer),
                                ("delete blob", layer, None)])
        newest = self.get("/audit")["items"][-3:]
        self.assertEqual([(row["project"], row["endpoint"]) for row in newest],
                         [("default", "one"), ("default", "two"), ("default", "two")])

    def test_audit_has_what_each_tag_named_before_a_push(self):
        index = "application/vnd.oci.image.index.v1+json"
        texts = [json.dumps({"schemaVersion": 2, "mediaType": index, "manifests": [],
                             "annotations": {"is": name}}).encode() for name in "abc"]
        a, b, c = ["sha256:" + hashlib.sha256(text).hexdigest() for text in texts]
        to = "/v2/default/tagged/manifests/{}"
        rows = self.rows(("PUT", to.format("first"), texts[0], index),
                         ("PUT", to.format("first"), texts[1], index),
                         ("PUT", to.format("other"), texts[0], index),
                         ("PUT", to.format(c), texts[2], index),
                         ("PUT", to.format(c) + "?tag=new&tag=first&tag=other", texts[2], index),
                         ("DELETE", to.format("first"), None))
        self.assertEqual(rows, [("push manifest", None, a), ("push manifest", a, b),
                                ("push manifest", None, a), ("push manifest", None, c),
                                ("push manifest", None, c), ("push manifest", b, c),
                                ("push manifest", a, c), ("delete tag", c, None)])


if __name__ == "__main__":
    unittest.main()
