"""Makes what lies beside this file: a run of the version before the code was moved, with its data.

cd tests/runs/old_run; python make.py; cover index folder clips --kind video --out manifests
cover train recipe.toml --out run
"""

from pathlib import Path

import av
import numpy as np

for number in range(6):
    file = Path("clips", "train" if number < 4 else "val", ("left", "right")[number % 2], f"{number}.mp4")
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width = stream.height = 32
        for step in range(4):
            frame = np.zeros((32, 32, 3), np.uint8)
            frame[:, 8 * step if number % 2 else 24 - 8 * step :][:, :8] = 40 * number + 50
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
