# SPDX-License-Identifier: Apache-2.0
"""Volumes of containers: what is in one lasts, and it cannot grow. Each is a file of the home that
the engine mounts from a loop device."""
import copy
import pathlib
import subprocess

import pytest

from deadline import until
from engines import server_image
from fake_control import CUT, event
from test_containers import engine, place, server, warm  # fixtures  # noqa: F401
from test_durable import small_disk

SIZE = 16 << 20
CACHE = {"volumes": [{"path": "/cache", "size": "16MiB"}]}


@pytest.fixture(scope="module", autouse=True)
def loops():
    if not pathlib.Path("/dev/loop-control").exists():
        pytest.skip("this machine has no loop devices")


@pytest.fixture
def image(server):  # noqa: F811
    """One with a VOLUME, which is run as spec.volumes bounds it."""
    return lambda **more: server_image(server, "cache", Volumes={"/cache": {}}, **more)


def kept_model(place, mib):  # noqa: F811
    """One that nothing runs any more."""
    kept = place.pop.home / "models" / ("0" * 64)
    kept.mkdir(parents=True)
    (kept / "model.onnx").write_bytes(bytes(mib << 20))
    return kept


def said(place, path="/"):  # noqa: F811
    status, body, _ = place.get(path)
    assert status == 200, body
    return int(body)


def files(place):  # noqa: F811
    return sorted((place.pop.home / "pop" / "volumes").glob("*"))


def devices(place):  # noqa: F811
    """Loop devices that show a file of the home."""
    shown = []
    for row in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            shown += [row.parts[3]] * row.read_text().startswith(str(place.pop.home))
        except OSError:  # it went meanwhile
            pass
    return shown


def volumes(place):  # noqa: F811
    return place.control.reports[-1][1]["volumes"]


def nothing_left(place):  # noqa: F811
    until("the end of its file", lambda: not files(place))
    until("the end of the engine's volume", lambda: not place.engine.volumes())
    until("the end of its device", lambda: not devices(place))


def test_what_is_in_a_volume_lasts(place, image):  # noqa: F811
    """Over scale to zero, a new revision and a restart, and not longer than its endpoint."""
    spec = {**CACHE, "scale": {"idle": "1s"}}
    place.tell(image(), spec=spec)
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    until("its report", lambda: place.replicas(state="ready"))
    assert "/cache 16MiB" in place.replicas(state="ready")[0]["sandbox"]
    until("that it is told", lambda: volumes(place) == [{"endpoint_uid": 1, "bytes": SIZE}])
    until("zero", lambda: not place.ours())
    assert said(place, "/put") == 2
    place.tell(image(Env=["OF=another"]), spec=spec, number=2)
    until("the second one", lambda: place.get()[2]["Perigee-Revision"] == "2")
    assert said(place, "/put") == 3
    place.pop.stop()
    assert len(files(place)) == 1 and not place.engine.volumes() and not devices(place)
    place.start()
    until("an answer", place.answers)
    assert said(place) == 3
    assert [path.stat().st_size for path in files(place)] == [SIZE]
    place.pop.stop()
    place.control.first = [event("synced", 300, {"uids": []})]
    place.start()
    nothing_left(place)


def test_a_volume_is_bounded(place, image):  # noqa: F811
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    assert 8 <= said(place, "/fill") <= 16
    assert place.pop.metric("perigee_volume_bytes") == SIZE
    assert said(place, "/fill") <= 16 and files(place)[0].stat().st_size == SIZE
    place.control.events.put(event("gone", 299, {"uid": 1}))
    nothing_left(place)


def test_replicas_share_a_volume(place, image):  # noqa: F811
    place.tell(image(), spec={**CACHE, "scale": {"min": 2}},
               pops=[{"name": place.control.pop, "replicas": 2}])
    place.start()
    until("both", lambda: len(place.replicas(state="ready")) == 2)
    assert [said(place, "/put") for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert len(devices(place)) == 1 and len(place.engine.volumes()) == 1


def test_a_size_of_its_own_begins_empty(place, image):  # noqa: F811
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    more = {"volumes": [{"path": "/cache", "size": "20MiB"}]}
    place.tell(image(), spec={**warm(), **more}, number=2)
    until("the second one", lambda: place.get()[2]["Perigee-Revision"] == "2")
    assert said(place) == 0


def test_what_is_left_of_volumes_is_swept(place, image):  # noqa: F811
    """Everything was killed, and the endpoint deleted meanwhile."""
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    place.pop.kill()
    (files(place)[0].parent / "1-half-16.new").write_bytes(b"half made")
    assert place.engine.volumes() and devices(place)
    place.control.first = [event("synced", 200, {"uids": []})]
    place.start()
    nothing_left(place)


def test_a_container_that_outlives_its_agent_keeps_its_volume(place, image):  # noqa: F811
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    before = place.ours()[0]["Id"]
    place.pop.kill()
    place.control.reports.clear()
    place.start()
    until("the next agent's word", lambda: place.replicas(state="ready"))
    assert said(place) == 1 and [row["Id"] for row in place.ours()] == [before]
    assert not place.told("replica_exited")


def test_an_engine_that_forgot_the_volume_is_told_again(place, image):  # noqa: F811
    """It makes a plain folder in its place, which nothing would bound: that is not run."""
    place.tell(image(), spec={**CACHE, "scale": {"idle": "5s"}})  # it is tried again within it
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    until("zero", lambda: not place.ours())
    for name in place.engine.volumes():
        assert place.engine.ask("DELETE", f"/v1.41/volumes/{name}")[0] == 204
    until("an answer", place.answers)
    assert said(place) == 1
    assert "is not what was made for it" in place.failed("volume '/cache'")


def stop(place):  # noqa: F811
    place.pop.stop()
    until("the end of its device", lambda: not devices(place))


def test_a_volume_that_a_crash_left_is_mended(place, image):  # noqa: F811
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    stop(place)
    subprocess.run(["/usr/sbin/debugfs", "-w", "-R", "set_super_value state 2", files(place)[0]],
                   check=True, capture_output=True)  # it has errors
    place.start()
    until("an answer", place.answers)
    assert said(place) == 1
    assert "the file system of a volume was mended" in place.pop.log.read_text()


def test_a_volume_that_cannot_be_mended_is_said_and_stays(place, image):  # noqa: F811
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    stop(place)
    file = files(place)[0]
    with open(file, "r+b") as broken:
        broken.seek(1024)
        broken.write(bytes(1024))  # its superblock
    before = file.read_bytes()
    place.start()
    why = place.failed("the volume '/cache': its file system is damaged")
    assert "e2fsck" in why and f"mend '{file}' by hand, or remove it" in why
    stop(place)
    assert file.read_bytes() == before
    file.unlink()
    place.start()
    until("an answer", place.answers)
    assert said(place) == 0


def residency(country):
    return {"residency": {"process_in": [country]}}


def test_where_residency_excludes_the_place_a_volume_goes(place, image):  # noqa: F811
    """Once what ran has ended; also where it is read only after a restart."""
    place.control.spec = {"country": "DE"}
    place.tell(image(), spec={**warm(), **CACHE, **residency("DE")})
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    place.tell(image(), spec={**warm(), **CACHE, **residency("US")}, pops=[])
    nothing_left(place)
    until("the event", lambda: place.told("volume_removed"))
    assert place.told("volume_removed")[0]["message"] == (
        "the volume '/cache' is removed from this PoP: its residency lets nothing be processed at "
        "this PoP, 'paris' (DE)")
    assert not place.ours()
    until("that they are gone", lambda: not volumes(place))
    place.tell(image(), spec={**warm(), **CACHE, **residency("DE")})
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    place.pop.stop()
    place.tell(image(), spec={**warm(), **CACHE, **residency("US")}, pops=[])
    place.start()
    nothing_left(place)


def test_a_volume_stays_where_placement_alone_has_moved(place, image):  # noqa: F811
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    place.tell(image(), spec={**warm(), **CACHE}, pops=[{"name": "oslo", "replicas": 1}])
    until("its end here", lambda: not place.ours())
    assert volumes(place) == [{"endpoint_uid": 1, "bytes": SIZE}]
    place.pop.stop()
    place.control.events.put(CUT)  # that watch's
    stray = files(place)[0].parent / "63-0123456789ab-16777216"
    stray.write_bytes(b"of an endpoint that is no more")
    place.start()
    until("a look at what is left", lambda: not stray.exists())
    assert [path.stat().st_size for path in files(place)] == [SIZE]
    place.tell(image(), spec={**warm(), **CACHE})
    until("an answer", place.answers)
    assert said(place) == 1


def test_what_an_older_place_cannot_read_keeps_its_volume(place, image):  # noqa: F811
    """And its image: a newer control says of the revision what is not understood."""
    place.tell(image(), spec={**warm(), **CACHE})
    place.start()
    until("an answer", place.answers)
    assert said(place, "/put") == 1
    place.pop.stop()
    place.control.events.put(CUT)  # that watch's
    told = copy.deepcopy(place.control.container(image(), spec={**warm(), **CACHE}))
    told["revisions"][0]["image"]["port"] = 0
    place.control.first = [event("endpoint", 200, told), event("synced", 200, {"uids": [1]})]
    (place.pop.home / "pop" / "desired.json").unlink()
    stray = files(place)[0].parent / "63-0123456789ab-16777216"
    stray.write_bytes(b"of an endpoint that is no more")
    place.start()
    place.failed("port 0")
    until("a look at what is left", lambda: not stray.exists())
    assert [path.stat().st_size for path in files(place)] == [SIZE]
    digest = image().digest
    assert place.engine.ask("GET", f"/v1.41/images/{digest}/json")[0] == 200
    place.number = 300
    place.tell(image(), spec={**warm(), **CACHE})
    until("an answer", place.answers)
    assert said(place) == 1


@pytest.mark.root
@pytest.mark.parametrize("size", ["12m", "17m"])  # the latter has room, and a floor
def test_a_volume_that_the_disk_has_no_room_for(place, image, size):  # noqa: F811
    """Models that are kept do not go for nothing."""
    with small_disk(place.pop.home, size):
        kept = kept_model(place, 1)
        place.tell(image(), spec={**warm(), **CACHE})
        place.start()
        why = place.failed("the volume '/cache'")
        assert "no room" in why and "16 MiB are needed" in why and "are left for" in why
        assert not files(place) and not place.ours() and kept.exists()
        place.pop.stop()


@pytest.mark.root
def test_kept_models_give_way_to_a_volume(place, image):  # noqa: F811
    with small_disk(place.pop.home, "20m"):
        kept = kept_model(place, 4)
        place.tell(image(), spec={**warm(), **CACHE})
        place.start()
        until("an answer", place.answers)
        assert not kept.exists() and len(files(place)) == 1
        place.pop.stop()
