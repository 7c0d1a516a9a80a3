# SPDX-License-Identifier: Apache-2.0
"""perigee policy test: a spec's residency and regions against a table of cases."""
import json
import os
import subprocess
import sys

import pytest

from deadline import DEADLINE
from perigee import PROGRAM, ROOT

sys.path.insert(0, str(ROOT / "tests" / "geo"))
import mmdb  # noqa: E402  (tests/geo/mmdb.py)

SPEC = """
name: digits
model: ./digits.onnx
regions: [EU, CH, us]
residency:
  rules:
    - {clients: [EU], process_in: [EU]}
    - {clients: [CH], process_in: same-country}
    - {clients: [US], process_in: any, transit: [US]}
"""
HEAD = """
spec: digits.yaml
addresses: {203.0.113.0/24: FR, 2001:db8::/32: CH}
pops: {paris: {country: FR, region: eu-west}, newark: {country: US, region: us-east}, lab: {}}
cases:
"""
# client, process_in, pop, what holds
ROWS = (
    ("FR", None, "paris", "process"),
    ("FR", None, "newark", "refuse"),
    ("FR", None, "lab", "refuse"),
    ("203.0.113.7", "[DE, FR]", "IT", "pass"),
    ("203.0.113.7", "DE,FR", "paris", "process"),
    ("203.0.114.7", None, "DE", "refuse"),
    ("2001:db8::1", None, "CH", "process"),
    ("CH", None, "DE", "refuse"),
    ("unknown", None, "paris", "refuse"),
    ("US", None, "newark", "process"),
    ("US", None, "JP", "pass"),  # not in regions
    ("JP", None, "newark", "refuse"),
)


def row(client, process_in, pop, expect):
    narrow = f", process_in: \"{process_in}\"" if process_in and process_in[0] != "[" else \
        f", process_in: {process_in}" if process_in else ""
    return f"  - {{client: \"{client}\"{narrow}, pop: {pop}, expect: {expect}}}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "digits.yaml").write_text(SPEC)
    (tmp_path / "cases.yaml").write_text(HEAD + "".join(row(*case) for case in ROWS))
    return tmp_path


def policy(*arguments, status=0):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PERIGEE_")}
    done = subprocess.run([PROGRAM, "policy", *map(str, arguments)], text=True, capture_output=True,
                          env={**env, "PERIGEE_HOME": "/nonexistent"}, timeout=DEADLINE,
                          check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_a_table_that_holds(folder):
    done = policy("test", folder / "cases.yaml")
    assert f"{len(ROWS)} of {len(ROWS)} as expected" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    answer = json.loads(policy("test", folder / "cases.yaml", "--json").stdout)
    assert answer["right"] == len(ROWS) and answer["wrong"] == 0
    assert [case["got"] for case in answer["cases"]] == [case[3] for case in ROWS]
    assert [case["line"] for case in answer["cases"]] == list(range(6, 6 + len(ROWS)))
    assert answer["cases"][3]["client_country"] == "FR"


def test_what_does_not_hold_is_shown_and_fails(folder):
    (folder / "cases.yaml").write_text(HEAD + row("FR", None, "newark", "process") +
                                       row("FR", None, "paris", "process"))
    done = policy("test", folder / "cases.yaml", status=1)
    assert "1 of 2 as expected" in done.stdout and "WRONG" in done.stdout
    assert "line 6: process was expected, it is refuse: rules[0]" in done.stdout
    answer = json.loads(policy("test", folder / "cases.yaml", "--json", status=1).stdout)
    assert [case["ok"] for case in answer["cases"]] == [False, True]


def test_addresses_by_an_mmdb_and_sets_of_ones_own(folder):
    mmdb.write(folder / "geo.mmdb", [("198.51.100.0/24", "AT", 48.2, 16.4)], form=mmdb.nested)
    (folder / "sets.yaml").write_text(
        "sets: [{name: DACH, countries: [AT, CH, DE], source: us, date: 2026-11-28}]")
    (folder / "digits.yaml").write_text(
        "name: digits\nmodel: m\n"
        "residency: {rules: [{clients: [DACH], process_in: [DACH]}]}")
    (folder / "cases.yaml").write_text(
        "cases:\n" + row("198.51.100.9", None, "DE", "process") +
        row("198.51.101.9", None, "DE", "refuse") + row("AT", None, "FR", "refuse"))
    flags = ("--spec", folder / "digits.yaml", "--sets", folder / "sets.yaml")
    policy("test", folder / "cases.yaml", *flags, "--geo", folder / "geo.mmdb")
    policy("test", folder / "cases.yaml", *flags, status=1)  # no address is known
    done = policy("test", folder / "cases.yaml", "--spec", folder / "digits.yaml", status=1)
    assert "residency.rules[0].clients: 'DACH' is no country's code" in done.stderr
    mmdb.write(folder / "geo.mmdb", [("198.51.100.0/24", "AT", 48.2, 16.4)], made_s=1_600_000_000)
    done = policy("test", folder / "cases.yaml", *flags, "--geo", folder / "geo.mmdb")
    assert "days ago" in done.stderr


def test_sets_say_their_source_and_date(folder):
    """Those built in, and an operator's own, which may be made of others."""
    (folder / "sets.yaml").write_text(
        "sets:\n- {name: DACH, countries: [AT, CH, DE], source: contract 17, date: 2026-11-28}\n"
        "- {name: ALPS, countries: [DACH, FR], source: our own, date: 2026-11-29}\n")
    eu, eea = json.loads(policy("sets", "--json").stdout)["sets"]
    assert eu["name"] == "EU" and "Article 52" in eu["source"] and eu["date"] == "2020-02-01"
    assert {"FR", "RE"} < set(eu["countries"]) < set(eea["countries"])
    mine = ("sets", "--sets", folder / "sets.yaml")
    *_, dach, alps = json.loads(policy(*mine, "--json").stdout)["sets"]
    assert dach == {"name": "DACH", "source": "contract 17", "date": "2026-11-28",
                    "countries": ["AT", "CH", "DE"]}
    assert alps["countries"] == ["AT", "CH", "DE", "FR"] and alps["date"] == "2026-11-29"
    text = policy(*mine).stdout
    assert "DACH  3 countries, since 2026-11-28\n    contract 17\n    AT CH DE\n" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    (folder / "sets.yaml").write_text("sets: [{name: DACH}]")
    assert "'countries' is missing" in policy(*mine, status=1).stderr


@pytest.mark.parametrize("text,words", [
    ("cases: []", "'cases' is empty"),
    ("case: []", "unknown key 'case'; did you mean 'cases'?"),
    ("cases: [{client: FR, pop: DE, expect: serve}]", "line 1: case 1: expect: 'serve' is not"),
    ("cases: [{client: FR, pop: paris, expect: pass}]", "pop: 'paris' is none of 'pops'"),
    ("cases: [{client: UK, pop: DE, expect: pass}]", "the United Kingdom's is GB"),
    ("cases: [{client: 1.2.3, pop: DE, expect: pass}]", "client: '1.2.3' is no address"),
    ("cases: [{client: FR, pop: DE}]", "'expect' is missing"),
    ("cases:\n- {client: FR, pop: DE, expect: pass, process_in: [XX]}",
     "line 2: process_in: 'XX' is no country's code"),
    ("pops: {paris: {country: fr}}\ncases: []", "line 1: pops: 'paris': 'fr' is no country's"),
    ("addresses: {203.0.113.1/24: FR}\ncases: []", "203.0.113.0/24 is meant"),
    ("[]", "it must be an object with 'cases', not a list"),
])
def test_bad_files(folder, text, words):
    (folder / "cases.yaml").write_text(text)
    done = policy("test", folder / "cases.yaml", "--spec", folder / "digits.yaml", status=1)
    assert words in done.stderr


def test_bad_calls(folder):
    assert "policy wants test FILE" in policy(status=2).stderr
    assert "policy test wants FILE" in policy("test", status=2).stderr
    assert "policy takes test or sets, not 'tset'" in policy("tset", "x", status=2).stderr
    assert "takes no file but --sets" in policy("sets", "x", status=2).stderr
    (folder / "cases.yaml").write_text("cases: [{client: FR, pop: DE, expect: process}]")
    assert "which spec?" in policy("test", folder / "cases.yaml", status=2).stderr
    (folder / "digits.yaml").write_text(f"{SPEC}\n---\n{SPEC.replace('digits', 'others')}")
    both = ("test", folder / "cases.yaml", "--spec", folder / "digits.yaml")
    assert "holds 2 endpoints: say which" in policy(*both, status=2).stderr
    policy(*both, "--endpoint", "others")
    assert "no endpoint 'else'" in policy(*both, "--endpoint", "else", status=1).stderr
    missing = policy(*both[:2], "--spec", folder / "none.yaml", status=1).stderr
    assert "none.yaml" in missing and "No such file" in missing
    geo = policy(*both, "--endpoint", "others", "--geo", folder / "none.mmdb", status=1).stderr
    assert "none.mmdb" in geo and "No such file" in geo
