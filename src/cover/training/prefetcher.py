"""Batches on their way to the device, beside what it computes.

    computing   | forward, backward, step n          | forward, backward, step n + 1
    copying                     | batch n + 1 |                   | batch n + 2 |

The host is ahead of the GPU: it asks for the next batch while the step before is still computed. On the stream of the
computation a copy would have to wait for the end of that.
"""

from __future__ import annotations

import torch

from cover.core.batch import MixedBatch


class Prefetcher:
    """Puts batches on a device; on a GPU by a stream of its own, for which they should lie in page-locked memory.

    stream: that of the copies; None where there is no GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: MixedBatch) -> MixedBatch:
        """The batch on the device; what is computed with it from here on waits for the copy, the host does not."""
        if self.stream is None:
            return batch.to(self.device)
        with torch.cuda.stream(self.stream):
            uploaded = batch.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.stream)
        uploaded.record_stream(computing)
        return uploaded
