from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console
from tests.studies.miniature import RATE, Known, finished, study_of

from cover.studies.planning import Planner
from cover.studies.records import Record
from cover.studies.table import make_table
from cover.studies.table_text import to_markdown, to_terminal

MARKDOWN = """\
|  | scenes | moves | paper: K400 | paper: SSv2 |
| --- | ---: | ---: | ---: | ---: |
| standard | 72.0 ± 5.0 | 51.0 ± 4.3 | 80.7 | 62.4 |
| co-training | 75.0 ± 6.6 | 50.0 ± 12.7 (2 of 3 seeds) | 83.1 |  |
| Δ to standard | +3.0 ± 2.5 | −1.5 ± 6.4 | +2.4 |  |

In %: mean ± half the 95 % interval (Student's t) over seeds 0, 1, 2; Δ is paired by seed. \
9 runs, 9 min 00 s of training in total on H100.
"""


def test_markdown_of_a_study_that_is_almost_finished() -> None:
    study = study_of()
    assert to_markdown(make_table(study, finished(study))) == MARKDOWN


def test_terminal_shows_the_same() -> None:
    study = study_of()
    console = Console(width=100, file=StringIO())
    console.print(to_terminal(make_table(study, finished(study))))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("Two datasets", "75.0 ± 6.6", "50.0 ± 12.7 (2 of 3 seeds)", "Δ to standard", "+2.4"):
        assert words in shown


def test_an_unfinished_table_says_what_is_missing() -> None:
    # the settings of "scenes" are not chosen yet; no arm of the second row trains on "moves"
    rows = [{"name": "standard", "arms": ["scenes", "moves"]}, {"name": "scenes alone", "arms": ["scenes"]}]
    study = study_of(arms={"scenes": {"tune": {RATE: [0.1, 0.2]}}}, rows=rows, paper_columns=[])
    known = Known()
    planner = Planner(study, known)
    known.tried(planner.candidates("scenes")[0], val=0.5)
    known.tested(planner, "moves", {"moves": {0: 0.5}})
    lines = to_markdown(make_table(study, known)).splitlines()
    assert lines[2:4] == [
        "| standard | – (0 of 3 seeds) | 50.0 (1 of 3 seeds) |",
        "| scenes alone | – (0 of 3 seeds) | – |",
    ]
    assert lines[-1] == "In %: seeds 0, 1, 2. 4 runs, 4 min 00 s of training in total on H100."


def test_a_row_has_a_line_for_each_row_that_it_is_compared_with() -> None:
    standard, cotrained = study_of().rows
    alone = {"name": "scenes alone", "arms": ["scenes"], "paper": {"K400": 80.0}}
    against = cotrained.model_copy(update={"against": ("scenes alone", "standard"), "paper_difference": {"SSv2": -0.5}})
    study = study_of(rows=[standard.model_dump(), alone, against.model_dump()])
    lines = to_markdown(make_table(study, finished(study))).splitlines()
    assert lines[5:7] == [
        "| Δ to scenes alone | +3.0 ± 2.5 | – | +3.1 | −0.5 |",
        "| Δ to standard | +3.0 ± 2.5 | −1.5 ± 6.4 | +2.4 |  |",
    ]


def test_failed_runs_and_chosen_settings_are_told() -> None:
    study = study_of(tune={RATE: [0.01, 0.03]}, arms={"moves": {"tuned_as": "scenes"}}, seeds=[4])
    known = Known()
    planner = Planner(study, known)
    for arm in ("scenes", "both"):
        slow, fast = planner.candidates(arm)
        known.tried(slow, val=0.5)
        known.tried(fast, val=0.6)
    known[fast.key] = Record(fast.key, "both", 4, fast.settings, failed="the loss is nan; lower the rate")
    cost = make_table(study, known).cost
    assert cost.chosen == {"scenes": {RATE: 0.03}, "moves": {RATE: 0.03}, "both": {RATE: 0.01}}
    assert (cost.num_runs, cost.seconds, len(cost.failed)) == (4, 180, 1)
    assert to_markdown(make_table(study, known)).splitlines()[-1] == (
        "In %: seed 4; Δ is paired by seed. 4 runs, 3 min 00 s of training in total on H100. "
        "Failed, 1: both, seed 4, learning_rate 0.03: the loss is nan; lower the rate. "
        "Chosen by validation: learning_rate 0.03 (scenes, moves); learning_rate 0.01 (both)."
    )


def test_columns_show_frame_orders_pairs_and_validation() -> None:
    columns = ["moves", "moves reversed", "moves pairs", "moves val"]
    study = study_of(columns=columns, rows=[{"name": "standard", "arms": ["moves"]}], seeds=[0])
    known = Known()
    run = Planner(study, known).finals("moves")[0]
    known.tried(run, val=0.4)
    test = {"moves": {"normal": {"top1": 0.3, "pairs": 0.9}, "reversed": {"top1": 0.1}}}
    known[run.key] = replace(known[run.key], test=test)
    (row,) = make_table(study, known).rows
    assert {column: cell.values for column, cell in row.cells.items()} == {
        "moves": {0: 0.3},
        "moves reversed": {0: 0.1},
        "moves pairs": {0: 0.9},
        "moves val": {0: 0.4},
    }
