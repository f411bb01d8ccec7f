"""The API: what it answers, and how it refuses."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import starlette
from fastapi.testclient import TestClient
from packaging.version import Version
from PIL import Image

import cover
from cover.errors import CoverError, DecodeError
from cover.media.source import MediaSource
from cover.serving.admission import PAGE_FILES
from cover.serving.limits import UploadLimits
from cover.serving.samples import PageSample, samples_in

WriteMedia = Callable[..., Path]


@pytest.fixture
def video(tmp_path: Path, write_video: WriteMedia) -> bytes:
    """1.2 s."""
    return write_video(tmp_path / "a.mp4").read_bytes()


@pytest.fixture
def image(tmp_path: Path, write_image: WriteMedia) -> bytes:
    return write_image(tmp_path / "a.png", 5).read_bytes()


def test_a_video_and_an_image_are_predicted_as_on_the_command_line(
    client: TestClient, run: Path, tmp_path: Path, video: bytes, image: bytes
) -> None:
    for name, content, kind in (("a.mp4", video, "video"), ("a.png", image, "image")):
        # The name says nothing, wherever it points to.
        answer = client.post("/predict?top=2&head=pets", files={"file": ("../../etc/passwd", content)})
        (expected,) = cover.predict(run, tmp_path / name, heads=["pets"], top=2)
        assert answer.status_code == 200 and answer.json()["kind"] == kind
        assert answer.json()["duration_seconds"] == (pytest.approx(1.2) if kind == "video" else None)
        found = {scored["class"]: scored["probability"] for scored in answer.json()["heads"]["pets"]}
        assert found == pytest.approx(dict(expected.heads["pets"]), abs=1e-5)
        (both,) = cover.predict(run, tmp_path / name)  # whose heads were trained on clips of other lengths
        found = client.post("/predict", files={"file": content}).json()["heads"]
        for head, ranked in both.heads.items():
            assert {scored["class"]: scored["probability"] for scored in found[head]} == pytest.approx(
                dict(ranked), abs=1e-5
            )


def test_a_timeline_is_that_of_the_command_line(client: TestClient, run: Path, tmp_path: Path, video: bytes) -> None:
    answer = client.post("/timeline?window_seconds=0.5&head=pets", files={"file": video}).json()
    expected = cover.timeline(run, tmp_path / "a.mp4", heads=["pets"], window_seconds=0.5)
    assert answer["duration_seconds"] == pytest.approx(1.2)
    assert [segment["class"] for segment in answer["heads"]["pets"]] == [each.class_name for each in expected.segments]


def test_a_class_is_explained(client: TestClient, video: bytes, image: bytes) -> None:
    answer = client.post("/explain?head=pets&class=emu", files={"file": video}).json()
    assert (answer["class"], len(answer["times_seconds"]), len(answer["relevance_of_frames"])) == ("emu", 4, 4)
    assert Image.open(io.BytesIO(base64.b64decode(answer["strip_png"]))).format == "PNG"
    assert b"ftyp" in base64.b64decode(answer["overlay_mp4"])[:12]
    part = client.post("/explain?head=moves", files={"file": video}).json()
    assert part["times_seconds"] == pytest.approx([0.45, 0.55, 0.65, 0.75])  # the middle 0.4 of 1.2 s
    still = client.post("/explain?head=moves", files={"file": image}).json()
    assert still["overlay_mp4"] is None and still["class"] == still["predicted"]


def test_facts_and_samples(client: TestClient) -> None:
    facts = client.get("/heads").json()
    assert facts["heads"]["pets"] == ["cat", "dog", "emu"] and facts["limits"]["max_seconds"] == 5
    samples = client.get("/samples").json()
    assert [sample["dataset"] for sample in samples] == ["moves"] * 2 + ["pets"] * 3
    file = client.get(f"/samples/{samples[0]['number']}").content
    assert client.post("/predict", files={"file": file}).json()["kind"] == "video"
    assert client.get("/samples/99").status_code == 404
    assert client.get("/healthz").json() == {"status": "ok"}
    metrics = client.get("/metrics").text
    assert 'cover_requests_total{path="/predict",status="200"}' in metrics
    assert all(f'cover_stage_seconds_count{{stage="{stage}"}}' in metrics for stage in ("upload", "decode", "model"))
    assert {"/predict", "/timeline", "/explain"} <= client.get("/openapi.json").json()["paths"].keys()


def test_the_page_brings_all_that_it_needs(client: TestClient) -> None:
    page = client.get("/")
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    files = {path: client.get(path) for path in PAGE_FILES}
    for path, file in files.items():
        assert file.status_code == 200 and "//" not in file.text.replace("// ", ""), path  # nothing from elsewhere
        assert path == "/" or any(path[1:] in other.text for other in files.values())


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/predict?head=birds", 422, "has no head 'birds'; its heads are moves, pets"),
        ("/predict?top=0", 422, "top: Input should be greater than or equal to 1"),
        ("/explain", 422, "head: Field required"),
        ("/explain?head=pets&class=cow", 422, "head pets has no class 'cow'"),
        ("/timeline", 422, "an image has no timeline"),
        ("/timeline?window_seconds=nan", 422, "window_seconds: "),
        ("/nowhere", 404, "Not Found"),
        ("/heads", 405, "Method Not Allowed"),
    ],
)
def test_wrong_requests_are_told_why(client: TestClient, image: bytes, path: str, status: int, message: str) -> None:
    answer = client.post(path, files={"file": image})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"] and "\n" not in answer.text


FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"%s\r\n\r\n%s\r\n--x--\r\n'


NO_FILE = "the form has no file in its field file; send a whole file as `curl -F file=@FILE` does"
TWO = "the form has several files; send each in its own request"
BAD_FORMS: dict[str, tuple[bytes, str | None, int, str]] = {
    "octets": (b"\x00\x01", None, 422, NO_FILE),
    "video": (b"\x00\x01", "video/mp4", 422, NO_FILE),
    "json": (b'{"file": "a"}', "application/json", 422, NO_FILE),
    "urlencoded": (b"file=a", "application/x-www-form-urlencoded", 422, NO_FILE),
    "field without a filename": (PART % (b"", b"text"), FORM, 422, NO_FILE),
    "nothing chosen": (PART % (b'; filename=""', b""), FORM, 422, NO_FILE),
    "begun": (b"--x", FORM, 422, NO_FILE),
    "empty file": (PART % (b'; filename="a"', b""), FORM, 400, "the file is empty; send a video or an image"),
    "two files": (
        PART.replace(b"--x--\r\n", b"") * 2 % ((b'; filename="a"', b"text") * 2) + b"--x--\r\n",
        FORM,
        422,
        TWO,
    ),
    "no boundary": (PART % (b"", b""), "multipart/form-data", 400, "the form cannot be read (Missing boundary in"),
    "other boundary": (PART % (b"", b""), f"{FORM}y", 400, "the form cannot be read (Invalid multipart data); send a"),
    "no name": (b"--x\r\n\r\na\r\n--x--\r\n", FORM, 400, "the form cannot be read (The Content-Disposition header"),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_forms_that_are_none_are_refused(client: TestClient, name: str) -> None:
    if name in ("nothing chosen", "other boundary") and Version(starlette.__version__) < Version("1.8"):
        pytest.skip("an older Starlette refuses it in other words")
    content, content_type, status, message = BAD_FORMS[name]
    answer = client.post("/predict", content=content, headers={"Content-Type": content_type} if content_type else {})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.json()["error"].startswith(message) and "\n" not in answer.text


@pytest.mark.parametrize("path", ["/", "/page.css", "/healthz", "/heads", "/samples/0", "/metrics", "/nowhere"])
def test_head_answers_as_get_does_without_a_body(client: TestClient, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code and head.content == b""
    if path != "/metrics":  # which count what was asked
        assert {**head.headers} == {**get.headers}


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        (
            {"Host": "evil.example"},
            421,
            "this server does not answer to evil.example; start it with --allowed-host evil.",
        ),
        (
            {"Origin": "http://evil.example"},
            403,
            "pages of http://evil.example may not post here; allow a site with `cov",
        ),
        ({"Origin": "http://localhost"}, 200, ""),
        ({"Host": "proxy.example", "Origin": "https://proxy.example"}, 200, ""),
    ],
)
def test_other_sites_cannot_use_the_server(
    client: TestClient, image: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    answer = client.post("/predict", files={"file": image}, headers=headers)
    assert answer.status_code == status and answer.json().get("error", "").startswith(message)


def test_what_is_beyond_the_limits_is_refused(client: TestClient, tmp_path: Path, write_video: WriteMedia) -> None:
    long = write_video(tmp_path / "long.mp4", num_frames=60, fps=10).read_bytes()
    large = write_video(tmp_path / "large.mp4", num_frames=2, width_px=400, height_px=300).read_bytes()
    for file, message in (
        (long, "it lasts 6.0 s, and at most 5 s are allowed"),
        (large, "400×300 pixels, and at most 0.1 million"),
    ):
        answer = client.post("/predict", files={"file": file})
        assert answer.status_code == 413 and message in answer.json()["error"]
    assert client.post("/predict", files={"file": bytes(200_001)}).status_code == 413
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    chunks = (head if number == 0 else bytes(10_000) for number in range(30))  # of no stated length
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/predict", content=chunks, headers=headers)
    assert (answer.status_code, list(answer.json())) == (413, ["error"])


def test_a_sample_that_a_pipe_has_replaced_has_gone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DecodeError):
        PageSample("a.png", "pets", "cat", "image", MediaSource(tmp_path / "a.png"), b"").read()


def test_files_of_any_folder_are_samples_if_they_can_be_uploaded(
    tmp_path: Path, write_video: WriteMedia, write_image: WriteMedia
) -> None:
    write_video(tmp_path / "runs" / "fast.mp4")
    write_video(tmp_path / "long.mp4", num_frames=60, fps=10)
    for index in range(14):
        write_image(tmp_path / f"{index:02}.png", index)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    samples = samples_in(tmp_path, UploadLimits(max_seconds=5))
    assert len(samples) == 12 and [sample.name for sample in samples] == sorted(sample.name for sample in samples)
    assert samples_in(tmp_path, UploadLimits(max_seconds=5)) == samples
    (video,) = samples_in(tmp_path / "runs", UploadLimits())
    assert (video.name, video.kind, video.dataset, video.class_name) == ("fast.mp4", "video", None, None)
    assert Image.open(io.BytesIO(video.thumbnail)).format == "JPEG"
    assert video.read() == (tmp_path / "runs" / "fast.mp4").read_bytes()
    for folder, message in (
        ("runs", "has no file that can be decoded within the limits"),
        ("none", "is not a file or"),
    ):
        with pytest.raises(CoverError, match=message):
            samples_in(tmp_path / folder, UploadLimits(max_seconds=1))
