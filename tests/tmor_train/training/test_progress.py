"""The progress line at times of our choosing."""

import io

from tmor_train.training.progress import Progress


def test_a_line_says_rate_waiting_and_time_left() -> None:
    now, out = [100.0], io.StringIO()
    progress = Progress(steps=110, done=10, out=out, clock=lambda: now[0])
    now[0] += 40
    progress.step(clips=800, waited=2.0, words="epoch 1/2  loss 0.5000")
    assert out.getvalue() == "epoch 1/2  loss 0.5000  step 11/110  20 samples/s  data 5.0 %  ETA 1:06:00\n"
    now[0] += 10
    progress.step(clips=200, waited=0.0, words="quiet")  # no terminal: a line each half minute
    assert "quiet" not in out.getvalue()


def test_a_low_rate_has_a_decimal() -> None:
    now, out = [0.0], io.StringIO()
    progress = Progress(steps=10, out=out, clock=lambda: now[0])
    now[0] += 40
    progress.step(clips=30, waited=0.0, words="")
    assert "  0.8 samples/s  " in out.getvalue()


def test_time_aside_counts_in_no_rate() -> None:
    now = [0.0]
    progress = Progress(steps=2, out=io.StringIO(), clock=lambda: now[0])
    now[0] = 10.0
    progress.step(clips=100, waited=5.0, words="")
    progress.aside(6.0)
    assert progress.metrics() == {"samples_per_second": 25.0, "data_wait": 1.0}
