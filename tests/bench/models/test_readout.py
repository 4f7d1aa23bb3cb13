import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

import gnnbridge.transforms as T
from gnnbridge.bench.models.readout import Readout


def graphs():
    torch.manual_seed(0)
    return [
        Data(
            x=torch.randn(n, 2),
            edge_index=torch.tensor([[0], [n - 1]]),
            target_mask=torch.arange(n) % 2 == 0,
        )
        for n in (3, 1, 4)
    ]


def by_hand(readout, rows):
    normed = torch.nn.functional.layer_norm(
        rows, rows.shape[-1:], readout.norm.weight, readout.norm.bias
    )
    return normed, readout.linear.weight, readout.linear.bias


def test_asked_nodes_answer_in_their_order():
    data = Batch.from_data_list(graphs())
    readout, x = Readout('node', 6, 2, norm=True), torch.randn(8, 6)
    rows, weight, bias = by_hand(readout, x[[0, 2, 3, 4, 6]])
    torch.testing.assert_close(readout(x, data), rows @ weight.t() + bias)


def test_graphs_answer_by_the_mean_of_their_nodes():
    data = Batch.from_data_list(graphs())
    readout, x = Readout('graph', 6, 2, norm=True), torch.randn(8, 6)
    rows, weight, bias = by_hand(readout, x)
    means = torch.stack([p.mean(0) for p in rows.split([3, 1, 4])])
    torch.testing.assert_close(readout(x, data), means @ weight.t() + bias)
    alone = readout(x[:3], graphs()[0])
    torch.testing.assert_close(alone, readout(x, data)[:1])


class _Virtual(BaseTransform):
    """Marks the last node by hand, where it answers and is asked."""

    def forward(self, data):
        data.virtual_node_mask = torch.arange(data.num_nodes) > 1
        return data


@pytest.mark.parametrize('level', ['node', 'graph'])
def test_nodes_that_were_put_in_do_not_answer(level):
    few = [_Virtual()(graph) for graph in graphs()]
    data = Batch.from_data_list(few)
    readout, x = Readout(level, 6, 2, norm=False), torch.randn(8, 6)
    rows = [x[:2], x[3:4], x[4:6]]
    if level == 'node':
        expected = torch.cat([part[:1] for part in rows])
    else:
        expected = torch.stack([part.mean(0) for part in rows])
    torch.testing.assert_close(readout(x, data), readout.linear(expected))


@pytest.mark.parametrize('at', ['start', 'end'])
def test_virtual_nodes_of_the_transform_do_not_answer(at):
    graph = graphs()[2]
    rewired = T.VirtualNode(at=at, causal=False)(graph)
    x = torch.randn(5, 6)
    real = x[1:] if at == 'start' else x[:4]
    for level in ('node', 'graph'):
        readout = Readout(level, 6, 2, norm=True)
        torch.testing.assert_close(readout(x, rewired), readout(real, graph))


def test_nodes_that_are_asked_must_be_told():
    data = Data(x=torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"'target_mask' .*got none"):
        Readout('node', 6, 2, norm=True)(torch.zeros(2, 6), data)
