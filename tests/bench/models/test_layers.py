import pytest
import torch
from torch.nn import functional as F

from gnnbridge.bench.models.convolutions import SAGE
from gnnbridge.bench.models.layers import GPSLayer, ResidualLayer
from gnnbridge.bench.models.size import Form, Size
from gnnbridge.bench.models.wiring import Edges, Graph

EDGES = torch.tensor([[0, 1, 2, 4, 3], [1, 2, 0, 3, 3]])
BATCH = torch.tensor([0, 0, 0, 1, 1])


def graph():
    return Graph((Edges(EDGES, 5),), batch=BATCH)


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('norm', [True, False])
def test_a_residual_layer_is_the_formula(residual, norm):
    torch.manual_seed(0)
    form = Form(layers=1, residual=residual, norm=norm)
    layer, x = ResidualLayer(SAGE, Size(8, 8), form), torch.randn(5, 8)
    out = layer.conv.convs[0].conv(x, EDGES)
    if norm:
        out = F.layer_norm(out, (8,))
    out = out.relu() + (x if residual else 0)
    torch.testing.assert_close(layer(x, graph()), out)


def test_dropout_is_of_what_the_layer_adds():
    torch.manual_seed(0)
    form = Form(layers=1, dropout=0.9, norm=False)
    layer, x = ResidualLayer(SAGE, Size(64, 64), form), torch.randn(5, 64)
    layer.conv.convs[0].conv.lin_l.bias.data.fill_(100.0)  # ReLU keeps all
    same = (layer(x, graph()) == x).double().mean()
    assert 0.8 < same < 0.98
    layer.eval()
    assert (layer(x, graph()) != x).all()


def attention(layer, x):
    """The attention of GPS between all nodes of each graph, by hand."""
    width, heads = x.size(1), layer.heads
    qkv = F.linear(x, layer.attn.in_proj_weight, layer.attn.in_proj_bias)
    query, key, value = (
        p.unflatten(1, (heads, width // heads)) for p in qkv.chunk(3, 1)
    )
    score = torch.einsum('ihd,jhd->hij', query, key) / (width // heads) ** 0.5
    apart = BATCH.unsqueeze(1) != BATCH
    alpha = score.masked_fill(apart, float('-inf')).softmax(-1)
    out = torch.einsum('hij,jhd->ihd', alpha, value).flatten(1)
    return layer.attn.out_proj(out)


@pytest.mark.parametrize('norm', [True, False])
def test_gps_is_gin_beside_attention_within_graphs(norm):
    torch.manual_seed(0)
    layer = GPSLayer(Size(8, 6), Form(layers=1, norm=norm))
    x = torch.randn(5, 8)

    def normed(h):
        return F.layer_norm(h, (8,)) if norm else h

    A = torch.zeros(5, 5)
    A[EDGES[1], EDGES[0]] = 1
    gps = layer.conv
    local = gps.conv.convs[0].conv.nn(x + A @ x)
    both = normed(x + local) + normed(x + attention(gps, x))
    out = normed(both + gps.mlp(both))
    torch.testing.assert_close(layer(x, graph()), out, rtol=1e-4, atol=1e-5)
