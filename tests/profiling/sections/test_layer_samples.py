import numpy as np
import torch
from torch_geometric.data import Batch, Data

from gnnbridge.profiling.sections.layer_samples import sequences_of, stacked


def test_rows_are_filled_up() -> None:
    layers = [
        [{'a': 1, 'h': torch.tensor([1.0, 2.0])}, {'a': 2.0}],
        [{'h': [3.0, 4.0, 5.0]}, {'h': [6.0], 'b': torch.tensor(7)}],
    ]
    found = stacked(layers)
    nan = np.nan
    expected = {
        'a': [[1, nan], [2, nan]],
        'b': [[nan, nan], [nan, 7]],
        'h': [[[1, 2, nan], [3, 4, 5]], [[nan] * 3, [6, nan, nan]]],
    }
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], rows)
    assert stacked([]) == {}
    assert stacked([[], []]) == {}


def test_sequences_of_a_batch_or_of_one() -> None:
    edges = torch.empty(2, 0, dtype=torch.int64)
    graphs = [Data(edge_index=edges, num_nodes=n, layer=2) for n in (2, 3)]
    assert sequences_of(graphs[0]) == [graphs[0]]
    parts = sequences_of(Batch.from_data_list(graphs))
    assert [part.num_nodes for part in parts] == [2, 3]
    assert [int(part.layer) for part in parts] == [2, 2]
