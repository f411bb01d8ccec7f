"""VideoClassifier: a backbone with one head per dataset, as it is trained, saved and shared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from cover.config.families import family_names
from cover.core.batch import ClipBatch, MixedBatch
from cover.core.run_files import CONFIG_FILE, WEIGHTS_FILE, find_checkpoint
from cover.errors import CheckpointError, CoverError
from cover.models.backbone import Attribution, Backbone
from cover.models.config import ModelConfig
from cover.models.family import backbone_family, family_of
from cover.models.packing import PackedClips, PackedFrames, pack
from cover.models.pooler import AttentivePooler, activation_bytes, features, multiply_adds, token_backbone
from cover.models.weights import check_files, check_finite, load_exactly, read_config, read_tensors, save_weights

if TYPE_CHECKING:
    from cover.models.family import Attributor

BACKBONE, POOLER, HEADS, PROJECTIONS = "backbone.", "pooler.", "heads.", "projections."
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
    """One module per dataset. A dataset may share its name with a module's attribute: "train", "type", "keys".

    nn.ModuleDict rejects such names. Here `heads["train"]` is the head and `heads.train` is the method.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Register the head of a dataset."""
        self._modules[name] = module  # type: ignore[assignment]

    def train(self, mode: bool = True) -> Heads:
        """Switch between training and evaluation mode. This works even if a head is called "training"."""
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
    """A backbone of any family with one linear head per dataset, and perhaps a pooler between them.

    `model(batch)` takes a MixedBatch or {dataset: frames [T,B,C,Y,X]} and returns {dataset: logits [B, classes]}. It
    normalises uint8 frames; float frames must be normalised already. Clips of one batch may differ in length. The
    family decides which lengths and resolutions it accepts.

    For a MixedBatch, the result has every dataset of the mixture. A dataset without clips gets logits [0, classes], so
    that the backward pass of every process reaches every parameter. PackedFrames are answered by every head.

    `save_pretrained(folder)`, `push_to_hub("owner/name")` and `from_pretrained` come from huggingface_hub. They use
    this library's config.json and model.safetensors. The backbone's tensors have no prefix in `state_dict()` and in
    files; in `named_parameters()` they have the prefix "backbone.". Those of the pooler and the heads always have one.

    Args:
        config: The backbone, the heads and the normalisation.

    Raises:
        CoverError: The heads are attentive, and the family offers no tokens, or the pooler does not fit them.

    Attributes:
        backbone: The clip encoder.
        pooler: Makes the feature that the heads read of the backbone's tokens, if the heads are attentive.
        heads: {dataset: linear layer}.
        projections: What training adds beside the heads, if anything: {dataset: logits} in, further named logits out,
            for packed frames alone. It is in no state dict and in no file of the model.
        mean: The mean that uint8 frames are normalised with, for RGB in 0..1, float32 [3, 1, 1].
        std: The standard deviation that they are normalised with, in the same form.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.backbone: Backbone = family_of(config).backbone(config)
        self.pooler: AttentivePooler | None = None
        if config.pooler is not None:
            self.pooler = AttentivePooler(token_backbone(self.backbone).width, config.pooler)
        self.heads = Heads({name: nn.Linear(self.backbone.width, len(names)) for name, names in config.heads.items()})
        self.projections: nn.Module | None = None
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    @property
    def config(self) -> ModelConfig:
        """The configuration of the model."""
        return self.backbone.config

    def forward(self, batch: Mapping[str, ClipBatch] | Mapping[str, Tensor] | PackedFrames) -> dict[str, Tensor]:
        """Compute the logits of each dataset's clips with its own head.

        Args:
            batch: A MixedBatch, or {dataset: frames [T,B,C,Y,X]}, or packed frames.

        Returns:
            {dataset: logits [B, classes]}. For packed frames, B are all clips in packed order, and the logits of
            `projections` come on top.

        Raises:
            CoverError: A dataset has no head, or the clips differ in resolution.
        """
        if isinstance(batch, PackedFrames):
            features_BD = self._encode(batch)
            logits = {name: head(features_BD) for name, head in self.heads.items()}
            return logits if self.projections is None else logits | self.projections(logits)
        names = list(batch.counts) if isinstance(batch, MixedBatch) else list(batch)
        for name in names:
            if name not in self.heads:
                raise CoverError(f"no head for dataset {name!r}; this model's heads are {', '.join(self.heads)}")
        frames, rows = pack(batch)
        features_BD = self._encode(frames)
        return {name: self.heads[name](features_BD[rows.get(name, slice(0))]) for name in names}

    def predict(self, frames_TBCYX: Tensor) -> dict[str, Tensor]:
        """Compute the logits of every head for the same clips.

        Args:
            frames_TBCYX: uint8, or normalised float.

        Returns:
            {dataset: logits [B, classes]}.
        """
        features_BD = self.features(frames_TBCYX)
        return {name: head(features_BD) for name, head in self.heads.items()}

    def features(self, frames_TBCYX: Tensor) -> Tensor:
        """Compute the features of clips, which are the input of the heads.

        Args:
            frames_TBCYX: uint8, or normalised float.

        Returns:
            Features [B, D].
        """
        return self._encode(pack({"": frames_TBCYX})[0])

    def attributor(self) -> Attributor:
        """Return the function that explains a class score.

        Raises:
            CoverError: The family cannot explain its models, or the head is attentive.
        """
        attributor = family_of(self.config).attribution
        if attributor is None:
            known = [name for name in family_names() if backbone_family(name).attribution]
            remedy = f"choose a run with model.family = {' or '.join(map(json.dumps, known))}"
            raise CoverError(f"models of the family {self.config.family} cannot be explained; {remedy}")
        if self.pooler is not None:
            raise CoverError(
                'models with an attentive head cannot be explained; choose a run with model.head = "linear"'
            )
        return attributor

    def attribute(self, frames_TCYX: Tensor, head: str, label: int) -> Attribution:
        """Compute how much each patch of a clip contributed to a class.

        Args:
            frames_TCYX: One clip, uint8 or normalised float. An image is a clip of one frame.
            head: The dataset that has the class.
            label: The number of the class.

        Returns:
            The share of each patch.

        Raises:
            CoverError: The family cannot explain its models, or the head is attentive.
        """
        attributor = self.attributor()
        if frames_TCYX.dtype == torch.uint8:
            frames_TCYX = (frames_TCYX.float() / 255 - self.mean) / self.std
        has_rivals = head not in self.config.sigmoid_heads

        def score(feature_D: Tensor) -> Tensor:
            logits: Tensor = self.heads[head](feature_D)
            return class_score(logits, label) if has_rivals else logits[label]

        return attributor(self.backbone, frames_TCYX, score)

    def units(self) -> Sequence[nn.Module]:
        """Return the repeated parts, from input to output. Each is recomputed, compiled and sharded by itself."""
        return [*self.backbone.units(), *(self.pooler.blocks if self.pooler is not None else ())]

    @property
    def num_layers(self) -> int:
        """The number of the last layer, to which the pooler and the heads belong."""
        return self.backbone.num_layers

    def layer_of(self, parameter: str) -> int:
        """Return the layer of a parameter, for layer-wise learning rates, from 0 to `num_layers`.

        Args:
            parameter: Its name in `named_parameters()`.
        """
        if parameter.startswith(BACKBONE):
            return self.backbone.layer_of(parameter.removeprefix(BACKBONE))
        return self.num_layers

    def multiply_adds(self, num_frames: int, heads: Iterable[str]) -> int:
        """Count the multiply-adds of one clip through backbone, pooler and some heads, forward only, as papers do.

        Args:
            num_frames: Frames of the clip, each of `config.image_size_px`.
            heads: The datasets whose heads are included.
        """
        size_px, width = self.config.image_size_px, self.backbone.width
        cost = self.backbone.multiply_adds(num_frames, size_px, size_px)
        if self.config.pooler is not None:
            cost += multiply_adds(width, self._num_tokens(num_frames), self.config.pooler.depth)
        return cost + sum(width * len(self.config.heads[name]) for name in heads)

    def activation_bytes(self, num_frames: int, *, half: bool) -> float:
        """Estimate the bytes that the backward pass keeps for one clip, without recomputation.

        Args:
            num_frames: Frames of the clip, each of `config.image_size_px`.
            half: Whether the model computes in 16-bit precision.
        """
        size_px = self.config.image_size_px
        kept = self.backbone.activation_bytes(num_frames, size_px, size_px, half=half)
        if self.config.pooler is not None:
            depth = self.config.pooler.depth
            kept += activation_bytes(self.backbone.width, self._num_tokens(num_frames), depth, half=half)
        return kept

    def normalise_as(self, config: ModelConfig) -> None:
        """Adopt the normalisation that a set of weights expects, of the input and in layer norms.

        Args:
            config: The configuration of the weights: its `mean`, `std` and epsilons are adopted.
        """
        self.backbone.normalise_as(config)
        if self.pooler is not None and config.pooler is not None:
            self._set_pooler_eps(config.pooler.eps)
        device = next(self.parameters()).device
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32, device=device)
            setattr(self, name, values.view(-1, 1, 1))

    def _encode(self, frames: PackedFrames) -> Tensor:
        clips = PackedClips(**vars(frames), mean_C11=self.mean, std_C11=self.std)
        return features(self.backbone, self.pooler, clips)

    def _num_tokens(self, num_frames: int) -> int:
        size_px = self.config.image_size_px
        return token_backbone(self.backbone).num_tokens(num_frames, size_px, size_px)

    def _set_pooler_eps(self, eps: float) -> None:
        assert self.pooler is not None and self.config.pooler is not None
        self.backbone.config = replace(self.config, pooler=replace(self.config.pooler, eps=eps))
        for module in self.pooler.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = eps

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self, save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **download: Any) -> VideoClassifier:
        """Load a model from a folder, or from a repository of the Hugging Face hub.

        Args:
            pretrained_model_name_or_path: A folder, a run, or "owner/name". A string is looked up in the hub only if no
                such folder exists.
            **download: revision, token, cache_dir, force_download, local_files_only, as in huggingface_hub.

        Returns:
            The model in evaluation mode.

        Raises:
            CheckpointError: It cannot be downloaded, or is not a model of cover; `cover.load_weights` reads others.
        """
        folder = Path(pretrained_model_name_or_path)
        if isinstance(pretrained_model_name_or_path, str) and not folder.exists():
            files = [CONFIG_FILE, WEIGHTS_FILE]
            try:
                folder = Path(snapshot_download(pretrained_model_name_or_path, allow_patterns=files, **download))
            except (HfHubHTTPError, OSError, ValueError) as error:
                reason = str(error).strip().split("\n")[0]
                raise CheckpointError(
                    f"{folder} is not a folder here and cannot be downloaded from the hub ({reason}); check the name"
                ) from None
        return read_model(find_checkpoint(folder))


def empty_model(config: ModelConfig) -> VideoClassifier:
    """Build a model without memory for its weights (on torch's meta device), to look at it or to assign them."""
    with torch.device("meta"):
        return VideoClassifier(config)


def head_of(name: str) -> str:
    """Return the dataset whose head has the tensor `name`, named as in files; "" if it is a tensor of the backbone."""
    return name.removeprefix(HEADS).rpartition(".")[0] if name.startswith(HEADS) else ""


def saved_name(parameter: str) -> str:
    """Return the name that a parameter of `named_parameters()` has in files."""
    return parameter.removeprefix(BACKBONE)


def save_model(model: VideoClassifier, folder: Path) -> None:
    """Write config.json and model.safetensors.

    Args:
        model: The model.
        folder: Created if it does not exist.
    """
    save_weights(model.config, {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder)


def read_model(folder: Path) -> VideoClassifier:
    """Read a model of this library from its folder, in evaluation mode. `load_model` takes everything else, too.

    Args:
        folder: Has config.json and model.safetensors, as written by `cover export`, `save_pretrained` or training.

    Raises:
        CheckpointError: The files are missing, damaged or not written by cover.
    """
    check_files(folder)
    model = empty_model(read_config(folder))
    tensors = read_tensors(folder)
    load_exactly(model, tensors, folder)
    for name, tensor in tensors.items():
        check_finite(folder, name, tensor)
    model.normalise_as(model.config)
    return model.eval()


def _without_prefix(module: nn.Module, tensors: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """Rename the backbone's tensors in a state dict from module names to file names, and leave out projections."""
    for name in [name for name in tensors if name.startswith(prefix + PROJECTIONS)]:
        del tensors[name]
    for name in [name for name in tensors if name.startswith(prefix)]:
        tensors[prefix + name.removeprefix(prefix).removeprefix(BACKBONE)] = tensors.pop(name)


def _with_prefix(module: nn.Module, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename them from file names to module names."""
    for name in [name for name in tensors if name.startswith(prefix)]:
        bare = name.removeprefix(prefix)
        tensors[prefix + (bare if bare.startswith((POOLER, HEADS)) else BACKBONE + bare)] = tensors.pop(name)


def class_score(logits: Tensor, label: int) -> Tensor:
    """Return the logit of a class minus the mean of the others, weighted by their softmax (held constant).

    Args:
        logits: [classes].
        label: The number of the class.
    """
    others = torch.cat([logits[:label], logits[label + 1 :]])
    return logits[label] - others.softmax(0).detach() @ others
