import base64
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from gnnbridge.report.canvas import (
    drawable_text,
    house_style,
    new_axes,
    to_data_uri,
)


def test_figures_leave_the_global_style_as_it_was() -> None:
    before = dict(mpl.rcParams)
    with house_style():
        assert mpl.rcParams['svg.hashsalt'] == 'gnnbridge'
    assert dict(mpl.rcParams) == before


def test_style_does_not_depend_on_the_users() -> None:
    with mpl.rc_context({'lines.linewidth': 77, 'text.usetex': True}):
        with house_style():
            inside = (
                mpl.rcParams['lines.linewidth'],
                mpl.rcParams['text.usetex'],
            )
        assert mpl.rcParams['lines.linewidth'] == 77
    assert inside == (1.8, False)


def test_data_uri_is_well_formed_svg_and_the_same_every_time() -> None:
    uris = []
    for _ in range(2):
        with house_style():
            figure, axes = new_axes(2, 1)
            axes.plot([1, 2, 4])
            uris.append(to_data_uri(figure))
    assert uris[0] == uris[1]
    kind, _, payload = uris[0].partition(',')
    assert kind == 'data:image/svg+xml;base64'
    root = ElementTree.fromstring(base64.b64decode(payload))
    assert root.tag.endswith('svg')


@pytest.mark.parametrize(
    ('token', 'shown'),
    [
        (' the', '␣the'),
        ('\n', '↵'),
        ('\t\x00\x1b', '→□□'),
        ('漢', '□'),
        ('\ud800', '□'),
        ('é', 'é'),
        # Writing direction and no width at all.
        ('\u202ea\u200b', '□a□'),
        ('abcdefghijklmnop', 'abcdefghijk…'),
        ('', ''),
    ],
)
def test_drawable_text(token: str, shown: str) -> None:
    assert drawable_text(token) == shown
