# SPDX-License-Identifier: Apache-2.0
"""`batch: {max, delay}` through the gateway: right answers under load, statistics as Triton's."""
import concurrent.futures

import pytest

from oip import apply, ask, tensor
from perigee import DIGITS
from test_gateway_load import Load, wait_quiet


@pytest.fixture(scope="module")
def batching(perigee):
    model = DIGITS / "digits.onnx"
    apply(perigee, {"name": "together", "model": model, "batch": {"max": 16}},
          {"name": "patient", "model": model, "batch": {"max": 4, "delay": "1s"}},
          {"name": "single", "model": model})
    return perigee


def stats(perigee, endpoint):
    return perigee.get_json(f"/v2/models/{endpoint}/stats")["model_stats"][0]


def rows_of_runs(row):
    return sum(size["batch_size"] * size["compute_infer"]["count"] for size in row["batch_stats"])


def test_under_load_answers_are_right_and_runs_add_up(batching):
    with Load(batching, "together", 24) as load:
        load.wait(40)
    assert load.wrong == [] and load.failed == []
    wait_quiet(batching, "together")
    row = stats(batching, "together")
    assert row["inference_stats"]["success"]["count"] == sum(load.done) + 1
    # The load's first request is all images, and the last size counted is "128 or more".
    assert row["inference_count"] - len(load.images) == rows_of_runs(row) - 128
    assert row["execution_count"] == sum(
        size["compute_infer"]["count"] for size in row["batch_stats"])
    assert row["execution_count"] < sum(load.done)
    for size in row["batch_stats"]:
        assert size["compute_input"]["count"] == size["compute_infer"]["count"] > 0
        assert size["compute_infer"]["ns"] > 0
        assert size["batch_size"] <= 16 or size["batch_size"] == 128
    assert batching.metric("perigee_tensor_copied_bytes_total", endpoint="together") > 0
    assert batching.metric("perigee_tensor_copied_bytes_total", endpoint="single") == 0


def test_requests_wait_for_each_other_until_the_batch_is_full(batching):
    """Four at once of one row each: where they meet in one run, one run is what is counted."""
    image = tensor("image", "FP32", [1, 64], [8.0] * 64)
    alone = ask(batching, "single", image)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(lambda _: ask(batching, "patient", image), range(4)))
            assert all(one == alone for one in found)
    row = stats(batching, "patient")
    assert row["inference_count"] == rows_of_runs(row) == 20
    assert row["execution_count"] < 20


def test_the_configuration_says_so(batching):
    config = batching.get_json("/v2/models/together/config")
    assert config["max_batch_size"] == 16 and "dynamic_batching" in config
    assert "dynamic_batching" not in batching.get_json("/v2/models/single/config")
    spec = batching.json("show", "together")["spec"]
    assert spec["batch"] == {"max": 16}


def test_another_batch_is_another_revision(batching):
    batching.cli("apply", "-f", "-", stdin=(
        b"name: single\nmodel: %s\nbatch: {max: 2, delay: 1ms}\n" % bytes(DIGITS / "digits.onnx")))
    shown = batching.json("show", "single")
    assert shown["spec"]["batch"] == {"max": 2, "delay": "1ms"}
    assert batching.get_json("/v2/models/single/config")["max_batch_size"] == 2
    assert batching.get_json("/v2/models/single")["versions"] == ["1", "2"]
