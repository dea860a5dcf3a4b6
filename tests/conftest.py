"""Fixtures that several test files share."""

import logging
import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of recorded traces and data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BARNUM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set BARNUM_TEST_DATA to the folder that has it")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    """What classifiers remember of files is not to come from, or go to, the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Ctrl-C is what it is, also where tests run in the background of a shell, which ignores it there."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _threads():
    """With BARNUM_TEST_THREADS commands that are told no number of threads find so many processors."""
    wanted = os.environ.get("BARNUM_TEST_THREADS")
    with pytest.MonkeyPatch.context() as patch:
        if wanted:
            patch.setattr(os, "sched_getaffinity", lambda _: set(range(int(wanted))))
        yield


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Commands set logging up for a whole process; a test must not see another one's."""
    logger = logging.getLogger("barnum")
    # as it is when the program begins, whatever fixtures of a module or session have run before
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.handlers.clear()
