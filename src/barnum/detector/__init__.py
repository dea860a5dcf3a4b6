"""A detector: a model and a classifier in one folder, and judging by it."""

from barnum.detector.folder import Detector, Manifest, Reading, load_detector, pack
from barnum.detector.judge import CallPlace, CodePlace, Judge, JudgedRun, ProcessName, Where, judge_with

__all__ = [
    "CallPlace",
    "CodePlace",
    "Detector",
    "Judge",
    "JudgedRun",
    "Manifest",
    "ProcessName",
    "Reading",
    "Where",
    "judge_with",
    "load_detector",
    "pack",
]
