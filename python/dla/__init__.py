"""Deep Layer Aggregation networks, NumPy in and out.

>>> import dla
>>> dla.Model().classify("photo.jpg", topk=1)            # the built-in network, ten classes
>>> model = dla.Model("dla34", weights="dla34.safetensors")
>>> logits = model(model.preprocess("photo.jpg"))         # (1, 1000)
>>> maps = model.features(batch, ["level3", "level5"])    # {name: (batch, channels, height, width)}
"""

from __future__ import annotations

from typing import List

from ._library import DlaError, lib
from .images import Photo, Preprocessing, preprocess
from .model import Model, Score

__all__ = ["DlaError", "Model", "Photo", "Preprocessing", "Score", "models", "preprocess"]
__version__: str = lib.dla_version().decode()


def models() -> List[str]:
    """Names of the published networks."""
    return [lib.dla_architecture_at(index).contents.name.decode() for index in range(lib.dla_architecture_count())]
