"""Paths of samples that are decoded on the way."""

from __future__ import annotations

import pytest

from barnum.errors import ImageError
from barnum.paths.opened import Decoded
from barnum.samples import Sample
from paths_tools import make_images, make_sample


def test_decoding_takes_images(tmp_path):
    sample = Sample.open(make_sample(tmp_path / "traces" / "a"))
    (tmp_path / "work").mkdir()
    with (
        pytest.raises(ImageError, match="name their folder"),
        Decoded(tmp_path / "work", preprocessed=False).opener(sample)(),
    ):
        pass
    images = make_images(tmp_path / "extract")
    opened = Decoded(tmp_path / "work", preprocessed=False, bin_dir=images)
    with opened.opener(sample)() as path:
        assert path.rows == 21
    opened.forget(sample)
    assert list((tmp_path / "work").iterdir()) == []
