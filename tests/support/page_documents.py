"""Documents of reports that no evaluation has to be made for: what a page must bear."""

from barnum.report.document import (
    Alarm,
    CalibrationReport,
    Classifier,
    Curve,
    Detail,
    Overview,
    Place,
    Report,
    Roc,
    SampleReport,
    Transfer,
    Window,
)
from barnum.verdicts.judgement import Trivial
from barnum.verdicts.statistics import Rate


def transfer(prediction=0, **changes):
    fields = {"expected": 0, "confidence": 0.5, "actual": 0, "correct": False} | changes
    return Transfer(prediction=prediction, **fields)


def window(begin=0, end=50, transfers=(), values=(0.0,), **changes):
    fields = dict.fromkeys(["position", "position_end", "novelty", "surprisal"])
    fields |= {"chosen_by": "surprisal", "wrong": 0.5, "above_threshold": False, "left_out": 0}
    fields["detail"] = Detail(begin=begin, each=1, values=list(values))
    return Window(begin=begin, end=end, transfers=list(transfers), **fields | changes)


def curve(transfers=100, highest=(1.0, 2.0), **changes):
    fields = {"value": "surprisal", "mean": [value / 2 for value in highest], "highest": list(highest)}
    return Curve(**{"each": transfers / len(highest)} | fields | changes)


def sample(name="a.doc", transfers=100, **changes):
    """A run of which nothing is known that need not be."""
    unknown = ["verdict", "refused", "score", "p_value", "first_alarm", "new", "unknown"]
    fields = dict.fromkeys([*unknown, "surprisal", "surprisal_window", "novelty", "novelty_window"])
    fields |= {"label": "benign", "sample": "s0", "judged": transfers, "wrong": 0.0, "wrong_confidence": 0.0}
    fields |= {"windows": [], "notes": [], "curve": curve(transfers)}
    return SampleReport(name=name, transfers=transfers, **fields | changes)


def compared(name="a.doc", transfers=100, **changes):
    """A run that nothing predicted, of which nothing is known that need not be."""
    fields = dict.fromkeys(["wrong", "wrong_confidence"])
    fields |= {"distinct_new": 0, "curve": curve(transfers, value="novelty"), "verdict": "nominal"}
    return sample(name, transfers, **fields | changes)


def new_transfer(prediction=0, **changes):
    """A transfer that is new, where nothing predicts."""
    fields = {"position": 7, "source": 0, "kind": "return", "seen": 0, "novelty": 2.0}
    fields |= dict.fromkeys(["expected", "confidence", "correct"])
    return transfer(prediction, **fields | changes)


def report(samples=(), **changes):
    """A report on samples, without verdicts."""
    samples = list(samples)
    labels = [sample.label for sample in samples]
    overview = Overview(
        runs=len(samples), benign=labels.count("benign"), malicious=labels.count("malicious"), anomalous=0,
        refused=0, false_positives=None, false_negatives=None, trivial=[], roc=None, calibration=None,
        unknown=labels.count("unknown"),
    )  # fmt: skip
    fields = {"version": "1", "evaluations": "eval", "model": "m", "window": 50, "classifier": None}
    fields |= {"overview": overview, "notes": ["none"], "places": [Place(block="0x1")]}
    return Report(samples=samples, **fields | changes)


def full(text, number):
    """A report that says everything a report can say, with ``text`` and ``number`` wherever they may be."""
    share = min(1.0, number)
    count = min(int(number), 2**53)
    rate = Rate(count, count, share, share, share)
    places = [
        Place(block=text, module=text, offset=count, function=text, function_offset=count),
        Place(block=text, module=text),
        Place(block=text),
        Place(block_class=count),
    ]
    transfers = [
        transfer(
            at, position=count, source=at % 4, kind=text, instruction=text, instruction_offset=count,
            expected=(at + 1) % 4, confidence=share, actual=(at + 2) % 4, correct=at == 3, probability=share,
            surprisal=number, seen=at % 3, novelty=number, times=count,
        )
        for at in range(4)
    ]  # fmt: skip
    windows = [
        window(
            10, 60, transfers, [number] * 60, position=count, position_end=count, chosen_by="novelty",
            novelty=number, surprisal=number, above_threshold=True, left_out=count,
        )
    ]  # fmt: skip
    every = dict.fromkeys(["score", "surprisal", "surprisal_window", "novelty", "novelty_window"], number)
    every |= dict.fromkeys(["p_value", "wrong", "wrong_confidence", "new", "unknown"], share)
    every |= {"sample": text, "notes": [text, text], "first_alarm": Alarm(prediction=20, position=count)}
    every["curve"] = curve(highest=[number, 0.0, number], news=[(20, number), (90, number)])
    samples = [
        sample(text, judged=50, verdict="anomalous", incomplete=text, windows=windows, **every),
        sample(text, verdict="refused", refused=text, label="malicious", windows=windows, **every),
    ]
    overview = Overview(
        runs=count, benign=count, malicious=count, anomalous=count, refused=count, false_positives=rate,
        false_negatives=rate, trivial=[Trivial(name=text, false_positives=rate, false_negatives=rate)],
        roc=Roc(auc=share, low=share, high=share, benign=[0.0, share, 1.0], malicious=[0.0, share, 1.0]),
        calibration=CalibrationReport(scores=count, p_values=[share, share, 1.0]),
    )  # fmt: skip
    return report(
        samples, version=text, evaluations=text, model=text, overview=overview, notes=[text], places=places,
        window=max(1, count),
        classifier=Classifier(method="conformal", description=text, threshold=number, by="novelty"),
    )  # fmt: skip
