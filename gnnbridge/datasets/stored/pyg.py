"""Data sets of PyG as lists of graphs, read from a disk only.

Raw files are processed by PyG, which keeps what it makes of them beside them,
so that the first call takes longer and must be allowed to write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.datasets import ZINC, LRGBDataset, Planetoid, TUDataset
from torch_geometric.transforms import NormalizeFeatures

from gnnbridge.datasets.stored.files import stored_files

Parts = tuple[list[Data], list[Data], list[Data]]


def tu_graphs(root: Path | str, name: str) -> list[Data]:
    """The graphs of a TUDataset: classes of molecules and of proteins.

    From `Morris et al., 2020, "TUDataset" <https://arxiv.org/abs/2007.08663>`_.
    As usual with PyG nodes and edges have their labels in one-hot form, and
    continuous attributes are left out.

    Args:
        root: The folder that holds ``NAME/raw`` or ``NAME/processed``.
        name: ``'MUTAG'``, ``'PROTEINS'`` or ``'ENZYMES'``.

    Shapes:
        ``x`` is ``[N, F]`` and ``edge_attr``, if there is one, ``[E, D]``,
        both float32; ``y`` is ``[1]`` int64.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If there is none of that name.
    """
    stored_files(name).require(root)
    return [_graph(graph, graph.y) for graph in _TU(str(root), name)]


def planetoid_parts(root: Path | str, name: str) -> Parts:
    """The citation graph of Planetoid, once for each part of its nodes.

    From `Yang et al., 2016, "Revisiting Semi-Supervised Learning with Graph
    Embeddings" <https://arxiv.org/abs/1603.08861>`_, with the public split
    and features that sum to 1 for each node.

    Args:
        root: The folder that holds ``NAME/raw`` or ``NAME/processed``.
        name: ``'Cora'``, ``'CiteSeer'`` or ``'PubMed'``.

    Returns:
        Three lists of one graph, which differ by ``target_mask`` and ``y``.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If there is none of that name.
    """
    stored_files(name).require(root)
    whole = NormalizeFeatures()(_Planetoid(str(root), name)[0])

    def part(mask: Tensor) -> list[Data]:
        graph = _graph(whole, whole.y[mask])
        graph.target_mask = mask
        return [graph]

    return part(whole.train_mask), part(whole.val_mask), part(whole.test_mask)


def peptides_parts(root: Path | str, name: str) -> Parts:
    """Peptides of the Long Range Graph Benchmark: properties of molecules.

    From `Dwivedi et al., 2022, "Long Range Graph Benchmark"
    <https://arxiv.org/abs/2206.08164>`_, with its split.

    Args:
        root: The folder that holds ``peptides-.../raw`` or ``processed``.
        name: ``'Peptides-func'`` or ``'Peptides-struct'``.

    Shapes:
        ``x`` is ``[N, 9]`` and ``edge_attr`` ``[E, 3]``, both int64; ``y`` is
        ``[1, 10]`` or ``[1, 11]`` float32.

    Raises:
        FileNotFoundError: If the data set is not there.
        ValueError: If there is none of that name.
    """
    stored_files(name).require(root)

    def part(split: str) -> list[Data]:
        graphs = _LRGB(str(root), name, split)
        return [_graph(graph, graph.y.view(1, -1).float()) for graph in graphs]

    return part('train'), part('val'), part('test')


def zinc_parts(root: Path | str) -> Parts:
    """The subset of ZINC: constrained solubility of 12,000 molecules.

    From `Dwivedi et al., 2020, "Benchmarking Graph Neural Networks"
    <https://arxiv.org/abs/2003.00982>`_, with its split.

    Args:
        root: The folder that holds ``ZINC/raw`` or ``ZINC/subset/processed``.

    Shapes:
        ``x`` is ``[N, 1]`` and ``edge_attr`` ``[E, 1]``, both int64; ``y`` is
        ``[1, 1]`` float32.

    Raises:
        FileNotFoundError: If the data set is not there.
    """
    stored_files('ZINC').require(root)

    def part(split: str) -> list[Data]:
        graphs = _ZINC(str(Path(root) / 'ZINC'), subset=True, split=split)
        return [_graph(graph, graph.y.view(1, 1).float()) for graph in graphs]

    return part('train'), part('val'), part('test')


class _OnDisk:
    """A data set of PyG that does not download.

    PyG downloads wherever raw files are missing, even where it needs them no
    more because they were processed.
    """

    has_download = False


class _TU(_OnDisk, TUDataset):
    pass


class _Planetoid(_OnDisk, Planetoid):
    pass


class _LRGB(_OnDisk, LRGBDataset):
    pass


class _ZINC(_OnDisk, ZINC):
    pass


def _graph(graph: Any, y: Tensor) -> Data:
    """The same graph with nothing but what tasks know."""
    plain = Data(x=graph.x, edge_index=graph.edge_index, y=y)
    if graph.edge_attr is not None:
        attributes = graph.edge_attr
        one_column = attributes.dim() == 1
        plain.edge_attr = attributes.unsqueeze(1) if one_column else attributes
    return plain
