"""Packages that only a part of Barnum needs, and how to get them."""

from __future__ import annotations

import importlib.util

from barnum.errors import MissingPackageError

_EXTRA = {"torch": "network", "redis": "redis"}
# the registry's own build of torch brings some gigabytes of libraries for GPUs
_HINT = {
    "torch": "pip install 'barnum[network]' (without the libraries for GPUs: "
    "pip install torch --index-url https://download.pytorch.org/whl/cpu)"
}


def require(package: str, wants: str) -> None:
    """Check that a package is installed; ``wants`` says who needs it.

    Raises:
        MissingPackageError: it is not; the message says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        how = _HINT.get(package, f"pip install 'barnum[{_EXTRA[package]}]'")
        raise MissingPackageError(f"{wants} needs {package}, which is not installed: {how}")
