"""What happened during training: one row for each logging period."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class History:
    """Losses and learning rate along a run.

    A row is a dict with "iteration" (finished so far), the mean of every loss over the period, their sum "loss",
    "learning_rate", and "seconds" since the run (or its continuation) began.
    """

    rows: list[dict] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[float]:
        """One number of every row.

        Args:
            name: a key of the rows, such as "loss_cls".

        Returns:
            A list as long as `rows`.

        Raises:
            KeyError: no such column; the message lists those there are.
        """
        known = list(self.rows[0]) if self.rows else []
        if name not in known:
            raise KeyError(f"no column {name!r} in this history; it has {', '.join(known) or 'no row yet'}")
        return [row[name] for row in self.rows]

    @property
    def losses(self) -> list[str]:
        """Names of the columns that hold losses, the sum last."""
        names = [name for name in (self.rows[0] if self.rows else ()) if name.startswith("loss_")]
        return [*names, "loss"] if self.rows else []

    def save(self, path: str | Path) -> None:
        """Write one JSON object per line.

        Args:
            path: the file; its folder is made.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "History":
        """Read what `save` wrote.

        Args:
            path: the file.

        Returns:
            The history.
        """
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return cls([json.loads(line) for line in lines if line])

    def plot(self):
        """Draw the losses and the learning rate over the iterations.

        Returns:
            A matplotlib figure.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        losses, rate = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        for name in self.losses:
            style = {"color": "black", "linewidth": 1.8} if name == "loss" else {"linewidth": 1.2}
            losses.plot(self.column("iteration"), self.column(name), label=name, **style)
        losses.set(ylabel="loss", ylim=(0, None))
        losses.grid(alpha=0.3)
        if self.rows:
            losses.legend()
            rate.plot(self.column("iteration"), self.column("learning_rate"), color="tab:gray")
        rate.set(xlabel="iteration", ylabel="learning rate", ylim=(0, None))
        rate.grid(alpha=0.3)
        return figure
