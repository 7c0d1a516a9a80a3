# SPDX-License-Identifier: Apache-2.0
"""Requests of the Open Inference Protocol from a seed, and what is in an answer."""
import json
import math
import random
import struct


def values(model, seed=7):
    """FP32 numbers whose 6 decimals give the same FP32 again."""
    source = random.Random(seed)
    span = model.high - model.low
    numbers = [round(model.low + span * source.random(), 6) for _ in range(math.prod(model.shape))]
    return struct.unpack(f"<{len(numbers)}f", struct.pack(f"<{len(numbers)}f", *numbers))


def packed(numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def body(model, form, numbers):
    """(body, headers) of an inference."""
    shape = json.dumps(list(model.shape))
    start = f'{{"inputs":[{{"name":"{model.tensor}","shape":{shape},"datatype":"FP32",'
    if form == "binary":
        head = (f'{start}"parameters":{{"binary_data_size":{len(numbers) * 4}}}}}],'
                '"parameters":{"binary_data_output":true}}').encode()
        return head + packed(numbers), {"Content-Type": "application/octet-stream",
                                        "Inference-Header-Content-Length": str(len(head))}
    digits = "%.6f" if form == "json" else "%.17g"
    data = ",".join(digits % number for number in numbers)
    return f'{start}"data":[{data}]}}]}}'.encode(), {"Content-Type": "application/json"}


def request(endpoint, model, form, numbers):
    """All bytes of a request, head and body."""
    content, headers = body(model, form, numbers)
    lines = [f"POST /v2/models/{endpoint}/infer HTTP/1.1", "Host: localhost",
             *(f"{name}: {value}" for name, value in headers.items()),
             f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def read_answer(stream):
    """(status, headers by small name, body) of one answer from a socket's file."""
    status = int(stream.readline().split()[1])
    headers = {}
    while (line := stream.readline().strip()):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, stream.read(int(headers.get("content-length", 0)))


def output(headers, content):
    """The FP32 numbers of an answer's first output of that datatype."""
    length = headers.get("inference-header-content-length")
    if length == "0":  # a file of measure.outputs()
        return struct.unpack(f"<{len(content) // 4}f", content)
    answer = json.loads(content[:int(length)] if length else content)
    at = int(length or 0)
    for row in answer["outputs"]:
        size = row.get("parameters", {}).get("binary_data_size", 0)
        if row.get("datatype", "FP32") == "FP32":
            break
        at += size
    if length:
        return struct.unpack(f"<{size // 4}f", content[at:at + size])
    found = row["data"]
    while found and isinstance(found[0], list):
        found = [number for row in found for number in row]
    return found


def same(numbers, wanted):
    """To what kernels of other blockings may differ in."""
    return len(numbers) == len(wanted) and all(
        math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5) for a, b in zip(numbers, wanted))
