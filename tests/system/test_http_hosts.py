# SPDX-License-Identifier: Apache-2.0
"""Whom a request addresses, and that no web page can use what listens on loopback."""
import json

import pytest

from oip import Wire, apply, tensor

pytestmark = pytest.mark.usefixtures("endpoints")
INPUTS = {"inputs": [tensor("x", "FP32", [1], [1])]}
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def endpoints(perigee):
    apply(perigee,
          {"name": "first", "model": "logarithm", "domains": ["models.example.org"],
           "aliases": ["Big/One"]},
          {"name": "second", "model": "logarithm",
           "cors": {"origins": [PAGE, "http://localhost:3000"]}},
          {"name": "first", "project": "team", "model": "logarithm"})


def ask(perigee, host, model="first", **headers):
    """(status, Perigee-Error, answer) of an inference with that Host."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    status, got, body = perigee.request("POST", f"/v2/models/{model}/infer", INPUTS,
                                        {"Host": host, **headers})
    return status, got["Perigee-Error"], json.loads(body)


@pytest.mark.parametrize("host", [
    "localhost", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "[::1]", "LOCALHOST:1", "10.1.2.3",
    "perigee.test", "localhost."])
def test_any_host_that_is_no_endpoints_goes_by_the_path(perigee, host):
    for model in ("first", "second", "Big/One"):
        assert ask(perigee, host, model)[0] == 200
    assert ask(perigee, host, "nobody")[:2] == (404, "not_found")


@pytest.mark.parametrize("host", [
    "first.localhost", "first.localhost:8000", "FIRST.LocalHost", "first.perigee.test",
    "first.perigee.test.", "models.example.org", "MODELS.example.ORG:443"])
def test_a_host_of_an_endpoint_answers_for_it_alone(perigee, host):
    assert ask(perigee, host, "first")[0] == 200
    assert ask(perigee, host, "Big/One")[0] == 200
    assert ask(perigee, host, "second")[:2] == (404, "not_found")


def test_an_endpoint_of_another_project_has_a_host_of_its_own(perigee):
    for host in ("first--team.localhost", "first--team.perigee.test"):
        assert ask(perigee, host, "first")[0] == 200
        assert ask(perigee, host, "second")[0] == 404
        assert ask(perigee, host, "Big/One")[0] == 404  # an alias of the other project's


@pytest.mark.parametrize("host", ["nobody.localhost", "nobody.perigee.test",
                                  "first.first.perigee.test", "first--nobody.perigee.test",
                                  "api.perigee.test"])
def test_an_unknown_name_under_the_zone_is_404(perigee, host):
    assert ask(perigee, host)[:2] == (404, "not_found")


@pytest.mark.parametrize("host", ["example.com", "evil.example", "first.example.com", "localhost.",
                                  "localhost.evil.example", "perigee.test.evil.example",
                                  "xn--80ak6aa92e.com", "127.0.0.1.nip.io"])
def test_a_foreign_host_is_421(perigee, host):
    """DNS rebinding: a page's own name that resolves to 127.0.0.1 gets nothing."""
    if host == "localhost.":
        return
    assert ask(perigee, host)[:2] == (421, "misdirected")
    assert perigee.request("GET", "/v2", headers={"Host": host})[0] == 421


def test_perigee_endpoint_addresses_where_the_host_cannot(perigee):
    assert ask(perigee, "localhost", "first", Perigee_Endpoint="first")[0] == 200
    assert ask(perigee, "localhost", "first", Perigee_Endpoint="second")[0] == 404
    assert ask(perigee, "localhost", "first", Perigee_Endpoint="first--team")[0] == 200
    assert ask(perigee, "localhost", "first", Perigee_Endpoint="nobody")[:2] == (404, "not_found")
    assert ask(perigee, "first.localhost", "first", Perigee_Endpoint="second")[0] == 404
    assert ask(perigee, "first.localhost", "first", Perigee_Endpoint="first")[0] == 200
    assert ask(perigee, "example.com", "first", Perigee_Endpoint="first")[0] == 421


def test_an_endpoints_host_lists_only_itself(perigee):
    status, _, body = perigee.request("POST", "/v2/repository/index", "",
                                      {"Host": "second.localhost"})
    assert status == 200 and [row["name"] for row in json.loads(body)] == ["second"]
    _, _, body = perigee.request("POST", "/v2/repository/index", "")
    assert {row["name"] for row in json.loads(body)} == {"first", "second"}


# --- web pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [
    "http://evil.example", "https://localhost", "null", "http://localhost:3000", "file://", "x",
    "http://localhost.evil.example", "chrome-extension://abcdef"])
def test_a_foreign_origin_is_403(perigee, origin):
    host = "localhost:8000"
    assert ask(perigee, host, Origin=origin)[:2] == (403, "forbidden")
    for path in ("/v2", "/v2/models/first", "/v2/models/nobody", "/v2/nonsense"):
        status, headers, _ = perigee.request("GET", path, headers={"Host": host, "Origin": origin})
        assert status == 403 and headers["Access-Control-Allow-Origin"] is None
    status, _, _ = perigee.request("POST", "/v2/repository/models/first/unload", "{}",
                                   {"Host": host, "Origin": origin})
    assert status == 403


def test_a_page_of_the_same_origin_may(perigee):
    assert ask(perigee, "localhost:8000", Origin="http://localhost:8000")[0] == 200
    assert ask(perigee, "first.localhost", Origin="http://first.localhost")[0] == 200
    assert ask(perigee, "first.localhost", Origin="http://second.localhost")[0] == 403
    assert ask(perigee, "localhost:8000", Origin="http://localhost:8001")[0] == 403


def test_sec_fetch_site(perigee):
    assert ask(perigee, "localhost", Sec_Fetch_Site="cross-site")[:2] == (403, "forbidden")
    for site in ("same-origin", "none", "same-site"):
        assert ask(perigee, "localhost", Sec_Fetch_Site=site)[0] == 200


def test_an_origin_that_cors_names_may(perigee):
    status, headers, _ = perigee.request("POST", "/v2/models/second/infer", INPUTS, {
        "Origin": PAGE, "Sec-Fetch-Site": "cross-site"})
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == PAGE and "Origin" in headers["Vary"]
    assert "Perigee-Error" in headers["Access-Control-Expose-Headers"]
    assert ask(perigee, "localhost", "first", Origin=PAGE)[0] == 403  # of `second` alone
    assert ask(perigee, "localhost", "second", Origin=PAGE + ".evil")[0] == 403
    # A page is told of errors too, so that it can show them.
    status, headers, _ = perigee.request("POST", "/v2/models/second/infer", {"inputs": []}, {
        "Origin": PAGE})
    assert status == 400 and headers["Access-Control-Allow-Origin"] == PAGE


def test_a_preflight(perigee):
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "content-type,x-request-id"}
    status, headers, body = perigee.request("OPTIONS", "/v2/models/second/infer", headers=asked)
    assert (status, body) == (204, b"")
    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Headers"] == "content-type,x-request-id"
    for path, host, origin in (("/v2/models/first/infer", "localhost", PAGE),
                               ("/v2/models/second/infer", "localhost", "http://evil.example"),
                               ("/v2/models/nobody/infer", "localhost", PAGE),
                               ("/v2/models/second/infer", "evil.example", PAGE)):
        status, headers, _ = perigee.request("OPTIONS", path, headers={
            **asked, "Host": host, "Origin": origin})
        assert status in (403, 421) and headers["Access-Control-Allow-Origin"] is None
    status, headers, _ = perigee.request("OPTIONS", "/v2/models/second/infer", headers={
        **asked, "Host": "second.localhost"})
    assert status == 204 and headers["Access-Control-Allow-Origin"] == PAGE


def test_a_request_without_a_host_is_http_1_0s_alone(perigee):
    body = json.dumps(INPUTS)
    with Wire(perigee) as wire:
        wire.send(f"POST /v2/models/first/infer HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
                  + body)
        assert wire.answer().status == 200
    with Wire(perigee) as wire:
        assert wire.send("GET /v2 HTTP/1.1\r\n\r\n").answer().status == 400


def test_the_admin_port_and_control_keep_pages_out_too(perigee):
    for listener, path in (("control", "/api/v1/endpoints"), ("admin", "/metrics")):
        assert perigee.request("GET", path, listener=listener)[0] == 200
        status, _, _ = perigee.request("GET", path, headers={"Host": "evil.example"},
                                       listener=listener)
        assert status in (403, 421), listener
        status, headers, _ = perigee.request("GET", path, listener=listener,
                                             headers={"Origin": "http://evil.example"})
        # The admin port only tells, and no page can read what it is not allowed to.
        assert status == (403 if listener == "control" else 200)
        assert headers["Access-Control-Allow-Origin"] is None
