"""The network of the paper: three bidirectional LSTMs over a window of steps, and a softmax over classes.

An LSTM steps, with gates in the order i f c o and h = c = 0 at first (x is what it reads, * each its own):

    i, f, o = clip(0.2 (W* x + R* h + b*) + 0.5, 0, 1)
    c = f · c + i · tanh(Wc x + Rc h + bc)
    h = o · tanh(c)

Where the configuration says cudnn, i, f and o are sigmoids, as cuDNN has no others. Weights start as in
Keras 2, with which the original was built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from barnum.models.networks.paper_windows import PaperConfig


class Paper(nn.Module):
    """See the module's text. N windows of L steps, E embedding, U units, C classes."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.config = config
        size, units = config.embedding, config.units
        self.embedding = nn.Embedding(config.inputs, size)
        layer = _fused if config.cudnn else HardLSTM
        self.lstm = nn.ModuleList(layer(inputs, units) for inputs in (size, 2 * units, 2 * units))
        self.dense = nn.Linear(2 * units, units)
        self.out = nn.Linear(units, config.classes)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        for linear in (self.dense, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, windows: Tensor, generator: torch.Generator | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Logits f32[N, C] of ``windows`` int64[N, L].

        With ``rows`` int64[M] the logits are f32[M, C], of the window that each row names: windows that are
        alike need be computed only once. In training, dropout is drawn from ``generator`` for each row;
        raises ValueError where that is missing. A few hundred windows at a time are fastest; training holds
        a megabyte of each.
        """
        x = self.embedding(windows.T)  # [L, N, E]
        if self.config.cudnn:
            # not every CPU has torch's own in 16 bits: some raise an error
            with nullcontext() if x.is_cuda else torch.autocast(x.device.type, enabled=False):
                for layer in self.lstm[:-1]:
                    x = layer(x)[0].relu()
                x = self.lstm[-1](x)[0].transpose(1, 2)
        else:
            x = x.transpose(1, 2)  # [L, E, N]
            for layer in self.lstm[:-1]:
                x = layer(x).relu()
            x = self.lstm[-1](x)  # [L, 2U, N]
        ahead, back = x.split(self.config.units, dim=1)
        last = torch.cat([ahead[-1], back[0]]).T.to(self.out.weight.dtype)  # [N, 2U]
        # the head is small, and all digits of its numbers matter
        with torch.autocast(last.device.type, enabled=False):
            h = self.dense(last).relu()  # [N, U]
            if rows is not None:
                h = h[rows]
            if self.training and self.config.dropout:
                if generator is None:
                    raise ValueError("dropout needs a generator")
                kept = 1.0 - self.config.dropout
                h = h * torch.empty_like(h).bernoulli_(kept, generator=generator).div_(kept)
            return cast(Tensor, self.out(h))


def _start(kernel: Tensor, recurrent: Tensor, bias: Tensor) -> None:
    """First values of a direction: [4U, D], [4U, U], [4U]."""
    units = recurrent.shape[1]
    nn.init.xavier_uniform_(kernel)
    nn.init.orthogonal_(recurrent)
    nn.init.zeros_(bias)
    nn.init.ones_(bias[units : 2 * units])


def _fused(inputs: int, units: int) -> nn.LSTM:
    """torch's own, whose gates and directions come in the same order."""
    lstm = nn.LSTM(inputs, units, bidirectional=True)
    with torch.no_grad():
        for kernel, recurrent, one, other in lstm.all_weights:
            _start(kernel, recurrent, other)
            nn.init.zeros_(one)
    return lstm


class HardLSTM(nn.Module):
    """A bidirectional LSTM with hard sigmoids, and its gradient, written for CPUs.

    Features come before windows, so that the gates of all windows lie side by side. Under autocast its
    products are in that type, and all else as the weights are.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(2, 4 * units, inputs))
        self.recurrent = nn.Parameter(torch.empty(2, 4 * units, units))
        self.bias = nn.Parameter(torch.empty(2, 4 * units))
        with torch.no_grad():
            for weights in zip(self.kernel, self.recurrent, self.bias, strict=True):
                _start(*weights)

    def forward(self, x: Tensor) -> Tensor:
        """[L, 2U, N] of [L, D, N]: at each step what the way ahead gives, then the way back."""
        # what a hard sigmoid does before it clips, done to the weights; the third gate has none
        units = self.recurrent.shape[2]
        scale = self.bias.new_tensor([0.2, 0.2, 1.0, 0.2]).repeat_interleave(units).unsqueeze(1)
        shift = self.bias.new_tensor([0.5, 0.5, 0.0, 0.5]).repeat_interleave(units).unsqueeze(1)
        kernel, recurrent = self.kernel * scale, self.recurrent * scale
        bias = self.bias.unsqueeze(2) * scale + shift
        ahead = torch.cat([recurrent[0], kernel[0], bias[0]], dim=1)
        back = torch.cat([kernel[1], bias[1], recurrent[1]], dim=1)
        product = (x.new_zeros(1, 1) @ x.new_zeros(1, 1)).dtype  # as autocast wants it
        keep = torch.is_grad_enabled()
        low = (part.to(product) for part in (x, ahead, back))
        out: Tensor = _Steps.apply(*low, self.bias.dtype, keep)  # type: ignore[no-untyped-call]
        return out


class _Steps(torch.autograd.Function):
    """All steps both ways, U units of each.

    ``states`` [L + 2, U + D + 1 + U, N] has, for each step from 1 to L, the output of the step before, the
    input, a one for the bias, and the output of the step behind: a step ahead reads all but the last U, a
    step back all but the first U, and one product with its weights, in the same order, gives all gates.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: Tensor, back: Tensor, wide: torch.dtype, keep: bool) -> Tensor:
        length, inputs, windows = x.shape
        units = len(ahead) // 4
        states = x.new_zeros(length + 2, inputs + 1 + 2 * units, windows)
        states[1:-1, units : units + inputs] = x
        states[1:-1, units + inputs] = 1.0
        kept = []
        for weight, (reads, writes, steps, stride) in zip((ahead, back), _ways(states, units), strict=True):
            c = x.new_zeros(units, windows, dtype=wide)
            for step in steps:
                gates = torch.mm(weight, states[step, reads]).to(wide)
                i, f, new, o = gates.view(4, units, windows)
                gates[: 2 * units].clamp_(0.0, 1.0)
                o.clamp_(0.0, 1.0)
                c = torch.mul(f, c).addcmul_(i, _tanh(new, new))
                bent = _tanh(c, torch.empty_like(c))
                torch.mul(o, bent, out=states[step + stride, writes])
                if keep:
                    kept += [gates, c, bent]
        ctx.save_for_backward(ahead, back, states, *kept)
        return torch.cat([states[2:, :units], states[:-2, -units:]], dim=1)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        ahead, back, states, *kept = ctx.saved_tensors
        length, units, wide = len(states) - 2, len(ahead) // 4, kept[0].dtype
        inputs = ahead.shape[1] - units - 1
        d_states = torch.zeros_like(states)
        d_states[2:, :units] = d_out[:, :units]
        d_states[:-2, -units:] = d_out[:, units:]
        d_gates = torch.empty_like(kept[0])
        d_i, d_f, d_new, d_o = d_gates.view(4, units, -1)
        d_bent = torch.empty_like(d_i)
        start = torch.zeros_like(d_i)
        d_weights = []
        aten = torch.ops.aten
        for weight, (reads, writes, steps, stride) in zip((ahead, back), _ways(states, units), strict=True):
            turned = weight.T.contiguous()
            d_weight = torch.zeros_like(weight, dtype=wide)
            d_c = torch.zeros_like(d_i)
            for place, step in reversed(list(enumerate(steps))):
                at = 3 * (place + (length if weight is back else 0))
                gates, bent = kept[at], kept[at + 2]
                before = kept[at - 2] if place else start
                i, f, new, o = gates.view(4, units, -1)
                d_h = d_states[step + stride, writes].to(wide)
                torch.mul(d_h, bent, out=d_o)
                torch.mul(d_h, o, out=d_bent)
                d_c += aten.tanh_backward.grad_input(d_bent, bent, grad_input=d_bent)
                torch.mul(d_c, new, out=d_i)
                torch.mul(d_c, before, out=d_f)
                torch.mul(d_c, i, out=d_new)
                d_c *= f
                aten.tanh_backward.grad_input(d_new, new, grad_input=d_new)
                for d_gate, gate in ((d_gates[: 2 * units], gates[: 2 * units]), (d_o, o)):
                    aten.hardtanh_backward.grad_input(d_gate, gate, 0.0, 1.0, grad_input=d_gate)
                d_product = d_gates.to(weight.dtype)
                d_weight += d_product @ states[step, reads].T
                d_states[step, reads].addmm_(turned, d_product)
            d_weights.append(d_weight.to(weight.dtype))
        return d_states[1:-1, units : units + inputs], *d_weights, None, None


def _ways(states: Tensor, units: int) -> Iterator[tuple[slice, slice, range, int]]:
    """Of the way ahead and the way back: which states are read and written, its steps, and their stride."""
    length, width = states.shape[0] - 2, states.shape[1]
    yield slice(0, width - units), slice(0, units), range(1, length + 1), 1
    yield slice(units, width), slice(width - units, width), range(length, 0, -1), -1


def _tanh(x: Tensor, out: Tensor) -> Tensor:
    """2 sigmoid(2x) - 1: as near to tanh as a 32-bit number of its range is, in a fifth of the time."""
    return torch.mul(x, 2.0, out=out).sigmoid_().mul_(2.0).sub_(1.0)
