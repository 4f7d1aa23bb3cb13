import gc
import json
import pickle
import weakref
from dataclasses import replace
from functools import partial

import pytest
import small_bench
import torch

from gnnbridge.bench.materials import Materials
from gnnbridge.bench.tasks.stored import STORED_TASKS


def counting(calls):
    def rewired(name, splits, strength, seed):
        calls.append((name, strength))
        return small_bench.rewired(name, splits, strength, seed)

    return Materials(small_bench.PARTS._replace(rewired=rewired))


def test_data_is_made_once_for_trials_that_share_it():
    calls = []
    materials = counting(calls)
    first = materials.batches(('classes', 0), ('none', 0.0), nodes=100)
    assert materials.batches(('classes', 0), ('none', 0.0), nodes=100) is first
    for drawn, changed in [
        (('classes', 1), ('none', 0.0)),
        (('classes', 0), ('turned', 0.5)),
        (('classes', 0), ('turned', 1.0)),
    ]:
        materials.batches(drawn, changed, nodes=100)
    assert len(calls) == 4
    # Graphs of a seed are drawn once, however they are rewired.
    assert materials.splits('classes', 0) is materials.splits('classes', 0)


def test_little_is_kept():
    materials = small_bench.materials()
    first = materials.batches(('classes', 0), ('none', 0.0), nodes=100)
    gone = weakref.ref(first[0].train[0])
    del first
    for seed in range(1, 9):
        materials.batches(('classes', seed), ('none', 0.0), nodes=100)
    gc.collect()
    assert gone() is None


def test_rewired_graphs_are_those_of_the_seed():
    materials = small_bench.materials()
    plain, one = materials.batches(('classes', 0), ('none', 0.0), nodes=100)
    turned, two = materials.batches(('classes', 0), ('turned', 0.5), nodes=100)
    assert (one, two) == (1, 2)
    for a, b in zip(plain, turned, strict=True):
        assert torch.equal(a[0].edge_index.flip(0), b[0].edge_index)
        assert torch.equal(a[0].y, b[0].y)


def test_sizes_and_root_reach_the_task(tmp_path):
    materials = small_bench.materials(
        root=tmp_path, sizes={'classes': {'graphs': 5}}
    )
    assert len(materials.splits('classes', 0).train) == 5
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        materials.splits('absent', 0)
    assert materials.describe('classes')['sizes'] == {'graphs': 5}
    assert materials.describe('distance')['sizes'] == {}


def test_another_process_gets_the_parts_without_the_data(tmp_path):
    materials = small_bench.materials(
        root=tmp_path, sizes={'classes': {'graphs': 500}}
    )
    materials.batches(('classes', 0), ('none', 0.0), nodes=100)
    packed = pickle.dumps(materials)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert (again.root, again.sizes) == (tmp_path, materials.sizes)
    assert again.parts == materials.parts


def test_descriptions_tell_sizes_that_are_not_named():
    materials = Materials()
    told = materials.describe('ring_transfer')
    again = Materials().describe('ring_transfer')
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(again))
    assert '0x' not in json.dumps(told)
    sized = Materials(sizes={'ring_transfer': {'size': 8}})
    assert sized.describe('ring_transfer')['load'] != told['load']


def test_descriptions_do_not_tell_where_files_are(tmp_path):
    kind = STORED_TASKS['mutag']
    found = []
    for place in ('here', 'there'):
        load = partial(len, root=tmp_path / place, kind=kind)
        task = replace(small_bench.make_task('classes'), load=load)
        parts = small_bench.PARTS._replace(make_task=lambda *_, t=task, **__: t)
        found.append(json.dumps(Materials(parts).describe('classes')))
    assert found[0] == found[1]
    assert kind.data_set in found[0]
