"""The command line as a user meets it: the way from a folder to a comparison, and the likeliest mistakes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.terminal import Cover, terminal

from cover import cli

WriteMedia = Callable[..., Path]

RECIPE = """
policy = "standard"

[datasets.moves]
train = "manifests/moves-train.arrow"
test = "manifests/moves-test.arrow"
horizontal_flip = false
reversal_pairs = [["in", "out"]]

[model]
variant = "timesformer_tiny"
depth = 2
width = 48
num_heads = 3
num_frames = 2
image_size = 32

[data]
batch_size = 4
num_workers = 0

[training]
max_steps = 2
"""


LAYOUTS = ["kinetics400", "kinetics600", "kinetics700", "ssv2", "moments", "ucf101", "hmdb51", "imagenet1k"]
LAYOUTS += ["imagenet21k", "folder", "csv"]


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """A user's folder: moves/SPLIT/CLASS/*.mp4, a recipe, and a picture."""
    root = tmp_path_factory.mktemp("work")
    for index in range(12):
        file = root / "moves" / ("test" if index % 3 else "train") / ("out" if index % 2 else "in") / f"{index}.mp4"
        write_video(file, num_frames=6, first_number=100 * index)
    (root / "moves.toml").write_text(RECIPE)
    write_image(root / "photo.jpg")
    return root


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """That folder, indexed and trained in runs/moves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in ("index folder moves --kind video", "train moves.toml"):
            patch.setattr(sys, "argv", ["cover", *command.split()])
            with pytest.raises(SystemExit, match="0"):
                cli.main()
    return folder


def test_from_a_folder_to_a_comparison(trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    assert "moves-test.arrow: 8 videos of 2 classes" in cover("index", "folder", "moves", "--kind", "video").out
    assert "moves" in cover("evaluate", "runs/moves").out
    (seen_twice,) = json.loads(cover("evaluate", "runs/moves", "--views", "2x1", "--json").out)
    assert seen_twice["views"] == "2x1"
    (reversed_order,) = json.loads(cover("evaluate", "runs/moves", "--reverse", "--json").out)
    assert (reversed_order["order"], reversed_order["num_samples"]) == ("reversed", 8)
    assert len(list(Path("runs/moves/evaluation").glob("*.json"))) == 3

    video, image = json.loads(cover("predict", "runs/moves", "moves/test/in/2.mp4", "photo.jpg", "--json").out)
    assert (video["kind"], image["kind"]) == ("video", "image")
    assert {row["class"] for row in video["heads"]["moves"]} == {"in", "out"}
    assert "photo.jpg" in cover("predict", "runs/moves", "photo.jpg").out

    compared = cover("compare", "runs/moves", "--json", "compared.json")
    assert compared.code == 0 and "report: report.html" in compared.out
    assert "moves" in Path("report.html").read_text()
    assert json.loads(Path("compared.json").read_text())["datasets"]["moves"]["split"] == "test"
    assert cover("train", "moves.toml", "--resume").code == 0


def test_a_run_is_evaluated_from_another_folder_and_after_moves(
    trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another dataset of the same name lies where a path relative to the current folder would lead."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copytree(trained / "moves" / "test", "moves/test")
    shutil.rmtree("moves/test/in")
    shutil.copytree("moves/test/out", "moves/test/in")
    cover("index", "folder", "moves", "--kind", "video")
    (result,) = json.loads(cover("evaluate", trained / "runs" / "moves", "--json").out)

    together = tmp_path / "together"
    shutil.copytree(trained, together)
    records = together / "runs" / "moves" / "manifests.json"
    records.write_text(records.read_text().replace(str(trained), "/gone"))  # as if it had been moved
    (again,) = json.loads(cover("evaluate", together / "runs" / "moves", "--json").out)
    assert again["predictions"] == result["predictions"] and again["manifest_digest"] == result["manifest_digest"]

    (together / "manifests").rename(tmp_path / "disk")
    run = together / "runs" / "moves"
    assert f"pass --data {together / 'manifests'}=FOLDER" in cover("evaluate", run).err
    moved = cover("evaluate", run, "--data", f"{together / 'manifests'}={tmp_path / 'disk'}", "--json")
    assert json.loads(moved.out)[0]["predictions"] == result["predictions"]
    others = ("--data", f"{together / 'manifests'}={tmp_path / 'elsewhere' / 'manifests'}")
    assert "is not the test manifest of moves that" in cover("evaluate", run, *others).err
    assert cover("evaluate", run, *others, "--allow-changed-data").code == 0


def test_a_run_is_continued_by_its_name_from_any_folder(
    trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together = tmp_path / "together"
    shutil.copytree(trained, together)
    run = together / "runs" / "moves"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    answer = cover("train", "--resume", run)
    assert answer.code == 0 and f"{run} is trained already: 2 of 2 steps" in answer.out
    answer = cover("train", "--resume", run / "recipe.toml", "--set", "training.max_steps=3", "--seed", "1")
    assert answer.code == 0, answer.err
    assert "note: continuing with seed = 1, which was 0" in answer.out
    assert f"next: cover evaluate {run}\n" in answer.out and (run / "checkpoints" / "step-3").is_dir()
    assert not Path("runs").exists()
    assert f"{run} holds a run already; continue it with --resume or choose another --out" in cover("train", run).err

    alone = run.rename(tmp_path / "alone")
    answer = cover("train", alone, "--out", "new", "--resume", "--epochs", "2", "--batch-size", "2")
    assert answer.code == 0, answer.err
    assert "no run at new; starting a new one\n" in answer.out
    assert "no dataset has a val split, so commands use the latest checkpoint\n" in answer.out
    assert {"epochs = 2.0", "batch_size = 2"} <= set(Path("new/recipe.toml").read_text().splitlines())

    (together / "manifests").rename(tmp_path / "disk")
    (mistake,) = cover("train", "--resume", alone).err.splitlines()
    assert (
        "the train manifest of moves is not at " in mistake and "; if it has moved to FOLDER, pass --data " in mistake
    )
    moved = ("--data", f"{together / 'manifests'}={tmp_path / 'disk'}")
    answer = cover("train", "--resume", alone, "--set", "training.max_steps=4", *moved)
    assert answer.code == 0, answer.err
    assert f"next: cover evaluate {alone} --data" in answer.out


def test_a_device_is_chosen_by_name(trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert cover("predict", "runs/moves", "photo.jpg", "--device", "cpu").code == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert "--device 'gpu' is none of cpu, cuda and cuda:N; " in cover("train", "moves.toml", "--device", "gpu").err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    cover("train", "moves.toml", "--device", "cuda:1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert cover("train", "moves.toml", "--device", "cuda:7").err.startswith("error: --device cuda:7: torch sees no ")


def test_files_are_predicted_in_bulk(trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    Path("list.txt").write_text("photo.jpg\nmoves.toml\nabsent.mp4\n")
    listed = cover("predict", "runs/moves", "moves/train", "@list.txt", "--json", "--views", "2x1", "--top", "1")
    assert listed.code == 1
    first, second = listed.err.splitlines()
    assert first.startswith("error: moves.toml cannot be decoded (") and second.startswith("error: absent.mp4 does ")
    predictions = json.loads(listed.out)
    assert [prediction["file"] for prediction in predictions[-2:]] == ["moves/train/out/9.mp4", "photo.jpg"]
    assert len(predictions) == 5 and all(len(prediction["heads"]["moves"]) == 1 for prediction in predictions)
    for suffix in ("csv", "json", "jsonl", "parquet"):
        assert cover("predict", "runs/moves", "photo.jpg", "--out", f"a.{suffix}") == (
            0,
            f"predictions: a.{suffix} (files: 1)\n",
            "",
        )
    monkeypatch.setattr(sys, "stdin", io.StringIO("photo.jpg\n"))
    assert "photo.jpg (image)" in cover("predict", "runs/moves", "-", "--head", "moves").out


def test_a_long_video_gets_a_timeline(
    trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch, write_video: WriteMedia
) -> None:
    monkeypatch.chdir(trained)
    write_video(Path("long.mp4"), num_frames=40)
    command = ["timeline", "runs/moves", "long.mp4", "--window-seconds", "0.4"]
    assert "long.mp4 (0:01.6)" in cover(*command).out
    decoded = json.loads(cover(*command, "--json", "--head", "moves").out)
    assert decoded["heads"]["moves"][-1]["end_seconds"] == decoded["duration_seconds"] == 1.6
    assert decoded["stride_seconds"] == 0.2  # a quarter of the window, but no less than one of its two frames
    files = cover(*command, "--out", "a.srt", "--plot", "a.png")
    assert files == (0, "timeline: a.srt\ntimeline: a.png\n", "")
    assert cover(*command, "--out", "a.srt", "--force").code == 0
    assert Path("a.srt").read_text().startswith("1\n00:00:00,000 --> ") and Path("a.png").stat().st_size
    live = cover("watch", "runs/moves", "long.mp4", "--window-seconds", "0.2", "--json")
    assert live.code == 0 and live.err == "long.mp4: 64×64, h264\n"
    assert json.loads(live.out.splitlines()[0])["class"] in {"in", "out"}
    former = cover("timeline", "runs/moves", "--live", "long.mp4", "--window-seconds", "0.2", "--json")
    assert former.err == f"hint: --live is now a command: cover watch runs/moves long.mp4\n{live.err}"
    assert json.loads(former.out.splitlines()[0])["class"] == json.loads(live.out.splitlines()[0])["class"]


def test_a_run_is_looked_into_and_exported(trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    shown = cover("info", "runs/moves").out
    for words in ("policy standard on moves, step-2, started at random", "2 blocks, width 48", "2 classes: in, out"):
        assert words in shown
    run = json.loads(cover("info", "runs/moves", "--json").out)
    assert cover("export", "runs/moves", "hf", "--to", "transformers", "--head", "moves").out == "exported: hf\n"
    exported = json.loads(cover("info", "hf", "--json").out)
    assert (exported["format"], exported["num_parameters"]) == ("transformers-timesformer", run["num_parameters"])
    assert cover("export", "runs/moves", "weights", "--to", "safetensors").code == 0
    assert json.loads(cover("info", "weights", "--json").out)["config"] == run["config"]
    assert cover("export", "runs/moves", "graph", "--to", "torch-export", "--num-frames", "4").code == 0
    assert json.loads(Path("graph/model.json").read_text())["input"]["num_frames"] == 4


def test_a_dataset_is_checked_and_packed(trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    cover("index", "folder", "moves", "--kind", "video", "--out", "checked")
    readable = cover("check", "checked/moves-train.arrow", "checked/moves-test.arrow")
    assert readable.code == 0
    assert readable.out == "moves train: 4 of 4 videos are readable\nmoves test: 8 of 8 videos are readable\n"
    packed = cover("pack", "checked/moves-train.arrow", "--out", "packed", "--short-side", "32", "--frames", "4")
    assert packed.code == 0 and "packed/moves-train.arrow: " in packed.out
    assert cover("check", "packed/moves-train.arrow").code == 0
    Path("packed/moves-train/train/in/0.mp4").write_bytes(b"")
    cover("pack", "packed/moves-train.arrow", "--out", "packed again")
    shards = [cover("check", "packed again/moves-train.arrow", "--again", "--shard", f"{part}/2") for part in (2, 1)]
    assert [shard.code for shard in shards] == [0, 0]
    unreadable = cover("check", "packed again/moves-train.arrow", "--merge")
    assert unreadable.code == 1
    assert "moves train: 3 of 4 videos are readable" in unreadable.out
    assert "no such file" in unreadable.out and "25.00%" in unreadable.out and "train/in/0.mp4" in unreadable.out


def test_leaks_are_shown_and_left_out_of_training(trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    for split, lines in {"train": "train/in/0.mp4 in\ntrain/out/3.mp4 out\n", "test": "train/in/0.mp4 in\n"}.items():
        Path(f"{split}.txt").write_text(lines)
        cover("index", "csv", f"{split}.txt", "--root", "moves", "--kind", "video", "--name", "lists", "--split", split)
    lists = ["manifests/lists-train.arrow", "manifests/lists-test.arrow"]
    leaks = cover("check", *lists, "--leaks", "--no-frames", "--out", "leaks.csv")
    assert leaks.code == 1 and leaks.err == ""
    assert "lists train" in leaks.out and "same source, overlapping" in leaks.out
    assert "lists: 1 training samples occur in evaluation splits\n" in leaks.out
    assert leaks.out.endswith("leave them out with: --set 'data.exclude=[\"leaks.csv\"]'\n")
    training = ["train", "moves.toml", "--out", "clean", "--set", "datasets.moves.train=manifests/lists-train.arrow"]
    assert "left out: 1 of moves" in cover(*training, "--set", 'data.exclude=["leaks.csv"]').out

    nothing = cover("check", "manifests/moves-train.arrow", "manifests/moves-test.arrow", "--leaks", "--no-frames")
    assert nothing == (0, "no training sample occurs in an evaluation split\n", "")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("check manifests/moves-train.arrow --leaks", "there is no val or test manifest; leaks are from "),
        ("check manifests/moves-train.arrow --no-frames", "--out and --no-frames need --leaks; add it"),
        ("train --resume runs/absent", "runs/absent is neither a recipe nor a run; give a TOML file, or a folder "),
        ("train absent.toml", "absent.toml: no such file; give the path of a TOML file"),
        (
            "train moves.toml --set model.dept=3",
            "moves.toml: unknown key 'model.dept'; did you mean 'depth'? known here: variant, ",
        ),
        ("train moves.toml --set epochs=3", "moves.toml: unknown key 'epochs'; did you mean 'training.epochs'? known "),
        ("train moves.toml --set training.epochs=many", "moves.toml: training.epochs = 'many': input should be a "),
        ("train moves.toml --set training.epochs", "--set 'training.epochs' is not of the form key=value; "),
        (
            "train moves.toml --out new --set datasets.moves.train=absent.arrow",
            "absent.arrow does not exist; write it ",
        ),
        (
            "train moves.toml --out new --set datasets.moves.train=photo.jpg",
            "photo.jpg is not a manifest (Not an ",
        ),
        ("train moves.toml --out new --set model.image_size=30", "image_size 30 is not a multiple of patch_size 16; "),
        ("train moves.toml --out new --set model.num_heads=5", "width 48 is not a multiple of the 5 attention heads"),
        ("train moves.toml --out new --set init=photo.jpg", "photo.jpg (692 bytes) is not a file of weights: "),
        ("train moves.toml", "runs/moves holds a run already; continue it with --resume or choose another --out"),
        ("predict runs/moves absent.mp4", "absent.mp4 is not a file or a folder; "),
        ("predict runs/moves photo.jpg --head k400", "runs/moves has no head 'k400'; its heads are moves"),
        ("predict runs/moves photo.jpg --views 3", "--views '3' is not of the form CLIPSxCROPS; 4x3 takes 4 clips of "),
        ("predict runs/moves photo.jpg --out new/a.txt", "new/a.txt has none of the suffixes .csv, .json, .jsonl, "),
        ("predict runs/moves photo.jpg --out new/a.csv --json", "--out writes a file, which may be .json, and --json "),
        (
            "predict runs/moves photo.jpg --out moves.toml",
            "moves.toml exists already; choose another name, or replace ",
        ),
        ("timeline runs/moves a.mp4 --plot photo.jpg", "photo.jpg exists already; choose another name, or replace it "),
        (
            "explain runs/moves photo.jpg --out explained",
            "explained/strip.png exists already; choose another name, or ",
        ),
        ("embed runs/moves photo.jpg --out features.npy", "features.npy exists already; choose another name, or "),
        ("timeline runs/moves", "there is no VIDEO; give a file, or a stream to `cover watch`"),
        ("timeline runs/moves moves.toml --plot new/a.png", "moves.toml cannot be decoded (it is a text, such as "),
        ("timeline runs/moves absent.mp4 --out new/a.txt", "new/a.txt has none of the suffixes .csv, .json, .srt, "),
        ("timeline runs/moves photo.jpg --out new/a.csv", "photo.jpg is not a video, which a timeline needs; "),
        ("timeline runs/moves moves --out new/a.csv", "moves is not a video, which a timeline needs; "),
        ("watch runs/moves absent.mp4", "absent.mp4 cannot be opened (No such file or directory); "),
        (
            "timeline runs/moves absent.mp4 --stride-seconds 9",
            "a window of 4 s cannot move by 9 s; choose a stride above 0",
        ),
        (
            "predict moves photo.jpg",
            "moves contains no weights (model.safetensors or pytorch_model.bin); give a run, or ",
        ),
        ("evaluate moves", "moves contains no weights (model.safetensors or pytorch_model.bin); give a run, or "),
        ("evaluate runs/moves --reverse --shuffle", "--reverse, --shuffle and --single-frame exclude each other; "),
        ("evaluate runs/moves --dataset moves2", "runs/moves has no dataset 'moves2'; its datasets are moves"),
        ("evaluate runs/moves --split val", "runs/moves has no val manifest (moves has train, test); choose "),
        (
            "compare runs/moves moves --out new/a.html",
            "moves holds no recipe.toml; give the folder of a run that `cover train` has written",
        ),
        ("compare unevaluated --out new/a.html", "unevaluated has no results in normal frame order; evaluate "),
        ("evaluate plain", "plain is a model without a recipe, which would name manifests; give --manifest"),
        ("info absent.pyth", "absent.pyth does not exist; give a run, a file or folder of weights, or hf://owner/name"),
        ("predict owner/name photo.jpg", "owner/name does not exist; give a run, a file or folder of weights, or hf:"),
        ("info photo.jpg", "is not a file of weights: neither safetensors, nor PyTorch, nor .npz, nor Flax; "),
        (
            "export moves new --to safetensors",
            "moves contains no weights (model.safetensors or pytorch_model.bin); give a run, or ",
        ),
        (
            "export runs/moves new --to transformers --head k400",
            "there is no head 'k400', and the format takes one; ",
        ),
        (
            "export runs/moves new --to safetensors --head moves",
            "--head moves does not go with --to safetensors, which",
        ),
        (
            "export runs/moves new --to transformers --num-frames 4",
            "--num-frames and --image-size do not go with --to transform",
        ),
        ("export runs/moves new --to onnx --head k400", "there is no head 'k400'; give --head, one of moves"),
        ("export runs/moves new --to torch-export --image-size 40", "image_size 40 is not a multiple of patch_size 16"),
        ("export runs/moves moves --to safetensors", "moves exists already; name a new folder"),
        (
            "check absent.arrow",
            "absent.arrow does not exist; write it with `cover index`, or fix the path in the recipe",
        ),
        ("check manifests/moves-train.arrow --shard 3/2", "--shard '3/2' is not of the form I/N; the third of eight "),
        ("check manifests/moves-train.arrow --shard 1/2 --merge", "--shard does one part and --merge joins all parts "),
        ("check manifests/moves-train.arrow --merge", "moves-train.check: shards found are none; --merge needs all "),
        (
            "pack manifests/moves-train.arrow --out manifests",
            "manifests contains moves-train.arrow itself, which the ",
        ),
        ("index folder empty --kind video", "empty has no video files in class folders (it is empty); expected ROOT"),
        ("index folder absent --kind video", "absent is not a folder; give the folder that contains the videos"),
        ("index folder moves --kind image", "moves has no image files in class folders (12 .mp4); expected ROOT"),
        ("index csv absent.csv --kind video", "absent.csv does not exist; give the annotation list"),
        ("index ssv2 moves", "labels.json or *-labels.json is not in moves, moves/labels, moves/annotations; give "),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    trained: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch, command: str, message: str
) -> None:
    monkeypatch.chdir(trained)
    Path("empty").mkdir(exist_ok=True)
    Path("explained").mkdir(exist_ok=True)
    for file in ("explained/strip.png", "features.npy"):
        Path(file).touch()
    shutil.copytree("runs/moves", "unevaluated", ignore=shutil.ignore_patterns("evaluation"), dirs_exist_ok=True)
    shutil.copytree("runs/moves/checkpoints/step-2", "plain", dirs_exist_ok=True)
    answer = cover(*command.split())
    assert answer.code == 2
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert message in answer.err
    assert not Path("new").exists() and not Path("manifests/empty-train.arrow").exists()


def test_layouts_are_listed_and_drawn(cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = cover("index", "--help").out
    for layout in LAYOUTS:
        assert f"\n  {layout} " in listed
        drawing = cover("index", layout, "--help").out
        assert "--out" in drawing and "/" in drawing
    assert "ROOT/train/playing trumpet/0wR5jVB-WPk_000417_000427.mp4\n" in drawing_of(cover, "kinetics600")
    assert '[{"id": "1", "template": "Holding [something]"}]' in drawing_of(cover, "ssv2")
    assert "a recipe's [data]." in " ".join(cover("check", "--help").out.split())


def drawing_of(cover: Cover, layout: str) -> str:
    return "".join(f"{line.strip()}\n" for line in cover("index", layout, "--help").out.splitlines())


def test_a_dataset_as_distributed_is_indexed(
    tmp_path: Path, cover: Cover, write_video: WriteMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("ucf/UCF-101/Archery/v_Archery_g08_c02.avi"), num_frames=2, codec="mpeg4")
    Path("lists").mkdir()
    Path("lists/classInd.txt").write_text("1 Archery\n")
    for name in ("trainlist02", "testlist02"):
        Path(f"lists/{name}.txt").write_text("Archery/v_Archery_g08_c02.avi\n")
    answer = cover("index", "ucf101", "ucf", "--split-number", "2", "--annotations", "lists", "--out", "here")
    assert answer.code == 0 and "here/ucf101-split2-train.arrow: 1 videos of 1 classes" in answer.out
    Path("names.txt").write_text("run\njump\n")
    Path("list.txt").write_text("UCF-101/Archery/v_Archery_g08_c02.avi 1\n")
    command = "index csv list.txt --kind video --root ucf --class-names names.txt --split test"
    assert "manifests/list-test.arrow: 1 videos of 2 classes" in cover(*command.split()).out


def test_views_are_at_least_one(cover: Cover) -> None:
    for option in ("--num-clips", "--num-crops"):  # the former options
        answer = cover("evaluate", "runs/moves", option, "0")
        assert answer.code == 2 and option in answer.err and "Traceback" not in answer.err
    assert "--views '0x3' is not of the form CLIPSxCROPS" in cover("evaluate", "runs/moves", "--views", "0x3").err


def test_the_program_itself_ends_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cover.cli", "index", "folder", "absent", "--kind", "video"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: absent is not a folder; give the folder that contains the videos\n"
