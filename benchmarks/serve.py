"""How many requests `cover serve` answers, how fast, and whether damaged files harm it.

    python benchmarks/serve.py runs/cotrain

Starts the server, lets 50 clients send 20 samples of the run's datasets each, then sends 200 damaged files. A client
that is told 429 comes again when it was told to. Fails where a request gets a 5xx or no answer, the server dies, or
something is left in the temporary folder.
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
from pathlib import Path

import httpx
import numpy as np

from results import write_results


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


def samples_of(address: str) -> list[bytes]:
    samples = httpx.get(f"{address}/samples").json()
    return [httpx.get(f"{address}/samples/{sample['number']}").content for sample in samples]


def load(address: str, files: list[bytes], num_clients: int, num_requests: int) -> dict[str, float]:
    """Print the rate, and the seconds from when a client first asked until it had its answer; the ratios."""
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
    return {"answers under load: p95 ÷ p50": float(late / median)}


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
    parser.add_argument("run", type=Path)
    parser.add_argument("--clients", type=int, default=50, help="clients at the same time")
    parser.add_argument("--requests", type=int, default=20, help="of each client, one after the other")
    parser.add_argument("--damaged", type=int, default=200, help="damaged files")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(arguments.run, Path(folder)) as address:
        files = samples_of(address)
        ratios = load(address, files, arguments.clients, arguments.requests)
        hostility(address, files, arguments.damaged)
    write_results(arguments.json, ratios)


if __name__ == "__main__":
    main()
