"""The HTTP API and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from cover import __version__
from cover.errors import CoverError, DecodeError
from cover.serving.admission import PAGE_FILES, AdmissionControl, AdmissionPolicy, Metrics
from cover.serving.limits import UploadRejected
from cover.serving.samples import PageSample
from cover.serving.schemas import (
    ErrorBody,
    ExplanationBody,
    HeadsBody,
    HealthBody,
    LimitsBody,
    PredictionBody,
    SampleBody,
    TimelineBody,
)
from cover.serving.service import Service

PAGE = Path(__file__).parent / "page"
REFUSALS = {400: "Not a form, or an empty file.", 401: "No token, or a wrong one.", 403: "A page of another site."}
REFUSALS |= {408: "Too slow.", 413: "Too large.", 415: "No known format.", 421: "The name of another host."}
REFUSALS |= {422: "Cannot be decoded, or a wrong value.", 429: "Too many; see Retry-After."}
_HOW_TO_SEND = "send a whole file as `curl -F file=@FILE` does"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text} for status, text in REFUSALS.items()
}


async def _one_upload(
    request: Request, file: Annotated[UploadFile, File(description="A video or an image.")]
) -> UploadFile:
    """The file of a form, which must be the only one."""
    if len((await request.form()).getlist("file")) > 1:
        raise UploadRejected(422, "the form has several files; send each in its own request")
    return file


Upload = Annotated[UploadFile, Depends(_one_upload)]
Heads = Annotated[list[str], Query(alias="head", description="Only this head; may be repeated. Default: every head.")]
Top = Annotated[int, Query(ge=1, le=1000, description="Classes of each head.")]


def create_app(service: Service, samples: list[PageSample], metrics: Metrics, policy: AdmissionPolicy) -> FastAPI:
    """Create the application.

    Every refused request is answered with one line of JSON, {"error": …}.

    Args:
        service: Answers for files.
        samples: Samples to try the page with.
        metrics: Counts requests and uploads.
        policy: Who may send requests.
    """
    app = FastAPI(title="cover serve", version=__version__, docs_url=None, redoc_url=None, responses=_RESPONSES)
    # Only starlette's own middleware, which answers bugs, is outside this one.
    app.add_middleware(AdmissionControl, policy=policy, limits=service.limits, metrics=metrics)
    _add_answers(app, service)
    _add_samples(app, samples)
    _add_status(app, service, metrics)
    _add_page(app)
    _add_errors(app)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/predict")
    def predict(file: Upload, heads: Heads = [], top: Top = 5) -> PredictionBody:  # noqa: B006
        """The most probable classes of a video or an image."""
        return service.predict(file.file, heads, top)

    @app.post("/timeline")
    def timeline(
        file: Upload,
        heads: Heads = [],  # noqa: B006
        window_seconds: Annotated[
            float | None, Query(ge=0.5, le=60, description="Length of the sliding window. Default: see GET /heads.")
        ] = None,
        top: Annotated[int, Query(ge=1, le=10, description="Classes of a head at a time.")] = 1,
        threshold: Annotated[float, Query(ge=0, le=1, description="Lowest probability of a class.")] = 0.0,
    ) -> TimelineBody:
        """What each head sees in a video, and when."""
        return service.timeline(file.file, heads, window_seconds, top, threshold)

    @app.post("/explain")
    def explain(
        file: Upload,
        head: Annotated[str, Query(description="The head whose class is explained.")],
        class_name: Annotated[str | None, Query(alias="class", description="Default: the most probable class.")] = None,
    ) -> ExplanationBody:
        """Which patches of which frames spoke for a class, and where the model looked."""
        return service.explain(file.file, head, class_name)


def _add_samples(app: FastAPI, samples: list[PageSample]) -> None:
    @app.get("/samples")
    async def all_samples() -> list[SampleBody]:
        """Samples to try: of the run's datasets, or of a folder."""
        return [
            SampleBody(
                number=number,
                name=sample.name,
                dataset=sample.dataset,
                class_name=sample.class_name,
                kind=sample.kind,
                thumbnail=sample.thumbnail_uri,
            )
            for number, sample in enumerate(samples)
        ]

    @app.get(
        "/samples/{number}",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}, 404: {"model": ErrorBody}},
    )
    def sample(number: int) -> Response:
        """The file of a sample, unchanged."""
        if not 0 <= number < len(samples):
            raise HTTPException(404, f"there is no sample {number}; GET /samples lists them")
        try:
            return Response(samples[number].read(), media_type="application/octet-stream")
        except DecodeError as error:
            raise HTTPException(404, f"the file of sample {number} is gone; choose another sample") from error


def _add_status(app: FastAPI, service: Service, metrics: Metrics) -> None:
    trained, limits = service.trained, service.limits

    @app.get("/heads")
    async def heads() -> HeadsBody:
        """The heads of the model and their classes, and the limits of uploads."""
        return HeadsBody(
            run=trained.name,
            checkpoint=trained.checkpoint.name,
            heads={head: list(names) for head, names in trained.class_names().items()},
            sigmoid_heads=list(trained.model.config.sigmoid_heads),
            window_seconds=trained.window_seconds(),
            limits=LimitsBody(max_bytes=limits.max_bytes, max_seconds=limits.max_seconds, max_pixels=limits.max_pixels),
        )

    @app.get("/healthz")
    async def healthz() -> HealthBody:
        """Whether the server answers."""
        return HealthBody()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def all_metrics() -> str:
        """Metrics for Prometheus."""
        return metrics.text()


def _add_page(app: FastAPI) -> None:
    headers = {"Content-Security-Policy": "default-src 'self'; img-src data: blob:; media-src data: blob:"}

    def add(path: str, name: str) -> None:
        @app.get(path, include_in_schema=False)
        def page() -> FileResponse:
            return FileResponse(PAGE / name, headers=headers)

    for path, name in PAGE_FILES.items():
        add(path, name)


def _add_errors(app: FastAPI) -> None:
    def error(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(reason.split())}, status, headers)

    @app.exception_handler(UploadRejected)
    async def rejected(_: Request, raised: UploadRejected) -> JSONResponse:
        return error(raised.refusal.status, raised.refusal.reason)

    @app.exception_handler(CoverError)
    async def mistaken(_: Request, raised: CoverError) -> JSONResponse:
        return error(422, str(raised))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, raised: RequestValidationError) -> JSONResponse:
        first = raised.errors()[0]
        if first["loc"] == ("body", "file"):
            return error(422, f"the form has no file in its field file; {_HOW_TO_SEND}")
        return error(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(_: Request, raised: HTTPException) -> JSONResponse:
        reason = str(raised.detail)
        if raised.status_code == 400:  # starlette could not parse the form
            reason = f"the form cannot be read ({reason.rstrip('.')}); {_HOW_TO_SEND}"
        return error(raised.status_code, reason, dict(raised.headers or {}))

    @app.exception_handler(Exception)
    async def bug(_: Request, raised: Exception) -> JSONResponse:
        return error(500, "the server failed; its log says more")
