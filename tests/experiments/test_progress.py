"""Progress where there is no terminal: lines that say how fast, and how long still."""

from itertools import chain, repeat

from experiments.common import progress


def test_the_rate_leaves_out_what_compiles(capsys, monkeypatch):
    """The first step takes 60 s, the others 2 s each."""
    times = chain([0.0], *(repeat(60.0 + 2 * i, 2) for i in range(10)))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    with progress.progress("training", 10) as advance:
        for _ in range(10):
            advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "training: 1/10 steps after 60 s"
    assert lines[1] == "training: 6/10 steps, 0.5/s, 8 s left"
    assert lines[2] == "training: 10/10 steps, 0.5/s, 0 s left"
