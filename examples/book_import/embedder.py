"""Texts to vectors: a small interface, and one model that runs on this machine.

The embedder is one of the runtime's `deps`; without one, books get no vectors.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from types import ModuleType


class Embedder(ABC):
    """Makes vectors of texts; near texts get near ones."""

    name: str
    """Of the model: vectors of different models are never compared."""
    dimensions: int

    @abstractmethod
    async def embed(self, text: str) -> Sequence[float]:
        """The vector of a text; whatever it raises fails the attempt."""


class WordLlamaEmbedder(Embedder):
    """WordLlama (extra `embeddings`): averaged token vectors, whose wheel carries its weights of 16 MB.

    It asks no network, and a text takes a millisecond.
    """

    name = "wordllama/l2_supercat_256"
    dimensions = 256

    def __init__(self) -> None:
        """Reads the weights (0.3 s); raises `ModuleNotFoundError` without the extra."""
        package = _import_quietly()
        # The tokenizer lies in the wheel, too, but is only found through the folder for downloads.
        folder = Path(cast("str", package.__file__)).parent
        self._model = package.WordLlama.load(dim=256, cache_dir=folder, disable_download=True)

    async def embed(self, text: str) -> Sequence[float]:
        """See `Embedder.embed`."""
        vectors: Any = await asyncio.to_thread(self._model.embed, [text], norm=True)
        return [float(number) for number in vectors[0]]


def _import_quietly() -> ModuleType:
    """Import wordllama, which sets up the logging of the whole process: take that back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    wordllama = import_module("wordllama")
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)
    return wordllama


def pack_vector(vector: Sequence[float]) -> bytes:
    """A vector as it is stored: 4 bytes for each number."""
    return array("f", vector).tobytes()
