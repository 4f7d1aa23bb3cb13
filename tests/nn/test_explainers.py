import pytest
import torch
from torch import nn
from torch_geometric.explain import (
    AttentionExplainer,
    Explainer,
    GNNExplainer,
)
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.transformer_layer import GraphTransformerLayer

NODES, CHANNELS, HEADS, CLASSES = 7, 8, 2, 3


class ConvModel(nn.Module):
    """Attention between linear maps."""

    def __init__(self):
        super().__init__()
        self.lin_query = nn.Linear(CHANNELS, CHANNELS)
        self.lin_key = nn.Linear(CHANNELS, CHANNELS)
        self.lin_value = nn.Linear(CHANNELS, CHANNELS)
        self.conv = AttentionConv()
        self.lin_out = nn.Linear(CHANNELS, CLASSES)

    def attend(self, x, edge_index):
        query, key, value = (
            lin(x).view(x.size(0), HEADS, -1)
            for lin in (self.lin_query, self.lin_key, self.lin_value)
        )
        out, (_, alpha) = self.conv(
            query, key, value, edge_index, return_attention_weights=True
        )
        return out, alpha, value

    def alphas(self, x, edge_index):
        return [self.attend(x, edge_index)[1]]

    def forward(self, x, edge_index):
        return self.lin_out(self.attend(x, edge_index)[0].flatten(1))


class LayerModel(nn.Module):
    """Two transformer blocks."""

    def __init__(self):
        super().__init__()
        self.layer1 = GraphTransformerLayer(CHANNELS, HEADS)
        self.layer2 = GraphTransformerLayer(CHANNELS, HEADS, rope_theta=1e4)
        self.lin_out = nn.Linear(CHANNELS, CLASSES)

    def alphas(self, x, edge_index):
        weights = []
        for layer in (self.layer1, self.layer2):
            x, (_, alpha) = layer(x, edge_index, return_attention_weights=True)
            weights.append(alpha)
        return weights

    def forward(self, x, edge_index):
        return self.lin_out(self.layer2(self.layer1(x, edge_index), edge_index))


def build(model):
    torch.manual_seed(0)
    i, j = torch.ones(NODES, NODES).tril().nonzero().t()
    return model(), torch.randn(NODES, CHANNELS), torch.stack([j, i])


def explain(model, algorithm, **kwargs):
    return Explainer(
        model=model,
        algorithm=algorithm,
        explanation_type='model',
        edge_mask_type='object',
        model_config={
            'mode': 'multiclass_classification',
            'task_level': 'node',
            'return_type': 'raw',
        },
        **kwargs,
    )


@pytest.mark.parametrize('model', [ConvModel, LayerModel])
def test_attention_explainer_gives_the_mean_attention(model):
    model, x, edge_index = build(model)
    explainer = explain(model, AttentionExplainer(reduce='mean'))
    mask = explainer(x, edge_index).edge_mask
    assert mask.shape == (edge_index.size(1),)
    expected = torch.stack(model.alphas(x, edge_index)).mean(dim=(0, 2))
    torch.testing.assert_close(mask, expected)
    # For one node, the edges that cannot reach it are masked out.
    mask = explainer(x, edge_index, index=3).edge_mask
    seen = edge_index[1] <= 3
    torch.testing.assert_close(mask, expected * seen)


@pytest.mark.parametrize('model', [ConvModel, LayerModel])
def test_gnn_explainer_learns_an_edge_mask(model):
    model, x, edge_index = build(model)
    before = model(x, edge_index)
    explainer = explain(
        model, GNNExplainer(epochs=4), node_mask_type='attributes'
    )
    explanation = explainer(x, edge_index, index=3)
    mask = explanation.edge_mask
    assert mask.shape == (edge_index.size(1),)
    assert ((mask >= 0) & (mask <= 1)).all()
    seen = edge_index[1] <= 3
    assert (mask[~seen] == 0).all()
    # Its logits were trained: they differ between edges.
    assert mask[seen].unique().numel() > 1
    assert explanation.node_mask.shape == x.shape
    # The model is as it was.
    assert torch.equal(model(x, edge_index), before)


def test_an_edge_mask_multiplies_messages_after_the_softmax():
    model, x, edge_index = build(ConvModel)
    mask = torch.rand(edge_index.size(1))
    _, alpha, value = model.attend(x, edge_index)
    expected = torch.zeros(NODES, HEADS, CHANNELS // HEADS)
    for edge, (j, i) in enumerate(edge_index.t().tolist()):
        expected[i] += mask[edge] * alpha[edge].unsqueeze(-1) * value[j]
    set_masks(model, mask, edge_index, apply_sigmoid=False)
    out, _, _ = model.attend(x, edge_index)
    clear_masks(model)
    torch.testing.assert_close(out, expected)
    assert not torch.allclose(model.attend(x, edge_index)[0], expected)
