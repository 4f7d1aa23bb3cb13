import pytest

from gnnbridge.profiling.settings import DIAGNOSTICS, ProfileSettings


def test_chosen_diagnostics_are_in_the_order_of_the_report() -> None:
    settings = ProfileSettings(diagnostics=('retrieval', 'sinks', 'sinks'))
    assert settings.chosen == ('sinks', 'retrieval')
    assert ProfileSettings().chosen == DIAGNOSTICS


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('max_tokens', 1),
        ('batch_size', 0),
        ('max_sequences', 0),
        ('seed', -1),
        ('probes', 0),
        ('pairs', 1),
        ('collapse_tokens', 7),
        ('noise', (0.5, 0.0)),
        ('diagnostics', ()),
        ('diagnostics', ('sinks', 'sinkholes')),
    ],
)
def test_sizes_that_make_no_sense(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{name}'"):
        ProfileSettings(**{name: value})  # type: ignore[arg-type]


def test_an_unknown_diagnostic_is_named() -> None:
    with pytest.raises(ValueError, match=r'sinks, smoothing.*got sinkholes'):
        ProfileSettings(diagnostics=('sinkholes',))
