# SPDX-License-Identifier: Apache-2.0
"""Control and PoPs that run alone: real processes, real HTTP between them."""
import json
import os
import re
import signal

import pytest

from deadline import until
from perigee import DIGITS
from test_durable import small_disk
from test_processes import infer, kill, right, role_pid

MODEL = DIGITS / "digits.onnx"
PLACES = {"paris": ("FR", "48.86,2.35"), "tokyo": ("JP", "35.68,139.69")}


class Fleet:
    def __init__(self, new, scratch):
        self.new, self.scratch, self.pops = new, scratch, {}
        self.control = new(part="control")
        self.url = "http://%s:%d" % self.control.address("control")

    def create(self, name, region="none", limits=()):
        country, at = PLACES[name]
        file = self.scratch / f"{name}.token"
        self.control.cli("pops", "create", name, "--country", country, "--at", at, "--region",
                         region, "--token-file", file, *limits)
        return file

    def join(self, name, *arguments, **said):
        file = self.create(name, **said)
        pop = self.new(part="pop", start=False)
        pop.start("--join", self.url, "--token-file", file, *arguments)
        self.pops[name] = pop
        return pop

    def states(self):
        return {row["name"]: row["state"] for row in self.control.json("pops", "list")["items"]}

    def apply(self, pops, *arguments):
        self.control.cli("apply", "-f", "-", *arguments, stdin=(
            f"name: digits\nmodel: {MODEL}\nspread: {{pops: {pops}}}\n").encode())


@pytest.fixture(name="fleet")
def _fleet(new_perigee, scratch):
    return Fleet(new_perigee, scratch)


def serves(pop):
    status, body = infer(pop)
    return status == 200 and right(body)


def replicas(fleet):
    return {row["pop"]: row["id"] for row in fleet.control.json("show", "digits")["replicas"]}


@pytest.mark.smoke
def test_one_control_two_pops(fleet):
    paris, tokyo = fleet.join("paris"), fleet.join("tokyo")
    assert fleet.states() == {"paris": "ready", "tokyo": "ready"}
    # One is enough; the other does not try, and has no address to pass requests on to.
    fleet.apply(1)
    [where] = replicas(fleet)
    here, there = (paris, tokyo) if where == "paris" else (tokyo, paris)
    assert serves(here)
    status, body = infer(there)
    assert status == 503 and "can be reached now" in json.loads(body)["error"]
    assert there.request("GET", "/v2/models/digits/ready")[0] != 200
    # Spread over both: the model's bytes come from control, and what ran runs on.
    before = replicas(fleet)
    fleet.apply(2)
    until("both", lambda: len(replicas(fleet)) == 2)
    until("both serve", lambda: serves(paris) and serves(tokyo))
    shown = fleet.control.cli("show", "digits").text
    assert re.search(r"digits-1 .* paris\n", shown) and re.search(r"digits-1 .* tokyo\n", shown)
    assert before.items() <= replicas(fleet).items()
    assert list((there.home / "models").iterdir()) and not list(
        (there.home / "blobs" / "sha256").iterdir())
    # Nothing that a PoP wrote holds a secret; nothing of it is on a command line.
    secret = (paris.home / "pop" / "secret").read_text()
    assert os.stat(paris.home / "pop" / "secret").st_mode & 0o777 == 0o600
    for one in (fleet.control, paris, tokyo):
        assert secret not in "".join(one.words())
    for pid in paris.pids():
        with open(f"/proc/{pid}/cmdline", encoding="latin-1") as file:
            assert secret not in file.read()


def test_a_folder_of_many_files_is_pulled_whole_and_goes_by_its_use(fleet, scratch):
    folder = scratch / "model"
    (folder / "more").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(MODEL.read_bytes())
    for i in range(9):
        (folder / "more" / f"{i}.bin").write_bytes(os.urandom(100_000) if i else b"")
    (folder / "more" / "same.bin").write_bytes((folder / "more" / "1.bin").read_bytes())
    paris, tokyo = fleet.join("paris"), fleet.join("tokyo", "--model-cache", "1B")
    fleet.control.cli("apply", "-f", "-", stdin=(
        f"name: digits\nmodel: {folder}\nspread: {{pops: 2}}\n").encode())
    until("both serve", lambda: serves(paris) and serves(tokyo))
    for pop in (paris, tokyo):
        [pulled] = (pop.home / "models").iterdir()
        for file in folder.rglob("*.*"):
            assert (pulled / file.relative_to(folder)).read_bytes() == file.read_bytes()
        assert not list((pop.home / "blobs" / "sha256").iterdir())
        assert not list((pop.home / "blobs" / "uploads").iterdir())
    # What runs stays whatever the bound; what does not, within it.
    fleet.control.cli("delete", "digits", "--yes")
    until("it to go", lambda: not list((tokyo.home / "models").iterdir()))
    assert list((paris.home / "models").iterdir())


def large(folder, megabytes):
    """A model that is so large, for what lies beside it."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(MODEL.read_bytes())
    (folder / "more.bin").write_bytes(os.urandom(megabytes << 20))
    return folder


def deploy(fleet, name, folder):
    fleet.control.cli("apply", "-f", "-", stdin=(
        f"name: {name}\nmodel: {folder}\nspread: {{pops: 1}}\n").encode())


def models(pop):
    return {folder.name for folder in (pop.home / "models").iterdir()}


def test_what_comes_counts_in_what_is_kept(fleet, scratch):
    """The bound held while one comes, not only when endpoints change."""
    paris = fleet.join("paris", "--model-cache", "7MiB")
    deploy(fleet, "digits", large(scratch / "one", 4))
    until("it to serve", lambda: serves(paris))
    first = models(paris)
    fleet.control.cli("delete", "digits", "--yes")
    until("it to end", lambda: paris.request("GET", "/v2/models/digits")[0] == 404)
    assert models(paris) == first  # it is within the bound
    deploy(fleet, "digits", large(scratch / "two", 4))
    until("the other to serve", lambda: serves(paris))
    until("the first to go", lambda: not first & models(paris))
    assert len(models(paris)) == 1


@pytest.mark.root
def test_what_is_kept_gives_way_on_a_full_disk(fleet, scratch):
    token = fleet.create("paris")
    paris = fleet.new(part="pop", start=False)
    with small_disk(paris.home, "16m"):
        paris.start("--join", fleet.url, "--token-file", token)
        deploy(fleet, "digits", large(scratch / "one", 6))
        until("it to serve", lambda: serves(paris))
        first = models(paris)
        fleet.control.cli("delete", "digits", "--yes")
        until("it to end", lambda: paris.request("GET", "/v2/models/digits")[0] == 404)
        assert models(paris) == first
        deploy(fleet, "digits", large(scratch / "two", 11))
        until("the other to serve", lambda: serves(paris))
        assert not first & models(paris)
        assert "kept models gave way on a full disk" in paris.tail(400)
        paris.stop()


def test_control_is_away(fleet):
    paris = fleet.join("paris")
    fleet.apply(1)
    assert serves(paris)
    before = replicas(fleet)
    pid = paris.role_pid("pop")
    fleet.control.kill()
    assert serves(paris)
    # A new agent, cut off from its first moment: it goes on with what is on its disk.
    kill(pid)
    until("a new agent", lambda: role_pid(paris, "pop") != pid)
    assert serves(paris)
    # So does the whole PoP, started while cut off, without token or URL.
    paris.stop()
    paris.start()
    until("it to serve", lambda: serves(paris))
    # Control comes back where it was: nothing restarts.
    runs = paris.pids()
    fleet.control.start("--listen-control", fleet.url.removeprefix("http://"))
    until("the PoP's report", lambda: fleet.states() == {"paris": "ready"})
    until("its replica", lambda: set(replicas(fleet)) == {"paris"})
    assert runs <= paris.pids() and serves(paris)
    assert set(before) == set(replicas(fleet))
    fleet.control.cli("scale", "digits", "--min", "2")
    fleet.control.cli("wait", "digits")
    assert len(fleet.control.json("show", "digits")["replicas"]) == 2


def test_regions_and_residency(fleet):
    """Labels are the operator's word; a refusal names the PoPs that may."""
    paris, tokyo = fleet.join("paris", region="eu-west"), fleet.join("tokyo", region="asia")
    fleet.control.cli("deploy", "digits", "--model", MODEL, "--region", "eu")
    assert set(replicas(fleet)) == {"paris"} and serves(paris)
    fleet.control.cli("apply", "-f", "-", stdin=(
        f"name: digits\nmodel: {MODEL}\nresidency: {{process_in: [JP]}}\n").encode())
    until("it to move", lambda: set(replicas(fleet)) == {"tokyo"})
    until("it to serve", lambda: serves(tokyo))
    status, body = infer(paris)
    assert status == 451 and "permitted PoPs: tokyo" in json.loads(body)["error"]
    # Also when it boots without control.
    fleet.control.kill()
    paris.stop()
    paris.start()
    status, body = infer(paris)
    assert status == 451 and "permitted PoPs: tokyo" in json.loads(body)["error"]


def test_sets_of_countries_are_compared(new_perigee, scratch):
    """A PoP whose sets decide otherwise than control's is named, not one that writes them so."""
    row = "{name: DACH, countries: [%s], source: %s, date: 2026-11-28}"
    for name, countries, source in (("own", "AT, CH, DE", "contract"),
                                    ("same", "DE, AT, CH", "other"),
                                    ("old", "AT, DE", "contract")):
        (scratch / name).write_text(f"sets: [{row % (countries, source)}]")
    own = ["--sets", scratch / "own"]
    fleet = Fleet(lambda part, **more: new_perigee(*(own if part == "control" else []), part=part,
                                                   **more), scratch)
    fleet.join("paris", "--sets", scratch / "same")
    fleet.join("tokyo", "--sets", scratch / "old")

    def shown(name):
        return fleet.control.json("pops", "show", name)

    until("both reports", lambda: shown("paris")["sets"] and shown("tokyo")["sets"])
    assert not shown("paris")["sets_differ"] and shown("tokyo")["sets_differ"]
    assert "not those of control" in fleet.control.cli("pops", "show", "tokyo").text
    assert "sets" not in fleet.control.cli("pops", "show", "paris").text
    events = fleet.control.get_json("/api/v1/events?limit=1000", listener="control")["items"]
    assert [row["pop"] for row in events if row["kind"] == "sets_differ"] == ["tokyo"]
    assert "sets of countries (--sets) are not those of control pop=tokyo" in "".join(
        fleet.control.words())
    # Control knows the set: a spec may name it.
    fleet.control.cli("apply", "-f", "-", "--no-wait", stdin=(
        f"name: digits\nmodel: {MODEL}\nregions: [DACH]\n").encode())


def test_a_pop_dies_and_another_takes_over(fleet):
    paris = fleet.join("paris")
    fleet.apply(1)
    tokyo = fleet.join("tokyo")
    assert set(replicas(fleet)) == {"paris"}
    fleet.control.cli("pops", "drain", "paris")
    until("the other", lambda: serves(tokyo))
    until("its end", lambda: set(replicas(fleet)) == {"tokyo"})
    fleet.control.cli("pops", "delete", "paris", "--yes")
    assert fleet.states() == {"paris": "retired", "tokyo": "ready"}
    # It may not even ask any more.
    until("its word", lambda: "this PoP was deleted at control" in "".join(paris.words()))


def test_joining(fleet, scratch):
    file = fleet.create("paris")
    token = file.read_text().strip()
    pop = fleet.new(part="pop", start=False)

    def refused(words, *arguments, status=1, **environment):
        done = pop.cli("pop", "--listen-gateway", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0",
                       *arguments, status=None, **environment)
        assert done.returncode == status and words in done.said, (done.returncode, done.said)

    refused("has not joined yet", status=2)
    refused("wants the token", "--join", fleet.url, status=2)
    refused("not on this machine", "--join", "http://192.0.2.1:8080", "--token-file", file,
            status=2)
    refused("--join", "--join", "ftp://127.0.0.1", "--token-file", file, status=2)
    refused("--token-file", "--join", fleet.url, "--token-file", scratch / "none", status=2)
    (scratch / "odd").write_bytes(b"pgj_\x01\n")
    refused("odd characters", "--join", fleet.url, "--token-file", scratch / "odd", status=2)
    (scratch / "forged").write_text("pgj_" + "x" * 32)
    refused("no PoP waits with this token", "--join", fleet.url, "--token-file",
            scratch / "forged")
    refused("control", "--join", "http://127.0.0.1:1", "--token-file", file)
    # What is wrong with any other flag is said before the token is shown, which is good once.
    for flag, value in (("--loops", "0"), ("--spin-us", "x"), ("--limits", "nothing=1"),
                        ("--trusted-proxies", "here"), ("--sandbox", "some"),
                        ("--log-level", "loud"), ("--why-from", "there"),
                        ("--addresses", scratch / "none"), ("--listen-gateway", "0.0.0.0:0"),
                        ("--listen-dns", "unix:/x")):
        refused(flag, "--join", fleet.url, "--token-file", file, flag, value, status=2)
    refused("--sets", "--join", fleet.url, "--token-file", file, "--sets", scratch / "none")
    assert not (pop.home / "pop" / "joined.json").exists()
    pop.start("--join", fleet.url, "--token-file", file)
    assert fleet.states() == {"paris": "ready"}
    pop.stop()
    # With a home that has joined: the same control again, or none; another one not.
    refused("another home", "--join", fleet.url.replace("127.0.0.1", "127.0.0.2"))
    pop.start("--join", fleet.url)
    assert token not in "".join(pop.words())
    # Shut out, and in again with the new token.
    again = scratch / "again"
    secret = (pop.home / "pop" / "secret").read_text()
    fleet.control.cli("pops", "token", "paris", "--token-file", again)
    pop.stop()
    pop.start("--token-file", again)
    until("it reports", lambda: fleet.states() == {"paris": "ready"})
    assert (pop.home / "pop" / "secret").read_text() != secret
    assert not (pop.home / "pop" / "secret.new").exists()


def test_a_pop_made_anew_is_heard(fleet):
    """Its agent counts from the same beginning as the one before: control does not take the two
    for one."""
    old = fleet.join("paris")
    fleet.apply(1)
    until("its replica", lambda: set(replicas(fleet)) == {"paris"})
    fleet.control.cli("pops", "delete", "paris", "--yes")
    until("it ends what it runs", lambda: not serves(old))
    old.stop()
    assert fleet.states() == {"paris": "retired"} and not replicas(fleet)
    (fleet.scratch / "paris.token").unlink()
    new = fleet.join("paris")
    until("it serves", lambda: serves(new))
    until("its replica", lambda: set(replicas(fleet)) == {"paris"})
    fleet.control.cli("wait", "digits")
    events = fleet.control.cli("events", "digits", "--json").text.splitlines()
    assert [json.loads(row)["kind"] for row in events].count("replica_ready") == 2


def test_a_pop_that_was_deleted_while_it_was_away(fleet):
    """It serves until it hears of it, then nothing more, and says why; also after a restart."""
    pop = fleet.join("paris")
    fleet.apply(1)
    assert serves(pop)
    fleet.control.kill()
    assert serves(pop)
    pop.kill()
    fleet.control.start("--listen-control", fleet.url.removeprefix("http://"))
    fleet.control.cli("pops", "delete", "paris", "--yes")
    pop.start()

    def ready():
        return pop.request("GET", "/readyz", listener="admin")

    until("it to hear of it", lambda: b"was deleted at control" in ready()[2])
    assert ready()[0] == 503
    until("its end", lambda: infer(pop)[0] == 404)
    until("its replicas' end", lambda: pop.metric("perigee_replicas") == 0)
    assert "".join(pop.words()).count("this PoP was deleted at control") == 1
    # Nor does it start anything when it cannot ask.
    fleet.control.kill()
    pop.stop()
    pop.start()
    assert infer(pop)[0] == 404
    # Made anew, it joins again with the home that it has.
    pop.stop()
    fleet.control.start("--listen-control", fleet.url.removeprefix("http://"))
    (fleet.scratch / "paris.token").unlink()
    pop.start("--token-file", fleet.create("paris"))
    until("it to serve", lambda: serves(pop))
    assert ready()[0] == 200


def test_a_token_from_the_environment(fleet):
    file = fleet.create("paris")
    pop = fleet.new(part="pop", start=False)
    token = file.read_text().strip()
    environment = pop.environment
    pop.environment = lambda: {**environment(), "PERIGEE_JOIN_TOKEN": token}
    pop.start("--join", fleet.url)
    for pid in pop.process.pid, pop.role_pid("pop"), pop.role_pid("gateway"):
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert token.encode() not in file.read()


def test_upgrades_of_parts(fleet):
    paris = fleet.join("paris")
    fleet.apply(1)
    before = replicas(fleet)
    for one, roles in ((fleet.control, ["control"]), (paris, ["gateway", "pop"])):
        old = {role: one.role_pid(role) for role in roles}
        said = json.loads(one.cli("upgrade", "--json").text)
        assert said["version"]
        for role in roles:
            assert one.role_pid(role) != old[role]
    until("the PoP's report", lambda: fleet.states() == {"paris": "ready"})
    assert serves(paris) and replicas(fleet) == before


def test_parts_have_their_own_flags(fleet):
    for arguments, words in (
            (("control", "--listen-gateway", "127.0.0.1:0"), "--listen-gateway"),
            (("pop", "--listen-control", "127.0.0.1:0"), "--listen-control"),
            (("pop", "--country", "FR"), "--country")):
        done = fleet.control.cli(*arguments, status=2)
        assert words in done.said
    assert fleet.control.stop(signal.SIGINT) == 0
    text = "".join(fleet.control.words())
    assert "Perigee control is up" in text and re.search(r"control +http://127", text)
