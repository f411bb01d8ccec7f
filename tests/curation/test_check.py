from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes import started, wait_until

from cover.curation.check import check, unreadable_rows
from cover.curation.dataset_pass import Pool
from cover.curation.resume_log import Shard
from cover.datasets.manifest import Manifest
from cover.errors import CoverError
from cover.media.failures import count_reasons

POOL = Pool(num_processes=1, timeout_seconds=2)


def verdicts(manifest: Manifest) -> dict[str, str]:
    """sample_id → reason of the unreadable ones; all others must be readable."""
    rows = list(Manifest.open(manifest.path))
    assert all(row.readable is True and row.reason is None for row in rows if row.readable is not False)
    return {row.sample_id: row.reason or "" for row in rows if not row.readable}


def logs(manifest: Manifest) -> list[str]:
    return sorted(path.name for path in manifest.path.parent.glob("*.jsonl"))


def test_findings_are_written_into_the_manifest(hanging_manifest: Manifest, broken: dict[str, str]) -> None:
    checked = check(hanging_manifest, num_frames=4).run(Pool(num_processes=2, timeout_seconds=2))
    assert verdicts(hanging_manifest) == broken
    assert checked.digest == hanging_manifest.digest and not logs(checked)
    good = next(row for row in checked if row.sample_id == "jump/3.mp4")
    assert (good.num_frames, good.fps, good.duration_seconds) == (23, 25.0, 23 / 25)
    assert (good.width, good.height, good.rotation) == (64, 64, 0)


def test_images_too(image_manifest: Manifest) -> None:
    image_manifest[2].file.write_bytes(b"no image")
    checked = check(image_manifest, num_frames=4).run(POOL)
    assert verdicts(checked) == {image_manifest[2].sample_id: "it is not an image"}
    assert (checked[0].width, checked[0].num_frames) == (64, 1)


def test_what_was_checked_is_left_out_and_the_unreadable_tried_again_on_demand(
    broken_manifest: Manifest, broken: dict[str, str], write_video: Callable[..., Path]
) -> None:
    check(broken_manifest, num_frames=4).run(POOL)
    for row in broken_manifest:
        if row.sample_id not in broken:
            row.file.unlink()  # so that processing it again would be noticed
    write_video(broken_manifest.root / "jump/cut.mp4")
    assert verdicts(check(Manifest.open(broken_manifest.path), num_frames=4).run(POOL)) == broken
    mended = check(Manifest.open(broken_manifest.path), num_frames=4).run(POOL, again=True)
    assert verdicts(mended) == {name: reason for name, reason in broken.items() if name != "jump/cut.mp4"}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_merge_in_any_order(broken_manifest: Manifest, broken: dict[str, str], order: tuple[int, ...]) -> None:
    shards = [Shard(number, 3) for number in order]
    found = [check(broken_manifest, num_frames=4).run_shard(shard, POOL) for shard in shards]
    assert sorted(itertools.chain(*found)) == list(range(11))
    assert Manifest.open(broken_manifest.path)[0].readable is None
    assert verdicts(check(broken_manifest, num_frames=4).merge()) == broken
    assert not logs(broken_manifest)


def test_missing_and_unfinished_shards_are_named(broken_manifest: Manifest) -> None:
    with pytest.raises(CoverError, match=r"clips-train.check: shards found are none; --merge needs all parts I/N "):
        check(broken_manifest, num_frames=4).merge()
    for number in (1, 2):
        check(broken_manifest, num_frames=4).run_shard(Shard(number, 4), POOL)
    log = broken_manifest.path.parent / "clips-train.check-2-of-4.jsonl"
    log.write_text(log.read_text().replace('{"complete": true}', ""))
    message = r"3 of 4 shards are missing or not complete \(2/4, 3/4, 4/4\); run --shard 2/4 first"
    with pytest.raises(CoverError, match=message):
        check(broken_manifest, num_frames=4).merge()
    check(broken_manifest, num_frames=4).run_shard(Shard(1, 2), POOL)
    with pytest.raises(CoverError, match="shards found are 1/2, 1/4, 2/4; --merge needs all parts I/N of one N"):
        check(broken_manifest, num_frames=4).merge()


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "-1/3", "1/0"])
def test_a_shard_is_one_of_its_number(text: str) -> None:
    with pytest.raises(CoverError, match=rf"--shard '{text}' is not of the form I/N; the third of eight parts is "):
        Shard.parse(text)


def test_a_resume_log_of_another_manifest_is_refused(broken_manifest: Manifest) -> None:
    log = broken_manifest.path.with_suffix(".check.jsonl")
    log.write_text('{"digest": "other"}\n')
    with pytest.raises(
        CoverError, match=r"check.jsonl belongs to other work \(another manifest\); continue that work, or "
    ):
        check(broken_manifest, num_frames=4).run(POOL)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_check_goes_on_where_it_was(
    tmp_path: Path, hanging_manifest: Manifest, broken: dict[str, str], stop: signal.Signals
) -> None:
    options = ["--processes", "1", "--timeout-seconds", "2"]
    command = [sys.executable, "-m", "cover.cli", "check", str(hanging_manifest.path), *options]
    log = hanging_manifest.path.with_suffix(".check.jsonl")
    printed = tmp_path / "printed"
    with printed.open("w") as file, started(command, stderr=file) as running:
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 5, running)  # the slow file holds it
        if stop == signal.SIGINT:
            os.killpg(running.pid, stop)  # as a terminal does
        else:
            running.send_signal(stop)
        running.wait(60)
    assert running.returncode == (130 if stop == signal.SIGINT else -stop)
    assert printed.read_text() == (
        "interrupted; the same command continues from here\n" if stop == signal.SIGINT else ""
    )
    found = [json.loads(line)["row"] for line in log.read_text().splitlines() if '"row"' in line]
    assert len(found) >= 3 and Manifest.open(hanging_manifest.path)[0].readable is None
    with log.open("a") as file:
        file.write('{"row": 12, "readable": fal')  # as after a kill in the middle of a line
    (hanging_manifest.root / "run/slow.mp4").unlink()
    for row_number in found:
        hanging_manifest[row_number].file.unlink(missing_ok=True)  # so that processing it again would be noticed
    broken["run/slow.mp4"] = "no such file"
    assert verdicts(check(hanging_manifest, num_frames=4).run(POOL)) == broken


def test_reasons_are_counted_by_kind(broken_manifest: Manifest) -> None:
    shutil.copy(broken_manifest.root / "jump/cut.mp4", broken_manifest.root / "jump/empty.mp4")
    rows = unreadable_rows(check(broken_manifest, num_frames=4).run(POOL))
    counts = [(count.reason, count.count) for count in count_reasons(rows)]
    assert counts[0] == ("Invalid data found when processing input", 2)
    assert counts[1:] == [("no such file", 1)]
    late = {3: "its segment begins at 7 s, after its end", 5: "its segment begins at 12.5 s, after its end"}
    (count,) = count_reasons(late)
    assert (count.reason, count.count, count.example) == ("its segment begins at … s, after its end", 2, 3)
