# SPDX-License-Identifier: Apache-2.0
"""PoPs that the test speaks for, and what checks of them share."""
import hashlib
import resource

from check_control import Case

FILES_MAX = 4096
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, HARD))


class Pop:
    """An agent that may say anything."""

    def __init__(self, control, name, token, secret=None):
        self.control, self.name, self.token = control, name, token
        self.secret, self.sequence = secret or f"secret-of-{name}", 0
        self.bearer = {"Authorization": f"Bearer {self.secret}"}

    def enrol(self, **headers):
        digest = "sha256:" + hashlib.sha256(self.secret.encode()).hexdigest()
        return self.control.call("POST", "/enrolments", {"secret": digest},
                                 Authorization=f"Bearer {self.token}", **headers)

    def watch(self, mark=None):
        """`mark`: up to where it has heard all."""
        last = {"Last_Event_ID": mark} if mark else {}
        return self.control.watch(f"/pops/{self.name}/watch", **self.bearer, **last)

    def body(self, **lists):
        self.sequence += 1
        return {"instance": 1, "sequence": self.sequence, **lists}

    def report(self, **lists):
        return self.control.call("POST", f"/pops/{self.name}/report", self.body(**lists),
                                 **self.bearer)


def replica(name, uid, revision=1, state="ready", ordinal=1):
    return {"id": str(ordinal), "name": f"{name}-{ordinal}", "endpoint": name,
            "project": "default", "endpoint_uid": uid, "revision": revision, "state": state,
            "pid": 7, "since": "2026-11-23T00:00:00.000Z"}


def served(uid, revision=1, state="ready", message=""):
    return {"uid": uid, "serving": revision, "target": revision, "target_state": state,
            "message": message}


class Joined(Case):
    def create(self, name, status=201, **spec):
        answer = self.control.call("POST", "/pops", {"name": name, **spec})
        return self.ok(answer, status)

    def join(self, name, **spec):
        pop = Pop(self.control, name, self.create(name, **spec)["token"])
        self.ok(pop.enrol())
        return pop

    def there(self, name, **spec):
        """Joined, and connected: it is given what there is."""
        pop = self.join(name, **spec)
        watch = pop.watch()
        watch.until("synced")
        self.addCleanup(watch.close)
        pop.events = watch
        return pop

    def places(self, name="digits"):
        return {row["name"]: row["replicas"] for row in self.get(f"/endpoints/{name}")["pops"]}

    def kinds(self):
        return [(row["kind"], row["pop"], row["endpoint"])
                for row in self.get("/events?limit=1000&after=0")["items"]]

    def metric(self, name):
        text = self.control.call("GET", "/metrics").body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith(name))
