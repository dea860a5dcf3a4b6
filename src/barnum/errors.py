"""Errors that a user can cause, each with the exit code the command line ends with::

    BarnumError                     1   internal: should not happen
    └─ InputError                  10   base of everything below
       ├─ SampleError              10   a sample folder lacks a part, or its info.txt is not one
       ├─ TraceError               11   a trace that is empty, no PT, or larger than allowed
       ├─ MappingError             12   a memory map that cannot be read or contradicts itself
       ├─ ImageError               13   images of modules are missing or named out of their folder
       ├─ ProgramError             14   a program that cannot be run
       ├─ EngineError              15   no usable recorder on this machine
       ├─ OutputExistsError        16   something is there already, and --force was not given
       ├─ OutputError              17   the result could not be written (a full disk, no permission)
       ├─ ParsedTraceError         18   a parsed trace that is broken
       ├─ EvaluationError          19   evaluation files that are missing or broken
       ├─ ModelError               20   a model or its weights cannot be used
       ├─ SetsError                21   too few samples, or a sets file that names none
       ├─ SomeFailedError          22   some of several samples failed; the others are finished
       ├─ RecordingError           23   a run ended without a usable recording
       ├─ MissingPackageError      24   a package is not installed that only a part of Barnum needs
       ├─ DigestError              25   a digest of a run that is missing or broken
       └─ OptionsError              2   options that do not go together, raised by the library

The library raises them; only the command line turns them into a message and an exit code.
0 means that the command ran, 2 a usage error (the command line's own, or OptionsError), 3 with
--fail-on-anomaly that something is anomalous, 130 that the user interrupted it.
"""


class BarnumError(Exception):
    """Base of all errors of this package."""

    exit_code = 1


class InputError(BarnumError):
    """Something outside the program is not as it must be; the message says what to do."""

    exit_code = 10


class SampleError(InputError):
    """A sample folder lacks a part or holds a wrong one."""

    exit_code = 10


class TraceError(InputError):
    """A trace is empty, is no Intel PT, or is larger than allowed."""

    exit_code = 11


class MappingError(InputError):
    """A memory map cannot be read or contradicts itself."""

    exit_code = 12


class ImageError(InputError):
    """Images of modules are missing, or are named out of their folder."""

    exit_code = 13


class ProgramError(InputError):
    """The program to record cannot be run."""

    exit_code = 14


class EngineError(InputError):
    """No usable recorder is on this machine."""

    exit_code = 15


class OutputExistsError(InputError):
    """A result is there already and may not be replaced."""

    exit_code = 16


class OutputError(InputError):
    """A result could not be written."""

    exit_code = 17


class ParsedTraceError(InputError):
    """A parsed trace (Parquet or the original's rows) is broken."""

    exit_code = 18


class EvaluationError(InputError):
    """Evaluation files are missing or broken."""

    exit_code = 19


class ModelError(InputError):
    """A model or its weights cannot be used."""

    exit_code = 20


class SetsError(InputError):
    """Too few samples for the sizes asked, or a sets file that names none of them."""

    exit_code = 21


class SomeFailedError(InputError):
    """Some of several samples failed; the others are finished."""

    exit_code = 22


class RecordingError(InputError):
    """A run ended without a usable recording."""

    exit_code = 23


class DigestError(InputError):
    """A digest of a run is missing or broken."""

    exit_code = 25


class MissingPackageError(InputError):
    """A package is not installed that only a part of Barnum needs; the message says how to install it."""

    exit_code = 24


class OptionsError(InputError):
    """Options that do not go together, raised by the library; the command line shows a usage error."""

    exit_code = 2
