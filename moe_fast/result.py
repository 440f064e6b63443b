"""What a fit gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .model import MixtureOfExperts

__all__ = ["FitResult", "StartReport", "expert_columns", "gate_columns"]

_REACHED = 1e-3   # in log-likelihood per row: two starts so close have found the same optimum


@dataclass(frozen=True)
class StartReport:
    """Where one start of a fit ended.

    Attributes
    ----------
    kind : str
        How the start was made: "spectral", "random", "ransac", ...
    index : int
        Its number among all starts, in the order they were made.
    log_likelihood : float
        What it had reached when it was last looked at; of large data perhaps on a sample, scaled to all rows.
    n_iter : int
        EM iterations spent on it.
    status : str
        "winner", "finished" (run to its end), "eliminated" (stopped early: others were ahead, or time was up),
        "duplicate" (of a start that went on) or "degenerate" (an expert collapsed).
    history : tuple of float
        The objective (log-likelihood less the barrier) before its first iteration and after each, in the units of
        `log_likelihood`. Of large data it is that of the sample climbed on, scaled to all rows. It never falls but
        where the rows, the barrier or a held noise change.
    """

    kind: str
    index: int
    log_likelihood: float
    n_iter: int
    status: str
    history: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted model and how the fit went. Holds no data, and nothing as long as the data.

    Attributes
    ----------
    model : MixtureOfExperts
        The fitted model, experts in the documented order.
    log_likelihood : float
        Natural log, weighted, without the barrier.
    n_parameters : int
        Free parameters.
    n_samples : float
        Sum of the weights; the number of rows when there are none.
    n_iter : int
        EM iterations of the winning start.
    n_passes : float
        Rows read by all kernels of the fit, divided by the number of rows.
    converged : bool
        Whether the gain and the gradient were small at the end, and the limit on the gate cost no likelihood.
    history : ndarray of shape (n_iter + 1,)
        The objective maximised, before the first iteration and after each.
    entropy : float
        Weighted sum over rows of the entropy of the responsibilities, in nats.
    mixing_weights : ndarray of shape (n_experts,)
        Weighted mean of the gate probability. Sums to one.
    effective_sizes : ndarray of shape (n_experts,)
        Weighted sum of the responsibilities. Sums to n_samples.
    starts : tuple of StartReport
        Every start, and where it ended.
    penalised : bool
        True if an expert collapsed without the barrier on noise_std, and the fit with it was kept.
    unsupported : tuple of int
        Experts that hold fewer rows than they have parameters for, or fit rows fewer than 3 (d + 2) so nearly that the
        barrier's constant is more than their residual sum of squares: likely chance, not structure.
    redundant_features : tuple of int
        Columns of X that are constant or combinations of the columns before them, on these rows: zero in the experts,
        and not counted in `n_parameters`.
    redundant_gate_features : tuple of int
        The same for the columns that the gate sees.
    separated : tuple of int
        Experts that the gate separates without error: their gate has no finite optimum.
    barrier : float
        The constant b of the barrier sum_k b / (2 noise_std[k]**2); 0 if there was none.
    seconds : float
        Wall time of the whole fit.
    noise : str
        "per_expert", "shared", or "held" at the numbers given.
    fit_intercept, gate_intercept : bool
        Whether the experts, and the gate, have intercepts.
    experts_held : bool
        True after `fit_gate`: experts and noise were given, only the gate was fitted.
    """

    model: MixtureOfExperts
    log_likelihood: float
    n_parameters: int
    n_samples: float
    n_iter: int
    n_passes: float
    converged: bool
    history: NDArray[np.float64]
    entropy: float
    mixing_weights: NDArray[np.float64]
    effective_sizes: NDArray[np.float64]
    starts: tuple[StartReport, ...] = ()
    penalised: bool = False
    unsupported: tuple[int, ...] = ()
    redundant_features: tuple[int, ...] = ()
    redundant_gate_features: tuple[int, ...] = ()
    separated: tuple[int, ...] = ()
    barrier: float = 0.0
    seconds: float = 0.0
    noise: str = "per_expert"
    fit_intercept: bool = True
    gate_intercept: bool = True
    experts_held: bool = False

    @property
    def aic(self) -> float:
        """Akaike's criterion, ``2 n_parameters - 2 log_likelihood``."""
        return 2 * self.n_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion, ``n_parameters log(n_samples) - 2 log_likelihood``."""
        return float(self.n_parameters * np.log(self.n_samples)) - 2 * self.log_likelihood

    @property
    def icl(self) -> float:
        """Integrated completed likelihood, ``bic + 2 entropy``: also asks that experts be told apart."""
        return self.bic + 2 * self.entropy

    def summary(self) -> str:
        """The fit as text.

        Returns
        -------
        text : str
            Tables of the experts (with the rows each holds) and the gate, criteria, and how the starts fared.
            Experts count from 1 here: the first is ``model.coef[0]``.
        """
        parts = [self._header(), self._expert_table(), self._gate_table(), self._fit_lines()]
        return "\n\n".join(part for part in parts if part)

    def __repr__(self) -> str:
        return (
            f"FitResult(log_likelihood={self.log_likelihood:.6g}, n_iter={self.n_iter}, "
            f"converged={self.converged}, model={self.model!r})"
        )

    def _header(self) -> str:
        model = self.model
        target = f" of {model.target_name}" if model.target_name else ""
        experts = "1 expert" if model.n_experts == 1 else f"{model.n_experts} experts"
        features = "1 feature" if model.n_features == 1 else f"{model.n_features} features"
        formula = f"\n{model.formula}" if model.formula else ""
        return (
            f"Mixture of experts{target}: {experts}, {features}, {self.n_samples:.10g} rows; "
            f"activation {model.activation.name}, {model.gate} gate{formula}"
        )

    def _expert_table(self) -> str:
        model = self.model
        names = expert_columns(model)
        shares = self.effective_sizes / self.effective_sizes.sum()
        return _table(
            "Experts",
            [
                ("intercept", _numbers(model.intercept)),
                *zip(names, map(_numbers, model.coef.T), strict=True),
                ("noise std", _numbers(model.noise_std)),
                ("rows", [f"{size:.1f}" for size in self.effective_sizes]),
                ("share", [f"{100 * part:.1f} %" for part in shares]),
            ],
        )

    def _gate_table(self) -> str:
        model = self.model
        if model.n_experts == 1:
            return ""
        return _table(
            "Gate (log odds against the last expert)",
            [
                ("intercept", _numbers(model.gate_intercept)),
                *zip(gate_columns(model), map(_numbers, model.gate_coef.T), strict=True),
                ("mean probability", [f"{weight:.4f}" for weight in self.mixing_weights]),
            ],
        )

    def _fit_lines(self) -> str:
        end = "converged" if self.converged else "NOT CONVERGED"
        lines = [
            f"log-likelihood {self.log_likelihood:.4f}   {self.n_parameters} parameters   "
            f"AIC {self.aic:.2f}   BIC {self.bic:.2f}   ICL {self.icl:.2f}",
            *self._start_lines(),
            f"{end} after {self.n_iter} iterations, {self.n_passes:.4g} passes over the rows, "
            f"{self.seconds:.2f} s",
        ]
        if self.penalised:
            lines.append(
                "an expert collapsed without the barrier on noise_std: this is the fit with it, "
                "its log-likelihood reported without it"
            )
        if self.unsupported:
            experts = ", ".join(str(expert + 1) for expert in self.unsupported)
            lines.append(f"too few rows, or few fitted almost exactly: experts {experts} may be chance")
        lines += self._redundant_lines()
        if self.separated:
            experts = ", ".join(str(expert + 1) for expert in self.separated)
            lines.append(f"the gate separates experts {experts}: no finite optimum for their gate")
        return "\n".join(lines)

    def _redundant_lines(self) -> list[str]:
        model, lines = self.model, []
        features = _column_names(model.feature_names, model.n_features, "x")
        own = _column_names(model.gate_feature_names, model.n_gate_features, "z")
        seen = own if model.uses_gate_features else features
        of_experts = [] if self.experts_held else [features[b] for b in self.redundant_features]
        of_gate = [seen[b] for b in self.redundant_gate_features]
        if of_experts:
            lines.append(f"constant or combinations of the columns before, left at zero: {', '.join(of_experts)}")
        if of_gate != of_experts and of_gate:
            lines.append(f"the same in the gate: {', '.join(of_gate)}")
        return lines

    def _start_lines(self) -> list[str]:
        winner = next((start for start in self.starts if start.status == "winner"), None)
        if winner is None:
            return []
        close = winner.log_likelihood - _REACHED * self.n_samples
        sound = [start for start in self.starts if start.status != "degenerate"]
        n_found = sum(start.log_likelihood >= close for start in sound)
        n_collapsed = len(self.starts) - len(sound)
        collapsed = f", {n_collapsed} collapsed" if n_collapsed else ""
        return [
            f"start {winner.index} ({winner.kind}) won; "
            f"{n_found} of {len(self.starts)} starts reached its optimum{collapsed}"
        ]


def expert_columns(model: MixtureOfExperts) -> list[str]:
    """What tables call the columns of X."""
    return _column_names(model.feature_names, model.n_features, "x")


def gate_columns(model: MixtureOfExperts) -> list[str]:
    """What tables call the columns that the gate sees; none of them for a constant gate."""
    if model.uses_gate_features:
        return _column_names(model.gate_feature_names, model.n_gate_features, "z")
    return expert_columns(model)[: model.n_gate_features]


def _column_names(names: Sequence[str] | None, n_columns: int, letter: str) -> list[str]:
    return [f"{letter}{b}" for b in range(n_columns)] if names is None else list(names)


def _numbers(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _table(title: str, rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Rows of text with a label each, one column an expert, counted from 1 as in the pictures."""
    n_experts = len(rows[0][1])
    rows = [("", [f"expert {k + 1}" for k in range(n_experts)]), *rows]
    label_width = max(len(label) for label, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    lines = [title]
    for label, cells in rows:
        lines.append("  ".join(["  " + label.ljust(label_width), *(cell.rjust(width) for cell in cells)]))
    return "\n".join(lines)
