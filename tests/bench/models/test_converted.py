import pytest
import torch

from gnnbridge.bench.models.converted import LAYER, ConvertedBlock
from gnnbridge.bench.models.size import Form
from gnnbridge.bench.models.wiring import Edges, Graph
from gnnbridge.models.embedded import load_embedded


@pytest.fixture(scope='module')
def decoder():
    return load_embedded()


def path(num_nodes, position=None, loops=False):
    """The causal graph, with or without its self-loops."""
    i, j = torch.ones(num_nodes, num_nodes).tril(-1 + loops).nonzero().t()
    return Graph((Edges(torch.stack([j, i]), num_nodes),), position=position)


@pytest.mark.parametrize('loops', [True, False])
@pytest.mark.parametrize('trained', [True, False])
def test_on_the_causal_graph_it_is_the_block_of_the_model(
    decoder, loops, trained
):
    model, tokenizer = decoder
    ids = tokenizer('A graph.', return_tensors='pt')['input_ids']
    with torch.no_grad():
        hidden = model(ids, output_hidden_states=True).hidden_states
    block = ConvertedBlock(Form(layers=1), trained=trained)
    x, length = hidden[LAYER][0], ids.size(1)
    out = block(x, path(length, torch.arange(length), loops))
    torch.testing.assert_close(out, hidden[LAYER + 1][0], rtol=1e-4, atol=1e-4)


def test_without_positions_the_order_of_nodes_says_nothing():
    block = ConvertedBlock(Form(layers=1), trained=True)
    x = torch.randn(4, 64)
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    order = torch.tensor([2, 0, 3, 1])
    out = block(x, Graph((Edges(edge_index, 4),)))
    moved = block(x[order], Graph((Edges(order.argsort()[edge_index], 4),)))
    torch.testing.assert_close(moved, out[order], rtol=1e-4, atol=1e-4)


def test_training_one_leaves_the_others_alone():
    first, second = (
        ConvertedBlock(Form(layers=1), trained=True) for _ in range(2)
    )
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert all(p.abs().sum() > 0 for p in second.parameters())
    assert all(p.requires_grad for p in second.parameters())
    frozen = ConvertedBlock(Form(layers=1), trained=False)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_dropout_is_of_what_the_block_adds():
    torch.manual_seed(0)
    x, graph = torch.randn(6, 64), path(6)
    block = ConvertedBlock(Form(layers=1, dropout=0.9), trained=True).train()
    assert (block(x, graph) == x).double().mean() > 0.8
    plain = ConvertedBlock(Form(layers=1), trained=True)(x, graph)
    torch.testing.assert_close(block.eval()(x, graph), plain)
