"""Curves and bars: how training went, and how good the detector is.

Every function takes plain numbers and returns a matplotlib figure.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from helpers.drawing import BLACK, BLUE, ORANGE, PALETTE, as_numpy, new_figure


def loss_curves(losses: Mapping[str, Sequence[float]], iterations: Sequence[int] | None = None, title: str = ""):
    """Draw losses over the iterations, as they were (thin) and smoothed (thick).

    Args:
        losses: name -> one value for each point. "loss" is drawn in black, as the sum of the others.
        iterations: one number for each point; `None` counts from 1.
        title: above it.

    Returns:
        A matplotlib figure.
    """
    figure, axes = new_figure(width=7, height=4.2, title=title or "Training loss: it should fall, fast at first")
    ax = axes[0, 0]
    colors = iter(c for c in PALETTE if c != BLACK)
    styles = iter(("-", "--", "-.", ":") * 4)
    for name, values in losses.items():
        values = as_numpy(values).astype(float)
        x = np.arange(1, len(values) + 1) if iterations is None else as_numpy(iterations)
        color, style = (BLACK, "-") if name == "loss" else (next(colors), next(styles))
        ax.plot(x, values, color=color, linewidth=0.7, alpha=0.3)
        ax.plot(x, smooth(values), color=color, linewidth=2, linestyle=style, label=name)
    ax.set(xlabel="iteration", ylabel="loss", ylim=(0, None))
    ax.grid(alpha=0.3)
    # Above the curves: inside, there is no corner that no curve ever crosses.
    ax.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def smooth(values: np.ndarray) -> np.ndarray:
    """Moving average over a twentieth of the points, centred, of fewer points at both ends.

    Args:
        values: (n,).

    Returns:
        (n,).
    """
    half = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    center = np.arange(len(values))
    first, last = np.maximum(center - half, 0), np.minimum(center + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def ap_bars(ap: Mapping[str, float], mean: float | None = None, compare: Mapping[str, float] | None = None, title=""):
    """Draw average precision of every class as bars, the best on top.

    Args:
        ap: class -> AP, 0 to 1; NaN or `None` where a class has no object.
        mean: mAP, drawn as a line; `None` takes the mean of what is there.
        compare: AP of another run, drawn as marks.
        title: above it; by default it states the mean.

    Returns:
        A matplotlib figure.
    """
    values = {name: np.nan if v is None else float(v) for name, v in ap.items()}
    mean = float(np.nanmean(list(values.values()))) if mean is None else mean
    names = sorted(values, key=lambda n: -1 if np.isnan(values[n]) else values[n])
    title = title or f"Average precision by class, mAP {100 * mean:.1f} %"
    figure, axes = new_figure(width=6.5, height=0.9 + 0.27 * len(names), title=title)
    ax = axes[0, 0]
    bars = ax.barh(names, [100 * np.nan_to_num(values[n]) for n in names], color=BLUE, height=0.72)
    texts = ["no object" if np.isnan(values[n]) else f"{100 * values[n]:.1f}" for n in names]
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # keeps the dashed line out of the number
    ax.bar_label(bars, texts, padding=4, fontsize=8, bbox=box)
    if compare is not None:
        marks = [np.nan if compare.get(n) is None else 100 * compare[n] for n in names]
        ax.plot(marks, names, "D", color=ORANGE, markeredgecolor="black", markersize=5, label="compared with")
        ax.legend(frameon=False, loc="lower right")
    ax.axvline(100 * mean, color=BLACK, linestyle="--", linewidth=1.2, zorder=1.5)
    ax.set(xlabel="average precision (%); the dashed line is the mean", xlim=(0, 108), ylim=(-0.6, len(names) - 0.4))
    ax.set_xticks(range(0, 101, 20))
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    return figure


def precision_recall_curves(curves: Mapping[str, tuple], title: str = "", columns: int = 5):
    """Draw precision over recall, one small panel for each class.

    Args:
        curves: class -> (recall (N,), precision (N,), AP), as `evaluate_voc` gives them, surest detection first.
        title: above all.
        columns: panels in a row.

    Returns:
        A matplotlib figure.
    """
    rows = -(-len(curves) // columns)
    columns = min(columns, len(curves))
    title = (
        title or "Precision over recall: the area under the curve is the AP, a good detector stays in the upper right"
    )
    figure, axes = new_figure(rows, columns, 2.3 * columns, 0.8 + 2.0 * rows, title, sharex=True, sharey=True)
    for ax in axes.flat[len(curves) :]:
        ax.set_axis_off()
    for ax, (name, (recall, precision, ap)) in zip(axes.flat, curves.items()):
        recall, precision = as_numpy(recall).astype(float), as_numpy(precision).astype(float)
        if len(
            recall
        ):  # the curve begins at recall 0; without that, one object found at once would be drawn as nothing
            recall, precision = np.append(0.0, recall), np.append(precision[0], precision)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        ax.fill_between(recall, envelope, step="pre", color=BLUE, alpha=0.25, linewidth=0)
        ax.plot(recall, precision, color=BLUE, linewidth=1.3)
        ax.set_title(f"{name}: {'no object' if np.isnan(ap) else f'{100 * ap:.1f} %'}", fontsize=9)
        ax.set(xlim=(0, 1), ylim=(0, 1.03))
        ax.grid(alpha=0.3)
    figure.supxlabel("recall: share of the objects that were found", fontsize=10)
    figure.supylabel("precision: share of the detections that are right", fontsize=10)
    return figure
