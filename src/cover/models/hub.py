"""save_pretrained, from_pretrained and push_to_hub of the Hugging Face hub, for models in our own format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from cover.errors import CheckpointError

if TYPE_CHECKING:
    from cover.models.timesformer.model import TimeSformer

MODEL_CARD = """---
{{ card_data }}
---

A TimeSformer trained on several datasets at once (CoVeR, {{ paper_url }}).

```python
import cover

model = cover.TimeSformer.from_pretrained("OWNER/NAME")
logits = model.predict(frames)  # frames uint8 [T, B, 3, Y, X] → {dataset: logits [B, classes]}
```
"""


class HubModel(
    PyTorchModelHubMixin,
    model_card_template=MODEL_CARD,
    paper_url="https://arxiv.org/abs/2112.07175",
    library_name="cover-video",
    pipeline_tag="video-classification",
):
    """Gives a model `save_pretrained(folder)`, which writes our config.json and model.safetensors and, where there is
    none, a README.md; `push_to_hub("owner/name")`, which uploads the same; and `from_pretrained`."""

    # Reading and writing build on the model's class, and so are imported only when they are used.

    def _save_pretrained(self, save_directory: Path) -> None:
        from cover.models.weights import save_model

        save_model(self, save_directory)  # type: ignore[arg-type]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **download: Any) -> TimeSformer:
        """The model in a folder or, only where a string names no folder, in that repository of the hub.

        In evaluation mode. download: revision, token, cache_dir, force_download, local_files_only, as in
        huggingface_hub. Raises CheckpointError for what is not a model of cover; `cover.load_weights` reads others.
        """
        from cover.core.run_files import CONFIG_FILE, WEIGHTS_FILE, find_checkpoint
        from cover.models.weights import load_model

        folder = Path(pretrained_model_name_or_path)
        if isinstance(pretrained_model_name_or_path, str) and not folder.exists():
            try:
                folder = Path(
                    snapshot_download(
                        pretrained_model_name_or_path, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE], **download
                    )
                )
            except (HfHubHTTPError, OSError, ValueError) as error:
                reason = str(error).strip().split("\n")[0]
                raise CheckpointError(
                    f"{folder} is no folder here and cannot be downloaded from the hub ({reason}); check the name"
                ) from None
        return load_model(find_checkpoint(folder))
