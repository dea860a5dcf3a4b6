"""What a kind of network is to everything else: how it is restored from a file, how it scores, and, where a
trainer learns it, its training data.

A new kind is one file with a class, of which it makes an instance, and one line in
:mod:`barnum.models.networks.kinds`. That file imports the
code that trains, and torch, in the methods that need them: judging needs neither, unless the network itself
is computed by torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from barnum.errors import ModelError
from barnum.models.arrays import Arrays, Shapes
from barnum.paths import Learn, OpenPath, PathReader
from barnum.sequences import Tokens, Vocabulary
from barnum.texts import shortened

if TYPE_CHECKING:
    from barnum.models.model import Model, ModelDocument
    from barnum.models.networks.spec import Spec
    from barnum.models.networks.task import Task

# numbers that a network may lack of those its document asks for, and still be told which
_SMALL = 1 << 20

Columns = dict[str, NDArray[Any]]
# opens a progress bar of a name and a total, and gives the function that moves it
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class Network(Protocol):
    """The numbers of a network."""

    @property
    def config(self) -> Any:
        """Its sizes."""
        ...

    def arrays(self) -> Arrays:
        """All numbers by name."""
        ...


@dataclass(frozen=True, slots=True)
class Weights:
    """A network as it lies in a file, without the code that computes it."""

    config: Any
    values: Arrays

    def arrays(self) -> Arrays:
        """All numbers by name."""
        return self.values


class RunScorer(Protocol):
    """A model ready to score runs, one after the other."""

    def columns(self, path: PathReader) -> Iterator[Columns]:
        """The columns of an evaluation; see models.evaluate.Evaluator.columns()."""
        ...


@dataclass(frozen=True, slots=True)
class Saved:
    """The parts of a model's file that concern its network. ``vocabulary`` is in the network's tokens;
    ``arrays`` are the network's numbers, ``extra`` what else it needs, by its full name."""

    file: Path
    document: ModelDocument
    vocabulary: Vocabulary
    arrays: Arrays
    extra: Arrays

    def config(self, kind: type[Any]) -> Any:
        """The sizes that the document names, as a struct of that type. Raises ModelError."""
        try:
            return msgspec.convert(self.document.config, kind)
        except msgspec.ValidationError as error:
            raise ModelError(
                f"{self.file}: the model's document has sizes that cannot be ({shortened(str(error))})"
            ) from None

    def weights(self, config: Any, shapes: Shapes) -> Weights:
        """The numbers, of which each is there, has its shape, is f32 and finite.

        Raises:
            ModelError: they are not.
        """
        file, arrays = self.file, self.arrays
        # absurd sizes in a document take no memory: they are added up, nothing is made of them
        count = sum(int(np.prod(shape, dtype=object)) for shape in shapes.values())
        there = sum(array.size for array in arrays.values())
        if count > 2 * there + _SMALL:
            raise ModelError(f"{file}: holds {there:,} numbers of a network, the model wants {count:,}")
        present = {name: array.shape for name, array in arrays.items()}
        if shapes != present:
            names = shapes.keys() | present.keys()
            odd = min(name for name in names if shapes.get(name) != present.get(name))
            raise ModelError(
                f"{file}: {shortened(odd)} is {present.get(odd, 'missing')}, "
                f"the model wants {shapes.get(odd, 'none')}"
            )
        for name, array in arrays.items():
            if array.dtype != np.float32 or not bool(np.isfinite(array).all()):
                raise ModelError(
                    f"{file}: {name} holds values that are no finite 32-bit numbers: learn the model anew"
                )
        return Weights(config, arrays)

    def check_extra(self, wanted: dict[str, type], unread: frozenset[str] = frozenset()) -> None:
        """``extra`` holds one-dimensional arrays of these names and types, and no others but those
        ``unread``, which are not looked at.

        Raises:
            ModelError: it does not.
        """
        for name in sorted((wanted.keys() | self.extra.keys()) - unread):
            array = self.extra.get(name)
            if array is None or name not in wanted or array.dtype != wanted[name] or array.ndim != 1:
                raise ModelError(
                    f"{self.file}: {shortened(name)} is missing, or of another type than the model wants"
                )

    def other_sizes(self) -> ModelError:
        """The error to raise where the sizes are not those that the vocabulary asks for."""
        return ModelError(f"{self.file}: its vocabulary has other sizes than the model's document says")


class Kind(ABC):
    """A kind of network. ``name`` is that of ``--network`` and of the model's document."""

    name: str

    def own_vocabulary(self, tokens: Tokens) -> bool:
        """Whether the network has a vocabulary in its own tokens, besides that of whole blocks."""
        return False

    @abstractmethod
    def restore(self, saved: Saved) -> Network:
        """The network of a model's file.

        Raises:
            ModelError: the numbers are not those of such a network.
        """

    @abstractmethod
    def scorer(self, model: Model, threads: int, learn: Learn) -> RunScorer:
        """What scores runs under a model of this kind; ``learn`` says which transfers count.

        Raises:
            MissingPackageError: a package that computes the network is not installed.
        """


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a network is trained with where nothing is said."""

    epochs: int
    learning_rate: float
    vocabulary: Literal["learnt", "modulo"]


BlockCounts = tuple[NDArray[np.uint64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Training:
    """What was read of the training runs. ``vocabulary`` is that of whole blocks, ``names`` in the network's
    tokens (the same where it has none of its own). ``blocks``: tokens u64[k] and counts i64[k] of the blocks
    of each run, where the kind counts them. ``runs`` are to be read again: of each how to open it, and how
    many transfers it has with loops folded."""

    vocabulary: Vocabulary
    names: Vocabulary
    blocks: list[BlockCounts]
    runs: list[tuple[OpenPath, int]]
    threads: int
    bar: Bar


class TrainedKind(Kind):
    """A kind that the trainer learns."""

    defaults: Defaults
    # whether Training.blocks are wanted
    counts_blocks = False
    # options of a network, as `barnum lstm` and Spec name them, that have no effect on this one
    idle: tuple[str, ...] = ()

    @abstractmethod
    def task(self, spec: Spec, training: Training) -> tuple[Task, Arrays]:
        """The training data with the network that learns from them, and what else the model needs by its
        full name (``extra``)."""
