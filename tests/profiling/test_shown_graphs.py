import base64

import numpy as np
import torch
from tiny_decoder import tiny_decoder

import gnnbridge as gb
from gnnbridge.graph.dense import to_attention
from gnnbridge.profiling.shown_graphs import shown_graphs


def decoded(layer: dict, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (layer['heads'], tokens, layer['keep'])
    source = np.frombuffer(base64.b64decode(layer['source']), '<u2')
    weight = np.frombuffer(base64.b64decode(layer['weight']), 'u1')
    return source.reshape(shape), weight.reshape(shape)


def test_the_strongest_keys_of_every_query_and_head() -> None:
    model, ids = gb.convert(tiny_decoder()), torch.arange(20) * 3
    shown = shown_graphs(model, ids, 2)
    found = shown.to_dict()
    assert found['tokens'] == 20
    assert (shown.causal, shown.heads, shown.hidden_size) == (True, [3, 3], 24)
    for layer, graph in zip(
        found['layers'], gb.capture(model, ids), strict=True
    ):
        assert layer['edges_total'] == 210
        source, weight = decoded(layer, 20)
        assert source.shape == (3, 20, 8)
        for head in range(3):
            A = torch.zeros(20, 20)
            A[graph.edge_index[1], graph.edge_index[0]] = graph.edge_attr[
                :, head
            ]
            best = A.sort(dim=1, descending=True).values[:, :8]
            # Weights have 255 steps.
            np.testing.assert_allclose(
                weight[head] / 255, best, atol=0.5 / 255 + 1e-6
            )
            there = weight[head] > 0
            rows = np.nonzero(there)[0]
            at = A[rows, torch.from_numpy(source[head][there].astype(int))]
            np.testing.assert_allclose(
                weight[head][there] / 255, at, atol=0.5 / 255 + 1e-6
            )
        A = to_attention(graph)
        assert np.isclose(layer['self_share'], A.diagonal().mean())
        assert np.isclose(layer['first_token_share'], A[:, 0].mean())


def test_fewer_tokens_than_keys() -> None:
    model = gb.convert(tiny_decoder())
    found = shown_graphs(model, torch.tensor([1, 2]), 2).to_dict()
    source, weight = decoded(found['layers'][0], 2)
    assert source.shape == (3, 2, 2)
    # The first token sees itself alone; an empty place has weight 0.
    np.testing.assert_array_equal(weight[:, 0], [[255, 0]] * 3)
