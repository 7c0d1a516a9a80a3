#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled model and writes digits.onnx, held_out.npz and samples/*.png beside itself.

usage: tools/train-digits        (which has tools/setup make the Python environment)

The data are scikit-learn's 1,797 handwritten digits of 8 by 8 pixels (Alpaydin and Kaynak, UCI).
A stratified quarter is held out and never trained on: `held_out.npz` is that quarter.

The model is kernel logistic regression: the support vectors of an SVM are centres, a picture
becomes its Gaussian nearness to each, and one linear layer with softmax says how probable each
digit is. Standard operators, under 100 KB; the centres are bytes, as the pixels were.
"""
import json
import os
import pathlib

os.environ["OMP_NUM_THREADS"] = "1"  # the same file from each run: sums in one order
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402
from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics.pairwise import rbf_kernel  # noqa: E402
from sklearn.model_selection import cross_val_score, train_test_split  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
GAMMA = 0.002  # of exp(-GAMMA * distance^2), pixels from 0 to 16; chosen on the trained part alone
SIZE_MAX = 300_000

# How the pixels of a PNG or JPEG become numbers: grey, 8 by 8 by area averages, then white is 0
# and black is 16 (inverted, because the samples are ink on paper and the data are light on dark).
IMAGE = {"width": 8, "height": 8, "channels": 1, "layout": "flat", "range": [0, 16], "invert": True}


class KernelLogisticRegression(ClassifierMixin, BaseEstimator):
    def fit(self, images, labels):
        self.classes_ = np.unique(labels)
        machine = SVC(kernel="rbf", gamma=GAMMA, C=10).fit(images, labels)
        self.centres = machine.support_vectors_
        self.linear = LogisticRegression(C=100, max_iter=5000).fit(self.features(images), labels)
        return self

    def features(self, images):
        return rbf_kernel(images, self.centres, gamma=GAMMA)

    def predict(self, images):
        return self.linear.predict(self.features(images))


def export(model):
    """The trained model as ONNX, of standard operators alone."""
    centres = model.centres.astype(np.float32)
    # Rounded, so that the last bit of another machine's arithmetic does not change the file.
    weights = np.round(model.linear.coef_.T * 1024).astype(np.float32) / 1024
    bias = np.round(model.linear.intercept_ * 1024).astype(np.float32) / 1024
    constants = {
        "centres": centres.T.astype(np.uint8),
        "centres_squared": (centres ** 2).sum(axis=1, dtype=np.float32) * np.float32(-GAMMA),
        "two_gamma": np.float32(2 * GAMMA),
        "minus_gamma": np.float32(-GAMMA),
        "columns": np.array([1], np.int64),
        "weights": weights,
        "bias": bias,
    }
    nodes = [  # exp(-g|x - c|^2) = exp(2g x.c - g|x|^2 - g|c|^2)
        helper.make_node("Cast", ["centres"], ["centres_float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["image", "centres_float"], ["products"]),
        helper.make_node("Mul", ["products", "two_gamma"], ["scaled"]),
        helper.make_node("Mul", ["image", "image"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "columns"], ["squared"], keepdims=1),
        helper.make_node("Mul", ["squared", "minus_gamma"], ["image_squared"]),
        helper.make_node("Add", ["scaled", "centres_squared"], ["partial"]),
        helper.make_node("Add", ["partial", "image_squared"], ["exponents"]),
        helper.make_node("Exp", ["exponents"], ["nearness"]),
        helper.make_node("Gemm", ["nearness", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
         helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                             producer_name="perigee examples/digits")
    helper.set_model_props(made, {"perigee.image.image": json.dumps(IMAGE)})
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString(deterministic=True)


def pixels_to_input(picture):
    """What `perigee infer` does with a picture by the model's `perigee.image.image`."""
    small = picture.convert("L").resize((IMAGE["width"], IMAGE["height"]), Image.Resampling.BOX)
    low, high = IMAGE["range"]
    shares = np.asarray(small, np.float32) / 255
    return (low + (1 - shares) * (high - low)).reshape(1, 64).astype(np.float32)


def enlarge(image):
    """A picture of 64 by 64, ink on paper, whose area averages are near the 8 by 8 it came from."""
    grey = np.round(255 - image.reshape(8, 8) * 255 / 16).astype(np.uint8)
    return Image.fromarray(grey).resize((64, 64), Image.Resampling.BICUBIC)


def draw_seven():
    """A digit that is in nobody's data: three strokes of a pen."""
    picture = Image.new("L", (160, 160), 255)
    pen = ImageDraw.Draw(picture)
    pen.line([(42, 22), (118, 22), (66, 142)], fill=0, width=20, joint="curve")
    pen.line([(52, 82), (118, 82)], fill=0, width=14)
    return picture


def write_samples(session, images, labels):
    folder = HERE / "samples"
    folder.mkdir(exist_ok=True)
    samples = {"drawn-7": (7, draw_seven())}
    for digit in range(10):
        samples[f"digit-{digit}"] = (digit, enlarge(images[np.flatnonzero(labels == digit)[0]]))
    for name, (digit, picture) in samples.items():
        label, probabilities = session.run(None, {"image": pixels_to_input(picture)})
        print(f"  samples/{name}.png: {label[0]} ({probabilities[0][label[0]]:.3f})")
        assert label[0] == digit, f"the sample {name} is taken for {label[0]}"
        picture.save(folder / f"{name}.png", optimize=True)


def main():
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=.25, stratify=labels, random_state=0)
    model = KernelLogisticRegression().fit(train_x, train_y)
    data = export(model)
    assert len(data) < SIZE_MAX, f"digits.onnx would have {len(data)} bytes"

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    answered = session.run(["label"], {"image": test_x})[0]
    held_out = float((answered == test_y).mean())
    folds = cross_val_score(KernelLogisticRegression(), images, labels, cv=5)
    print(f"trained on {len(train_y)}, {len(model.centres)} centres, {len(data)} bytes")
    print(f"accuracy on the {len(test_y)} held out: {held_out:.4f}")
    print(f"mean of 5-fold cross-validation: {folds.mean():.4f} "
          f"({', '.join(f'{fold:.4f}' for fold in folds)})")
    assert held_out >= 0.97

    write_samples(session, test_x, test_y)
    (HERE / "digits.onnx").write_bytes(data)
    np.savez_compressed(HERE / "held_out.npz", image=test_x.astype(np.uint8),
                        label=test_y.astype(np.uint8))


if __name__ == "__main__":
    main()
