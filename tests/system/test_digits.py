# SPDX-License-Identifier: Apache-2.0
"""The bundled model through its endpoint, as its README promises."""
import json

import numpy as np
import pytest

from perigee import DIGITS

pytestmark = pytest.mark.smoke


def infer(perigee, endpoint, images):
    body = {"inputs": [{"name": "image", "shape": list(images.shape), "datatype": "FP32",
                        "data": images.ravel().tolist()}]}
    status, headers, answer = perigee.request("POST", f"/v2/models/{endpoint}/infer", body)
    assert status == 200, answer
    outputs = {row["name"]: row for row in json.loads(answer)["outputs"]}
    return headers, {name: np.array(row["data"]).reshape(row["shape"])
                     for name, row in outputs.items()}


def test_at_least_97_percent_of_the_held_out_quarter_are_right(perigee, digits):
    held_out = np.load(DIGITS / "held_out.npz")
    images, labels = held_out["image"].astype(np.float32), held_out["label"]
    assert images.shape == (450, 64)
    right = 0
    for begin in range(0, len(labels), 50):
        _, outputs = infer(perigee, digits, images[begin:begin + 50])
        right += int((outputs["label"] == labels[begin:begin + 50]).sum())
        assert np.allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-5)
    print(f"accuracy through the endpoint: {right / len(labels):.4f}")
    assert right / len(labels) >= 0.97


def test_the_answer_says_how_long_it_took_and_who_gave_it(perigee, digits):
    headers, _ = infer(perigee, digits, np.zeros((1, 64), np.float32))
    assert "infer;dur=" in headers["Server-Timing"]
    assert len(headers["X-Request-Id"]) == 16


@pytest.mark.parametrize("name", sorted(path.stem for path in (DIGITS / "samples").glob("*.png")))
def test_each_sample_picture_is_read_right(perigee, digits, name):
    answer = perigee.json("infer", digits, "--input", f"image={DIGITS / 'samples' / name}.png")
    outputs = {row["name"]: row["data"] for row in answer["outputs"]}
    assert outputs["label"] == [int(name[-1])]
