"""Peak memory and speed of a timeline over a short and a long 1080p video.

    python benchmarks/timeline.py [--minutes 30] [--variant timesformer_tiny --image-size 112]

Ten seconds of H.264 are made on the spot, and repeated packet by packet to each length. Each length is a process of
its own. The claim: the peak does not depend on the length, and stays below 2 GB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from results import write_results

FPS, PART_SECONDS = 25, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--variant", default="timesformer_tiny")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.variant, options.image_size)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        part = write_part(Path(folder) / "part.mp4")
        for minutes in (min(1.0, options.minutes / 2), options.minutes):
            video = repeat(part, Path(folder) / "long.mp4", round(60 * minutes / PART_SECONDS))
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", str(video)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            peak_gb, speed = map(float, output.split())
            peaks.append(peak_gb)
            print(f"{minutes:g} min, {video.stat().st_size / 1e6:.0f} MB: peak {peak_gb:.2f} GB, ", end="")
            print(f"{speed:.1f} times as fast as it is played", flush=True)
    write_results(options.json, {"peak memory: long ÷ short": peaks[1] / peaks[0]})


def measure(video: Path, variant: str, image_size: int) -> None:
    """Print the peak memory in GB and the speed of one file's timeline, in a process that has done nothing else."""
    import torch

    import cover
    from cover.inference.timeline import find_timeline
    from cover.inference.windows import WindowFormat

    heads = {"k400": [f"class {number}" for number in range(400)]}
    model = cover.create_model(variant, num_frames=8, image_size=image_size, heads=heads).eval()
    window = WindowFormat(8, image_size, window_seconds=4.0, stride_seconds=1.0)
    started = time.perf_counter()
    with torch.inference_mode():
        timeline = find_timeline(model.predict, video, class_names=heads, window=window)
    seconds = time.perf_counter() - started
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(peak_gb, timeline.duration_seconds / seconds)


def write_part(path: Path) -> Path:
    """Noise that drifts, so that frames are neither alike nor easy to decode."""
    texture = np.random.default_rng(0).integers(0, 255, (135, 480, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for index in range(FPS * PART_SECONDS):
            left = 2 * index
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, left : left + 1920]))
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def repeat(part: Path, path: Path, times: int) -> Path:
    """The part so many times in a row; nothing is encoded anew."""
    with av.open(str(path), "w") as long:
        stream = None
        for number in range(times):
            with av.open(str(part)) as container:
                source = container.streams.video[0]
                stream = stream or long.add_stream_from_template(source)
                assert source.time_base is not None
                shift = int(number * PART_SECONDS / source.time_base)
                for packet in container.demux(source):
                    if packet.dts is not None and packet.pts is not None:
                        packet.stream, packet.dts, packet.pts = stream, packet.dts + shift, packet.pts + shift
                        long.mux(packet)
    return path


if __name__ == "__main__":
    main()
