"""A model that is read keeps what it is: settings that ask for something else are refused."""

from __future__ import annotations

from typing import Any

from barnum.errors import ModelError
from barnum.learning.settings import NetworkSettings
from barnum.models.model import Model
from barnum.paths import Learn

# setting → what the configuration of a network calls it
_SIZES = {
    "units": "units",
    "sequence_len": "sequence_len",
    "embedding_output_dimension": "embedding",
    "use_cudnn": "cudnn",
}
_LEARN = frozenset(("disable_ret", "disable_icall", "disable_ijmp", "learn_call", "learn_jmp"))


def check_given(model: Model, settings: NetworkSettings, given: frozenset[str], learn: Learn) -> None:
    """Settings that were ``given`` explicitly do not contradict the model that is read from
    ``settings.use_model``; ``learn`` is what they ask for.

    Raises:
        ModelError: one does.
    """
    document = model.document
    has: dict[str, Any]
    if document is None:
        has = {
            "network": "paper",
            "vocabulary": "modulo",
            "sequence_len": model.network.config.sequence_len,
            "max_classes": model.network.config.classes,
            "embedding_input_dimension": model.network.config.inputs,
        }
    else:
        has = {"network": document.network, "vocabulary": document.tokens.vocabulary}
        has |= {name: document.config[size] for name, size in _SIZES.items() if size in document.config}
        if document.tokens.vocabulary == "modulo":
            has |= {
                "max_classes": document.tokens.classes,
                "embedding_input_dimension": document.tokens.inputs,
            }
        if given & _LEARN and learn != document.learn:
            raise ModelError(
                f"{settings.use_model}: has learnt {_kinds(document.learn)}, the options "
                f"ask for {_kinds(learn)}: leave them out"
            )
    for name, value in has.items():
        wanted = getattr(settings, name)
        if name in given and wanted != value:
            raise ModelError(
                f"{settings.use_model}: its {name.replace('_', '-')} is {value}, the options ask for "
                f"{wanted}: leave them out"
            )


def _kinds(learn: Learn) -> str:
    """The kinds of transfers in words."""
    return (
        ", ".join(name for name in ("ret", "icall", "ijmp", "call", "jmp") if getattr(learn, name))
        or "nothing"
    )
