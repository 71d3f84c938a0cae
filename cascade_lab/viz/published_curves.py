"""A run's own losses and AP over those of a published training log, both against finished epochs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cascade_lab.viz.curves import label_ends, running_mean, tidy
from cascade_lab.viz.palette import BLUE, FAINT, INK

PUBLISHED_STYLE = (0, (4, 1.6))


def curves_over_published(
    epochs: np.ndarray,
    losses: np.ndarray,
    published_epochs: np.ndarray,
    published_losses: np.ndarray,
    ap: Mapping[str, float],
    published_ap: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Draw the total loss of both, and AP after each published epoch with ours as a point at the end.

    Args:
        ap: "boxes" and "masks" -> our AP in 0 to 100, as measured after the run; may be empty.
        published_ap: "boxes" and "masks" -> (epochs (V,), AP (V,) in 0 to 100); may be empty.

    Shapes:
        epochs, losses: (T,); published_epochs, published_losses: (U,). NaN is passed over.
    """
    panels = 1 + bool(published_ap or ap)
    figure = Figure(figsize=(5.2 * panels, 3.4), layout="constrained")
    first, *second = figure.subplots(1, panels, squeeze=False)[0]
    ends = [
        _losses(first, published_epochs, published_losses, FAINT, "published"),
        _losses(first, epochs, losses, BLUE, "this run"),
    ]
    first.set_title("loss", loc="left", fontsize=11, fontweight="bold", color=INK)
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in first.lines] or [np.ones(1)])
    first.set_ylim(0, 1.05 * float(np.quantile(drawn, 0.985)) + 1e-9)
    label_ends(first, [end for end in ends if end is not None])
    _frame(first)
    for axes in second:
        _ap(axes, float(epochs[-1]) if len(epochs) else 0.0, ap, published_ap)
    return figure


def _losses(
    axes: Axes, epochs: np.ndarray, losses: np.ndarray, colour: str, label: str
) -> tuple[str, float, str] | None:
    finite = np.isfinite(losses)
    if not finite.any():
        return None
    smooth = running_mean(losses[finite])
    axes.plot(epochs[finite], losses[finite], color=colour, linewidth=0.8, alpha=0.3)
    style = "solid" if label == "this run" else PUBLISHED_STYLE
    axes.plot(epochs[finite], smooth, color=colour, linestyle=style, linewidth=2)
    return label, float(smooth[-1]), colour


def _ap(
    axes: Axes, last: float, ap: Mapping[str, float], published: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    ends = []
    for name, (epochs, values) in published.items():
        axes.plot(epochs, values, color=FAINT, linestyle=PUBLISHED_STYLE, marker="o", markersize=3)
        ends.append((f"{name}, published", float(values[-1]), FAINT))
    for name, value in ap.items():
        axes.plot([last], [value], color=BLUE, marker="D", linestyle="none")
        ends.append((f"{name}, this run", value, BLUE))
    axes.set_title("AP", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_ylim(bottom=0)
    label_ends(axes, ends)
    _frame(axes)


def _frame(axes: Axes) -> None:
    tidy(axes)
    axes.grid(axis="y", color=FAINT, alpha=0.22, linewidth=0.7)
    axes.set_xlabel("finished epochs")
