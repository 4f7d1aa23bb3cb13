"""What holds for every public figure."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gnnbridge.report as report
from gnnbridge.report.figures import sinks
from gnnbridge.report.figures.smoothing import MEASURES
from gnnbridge.report.figures.together import CURVES

PLOTS = {
    name: getattr(report, name)
    for name in report.__all__
    if name.startswith('plot_') and name != 'plot_together'
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    'plot_attention_graph': [{'layer': 0}, {'layer': 0, 'head': 0}],
    'plot_sinks': [{'quantity': name} for name in sinks.QUANTITIES],
    'plot_smoothing': [{'quantity': name} for name in MEASURES],
    'plot_collapse': [
        {'pair': pair, 'measure': measure}
        for pair in ('repeat_last', 'substitute_last')
        for measure in ('l1', 'l2', 'linf', 'cosine')
    ],
    'plot_resistance': [{'view': 'last'}, {'view': 'mean'}],
    'plot_retrieval': [{'task': 'key_value'}, {'task': 'needle'}],
    'plot_by_length': [{'task': 'copying'}, {'task': 'counting'}],
}
CASES = [
    pytest.param(plot, options, id=f'{name} {options}')
    for name, plot in PLOTS.items()
    for options in OPTIONS.get(name, [{}])
]


@pytest.mark.parametrize(('plot', 'options'), CASES)
def test_every_figure_is_drawn_with_titles_on_all_sizes(
    plot: Callable[..., Axes],
    options: dict[str, Any],
    profile: dict[str, Any],
    tiny: dict[str, Any],
) -> None:
    for data in (profile, tiny):
        axes = plot(data, **options)
        assert isinstance(axes, Axes)
        axes.figure.canvas.draw()
        assert axes.get_title(loc='left')
        drawn = [*axes.lines, *axes.patches, *axes.collections]
        assert drawn


@pytest.mark.parametrize('plot', PLOTS.values(), ids=PLOTS)
def test_axes_of_ones_own_are_drawn_on(
    plot: Callable[..., Axes], profile: dict[str, Any]
) -> None:
    figure = Figure(layout='constrained')
    own = figure.subplots()
    options = OPTIONS.get(plot.__name__, [{}])[0]
    assert plot(profile, **options, ax=own) is own
    figure.canvas.draw()


@pytest.mark.parametrize('plot', PLOTS.values(), ids=PLOTS)
def test_profiles_themselves_will_do(
    plot: Callable[..., Axes], profile: dict[str, Any]
) -> None:
    class Holder:
        def to_dict(self) -> dict[str, Any]:
            return profile

    options = OPTIONS.get(plot.__name__, [{}])[0]
    title = plot(Holder(), **options).get_title(loc='left')
    assert title == plot(profile, **options).get_title(loc='left')


@pytest.mark.parametrize('plot', PLOTS.values(), ids=PLOTS)
def test_figures_are_documented_and_take_axes(plot: Callable) -> None:
    assert inspect.getdoc(plot)
    assert inspect.signature(plot).parameters['ax'].default is None


def test_pyplot_is_not_imported() -> None:
    code = (
        'import sys, gnnbridge.report; '
        'sys.exit("matplotlib.pyplot" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_what_is_not_measured_is_refused(refused: dict[str, Any]) -> None:
    for plot in (report.plot_jacobian, report.plot_bounds):
        with pytest.raises(ValueError, match="diagnostic 'squashing'"):
            plot(refused)
    with pytest.raises(ValueError, match='value_norm_ratio'):
        report.plot_sinks(refused, 'value_norm_ratio')
    with pytest.raises(ValueError, match=r"'sink_score' in the baseline"):
        report.plot_sinks(refused, side='baseline')
    with pytest.raises(ValueError, match="Expected 'pair'"):
        report.plot_collapse(refused, 'other')


@pytest.mark.parametrize(
    ('plot', 'named'),
    [
        (report.plot_sinks, 'quantity'),
        (report.plot_smoothing, 'quantity'),
        (report.plot_collapse, 'pair'),
        (report.plot_retrieval, 'task'),
        (report.plot_by_length, 'task'),
    ],
)
def test_unknown_names_are_refused(
    plot: Callable, named: str, profile: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"Expected '{named}' to be one of"):
        plot(profile, 'nonsense')


def lines(axes: Axes) -> dict[str, list[float]]:
    return {
        line.get_label(): np.asarray(line.get_ydata()).tolist()
        for line in axes.lines
    }


def test_smoothing_shows_model_baseline_and_null(
    profile: dict[str, Any],
) -> None:
    section = profile['diagnostics']['smoothing']
    found = lines(report.plot_smoothing(profile, 'mean_cosine'))
    assert found['this model'] == section['model']['mean_cosine']
    assert found['re-initialised'] == section['baseline']['mean_cosine']
    assert found['mean taken off'] == section['model']['mean_cosine_centered']
    assert found['collapsed'] == [1, 1]


def test_collapse_shows_both_precisions_and_the_fit(
    profile: dict[str, Any],
) -> None:
    model = profile['diagnostics']['collapse']['model']
    found = lines(report.plot_collapse(profile))
    curve = model['repeat_last']['float32']['l1']
    assert found['this model, float32'] == curve
    assert 're-initialised, bfloat16' in found
    fit = found['fit, slope −0.97']
    lengths = model['lengths']
    slope = np.polyfit(np.log(lengths), np.log(fit), 1)[0]
    assert slope == pytest.approx(model['repeat_last']['float32']['slope'])
    theory = found['slope −1 (theory)']
    assert theory[0] == curve[0]
    assert theory[-1] == pytest.approx(curve[0] * lengths[0] / lengths[-1])


def test_proxies_are_moved_and_not_bent(profile: dict[str, Any]) -> None:
    model = profile['diagnostics']['squashing']['model']
    found = lines(report.plot_proxies(profile))
    for name in ('rollout', 'conductance'):
        ratio = np.array(found[name]) / model['proxies'][name]['last']
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        gap = np.log(found[name]) - np.log(model['jacobian_last'])
        assert gap.mean() == pytest.approx(0, abs=1e-9)


def test_bounds_are_full_lines_where_they_are_proved(
    profile: dict[str, Any],
) -> None:
    bounds = profile['diagnostics']['squashing']['model']['bounds']
    axes = report.plot_bounds(profile)
    for line in axes.lines:
        bound = bounds.get(line.get_label())
        if bound is not None:
            assert (line.get_linestyle() == '-') == bound['rigorous']


def test_sink_maps_of_model_and_baseline_share_their_scale(
    profile: dict[str, Any],
) -> None:
    ends = [
        report.plot_sinks(profile, 'entropy', side).child_axes[0].get_ylim()
        for side in ('model', 'baseline')
    ]
    assert ends[0] == ends[1]


@pytest.mark.parametrize('curve', CURVES)
def test_curves_of_several_profiles_are_laid_over(
    curve: str, profile: dict[str, Any], refused: dict[str, Any]
) -> None:
    axes = report.plot_together([profile, refused, profile], curve)
    labels = [line.get_label() for line in axes.lines]
    assert labels in (['1', '2', '3'], ['1', '3'])
    assert len({line.get_color() for line in axes.lines}) == len(labels)


def test_other_curves_are_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected 'curve'"):
        report.plot_together([profile], 'nonsense')


def test_influences_of_different_lengths_end_together(
    profile: dict[str, Any],
) -> None:
    section = profile['diagnostics']['runway']
    influence = section['model']['influence']
    axes = report.plot_influence(profile)
    assert axes.get_xlabel() == 'position'
    influence['jacobian'] = [0.1] * 10
    axes = report.plot_influence(profile)
    by_name = {line.get_label(): line for line in axes.lines}
    for name in ('Jacobian', 'rollout'):
        x = by_name[name].get_xdata()
        assert (x[0], x[-1]) == (0, 1)
    np.testing.assert_allclose(by_name['Jacobian'].get_ydata(), 1)
    assert 'Jacobian, re-initialised' in by_name
    section['baseline']['influence']['jacobian'] = None
    axes = report.plot_influence(profile)
    labels = [line.get_label() for line in axes.lines]
    assert 'rollout, re-initialised' in labels
