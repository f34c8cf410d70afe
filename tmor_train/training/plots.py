"""A run's curves as pictures, drawn from its journal."""

from __future__ import annotations

from pathlib import Path

from tmor_train.training.journal import read

_LOSSES = ("loss", "mm/loss", "mv/loss", "mt/loss")
_EPOCHS = (
    ("clusters.png", ("clusters", "noise_share", "largest_share", "eps", "ari_labels", "ari_previous")),
    ("embeddings.png", ("rank", "uniformity", "neighbours_agree")),
)


def plot(folder: Path) -> str:
    """Draws ``plots/*.png``; says in a line what became of it, also where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "no plots: matplotlib is not installed (pip install 'posecap[train]')"
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)

    def draw(name: str, event: str, series: tuple[str, ...]) -> None:
        lines = list({line["step"]: line for line in read(folder, event)}.values())
        shown = [key for key in series if any(line.get(key) is not None for line in lines)]
        if not shown:
            return
        figure = Figure(figsize=(8, 2.2 * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, key in zip(figure.subplots(len(shown), 1, sharex=True, squeeze=False).flat, shown, strict=True):
            points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
            axes.plot(*zip(*points, strict=True), linewidth=1.2)
            axes.set_ylabel(key)
            axes.grid(alpha=0.3)
        axes.set_xlabel("step")
        figure.savefig(plots / name, dpi=100)

    draw("loss.png", "step", _LOSSES)
    for name, series in _EPOCHS:
        draw(name, "epoch", series)
    return f"plots: {plots}"


__all__ = ["plot"]
