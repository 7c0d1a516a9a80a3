# SPDX-License-Identifier: Apache-2.0
"""Every call of the protocol but infer: server, model, statistics, repository, what is refused."""
import json

import numpy as np
import pytest
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from oip import Wire, apply, ask, infer, refused, tensor, triton
from perigee import DIGITS

pytestmark = pytest.mark.usefixtures("endpoints")


@pytest.fixture(scope="module")
def endpoints(perigee):
    """`many` has two revisions; `counted` is for statistics, `halted` for load."""
    apply(perigee, {"name": "many", "model": "many", "aliases": ["Team/Many_v1.2"]},
          {"name": "counted", "model": "logarithm"},
          {"name": "halted", "model": "logarithm"},
          {"name": "digits", "model": DIGITS / "digits.onnx"})
    apply(perigee, {"name": "many", "model": "many", "flavor": {"memory": "256MiB"},
                    "aliases": ["Team/Many_v1.2"]})


@pytest.fixture(scope="module")
def client(perigee):
    with triton(perigee) as client:
        yield client


def failing(perigee, method, path, body=None, status=404):
    """An error in OIP's form: its text, and its headers."""
    got, headers, answer = perigee.request(method, path, body)
    assert got == status, answer
    assert headers["Content-Type"].startswith("application/json")
    said = json.loads(answer)
    assert list(said) == ["error"]
    return said["error"], headers


# --- the server ----------------------------------------------------------------------------------


def test_server_is_live_and_ready(client, perigee):
    assert client.is_server_live() and client.is_server_ready()
    assert perigee.get_json("/v2/health/live") == {"live": True}
    assert perigee.get_json("/v2/health/ready") == {"ready": True}


def test_server_metadata_names_only_what_is_true(client):
    found = client.get_server_metadata()
    assert found["name"] == "perigee" and found["version"]
    assert {"binary_tensor_data", "classification", "model_repository", "model_configuration",
            "statistics"} <= set(found["extensions"])
    for absent in ("trace", "logging", "system_shared_memory", "cuda_shared_memory", "sequence",
                   "schedule_policy"):
        assert not any(absent in extension for extension in found["extensions"])


def test_v2_may_end_with_a_slash(perigee):
    assert perigee.get_json("/v2/") == perigee.get_json("/v2")


# --- models --------------------------------------------------------------------------------------


def test_model_metadata(client):
    found = client.get_model_metadata("many")
    assert found["name"] == "many" and found["versions"] == ["1", "2"]
    assert found["platform"] == "onnxruntime_onnx"
    assert found["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "b", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "scale", "datatype": "FP32", "shape": []},
        {"name": "flag", "datatype": "BOOL", "shape": [2]},
        {"name": "words", "datatype": "BYTES", "shape": [-1]}]
    assert found["outputs"] == [
        {"name": "sum", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "inverse", "datatype": "BOOL", "shape": [2]},
        {"name": "same", "datatype": "BYTES", "shape": [-1]},
        {"name": "total", "datatype": "FP32", "shape": []}]
    assert client.get_model_metadata("many", "1") == found
    assert client.get_model_metadata("many", "2") == found


def test_the_digits_model_is_as_promised(client):
    found = client.get_model_metadata("digits")
    assert found["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}]
    assert found["outputs"] == [{"name": "label", "datatype": "INT64", "shape": [-1]},
                                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]


def test_model_ready_with_and_without_a_version(client):
    assert client.is_model_ready("many") and client.is_model_ready("many", "2")
    assert not client.is_model_ready("nobody") and not client.is_model_ready("many", "7")


def test_model_config(client):
    found = client.get_model_config("many")
    assert found["name"] == "many" and found["max_batch_size"] == 0
    assert found["backend"] == "onnxruntime"
    assert found["input"][0]["data_type"] == "TYPE_FP32" and found["input"][0]["dims"] == [-1, 3]
    assert found["input"][4]["data_type"] == "TYPE_STRING"
    assert client.get_model_config("many", "1") == found


def test_an_alias_is_a_name_of_the_model(client, perigee):
    assert client.get_model_metadata("Team/Many_v1.2")["versions"] == ["1", "2"]
    for path in ("Team/Many_v1.2", "Team%2FMany_v1.2", "%54eam/Many%5Fv1.2"):
        assert perigee.get_json(f"/v2/models/{path}/ready")["ready"] is True
        assert perigee.get_json(f"/v2/models/{path}/versions/1")["name"] == "many"


@pytest.mark.parametrize("path", [
    "/v2/models/nobody", "/v2/models/nobody/ready", "/v2/models/nobody/config",
    "/v2/models/nobody/stats", "/v2/models/nobody/versions/1", "/v2/models/many/versions/7",
    "/v2/models/many/versions/7/ready", "/v2/models/many/versions/7/config",
    "/v2/models/many/versions/7/stats", "/v2/models/many/versions/0",
    "/v2/models/many/versions/one", "/v2/models/many/versions/-1",
    "/v2/models/many/versions/99999999999999999999", "/v2/models/many/versions/4294967297",
    "/v2/models/many/versions/1/nonsense", "/v2/nonsense", "/v3", "/", "/v2/models", "/v2//health"])
def test_an_unknown_model_version_or_path_is_404(perigee, path):
    said, headers = failing(perigee, "GET", path)
    assert said and headers["Perigee-Error"] == "not_found"


def test_inference_of_an_unknown_model_or_version_is_404(perigee):
    for path in ("nobody/infer", "many/versions/7/infer", "nobody/versions/1/infer"):
        said, _ = failing(perigee, "POST", f"/v2/models/{path}", {"inputs": []})
        assert path.split("/")[0] in said


def test_a_version_answers_for_itself(client):
    given = triton_http.InferInput("image", [1, 64], "FP32")
    given.set_data_from_numpy(np.zeros((1, 64), np.float32))
    assert client.infer("digits", [given], "1").get_response()["model_version"] == "1"
    assert client.infer("digits", [given]).get_response()["model_version"] == "1"


# --- statistics ----------------------------------------------------------------------------------


def stats_of(client, name, version=""):
    rows = client.get_inference_statistics(name, version)["model_stats"]
    return {row["version"]: row for row in rows}


def test_statistics_count_what_was_done(client, perigee):
    before = stats_of(client, "counted", "1")["1"]
    for _ in range(3):
        ask(perigee, "counted", tensor("x", "FP32", [4], [1, 2, 3, 4]))
    refused(perigee, "counted", [tensor("x", "FP32", [4], [1])])
    after = stats_of(client, "counted", "1")["1"]
    assert after["name"] == "counted" and after["last_inference"] > 1_700_000_000_000
    assert after["inference_count"] - before["inference_count"] == 12  # rows, as Triton counts
    assert 1 <= after["execution_count"] - before["execution_count"] <= 3
    for phase, count in (("success", 3), ("fail", 1), ("queue", 3), ("compute_infer", 3)):
        grown = (after["inference_stats"][phase]["count"]
                 - before["inference_stats"][phase]["count"])
        assert grown == count, phase
    assert after["inference_stats"]["compute_infer"]["ns"] > 0
    assert after["batch_stats"]


def test_statistics_of_all_models(client):
    found = {(row["name"], row["version"])
             for row in client.get_inference_statistics()["model_stats"]}
    assert {("many", "1"), ("many", "2"), ("counted", "1"), ("digits", "1")} <= found
    assert set(stats_of(client, "many")) == {"1", "2"}
    assert set(stats_of(client, "many", "2")) == {"2"}


# --- the repository ------------------------------------------------------------------------------


def test_the_repository_lists_endpoints(client, perigee):
    rows = {row["name"]: row for row in client.get_model_repository_index()}
    assert set(rows) == {"many", "counted", "halted", "digits"}
    assert rows["many"]["version"] == "2" and rows["many"]["state"] == "READY"
    status, _, answer = perigee.request("POST", "/v2/repository/index", {"ready": True})
    assert status == 200 and "digits" in {row["name"] for row in json.loads(answer)}


def test_what_has_never_served_is_not_ready(client, perigee, scratch):
    (scratch / "model.onnx").write_bytes(b"no model")
    perigee.cli("deploy", "never", "--model", scratch / "model.onnx", status=1)
    assert not client.is_model_ready("never") and not client.is_model_ready("never", "1")
    row = next(row for row in client.get_model_repository_index() if row["name"] == "never")
    assert row["state"] == "UNAVAILABLE" and "rotobuf" in row["reason"]
    perigee.cli("delete", "never", "--yes")


def test_unload_stops_and_load_starts(client, perigee):
    sent = [tensor("x", "FP32", [1], [1])]
    assert infer(perigee, "halted", sent)[0] == 200
    client.unload_model("halted")
    assert not client.is_model_ready("halted")
    row = next(row for row in client.get_model_repository_index() if row["name"] == "halted")
    assert row["state"] == "UNAVAILABLE"
    status, headers, answer = infer(perigee, "halted", sent)
    assert (status, headers["Perigee-Error"]) == (503, "stopped") and "stopped" in answer["error"]
    assert headers["Retry-After"] is None
    assert perigee.json("show", "halted")["state"] == "stopped"
    client.unload_model("halted")  # the same again changes nothing
    client.load_model("halted")
    assert client.is_model_ready("halted")
    assert infer(perigee, "halted", sent)[0] == 200
    client.load_model("halted")
    client.unload_model("halted", unload_dependents=True)
    client.load_model("halted")


def test_a_load_in_vain_says_why(client, perigee, scratch):
    (scratch / "model.onnx").write_bytes(b"no model")
    perigee.cli("deploy", "broken", "--model", scratch / "model.onnx", status=None)
    client.unload_model("broken")
    with pytest.raises(InferenceServerException, match="(?i)protobuf") as caught:
        client.load_model("broken")
    assert caught.value.status() == "412"
    perigee.cli("delete", "broken", "--yes")


def test_load_refuses_to_override(client, perigee):
    for extra in ({"config": '{"max_batch_size": 4}'},
                  {"config": "{}", "files": {"file:1/model.onnx": b"x"}}):
        with pytest.raises((InferenceServerException, TypeError)) as caught:
            client.load_model("halted", **extra)
        if caught.type is InferenceServerException:  # its own JSON cannot hold bytes
            assert caught.value.status() == "501"
    said, headers = failing(perigee, "POST", "/v2/repository/models/halted/load",
                            {"parameters": {"file:1/model.onnx": "eA=="}}, 501)
    assert headers["Perigee-Error"] == "not_supported" and "file:1/model.onnx" in said


@pytest.mark.parametrize("call", ["load", "unload"])
def test_load_and_unload_of_what_there_is_not(perigee, call):
    assert "nobody" in failing(perigee, "POST", f"/v2/repository/models/nobody/{call}", {})[0]
    failing(perigee, "POST", f"/v2/repository/models/halted/{call}", "[nonsense", 400)


# --- what there is not ---------------------------------------------------------------------------


@pytest.mark.parametrize("method,path", [
    ("GET", "/v2/trace/setting"), ("POST", "/v2/trace/setting"),
    ("GET", "/v2/models/many/trace/setting"), ("POST", "/v2/models/many/trace/setting"),
    ("GET", "/v2/logging"), ("POST", "/v2/logging"),
    ("POST", "/v2/systemsharedmemory/region/r/register"),
    ("POST", "/v2/systemsharedmemory/region/r/unregister"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("POST", "/v2/cudasharedmemory/region/r/register"),
    ("POST", "/v2/cudasharedmemory/unregister"), ("POST", "/v2/models/many/generate"),
    ("POST", "/v2/models/many/generate_stream")])
def test_extensions_that_are_not_there_answer_501(perigee, method, path):
    _, headers = failing(perigee, method, path, "{}" if method == "POST" else None, 501)
    assert headers["Perigee-Error"] == "not_supported"


def test_what_is_not_there_writes_no_lines(perigee):
    """Whoever asks for it could fill the disk: what a request writes is written before the next
    one of its connection is answered."""
    with Wire(perigee) as wire:
        for _ in range(3):
            assert wire.send("GET /v2/logging?seen=never HTTP/1.1\r\nHost: localhost\r\n"
                             "X-Request-Id: never-seen\r\n\r\n").answer().status == 501
    assert "never-seen" not in perigee.log.read_text()


def test_tritonclient_sees_no_trace_log_or_shared_memory(client):
    for call, arguments in ((client.get_trace_settings, ()), (client.get_log_settings, ()),
                            (client.update_log_settings, ({"log_info": True},)),
                            (client.update_trace_settings, ()),
                            (client.register_system_shared_memory, ("r", "/r", 64)),
                            (client.unregister_system_shared_memory, ("r",)),
                            (client.unregister_cuda_shared_memory, ())):
        with pytest.raises(InferenceServerException) as caught:
            call(*arguments)
        assert caught.value.status() == "501", call
    assert client.get_system_shared_memory_status() == []
    assert client.get_cuda_shared_memory_status() == []
    assert client.get_system_shared_memory_status("r") == []


def test_an_input_in_shared_memory_is_refused(client):
    given = triton_http.InferInput("image", [1, 64], "FP32")
    given.set_shared_memory("r", 256)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("digits", [given])
    assert caught.value.status() == "501" and "shared_memory" in caught.value.message()
