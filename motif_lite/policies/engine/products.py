"""Linear layers as plain functions of a few rows, their adapters included, with what PEFT asks at every call settled.

Layers that are multiplied with the same states come in groups: a layer's queries, keys and values; its gates and what
they let through. Where their weights have 4 bits a group becomes one product, for they are dequantised in any case:
once for all steps, or anew at every step into room that all layers share. Any other weight is taken as it lies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch.nn.functional import linear, pad

Product = Callable[[torch.Tensor], torch.Tensor]
Products = Callable[[torch.Tensor], Sequence[torch.Tensor]]

_ALIGNED = 8
"""Rows of an adapter below the weights come in such multiples: attention takes queries only so far apart."""


@dataclass(frozen=True, slots=True)
class _Adapter:
    """A LoRA adapter that is two thin products and no more: ``(rank, inputs)`` and, scaled, ``(outputs, rank)``."""

    first: torch.Tensor
    second: torch.Tensor


class Room:
    """Where weights of 4 bits are written out in 16.

    Args:
        keeps: Every weight has room of its own, and is written out once; otherwise all share that of the largest, and
            each is written out whenever it is multiplied with.
    """

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._shared: torch.Tensor | None = None

    def weight(self, bases: Sequence[Any], below: torch.Tensor) -> Callable[[], torch.Tensor]:
        """The weights of 4-bit layers, one below the other, and rows ``(R, inputs)`` below them, as they are wanted."""
        states = [base.weight.quant_state for base in bases]
        (_, width), dtype, device = states[0].shape, states[0].dtype, bases[0].weight.device
        size = sum(state.shape.numel() for state in states) + below.numel()
        if self._keeps:
            room = torch.empty(size, dtype=dtype, device=device)
        else:
            if self._shared is None or len(self._shared) < size:
                self._shared = torch.empty(size, dtype=dtype, device=device)
            room = self._shared
        weight = room[:size].view(-1, width)
        write = partial(_write_out, bases, below, weight)
        if self._keeps:
            write()
            return lambda: weight
        return write


def _write_out(bases: Sequence[Any], below: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit  # only a model of 4 bits needs it

    start = 0
    for base in bases:
        state = base.weight.quant_state
        its = out[start : start + state.shape[0]]
        if out.device.type == "cpu":  # where it cannot write to a given place
            its.copy_(dequantize_4bit(base.weight, state))
        else:
            dequantize_4bit(base.weight, state, out=its)
        start += state.shape[0]
    out[start:] = below
    return out


def has_4_bits(base: Any) -> bool:
    """Whether a linear layer's weight is one of bitsandbytes', in 4 bits and in the order that GPUs want."""
    state = _quant_state(base)
    return state is not None and not getattr(state, "packing_format_for_cpu", False)


def _quant_state(module: Any) -> Any:
    return getattr(getattr(module, "weight", None), "quant_state", None)


def precision(model: Any) -> torch.dtype:
    """What a model's linear layers compute in as they are: those of 4 bits not in what the states around them have."""
    bases = (_base(module) for module in model.modules())
    found: torch.dtype = next((base.compute_dtype for base in bases if _quant_state(base) is not None), model.dtype)
    return found


def products(modules: Sequence[Any], room: Room | None) -> Products:
    """Linear layers of the same states ``(R, inputs)``: what each makes of them."""
    together = _together(modules, room)
    if together is not None:
        sizes = [_base(module).weight.quant_state.shape[0] for module in modules]
        return lambda states: torch.split(together(states), sizes, -1)
    separate = [product(module) for module in modules]
    return lambda states: [each(states) for each in separate]


def joined(modules: Sequence[Any], room: Room | None) -> Product:
    """The same as one tensor ``(R, all outputs)``, side by side, that nothing else looks at."""
    together = _together(modules, room)
    if together is not None:
        return together
    separate = [product(module) for module in modules]
    return lambda states: torch.cat([each(states) for each in separate], -1)


def _base(module: Any) -> Any:
    return module.get_base_layer() if isinstance(module, LoraLayer) else module


def _adapter(module: Any) -> _Adapter | None:
    """The adapter at work in a layer, if that is all that PEFT would do; a layer without one has one of no rank."""
    weight = _base(module).weight
    form = weight.quant_state if has_4_bits(_base(module)) else weight
    if not isinstance(module, LoraLayer) or module.merged or module.disable_adapters:
        empty = torch.empty(0, dtype=form.dtype, device=weight.device)
        return _Adapter(empty.view(0, form.shape[1]), empty.view(form.shape[0], 0))
    (name, *others) = module.active_adapters
    if others or name in module.lora_variant or module.lora_bias[name]:
        return None
    first, second = module.lora_A[name].weight, module.lora_B[name].weight * module.scaling[name]
    return _Adapter(first.to(form.dtype), second.to(form.dtype))


def _together(modules: Sequence[Any], room: Room | None) -> Product | None:
    """Layers of 4 bits as one product, side by side; None where they are of another kind.

    An adapter's first half is rows of the same weight; of its second, each layer has a block.
    """
    bases = [_base(module) for module in modules]
    if room is None or not all(map(has_4_bits, bases)):
        return None
    adapters = [adapter for module in modules if (adapter := _adapter(module)) is not None]
    if len(adapters) < len(modules):
        return None
    first = torch.cat([adapter.first for adapter in adapters])
    second: torch.Tensor = torch.block_diag(*(adapter.second for adapter in adapters)).t()  # type: ignore[no-untyped-call]
    missing = -len(first) % _ALIGNED
    first, second = pad(first, (0, 0, 0, missing)), pad(second, (0, 0, 0, missing))
    num_below, size = second.shape
    weight, bias = room.weight(bases, first), _bias(bases, num_below)

    def multiplied(states: torch.Tensor) -> torch.Tensor:
        whole = linear(states, weight(), bias)
        return whole[:, :size].addmm_(whole[:, size:], second) if num_below else whole

    return multiplied


def _bias(bases: Sequence[Any], num_below: int) -> torch.Tensor | None:
    """Of several layers, one after the other, and of so many rows below; zeros where one has none."""
    if all(base.bias is None for base in bases):
        return None
    states = [base.weight.quant_state for base in bases]
    device = bases[0].weight.device
    found = [torch.zeros(state.shape[0], dtype=state.dtype, device=device) for state in states]
    for base, its in zip(bases, found, strict=True):
        if base.bias is not None:
            its.copy_(base.bias)
    return torch.cat((*found, found[0].new_zeros(num_below)))


def product(module: Any) -> Product:
    """One linear layer as a function of ``(R, inputs)``, its adapter included."""
    if type(module) is torch.nn.Linear and not module._forward_hooks and not module._forward_pre_hooks:
        by_onednn: Product | None = vars(module).get("forward")
        return by_onednn or partial(linear, weight=module.weight, bias=module.bias)
    if isinstance(module, LoraLinear) and (module.merged or module.disable_adapters):
        return product(module.get_base_layer())
    own: Product = module
    return _with_adapter(module) if isinstance(module, LoraLinear) else own


def _with_adapter(module: LoraLinear) -> Product:
    """A product with its adapter as two thin ones, where that is all that PEFT would do."""
    base, adapter = module.get_base_layer(), _adapter(module)
    if adapter is None or type(base) is not torch.nn.Linear:
        own: Product = module
        return own
    wide, first, second = product(base), adapter.first, adapter.second.t()
    return lambda states: torch.addmm(wide(states), linear(states, first), second)
