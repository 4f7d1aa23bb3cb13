from dataclasses import replace

import pytest
import torch

from gnnbridge.profiling import estimate as module
from gnnbridge.profiling.estimate import (
    LIBRARY_BYTES,
    Costs,
    DoesNotFit,
    Estimate,
    capture_memory,
    estimate,
    refuse_too_large,
    room,
)
from gnnbridge.profiling.memory import (
    free_memory,
    held_memory,
    in_words,
    peak_memory,
)
from gnnbridge.profiling.sampling import Task
from gnnbridge.profiling.settings import ProfileSettings

COSTS = Costs(0.001, heads=4, hidden_size=8, parameter_bytes=1000)
BARE = ProfileSettings(baseline=False)


def task(passes: float, memory: int = 0) -> Task:
    return Task('t', lambda subject: {}, passes, memory)


def test_time_grows_with_the_corpus_and_with_the_tasks() -> None:
    found = [
        estimate(['x'] * count, [task(1000.0)], COSTS, BARE, (100, 1))
        for count in (10, 20)
    ]
    seconds = [one.seconds for one in found]
    assert seconds[0] is not None
    assert seconds[1] is not None
    # One thousandth of a second a token: tasks take one second.
    assert seconds[1] - 1 == pytest.approx(2 * (seconds[0] - 1))
    assert [one.sequences for one in found] == [10, 20]


def test_the_baseline_reads_some_and_does_all_tasks() -> None:
    settings = ProfileSettings(baseline_sequences=5)
    without = estimate(['x'] * 10, [task(1000.0)], COSTS, BARE, (100, 1))
    both = estimate(['x'] * 10, [task(1000.0)], COSTS, settings, (100, 1))
    assert without.seconds is not None
    assert both.seconds is not None
    read = without.seconds - 1
    assert both.seconds == pytest.approx(2 + 1.5 * read)
    assert both.memory - without.memory == COSTS.parameter_bytes


def test_a_stream_has_no_known_end() -> None:
    found = estimate(iter(['x']), [], COSTS, BARE, (100, 1))
    assert found.seconds is None
    assert found.sequences is None
    assert 'no known end' in found.line()
    limited = replace(BARE, max_sequences=3)
    assert estimate(iter(['x']), [], COSTS, limited, (9, 1)).sequences == 3


def test_documents_that_are_split_count_as_several() -> None:
    assert estimate(['x'] * 4, [], COSTS, BARE, (9, 5)).sequences == 20


@pytest.mark.parametrize(
    ('seconds', 'said'),
    [(0.2, 'about 1 s'), (59.2, '60 s'), (150, '2 min'), (9000, '2.5 h')],
)
def test_time_in_words(seconds: float, said: str) -> None:
    assert said in Estimate(seconds, 1 << 30, 1).line()
    assert '1.0 GiB' in Estimate(seconds, 1 << 30, 1).line()


def test_what_fits_is_let_through() -> None:
    refuse_too_large(Estimate(1.0, 100, 1), 100, COSTS, BARE, (9, 1))
    refuse_too_large(Estimate(1.0, 100, 1), None, COSTS, BARE, (9, 1))


def test_a_smaller_batch_is_advised_and_fits() -> None:
    free = LIBRARY_BYTES + 3 * capture_memory(COSTS, 1, 512)
    settings = replace(BARE, batch_size=8)
    found = estimate(['x'] * 99, [], COSTS, settings, (512, 1))
    with pytest.raises(DoesNotFit, match='batch_size=3 would fit'):
        refuse_too_large(found, free, COSTS, settings, (512, 1))
    again = estimate(
        ['x'] * 99, [], COSTS, replace(settings, batch_size=3), (512, 1)
    )
    assert again.memory <= free


def test_fewer_tokens_are_advised_and_fit() -> None:
    free = LIBRARY_BYTES + capture_memory(COSTS, 1, 400)
    settings = replace(BARE, batch_size=1)
    found = estimate(['x'], [], COSTS, settings, (512, 1))
    with pytest.raises(DoesNotFit, match='would fit') as refusal:
        refuse_too_large(found, free, COSTS, settings, (512, 1))
    words = str(refusal.value).split('max_tokens=')[1]
    tokens = int(words.split()[0])
    assert 256 < tokens <= 400
    assert estimate(['x'], [], COSTS, settings, (tokens, 1)).memory <= free


def test_tasks_and_the_baseline_can_be_too_large_as_well() -> None:
    found = estimate(['x'], [task(1.0, 10**9)], COSTS, BARE, (9, 1))
    assert found.memory == 10**9 + LIBRARY_BYTES
    with pytest.raises(DoesNotFit, match='smaller tasks'):
        refuse_too_large(found, 10**9, COSTS, BARE, (9, 1))
    with pytest.raises(DoesNotFit, match='Leave out the baseline'):
        refuse_too_large(
            found, LIBRARY_BYTES + 500, COSTS, ProfileSettings(), (9, 1)
        )
    with pytest.raises(DoesNotFit, match='No profile takes less than'):
        refuse_too_large(found, 500, COSTS, BARE, (9, 1))


def test_memory_of_this_machine() -> None:
    free = free_memory(torch.device('cpu'))
    peak = peak_memory(torch.device('cpu'))
    # This process holds torch: more than 50 MB.
    assert free is None or free > 0
    assert peak is None or peak > 50e6
    held = held_memory(torch.device('cpu'))
    assert held is None or peak is None or 50e6 < held <= 1.01 * peak
    assert in_words(1536) == '1.5 KiB'
    assert in_words(3 << 30) == '3.0 GiB'


def test_processes_of_one_machine_share_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device('cpu')
    monkeypatch.setattr(module, 'free_memory', lambda device: 900)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '3')
    assert room(cpu, None) == 300
    assert room(torch.device('cuda'), None) == 900
    assert room(cpu, 5) == 5
    monkeypatch.setattr(module, 'free_memory', lambda device: None)
    assert room(cpu, None) is None
