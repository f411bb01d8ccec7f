"""The bodies of the API's answers, as OpenAPI describes them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from cover.datasets.names import Kind


class ErrorBody(BaseModel):
    """Why a request failed."""

    error: str = Field(description="One line: what is wrong, the rule, the remedy.")


class ClassProbability(BaseModel):
    """A class and its probability: among those of its head, or of its own if the head is one of `sigmoid_heads`."""

    class_name: str = Field(serialization_alias="class")
    probability: float


class PredictionBody(BaseModel):
    """The most probable classes of each requested head, the most probable first."""

    kind: Kind
    duration_seconds: float | None = Field(description="Of a video.")
    heads: dict[str, list[ClassProbability]]


class SegmentBody(BaseModel):
    """A time span in which a head sees one class; probability is the mean of the class in it."""

    start_seconds: float
    end_seconds: float
    class_name: str = Field(alias="class")
    probability: float


class TimelineBody(BaseModel):
    """What each head sees in a video, and when: its segments in order of time."""

    duration_seconds: float
    window_seconds: float
    stride_seconds: float
    heads: dict[str, list[SegmentBody]]


class SensitivityBody(BaseModel):
    """How another order of the frames changes a head's probabilities; probability is that of the explained class."""

    total_variation: float
    probability: float


class ExplanationBody(BaseModel):
    """What spoke for a class: pictures in base64, and each frame's share of the relevance."""

    kind: Kind
    head: str
    class_name: str = Field(serialization_alias="class")
    probability: float
    predicted: str
    times_seconds: list[float] | None
    relevance_of_frames: list[float]
    backwards: SensitivityBody | None
    frozen: SensitivityBody | None
    strip_png: str
    overlay_mp4: str | None = Field(description="Only for videos.")


class LimitsBody(BaseModel):
    """What one upload may take."""

    max_bytes: int
    max_seconds: float
    max_pixels: int


class HeadsBody(BaseModel):
    """The model: the classes of its heads in label order, and the limits of uploads."""

    run: str
    checkpoint: str
    heads: dict[str, list[str]]
    sigmoid_heads: list[str] = Field(description="Heads whose classes each have a probability of their own.")
    window_seconds: float = Field(description="The default length of a timeline's windows: that of training clips.")
    limits: LimitsBody


class SampleBody(BaseModel):
    """A sample to try. GET /samples/{number} gives its file; thumbnail is a JPEG as a data URI."""

    number: int
    name: str
    dataset: str | None = Field(description="The run's dataset that it belongs to; null for a file of `--samples`.")
    class_name: str | None = Field(serialization_alias="class", description="Its class in that dataset.")
    kind: Kind
    thumbnail: str


class HealthBody(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"
