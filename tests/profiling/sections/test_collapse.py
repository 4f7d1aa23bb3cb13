import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from tiny_decoder import byte_tokenizer, tiny_decoder

import gnnbridge as gb
from gnnbridge.datasets.text import sample_text
from gnnbridge.models.loading import reinitialize
from gnnbridge.profiling.plain import plain
from gnnbridge.profiling.sampling import Subject, Tally
from gnnbridge.profiling.sections import collapse
from gnnbridge.profiling.sections.collapse import Collapse
from gnnbridge.profiling.settings import ProfileSettings

SECTION = Collapse()


def subject_of(
    model: Any = None, text: list[int] | None = None, **changes: Any
) -> Subject:
    """A tiny decoder that reads bytes behind a first token."""
    model = tiny_decoder() if model is None else model
    settings = ProfileSettings(
        **{'collapse_tokens': 16, 'collapse_sequences': 4, **changes}
    )
    text = list(sample_text().encode()[:120]) if text is None else text
    ids = [torch.tensor([256, *text[:60]]), torch.tensor([256, *text[60:]])]
    return Subject(
        model=gb.convert(model),
        tokenizer=byte_tokenizer(),
        settings=settings,
        num_layers=2,
        causal=True,
        sequences=tuple(x for x in ids if len(x) > 1),
        bos=True,
    )


def measured(subject: Subject) -> Tally:
    tally = Tally()
    for task in SECTION.tasks(subject):
        try:
            tally.add(task.run(subject))
        except NotImplementedError as refusal:
            tally.reasons[task.key] = str(refusal)
    return tally


def found_of(subject: Subject) -> dict[str, Any]:
    found = SECTION.model(measured(subject), subject)
    assert found is not None
    return plain(found)


def test_curves_are_those_of_the_last_hidden_states() -> None:
    subject = subject_of(half_precision=False)
    found = found_of(subject)
    assert found['lengths'] == [8, 16]
    sequences, others = collapse._sequences(subject, 16)
    with torch.no_grad():
        for k, n in enumerate((8, 16)):
            x = sequences[:, :n]
            seconds = {
                'repeat_last': torch.cat([x, x[:, -1:]], 1),
                'substitute_last': torch.cat(
                    [x[:, :-1], others[:, n - 1 : n]], 1
                ),
            }
            for pair, y in seconds.items():
                a, b = (
                    subject.model.base_model(z).last_hidden_state[:, -1]
                    for z in (x, y)
                )
                gap = (a - b).double().abs()
                curve = found[pair]['float32']
                # Rows run in other batches than here: rounding.
                assert curve['l1'][k] == pytest.approx(
                    gap.sum(1).mean().item(), rel=1e-4
                )
                assert curve['linf'][k] == pytest.approx(
                    gap.amax(1).mean().item(), rel=1e-4
                )
                cosine = torch.cosine_similarity(a, b).mean().item()
                assert curve['cosine'][k] == pytest.approx(cosine, rel=1e-4)


def test_a_section_is_plain_and_complete() -> None:
    subject = subject_of()
    found = found_of(subject)
    json.dumps(found, allow_nan=False)
    assert found['sequences'] == 'windows of the text'
    for pair in ('repeat_last', 'substitute_last'):
        assert set(found[pair]) == {'float32', 'bfloat16'}
        for curve in found[pair].values():
            for name in ('l1', 'linf', 'l2', 'cosine', 'block_l1'):
                assert len(curve[name]) == 2
            assert set(curve) >= {
                'slope',
                'slope_error',
                'reaches_precision_at',
                'block_slope',
            }
        # Half precision rounds, and that is all.
        fine, coarse = found[pair].values()
        assert coarse['l1'] == pytest.approx(fine['l1'], rel=0.05)
        assert coarse['l1'] != fine['l1']
    sharp = found['sharpness']
    assert sharp['count'] == 4
    for name in ('nearest_neighbor', 'nearest_neighbor_absolute', 'mean_pair'):
        assert len(sharp[name]) == 2
    assert sharp['nearest_neighbor'] == pytest.approx(
        [
            near / pair
            for near, pair in zip(
                sharp['nearest_neighbor_absolute'],
                sharp['mean_pair'],
                strict=True,
            )
        ]
    )
    null = SECTION.null(Tally(), subject)
    assert null == {'cosine': 1.0, 'distance': 0.0, 'slope': -1.0}
    assert SECTION.sampler(subject.settings) is None
    assert SECTION.model(Tally(), subject) is None


def test_lengths_in_parts_give_the_same_curve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = subject_of(collapse_tokens=32, half_precision=False)
    whole, keys = measured(subject), [t.key for t in SECTION.tasks(subject)]
    assert keys == [
        'collapse/repeat_last float32 32',
        'collapse/substitute_last float32 32',
    ]
    monkeypatch.setattr(collapse, '_TASK_TOKENS', 24)
    parted, keys = measured(subject), [t.key for t in SECTION.tasks(subject)]
    assert keys == [
        'collapse/repeat_last float32 16',
        'collapse/substitute_last float32 16',
        'collapse/repeat_last float32 32',
        'collapse/substitute_last float32 32',
    ]
    assert set(parted.moments) == set(whole.moments)
    for name, moments in whole.moments.items():
        np.testing.assert_array_equal(parted.moments[name], moments)
    passes = sum(task.passes for task in SECTION.tasks(subject))
    # Two inputs of two pairs, four sequences of 8, 16 and 32 tokens.
    assert passes == 2 * 2 * 4 * (8 + 16 + 32)


def test_lengths_stay_within_the_context() -> None:
    # One token more has to fit as well.
    for context, longest in ((33, 32), (32, 16), (9, 8)):
        model = tiny_decoder(max_position_embeddings=context)
        subject = subject_of(model, collapse_tokens=64)
        assert collapse._lengths(subject)[-1] == longest
    subject = subject_of(tiny_decoder(max_position_embeddings=8))
    with pytest.raises(NotImplementedError, match='at least 9 tokens'):
        SECTION.tasks(subject)


def test_sequences_start_with_the_first_token_and_substitutes_differ() -> None:
    subject = subject_of(collapse_sequences=12)
    sequences, others = collapse._sequences(subject, 16)
    assert sequences.shape == others.shape == (12, 16)
    assert (sequences[:, 0] == 256).all()
    assert (sequences != others).all()
    # Windows of the text, each somewhere else.
    text = bytes(sample_text().encode()[:120])
    assert len({tuple(row) for row in sequences.tolist()}) == 12
    for row in sequences.tolist():
        assert bytes(row[1:]) in text + text
    again, _ = collapse._sequences(subject, 16)
    assert torch.equal(again, sequences)


def test_short_texts_give_random_draws_of_their_tokens() -> None:
    subject = subject_of(text=[65, 66, 67, 68] * 5, half_precision=False)
    found = found_of(subject)
    assert found['sequences'] == 'tokens of the text, drawn at random'
    sequences, _ = collapse._sequences(subject, 16)
    assert set(sequences[:, 1:].flatten().tolist()) == {65, 66, 67, 68}
    assert len({tuple(row) for row in sequences.tolist()}) == 4


def test_a_model_that_repeats_a_token_has_nothing_to_substitute() -> None:
    subject = subject_of(text=[65] * 40, half_precision=False)
    tally = measured(subject)
    assert not tally.moments
    assert len(tally.reasons) == 2
    assert 'two different tokens' in next(iter(tally.reasons.values()))


def test_a_model_is_left_as_it_came() -> None:
    subject = subject_of()
    model = subject.model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in model.modules()
    ]
    measured(subject)
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks))
        for m in model.modules()
    ]
    assert model.dtype == torch.float32
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_refusals_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = dataclasses.replace(subject_of(), causal=False)
    with pytest.raises(NotImplementedError, match='causal model'):
        SECTION.tasks(subject)
    subject = subject_of()

    def fails(model: Any, dtype: torch.dtype) -> Any:
        if dtype == torch.bfloat16:
            raise RuntimeError('"op" not implemented\nmore')
        return model

    monkeypatch.setattr(collapse, 'in_dtype', fails)
    # What happens inside of the measurement counts, too.
    monkeypatch.setattr(
        collapse,
        'in_dtype',
        lambda model, dtype: model if dtype == torch.float32 else Broken(model),
    )
    tally = measured(subject)
    assert sorted(tally.reasons) == [
        'collapse/repeat_last bfloat16 16',
        'collapse/substitute_last bfloat16 16',
    ]
    for reason in tally.reasons.values():
        assert 'runs in bfloat16' in reason
        assert 'expected scalar type' in reason
    found = SECTION.model(tally, subject)
    assert found is not None
    assert set(found['repeat_last']) == {'float32'}


class Broken:
    """Stands for a model that half precision does not run in."""

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        self.config, self.base_model = model.config, self

    def modules(self) -> Any:
        return self.model.modules()

    def named_modules(self) -> Any:
        return self.model.named_modules()

    def get_submodule(self, name: str) -> Any:
        return self.model.get_submodule(name)

    def forward(self, **inputs: Any) -> Any:
        raise RuntimeError('expected scalar type Float')

    __call__ = forward


def test_half_precision_models_are_measured_as_they_are() -> None:
    subject = subject_of(tiny_decoder().bfloat16())
    assert set(found_of(subject)['repeat_last']) == {'bfloat16'}
    assert all('bfloat16' in task.key for task in SECTION.tasks(subject))


@pytest.mark.parametrize('name', ['gpt2', 'gemma2', 'gpt_oss', 'mistral'])
def test_other_architectures_are_measured(name: str) -> None:
    text = [2 + (7 * k + k * k // 5) % 59 for k in range(60)]
    subject = subject_of(build(name, vocab_size=257), text)
    found = found_of(subject)
    for pair in ('repeat_last', 'substitute_last'):
        assert len(found[pair]) == 2
        for curve in found[pair].values():
            assert all(math.isfinite(x) and x > 0 for x in curve['l1'])
            assert curve['block_l1'] is not None


def test_new_weights_collapse_and_the_embedded_model_does_not() -> None:
    model, tokenizer = gb.load_embedded()
    ids = tokenizer(sample_text(), return_tensors='pt').input_ids[0]
    settings = ProfileSettings(
        collapse_tokens=128, collapse_sequences=8, half_precision=False
    )
    slopes = {}
    for name, own in (('trained', model), ('new', reinitialize(model))):
        subject = Subject(
            gb.convert(own), tokenizer, settings, 3, True, (ids,), True
        )
        curve = found_of(subject)['repeat_last']['float32']
        slopes[name] = curve['slope']
        if name == 'new':
            # Nearly the same state at either count of the last token.
            assert curve['cosine'][-1] > 0.99
    assert slopes['new'] < -0.4
    assert abs(slopes['trained']) < 0.2
