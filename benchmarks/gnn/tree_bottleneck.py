"""Do GCN and GIN fail Tree-NeighborsMatch where attention does better?

    python benchmarks/gnn/tree_bottleneck.py

The root of a binary tree must give the value of the leaf with its key, so
that all leaves have to pass through it. Published: accuracy on the trees
that were trained on, of GCN 0.70 and GIN 0.77 at depth 4 and 0.19 and 0.29 at
depth 5, of GAT 1.00 and 0.41 (Alon and Yahav, 2021, figure 3), after up to
50000 epochs; an edge from every node to every other in the last layer helps.
Fixed settings for all models, and far fewer steps.
"""

from __future__ import annotations

import by_size
from by_size import Sweep

from gnnbridge.bench.cells import Effort

show = by_size.show
MODELS = ('gcn', 'gin', 'gatv2', 'gps')
TREES = 32  # of a batch
SWEEP = Sweep(
    name='tree_bottleneck',
    task='tree_neighbors',
    axis='depth of the tree',
    sizes={
        '2': {'depth': 2, 'graphs': (64, 12, 20)},
        **{
            str(depth): {'depth': depth, 'graphs': (4000, 200, 1000)}
            for depth in (3, 4, 5)
        },
    },
    cells=[
        *((model, 'none') for model in MODELS),
        ('graph_transformer', 'complete'),
    ],
    effort=Effort(steps=5000, draws=1, seeds=5, batch_nodes=63 * TREES),
    efforts={
        # All the trees there are to train on.
        '2': Effort(steps=2000, draws=1, seeds=5, batch_nodes=7 * 64),
        # What attention along the edges of trees takes to learn this.
        '3': Effort(steps=10_000, draws=1, seeds=5, batch_nodes=15 * 2 * TREES),
        '4': Effort(steps=5000, draws=1, seeds=5, batch_nodes=31 * TREES),
    },
    shows_train=True,
    published=(
        'GCN and GIN fail to fit trees of depth 5, attention does better: '
        'Alon and Yahav 2021, https://arxiv.org/abs/2006.05205, figure 3.'
    ),
)


if __name__ == '__main__':
    by_size.main(SWEEP, __doc__ or '')
