# SPDX-License-Identifier: Apache-2.0
"""perigee simulate: what it prints, and refuses. Its figures are tests/unit/test_edge.c's."""
import json
import xml.etree.ElementTree

import pytest

from deadline import DEADLINE
from perigee import ROOT
from test_cli import alone, fits

QUICK = ("--rate", 2000, "--seconds", 6)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def sites(tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text("name,city,country,lat,lon\nparis,Paris,FR,48.9,2.3\nnyc,New York,US,,\n"
                    "tokyo,Tokyo,JP,,\nsp,Sao Paulo,BR,,\nlagos,Lagos,NG,,\n")
    return path


def test_the_bundled_sites_serve_the_world():
    text = alone("simulate", *QUICK).stdout
    fits(text)
    for words in ("healthy:", "spike:", "failures:", "cold:", "nearest only", "oracle", "3 regions",
                  "GeoNames (CC BY 4.0)", "@"):
        assert words in text
    told = json.loads(alone("simulate", *QUICK, "--json").stdout)
    assert told["cities"] == 24323 and told["sites"] >= 80
    healthy = told["scenarios"]["healthy"]
    assert healthy["perigee"]["outside"] == 0 and healthy["perigee"]["in_jurisdiction"] == 1
    assert healthy["nearest"]["outside"] > 0
    assert healthy["perigee"]["under_50_ms"] > 0.98
    known = told["scenarios"]["failures"]["perigee"]["under_50_ms_of_could_once_known"]
    assert known > 0.98
    assert healthy["perigee"]["total_mean_ms"] < 1.05 * healthy["oracle"]["total_mean_ms"]
    assert [len(cloud["sites"]) for cloud in told["clouds"]] == [1, 3]
    assert told["clouds"][0]["network_mean_ms"] > 4 * healthy["perigee"]["network_mean_ms"]


SITES = ROOT.parent / "shared" / "data" / "sites-308.csv"  # beside a checkout, where there is one


@pytest.mark.slow
@pytest.mark.skipif(not SITES.exists(), reason="the list of 308 sites is not kept here")
def test_308_sites_serve_the_world():
    """What docs/simulate.md says is reached, of one seed."""
    told = json.loads(alone("simulate", "--sites", SITES, "--seed", 1, "--json",
                            timeout=4 * DEADLINE).stdout)
    assert told["sites"] == 308 and told["cities"] == 24323
    healthy = told["scenarios"]["healthy"]["perigee"]
    assert healthy["network_mean_ms"] < 18.6 and healthy["network_p99_ms"] < 36
    assert healthy["under_50_ms"] >= 0.999
    for name, ways in told["scenarios"].items():
        ours, nearest = ways["perigee"], ways["nearest"]
        least = ways["oracle"]["total_mean_ms"]
        assert ours["outside"] == ours["refused"] == 0 < nearest["outside"], name
        assert ours["under_50_ms_of_could"] >= 0.99, name
        assert ours["total_mean_ms"] < 1.05 * least, name
        assert name == "healthy" or nearest["total_mean_ms"] > 1.1 * least, name
    one, three = told["clouds"]
    assert one["network_mean_ms"] > 100 and 50 < three["network_mean_ms"] < 70


def test_a_seed_says_all(sites):
    def run(seed):
        return alone("simulate", "--sites", sites, *QUICK, "--seed", seed, "--json").stdout

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_resolvers_keep_answers(sites):
    def run(*more):
        told = json.loads(alone("simulate", "--sites", sites, "--rate", 2000, "--seconds", 60,
                                "--scenario", "failures", "--failures", 1, "--json", *more).stdout)
        return told["resolvers"], told["scenarios"]["failures"]["perigee"]

    none, each = run()
    kept, old = run("--resolvers", 1)
    _, young = run("--resolvers", 1, "--up-for", 0)
    assert none == 0 and each["asked_dns"] >= each["requests"] and each["dead_tried_for_s"] < 3
    assert kept == 1 and old["asked_dns"] < young["asked_dns"] < each["requests"]
    assert 15 < old["dead_tried_for_s"] < 23 and 4 < young["dead_tried_for_s"] < 8
    for up_for, seconds in ((), 23), (("--up-for", 0), 8):
        text = alone("simulate", "--sites", sites, *QUICK, "--scenario", "failures", "--resolvers",
                     1, *up_for).stdout
        fits(text)
        assert "% asked DNS" in text and f"first {seconds} s after the deaths" in text


def failed(sites, *which):
    """As the tables and the JSON tell it, which PoPs failed; of each, what it served."""
    asked = ("simulate", "--sites", sites, *QUICK, "--scenario", "failures", *which)
    text = alone(*asked).stdout
    said = text[text.index("\nfailed (") + 1:].split("\n\n")[0]
    fits(said)
    how, names = said.removeprefix("failed (").split("):")
    told = json.loads(alone(*asked, "--json").stdout)["scenarios"]["failures"]["failed"]
    assert told == ([] if names == " none" else [name.strip() for name in names.split(",")])
    return how, told


def test_which_pops_fail(sites):
    two = failed(sites, "--failing", "tokyo", "--failing", "LAGOS")
    assert two == ("by name", ["tokyo", "lagos"])
    how, two = failed(sites, "--failing", "largest", "--failures", 2)
    assert how == "the largest" and len(set(two)) == 2 and two[0] == "tokyo"
    told = alone("simulate", "--sites", sites, *QUICK, "--failing", "largest", "--failures", 2,
                 "--scenario", "failures", "--json").stdout
    ways = json.loads(told)["scenarios"]["failures"]
    ours, oracle = ways["perigee"], ways["oracle"]
    assert oracle["under_50_ms_of_oracle"] == 1 and oracle["lost_mean_ms"] == 0
    assert ours["under_50_ms_of_oracle"] == pytest.approx(
        ours["under_50_ms_of_could"] / oracle["under_50_ms_of_could"])
    assert 0 < ours["lost_mean_ms"] < ours["network_mean_ms"]
    how, by_chance = failed(sites, "--failures", 3)
    assert how == "by chance" and len(set(by_chance)) == 3
    assert failed(sites, "--failures", 3, "--failing", "chance") == (how, by_chance)
    assert failed(sites, "--failures", 0) == ("by chance", [])


def test_all_pops_cannot_fail(sites):
    every = sum((("--failing", name) for name in ("paris", "nyc", "tokyo", "sp", "lagos")), ())
    assert "one has to be left" in alone("simulate", "--sites", sites, *every, status=2).stderr


def test_anywhere_is_nearest(sites):
    told = json.loads(alone("simulate", "--sites", sites, *QUICK, "--scenario", "healthy",
                            "--anywhere", "--json").stdout)
    assert list(told["scenarios"]) == ["healthy"]
    assert told["scenarios"]["healthy"]["nearest"]["outside"] == 0


def spec(tmp_path, more):
    path = tmp_path / "spec.yaml"
    path.write_text("name: digits\nmodel: digits.onnx\n" + more)
    return path


def simulated(sites, path, *more):
    told = json.loads(alone("simulate", "--sites", sites, *QUICK, "--scenario", "healthy", "--spec",
                            path, *more, "--json").stdout)
    return told, told["scenarios"]["healthy"]


def test_a_specs_residency_holds(sites, tmp_path):
    rules = ("residency:\n  rules:\n  - {clients: [JP], process_in: [FR]}\n"
             "  - {clients: any, process_in: any}\n")
    _, free = simulated(sites, spec(tmp_path, ""))
    _, held = simulated(sites, spec(tmp_path, rules))
    assert free["nearest"]["outside"] == 0 and held["perigee"]["outside"] == 0
    assert held["nearest"]["outside"] > 0
    assert held["perigee"]["network_mean_ms"] > free["perigee"]["network_mean_ms"] + 1


def test_clients_that_no_rule_holds_are_refused(sites, tmp_path):
    rules = "residency:\n  rules:\n  - {clients: [JP], process_in: [JP]}\n"
    _, held = simulated(sites, spec(tmp_path, rules))
    assert held["perigee"]["outside"] == 0
    assert held["perigee"]["refused"] > 0.9 * held["perigee"]["requests"]


def test_a_specs_regions_hold(sites, tmp_path):
    told, _ = simulated(sites, spec(tmp_path, "regions: [FR, tokyo]\n"))
    assert told["sites"] == 2
    refused = alone("simulate", "--sites", sites, "--spec", spec(tmp_path, "regions: [SE]\n"),
                    status=1).stderr
    assert "hold none of the 5 sites" in refused


def test_an_operators_own_sets(sites, tmp_path):
    own = tmp_path / "sets.yaml"
    own.write_text("sets:\n- {name: ISLES, countries: [JP], source: \"contract 17\", "
                   "date: 2026-11-28}\n")
    told, _ = simulated(sites, spec(tmp_path, "regions: [ISLES]\n"), "--sets", own)
    assert told["sites"] == 1


def test_pictures_are_svg(sites, tmp_path):
    folder = tmp_path / "pictures"
    alone("simulate", "--sites", sites, *QUICK, "--scenario", "spike", "--svg", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["map.svg", "spike.svg"]
    world = xml.etree.ElementTree.parse(folder / "map.svg").getroot()
    named = [title.text for title in world.iter(SVG + "title")]
    assert any(title.startswith("nyc: New York, US, ") for title in named)
    assert sum(path.get("d").count("M") for path in world.iter(SVG + "path")) == 24323
    curves = xml.etree.ElementTree.parse(folder / "spike.svg").getroot()
    assert {"nearest only", "geography", "perigee", "oracle"} <= {
        text.text for text in curves.iter(SVG + "text")}


@pytest.mark.parametrize("arguments,words", [
    (("--scenario", "rain"), "'rain'"),
    (("--rate", "0"), "--rate is between 1 and"),
    (("--rate", "fast"), "--rate"),
    (("--failures", "9999"), "--failures is between 0 and"),
    (("--anywhere", "--spec", "x.yaml"), "--anywhere"),
    (("--resolvers", 65), "--resolvers is between 0 and 64"),
    (("--up-for", "long"), "--up-for"),
    (("--failing", "atlantis"), "there is no 'atlantis'"),
    (("--failing", ""), "there is no ''"),
    (("--failing", "Paris", "--failing", "paris"), "names 'paris' twice"),
    (("--failing", "paris", "--failing", "largest"), "one of the three"),
    (("--failing", "paris", "--failures", 3), "leave --failures out"),
], ids=["unknown-scenario", "no-rate", "rate-no-number", "more-failures-than-pops",
        "a-spec-and-anywhere", "resolvers-too-many", "up-for-no-number", "failing-unknown",
        "failing-nobody", "failing-twice", "failing-names-and-largest",
        "failing-names-and-a-number"])
def test_usage(arguments, words):
    assert words in alone("simulate", *arguments, status=2).stderr


@pytest.mark.parametrize("text,words", [
    ("", "names no column"),
    ("name,country,lat,lon\nx,FR,1\n", "line 2: lat is between"),
    ("name,country\nAtlantis,FR\n", "line 2: it has no coordinates, and no such city is known"),
    ("name,country,lat,lon\nx,FR,1,2\nx,FR,1,2\n", "line 3: a site of that name"),
    ("name,country,lat,lon\n\"x,FR,1,2\n", "line 2: a quote is not closed"),
], ids=["empty", "half-a-place", "unknown-city", "site-twice", "open-quote"])
def test_sites(text, words, tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text(text)
    told = alone("simulate", "--sites", path, status=1).stderr
    assert str(path) in told and words in told


def test_no_file(tmp_path):
    assert "no-such.csv" in alone("simulate", "--sites", tmp_path / "no-such.csv", status=1).stderr


def test_nobody_lives_there(sites):
    told = alone("simulate", "--sites", sites, "--people", 4_000_000_000, status=1).stderr
    assert "--people" in told
