import pytest
import torch

from gnnbridge.bench.models.attention import (
    ROPE_THETA,
    RelationalBlock,
    TransformerLayer,
    differential_layer,
    transformer_layer,
)
from gnnbridge.bench.models.size import Form, Size
from gnnbridge.bench.models.wiring import Edges, Graph
from gnnbridge.nn.projected_attention import ProjectedAttention
from gnnbridge.nn.transformer_layer import GraphTransformerLayer

NODES, SIZE = 7, Size(16, 24)


def graph(positions=False, relations=1):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(NODES, NODES, generator=generator) < 0.5
    mask[3] = False  # nothing is attended to
    i, j = mask.nonzero().t()
    edge_index = torch.stack([j, i])
    weight = torch.rand(i.numel(), generator=generator) + 0.1
    parts = [
        Edges(edge_index[:, r::relations], NODES, weight[r::relations])
        for r in range(relations)
    ]
    position = torch.arange(NODES).flip(0) if positions else None
    return Graph(tuple(parts), position=position)


def states():
    torch.manual_seed(1)
    return torch.randn(NODES, SIZE.width)


@pytest.mark.parametrize('positions', [True, False])
def test_a_transformer_layer_is_ours_rotated_where_positions_are(positions):
    layer = transformer_layer(SIZE, Form(layers=1))
    assert isinstance(layer, TransformerLayer)
    peer = GraphTransformerLayer(
        16, 4, hidden_channels=24, act='relu',
        rope_theta=ROPE_THETA if positions else None,
    )  # fmt: skip
    peer.load_state_dict(layer.block.state_dict())
    x, given = states(), graph(positions)
    edges = given.relations[0]
    expected = peer(x, edges.edge_index, given.position, edges.edge_weight)
    torch.testing.assert_close(layer(x, given), expected)
    # A graph with positions does not change what one without them gets.
    layer(x, graph(not positions))
    torch.testing.assert_close(layer(x, given), expected)


@pytest.mark.parametrize('positions', [True, False])
def test_the_block_of_one_relation_is_the_layer(positions):
    layer = transformer_layer(SIZE, Form(layers=1))
    attention = ProjectedAttention(16, 4, rope_theta=ROPE_THETA)
    block = RelationalBlock([attention], SIZE, Form(layers=1))
    own = layer.block.state_dict()
    block.load_state_dict(
        {
            name: own[name.removeprefix('attentions.0.')]
            for name in block.state_dict()
        }
    )
    x, given = states(), graph(positions)
    torch.testing.assert_close(block(x, given), layer(x, given))


@pytest.mark.parametrize('make', ['transformer', 'differential'])
def test_the_attentions_of_relations_are_summed(make):
    form = Form(layers=1, relations=2)
    layer = (
        transformer_layer(SIZE, form)
        if make == 'transformer'
        else differential_layer(SIZE, form, 3)
    )
    x, given = states(), graph(relations=2)
    normed = layer.norm1(x)
    for attention, edges in zip(layer.attentions, given.relations, strict=True):
        attention.rope_theta = None
        x = x + attention(normed, edges.edge_index, None, edges.edge_weight)
    x = x + layer.mlp(layer.norm2(x))
    torch.testing.assert_close(layer(states(), given), x)
    # What the second gives to a node without edges is nothing.
    second = layer.attentions[1](normed, given.relations[1].edge_index)
    assert torch.equal(second[3], torch.zeros(SIZE.width))


def test_differential_layers_know_their_number():
    convs = [
        differential_layer(SIZE, Form(layers=2), n).attentions[0].conv
        for n in range(2)
    ]
    assert convs[0].lambda_init == pytest.approx(0.2)
    assert convs[1].lambda_init == pytest.approx(0.8 - 0.6 * 0.74081822)
    assert convs[0].heads == 2


@pytest.mark.parametrize('relations', [1, 2])
def test_dropout_is_of_what_a_block_adds(relations):
    torch.manual_seed(0)
    form = Form(layers=1, relations=relations, dropout=0.9)
    x, given = states(), graph(relations=relations)
    for layer in (
        transformer_layer(SIZE, form),
        differential_layer(SIZE, form, 0),
    ):
        assert (layer(x, given) == x).double().mean() > 0.6
        assert (layer.eval()(x, given) != x).all()
