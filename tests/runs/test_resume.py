"""A run whose classes changed: every class keeps its weights and its optimizer's state, wherever it stands now."""

from __future__ import annotations

import torch

from cover.models.create import create_model
from cover.runs.resume import changed_heads, with_rows

OLD, NEW = ("jump", "run", "swim"), ("dive", "swim", "jump")


def test_every_class_takes_its_rows_along() -> None:
    settings = {"depth": 1, "width": 12, "num_heads": 1, "num_frames": 2, "image_size": 32}
    old = create_model(**settings, heads={"moves": OLD, "pets": ("cat", "dog")})  # type: ignore[arg-type]
    new = create_model(**settings, heads={"moves": NEW, "pets": ("cat", "dog")})  # type: ignore[arg-type]
    rows = changed_heads(old.config, new.config)
    assert list(rows) == ["moves"] and str(rows["moves"]) == "rows: 2 moved, 1 fresh, 1 dropped"

    was, fresh = old.state_dict(), new.state_dict()
    weights = with_rows(was, rows, fresh)
    for name in ("heads.moves.weight", "heads.moves.bias"):
        assert torch.equal(weights[name], torch.stack([fresh[name][0], was[name][2], was[name][0]]))
    assert torch.equal(weights["heads.pets.weight"], was["heads.pets.weight"])

    momentum = torch.arange(36.0).view(3, 12)
    training = {
        "optimizer/momentum_buffer/heads.moves.weight": momentum,
        "optimizer/step/heads.moves.weight": torch.tensor(7.0),
        "weights/heads.moves.weight": was["heads.moves.weight"],
        "totals/moves": torch.ones(4),
    }
    changed = with_rows(training, rows, fresh)
    expected = torch.stack([torch.zeros(12), momentum[2], momentum[0]])
    assert torch.equal(changed["optimizer/momentum_buffer/heads.moves.weight"], expected)
    assert changed["optimizer/step/heads.moves.weight"] == 7 and torch.equal(changed["totals/moves"], torch.ones(4))
    assert torch.equal(changed["weights/heads.moves.weight"], weights["heads.moves.weight"])
