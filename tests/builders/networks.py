"""Graphs with known curvature, from networkx."""

from typing import Any

import networkx as nx
import torch
from torch import Tensor


def _karate() -> Any:
    # networkx gives it weights.
    return nx.Graph(list(nx.karate_club_graph().edges))


NETWORKS = {
    'karate': _karate(),
    'barbell': nx.barbell_graph(5, 0),
    'barbell-path': nx.barbell_graph(4, 3),
    'ring-of-cliques': nx.ring_of_cliques(4, 5),
    'gnm-31': nx.gnm_random_graph(31, 61, seed=3),
    'gnm-19-dense': nx.gnm_random_graph(19, 90, seed=4),
    'barabasi-albert-43': nx.barabasi_albert_graph(43, 3, seed=1),
    'tree': nx.balanced_tree(2, 3),
    'grid': nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 5)),
    'petersen': nx.petersen_graph(),
    'cycle-3': nx.cycle_graph(3),
    'cycle-4': nx.cycle_graph(4),
    'cycle-5': nx.cycle_graph(5),
    'path': nx.path_graph(7),
    'star': nx.star_graph(5),
    'complete': nx.complete_graph(7),
    'bipartite': nx.complete_bipartite_graph(3, 5),
}

DIGRAPHS = {
    'causal': nx.DiGraph([(j, i) for i in range(6) for j in range(i)]),
    'window-and-sink': nx.DiGraph(
        [(j, i) for i in range(13) for j in range(i) if i - j < 3 or j == 0]
    ),
    'sparse-causal': nx.DiGraph(
        [(j, i) for i in range(17) for j in range(i) if (7 * i + j) % 3 == 0]
    ),
    'gnp-15': nx.gnp_random_graph(15, 0.25, seed=5, directed=True),
    'gnp-9-dense': nx.gnp_random_graph(9, 0.6, seed=6, directed=True),
    'cycle': nx.cycle_graph(4, create_using=nx.DiGraph),
}


def edges_of(graph: Any) -> Tensor:
    """The edges, those of an undirected graph in both directions."""
    edges = torch.tensor(list(graph.edges), dtype=torch.long)
    edges = edges.view(-1, 2).T
    if graph.is_directed():
        return edges
    return torch.cat([edges, edges.flip(0)], dim=1)


def balanced_forman_by_definition(graph: Any, u: int, v: int) -> float:
    """Definition 1 of Topping et al., set by set.

    For a digraph the neighbours of u are those before it and the neighbours
    of v those after it.
    """
    directed = graph.is_directed()
    near_u = set(graph.predecessors(u) if directed else graph[u])
    near_v = set(graph.successors(v) if directed else graph[v])
    low, high = sorted([len(near_u), len(near_v)])
    if low <= 1:
        return 0.0
    only_u, only_v = near_u - near_v - {v}, near_v - near_u - {u}
    partners = [sum(graph.has_edge(k, w) for w in only_v) for k in only_u] + [
        sum(graph.has_edge(k, w) for k in only_u) for w in only_v
    ]
    triangles = len(near_u & near_v)
    value = 2 / low + 2 / high - 2 + 2 * triangles / high + triangles / low
    if any(partners):
        squares = sum(count > 0 for count in partners)
        value += squares / (max(partners) * high)
    return value
