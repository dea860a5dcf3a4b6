"""The folder of checkpoints: what is damaged is left out, what is old removed, and each is a model."""

import json

import msgspec
import numpy as np
import pytest

from barnum.errors import ModelError
from barnum.learning.network.checkpoint import CheckpointFolder, split_optimiser
from barnum.models.model import identity_of
from barnum.models.saved import load_model
from barnum.models.train_config import Epoch, Progress
from barnum.paths import Kind
from learning import blocks_of, fit, nominal_path, path_of, spec_of

BLOCKS = blocks_of(40, (Kind.RETURN, Kind.INDIRECT_CALL), in_libc=10)
STATE = {"mean": np.arange(4, dtype=np.float32), "square": np.full(4, 0.25, np.float32)}


@pytest.fixture(scope="module")
def model():
    return fit(spec_of(units=4, epochs=1), [path_of(nominal_path(i, 120), BLOCKS) for i in range(2)])[0]


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "checkpoints")


def save(folder, model, *steps, best=()):
    """A checkpoint after each of so many steps, whose weights are told by its step."""
    for step in steps:
        model.network.values["out.bias"][:] = step
        progress = Progress(epoch=2, step=step, steps=step, loss=1.5, epochs=[an_epoch()])
        folder.save(model, model.document, progress, STATE, step in best)


def an_epoch():
    return Epoch(number=1, loss=0.1, accuracy=0.5, transfers=7, seconds=2.0)


def steps_in(folder):
    """Steps of the checkpoints that are there; each must have both its files, and nothing else is there."""
    found = sorted(int(file.stem.removeprefix("step-")) for file in folder.folder.glob("*.json"))
    expected = {f"step-{step:09d}{ending}" for step in found for ending in (".json", ".safetensors")}
    assert {file.name for file in folder.folder.iterdir()} == expected
    return found


def files_of(folder, step):
    stem = folder.folder / f"step-{step:09d}"
    return stem.with_suffix(".json"), stem.with_suffix(".safetensors")


def test_what_is_saved_is_what_is_found(folder, model):
    assert not folder.exists()
    assert folder.latest() is None
    save(folder, model, 5)
    assert folder.exists()
    document, arrays = folder.latest()
    assert document.progress == Progress(epoch=2, step=5, steps=5, loss=1.5, epochs=[an_epoch()])
    assert document.config == model.document.config
    assert document.samples == model.document.samples
    numbers, state = split_optimiser(arrays)
    assert document.identity == identity_of(numbers) == identity_of(model.arrays())
    assert state.keys() == STATE.keys()
    assert all(np.array_equal(state[name], array) for name, array in STATE.items())
    assert set(numbers["network.out.bias"].tolist()) == {5.0}


def test_sums_come_back_to_the_last_digit(folder, model):
    progress = Progress(
        steps=1, loss=0.1 + 0.2, recent_loss=1e-300, best_loss=1 / 3, count=1 << 60, checkpoint_loss=2 / 3
    )
    folder.save(model, model.document, progress, STATE, True)
    assert folder.latest()[0].progress == progress
    assert folder.latest(best=True)[0].progress == progress


def test_the_last_two_and_the_best_are_kept(folder, model):
    save(folder, model, 1)
    assert steps_in(folder) == [1]
    save(folder, model, 2, 3, 10, 20)
    assert steps_in(folder) == [10, 20]
    assert folder.latest()[0].progress.steps == 20
    assert folder.latest(best=True) is None
    save(folder, model, 30, 40, 50, 60, best=(30, 40))
    assert steps_in(folder) == [40, 50, 60]
    assert folder.latest(best=True)[0].progress.steps == 40
    assert folder.latest()[0].progress.steps == 60
    save(folder, model, 70, best=(70,))
    assert steps_in(folder) == [60, 70]


def test_steps_are_ordered_as_numbers(folder, model):
    save(folder, model, 999_999_999, 1_000_000_000, 2_000_000_000)
    assert [len(file.stem) for file in sorted(folder.folder.glob("*.json"))] == [15, 15]
    assert folder.latest()[0].progress.steps == 2_000_000_000


def truncate(file):
    file.write_bytes(file.read_bytes()[:-20])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


DAMAGE = {
    "weights that are cut off": lambda document, weights: truncate(weights),
    "weights with a bit that is wrong": lambda document, weights: flip(weights),
    "empty weights": lambda document, weights: weights.write_bytes(b""),
    "no weights": lambda document, weights: weights.unlink(),
    "a document that is cut off": lambda document, weights: truncate(document),
    "an empty document": lambda document, weights: document.write_bytes(b""),
    "another document": lambda document, weights: document.write_bytes(b"{}"),
    "a document that is no text": lambda document, weights: document.write_bytes(b'{"schema": "\xff"}'),
    "a document of another version": lambda document, weights: say(document, schema=1),
    "a document without progress": lambda document, weights: say(document, progress=None),
    "a document without a hash": lambda document, weights: say(document, sha256=None),
    "no document": lambda document, weights: document.unlink(),
}


def say(document, **changes):
    document.write_text(json.dumps(json.loads(document.read_text()) | changes))


@pytest.mark.parametrize("what", DAMAGE)
def test_where_one_is_damaged_the_one_before_is_used(folder, model, caplog, what):
    save(folder, model, 1, 2, best=(1, 2))
    DAMAGE[what](*files_of(folder, 2))
    assert folder.exists()
    for best in (False, True):
        document, arrays = folder.latest(best)
        assert document.progress.steps == 1
        assert arrays["network.out.bias"][0] == 1
    if what != "no document":
        assert "the checkpoint before it is used" in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)
    # training goes on from there
    save(folder, model, 2)
    assert folder.latest()[0].progress.steps == 2


def test_where_all_are_damaged_there_is_none(folder, model):
    save(folder, model, 1, 2)
    for step in (1, 2):
        flip(files_of(folder, step)[1])
    assert folder.exists()
    assert folder.latest() is None


def test_what_a_kill_left_is_removed(folder, model):
    save(folder, model, 1)
    (folder.folder / ".step-000000002.safetensors.4711").write_bytes(b"half")
    (folder.folder / ".step-000000002.json.4711").write_bytes(b"half")
    (folder.folder / "step-000000002.safetensors").write_bytes(b"no document yet")
    assert folder.latest()[0].progress.steps == 1
    save(folder, model, 3)
    assert steps_in(folder) == [1, 3]


def test_clearing_leaves_nothing(folder, model):
    folder.clear()  # nothing is there yet
    save(folder, model, 1, 2, 3, best=(1,))
    (folder.folder / ".step-000000004.safetensors.4711").write_bytes(b"half")
    (folder.folder / "step-000000004.safetensors").write_bytes(b"alone")
    folder.clear()
    assert not folder.folder.exists()
    assert not folder.exists()


def test_files_of_others_stay(folder, model):
    folder.folder.mkdir()
    others = [
        "notes.txt",
        "step-1.json",
        "step-000000001.json.bak",
        "my-step-000000001.json",
        "step-.json",
        ".hidden",
    ]
    for name in others:
        (folder.folder / name).write_text("mine")
    assert not folder.exists()
    save(folder, model, 1, 2, 3)
    assert folder.latest()[0].progress.steps == 3
    folder.clear()
    assert sorted(file.name for file in folder.folder.iterdir()) == sorted(others)


@pytest.mark.parametrize("best", [False, True])
def test_a_checkpoint_is_a_model(folder, model, best):
    save(folder, model, 4, best=(4,) if best else ())
    document, weights = files_of(folder, 4)
    read = load_model(document, weights)
    assert read.identity == identity_of(model.arrays())
    assert read.network.values["out.bias"].tolist() == [4.0] * len(model.network.values["out.bias"])
    assert read.document.best == best
    # the optimiser's numbers are not the model's
    assert not any(name.startswith("optimiser") for name in read.arrays())


def test_equal_checkpoints_are_equal_files(folder, model, tmp_path):
    other = CheckpointFolder(tmp_path / "other")
    for each in (folder, other):
        save(each, model, 6)
    for one, two in zip(files_of(folder, 6), files_of(other, 6), strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_a_checkpoint_without_numbers_of_an_optimiser(folder, model):
    folder.save(model, model.document, Progress(steps=1), {}, False)
    document, arrays = folder.latest()
    assert split_optimiser(arrays)[1] == {}
    assert msgspec.json.decode(files_of(folder, 1)[0].read_bytes())["sha256"] == document.sha256
    with pytest.raises(ModelError, match="belongs to another model"):
        load_model(files_of(folder, 1)[0], other_weights(folder, arrays))


def other_weights(folder, arrays):
    from barnum.models.arrays import write_arrays

    file = folder.folder / "mine.safetensors"
    write_arrays(file, {name: np.asarray(array) for name, array in arrays.items()}, "0" * 64)
    return file
