"""What both versions work on: recordings, and reports of sandboxes."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
# of the demo's documents, where recordings are made here: of every so many harmless ones the first, and every
# so many abusive ones
_HARMLESS_STEP, _ABUSIVE_STEP = 7, 5
# files of a sample that are no recording but were made from one
_MADE = ("trace_parsed.", ".", "owner")
# the smallest runs, for what takes long
FEW = {"b_train": ["b001", "b002", "b004", "b005"], "b_test": ["b000"], "m_test": ["m000"]}
# one in so many harmless runs is held out
_HELD_OUT = 3
# runs of a part
_PART = 4
# reports: harmless and malicious ones to learn and evaluate, and more to judge
_HARMLESS_REPORTS, _MALICIOUS_REPORTS, _TO_JUDGE = 48, 12, 6


class InputsError(Exception):
    """There is nothing to compare with."""


# --- recordings --------------------------------------------------------------------------------


def record(program: Path, folder: Path, jobs: int) -> tuple[Path, Path]:
    """Record some of the demo's documents; returns the folders of samples and of images. What an earlier call
    recorded there is kept."""
    sys.path.insert(0, str(ROOT / "demo"))
    from documents.make import DocumentError, all_documents
    from run import GHOSTSCRIPT, WARM_UP

    traces, images = folder / "traces", folder / "extract"
    documents = all_documents()
    harmless = [document for document in documents if document.benign][::_HARMLESS_STEP]
    abusive = [document for document in documents if not document.benign][::_ABUSIVE_STEP]
    for label, some in (("benign", harmless), ("malicious", abusive)):
        place = folder / "documents" / label
        place.mkdir(parents=True, exist_ok=True)
        try:
            for document in some:
                (place / document.name).write_bytes(document.make())
        except DocumentError as error:
            raise InputsError(str(error)) from None
        print(f"recording {len(some)} {label} documents of the demo", file=sys.stderr)
        words = ["trace", f"--{label}", "-o", traces, "--bin-dir", images, "--jobs", str(jobs), "-l", "30"]
        command = [program, *words, place, "--", *GHOSTSCRIPT, WARM_UP, "{}"]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            raise InputsError(f"{program} could not record; what it said is above")
    return traces, images


@dataclass(frozen=True)
class Recording:
    """A sample that was found, and the name that it gets here."""

    folder: Path
    name: str


def find_recordings(traces: Path) -> list[Recording]:
    """The recorded samples in a folder, smallest first: harmless ones as b000, b001 …, others as m000 …"""
    found: dict[str, list[tuple[int, Path]]] = {"benign": [], "malicious": []}
    for folder in sorted(traces.iterdir()):
        info = folder / "info.txt"
        streams = list(folder.glob("trace_[0-9]*"))
        if info.is_file() and streams and not folder.name.endswith(".part"):
            label = info.read_text(errors="replace").split("\n")[1].strip()
            if label in found:
                found[label].append((sum(stream.stat().st_size for stream in streams), folder))
    if len(found["benign"]) < 12 or len(found["malicious"]) < 4:
        raise InputsError(
            f"{traces}: holds {len(found['benign'])} harmless and {len(found['malicious'])} malicious "
            "recordings, which is too few to learn from: give 12 and 4 at least"
        )
    return [
        Recording(folder, f"{label[0]}{number:03}")
        for label, some in found.items()
        for number, (_, folder) in enumerate(sorted(some))
    ]


def place_recordings(recordings: list[Recording], images: Path, folder: Path) -> None:
    """Copy recordings for one version: all into ``traces``, the smallest also into ``raw`` and ``rows``.
    Images are linked, as they are only read."""
    few = {name for names in FEW.values() for name in names}
    for recording in recordings:
        for place in ("traces", *(("raw", "rows") if recording.name in few else ())):
            target = folder / place / recording.name
            target.mkdir(parents=True)
            for file in recording.folder.iterdir():
                if file.is_file() and not file.name.startswith(_MADE) and not file.name.endswith(".part"):
                    shutil.copyfile(file, target / file.name)
    (folder / "extract").mkdir()
    for image in images.iterdir():
        if image.is_file():
            try:
                os.link(image, folder / "extract" / image.name)
            except OSError:
                shutil.copyfile(image, folder / "extract" / image.name)


def write_sets(recordings: list[Recording], folder: Path) -> None:
    """Write which runs are learnt and which held out: of all, of few, and two more parts that are learnt."""
    harmless = [recording.name for recording in recordings if recording.name[0] == "b"]
    learnt = [name for number, name in enumerate(harmless) if number % _HELD_OUT]
    everything = {
        "b_train": learnt,
        "b_test": harmless[::_HELD_OUT],
        "m_test": [recording.name for recording in recordings if recording.name[0] == "m"],
    }
    for name, sets in (
        ("all", everything),
        ("few", FEW),
        ("part-a", {"b_train": learnt[:_PART]}),
        ("part-b", {"b_train": learnt[_PART : 2 * _PART]}),
    ):
        (folder / f"{name}.txt").write_text(sets_file(sets))


def sets_file(sets: dict[str, list[str]]) -> str:
    """The text of a sets file."""
    return "".join(
        f"[{section}]\n" + "".join(f"{name}\n" for name in names) for section, names in sets.items()
    )


# --- a model of Keras --------------------------------------------------------------------------


def write_keras(folder: Path) -> None:
    """A model of Keras 2 with weights drawn at random, into ``keras``. Raises ImportError without h5py."""
    import h5py
    import numpy as np

    draw = np.random.default_rng(13)
    inputs, length, size, units, classes = 64, 5, 4, 3, 64
    lstm = {"units": units, "return_sequences": False, "use_bias": True}
    lstm |= {"activation": "tanh", "recurrent_activation": "hard_sigmoid"}
    lstm |= {"go_backwards": False, "stateful": False}
    layers = {
        "Embedding": (
            {"input_dim": inputs, "output_dim": size, "input_length": length, "mask_zero": False},
            {"embeddings": (inputs, size)},
        ),
        "LSTM": (
            lstm,
            {"kernel": (size, 4 * units), "recurrent_kernel": (units, 4 * units), "bias": (4 * units,)},
        ),
        "Dense": (
            {"units": classes, "activation": "softmax", "use_bias": True},
            {"kernel": (units, classes), "bias": (classes,)},
        ),
    }
    described = []
    (folder / "keras").mkdir()
    with h5py.File(folder / "keras" / "lstm.h5", "w") as file:
        file.attrs["layer_names"] = np.array([kind.lower().encode() for kind in layers])
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for kind, (config, shapes) in layers.items():
            name = kind.lower()
            described.append({"class_name": kind, "config": {"name": name, "trainable": True, **config}})
            group = file.create_group(name)
            names = [f"{name}/{array}:0" for array in shapes]
            group.attrs["weight_names"] = np.array([each.encode() for each in names])
            for each, shape in zip(names, shapes.values(), strict=True):
                group.create_dataset(each, data=draw.standard_normal(shape).astype(np.float32))
    document = {"class_name": "Sequential", "config": {"name": "sequential", "layers": described}}
    document |= {"keras_version": "2.2.4", "backend": "tensorflow"}
    (folder / "keras" / "lstm.json").write_text(json.dumps(document))


# --- reports of sandboxes ----------------------------------------------------------------------

_DOCUMENT = "invoice.pdf"
_READER = "C:\\Program Files\\Reader\\Reader.exe"
_HARMLESS_PHRASES = (
    ("NtOpenFile", "NtReadFile", "NtReadFile", "NtClose"),
    ("NtCreateFile", "NtWriteFile", "NtClose"),
    ("RegOpenKeyExW", "RegQueryValueExW", "RegQueryValueExW", "RegCloseKey"),
    ("LdrLoadDll", "LdrGetProcedureAddress", "LdrGetProcedureAddress"),
    ("GetSystemMetrics", "DrawTextExW", "DrawTextExW"),
    ("NtAllocateVirtualMemory", "NtProtectVirtualMemory", "NtFreeVirtualMemory"),
    ("CreateThread", "NtWaitForSingleObject", "NtClose"),
)
_MALICIOUS_PHRASES = (
    ("NtAllocateVirtualMemory", "WriteProcessMemory", "CreateRemoteThread", "NtClose"),
    ("InternetOpenW", "InternetConnectW", "HttpSendRequestW", "InternetReadFile"),
    ("CryptAcquireContextW", "CryptEncrypt", "CryptEncrypt", "NtWriteFile", "NtClose"),
    ("RegOpenKeyExW", "RegSetValueExW", "NtClose"),
)


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    path: str
    line: str
    # thread and name of each call
    calls: list[tuple[int, str]]


def write_reports(folder: Path) -> None:
    """Reports to learn from and to evaluate, into ``calls``, and more to judge, into ``reports``. The same
    ones every time; each kind of report that is read is there."""
    draw = random.Random(13)  # noqa: S311
    kinds = list(_KINDS)
    for number in range(_HARMLESS_REPORTS + _MALICIOUS_REPORTS):
        malicious = number >= _HARMLESS_REPORTS
        sample = folder / "calls" / f"{'m' if malicious else 'b'}{number:02}"
        sample.mkdir(parents=True)
        label = "malicious" if malicious else "benign"
        (sample / "info.txt").write_text(f"{_DOCUMENT}\n{label}\n")
        _write_report(sample, kinds[number % len(kinds)], _processes(draw, malicious))
    for number in range(_TO_JUDGE):
        sample = folder / "reports" / f"r{number}"
        sample.mkdir(parents=True)
        _write_report(sample, kinds[number % len(kinds)], _processes(draw, number % 2 == 1))


def _processes(draw: random.Random, malicious: bool) -> list[_Process]:
    """A program that opens a document, what it starts, and one that has nothing to do with it."""
    calls: list[tuple[int, str]] = []
    for _ in range(draw.randint(8, 80)):
        phrase = draw.choice(_HARMLESS_PHRASES)
        if malicious and draw.random() < 0.2:
            phrase = draw.choice(_MALICIOUS_PHRASES)
        thread = 2200 + draw.randint(0, 1)
        # now and then one of a phrase is not called
        calls += [(thread, name) for name in phrase if draw.random() < 0.97]
    line = f'"{_READER}" "C:\\Users\\me\\{_DOCUMENT}"'
    child = [(2300, name) for name in draw.choice(_HARMLESS_PHRASES) * draw.randint(1, 9)]
    return [
        _Process(400, 340, "C:\\Windows\\System32\\lsass.exe", "lsass.exe", [(400, "NtClose")] * 3),
        _Process(2200, 1000, _READER, line, calls),
        _Process(2300, 2200, "C:\\Windows\\splwow64.exe", "splwow64.exe 8192", child),
    ]


def _cuckoo(processes: list[_Process]) -> str:
    return json.dumps(
        {
            "info": {"platform": "windows"},
            "target": {"category": "file", "file": {"name": _DOCUMENT}},
            "behavior": {
                "processes": [
                    {
                        "pid": process.pid,
                        "ppid": process.parent,
                        "process_name": process.path.rsplit("\\", 1)[-1],
                        "process_path": process.path,
                        "command_line": process.line,
                        "calls": [{"api": name, "tid": thread} for thread, name in process.calls],
                    }
                    for process in processes
                ]
            },
        }
    )


def _cape(processes: list[_Process]) -> str:
    return json.dumps(
        {
            "info": {"version": "2.4-CAPE"},
            "behavior": {
                "processes": [
                    {
                        "process_id": process.pid,
                        "parent_id": process.parent,
                        "process_name": process.path.rsplit("\\", 1)[-1],
                        "module_path": process.path,
                        "environ": {"CommandLine": process.line},
                        "calls": [
                            {"api": name, "thread_id": str(thread), "repeated": 0}
                            for thread, name in process.calls
                        ],
                    }
                    for process in processes
                ]
            },
            "target": {"category": "file", "file": {"name": _DOCUMENT}},
        }
    )


def _drakvuf(processes: list[_Process], plugin: str) -> str:
    lines: list[dict[str, Any]] = []
    for process in processes:
        begun = {"NewPid": process.pid, "CommandLine": process.line, "ImagePathName": process.path}
        lines.append({"Plugin": "procmon", "TimeStamp": "1.0", "PID": process.parent, "PPID": 4, **begun})
    event = {"Event": "api_called"} if plugin == "apimon" else {}
    for process in processes:
        common = {"PID": process.pid, "PPID": process.parent, "ProcessName": process.path}
        for number, (thread, name) in enumerate(process.calls, 2):
            stamp = {"Plugin": plugin, "TimeStamp": f"{number}.5", "TID": thread}
            lines.append({**stamp, **common, "Method": name, **event})
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def _names(processes: list[_Process]) -> str:
    return "".join(f"{name}\n" for _, name in processes[1].calls)


def _table(processes: list[_Process]) -> str:
    rows = [
        f"{process.pid},{thread},{process.path},{name}\n"
        for process in processes
        for thread, name in process.calls
    ]
    return "pid,tid,process,api\n" + "".join(rows)


# file name → content; gzip where the name says so
_KINDS: dict[str, Callable[[list[_Process]], str]] = {
    "report.json": _cuckoo,
    "report.json.gz": _cape,
    "syscall.log": lambda processes: _drakvuf(processes, "syscall"),
    "apimon.log": lambda processes: _drakvuf(processes, "apimon"),
    "calls.txt": _names,
    "calls.csv": _table,
}


def _write_report(sample: Path, kind: str, processes: list[_Process]) -> None:
    content = _KINDS[kind](processes).encode()
    (sample / kind).write_bytes(gzip.compress(content, mtime=0) if kind.endswith(".gz") else content)
