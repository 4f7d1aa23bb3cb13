"""A block of a trained transformer as a layer of a PyG model.

Tokens of the embedded model's text are nodes, the causal graph connects them,
and a block of the model is followed by a graph convolution and a read-out that
learns to tell vowels from other characters two tokens back: the block is
fine-tuned together with layers that know nothing of transformers.

    python examples/trained_block_in_pyg.py
"""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import SAGEConv

import gnnbridge as gb
from gnnbridge.datasets.text import sample_text
from gnnbridge.graph import sliding_window_graph


class BlockThenSAGE(torch.nn.Module):
    """A trained block, then one GraphSAGE layer."""

    def __init__(self, block: torch.nn.Module, channels: int) -> None:
        super().__init__()
        self.block = block
        self.conv = SAGEConv(channels, 2)

    def forward(self, data: Data) -> torch.Tensor:
        """Class scores ``[N, 2]``."""
        hidden = self.block(data.x, data.edge_index, data.position)
        return self.conv(hidden, data.edge_index)


def build_data() -> tuple[Data, torch.nn.Module]:
    """The token graph with states from the model, and its first block."""
    model, tokenizer = gb.load_embedded()
    ids = tokenizer(sample_text(), return_tensors='pt').input_ids[:, :256]
    captured = gb.capture(model, ids, layers=[0])[0]
    text = [tokenizer.decode([i]) for i in captured.token_id.tolist()]
    label = torch.tensor(
        [0, 0] + [int(c.lower() in 'aeiou') for c in text[:-2]]
    )
    graph = sliding_window_graph(captured.num_nodes, 16)
    data = Data(
        x=captured.x,
        edge_index=graph.edge_index,
        position=captured.position,
        y=label,
    )
    return data, gb.convert_layer(model, 0)


def main() -> None:
    """Fine-tunes the block and prints accuracy on held-out tokens."""
    torch.manual_seed(0)
    data, block = build_data()
    network = BlockThenSAGE(block, data.num_features).train()
    held_out = torch.rand(data.num_nodes) < 0.25
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for step in range(61):
        out = network(data)
        loss = F.cross_entropy(out[~held_out], data.y[~held_out])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            right = (out.argmax(1) == data.y)[held_out].float().mean()
            print(f'step {step:2d}  loss {loss:.3f}  held-out {right:.3f}')


if __name__ == '__main__':
    main()
