import pytest
import torch

from gnnbridge.nn import AttentionConv, choice, plan_attention
from gnnbridge.nn import run as running
from gnnbridge.nn.choice import BACKENDS, SMALL, choose
from gnnbridge.nn.formats import Windows
from gnnbridge.nn.naive import naive_attention
from gnnbridge.nn.run import Options

PAIRS = 1 << 20
FEW = 1 << 10


def windows(covered, queries=1024):
    """Rows that all see the same ``covered`` first keys."""
    stop = torch.full((queries, 1), covered)
    return Windows.of(torch.zeros_like(stop), stop)


def chosen(
    num_edges=FEW, *, backend='auto', device='cpu', num_pairs=PAIRS, **given
):
    given = {'structure': None, 'windows': None, **given}
    name, reason = choose(backend, device, num_edges, num_pairs, **given)
    assert reason
    return name


@pytest.mark.parametrize('device', ['cpu', 'cuda', 'meta'])
@pytest.mark.parametrize('structure', ['causal', 'full'])
def test_known_structures_are_dense_at_any_size(structure, device):
    for num_edges in (1, PAIRS // 2, PAIRS):
        name = chosen(
            num_edges, device=device, structure=structure, windows=windows(9)
        )
        assert name == 'dense'


@pytest.mark.parametrize('device', ['cpu', 'cuda', 'meta'])
def test_small_graphs_are_masks(device):
    for given in ({}, {'windows': windows(9)}):
        for pairs, small in ((SMALL, True), (SMALL + 1, False)):
            name = chosen(9, device=device, num_pairs=pairs, **given)
            assert (name == 'dense') == small


def test_graphs_without_edges_have_no_windows():
    assert chosen(0, windows=windows(0)) == 'csr_cpu'


def test_many_of_all_pairs_are_a_mask():
    limit = PAIRS // 4
    assert chosen(limit) == 'dense'
    assert chosen(limit - 1) == 'csr_cpu'


def test_windows_are_chosen_where_their_blocks_are_filled():
    # 1024 queries times 64 keys are 65536 pairs.
    work = windows(64).work
    assert work == 1 << 16
    limit = int(0.3 * work) + 1
    assert chosen(limit, windows=windows(64)) == 'row_window'
    assert chosen(limit - 1, windows=windows(64)) == 'csr_cpu'


def test_wide_windows_are_chosen_until_they_are_most_pairs():
    few, many = windows(600), windows(640)
    assert few.work <= 0.6 * PAIRS < many.work
    assert chosen(few.work, windows=few) == 'row_window'
    assert chosen(many.work, windows=many) == 'dense'


def test_masks_are_dense_unless_their_windows_are_few_pairs():
    few, many = windows(600), windows(640)
    assert few.work <= 0.6 * PAIRS < many.work
    masked = {'masked': True}
    assert chosen(PAIRS // 2, windows=few, **masked) == 'row_window'
    assert chosen(PAIRS // 2, windows=many, **masked) == 'dense'
    assert chosen(PAIRS // 2, **masked) == 'dense'
    # A mask is there already: not even a small one becomes a list of edges.
    assert chosen(1, **masked) == 'dense'
    assert chosen(1, windows=few, device='cuda', **masked) == 'dense'
    assert chosen(1, structure='causal', windows=few, **masked) == 'dense'


def test_irregular_graphs_go_to_the_row_kernel_of_their_device(monkeypatch):
    assert chosen() == 'csr_cpu'
    assert chosen(device='meta') == 'scatter'
    monkeypatch.setitem(choice.ROW_KERNELS, 'cuda', 'csr_triton')
    assert chosen(device='cuda') == 'csr_triton'
    monkeypatch.delitem(choice.ROW_KERNELS, 'cuda')
    assert chosen(device='cuda') == 'scatter'


def test_reasons_tell_the_ranges_and_how_full_blocks_are():
    _, reason = choose('auto', 'cpu', 1 << 15, PAIRS, None, windows(64))
    assert 'ranges of keys (at most 1)' in reason
    assert 'blocks of 64 queries use 50% of their pairs' in reason
    _, reason = choose('auto', 'meta', FEW, PAIRS, None, None)
    assert reason == 'the graph is irregular and no kernel runs on meta'


@pytest.mark.parametrize('backend', [x for x in BACKENDS if x != 'auto'])
def test_the_caller_has_the_last_word(backend, monkeypatch):
    monkeypatch.setattr(choice, 'find_spec', lambda name: name)
    for num_edges in (1, FEW, PAIRS):
        result = choose(backend, 'cpu', num_edges, PAIRS, 'causal', windows(9))
        assert result == (backend, 'as asked for')


@pytest.mark.parametrize('backend', ['row_window', 'flex'])
def test_windows_are_needed_by_those_who_run_them(backend):
    assert chosen(backend=backend, windows=windows(9)) == backend
    assert chosen(backend=backend, structure='full') == backend
    with pytest.raises(ValueError, match=f"four ranges.* '{backend}'"):
        chosen(backend=backend)


def test_kernels_are_not_forced_onto_another_device():
    with pytest.raises(ValueError, match=r'on the CPU.*\(got one on cuda\)'):
        chosen(backend='csr_cpu', device='cuda')


def test_triton_is_needed_by_its_kernel(monkeypatch):
    monkeypatch.setattr(choice, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='Triton to be installed'):
        chosen(backend='csr_triton', device='cuda')
    monkeypatch.setattr(choice, 'find_spec', lambda name: name)
    assert chosen(backend='csr_triton', device='cuda') == 'csr_triton'


@pytest.fixture
def ran(monkeypatch):
    """Names of the kernels that have run, of graphs of any size."""
    monkeypatch.setattr(choice, 'SMALL', 0)
    monkeypatch.setattr(running, '_WORTH_COMPILING', 0)
    names = []
    for name, runner in running._RUNNERS.items():

        def look(*arguments, name=name, runner=runner):
            names.append(name)
            return runner(*arguments)

        monkeypatch.setitem(running._RUNNERS, name, look)
    return names


NEAR = torch.arange(260)[:, None] - torch.arange(260)
GRAPHS = {
    'dense': NEAR >= 0,
    'row_window': (NEAR >= 0) & (NEAR < 40),
    'csr_cpu': NEAR % 9 == 0,
}
# Kernels of these plans; scatter where none is named.
FALLBACKS = {
    'nothing': ({}, ['dense', 'row_window', 'csr_cpu']),
    'softcap': ({'softcap': 2.0}, ['row_window', 'row_window', 'csr_cpu']),
    'sink': ({'s_aux': torch.ones(2)}, ['row_window', 'row_window', 'csr_cpu']),
    'weights': (
        {'return_attention_weights': True}, ['dense', 'csr_cpu', 'csr_cpu'],
    ),
    'bias': ({'edge_bias': 0}, ['dense', 'csr_cpu', 'csr_cpu']),
    'bias and sink': (
        {'edge_bias': 0, 's_aux': torch.ones(2)},
        ['dense', 'csr_cpu', 'csr_cpu'],
    ),
    'dropout': ({'dropout': 0.5}, ['dense', 'csr_cpu', 'csr_cpu']),
    'hook': ({'hook': True}, [None, None, None]),
    'torch.func': ({'functional': True}, ['dense', None, None]),
}  # fmt: skip


def run_graph(plan, *, dropout=0.0, hook=False, functional=False, **options):
    conv = AttentionConv(dropout)
    if hook:
        conv.register_message_forward_hook(lambda *given: None)
    if 'edge_bias' in options:
        options['edge_bias'] = torch.zeros(plan.num_edges)
    x = torch.ones(260, 2, 4)
    if functional:
        return torch.func.vmap(lambda y: conv(y, x, x, plan))(x[None])
    return conv(x, x, x, plan, **options)


@pytest.mark.parametrize('option', FALLBACKS)
def test_what_a_kernel_does_not_know_another_runs(option, ran):
    options, expected = FALLBACKS[option]
    for (backend, mask), kernel in zip(GRAPHS.items(), expected, strict=True):
        query, key = mask.nonzero().t()
        plan = plan_attention(torch.stack([key, query]), (260, 260))
        assert plan.backend == backend
        ran.clear()
        run_graph(plan, **options)
        assert ran == ([] if kernel is None else [kernel])


def test_a_forced_kernel_says_what_it_does_not_know():
    plan = plan_attention('causal', (260, 260), backend='csr_cpu')
    with pytest.raises(
        NotImplementedError, match=r"'csr_cpu' \(got torch.func"
    ):
        run_graph(plan, functional=True)
    for backend in ('dense', 'row_window', 'scatter'):
        plan = plan_attention('causal', (260, 260), backend=backend)
        assert run_graph(plan, functional=True).shape == (1, 260, 2, 4)
    plan = plan_attention('causal', (260, 260), backend='flex')
    with pytest.raises(ValueError, match=r"'edge_bias', dropout .* 'flex'"):
        run_graph(plan, dropout=0.5)


CPU = ['dense', 'row_window', 'csr_cpu', 'scatter']


@pytest.mark.parametrize('shape', [(1, 1), (3, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize('backend', CPU)
def test_biases_of_pairs_are_those_of_their_edges(backend, shape):
    def draw(*shape, seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, dtype=torch.double, generator=generator)

    mask = torch.ones(3, 6, 7, dtype=torch.bool).tril(1)
    mask[1, 4], mask[2, :, 2] = False, False
    plan = plan_attention(mask, backend=backend)
    pairs = draw(*shape, 6, 7, seed=0)
    graph, query, key = plan.places
    per_edge = pairs.expand(3, -1, -1, -1)[graph, :, query, key]
    tensors = draw(3, 6, 4, 5, seed=1), draw(3, 7, 2, 5, seed=2)
    tensors = *tensors, draw(3, 7, 2, 3, seed=3)
    for bias in (0.0, draw(plan.num_edges, 4, seed=4)):
        options = Options(
            scale=0.4, pair_bias=pairs, return_weights=True,
            edge_bias=bias if isinstance(bias, torch.Tensor) else None,
        )  # fmt: skip
        out, alpha = AttentionConv().attend(plan, *tensors, options)
        truth, attention = naive_attention(
            *(x.flatten(0, 1) for x in tensors), plan.edge_index, scale=0.4,
            edge_bias=per_edge + bias,
        )  # fmt: skip
        key, query = plan.edge_index
        # Sums of some terms of size one, in another order.
        close = {'rtol': 1e-11, 'atol': 1e-12}
        torch.testing.assert_close(out.flatten(0, 1), truth, **close)
        weights = attention[:, query, key].t()
        torch.testing.assert_close(alpha, weights, **close)
