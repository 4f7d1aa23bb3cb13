from pathlib import Path

import numpy as np
import pytest

from gnnbridge.profiling import ledger as module
from gnnbridge.profiling.ledger import Ledger, discard, known_units


def samples(value: float) -> dict[str, np.ndarray]:
    return {'x': np.array([[value]])}


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    first = Ledger(tmp_path / 'new', 'abc')
    first.add('corpus/0', 'd0', samples(1.0))
    first.add('task', '', {}, reason='no room')
    first.save()
    again = Ledger(tmp_path / 'new', 'abc')
    assert again.done == {'corpus/0': 'd0', 'task': ''}
    assert again.tally.reasons == {'task': 'no room'}
    np.testing.assert_array_equal(
        again.tally.moments['x'], first.tally.moments['x']
    )


def test_a_unit_is_counted_and_marked_or_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, '_PATIENCE', -1.0)  # save at every unit
    ledger = Ledger(tmp_path, 'abc')
    ledger.add('u0', '', samples(1.0))

    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    # Killed while the file is written, and just before it takes its place.
    for name in ('savez', 'replace'):
        with monkeypatch.context() as patch:
            patch.setattr(
                module.np if name == 'savez' else module.os, name, die
            )
            with pytest.raises(KeyboardInterrupt):
                ledger.add(name, '', samples(5.0))
        again = Ledger(tmp_path, 'abc')
        assert list(again.done) == ['u0']
        assert again.tally.count('x') == 1
        assert again.tally.mean('x') == 1.0


def test_another_run_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 'abc')
    ledger.add('u', '', samples(1.0))
    ledger.save()
    with pytest.raises(ValueError, match='unfinished run of the same'):
        Ledger(tmp_path, 'other')
    with pytest.raises(ValueError, match='unfinished run of the same'):
        Ledger(tmp_path, 'other', '1').parts()


def test_parts_of_all_processes(tmp_path: Path) -> None:
    for name in ('0', '1', '2'):
        ledger = Ledger(tmp_path, 'abc', name)
        ledger.add(f'u{name}', '', samples(float(name)))
        ledger.save()
    parts = Ledger(tmp_path, 'abc', '1').parts()
    assert sorted(parts) == ['0', '1', '2']
    assert parts['2'][0].mean('x') == 2.0
    assert set(known_units(done for _, done in parts.values())) == {
        'u0',
        'u1',
        'u2',
    }


def test_a_unit_done_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' to be measured once"):
        known_units([{'a': ''}, {'b': '', 'a': ''}])


def test_nothing_is_kept_without_a_directory() -> None:
    ledger = Ledger(None, 'abc')
    ledger.add('u', '', samples(1.0))
    ledger.save()
    assert list(ledger.parts()) == ['0']


def test_discarded_files_are_gone_and_others_stay(tmp_path: Path) -> None:
    directory = tmp_path / 'unfinished'
    ledger = Ledger(directory, 'abc')
    ledger.add('u', '', samples(1.0))
    ledger.save()
    (directory / 'mine.txt').write_text('x')
    discard(directory)
    assert [path.name for path in directory.iterdir()] == ['mine.txt']
    (directory / 'mine.txt').unlink()
    discard(directory)
    assert not directory.exists()
    discard(directory)
