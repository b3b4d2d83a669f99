"""Long work beside a loop rests: it sleeps again and again, gives what it would give anyway, and stops throttled when it ends."""

import sys
import time

from serving.scoring.throttle import throttled


def worked(calls: int) -> int:
    return sum(map(abs, (-1 for _ in range(calls))))


def test_work_rests_again_and_again_and_gives_the_same(monkeypatch):
    rests = []
    monkeypatch.setattr(time, "sleep", rests.append)
    with throttled(work_s=0.0, pause_s=0.25):
        result = worked(10)
    assert result == 10
    assert len(rests) >= 10
    assert set(rests) == {0.25}


def test_short_work_does_not_rest_and_afterwards_nothing_does(monkeypatch):
    rests = []
    monkeypatch.setattr(time, "sleep", rests.append)
    before = sys.getprofile()
    with throttled(work_s=60.0):
        worked(10)
    worked(10)
    assert (rests, sys.getprofile()) == ([], before)
