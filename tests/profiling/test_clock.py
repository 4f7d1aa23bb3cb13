import pytest

from gnnbridge.profiling.clock import Clock


def test_steps_are_timed_in_their_order() -> None:
    with Clock(['a', 'b'], progress=False) as clock:
        with clock('a'):
            pass
        with clock('b'):
            pass
    assert list(clock.timings) == ['a', 'b']
    assert all(time >= 0 for time in clock.timings.values())


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Clock(['slow step'], progress=True) as clock, clock('slow step'):
        pass
    out, err = capsys.readouterr()
    assert out == ''
    assert 'slow step' in err


def test_a_step_that_fails_has_no_time() -> None:
    def fail() -> None:
        with Clock(['a'], progress=False) as clock:
            kept.append(clock)
            with clock('a'):
                raise RuntimeError('stop')

    kept: list[Clock] = []
    with pytest.raises(RuntimeError, match='stop'):
        fail()
    assert kept[0].timings == {}
