"""Models behind the prefixes and keys of training code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models import foreign
from tests.models.oracle import create_oracle, our_weights
from torch import Tensor

from cover.errors import CheckpointError
from cover.models.create import create_model
from cover.models.loading import load_weights
from cover.models.sources import open_source, split_key

STATE = {name.replace("heads.k400", "head"): tensor for name, tensor in our_weights(create_oracle()).items()}
SHIFTED = {name: tensor + 1 for name, tensor in STATE.items()}


def behind(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def inside_blocks(wrapper: str) -> dict[str, Tensor]:
    return {name.replace("blocks.0.", f"blocks.0.{wrapper}."): tensor for name, tensor in STATE.items()}


def opened(content: object, folder: Path, key: str = "") -> tuple[str, Tensor]:
    """The key of the model taken, and its cls_token."""
    torch.save(content, folder / "file.pth")
    source = open_source(f"{folder / 'file.pth'}{key}")
    assert source.format == "timesformer" and source.config.heads == {"head": ("0", "1", "2", "3", "4")}
    return source.taken, source.tensor("cls_token")


@pytest.mark.parametrize(
    "state",
    [
        *map(behind, ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_forward_module.model.")),
        *map(behind, ("_fsdp_wrapped_module.", "backbone.", "encoder.", "model.net.", "module.base_encoder.")),
        inside_blocks("_orig_mod"),
        inside_blocks("_checkpoint_wrapped_module"),
        inside_blocks("_fsdp_wrapped_module._checkpoint_wrapped_module"),
        {"module": STATE, "dp_world_size": 8},
        *({key: STATE, "epoch": 3} for key in ("state_dict", "model_state", "model_ema", "net", "params")),
        {"state": {"model": behind("module.")}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}},
        behind("module.") | {"n_averaged": torch.tensor(5)},
    ],
)
def test_the_same_weights_are_found_behind_any_prefix_and_key(state: object, tmp_path: Path) -> None:
    assert torch.equal(opened(state, tmp_path)[1], STATE["cls_token"])


@pytest.mark.parametrize(
    ("content", "key", "taken", "expected"),
    [
        ({"state_dict": STATE, "state_dict_ema": SHIFTED}, "", "state_dict_ema", SHIFTED),
        ({"state_dict": STATE, "state_dict_ema": SHIFTED}, "#state_dict", "state_dict", STATE),
        ({"student": behind("backbone."), "teacher": behind("backbone.", SHIFTED)}, "", "teacher.backbone", SHIFTED),
        ({"student": behind("backbone."), "teacher": SHIFTED}, "#student", "student.backbone", STATE),
        (behind("base_encoder.") | behind("momentum_encoder.", SHIFTED), "", "base_encoder", STATE),
        (
            behind("base_encoder.") | behind("momentum_encoder.", SHIFTED),
            "#momentum_encoder",
            "momentum_encoder",
            SHIFTED,
        ),
        (STATE | behind("ema.", SHIFTED), "", "ema", SHIFTED),
        (STATE | behind("ema.", SHIFTED), "#", "", STATE),
    ],
)
def test_of_several_models_the_average_is_taken_and_a_key_chooses(
    content: object, key: str, taken: str, expected: dict[str, Tensor], tmp_path: Path
) -> None:
    found, cls_token = opened(content, tmp_path, key)
    assert found == taken
    assert torch.equal(cls_token, expected["cls_token"])


def test_the_report_says_which_model_was_taken(tmp_path: Path) -> None:
    torch.save({"model": STATE, "model_ema": SHIFTED}, path := tmp_path / "file.pth")
    model = create_model(depth=2, width=48, num_heads=3, image_size=32, num_frames=4, heads={"k400": 5})
    assert load_weights(model, path).notes[0] == (
        "model: model_ema, one of several in the file; for another, add #model to the path"
    )
    assert torch.equal(model.get_parameter("backbone.cls_token"), SHIFTED["cls_token"])
    assert not open_source(path).unused


@pytest.mark.parametrize(("key", "count"), [("student", "no"), ("ema", "several")])
def test_a_key_without_one_model_is_refused_with_the_choices(key: str, count: str, tmp_path: Path) -> None:
    torch.save({"model": {"ema": STATE}, "ema": {"last": SHIFTED}}, path := tmp_path / "file.pth")
    with pytest.raises(CheckpointError) as caught:
        open_source(f"{path}#{key}")
    assert str(caught.value) == f"{path} has {count} weights under {key!r}; use '{path}#model.ema', '{path}#ema.last'"


def test_a_number_sign_in_a_path_is_no_key(tmp_path: Path) -> None:
    torch.save(STATE, path := tmp_path / "run#3.pth")
    assert open_source(path).path == path
    assert split_key(f"{path}#teacher") == (str(path), "teacher")
    assert split_key("hf://owner/name#teacher") == ("hf://owner/name", "teacher")


def test_two_tensors_for_one_place_are_refused(tmp_path: Path) -> None:
    torch.save(STATE | {"module.cls_token": STATE["cls_token"] + 1}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"file\.pth has cls_token with and without a prefix; use another file"):
        open_source(tmp_path / "file.pth")


def test_a_masked_autoencoder_gives_its_encoder(tmp_path: Path) -> None:
    """Its decoder has blocks, too, but no patches; what else it has takes no part in the features."""
    vit = foreign.create_vit()
    encoder = {name: part for name, part in foreign.timm_state(vit).items() if not name.startswith("head")}
    decoder = {f"decoder_{name}": part for name, part in encoder.items() if "blocks" in name or "pos" in name}
    nested = {f"decoder.{name}": part for name, part in encoder.items() if "blocks" in name}
    mask = {"mask_token": torch.zeros(1, 1, 64), "decoder_pred.weight": torch.zeros(3)}
    torch.save({"model": encoder | decoder | nested | mask}, tmp_path / "mae.pth")
    source = open_source(tmp_path / "mae.pth")
    assert (source.format, source.taken, source.others, source.config.heads) == ("timm-vit", "model", (), {})
    assert {*source.unused} == {*decoder, *nested, *mask}
