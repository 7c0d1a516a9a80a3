# SPDX-License-Identifier: Apache-2.0
"""One measurement: a server, a request, so many connections, so many seconds."""
import json
import os
import subprocess

from harness import models, processes


def run_json(command, cpus=None):
    """A program's one line of JSON; on `cpus` alone where told."""
    if cpus:
        command = ["taskset", "-c", ",".join(map(str, cpus)), *command]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def finish(figures):
    figures["rps"] = figures["requests"] / figures["seconds"]
    if not figures["requests"]:
        raise SystemExit("bench: a measurement is too short for one request: give more --seconds")
    return figures


def in_process(model_path, input_file, callers, seconds, cpus):
    return finish(run_json([models.program("bench_inprocess"), models.LIBRARY, model_path,
                            input_file, callers, seconds], cpus))


def outputs(model_path, input_file, output_file):
    """What ONNX Runtime itself gives for an input."""
    run_json([models.program("bench_inprocess"), models.LIBRARY, model_path, input_file, 1, 0.001,
              output_file])


def served(server, request_file, connections, seconds, cpus):
    """Figures of the load, and the CPU time of all the server's processes for each request."""
    pids = server.pids()
    processes.pin(pids, cpus or set(range(os.cpu_count())))
    before = processes.cpu_ns(pids)
    figures = run_json([models.program("bench_load"), "127.0.0.1", server.port, connections,
                        seconds, request_file], cpus)
    figures["cpu_us"] = (processes.cpu_ns(pids) - before) / 1000 / max(figures["served"], 1)
    if figures["errors"]:
        raise SystemExit(f"bench: {figures['errors']} of {figures['served']} answers of port "
                         f"{server.port} are no 200")
    return finish(figures)
