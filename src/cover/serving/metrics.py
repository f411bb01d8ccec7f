"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_CLIPS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Of one server: a registry of its own, so that two of them in a process do not add up."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("cover_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram("cover_request_seconds", "From head to end of an answer.", ["path"], registry=registry)
        self.waiting = Gauge("cover_uploads_waiting", "Uploads that wait for their turn.", registry=registry)
        self.in_progress = Gauge("cover_uploads_in_progress", "Uploads not answered yet.", registry=registry)
        self.batch_clips = Histogram("cover_batch_clips", "Clips a forward pass.", buckets=_CLIPS, registry=registry)

    def text(self) -> str:
        """All of them, in the text format."""
        return generate_latest(self._registry).decode()
