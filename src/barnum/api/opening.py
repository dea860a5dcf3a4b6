"""Opens samples, paths, evaluations, models and detectors."""

from __future__ import annotations

from pathlib import Path

from barnum import evaluations as evaluation_files
from barnum.api.common import File, name_of
from barnum.detector import Detector
from barnum.errors import SampleError
from barnum.evaluations import Evaluation
from barnum.models.model import Model
from barnum.paths import PathReader
from barnum.samples import Sample, folder_named


def open_sample(folder: File) -> Sample:
    """Open the folder of one recorded run, or of one report of a sandbox. Where nothing is there, the folder
    beside it whose document has that name: ``open_sample("traces/report.pdf")``.

    Raises:
        SampleError: it is neither, or several documents have that name.
    """
    place = folder_named(Path(folder))
    try:
        return Sample.open(place)
    except SampleError:
        from barnum.calls.readers import report_names

        try:
            return Sample.open(place, report_names())
        except SampleError:
            pass
        raise


def find_samples(root: File, *, reports: bool = False) -> list[Sample]:
    """All samples below a folder, sorted by the name of their folders; with ``reports`` those that have a
    report of a sandbox, else those that have a trace.

    Raises:
        SampleError: it is no folder, or cannot be read.
    """
    from barnum import samples

    if not reports:
        return samples.find_samples(Path(root))
    from barnum.calls.readers import report_names

    return samples.find_samples(Path(root), reports=report_names())


def open_path(place: File | Sample) -> PathReader:
    """Open the path of a run that was preprocessed: a sample, its folder, or the file itself.

    Steps are read when they are asked for. A table of them (``step``, ``bbid``, ``module``, ``offset``,
    ``kind``, ``gap``, ``stream``) is ``pyarrow.table(path)``, ``polars.DataFrame(path)`` and the like.

    Raises:
        SampleError: the sample was not preprocessed.
        ParsedTraceError: the file is broken.
    """
    from barnum import paths

    file = place.parsed if isinstance(place, Sample) else folder_named(Path(place))
    if file is not None and file.is_dir():
        file = open_sample(file).parsed
    if file is None:
        raise SampleError(f"{name_of(place)}: is not preprocessed: call barnum.preprocess() first")
    return paths.open_path(file)


def open_evaluation(file: File) -> Evaluation:
    """Open an evaluation file; a table of its predictions is ``pyarrow.table(evaluation)`` and the like.

    Raises:
        EvaluationError: it is missing or broken.
    """
    return evaluation_files.open_evaluation(Path(file))


def open_model(document: File, weights: File | None = None) -> Model:
    """Read a model: the two files that ``barnum lstm`` saves, or the one of ``barnum prob``.

    Raises:
        ModelError: a file is missing or broken, or they do not belong together.
        MissingPackageError: it is a model of Keras, and torch is not installed.
    """
    from barnum.models.saved import load_model, load_whole

    return load_whole(Path(document)) if weights is None else load_model(Path(document), Path(weights))


def open_detector(folder: File, *, cut: bool | None = None) -> Detector:
    """Read a detector, which `barnum pack` or pack() has written; ``cut`` says whether it is to judge only
    what came before another process was started, where that is known.

    Raises:
        ModelError, EvaluationError: a part is missing, broken, changed, or of another version.
    """
    from barnum.detector import load_detector

    return load_detector(Path(folder), cut)
