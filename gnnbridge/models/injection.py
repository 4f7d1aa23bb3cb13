"""Graphs as masks, for attention that cannot be run as message passing.

Architectures from before transformers' attention interface compute scores,
softmax and sum inside of their attention modules, each in its own way. All of
them call torch's softmax (or its fused attention) on scores of every pair of
tokens, and there a graph can be imposed: the scores of pairs that are no edges
become ``-inf``. This is dense attention with a mask, and no message passing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from gnnbridge.models.pairs import mask_pairs
from gnnbridge.models.slots import Call, Frame, Pairs, Rows, Slot, get_slot
from gnnbridge.models.support import Trace, is_cross_attention, run_once

_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
_FUSED = F.scaled_dot_product_attention
# Masked scores lie at least 1e4 below the others in all these architectures,
# and scores of trained models within a few hundred of each other.
_MASKED = 5e3
_MODE = '_gnnbridge_mode'


class ScoreMode(TorchFunctionMode):
    """Notices the scores of one attention module while it runs.

    Args:
        impose: Called with the scores and the function that turns them into
            weights; returns weights of the shape of the scores.
    """

    def __init__(
        self, impose: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]
    ) -> None:
        super().__init__()
        self.impose = impose

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs a function of torch, softmax by way of ``impose``."""
        kwargs = kwargs or {}
        if func is _FUSED:
            return self._attention(*args, **kwargs)
        if func in _SOFTMAX and args[0].dim() >= 3:
            rest = args[1:]
            return self.impose(args[0], lambda x: func(x, *rest, **kwargs))
        return func(*args, **kwargs)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Fused attention in steps, so that it has scores."""
        if enable_gqa:
            groups = query.size(-3) // key.size(-3)
            key, value = (
                x.repeat_interleave(groups, dim=-3) for x in (key, value)
            )
        scale = query.size(-1) ** -0.5 if scale is None else scale
        scores = query @ key.transpose(-1, -2) * scale
        if is_causal:
            keep = torch.ones(
                scores.shape[-2:], dtype=torch.bool, device=scores.device
            )
            scores = scores.masked_fill(~keep.tril(), float('-inf'))
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                scores = scores.masked_fill(~attn_mask, float('-inf'))
            else:
                scores = scores + attn_mask
        weights = self.impose(scores, _softmax)
        return torch.dropout(weights, dropout_p, dropout_p > 0) @ value


def enter_mode(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Forward pre-hook: imposes the module's graph while it runs."""
    slot = get_slot(module)
    if slot is None or not (slot.source or slot.recorder or slot.observer):
        return
    given = kwargs.get('hidden_states', args[0] if args else None)
    sequences = given.size(0) if isinstance(given, Tensor) else 1
    mode = ScoreMode(
        lambda scores, weigh: _impose(slot, sequences, scores, weigh)
    )
    module.__dict__[_MODE] = mode
    mode.__enter__()


def leave_mode(module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook: what follows is none of the module's business."""
    mode = module.__dict__.pop(_MODE, None)
    if mode is not None:
        mode.__exit__(None, None, None)


def install_modes(modules: Iterable[nn.Module]) -> list[RemovableHandle]:
    """Imposes graphs on modules that have slots."""
    handles = []
    for module in modules:
        handles += [
            module.register_forward_pre_hook(enter_mode, with_kwargs=True),
            module.register_forward_hook(leave_mode, always_call=True),
        ]
    return handles


class OwnGraph:
    """Runs layers on their own graphs, by way of the backend."""

    def pairs(self, call: Call) -> Pairs:
        """Pairs of the model's own mask."""
        return call.own


def trace_scores(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Trace:
    """Runs a model and notes the modules that weigh tokens by a softmax."""
    trace, stack, handles = Trace(), [], []
    crossing: dict[nn.Module, bool] = {}

    def enter(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        stack.append(module)
        trace.executed[module] = None
        crossing[module] = is_cross_attention(kwargs)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        stack.pop()

    def impose(scores: Tensor, weigh: Callable[[Tensor], Tensor]) -> Tensor:
        # The softmax may be a module of its own.
        inside = [m for m in stack if not isinstance(m, nn.Softmax)]
        if scores.dim() <= 4 and scores.size(-1) > 1 and inside:
            cross = crossing[inside[-1]]
            if not cross and scores.size(-1) != scores.size(-2):
                raise NotImplementedError(
                    f'Expected scores of tokens for each other (got '
                    f'{scores.size(-2)} queries and {scores.size(-1)} keys in '
                    f"a '{type(inside[-1]).__name__}'). Keys that are no "
                    f'tokens, such as sinks, cannot be masked by a graph.'
                )
            trace.routed.setdefault(inside[-1], cross)
        return weigh(scores)

    for module in model.modules():
        handles += [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave, always_call=True),
        ]
    try:
        with ScoreMode(impose):
            trace.output = run_once(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _impose(
    slot: Slot,
    sequences: int,
    scores: Tensor,
    weigh: Callable[[Tensor], Tensor],
) -> Tensor:
    shape = _shape(slot, scores, sequences)
    scores4 = scores.view(shape)
    if slot.frame == Frame():
        # Some caches are not asked by the module itself.
        slot.frame = Frame(shape[3] - shape[2])
    own = _own_pairs(scores4, shape, slot)

    def attend(pairs: Pairs) -> tuple[Tensor, Tensor]:
        closed = _closed(scores4, pairs).view_as(scores)
        weights = _without_empty_rows(weigh(closed), closed).view(shape)
        return weights, _on_edges(weights, pairs)

    pairs = own
    if slot.source is not None:
        pairs = slot.source.pairs(Call(slot, shape, own, own, attend))
    if slot.observer is not None:
        slot.observer(Call(slot, shape, own, pairs, attend))
    if slot.source is None:
        weights = weigh(scores)
    else:
        closed = _closed(scores4, pairs).view_as(scores)
        weights = _without_empty_rows(weigh(closed), closed)
    if slot.recorder is not None:
        union = pairs.union()
        alpha = _on_edges(weights.view(shape), union).float()
        slot.recorder(
            Call(slot, shape, own, union, attend), [Rows(0, union, alpha)]
        )
    return weights


def _softmax(scores: Tensor) -> Tensor:
    return _without_empty_rows(F.softmax(scores, dim=-1), scores)


def _without_empty_rows(weights: Tensor, scores: Tensor) -> Tensor:
    """A row without edges is zero, as in message passing."""
    empty = (scores == float('-inf')).all(dim=-1, keepdim=True)
    return weights.masked_fill(empty, 0.0)


def _shape(
    slot: Slot, scores: Tensor, sequences: int
) -> tuple[int, int, int, int]:
    queries, keys = scores.shape[-2:]
    if scores.dim() == 4:
        return (scores.size(0), scores.size(1), queries, keys)
    if scores.dim() == 3 and scores.size(0) % sequences == 0:
        return (sequences, scores.size(0) // sequences, queries, keys)
    raise NotImplementedError(
        f'Expected scores of shape [B, H, Q, K] or [B * H, Q, K] (got '
        f'{list(scores.shape)} from {slot.shared.architecture}, module '
        f"'{slot.name}'). This attention cannot be given a graph."
    )


def _own_pairs(
    scores: Tensor, shape: tuple[int, int, int, int], slot: Slot
) -> Pairs:
    """The pairs that are not masked: those near the highest of their row."""
    highest = scores.detach().amax(dim=-1, keepdim=True)
    keep = (scores.detach() >= highest - _MASKED) & (highest > -_MASKED)
    return mask_pairs(
        keep.any(dim=1, keepdim=True), shape, causal=False,
        device=scores.device, backend=slot.shared.backend,
    )  # fmt: skip


def _closed(scores: Tensor, pairs: Pairs) -> Tensor:
    """The scores with ``-inf`` where a head has no edge."""
    keep = pairs.alone().plan.mask.unsqueeze(1)
    if pairs.bias is not None and pairs.bias.dim() == 2:
        # Biases of heads say which edges they use, and nothing else.
        used = keep.expand(-1, pairs.bias.size(1), -1, -1).permute(0, 2, 3, 1)
        used = used.contiguous().index_put(
            pairs.plan.places, pairs.bias > float('-inf')
        )
        keep = used.permute(0, 3, 1, 2)
    if pairs.rest is not None:
        chosen = torch.zeros(
            scores.size(1), dtype=torch.bool, device=scores.device
        )
        chosen[list(pairs.heads)] = True
        others = pairs.rest.plan.mask.unsqueeze(1)
        keep = torch.where(chosen[:, None, None], keep, others)
    return scores.masked_fill(~keep, float('-inf'))


def _on_edges(weights: Tensor, pairs: Pairs) -> Tensor:
    """Weights ``[B, H, Q, K]`` on the pairs, ``[E, H]``."""
    return weights.permute(0, 2, 3, 1)[pairs.plan.places]
