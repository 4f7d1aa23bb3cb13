"""The sections on the token graphs themselves: edges, sinks, spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gnnbridge.report.figures import arc_diagram, heatmap
from gnnbridge.report.panels import (
    baseline_measures,
    layer_panel,
    layer_values,
)
from gnnbridge.report.section import (
    Numbers,
    Panel,
    ProfileDict,
    Section,
    Table,
    largest,
    mean,
    number,
    percent,
)

_MAX_GRAPHS = 12


def token_graphs(profile: ProfileDict) -> Section | None:
    """The strongest edges of each layer's token graph, as arcs."""
    graphs = profile.get('graphs') or []
    if not graphs:
        return None
    shown = _spread_out(graphs, _MAX_GRAPHS)
    first = [graph['first_token_share'] for graph in graphs]
    top = largest(first)
    strongest = (
        ''
        if top is None
        else (
            f' Layer {graphs[top]["layer"]} sends the most to the first token: '
            f'{percent(first[top])} of its attention, head mean.'
        )
    )
    kept = graphs[0]['edges_per_token']
    which = (
        'each layer'
        if len(shown) == len(graphs)
        else (f'{len(shown)} of the {len(graphs)} layers')
    )
    share = profile['nulls']['first_token_share']
    return Section(
        anchor='graphs',
        title='Token graphs',
        seen=(
            f'The token graph of {which}: an arc runs from the key that is '
            'read to the query that reads it, left to right. Drawn are the '
            f'{_count(kept, "strongest key")} of every token other than '
            'itself, darker and wider with more attention (head mean); '
            'edges from the first token are orange.' + strongest
        ),
        meaning=(
            'These are the edges along which a layer moves information: a '
            'fan from the first token is a sink, a carpet of short arcs is '
            'local mixing, single long arcs are lookups.'
        ),
        null=(
            f'{_uniform(profile)} would give the first token '
            f'{percent(share)} of all attention.'
        ),
        panels=[_graph_panel(graph, profile) for graph in shown],
    )


def _spread_out(items: Sequence[Any], limit: int) -> list[Any]:
    if len(items) <= limit:
        return list(items)
    step = (len(items) - 1) / (limit - 1)
    return [items[round(place * step)] for place in range(limit)]


def _count(count: int, noun: str) -> str:
    return noun if count == 1 else f'{count} {noun}s'


def _graph_panel(graph: dict[str, Any], profile: ProfileDict) -> Panel:
    layer = graph['layer']
    tokens = profile['text']['tokens']
    image = arc_diagram(
        graph['edges'], len(tokens), title=f'layer {layer}', labels=tokens
    )
    shares = (
        f'{percent(graph["first_token_share"])} of the attention goes to the '
        f'first token, {percent(graph["self_share"])} stays on the token '
        'itself'
    )
    return Panel(
        image=image,
        alt=f'Arc diagram of the token graph of layer {layer}: {shares}.',
        caption=f'{shares}; {graph["num_edges"]:,} edges in all.',
    )


def sinks(profile: ProfileDict) -> Section | None:
    """Sink score per layer and head, sink rate per layer."""
    measures, base = profile['measures'], baseline_measures(profile)
    if 'sink_score' not in measures:
        return None
    settings, null = profile['settings'], profile['nulls']['sink_score']
    tokens, epsilon = settings['sink_tokens'], settings['sink_epsilon']
    panels = [_sink_panel('this model', measures, null, tokens)]
    against = ''
    if base:
        panels.append(_sink_panel('re-initialised', base, null, tokens))
        against = (
            ' The same architecture with re-initialised weights has a sink '
            f'in {percent(mean(base["sink_rate"]))} of its heads.'
        )
    return Section(
        anchor='sinks',
        title='Attention sinks',
        seen=(
            f'{_share_of_heads(measures["sink_rate"])} more than {epsilon} of '
            'their attention on the first token'
            f'{_most_sinks(measures["sink_rate"])}.'
        ),
        meaning=(
            'Attention parked on the first token does not mix the other '
            'tokens: a sink works as a brake on mixing (Barbero et al. 2025) '
            'and does not say that the first token matters.'
        ),
        null=(
            f'{_uniform(profile)} scores {_harmonic(profile)}{number(null)} at '
            f'T = {tokens}, which is no sink (orange line on the colour '
            f'bars).{against}'
        ),
        panels=panels,
        tables=[_sink_table(measures, base, tokens, epsilon)],
    )


def _uniform(profile: ProfileDict) -> str:
    return f'{profile["nulls"]["name"].capitalize()} attention'


def _harmonic(profile: ProfileDict) -> str:
    causal = profile['nulls']['name'] == 'uniform causal'
    return 'H(T) / T = ' if causal else ''


def _share_of_heads(rates: Numbers) -> str:
    share = mean(rates)
    return f'{percent(share)} of all heads put' if share else 'No heads put'


def _most_sinks(rates: Numbers) -> str:
    top = largest(rates)
    if top is None or not rates[top]:
        return ''
    return f', the most in layer {top} ({percent(rates[top])} of its heads)'


def _sink_panel(
    name: str, measures: dict[str, Any], null: float, tokens: int
) -> Panel:
    scores = measures['sink_score']
    highest = [_highest(row) for row in scores]
    top = largest(highest)
    strongest = ''
    if top is not None:
        value = number(highest[top])
        strongest = f'; the strongest head, with {value}, is in layer {top}'
    return Panel(
        image=heatmap(
            scores,
            title=f'Sink score, {name}',
            label='attention on the first token',
            mark=null,
        ),
        alt=f'Heat map of the sink score by layer and head, {name}{strongest}.',
        caption=(
            f'{name.capitalize()}: mean attention on the first token over '
            f'the first {tokens} queries{strongest}. Null: {number(null)}.'
        ),
    )


def _highest(values: Numbers) -> float | None:
    return max((v for v in values if v is not None), default=None)


def _sink_table(
    measures: dict[str, Any],
    base: dict[str, Any] | None,
    tokens: int,
    epsilon: float,
) -> Table:
    columns = ['layer', 'sink rate', 'mean score', 'highest score']
    if base:
        columns += ['sink rate, re-initialised', 'mean score, re-initialised']
    rows = []
    for layer, scores in enumerate(measures['sink_score']):
        row = [
            str(layer),
            percent(measures['sink_rate'][layer]),
            number(mean(scores)),
            number(_highest(scores)),
        ]
        if base:
            row += [
                percent(base['sink_rate'][layer]),
                number(mean(base['sink_score'][layer])),
            ]
        rows.append(row)
    return Table(
        columns=columns,
        rows=rows,
        caption=(
            'Sink rate: share of heads whose score is above '
            f'{epsilon} (Gu et al. 2025), T = {tokens}.'
        ),
    )


def spread(profile: ProfileDict) -> Section | None:
    """Attention entropy and mixing per layer."""
    measures = profile['measures']
    if 'entropy' not in measures:
        return None
    entropy = layer_values(measures['entropy'])
    null = profile['nulls']['entropy']
    hops = sum(value for value in measures['mixing'] if value is not None)
    return Section(
        anchor='spread',
        title='How widely and how strongly tokens mix',
        seen=(
            f'Attention has {number(mean(entropy))} nats of entropy on '
            f'average; the attention branch makes up '
            f'{percent(mean(measures["mixing"]))} of the residual stream, so '
            f'a signal takes about {number(hops, 2)} hops between tokens on '
            f'its way through {len(entropy)} layers.'
        ),
        meaning=(
            'Low entropy with strong mixing is selective routing; high '
            'entropy with strong mixing averages tokens away.'
        ),
        null=(
            f'{_uniform(profile)} has {number(null)} nats, the most '
            'that is possible.'
        ),
        panels=[
            layer_panel(
                profile,
                'entropy',
                'Attention entropy',
                'nats, head mean',
                null=(profile['nulls']['name'], null),
            ),
            layer_panel(
                profile, 'mixing', 'Mixing', 'share of the residual stream'
            ),
        ],
    )
