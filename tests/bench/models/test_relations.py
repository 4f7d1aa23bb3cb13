import torch

from gnnbridge.bench.models.convolutions import GIN
from gnnbridge.bench.models.relations import Relations
from gnnbridge.bench.models.size import Form, Size
from gnnbridge.bench.models.wiring import Edges, Graph


def test_the_outputs_of_the_relations_are_summed():
    torch.manual_seed(0)
    form = Form(layers=1, relations=2, edge_features=True)
    layer = Relations(GIN, Size(4, 6), form)
    x, attr = torch.randn(5, 4), torch.randn(4, 4)
    edge_index = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 4]])
    chosen = torch.tensor([0, 2]), torch.tensor([3, 1])
    graph = Graph(
        tuple(Edges(edge_index[:, c], 5, None, c) for c in chosen), attr
    )
    out = layer(x, graph)

    expected = 0
    for r, own in enumerate(chosen):
        total = x.clone() if r == 0 else torch.zeros_like(x)
        for e in own.tolist():
            source, target = edge_index[:, e].tolist()
            total[target] += (x[source] + attr[e]).relu()
        expected = expected + layer.convs[r].conv.nn(total)
    torch.testing.assert_close(out, expected)
    # The second has no bias to give to nodes that it has no edge to.
    assert layer.convs[1].conv.nn[0].bias is None
