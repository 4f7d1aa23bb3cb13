"""Single blocks as PyG layers: the model's numbers, on any graph."""

from __future__ import annotations

import copy

import architectures
import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.explain import AttentionExplainer, Explainer

import gnnbridge as gb
from gnnbridge.graph import complete_graph, sliding_window_graph
from gnnbridge.nn import GraphTransformerLayer, plan_attention

# float32 on both sides; measured at most 8e-7 of the scale of the states.
TOLERANCE = 1e-5
BLOCKS = {
    'bert': 'bert.encoder.layer',
    'gpt2': 'transformer.h',
    'gpt2_both': 'transformer.h',
    'gpt2_inverse_layer': 'transformer.h',
    'gpt2_unscaled': 'transformer.h',
    'gpt2_upcast': 'transformer.h',
    'gpt_neox': 'gpt_neox.layers',
    'opt': 'model.decoder.layers',
    'vit': 'vit.layers',
}
NAMES = [name for name in architectures.DECODERS] + ['bert', 'vit']


def block_run(name, layer):
    """States entering and leaving a block of the unconverted model."""
    model = architectures.build(name)
    model.set_attn_implementation('eager')
    inputs = architectures.inputs_for(model)
    block = model.get_submodule(BLOCKS.get(name, 'model.layers'))[layer]
    seen = {}

    def enter(module, args, kwargs):
        seen['x'] = args[0] if args else kwargs['hidden_states']

    def leave(module, args, output):
        seen['y'] = output[0] if isinstance(output, tuple) else output

    block.register_forward_pre_hook(enter, with_kwargs=True)
    block.register_forward_hook(leave)
    with torch.no_grad():
        model(**inputs)
    return seen['x'], seen['y'], inputs[model.main_input_name]


def close(found, expected):
    scale = expected.abs().max()
    return bool((found - expected).abs().max() < TOLERANCE * scale)


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_a_layer_gives_what_the_block_gives(name):
    model = architectures.build(name)
    for number in range(3):
        x, y, ids = block_run(name, number)
        layer = gb.convert_layer(model, number)
        assert isinstance(layer, GraphTransformerLayer)
        graphs = gb.capture(model, ids, hidden_states=False)
        for sequence in range(2):
            graph = graphs[number].to_data_list()[sequence]
            out = layer(x[sequence], graph.edge_index, graph.position)
            assert close(out, y[sequence])
            assert close(layer(x[sequence], graph.edge_index), y[sequence])
        batch = Batch.from_data_list(graphs[number].to_data_list())
        together = layer(x.flatten(0, 1), batch.edge_index, batch.position)
        assert close(together, y.flatten(0, 1))


@torch.no_grad()
def test_a_layer_on_another_graph_is_the_block_under_another_mask():
    x, _, _ = block_run('llama', 1)
    model = architectures.build('llama')
    layer = gb.convert_layer(model, 1)
    window = sliding_window_graph(13, 3, sinks=1)
    found, (edge_index, alpha) = layer(
        x[0], window.edge_index, return_attention_weights=True
    )
    assert torch.equal(edge_index, window.edge_index)
    assert alpha.shape == (window.num_edges, 4)
    keep = torch.zeros(13, 13, dtype=torch.bool)
    keep[window.edge_index[1], window.edge_index[0]] = True
    model.set_attn_implementation('sdpa')
    rope = model.model.rotary_emb(x, torch.arange(13).unsqueeze(0))
    expected = model.model.layers[1](
        x[:1], attention_mask=keep[None, None], position_embeddings=rope
    )
    assert close(found, expected[0] if expected.dim() == 3 else expected)


@torch.no_grad()
def test_positions_are_used():
    x, _, _ = block_run('llama', 0)
    layer = gb.convert_layer(architectures.build('llama'), 0)
    edge_index = complete_graph(13).edge_index
    position = torch.arange(13)
    out = layer(x[0], edge_index, position)
    # Rotary embeddings see differences only; float32 angles grow with them.
    shifted = layer(x[0], edge_index, position + 7)
    torch.testing.assert_close(shifted, out, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(layer(x[0], edge_index, position * 2), out)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    moved = layer(x[0][order], edge_index, position[order])
    torch.testing.assert_close(moved, out[order], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_edge_weights_multiply_attention():
    x, _, _ = block_run('qwen3', 2)
    layer = gb.convert_layer(architectures.build('qwen3'), 2)
    edge_index = sliding_window_graph(13, 4).edge_index
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(edge_index.size(1), generator=generator) + 0.1
    weight[5] = 0.0
    plain, (_, alpha) = layer(x[0], edge_index, return_attention_weights=True)
    _, (_, found) = layer(
        x[0], edge_index, edge_weight=weight, return_attention_weights=True
    )
    expected = alpha * weight.unsqueeze(1)
    total = torch.zeros(13, 4).index_add(0, edge_index[1], expected)
    expected = expected / total[edge_index[1]]
    torch.testing.assert_close(found, expected)
    ones = layer(x[0], edge_index, edge_weight=torch.ones(len(weight)))
    torch.testing.assert_close(ones, plain)
    weight[3] = -1.0
    with pytest.raises(ValueError, match='edge 3'):
        layer(x[0], edge_index, edge_weight=weight)


def test_training_a_layer_leaves_the_model_alone():
    model = architectures.build('gpt2')
    before = copy.deepcopy(model.state_dict())
    layer = gb.convert_layer(model, -1)
    names = {name for name, _ in layer.named_parameters()}
    block = {f'block.{n}' for n, _ in model.transformer.h[2].named_parameters()}
    assert names == block
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    out = layer(x, sliding_window_graph(9, 3).edge_index)
    out.square().mean().backward()
    assert all(p.grad is not None for p in layer.parameters())
    optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    trained = layer.block.attn.c_attn.weight
    assert not torch.equal(trained, model.transformer.h[2].attn.c_attn.weight)


@torch.no_grad()
def test_layers_are_copied_and_saved(tmp_path):
    model = gb.convert(architectures.build('gemma3'))
    layer = gb.convert_layer(model, 1)
    gb.restore(model)
    edge_index = sliding_window_graph(9, 3).edge_index
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    out = layer(x, edge_index)
    assert torch.equal(copy.deepcopy(layer)(x, edge_index), out)
    torch.save(layer, tmp_path / 'layer.pt')
    loaded = torch.load(tmp_path / 'layer.pt', weights_only=False)
    assert torch.equal(loaded(x, edge_index), out)
    size = sum(p.numel() for p in layer.parameters())
    assert (tmp_path / 'layer.pt').stat().st_size < 4 * size + 400_000


class Stack(torch.nn.Module):
    def __init__(self, *layers: torch.nn.Module) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x, edge_index):
        for layer in self.layers:
            x = layer(x, edge_index)
        return x


def test_layers_work_in_a_pyg_model_under_an_explainer():
    model = architectures.build('llama')
    stack = Stack(gb.convert_layer(model, 0), gb.convert_layer(model, 1))
    graph = sliding_window_graph(11, 4)
    x = torch.randn(11, 32, generator=torch.Generator().manual_seed(0))
    explainer = Explainer(
        stack,
        algorithm=AttentionExplainer(),
        explanation_type='model',
        edge_mask_type='object',
        model_config={
            'mode': 'regression',
            'task_level': 'node',
            'return_type': 'raw',
        },
    )
    explanation = explainer(x, graph.edge_index)
    with torch.no_grad():
        hidden, (_, first) = stack.layers[0](
            x, graph.edge_index, return_attention_weights=True
        )
        _, (_, second) = stack.layers[1](
            hidden, graph.edge_index, return_attention_weights=True
        )
    # The explainer takes the maximum over heads, then over layers.
    expected = torch.maximum(first.amax(1), second.amax(1))
    torch.testing.assert_close(explanation.edge_mask, expected)


@torch.no_grad()
def test_a_plan_is_reused():
    layer = gb.convert_layer(architectures.build('mistral'), 0)
    graph = sliding_window_graph(11, 4)
    x = torch.randn(11, 32, generator=torch.Generator().manual_seed(0))
    plan = plan_attention(graph.edge_index, (11, 11))
    assert torch.equal(layer(x, plan), layer(x, graph.edge_index))


@torch.no_grad()
def test_large_sparse_graphs_need_no_square_matrix():
    layer = gb.convert_layer(architectures.build('llama'), 0)
    graph = sliding_window_graph(30_000, 2)
    x = torch.randn(30_000, 32, generator=torch.Generator().manual_seed(0))
    # A mask of 30,000 x 30,000 would be 0.9 GB of booleans alone.
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    with Watch():
        out = layer(x, graph.edge_index)
    assert Data(x=out).num_nodes == 30_000
    assert max(sizes) <= 60_000 * 64


def test_what_cannot_be_converted_is_refused():
    model = architectures.build('llama')
    with pytest.raises(ValueError, match='layers'):
        gb.convert_layer(model, 3)
    layer = gb.convert_layer(model, 0)
    with pytest.raises(ValueError, match=r'\[N, 32\]'):
        layer(torch.zeros(5, 31), complete_graph(5).edge_index)
    with pytest.raises(NotImplementedError, match='trained block'):
        layer.reset_parameters()
    # The position bias of T5 is computed in block 0 and handed down.
    t5 = architectures.build('t5')
    assert gb.convert_layer(t5, 0).channels == 32
    with pytest.raises(NotImplementedError, match=r'encoder\.block\.1'):
        gb.convert_layer(t5, 1)
