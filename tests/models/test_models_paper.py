"""The network of the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from barnum.models.networks.paper import Paper
from barnum.models.networks.paper_windows import PaperConfig

SMALL = {"inputs": 20, "classes": 7, "sequence_len": 6, "units": 5, "embedding": 4}


@pytest.fixture(autouse=True)
def alone():
    """Products this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(seed=0, **options) -> Paper:
    torch.manual_seed(seed)
    return Paper(PaperConfig(**{**SMALL, **options}))


def strong(seed=0, **options) -> Paper:
    """One whose weights drive hard sigmoids to both of their ends, in float64, without dropout."""
    made = network(seed, **options).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4.0).add_(torch.randn_like(parameter), alpha=0.3)
    return made


def windows_of(count, seed=0, inputs=20, length=6):
    return torch.randint(0, inputs, (count, length), generator=torch.Generator().manual_seed(seed))


def directions(layer):
    """Kernel, recurrent weights and bias of each way."""
    if isinstance(layer, nn.LSTM):
        return [(kernel, recurrent, one + other) for kernel, recurrent, one, other in layer.all_weights]
    return list(zip(layer.kernel, layer.recurrent, layer.bias, strict=True))


def plain(network, windows):
    """The same function, one small product at a time: logits, and all that a hard sigmoid was asked."""
    units = network.config.units
    asked = []

    def gate(z):
        asked.append(z)
        return torch.sigmoid(z) if network.config.cudnn else (0.2 * z + 0.5).clip(0.0, 1.0)

    x = network.embedding.weight[windows]
    for number, layer in enumerate(network.lstm):
        both = []
        for way, (kernel, recurrent, bias) in enumerate(directions(layer)):
            h = c = x.new_zeros(len(windows), units)
            outputs = []
            for step in x.unbind(1)[:: -1 if way else 1]:
                i, f, new, o = (step @ kernel.T + h @ recurrent.T + bias).split(units, dim=1)
                c = gate(f) * c + gate(i) * torch.tanh(new)
                h = gate(o) * torch.tanh(c)
                outputs.append(h)
            both.append(outputs)
        ahead, back = both
        x = torch.stack([torch.cat(pair, dim=1) for pair in zip(ahead, back[::-1], strict=True)], dim=1)
        if number < 2:
            x = x.relu()
    h = (torch.cat([ahead[-1], back[-1]], dim=1) @ network.dense.weight.T + network.dense.bias).relu()
    return h @ network.out.weight.T + network.out.bias, torch.cat(asked)


@pytest.mark.parametrize("cudnn", [False, True])
@pytest.mark.parametrize(("count", "length"), [(1, 1), (1, 6), (9, 1), (9, 6)])
def test_equals_a_plain_loop_and_so_do_its_gradients(cudnn, count, length):
    made = strong(cudnn=cudnn)
    windows = windows_of(count, length=length)
    wanted = torch.randint(0, 7, (count,))
    expected, asked = plain(made, windows)
    if not cudnn and count * length > 9:
        assert (asked < -2.5).any()
        assert (asked > 2.5).any()
    parameters = list(made.parameters())
    # of cuDNN's two biases the loop saw the sum
    expected_gradients = torch.autograd.grad(F.cross_entropy(expected, wanted), parameters)
    got = made(windows)
    gradients = torch.autograd.grad(F.cross_entropy(got, wanted), parameters)
    assert torch.allclose(got, expected, atol=1e-10)
    with torch.no_grad():
        assert torch.equal(made(windows), got)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, other, atol=1e-10)


def test_gradients_can_be_asked_twice():
    made = strong()
    loss = F.cross_entropy(made(windows_of(4)), torch.tensor([0, 1, 2, 3]))
    parameters = list(made.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(loss, parameters), strict=True):
        assert torch.equal(one, other)


def test_windows_of_float32_are_as_near_as_float32_is():
    made = strong()
    windows = windows_of(50)
    expected, _ = plain(made, windows)
    assert torch.allclose(made.float()(windows).double(), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("cudnn", [False, True])
def test_autocast_changes_little_and_logits_stay_wide(cudnn):
    made = network(cudnn=cudnn).eval()
    windows = windows_of(50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = made(windows)
    assert low.dtype == torch.float32
    assert torch.allclose(low, made(windows), atol=2e-3)
    gradients = torch.autograd.grad(low.square().sum(), list(made.parameters()))
    exact = torch.autograd.grad(made(windows).square().sum(), list(made.parameters()))
    for gradient, other in zip(gradients, exact, strict=True):
        assert (gradient - other).norm() < 0.1 * other.norm()


@pytest.mark.parametrize("cudnn", [False, True])
def test_starts_as_keras_does(cudnn):
    made = network(units=24, embedding=16, inputs=300, cudnn=cudnn)
    assert made.embedding.weight.abs().max() <= 0.05
    assert made.embedding.weight.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.1)
    for layer, inputs in zip(made.lstm, (16, 48, 48), strict=True):
        for kernel, recurrent, bias in directions(layer):
            limit = (6 / (inputs + 4 * 24)) ** 0.5
            assert 0.95 * limit < kernel.abs().max() <= limit
            assert torch.allclose(recurrent.T @ recurrent, torch.eye(24), atol=1e-5)
            assert bias.tolist() == [0.0] * 24 + [1.0] * 24 + [0.0] * 48
    for linear in (made.dense, made.out):
        limit = (6 / sum(linear.weight.shape)) ** 0.5
        assert 0.9 * limit < linear.weight.abs().max() <= limit
        assert not linear.bias.any()


def test_dropout_depends_on_its_generator_alone():
    made = network(units=40)
    windows = windows_of(30)

    def drop(seed, rows=None):
        return made(windows, torch.Generator().manual_seed(seed), rows)

    torch.manual_seed(1)
    one = drop(3)
    torch.manual_seed(2)
    assert torch.equal(drop(3), one)
    assert not torch.equal(drop(4), one)
    with pytest.raises(ValueError, match="generator"):
        made(windows)
    many = made(windows[:1], torch.Generator().manual_seed(5), torch.zeros(4000, dtype=torch.int64))
    made.eval()
    assert torch.equal(made(windows), drop(3))
    error = many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - made(windows[:1])[0]).abs() < 5 * error).all()
    undropped = network(dropout=0.0)
    assert torch.equal(undropped(windows), undropped.eval()(windows))


def test_windows_that_are_alike_need_computing_once():
    made = network(units=16)
    windows = windows_of(12)
    rows = torch.tensor([3, 3, 0, 11, 3, 7, 0])
    for seed in (0, 1):
        apart = made(windows[rows], torch.Generator().manual_seed(seed))
        assert torch.allclose(made(windows, torch.Generator().manual_seed(seed), rows), apart, atol=1e-6)


def learn(seed, cudnn=False, low=False, steps=40):
    """A network, and how often it can say whether a window holds token 0, after a moment of training."""
    made = network(seed, inputs=8, classes=2, units=16, embedding=8, dropout=0.2, cudnn=cudnn)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        windows = windows_of(128, seed=step + 1, inputs=8)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            loss = F.cross_entropy(made(windows, generator), (windows == 0).any(dim=1).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    windows = windows_of(500, inputs=8)
    right = made.eval()(windows).argmax(dim=1) == (windows == 0).any(dim=1)
    return made, right.float().mean().item()


@pytest.mark.parametrize(("cudnn", "low"), [(False, False), (False, True), (True, False)])
def test_learns_a_rule(cudnn, low):
    # how soon depends on how a processor rounds; who guesses is right in every second case
    assert learn(1, cudnn, low, steps=80)[1] > 0.9


def test_a_seed_gives_one_network():
    one, other, another = (learn(seed, steps=3)[0] for seed in (1, 1, 2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert not torch.equal(one.out.weight, another.out.weight)
