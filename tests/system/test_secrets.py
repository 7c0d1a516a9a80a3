# SPDX-License-Identifier: Apache-2.0
"""Secrets: told once, given to containers in their environment, and found nowhere else."""
import contextlib
import json
import pathlib
import stat

import pytest

from deadline import until
from engine_between import Between
from engine_case import engine_or_skip
from engines import compile_server, server_image
from fake_control import event
from test_containers import engine, place, server, warm  # fixtures  # noqa: F401

SECRET = "correct horse \"battery\"\nstaple é"  # lines, quotes, and more than ASCII


@pytest.fixture(scope="module")
def podman():
    one = engine_or_skip("podman")
    yield one
    one.end()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    (folder / "image.tar").write_bytes(
        server_image(compile_server(folder), "env").docker_archive())
    return folder / "image.tar"


@pytest.fixture(scope="module")
def perigee(homes, podman):
    return homes("--engine", f"unix:{podman.socket}")


@pytest.fixture(scope="module")
def bare(homes):
    """One that has no engine: what is deployed is kept, and runs nowhere."""
    return homes("--engine", "unix:/nonexistent/engine.sock")


def spec(scratch, image, name="shop", env="{LEVEL: \"2\", TOKEN: {secret: hub-token}}", more=""):
    path = scratch / f"{name}.yaml"
    path.write_text(f"name: {name}\nimage: {image}\nflavor: {{memory: 64MiB}}\nenv: {env}\n{more}")
    return path


def set_secret(perigee, value=SECRET, name="hub-token"):
    return perigee.cli("secrets", "set", name, stdin=value.encode() + b"\n")


def told(perigee, variable="TOKEN", name="shop"):
    """What the container says that it has."""
    status, _, body = perigee.request("GET", f"/{variable}", None, {"Host": f"{name}.localhost"})
    assert status == 200, body
    return body.decode()


def forms(value):
    """As it may be written somewhere."""
    text = value.encode()
    return [text, json.dumps(value)[1:-1].encode(),
            json.dumps(value, ensure_ascii=False)[1:-1].encode(), text.hex().encode()]


def found_in(data, value):
    return any(form in data for form in forms(value))


def processes_have(perigee, value):
    """Of all that are Perigee's: what others see of them."""
    found = []
    for path in [f"/proc/{pid}/{file}" for pid in perigee.pids()
                 for file in ("cmdline", "environ")]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if found_in(pathlib.Path(path).read_bytes(), value):
                found.append(path)
    return found


def files_have(folder, value):
    return [path for path in folder.rglob("*") if path.is_file()
            and not stat.S_ISSOCK(path.stat().st_mode) and found_in(path.read_bytes(), value)]


# ---- given --------------------------------------------------------------------------------------

def test_a_container_has_it_and_nothing_else_does(perigee, podman, image, scratch):
    """Also not after it was changed, and not in a backup that has the key beside it."""
    said = set_secret(perigee)
    assert said.text == "hub-token is kept, sealed\n" and said.said == ""
    perigee.cli("apply", "-f", spec(scratch, image))
    assert told(perigee) == SECRET and told(perigee, "LEVEL") == "2"
    listed = perigee.json("secrets")["items"]
    assert [(row["name"], row["project"], row["used_by"]) for row in listed] == [
        ("hub-token", "default", ["shop"])]
    assert "hub-token" in perigee.cli("secrets", "list").text
    assert perigee.json("show", "shop")["spec"]["env"]["TOKEN"] == {"secret": "hub-token"}
    exported = perigee.cli("export", "shop").text
    assert "secret: hub-token" in exported
    (scratch / "again.yaml").write_text(exported)
    assert "nothing changed" in perigee.cli("apply", "-f", scratch / "again.yaml").text
    said = perigee.cli("secrets", "set", "hub-token", "--file", "-", stdin=b"changed-7f3a41").text
    assert "replicas of shop that start from now on" in said
    assert told(perigee) == SECRET, "what runs has what it was started with"
    perigee.cli("stop", "shop")
    perigee.cli("start", "shop")
    until("the new value", lambda: told(perigee) == "changed-7f3a41")
    assert len(perigee.get_json("/api/v1/endpoints/shop/revisions", "control")["items"]) == 1
    assert perigee.cli("backup", scratch / "with.tar", "--with-key").said == ""
    without = perigee.cli("backup", scratch / "without.tar").said
    assert "sealed value" in without and "--with-key" in without
    shown = "".join(perigee.cli(*words).text for words in [
        ("show", "shop", "--json"), ("events", "--json"), ("logs", "shop"), ("secrets", "--json"),
        ("endpoints", "--json")])
    for path in ("audit", "endpoints/shop/history", "endpoints/shop/revisions", "replicas"):
        shown += json.dumps(perigee.get_json(f"/api/v1/{path}", "control"))
    for value in (SECRET, "changed-7f3a41"):
        assert not found_in(shown.encode(), value)
        assert not found_in(perigee.log.read_bytes(), value)
        assert processes_have(perigee, value) == []
        assert files_have(perigee.home, value) == []
        assert files_have(scratch, value) == []
    actions = [row["action"] for row in perigee.get_json("/api/v1/audit", "control")["items"]]
    assert actions.count("secret_set") == 2
    for key in ("control/seal.key", "pop/seal.key"):
        mode = (perigee.home / key).stat()
        assert mode.st_size == 32 and mode.st_mode & 0o777 == 0o600
    said = perigee.cli("secrets", "delete", "hub-token", "--yes", status=1).said
    assert "in use by endpoint 'shop'" in said, said
    perigee.cli("delete", "shop", "--yes")
    until("the end of its containers", lambda: not podman.containers())
    kept = perigee.home / "pop" / "secrets"
    until("it to be forgotten", lambda: json.loads(kept.read_text()) == {"secrets": []})
    perigee.cli("secrets", "delete", "hub-token", "--yes")
    assert "no secret 'hub-token'" in perigee.cli("secrets", "delete", "hub-token", "--yes",
                                                  status=1).said


def test_a_lost_key_is_said_and_what_is_told_anew_is_given(new_perigee, podman, image, scratch):
    one = new_perigee("--engine", f"unix:{podman.socket}")
    set_secret(one)
    one.cli("apply", "-f", spec(scratch, image, more="scale: {min: 1}\n"))
    assert told(one) == SECRET
    one.stop()
    (one.home / "control" / "seal.key").unlink()
    (one.home / "pop" / "secrets").unlink()
    one.start()
    until("the reason", lambda: "control cannot open the secret 'hub-token'" in one.cli(
        "events", "--json").text)
    said = one.cli("backup", scratch / "lost.tar", "--with-key").said
    assert "(secret default/hub-token): control/seal.key is not there" in said, said
    set_secret(one, "told anew")
    until("an answer", lambda: one.request("GET", "/TOKEN", None,
                                           {"Host": "shop.localhost"})[2] == b"told anew")
    one.cli("delete", "shop", "--yes")
    until("the end of its containers", lambda: not podman.containers())


# ---- at a PoP -----------------------------------------------------------------------------------

def test_a_place_that_boots_cut_off_has_it(place, server):  # noqa: F811
    """It lies sealed on the PoP's disk, and goes when control says that it is not for this PoP."""
    shop = server_image(server, "env")
    place.tell(shop, spec={"env": {"TOKEN": {"secret": "hub-token"}}, **warm()})
    place.start()
    lacking = place.failed("control has given no secret 'hub-token'")
    assert "env.TOKEN" in lacking
    given = event("secret", place.number, {"project": "default", "name": "hub-token",
                                           "value": SECRET})
    place.control.first = [given, *place.control.first]
    place.control.events.put(given)
    until("an answer", lambda: place.get("/TOKEN")[1] == SECRET.encode())
    kept = place.pop.home / "pop" / "secrets"
    until("the disk to have it", lambda: kept.exists() and b"sealed" in kept.read_bytes())
    for path in (kept, place.pop.home / "pop" / "seal.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert files_have(place.pop.home, SECRET) == [] and processes_have(place.pop, SECRET) == []
    place.pop.stop()
    place.control.refusal = (503, {})
    place.start()
    until("an answer without control", lambda: place.get("/TOKEN")[1] == SECRET.encode())
    place.control.refusal = None
    place.control.first = [event("secrets", place.number, {"secrets": []})] + [
        row for row in place.control.first if row is not given]
    until("it to be forgotten", lambda: json.loads(kept.read_text()) == {"secrets": []})
    assert not found_in(place.pop.log.read_bytes(), SECRET)


def test_an_engines_words_of_an_error_hold_none(engine, place, server, scratch):  # noqa: F811
    words = json.dumps({"message": f"invalid environment: TOKEN={SECRET}"}).encode()
    refusal = (b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
               % (len(words), words))
    with contextlib.closing(Between(engine, scratch / "between.sock")) as between:
        between.instead("/start", refusal)
        place.tell(server_image(server, "env"),
                   spec={"env": {"TOKEN": {"secret": "hub-token"}}, **warm()})
        place.control.first = [event("secret", place.number, {
            "project": "default", "name": "hub-token", "value": SECRET}), *place.control.first]
        place.start(engine=between.path)
        said = place.failed("invalid environment")
        assert said.endswith("TOKEN=***"), said
        place.pop.stop()
    for words in (SECRET, SECRET.replace("\n", " ")):
        assert not found_in(place.pop.log.read_bytes(), words)


# ---- what is no secret --------------------------------------------------------------------------

NAMING = {
    "mistyped": ("{TOKEN: {secret: hub-tokn}}", "did you mean 'hub-token'?"),
    "unknown": ("{TOKEN: {secret: something-else}}", "`perigee secrets set something-else`"),
    "no-name": ("{TOKEN: {secret: A_B}}", "the secret name 'A_B'"),
    "no-key": ("{TOKEN: {file: a}}", "env.TOKEN: unknown key 'file'"),
    "too-many": ("{%s}" % ", ".join(f"A{i}: {{secret: hub-token}}" for i in range(17)),
                 "17 secrets are above 16"),
}


@pytest.mark.parametrize("case", NAMING)
def test_what_cannot_be_named_is_refused(bare, scratch, image, case):
    set_secret(bare)
    env, words = NAMING[case]
    said = bare.cli("apply", "-f", spec(scratch, image, "bad", env), "--no-wait", status=None)
    assert said.returncode and words in said.said, said.said
    assert bare.cli("show", "bad", status=1)


VALUES = {
    "nothing": (b"", "there is nothing in it"),
    "a-line-end": (b"\n", "there is nothing in it"),
    "zero-byte": (b"hush-hush\0x", "a zero byte"),
    "too-long": (b"hush" * (16 << 10) + b"hus", "64 KiB"),
    "no-utf-8": (b"hush\xff\xfe", "UTF-8"),
}


@pytest.mark.parametrize("case", VALUES)
def test_what_is_no_value_is_refused(bare, case):
    value, words = VALUES[case]
    said = bare.cli("secrets", "set", "odd-one", stdin=value, status=1).said
    assert words in said and "hush" not in said, said
    assert "odd-one" not in bare.cli("secrets").text
    assert b"hush" not in bare.log.read_bytes()


def test_the_longest_value_is_taken(bare):
    assert "is kept" in set_secret(bare, "x" * (64 << 10), "long-one").text
    bare.cli("secrets", "delete", "long-one", "--yes")


WORDS = {
    "value-as-argument": (["set", "hub-token", "hush-hush"], 2, "takes NAME alone"),
    "no-name": (["set"], 2, "secrets set wants NAME"),
    "list-of-one": (["list", "hub-token"], 2, "secrets list takes no NAME"),
    "other-action": (["show", "hub-token"], 2, "secrets takes list, set or delete, not 'show'"),
    "bad-name": (["set", "Hub_Token"], 2, "the secret name 'Hub_Token'"),
    "no-file": (["set", "hub-token", "--file", "/nonexistent"], 1, "/nonexistent"),
    "unasked": (["delete", "hub-token"], 1, "--yes"),
}


@pytest.mark.parametrize("case", WORDS)
def test_what_is_asked_wrongly_is_said(bare, case):
    words, status, wanted = WORDS[case]
    said = bare.cli("secrets", *words, stdin=b"", status=status).said
    assert wanted in said and "hush" not in said, said


BODIES = {
    "no-json": b"hush-hush",
    "a-list": b'["hush"]',
    "no-value": b"{}",
    "a-number": b'{"value": 7}',
    "more": b'{"value": "hush", "note": "hush-hush"}',
    "cut": b'{"value": "hush-hush',
}


@pytest.mark.parametrize("case", BODIES)
def test_what_the_api_does_not_take_is_refused(bare, case):
    status, headers, text = bare.request("PUT", "/api/v1/secrets/odd-one", BODIES[case],
                                         {"Content-Type": "application/json"}, "control")
    assert status == 400 and headers["Perigee-Error"] == "bad_input", text
    assert b"hush" not in text and b"hush" not in bare.log.read_bytes()


def test_a_project_has_secrets_of_its_own(bare, scratch, image):
    set_secret(bare)
    bare.cli("secrets", "delete", "hub-token", "--yes", "--project", "acme", status=1)
    assert bare.json("secrets", "list", "--project", "acme")["items"] == []
    said = bare.cli("apply", "-f", spec(scratch, image), "--no-wait", "--project", "acme",
                    status=1).said
    assert "there is no secret 'hub-token' in project 'acme'" in said, said


def test_an_earlier_revision_does_not_come_back_without_its_secret(bare, scratch, image):
    """It keeps nobody from deleting one, and is refused then."""
    for name in ("first-one", "second-one"):
        set_secret(bare, SECRET, name)
        bare.cli("apply", "-f", spec(scratch, image, "turns", f"{{A: {{secret: {name}}}}}"),
                 "--no-wait")
    bare.cli("stop", "turns")
    bare.cli("secrets", "delete", "second-one", "--yes", status=1)
    bare.cli("secrets", "delete", "first-one", "--yes")
    said = bare.cli("rollback", "turns", "--revision", "1", status=None)
    assert said.returncode and "there is no secret 'first-one'" in said.said, said.said
    bare.cli("delete", "turns", "--yes")
    bare.cli("secrets", "delete", "second-one", "--yes")
