"""A detector: a model and a classifier in one folder, or counts in one file, and judging by it."""

from barnum.detector.check import Checked, CheckSettings
from barnum.detector.fitted import Fitted, fit, load_fitted, merged, save_fitted
from barnum.detector.folder import Detector, Manifest, Reading, load_detector, pack
from barnum.detector.judge import judge_with, load_any
from barnum.detector.judged import CallPlace, CodePlace, Cut, Judge, JudgedRun, ProcessName, Shown, Where
from barnum.detector.learn import FitSettings
from barnum.detector.many import check_discoveries, discoveries, exchangeability_of, shortage_of

__all__ = [
    "CallPlace",
    "CheckSettings",
    "Checked",
    "CodePlace",
    "Cut",
    "Detector",
    "FitSettings",
    "Fitted",
    "Judge",
    "JudgedRun",
    "Manifest",
    "ProcessName",
    "Reading",
    "Shown",
    "Where",
    "check_discoveries",
    "discoveries",
    "exchangeability_of",
    "fit",
    "judge_with",
    "load_any",
    "load_detector",
    "load_fitted",
    "merged",
    "pack",
    "save_fitted",
    "shortage_of",
]
