"""How many requests `cover serve` answers, how fast, and whether damaged files harm it.

    python benchmarks/serve.py                   # the quick demo's model with untrained weights
    python benchmarks/serve.py runs/cotrain      # a trained run

Starts the server. One client sends a video and an image again and again, while the machine is idle and while another
process uses one core, which takes turns; `queue` is the wait for the model, `other` is HTTP, the form and threads. Then
50 clients send 20 samples of the run's datasets each, and one sends 200 damaged files. A client that is told 429 comes
again when it was told to. Fails where a request gets a 5xx or no answer, the server dies, or something is left in the
temporary folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Column, Table

from fresh_run import write_run
from results import Ratios, write_results

REQUESTS_A_TURN = 5


@contextmanager
def server(run: Path, folder: Path) -> Iterator[str]:
    """The address of a server whose temporary files are in `folder`."""
    command = [sys.executable, "-m", "cover.cli", "serve", str(run), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(folder)}
    ) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if " at http" in line)
        yield line.split(" at ")[1].split(";")[0]
        assert server.poll() is None, "the server has died"
        assert not [path for kept in folder.glob("cover-serve-*") for path in kept.iterdir()], "an upload was kept"
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert not list(folder.glob("cover-serve-*"))


def samples_of(address: str) -> dict[str, list[bytes]]:
    """Files by their kind."""
    files: dict[str, list[bytes]] = {}
    for sample in httpx.get(f"{address}/samples").json():
        files.setdefault(sample["kind"], []).append(httpx.get(f"{address}/samples/{sample['number']}").content)
    return files


@contextmanager
def busy_core(is_busy: bool) -> Iterator[None]:
    """Use a core within the block, if `is_busy`."""
    if not is_busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        yield
        process.kill()


def stage_seconds(client: httpx.Client) -> dict[str, float]:
    """The server's total seconds of each stage; `asked` is the model with the wait for it."""
    sums = {
        (sample.name.removeprefix("cover_").removesuffix("_seconds_sum"), sample.labels.get("stage")): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    keys = {
        "upload": ("stage", "upload"),
        "decode": ("stage", "decode"),
        "model": ("pass", None),
        "asked": ("stage", "model"),
    }
    return {stage: sums.get(key, 0.0) for stage, key in keys.items()}


def latency(address: str, files: dict[str, list[bytes]], rounds: int) -> Ratios:
    """Print where the time of one client's requests goes, in means; how much longer they take beside a busy process."""
    seconds: dict[tuple[str, str], list[dict[str, float]]] = {}
    with httpx.Client(base_url=address, timeout=120) as client:
        for kind, number, is_busy in product(files, range(rounds + 1), (False, True)):
            with busy_core(is_busy):
                before, totals = stage_seconds(client), list[float]()
                for _ in range(REQUESTS_A_TURN):
                    started = time.perf_counter()
                    client.post("/predict", files={"file": files[kind][0]}).raise_for_status()
                    totals.append(time.perf_counter() - started)
                after = stage_seconds(client)
            turn = {stage: (after[stage] - before[stage]) / REQUESTS_A_TURN for stage in before}
            turn |= {"total": float(np.mean(totals)), "slowest": max(totals)}
            turn["queue"] = turn["asked"] - turn["model"]
            turn["other"] = turn["total"] - turn["upload"] - turn["decode"] - turn["asked"]
            if number:  # the first round starts processes and threads
                seconds.setdefault((kind, "busy" if is_busy else "idle"), []).append(turn)
    columns = ("upload", "decode", "queue", "model", "other", "total", "slowest")
    table = Table("ms", "", *(Column(name, justify="right") for name in columns))
    for key, turns in seconds.items():
        values = {name: [turn[name] for turn in turns] for name in columns}
        means = [np.mean(values[name]) if name != "slowest" else max(values[name]) for name in columns]
        table.add_row(*key, *(f"{1e3 * value:.1f}" for value in means))
    Console(width=110).print(table)
    total = {key: float(np.mean([turn["total"] for turn in turns])) for key, turns in seconds.items()}
    return {f"{kind}: busy ÷ idle": total[kind, "busy"] / total[kind, "idle"] for kind in files}


def load(address: str, files: list[bytes], num_clients: int, num_requests: int) -> None:
    """Print the rate, and the seconds from when a client first asked until it had its answer."""
    statuses, seconds = Counter[int](), list[float]()

    def ask(client_number: int) -> None:
        with httpx.Client(base_url=address, timeout=120) as client:
            for request in range(num_requests):
                file = files[(client_number + request) % len(files)]
                began = time.perf_counter()
                while True:
                    answer = client.post("/predict", files={"file": file})
                    statuses[answer.status_code] += 1
                    if answer.status_code != 429:
                        seconds.append(time.perf_counter() - began)
                        break
                    time.sleep(float(answer.headers["Retry-After"]))

    began = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as pool:
        list(pool.map(ask, range(num_clients)))
    rate = len(seconds) / (time.perf_counter() - began)
    median, late, last = np.quantile(seconds, [0.5, 0.95, 1])
    print(f"{num_clients} clients × {num_requests} requests: statuses {dict(statuses)}")
    print(f"{rate:.1f} answers/s; p50 {median:.1f} s, p95 {late:.1f} s, the last {last:.1f} s")
    assert set(statuses) <= {200, 429}


def damaged(files: list[bytes], rng: np.random.Generator) -> bytes:
    """One of `files`, and something is wrong with it."""
    data, other = (bytearray(files[index]) for index in rng.integers(len(files), size=2))
    place = int(rng.integers(min(len(data), 1024) if rng.random() < 0.5 else len(data)))
    match rng.integers(5):
        case 0:
            del data[place:]
        case 1:
            data[place : place + 4] = b"\xff\xff\xff\xff" if rng.random() < 0.5 else b"\x7f\xff\xff\xff"
        case 2:
            data[place : place + 200] = rng.bytes(200)
        case 3:
            data[place:place] = other
        case _:
            data = other[:place] + data
    return bytes(data)


def hostility(address: str, files: list[bytes], num_damaged: int) -> None:
    """Print what becomes of damaged files, sent to each of the three questions in turn."""
    rng, statuses = np.random.default_rng(0), Counter[int]()
    head = next(iter(httpx.get(f"{address}/heads").json()["heads"]))
    with httpx.Client(base_url=address, timeout=120) as client:
        for number in range(num_damaged):
            path = ("/predict", "/timeline", f"/explain?head={head}")[number % 3]
            answer = client.post(path, files={"file": (f"../../{number}.mp4", damaged(files, rng))})
            statuses[answer.status_code] += 1
            assert answer.is_success or list(answer.json()) == ["error"]
    print(f"{num_damaged} damaged files: statuses {dict(sorted(statuses.items()))}")
    assert max(statuses) < 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="by default an untrained one")
    parser.add_argument("--rounds", type=int, default=10, help=f"of {REQUESTS_A_TURN} requests, idle and busy")
    parser.add_argument("--clients", type=int, default=50, help="clients at the same time")
    parser.add_argument("--requests", type=int, default=20, help="of each client, one after the other")
    parser.add_argument("--damaged", type=int, default=200, help="damaged files")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or write_run(Path(folder, "made"))
        uploads = Path(folder, "uploads")
        uploads.mkdir()
        with server(run, uploads) as address:
            by_kind = samples_of(address)
            ratios = latency(address, by_kind, arguments.rounds)
            files = [file for kind in by_kind.values() for file in kind]
            load(address, files, arguments.clients, arguments.requests)
            hostility(address, files, arguments.damaged)
    write_results(arguments.json, ratios)


if __name__ == "__main__":
    main()
