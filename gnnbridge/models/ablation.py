"""Blocks without their residual connections or MLPs, for comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gnnbridge.models.blocks import find_block, first_of, first_states
from gnnbridge.models.convert import converted
from gnnbridge.models.slots import slots_of
from gnnbridge.models.support import run_once, trace_inputs

Ablation: TypeAlias = Literal['attention_only', 'no_residual', 'no_mlp']

# By how much a block may miss the sum of its parts, token by token: of what it
# adds, and of the states in units of their rounding.
_TOLERANCE, _ROUNDING = 1e-4, 8


@contextmanager
def ablated(
    model: PreTrainedModel, kind: Ablation
) -> Iterator[PreTrainedModel]:
    r"""Takes residual connections or MLPs out of a model for a context.

    The references of `Dong et al., 2021 <https://arxiv.org/abs/2103.03404>`_,
    with the weights of the model. Let a block turn :math:`x` into
    :math:`u + m(u)` with :math:`u = x + a(x)`, or into
    :math:`x + a(x) + m(x)` where attention and MLP are side by side; norms are
    part of :math:`a` and :math:`m`. Inside the context it gives

    - ``'attention_only'``: :math:`a(x)`. Tokens become equal with depth: in
      networks of full attention without norms, which the paper looks at,
      doubly exponentially; with norms, or causal attention, slower;
    - ``'no_residual'``: :math:`m(a(x))`, or :math:`a(x) + m(x)`;
    - ``'no_mlp'``: :math:`x + a(x)`.

    That every block is of this form is first checked on a few tokens. The
    model may be converted or not, and is left as it was.

    Args:
        model: A model of pre-norm blocks.
        kind: What is left of each block.

    Yields:
        The model that was given.

    Raises:
        ValueError: If there is no such kind, or the model is ablated already.
        NotImplementedError: If a block is of another form, or the model has
            other ways from token to token than self-attention in blocks.
    """
    if kind not in get_args(Ablation):
        raise ValueError(
            f"Expected 'kind' to be one of {', '.join(get_args(Ablation))} "
            f'(got {kind!r}).'
        )
    blocks = [
        _Block(name, block, attention)
        for name, (block, attention) in _blocks_of(model).items()
    ]
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block.taken_over())
        run_once(model, trace_inputs(model))
        for block in blocks:
            block.kind = kind
        yield model


class _Block:
    """A block whose attention and MLP can be switched off.

    Attributes:
        kind: What it gives; None as long as it is to be checked.
        parallel: Whether attention and MLP read the same states.
    """

    def __init__(
        self, name: str, block: nn.Module, attention: nn.Module
    ) -> None:
        self.name, self.block, self.attention = name, block, attention
        self.kind: Ablation | None = None
        self.parallel = False
        self._mlp = [
            child
            for child in block.children()
            if attention not in set(child.modules())
            and any(weight.dim() >= 2 for weight in child.parameters())
        ]
        self._forward, self._attend = block.forward, attention.forward
        self._attends: Literal['anew', 'as before', 'not'] = 'anew'
        self._read: Tensor | None = None
        self._attended: Any = None
        self._has_mlp = True

    @contextmanager
    def taken_over(self) -> Iterator[None]:
        """Replaces what the block and its attention do when called."""
        if isinstance(getattr(self._forward, '__self__', None), _Block):
            raise ValueError(
                f'Expected a model that is not ablated (got block '
                f"'{self.name}' in another context). Leave that one first."
            )
        with ExitStack() as stack:
            for module, forward in (
                (self.block, self._run),
                (self.attention, self._run_attention),
            ):
                stack.enter_context(_replaced(module, forward))
            for child in self._mlp:
                hook = child.register_forward_hook(self._after_mlp)
                stack.callback(hook.remove)
            yield

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        x = first_states(args, kwargs)
        try:
            if self.kind is None:
                output = self._part(x, args, kwargs)
                self._check(x, first_of(output), args, kwargs)
                return output
            output = self._part(x, args, kwargs, mlp=False)
            if self.kind == 'no_mlp':
                return output
            added = first_of(output) - x
            if self.kind == 'no_residual' and self.parallel:
                added = added + self._mlp_of(x, args, kwargs)
            elif self.kind == 'no_residual':
                added = self._mlp_of(added, args, kwargs)
            return _with_first(output, added)
        finally:
            self._read = self._attended = None

    def _part(
        self,
        states: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        attends: Literal['anew', 'as before', 'not'] = 'anew',
        mlp: bool = True,
    ) -> Any:
        """What the block gives on some states, with parts switched off."""
        if 'hidden_states' in kwargs:
            kwargs = {**kwargs, 'hidden_states': states}
        else:
            args = (states, *args[1:])
        self._attends, self._has_mlp = attends, mlp
        try:
            return self._forward(*args, **kwargs)
        finally:
            self._attends, self._has_mlp = 'anew', True

    def _mlp_of(
        self, states: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """What the MLP adds to some states."""
        return (
            first_of(self._part(states, args, kwargs, attends='not')) - states
        )

    def _check(
        self,
        x: Tensor,
        y: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Finds the form of a block that turned `x` into `y`, or refuses it."""
        if not self._mlp:
            raise self._refusal('no MLP beside attention')
        u = first_of(
            self._part(x, args, kwargs, attends='as before', mlp=False)
        )
        if any(getattr(z, 'shape', None) != x.shape for z in (y, u)):
            raise self._refusal('an output of another shape')
        size, floor = (z.float().norm(dim=-1) for z in (y - x, y))
        allowed = _TOLERANCE * size
        allowed += _ROUNDING * torch.finfo(y.dtype).eps * floor
        missed = []
        for parallel, states in ((False, u), (True, x)):
            error = u + self._mlp_of(states, args, kwargs) - y
            error = error.float().norm(dim=-1)
            if (error <= allowed).all():
                self.parallel = parallel
                return
            missed.append(float(error.max() / size.max()))
        raise self._refusal(
            f'an output that is {min(missed):.1e} of what it adds away from '
            f'that'
        )

    def _run_attention(self, *args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        states = next((x for x in given if isinstance(x, Tensor)), None)
        if self._attends == 'not':
            return _without_first(self._attended)
        # Once in each call of the block: a KV cache must not grow twice.
        if self._attends == 'anew':
            self._read, self._attended = states, self._attend(*args, **kwargs)
        elif not _same(states, self._read):
            raise self._refusal('attention that reads what the MLP gave')
        return self._attended

    def _after_mlp(self, module: nn.Module, args: Any, output: Any) -> Any:
        return None if self._has_mlp else _without_first(output)

    def _refusal(self, found: str) -> NotImplementedError:
        return NotImplementedError(
            f"Expected block '{self.name}' ('{type(self.block).__name__}') to "
            f'add attention and an MLP to its states, one after the other or '
            f'side by side (got {found}). Residual connections and MLPs '
            f'cannot be taken out of this architecture.'
        )


def _blocks_of(
    model: PreTrainedModel,
) -> dict[str, tuple[nn.Module, nn.Module]]:
    """The blocks of a model in their order, each with its attention."""
    with converted(model, None):
        slots = slots_of(model)
    found: dict[str, tuple[nn.Module, nn.Module]] = {}
    for attention, slot in slots.items():
        name, block = find_block(model, slot.name)
        if block is None:
            raise _other_form(model, f"'{name}', which is in no block")
        if slot.cross or name in found:
            raise _other_form(model, f"another one, '{slot.name}'")
        found[name] = block, attention
    for name in list(found):
        path = name.rpartition('.')[0]
        beside = model.get_submodule(path)
        if not isinstance(beside, nn.ModuleList):
            continue
        for number, other in enumerate(beside):
            if f'{path}.{number}' not in found:
                raise _other_form(
                    model,
                    f"'{path}.{number}' ('{type(other).__name__}') without",
                )
    return found


def _other_form(model: PreTrainedModel, found: str) -> NotImplementedError:
    return NotImplementedError(
        f"Expected every block of '{type(model).__name__}' to have one "
        f'softmax self-attention (got {found}). Residual connections and MLPs '
        f'cannot be taken out of this architecture.'
    )


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Lets a module run another function; one of its own may be set already."""
    before = module.__dict__.get('forward')
    module.__dict__['forward'] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__['forward']
        else:
            module.__dict__['forward'] = before


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


def _with_first(output: Any, value: Tensor) -> Any:
    if isinstance(output, (tuple, list)):
        return type(output)([value, *output[1:]])
    return value


def _without_first(output: Any) -> Any:
    return _with_first(output, torch.zeros_like(first_of(output)))
