"""The parts of pre-norm blocks, read from a running model and checked.

Gradients through a block can be written down from its weights and from what
it computed, but only if it is known what each weight does. Known are blocks in
the form of GPT-2, of Llama and of GPT-NeoX. Every block is computed again from
its parts and compared with what the model computed, so that one that does
something more (norms of queries, softcaps, gates) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gnnbridge.models.blocks import first_of, first_states
from gnnbridge.models.slots import slots_of

# Largest error of a block against its parts, relative to its largest output.
_TOLERANCE = 1e-4
# Of norm, attention, norm and MLP in each kind of block.
_CHILDREN = (
    ('ln_1', 'attn', 'ln_2', 'mlp'),
    ('input_layernorm', 'self_attn', 'post_attention_layernorm', 'mlp'),
    ('input_layernorm', 'attention', 'post_attention_layernorm', 'mlp'),
)
_ROLES = ('norm1', 'attention', 'norm2', 'mlp')


@dataclass(frozen=True)
class Norm:
    """What a norm made of one sequence.

    Attributes:
        unit: The states ``[N, d]`` after division, before the gain.
        deviation: What each was divided by ``[N]``.
        gain: The gain ``[d]``.
        bias: What is added ``[d]``.
        centred: Whether the mean was taken off (LayerNorm).
    """

    unit: Tensor
    deviation: Tensor
    gain: Tensor
    bias: Tensor
    centred: bool

    @property
    def output(self) -> Tensor:
        """What the norm returned ``[N, d]``."""
        return self.unit * self.gain + self.bias


@dataclass(frozen=True)
class Branch:
    """One linear map into an MLP, and what its outputs are multiplied by.

    Attributes:
        weight: The map ``[m, d]``.
        slope: The derivative of the hidden units in its outputs ``[N, m]``.
    """

    weight: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Block:
    """One block on one sequence, in float64.

    Attributes:
        attention: The weights ``[H, N, N]``, row = receiver.
        query: Queries ``[H, N, e]`` after rotation.
        key: Keys ``[H, N, e]`` after rotation.
        value: Values ``[H, N, e]``.
        to_query: The projection of queries by head ``[H, e, d]``.
        to_key: That of keys, for every query head.
        to_value: That of values, for every query head.
        to_output: The output projection by head ``[H, d, e]``.
        rotation: What queries and keys are turned by ``[N, e, e]``.
        scale: Factor of the scores.
        norm1: The norm before attention.
        norm2: The norm before the MLP.
        branches: The maps into the MLP.
        down: The map out of the MLP ``[d, m]``.
        parallel: Whether the MLP reads the states that attention reads.
    """

    attention: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    to_query: Tensor
    to_key: Tensor
    to_value: Tensor
    to_output: Tensor
    rotation: Tensor
    scale: float
    norm1: Norm
    norm2: Norm
    branches: tuple[Branch, ...]
    down: Tensor
    parallel: bool


@torch.no_grad()
def read_blocks(model: PreTrainedModel, input_ids: Tensor) -> list[Block]:
    """Every block of a decoder on one sequence.

    Args:
        model: The model, as transformers runs it (not converted).
        input_ids: The tokens ``[1, N]``.

    Raises:
        ValueError: If the model is converted, or there is more than one
            sequence.
        NotImplementedError: If a block is of no known kind, or does not
            compute what its parts say.
    """
    if slots_of(model):
        raise ValueError(
            'Expected a model that is not converted (got a converted one). '
            'Use gnnbridge.restore first.'
        )
    if input_ids.dim() != 2 or input_ids.size(0) != 1:
        raise ValueError(
            f"Expected 'input_ids' of shape [1, N] (got "
            f'{list(input_ids.shape)}).'
        )
    blocks = blocks_of(model)
    with _watched(model, blocks) as seen:
        model(input_ids, use_cache=False)
    return [
        _read(block, {role: seen[number, role] for role in (*_ROLES, 'block')})
        for number, block in enumerate(blocks)
    ]


@dataclass(frozen=True)
class _Run:
    """What one module was given and returned."""

    given: Tensor
    kwargs: Mapping[str, Any]
    returned: Any


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks of a decoder, if they are of a known kind."""
    base = model.base_model
    found = getattr(base, 'h', None) or getattr(base, 'layers', None)
    if not isinstance(found, nn.ModuleList) or any(
        _children_of(block) is None for block in found
    ):
        raise NotImplementedError(
            f'Expected a model whose blocks are those of GPT-2, Llama or '
            f"GPT-NeoX (got '{type(model).__name__}')."
        )
    return list(found)


def _children_of(block: nn.Module) -> list[nn.Module] | None:
    for names in _CHILDREN:
        if all(hasattr(block, name) for name in names):
            return [getattr(block, name) for name in names]
    return None


@contextmanager
def _watched(
    model: PreTrainedModel, blocks: list[nn.Module]
) -> Iterator[dict[tuple[int, str], _Run]]:
    """Eager attention, and a record of what the parts of blocks do."""
    seen: dict[tuple[int, str], _Run] = {}
    handles = []

    def watch(module: nn.Module, key: tuple[int, str]) -> None:
        def record(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            seen[key] = _Run(first_states(args, kwargs), kwargs, output)

        handles.append(module.register_forward_hook(record, with_kwargs=True))

    for number, block in enumerate(blocks):
        watch(block, (number, 'block'))
        for role, child in zip(_ROLES, _children_of(block) or (), strict=True):
            watch(child, (number, role))
    usual, training = model.config._attn_implementation, model.training
    model.eval().set_attn_implementation('eager')
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        model.set_attn_implementation(usual)
        model.train(training)


def _read(module: Any, runs: dict[str, _Run]) -> Block:
    children = _children_of(module)
    assert children is not None  # checked with the model
    norm1, attention, norm2, mlp = children
    weights = first_of(runs['attention'].returned[1:])
    if not isinstance(weights, Tensor) or weights.dim() != 4:
        raise _refusal(module, 'attention without weights')
    A = weights[0].double()
    before = _norm(norm1, runs['norm1'].given)
    after = _norm(norm2, runs['norm2'].given)
    projections = _projections(attention, A.size(0))
    if projections is None:
        raise _refusal(module, 'unknown projections')
    (query, key, value, out), biases, out_bias = projections
    rotation = _rotation(runs['attention'].kwargs, A.size(-1), query.size(1))
    heads = [
        torch.einsum('hed,nd->hne', W, before.output) + b
        for W, b in zip((query, key, value), biases, strict=True)
    ]
    turned = [torch.einsum('nef,hnf->hne', rotation, x) for x in heads[:2]]
    branches, down, mlp_output = _mlp(module, mlp, after.output)
    block = Block(
        attention=A, query=turned[0], key=turned[1], value=heads[2],
        to_query=query, to_key=key, to_value=value, to_output=out,
        rotation=rotation,
        scale=float(getattr(attention, 'scaling', query.size(1) ** -0.5)),
        norm1=before, norm2=after, branches=branches, down=down,
        parallel=bool(getattr(module, 'use_parallel_residual', False)),
    )  # fmt: skip
    mixed = torch.einsum('hij,hje,hde->id', A, heads[2], out) + out_bias
    states = runs['block'].given[0].double()
    expected = first_of(runs['block'].returned)[0].double()
    _check(module, block, states + mixed + mlp_output, expected)
    return block


def _check(
    module: nn.Module, block: Block, output: Tensor, expected: Tensor
) -> None:
    """Compare attention and output with what the parts say."""
    scores = block.scale * block.query @ block.key.mT
    hidden = block.attention == 0
    again = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    error = (again - block.attention).abs().max()
    if not error <= _TOLERANCE:
        raise _refusal(module, f'an error of {error:.1e} in its attention')
    error = (output - expected).abs().max() / expected.abs().max()
    if not error <= _TOLERANCE:
        raise _refusal(module, f'a relative error of {error:.1e}')


def _norm(norm: Any, states: Tensor) -> Norm:
    x = states[0].double()
    centred = isinstance(norm, nn.LayerNorm)
    eps = norm.eps if centred else getattr(norm, 'variance_epsilon', None)
    weight = getattr(norm, 'weight', None)
    if not isinstance(eps, float) or not isinstance(weight, Tensor):
        raise _refusal(norm, 'an unknown norm')
    x = x - x.mean(-1, keepdim=True) if centred else x
    deviation = (x.square().mean(-1) + eps).sqrt()
    bias = getattr(norm, 'bias', None)
    gain = weight.detach().double()
    return Norm(
        unit=x / deviation.unsqueeze(-1),
        deviation=deviation,
        gain=gain,
        bias=torch.zeros_like(gain) if bias is None else bias.double(),
        centred=centred,
    )


def _projections(
    module: Any, heads: int
) -> tuple[list[Tensor], list[Tensor], Tensor] | None:
    """Weights by head, biases of the first three, bias of the last."""
    fused = getattr(module, 'query_key_value', None)
    if hasattr(module, 'c_attn') and hasattr(module, 'c_proj'):
        # Conv1D keeps the transpose of a linear layer's weight.
        parts = module.c_attn.weight.T.double().chunk(3)
        biases = module.c_attn.bias.double().chunk(3)
        out, last = module.c_proj.weight.T.double(), module.c_proj.bias
    elif fused is not None and hasattr(module, 'dense'):
        # The heads in turn, each with its query, key and value.
        by_head = fused.weight.double().unflatten(0, (heads, 3, -1))
        parts = by_head.transpose(0, 1).flatten(1, 2).unbind()
        bias = _bias(fused).unflatten(0, (heads, 3, -1))
        biases = bias.transpose(0, 1).flatten(1).unbind()
        out, last = module.dense.weight.double(), module.dense.bias
    elif all(hasattr(module, f'{name}_proj') for name in 'qkvo'):
        linears = [getattr(module, f'{name}_proj') for name in 'qkv']
        parts = [linear.weight.double() for linear in linears]
        biases = [_bias(linear) for linear in linears]
        out, last = module.o_proj.weight.double(), module.o_proj.bias
    else:
        return None
    width = parts[0].size(0) // heads
    split, added = [], []
    for weight, bias in zip(parts, biases, strict=True):
        # Grouped queries: several query heads share a key and a value.
        group = heads * width // weight.size(0)
        by_head = weight.unflatten(0, (-1, width))
        split.append(by_head.repeat_interleave(group, 0))
        bias = bias.unflatten(0, (-1, width)).repeat_interleave(group, 0)
        added.append(bias.unsqueeze(1))
    split.append(out.unflatten(1, (heads, -1)).transpose(0, 1))
    zeros = out.new_zeros(out.size(0))
    return split, added, zeros if last is None else last.double()


def _bias(linear: Any) -> Tensor:
    weight, bias = linear.weight, getattr(linear, 'bias', None)
    zeros = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
    return zeros if bias is None else bias.double()


def _rotation(kwargs: Mapping[str, Any], tokens: int, width: int) -> Tensor:
    """What a rotary embedding multiplies queries and keys by."""
    eye = torch.eye(width, dtype=torch.float64)
    embedding = kwargs.get('position_embeddings')
    if embedding is None:
        return eye.expand(tokens, width, width)
    cos, sin = (table[0].double() for table in embedding)
    eye, turned = eye.to(cos.device), cos.size(-1)
    swap = torch.zeros_like(eye)
    first = torch.arange(turned // 2, device=cos.device)
    swap[first, first + turned // 2] = -1
    swap[first + turned // 2, first] = 1
    # The rest of each head keeps its direction.
    cosines = cos.new_ones(tokens, width)
    cosines[:, :turned] = cos
    sines = cos.new_zeros(tokens, width)
    sines[:, :turned] = sin
    return cosines.unsqueeze(-1) * eye + sines.unsqueeze(-1) * swap


def _mlp(
    module: nn.Module, mlp: Any, x: Tensor
) -> tuple[tuple[Branch, ...], Tensor, Tensor]:
    """The branches of an MLP, its last map and its output."""
    branches: tuple[Branch, ...]
    if hasattr(mlp, 'gate_proj') and hasattr(mlp, 'down_proj'):
        gate, up = mlp.gate_proj, mlp.up_proj
        opened, lifted = _linear(gate, x), _linear(up, x)
        gated, slope = _activated(mlp.act_fn, opened)
        branches = (
            Branch(gate.weight.double(), slope * lifted),
            Branch(up.weight.double(), gated),
        )
        down, hidden = mlp.down_proj, gated * lifted
        return branches, down.weight.double(), _linear(down, hidden)
    if hasattr(mlp, 'c_fc'):
        first, last = mlp.c_fc, mlp.c_proj
        hidden, slope = _activated(
            mlp.act, x @ first.weight.double() + first.bias.double()
        )
        weight = last.weight.T.double()
        branches = (Branch(first.weight.T.double(), slope),)
        return branches, weight, hidden @ weight.T + last.bias.double()
    if hasattr(mlp, 'dense_h_to_4h'):
        first, last = mlp.dense_h_to_4h, mlp.dense_4h_to_h
        hidden, slope = _activated(mlp.act, _linear(first, x))
        branches = (Branch(first.weight.double(), slope),)
        return branches, last.weight.double(), _linear(last, hidden)
    raise _refusal(module, 'an unknown MLP')


def _linear(linear: Any, x: Tensor) -> Tensor:
    return x @ linear.weight.double().T + _bias(linear)


def _activated(function: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The values of a function of each unit, and its derivatives."""
    found = torch.func.jvp(function, (x,), (torch.ones_like(x),))
    return found[0], found[1]


def _refusal(module: nn.Module, what: str) -> NotImplementedError:
    return NotImplementedError(
        f'Expected a block whose parts explain what it does (got {what} in '
        f"'{type(module).__name__}')."
    )
