"""The models by name, and how one is built for a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
from torch import nn

from gnnbridge.bench.models.attention import (
    differential_layer,
    transformer_layer,
)
from gnnbridge.bench.models.budget import fitting
from gnnbridge.bench.models.converted import WIDTH, ConvertedBlock
from gnnbridge.bench.models.convolutions import (
    GCN,
    GIN,
    SAGE,
    Convolution,
    DirGCN,
    DirSAGE,
    GATv2,
    Transformer,
)
from gnnbridge.bench.models.encoder import Encoder, Features
from gnnbridge.bench.models.graph_model import GraphModel
from gnnbridge.bench.models.layers import GPSLayer, ResidualLayer
from gnnbridge.bench.models.readout import Readout
from gnnbridge.bench.models.size import HEADS, Form, Size
from gnnbridge.bench.task import Level, Task

Layers = Callable[[Size, Form], list[nn.Module]]


@dataclass(frozen=True)
class ModelKind:
    """What there is to know of a model.

    Attributes:
        about: One sentence on what it is.
        source: The paper and the class.
        blocks: Its layers.
        edge_features: Whether it reads ``edge_attr``; others ignore it.
        edge_weight: Whether it reads ``edge_weight``; others run on the edges
            alone.
        position: Whether it reads ``position``; to others it is a feature at
            most.
        relations: Whether it can have several relations. With one it does
            not read ``edge_type``.
        free_residual: Whether it can do without residuals.
        free_norm: Whether it can do without norms.
        step: What its widths are multiples of.
        mlp: How many times the width its MLP is at least, if that takes what
            is left of a budget.
        width: Its width, if that is not free.
    """

    about: str
    source: str
    blocks: Layers
    edge_features: bool = False
    edge_weight: bool = False
    position: bool = False
    relations: bool = True
    free_residual: bool = False
    free_norm: bool = False
    step: int = 1
    mlp: int | None = None
    width: int | None = None


def _around(kind: type[Convolution]) -> Layers:
    return lambda size, form: [
        ResidualLayer(kind, size, form) for _ in range(form.layers)
    ]


def _gps(size: Size, form: Form) -> list[nn.Module]:
    return [GPSLayer(size, form) for _ in range(form.layers)]


def _transformer(size: Size, form: Form) -> list[nn.Module]:
    return [transformer_layer(size, form) for _ in range(form.layers)]


def _differential(size: Size, form: Form) -> list[nn.Module]:
    return [differential_layer(size, form, n) for n in range(form.layers)]


def _converted(size: Size, form: Form, *, trained: bool) -> list[nn.Module]:
    return [ConvertedBlock(form, trained=trained)] * form.layers


_convolution = partial(ModelKind, free_residual=True, free_norm=True)
# Heads that are rotated have an even width.
_ours = partial(
    ModelKind, edge_weight=True, position=True, step=2 * HEADS, mlp=2
)
_of_decoder = partial(
    ModelKind, edge_weight=True, position=True, relations=False, width=WIDTH
)
MODELS: dict[str, ModelKind] = {
    'gcn': _convolution(
        'Normalised sums over neighbours and the node itself.',
        'https://arxiv.org/abs/1609.02907, torch_geometric.nn.GCNConv',
        _around(GCN),
        edge_weight=True,
    ),
    'gin': _convolution(
        'An MLP of sums over neighbours; GINE where edges have features.',
        'https://arxiv.org/abs/1810.00826, https://arxiv.org/abs/1905.12265, '
        'torch_geometric.nn.GINConv and GINEConv',
        _around(GIN),
        edge_features=True,
    ),
    'sage': _convolution(
        'Means over neighbours beside the node itself.',
        'https://arxiv.org/abs/1706.02216, torch_geometric.nn.SAGEConv',
        _around(SAGE),
    ),
    'gatv2': _convolution(
        'Additive attention to neighbours and the node itself.',
        'https://arxiv.org/abs/2105.14491, torch_geometric.nn.GATv2Conv',
        _around(GATv2),
        edge_features=True,
        step=HEADS,
    ),
    'transformer_conv': _convolution(
        'Scaled dot-product attention to neighbours.',
        'https://arxiv.org/abs/2009.03509, torch_geometric.nn.TransformerConv',
        _around(Transformer),
        edge_features=True,
        step=HEADS,
    ),
    'gps': ModelKind(
        'GIN or GINE beside attention between all nodes of a graph.',
        'https://arxiv.org/abs/2205.12454, torch_geometric.nn.GPSConv',
        _gps,
        edge_features=True,
        free_norm=True,
        step=HEADS,
        mlp=1,
    ),
    'dir_gcn': _convolution(
        'GCN along the edges and GCN against them, as directed graphs need; '
        "normalised as in the paper, unlike PyG's.",
        'https://arxiv.org/abs/2305.10498, torch_geometric.nn.DirGNNConv '
        'around GCNConv',
        _around(DirGCN),
        edge_weight=True,
    ),
    'dir_sage': _convolution(
        'GraphSAGE along the edges and against them.',
        'https://arxiv.org/abs/2305.10498, torch_geometric.nn.DirGNNConv '
        'around SAGEConv',
        _around(DirSAGE),
    ),
    'graph_transformer': _ours(
        'Pre-norm transformer blocks on the edges, rotated by positions where '
        'a graph has them.',
        'https://arxiv.org/abs/1706.03762, gnnbridge.nn.GraphTransformerLayer',
        _transformer,
    ),
    'differential': _ours(
        'The same blocks with the difference of two attention maps.',
        'https://arxiv.org/abs/2410.05258, gnnbridge.nn.DifferentialAttention',
        _differential,
    ),
    'converted_frozen': _of_decoder(
        'A block of the embedded trained decoder at every depth, frozen: '
        'encoder and answers are trained.',
        'gnnbridge.convert_layer(gnnbridge.load_embedded()[0], 1)',
        partial(_converted, trained=False),
    ),
    'converted': _of_decoder(
        'A block of the embedded trained decoder at every depth, fine-tuned.',
        'gnnbridge.convert_layer(gnnbridge.load_embedded()[0], 1)',
        partial(_converted, trained=True),
    ),
}


def build_model(
    name: str,
    task: Task,
    *,
    budget: int = 64_000,
    layers: int | None = None,
    relations: int = 1,
    residual: bool = True,
    norm: bool = True,
    dropout: float = 0.0,
    seed: int = 0,
) -> GraphModel:
    """A model for a task, as large as a budget of parameters allows.

    Args:
        name: A name of :data:`MODELS`.
        task: The task: its features, outputs and level.
        budget: How many parameters there may be, those of encoders and those
            that are frozen among them.
        layers: The number of layers; the task's by default.
        relations: The number of relations. Every layer then has a convolution
            for each, at the same budget, and graphs need ``edge_type``.
        residual: Whether states are added to what a layer makes of them.
        norm: Whether layers and answers normalise, each node alone.
        dropout: The chance that a value of what a layer adds is dropped.
        seed: Decides the weights. The global source of chance is not moved.

    Raises:
        ValueError: If there is no such model, it cannot have what is asked
            for, or not even its smallest size is within the budget.
    """
    kind = _kind(name)
    form = Form(
        layers=task.layers if layers is None else layers,
        relations=relations,
        edge_features=kind.edge_features and task.edge_features is not None,
        residual=residual,
        norm=norm,
        dropout=dropout,
    )
    _check(name, kind, form)
    asked = _Asked(
        task.level, task.outputs, task.features, task.edge_features, form
    )
    try:
        size = _size(name, asked, budget)
    except ValueError as error:
        raise ValueError(
            f"{error} This is '{name}' on '{task.name}'."
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _built(kind, asked, size)


@dataclass(frozen=True)
class _Asked:
    level: Level
    outputs: int
    features: Features
    edge_features: Features | None
    form: Form


# The same sizes are asked for by every trial.
@lru_cache(maxsize=1024)
def _size(name: str, asked: _Asked, budget: int) -> Size:
    kind, layers = MODELS[name], asked.form.layers
    of_one = replace(asked, form=replace(asked.form, layers=1))

    def count(size: Size) -> int:
        with torch.device('meta'):
            model = _built(kind, of_one, size)
        layer = sum(p.numel() for p in model.blocks[0].parameters())
        # A block of fixed width is one block at every depth.
        further = 0 if kind.width is not None else layers - 1
        return model.total + further * layer

    return fitting(
        count, budget, step=kind.step, mlp=kind.mlp, width=kind.width
    )


def _built(kind: ModelKind, asked: _Asked, size: Size) -> GraphModel:
    form, edge_encoder = asked.form, None
    if form.edge_features and asked.edge_features is not None:
        edge_encoder = Encoder(
            asked.edge_features, size.width, name='edge_attr'
        )
    return GraphModel(
        Encoder(asked.features, size.width, rank=size.rank),
        kind.blocks(size, form),
        Readout(asked.level, size.width, asked.outputs, norm=form.norm),
        edge_encoder=edge_encoder,
        relations=form.relations,
    )


def _kind(name: str) -> ModelKind:
    if name not in MODELS:
        raise ValueError(
            f"Expected 'name' to be one of {', '.join(MODELS)} (got '{name}')."
        )
    return MODELS[name]


def _check(name: str, kind: ModelKind, form: Form) -> None:
    for what in ('layers', 'relations'):
        if getattr(form, what) < 1:
            raise ValueError(
                f"Expected '{what}' to be positive (got {getattr(form, what)})."
            )
    if not 0 <= form.dropout < 1:
        raise ValueError(
            f"Expected 'dropout' to be in [0, 1) (got {form.dropout})."
        )
    if form.relations > 1 and not kind.relations:
        raise ValueError(
            f"Expected 'relations' to be 1 for '{name}' (got "
            f'{form.relations}): there is one trained block. With 1 it takes '
            f'all edges alike.'
        )
    for what, free in (
        ('residual', kind.free_residual),
        ('norm', kind.free_norm),
    ):
        if not getattr(form, what) and not free:
            able = [
                other
                for other, its in MODELS.items()
                if getattr(its, f'free_{what}')
            ]
            raise ValueError(
                f"Expected '{what}' to be True for '{name}', whose blocks have "
                f'their own (got False). These can do without: '
                f'{", ".join(able)}.'
            )
