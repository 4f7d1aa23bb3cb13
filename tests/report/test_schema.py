"""The written format: profiles fit it, and it describes all of them."""

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest

jsonschema = pytest.importorskip('jsonschema')

MakeProfile = Callable[..., dict[str, Any]]
SCHEMA: dict[str, Any] = json.loads(
    (files('gnnbridge.profiling') / 'profile.schema.json').read_text('utf-8')
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def problems(profile: dict[str, Any]) -> list[str]:
    return [
        f'{error.json_path}: {error.message}'
        for error in VALIDATOR.iter_errors(profile)
    ]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while '$ref' in schema:
        schema = SCHEMA['$defs'][schema['$ref'].rsplit('/', 1)[1]]
    return schema


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA['$schema'].endswith('2020-12/schema')
    assert SCHEMA['properties']['schema_version']['const'] == 2


def test_profiles_fit(
    profile: dict[str, Any], refused: dict[str, Any], tiny: dict[str, Any]
) -> None:
    for data in (profile, refused, tiny):
        assert problems(json.loads(json.dumps(data))) == []


def undocumented(
    data: Any, schema: dict[str, Any], path: str = '$'
) -> Iterator[str]:
    """Keys of plain data that the schema does not name."""
    schema = resolved(schema)
    if isinstance(data, dict):
        for key, value in data.items():
            found = schema.get('properties', {}).get(key)
            found = found or schema.get('additionalProperties')
            if path == '$.settings':
                continue
            if not isinstance(found, dict):
                yield f'{path}.{key}'
            else:
                yield from undocumented(value, found, f'{path}.{key}')
    elif isinstance(data, list):
        for value in data[:1]:
            yield from undocumented(value, schema.get('items', {}), path)


def test_every_field_of_a_profile_is_in_the_schema(
    profile: dict[str, Any],
) -> None:
    assert list(undocumented(profile, SCHEMA)) == []
    profile['diagnostics']['sinks']['model']['more'] = [1.0]
    assert list(undocumented(profile, SCHEMA)) == [
        '$.diagnostics.sinks.model.more'
    ]


def properties(schema: Any, path: str = '$') -> Iterator[tuple[str, dict]]:
    if isinstance(schema, dict):
        for name, found in schema.get('properties', {}).items():
            yield f'{path}.{name}', found
        for key, value in schema.items():
            yield from properties(value, f'{path}.{key}')
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value, path)


def test_every_field_of_the_schema_is_described() -> None:
    found = dict(properties(SCHEMA))
    assert len(found) > 200
    short = [
        path for path, field in found.items()
        if not str(field.get('description', '')).endswith('.')
    ]  # fmt: skip
    assert short == []


def broken(profile: dict[str, Any]) -> Iterator[None]:
    """Profiles with one thing wrong, one after the other."""
    sections = profile['diagnostics']
    for holder, key, wrong in (
        (profile, 'schema_version', 1),
        (profile, 'notes', None),
        (profile['text'], 'tokens', [1]),
        (sections['sinks'], 'status', 'fine'),
        (sections['sinks']['model'], 'sink_rate', 'high'),
        (sections['sinks']['model'], 'sink_score', [0.5]),
        (sections['sinks']['model'], 'head_kind', [['other']]),
        (sections['squashing']['model']['bounds'], 'Black', [1]),
        (sections, 'other', {}),
        (profile['graphs']['layers'][0], 'keep', None),
    ):
        there = key in holder
        right = holder.get(key)
        holder[key] = wrong
        yield
        if there:
            holder[key] = right
        else:
            del holder[key]
    del profile['resources']
    yield


def test_what_does_not_fit_is_found(profile: dict[str, Any]) -> None:
    counts = [len(problems(profile)) for _ in broken(profile)]
    assert len(counts) == 11
    assert min(counts) > 0
