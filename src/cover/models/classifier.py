"""A backbone with one linear head a dataset: what is trained, saved, shared and asked for answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from cover.core.batch import ClipBatch, MixedBatch
from cover.core.run_files import CONFIG_FILE, WEIGHTS_FILE, find_checkpoint
from cover.errors import CheckpointError, CoverError
from cover.models.backbone import Attribution, Backbone
from cover.models.config import ModelConfig
from cover.models.family import family_of
from cover.models.packing import PackedClips, pack
from cover.models.weights import check_files, check_finite, load_exactly, read_config, read_tensors, save_weights

BACKBONE, HEADS = "backbone.", "heads."
MODEL_CARD = """---
{{ card_data }}
---

A video transformer trained on several datasets at once (CoVeR, {{ paper_url }}).

```python
import cover

model = cover.VideoClassifier.from_pretrained("OWNER/NAME")
logits = model.predict(frames)  # frames uint8 [T, B, 3, Y, X] → {dataset: logits [B, classes]}
```
"""


class Heads(nn.ModuleDict):
    """One module a dataset, which may also be called like an attribute of a module: "train", "type", "keys".

    nn.ModuleDict refuses such names. Here `heads["train"]` is the head and `heads.train` the method.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Register a head."""
        self._modules[name] = module  # type: ignore[assignment]

    def train(self, mode: bool = True) -> Heads:
        """Switch between training and evaluation, also where a head is called "training"."""
        self.__dict__["training"] = mode
        for head in self.values():
            head.train(mode)
        return self


class VideoClassifier(
    nn.Module,
    PyTorchModelHubMixin,
    model_card_template=MODEL_CARD,
    paper_url="https://arxiv.org/abs/2112.07175",
    library_name="cover-video",
    pipeline_tag="video-classification",
):
    """A backbone of any family with one linear head a dataset.

    `model(batch)` takes a MixedBatch or {dataset: frames [T,B,C,Y,X]} and returns {dataset: logits [B, classes]}.
    uint8 frames are normalised inside; float frames count as normalised already. A MixedBatch is answered for every
    dataset of the mixture, an absent one by logits [0, classes], so that each process's backward pass touches every
    parameter. Clips of one batch may differ in length; which lengths and resolutions are accepted is up to the family.

    `save_pretrained(folder)`, `push_to_hub("owner/name")` and `from_pretrained` are those of huggingface_hub, on this
    library's config.json and model.safetensors. In `state_dict()`, as in files, the tensors of the backbone have no
    prefix; in `named_parameters()` they have "backbone.".

    Attributes:
        backbone: Clips in, features out.
        heads: {dataset: linear layer}.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone: Backbone = family_of(config).backbone(config)
        self.heads = Heads({name: nn.Linear(self.backbone.width, len(names)) for name, names in config.heads.items()})
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    @property
    def config(self) -> ModelConfig:
        """What the model is made of."""
        return self.backbone.config

    def forward(self, batch: Mapping[str, ClipBatch] | Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = list(batch.counts) if isinstance(batch, MixedBatch) else list(batch)
        for name in names:
            if name not in self.heads:
                raise CoverError(f"no head for dataset {name!r}; this model's heads are {', '.join(self.heads)}")
        packed = self._pack(batch)
        features_BD = self.backbone(packed)
        return {name: self.heads[name](features_BD[packed.rows.get(name, slice(0))]) for name in names}

    def predict(self, frames_TBCYX: Tensor) -> dict[str, Tensor]:
        """Logits of every head on the same clips: {dataset: [B, classes]}."""
        features_BD = self.features(frames_TBCYX)
        return {name: head(features_BD) for name, head in self.heads.items()}

    def features(self, frames_TBCYX: Tensor) -> Tensor:
        """What the heads read of each clip: [B, D]."""
        features_BD: Tensor = self.backbone(self._pack({"": frames_TBCYX}))
        return features_BD

    def attribute(self, frames_TCYX: Tensor, head: str, label: int) -> Attribution:
        """Which patches of a clip spoke for a class.

        Args:
            frames_TCYX: One clip, uint8, or normalised float; an image is a clip of one frame.
            head: The dataset that has the class.
            label: Its number.

        Raises:
            CoverError: The family offers no explanations.
        """
        attributor = family_of(self.config).attribution
        if attributor is None:
            raise CoverError(f"models of the family {self.config.family} cannot be explained; choose another run")
        if frames_TCYX.dtype == torch.uint8:
            frames_TCYX = (frames_TCYX.float() / 255 - self.mean) / self.std
        return attributor(self.backbone, frames_TCYX, lambda feature_D: class_score(self.heads[head](feature_D), label))

    @property
    def num_layers(self) -> int:
        """The number of the last layer, that of the heads."""
        return self.backbone.num_layers

    def layer_of(self, parameter: str) -> int:
        """The layer of a parameter, for layer-wise learning rates, from 0 to `num_layers`.

        Args:
            parameter: Its name in `named_parameters()`.
        """
        if parameter.startswith(BACKBONE):
            return self.backbone.layer_of(parameter.removeprefix(BACKBONE))
        return self.num_layers

    def normalise_as(self, config: ModelConfig) -> None:
        """Normalise as the weights that the model was given expect: its input, and in its layer norms."""
        self.backbone.config = dataclasses.replace(
            self.config, mean=config.mean, std=config.std, layer_norm_eps=config.layer_norm_eps
        )
        device = next(self.parameters()).device
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32, device=device)
            setattr(self, name, values.view(-1, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = config.layer_norm_eps

    def _pack(self, batch: Mapping[str, ClipBatch] | Mapping[str, Tensor]) -> PackedClips:
        return pack(batch, self.mean, self.std)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self, save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **download: Any) -> VideoClassifier:
        """The model in a folder or, only where a string names no folder, in that repository of the hub.

        Args:
            pretrained_model_name_or_path: A folder, a run, or "owner/name".
            **download: revision, token, cache_dir, force_download, local_files_only, as in huggingface_hub.

        Returns:
            The model in evaluation mode.

        Raises:
            CheckpointError: It is not a model of cover; `cover.load_weights` reads others.
        """
        folder = Path(pretrained_model_name_or_path)
        if isinstance(pretrained_model_name_or_path, str) and not folder.exists():
            files = [CONFIG_FILE, WEIGHTS_FILE]
            try:
                folder = Path(snapshot_download(pretrained_model_name_or_path, allow_patterns=files, **download))
            except (HfHubHTTPError, OSError, ValueError) as error:
                reason = str(error).strip().split("\n")[0]
                raise CheckpointError(
                    f"{folder} is no folder here and cannot be downloaded from the hub ({reason}); check the name"
                ) from None
        return load_model(find_checkpoint(folder))


def saved_name(parameter: str) -> str:
    """The name in files of a parameter that `named_parameters()` calls so."""
    return parameter.removeprefix(BACKBONE)


def save_model(model: VideoClassifier, folder: Path) -> None:
    """Write config.json and model.safetensors."""
    save_weights(model.config, {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder)


def load_model(folder: Path) -> VideoClassifier:
    """Load the model saved in a folder, in evaluation mode.

    Args:
        folder: One that `cover export`, `save_pretrained` or a training has written, with config.json and
            model.safetensors in it.

    Raises:
        CheckpointError: They are missing, damaged or not ours.
    """
    check_files(folder)
    with torch.device("meta"):
        model = VideoClassifier(read_config(folder))
    tensors = read_tensors(folder)
    load_exactly(model, tensors, folder)
    for name, tensor in tensors.items():
        check_finite(folder, name, tensor)
    model.normalise_as(model.config)
    return model.eval()


def _without_prefix(module: nn.Module, tensors: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """Name the backbone's tensors in a state dict as files do."""
    for name in [name for name in tensors if name.startswith(prefix)]:
        tensors[prefix + name.removeprefix(prefix).removeprefix(BACKBONE)] = tensors.pop(name)


def _with_prefix(module: nn.Module, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    """Name them as the module's own parameters again."""
    for name in [name for name in tensors if name.startswith(prefix)]:
        bare = name.removeprefix(prefix)
        tensors[prefix + (bare if bare.startswith(HEADS) else BACKBONE + bare)] = tensors.pop(name)


def class_score(logits: Tensor, label: int) -> Tensor:
    """A class' logit less the mean of the others', weighted by their probabilities; logits [classes]."""
    others = torch.cat([logits[:label], logits[label + 1 :]])
    return logits[label] - others.softmax(0).detach() @ others
