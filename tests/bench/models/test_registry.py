import pytest
import torch

from gnnbridge.bench.models.registry import MODELS, build_model
from gnnbridge.bench.task import Task

NAMES = tuple(MODELS)
FREE = tuple(name for name in NAMES if not MODELS[name].width)


def task(level='node', features=8, layers=5, **kwargs):
    return Task(
        't', '', level, 'accuracy', 5, features, layers,
        load=lambda seed: None, **kwargs,
    )  # fmt: skip


def test_the_models_are_these():
    assert NAMES == (
        'gcn', 'gin', 'sage', 'gatv2', 'transformer_conv', 'gps', 'dir_gcn',
        'dir_sage', 'graph_transformer', 'differential', 'converted_frozen',
        'converted',
    )  # fmt: skip
    for kind in MODELS.values():
        assert kind.about.endswith('.')
        assert 'https://' in kind.source or 'gnnbridge.' in kind.source


@pytest.mark.parametrize(
    'asked',
    [
        task(),
        task('graph', (28,), 4, edge_features=(4,)),
        task(features=(20, 30), layers=10),
    ],
)
@pytest.mark.parametrize('name', FREE)
def test_models_use_up_their_budget(name, asked):
    model = build_model(name, asked)
    assert 0.8 * 64_000 <= model.total <= 64_000
    assert model.total == sum(p.numel() for p in model.parameters())
    assert model.trainable == model.total
    assert model.layers == asked.layers
    assert model.width % MODELS[name].step == 0


@pytest.mark.parametrize('name', FREE)
def test_relations_share_the_budget(name):
    one, three = (build_model(name, task(), relations=r) for r in (1, 3))
    assert 0.8 * 64_000 <= three.total <= 64_000
    assert three.width < one.width


@pytest.mark.parametrize('name', FREE)
def test_larger_budgets_give_wider_models(name):
    model = build_model(name, task(), budget=256_000)
    assert 0.8 * 256_000 <= model.total <= 256_000


@pytest.mark.parametrize('name', ['converted', 'converted_frozen'])
def test_converted_blocks_have_their_own_width(name):
    model = build_model(name, task())
    assert model.width == 64
    assert 61_568 < model.total <= 64_000
    # 150 categories are too many to have 64 channels each.
    tight = build_model(name, task(features=(100, 50)))
    assert 0.98 * 64_000 < tight.total <= 64_000
    with pytest.raises(ValueError, match=f"'budget' .*'{name}' on 't'"):
        build_model(name, task(), budget=61_000)


@pytest.mark.parametrize('name', FREE)
def test_a_budget_can_be_too_small(name):
    with pytest.raises(ValueError, match=f"least .*got 20.*'{name}' on 't'"):
        build_model(name, task(), budget=20)


@pytest.mark.parametrize('name', NAMES)
def test_the_seed_alone_decides_the_weights(name):
    before = torch.random.get_rng_state()
    first = build_model(name, task(), seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(11)
    again, other = (build_model(name, task(), seed=s) for s in (3, 4))
    weights = [model.state_dict() for model in (first, again, other)]
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    encoder = 'encoder.maps.0.weight'
    assert not torch.equal(weights[0][encoder], weights[2][encoder])


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('what', ['residual', 'norm'])
def test_what_can_be_done_without_is_said(name, what):
    if getattr(MODELS[name], f'free_{what}'):
        model = build_model(name, task(), **{what: False})
        if what == 'norm':
            names = {type(m).__name__ for m in model.modules()}
            assert 'LayerNorm' not in names
        return
    with pytest.raises(ValueError, match=f"'{what}' to be True for '{name}'"):
        build_model(name, task(), **{what: False})


def test_layers_can_be_chosen():
    assert build_model('gcn', task(), layers=2).layers == 2


@pytest.mark.parametrize(
    ('name', 'kwargs', 'message'),
    [
        ('gnc', {}, r"'name' to be one of gcn, gin.* \(got 'gnc'\)"),
        ('gcn', {'layers': 0}, "'layers' to be positive .got 0"),
        ('gcn', {'relations': 0}, "'relations' to be positive .got 0"),
        ('gcn', {'dropout': 1.0}, r"'dropout' to be in \[0, 1\) .got 1.0"),
        ('converted', {'relations': 2}, "'relations' to be 1 for 'converted'"),
    ],
)
def test_what_cannot_be_is_refused(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, task(), **kwargs)
