"""Changes of attention: where they enter, and what keeps and undoes them."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import architectures
import pytest
import torch
import transformers
from transformers import DynamicCache

import gnnbridge as gb
from gnnbridge.models.attend import Attention
from gnnbridge.models.convert import is_converted
from gnnbridge.models.modified.files import saved_remedies, saved_tensors
from gnnbridge.models.modified.fresh import fresh_causal_lm
from gnnbridge.models.modified.install import (
    add_changes,
    changes_named,
    restore_if_unchanged,
    take_changes,
)
from gnnbridge.models.modified.ledger import (
    BUFFER,
    freeze,
    ledger_of,
    read,
    thaw,
    write,
)
from gnnbridge.models.modified.memory import Memory, memory_of
from gnnbridge.models.modified.modification import Modification, changes_of
from gnnbridge.models.modified.sites import find_sites
from gnnbridge.models.slots import slots_of

IDS = torch.arange(2, 13).unsqueeze(0)


class Noting(Modification):
    """Notes what it is shown and changes nothing."""

    def __init__(self, site=None):
        super().__init__()
        self.site, self.seen = site, []
        self.weight = torch.nn.Parameter(torch.ones(()))

    def pairs(self, moment):
        self.seen.append(('pairs', moment.states.shape, moment.cache))
        return moment.own

    def attention(self, attention, moment):
        assert isinstance(attention, Attention)
        self.seen.append(('attention', moment.own.shape, moment.training))
        return attention

    def output(self, out, moment):
        self.seen.append(('output', out.shape, moment.slot.layer))
        return out * self.weight


def noted(model, layers=None):
    return add_changes(model, 'noting', Noting, layers)


def build(name='llama'):
    return architectures.build(name)


def test_changes_see_each_call_and_change_nothing_themselves():
    model = build()
    expected = model(IDS).logits
    assert noted(model) is model
    assert is_converted(model)
    changes = list(changes_named(model, 'noting').values())
    assert len(changes) == 3
    changes[1].seen.clear()
    assert torch.equal(model(IDS).logits, expected)
    kinds = [kind for kind, *_ in changes[1].seen]
    assert kinds == ['pairs', 'attention', 'output']
    pairs, attention, output = changes[1].seen
    assert pairs[1] == (1, 11, 32)
    assert isinstance(pairs[2], DynamicCache)
    assert attention[1:] == ((1, 4, 11, 11), False)
    assert output[1:] == ((1, 11, 4, 8), 1)
    # Nothing of a call is kept.
    for module in slots_of(model):
        assert changes_of(module).entered == {}


def test_threads_have_their_own_calls():
    model = noted(build())
    rows = [IDS + k for k in range(4)]
    expected = [model(row).logits for row in rows]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: model(row).logits, rows * 8))
    for place, out in enumerate(found):
        assert torch.equal(out, expected[place % 4])


def test_sites_are_what_the_modules_work_with():
    model = gb.convert(build())
    sites = find_sites(model)
    assert [site.layer for site in sites] == [0, 1, 2]
    assert sites[1].name == 'model.layers.1.self_attn'
    one = sites[0]
    assert (one.heads, one.width, one.hidden) == (4, 8, 32)
    assert (one.device.type, one.dtype) == ('cpu', torch.float32)
    assert [site.layer for site in find_sites(model, [-1, 0])] == [0, 2]
    with pytest.raises(ValueError, match="'layers'"):
        find_sites(model, [3])


def test_some_layers_are_changed():
    model = noted(build(), [1])
    assert list(changes_named(model, 'noting')) == ['model.layers.1.self_attn']
    assert not changes_of(model.model.layers[0].self_attn)
    assert not model.model.layers[0].self_attn._forward_hooks


@pytest.mark.parametrize('converted', [True, False])
def test_a_model_is_restored_if_it_was_converted_for_changes(converted):
    model = build()
    expected = model(IDS).logits
    if converted:
        gb.convert(model)
    noted(model)
    take_changes(model, 'noting')
    restore_if_unchanged(model)
    assert is_converted(model) == converted
    if not converted:
        assert torch.equal(model(IDS).logits, expected)


def test_restoring_a_changed_model_is_noticed():
    model = noted(build())
    gb.restore(model)
    with pytest.raises(RuntimeError, match=r"'noting'.*restored"):
        model(IDS)
    take_changes(model, 'noting')
    restore_if_unchanged(model)
    assert not is_converted(model)
    assert torch.equal(model(IDS).logits, build()(IDS).logits)


def test_what_fails_leaves_the_model_as_it_was():
    class Failing(Noting):
        def output(self, out, moment):
            raise NotImplementedError('no such thing')

    model = build()
    keys = list(model.state_dict())
    with pytest.raises(NotImplementedError, match='no such thing'):
        add_changes(model, 'failing', Failing)
    assert not is_converted(model)
    assert list(model.state_dict()) == keys
    assert torch.equal(model(IDS).logits, build()(IDS).logits)


def test_other_models_are_refused():
    with pytest.raises(NotImplementedError, match='causal language model'):
        noted(build('bert'))
    with pytest.raises(TypeError, match='PreTrainedModel'):
        noted(torch.nn.Linear(1, 1))
    masked = gb.convert(build(), mode='mask')
    with pytest.raises(ValueError, match='one way'):
        noted(masked)
    with pytest.raises(NotImplementedError, match="'mask'"):
        find_sites(masked)


def test_copies_have_changes_of_their_own():
    model = noted(build())
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for change in changes_named(copied, 'noting').values():
            change.weight.zero_()
    assert not torch.equal(copied(IDS).logits, model(IDS).logits)
    take_changes(copied, 'noting')
    assert len(changes_named(model, 'noting')) == 3


def test_ledgers_freeze_and_thaw():
    model = noted(build())
    model.lm_head.weight.requires_grad_(False)
    added = {n for n, _ in model.named_parameters() if 'noting' in n}
    freeze(model, added)
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learned == added
    thaw(model)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'lm_head.weight'}
    assert ledger_of(model).frozen == []


def test_settings_are_saved_as_bytes(tmp_path):
    model = build()
    settings = [{'name': 'one', 'value': 1.5}, {'name': 'two', 'layers': [1]}]
    write(model, settings)
    assert read(model.state_dict()[BUFFER]) == settings
    model.save_pretrained(tmp_path)
    assert saved_remedies(tmp_path) == settings
    assert list(saved_tensors(tmp_path, 'lm_head')) == ['lm_head.weight']
    write(model, [])
    assert BUFFER not in model.state_dict()
    model.save_pretrained(tmp_path / 'plain')
    with pytest.raises(ValueError, match='with remedies'):
        saved_remedies(tmp_path / 'plain')


def test_memories_know_their_cache():
    memory, key = Memory(), torch.randn(2, 5, 2, 3)
    memory.check(key, 0)
    with pytest.raises(NotImplementedError, match='another past'):
        memory.check(key, 3)
    memory.keep(torch.ones(1), key, 3)
    memory.check(key, 3)
    memory.keep(torch.ones(1), key, 5)
    memory.check(key, 3)
    memory.check(key, 5)
    with pytest.raises(NotImplementedError, match='another past'):
        memory.check(key, 4)
    with pytest.raises(NotImplementedError, match='another past'):
        memory.check(key.flip(0), 5)
    cache = DynamicCache()
    assert memory_of(cache, ('a', 0)) is memory_of(cache, ('a', 0))
    assert memory_of(cache, ('a', 1)) is not memory_of(cache, ('a', 0))


def test_fresh_models_have_the_weights_of_their_seed():
    config = build().config
    one, same, other = (fresh_causal_lm(config, s) for s in (1, 1, 2))
    assert torch.equal(one(IDS).logits, same(IDS).logits)
    assert not torch.equal(one(IDS).logits, other(IDS).logits)
    assert isinstance(one, transformers.LlamaForCausalLM)
    assert one.config is not config
    with pytest.raises(TypeError, match="'config'"):
        fresh_causal_lm('llama')
