"""The public names are there, and importing the package is cheap."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import gnnbridge as gb

PACKAGES = [
    'graph',
    'spectral',
    'curvature',
    'nn',
    'transforms',
    'diagnostics',
    'datasets',
    'profiling',
    'remedies',
]


def loaded_after(statement: str) -> set[str]:
    code = f'{statement}; import sys; print(*sys.modules)'
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    heavy = {'transformers', 'matplotlib', 'torch', 'torch_geometric', 'jinja2'}
    assert loaded_after('import gnnbridge') & heavy == set()


def test_graph_tools_do_without_models_and_figures():
    # torch_geometric imports transformers and jinja2 itself.
    modules = loaded_after(
        'import gnnbridge.graph, gnnbridge.spectral, gnnbridge.nn, '
        'gnnbridge.diagnostics'
    )
    assert modules & {'gnnbridge.models', 'matplotlib'} == set()
    # torch_geometric imports numba and triton as well; our kernels wait until
    # they are needed.
    assert not any('kernels.loops' in name for name in modules)
    assert 'gnnbridge.nn.kernels.csr_triton' not in modules


def test_top_level_names_resolve():
    for name in gb.__all__:
        assert getattr(gb, name) is not None
        assert name in dir(gb)
    with pytest.raises(AttributeError, match='no_such_name'):
        _ = gb.no_such_name


@pytest.mark.parametrize('package', PACKAGES)
def test_exports_are_explicit_and_documented(package):
    module = importlib.import_module(f'gnnbridge.{package}')
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name
            assert value.__module__.startswith(f'gnnbridge.{package}')


def test_top_level_functions_are_documented():
    for name in gb.__all__:
        value = getattr(gb, name)
        if callable(value):
            assert 'Args:' in value.__doc__ or name in {
                'load_embedded',
                'Profile',
            }
            assert inspect.signature(value)
