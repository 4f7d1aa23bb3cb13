"""Does Lyapunov resistance say whose attention outputs are alike?"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from gnnbridge.spectral import lyapunov_resistance

from .agreement import Figures, agreement, mean_of
from .measured import attention_in, blocks_in
from .scores import graphs_of, uniform_graph

OUTPUTS = 'distance of outputs'
RESISTANCE = 'Lyapunov resistance'


def collapse(model: PreTrainedModel, texts: Tensor) -> dict[str, object]:
    r"""Agreement with :math:`\lVert o_i - o_j \rVert^2` over pairs.

    Args:
        model: The model.
        texts: The sequences ``[B, N]``.

    Returns:
        For every score, for each layer, the mean agreement within a text;
        and, for each layer and summed over layers, the agreement of means
        over texts.
    """
    within: dict[str, list[list[Figures]]] = {}
    total: dict[str, Tensor] = {}
    for ids in tqdm(texts, desc='collapse', leave=False, disable=None):
        found = _distances(model, ids.unsqueeze(0))
        for name, layers in found.items():
            total[name] = total.get(name, 0) + layers
            if name != OUTPUTS:
                pairs = zip(layers, found[OUTPUTS], strict=True)
                within.setdefault(name, []).append(
                    [agreement(score, truth) for score, truth in pairs]
                )
    outputs = total.pop(OUTPUTS)
    return {
        name: {
            'within_text': [
                mean_of(layer) for layer in zip(*within[name], strict=True)
            ],
            'means_over_texts': [
                agreement(score, truth)
                for score, truth in zip(layers, outputs, strict=True)
            ],
            'layers_summed': agreement(layers.sum(0), outputs.sum(0)),
        }
        for name, layers in total.items()
    }


def _distances(model: PreTrainedModel, ids: Tensor) -> dict[str, Tensor]:
    """What is compared, for each layer ``[L, N, N]``."""
    outputs = attention_outputs(model, ids)
    layers = graphs_of(model, ids).layers
    place = torch.arange(ids.size(1), dtype=torch.float64)
    apart = (place.unsqueeze(-1) - place).abs()
    uniform = lyapunov_resistance(uniform_graph(ids.size(1)))
    return {
        OUTPUTS: torch.cdist(outputs, outputs).square(),
        RESISTANCE: lyapunov_resistance(layers),
        'distance of rows of A': torch.cdist(layers, layers).square(),
        '|i - j|': apart.expand_as(layers),
        'uniform-graph resistance': uniform.expand_as(layers),
    }


@torch.no_grad()
def attention_outputs(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """What the attention modules return ``[L, N, d]``."""
    found, handles = [], []

    def record(_: object, __: object, output: object) -> None:
        states = output if isinstance(output, Tensor) else output[0]
        found.append(states[0].double())

    for block in blocks_in(model):
        handles.append(attention_in(block).register_forward_hook(record))
    try:
        model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(found)
