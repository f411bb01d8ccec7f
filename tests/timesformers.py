"""Models, configurations and recipes of tests as those of a TimeSformer, which is what they are."""

from __future__ import annotations

from cover.config.recipe import Recipe
from cover.models.classifier import VideoClassifier
from cover.models.config import ModelConfig
from cover.models.timesformer.config import TimeSformerConfig, TimeSformerSection
from cover.models.timesformer.model import TimeSformer


def backbone_of(model: VideoClassifier) -> TimeSformer:
    assert isinstance(model.backbone, TimeSformer)
    return model.backbone


def config_of(config: ModelConfig) -> TimeSformerConfig:
    assert isinstance(config, TimeSformerConfig)
    return config


def section_of(recipe: Recipe) -> TimeSformerSection:
    assert isinstance(recipe.model, TimeSformerSection)
    return recipe.model
