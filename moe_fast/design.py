"""The model in the kernels' own coordinates.

Features are standardised as the kernels read them; a linear predictor is then a row of numbers against the
design's columns, intercept first. `Design` holds the rows, knows that map in both directions, and runs passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _em
from .activations import Activation, Code
from .checks import CONSTANT
from .linalg import DEPENDENT
from .model import MixtureOfExperts
from .objective import Objective
from .rows import Rows, span_rows, worthwhile_threads

if TYPE_CHECKING:
    from .collinearity import Dependence

__all__ = ["Design", "Parameters", "Sums"]

FloatArray = NDArray[np.float64]
Sums = SimpleNamespace   # the named sums of one pass, em_problem.h

_Curve = tuple[FloatArray | None, FloatArray | None, FloatArray | None]   # g, g', g'' at linear predictors
_NO_CURVE: _Curve = (None, None, None)

_DRAWS = 20           # of rows of which few differ in y, as where the target is a rare event
_BRIEF_SYSTEM = 128   # columns of its largest system, which the kernel solves about as fast as LAPACK
_BRIEF = 1 << 22    # multiplications of a pass, some milliseconds: what Python does between passes is a tenth of it


@dataclass(frozen=True, eq=False)
class Parameters:
    """A mixture of experts in a design's coordinates.

    Attributes
    ----------
    expert : ndarray of shape (n_experts, p)
        Linear predictors of the experts; p counts the intercept, which comes first.
    gate : ndarray of shape (n_experts - 1, q)
        Log odds against the last expert.
    noise_std : ndarray of shape (n_experts,)
    """

    expert: FloatArray
    gate: FloatArray
    noise_std: FloatArray

    @property
    def n_experts(self) -> int:
        return len(self.expert)

    def permute(self, order: NDArray[np.intp]) -> Parameters:
        """The same mixture with expert order[k] as expert k."""
        gate = np.vstack([self.gate, np.zeros((1, self.gate.shape[1]))])[order]
        return Parameters(self.expert[order], gate[:-1] - gate[-1], self.noise_std[order])


class Design:
    """Rows and the coordinates they are seen in.

    Parameters
    ----------
    rows : Rows
    activation : Activation
    fit_intercept, gate_intercept : bool
    gate : {"softmax", "constant"}
    like : Design, optional
        Whose shifts and scales to use; by default they are taken from the rows.

    Attributes
    ----------
    Z : ndarray of shape (n_samples, n_gate_features) or None
        What the gate sees; None where it sees the very columns that the experts see.
    standard, gate_standard : ndarray of shape (2, n_features), (2, n_gate_features)
        Shift and scale of the columns of X and of Z; a scale of zero makes a column constant.
    """

    standard: FloatArray
    gate_standard: FloatArray
    Z: NDArray[Any] | None
    _of_all: tuple[FloatArray, FloatArray]     # `standard` and `gate_standard` before any column was left out
    _onto: tuple[FloatArray | None, FloatArray | None]   # what moves coefficients of those left out onto the others

    def __init__(
        self,
        rows: Rows,
        activation: Activation,
        fit_intercept: bool = True,
        gate: str = "softmax",
        gate_intercept: bool = True,
        like: Design | None = None,
    ) -> None:
        self.rows, self.activation = rows, activation
        self.fit_intercept, self.gate, self.gate_intercept = fit_intercept, gate, gate_intercept
        self._workspace: dict[Any, Any] = {}
        if gate == "constant":
            self.Z = np.empty((rows.n_samples, 0), rows.X.dtype)
        elif rows.gate_features is not None:
            self.Z = rows.gate_features
        elif fit_intercept != gate_intercept:   # one is centred, the other is not
            self.Z = rows.X
        else:
            self.Z = None
        if like is not None:
            self.standard, self.gate_standard = like.standard, like.gate_standard
            self._of_all, self._onto = like._of_all, like._onto
            return
        columns = rows.column_moments()
        self.standard = _standard(*columns, fit_intercept)
        if self.Z is None:
            self.gate_standard = self.standard
        elif gate == "constant":
            self.gate_standard = np.empty((2, 0))
        else:
            columns = columns if self.Z is rows.X else rows.gate_column_moments()
            self.gate_standard = _standard(*columns, gate_intercept)
        self._of_all, self._onto = (self.standard, self.gate_standard), (None, None)

    @property
    def is_single(self) -> bool:
        """Whether the rows are float32."""
        return self.rows.X.dtype == np.float32

    @property
    def n_columns(self) -> int:
        """Columns of the experts' design: p."""
        return self.standard.shape[1] + self.fit_intercept

    @property
    def n_gate_columns(self) -> int:
        """Columns of the gate's design: q."""
        return self.gate_standard.shape[1] + self.gate_intercept

    def on(self, rows: Rows) -> Design:
        """The same coordinates on other rows."""
        return Design(rows, self.activation, self.fit_intercept, self.gate, self.gate_intercept, like=self)

    def thinned(self, most: int) -> Design:
        """The same coordinates on every second, third, ... row, so that there are no more than so many."""
        step = -(-self.rows.n_samples // most)
        return self if step == 1 else self.on(self.rows.take(slice(None, None, step)))

    def sample(self, n_rows: int, rng: np.random.Generator) -> Design:
        """The same coordinates on rows drawn at random: again while all are of one y; if they stay so, on all rows."""
        for _ in range(_DRAWS):
            some = self.on(self.rows.sample(n_rows, rng))
            if some.rows.y.min() < some.rows.y.max():
                return some
        return self

    def without(self, of_experts: Dependence, of_gate: Dependence) -> Design:
        """The same rows, with columns that depend on others left out: they are zero, as constant ones are.

        Coefficients of models that come in are moved onto the others.
        """
        found = self.on(self.rows)
        found.standard = _without(self.standard, of_experts.columns - self.fit_intercept)
        if self.Z is None:
            found.gate_standard = found.standard
        else:
            found.gate_standard = _without(self.gate_standard, of_gate.columns - self.gate_intercept)
        found._onto = of_experts.onto, of_gate.onto
        return found

    @cached_property
    def expert_matrix(self) -> FloatArray:
        """The experts' design, (n_samples, p), as a matrix; for starts, on few rows."""
        return _matrix(self.rows.X, self.standard, self.fit_intercept)

    @property
    def features(self) -> FloatArray:
        """`expert_matrix` without its intercept, (n_samples, n_features)."""
        return self.expert_matrix[:, int(self.fit_intercept) :]

    @cached_property
    def gate_matrix(self) -> FloatArray:
        """The gate's design, (n_samples, q), as a matrix; for starts, on few rows."""
        if self.Z is None:
            return self.expert_matrix
        return _matrix(self.Z, self.gate_standard, self.gate_intercept)

    # ---- between models and parameters ----

    def parameters(self, model: MixtureOfExperts) -> Parameters:
        """A model of raw features in this design's coordinates."""
        expert = self.expert_rows(model.coef, model.intercept)
        gate = _to_design(
            model.gate_coef, model.gate_intercept, self._of_all[1], self.gate_intercept, self._onto[1]
        )
        return Parameters(expert, gate[:-1], model.noise_std.copy())

    def expert_rows(self, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        """Experts of raw features in this design's coordinates; intercepts fall away if it has none."""
        return _to_design(coef, intercept, self._of_all[0], self.fit_intercept, self._onto[0])

    def model(self, parameters: Parameters, **names: Any) -> MixtureOfExperts:
        """The model of raw features."""
        gate = np.vstack([parameters.gate, np.zeros((1, self.n_gate_columns))])
        coef, intercept = _to_raw(parameters.expert, self.standard, self.fit_intercept)
        gate_coef, gate_intercept = _to_raw(gate, self.gate_standard, self.gate_intercept)
        return MixtureOfExperts(
            coef, intercept, gate_coef, gate_intercept, parameters.noise_std, self.activation,
            gate=self.gate, uses_gate_features=self.rows.gate_features is not None, **names,
        )

    def seen(self, parameters: Parameters) -> Parameters:
        """The same, with zeros for columns that are left out: a start may have had any, and no row told."""
        expert = _of_seen(parameters.expert, self.standard, self.fit_intercept)
        return Parameters(
            expert, _of_seen(parameters.gate, self.gate_standard, self.gate_intercept), parameters.noise_std
        )

    def raw_maps(self) -> tuple[FloatArray, FloatArray]:
        """Matrices, (p, p) and (q, q), from a row of an expert's and of the gate's parameters to the raw numbers."""
        return (
            _raw_map(self.standard, self.fit_intercept),
            _raw_map(self.gate_standard, self.gate_intercept),
        )

    # ---- passes ----

    def run(
        self, parameters: Parameters, want: int, *, resp: FloatArray | None = None, linear: bool = False
    ) -> Sums:
        """One pass over the rows at some parameters.

        Parameters
        ----------
        parameters : Parameters
        want : int
            Any of `_em.EXPERT_GRAM`, `_em.GATE_GRAM`, `_em.INFORMATION`, `_em.ENTROPY`, added; with `_em.SINGLE` the
            matrices have seven digits.
        resp : ndarray of shape (n_samples, n_experts), optional
            Filled with the responsibilities.
        linear : bool
            As if the activation were linear.

        Returns
        -------
        sums : Sums
            Attributes as named in em_problem.h; symmetric matrices are whole.
        """
        activation = self.activation
        code = Code.LINEAR if linear else activation.code
        n_experts = parameters.n_experts
        parts, size, longest, n_threads, work = self._space(n_experts, want, code == Code.CUSTOM)
        rows, Z = self.rows, self.Z
        total, sums = np.zeros(size), np.empty(size)
        for span in rows.spans(longest):
            curve = self._curve(span, parameters.expert, want) if code == Code.CUSTOM else _NO_CURVE
            _em.em_pass(
                rows.X[span], None if Z is None else Z[span], rows.y[span],
                None if rows.weight is None else rows.weight[span],
                self.standard, self.gate_standard, self.fit_intercept, self.gate_intercept,
                parameters.expert, parameters.gate, parameters.noise_std, code, activation.slope,
                *curve, want, sums, None if resp is None else resp[span], work, n_threads,
            )
            total += sums
        return _named(total, parts)

    def pass_work(self, n_experts: int) -> int:
        """Multiplications of a pass, about."""
        return self.rows.n_samples * self._work_per_row(n_experts)

    def is_brief(self, n_experts: int) -> bool:
        """Whether Python's part of an EM step takes a share of its time worth saving, and its systems are small."""
        largest = max(self.n_columns, (n_experts - 1) * self.n_gate_columns)
        is_short = self.pass_work(n_experts) < _BRIEF
        return is_short and largest <= _BRIEF_SYSTEM and self.activation.code != Code.CUSTOM

    def climb(
        self, start: Parameters, objective: Objective, max_iter: int, gate_serves: int, quasi_newton: bool,
        **limits: float,
    ) -> tuple[Parameters, FloatArray, Sums, int]:
        """EM iterations in one call of the kernel, for a design that `is_brief`.

        Returns
        -------
        parameters : Parameters
        history : ndarray
            The objective before the first iteration and after each.
        sums : Sums
            Of the last pass, without curvatures.
        ended : int
            `_em.LAST_ITERATION`, `_em.CONVERGED` or `_em.HANDED_OVER`.
        """
        k, rows = start.n_experts, self.rows
        parts, size, _, n_threads, work = self._space(k, _em.EXPERT_GRAM | _em.GATE_GRAM, False)
        flat = np.concatenate([start.expert.ravel(), start.gate.ravel(), start.noise_std])
        places = np.zeros((3, flat.size))
        places[0] = flat
        largest = max(self.n_columns, start.gate.size)
        history, sums = np.empty(max_iter + 1), np.empty((2, size))
        memory = np.empty(_em.memory_size(k, self.n_columns, self.n_gate_columns) if quasi_newton else 0)
        n_iter, ended, last, n_passes = _em.em_climb(
            rows.X, self.Z, rows.y, rows.weight, self.standard, self.gate_standard, self.fit_intercept,
            self.gate_intercept, self.activation.code, self.activation.slope, places, k,
            objective.moves_noise, objective.shares_noise, objective.barrier, objective.gate_limit, gate_serves,
            quasi_newton, DEPENDENT, limits["goal"], limits["rounding"], history, sums,
            np.empty(3 * largest * largest + 2 * largest), memory, work, n_threads,
        )
        rows.reads.n_rows += n_passes * rows.n_samples
        end, n_expert, n_gate = places[0], start.expert.size, start.gate.size
        expert, gate, noise_std = end[:n_expert], end[n_expert : n_expert + n_gate], end[n_expert + n_gate :]
        parameters = Parameters(expert.reshape(start.expert.shape), gate.reshape(start.gate.shape), noise_std)
        of_every_pass = {name: part for name, part in parts.items() if not name.endswith("_gram")}
        return parameters, history[: n_iter + 1], _named(sums[last], of_every_pass), ended

    def _work_per_row(self, n_experts: int) -> int:
        """Multiplications: a Gram an expert, and some thirty for the exponentials of each."""
        return n_experts * (self.n_columns**2 + 30)

    def _work_of_pass(self, n_experts: int, want: int) -> int:
        """Multiplications per row of a pass asked for these matrices: with several experts most are the gate's."""
        k, p, q = n_experts, self.n_columns, self.n_gate_columns
        n_pairs = k * (k - 1) // 2
        work = self._work_per_row(k)
        if want & _em.GATE_GRAM:
            work += n_pairs * q * q
        if want & _em.INFORMATION:
            work += (n_pairs + k) * p * p + k * (k - 1) * p * q + n_pairs * q * q
        return work

    def _space(self, n_experts: int, want: int, custom: bool) -> tuple[Any, ...]:
        key = n_experts, want
        if key not in self._workspace:
            d, e = self.standard.shape[1], self.gate_standard.shape[1]
            shape = d, e, n_experts, self.fit_intercept, self.gate_intercept
            layout, size = _em.layout(*shape, want)
            parts = {name: (at, shape_, int(np.prod(shape_))) for name, (at, shape_) in layout.items()}
            longest = 1 << 15 if custom else span_rows(self._work_of_pass(n_experts, want))
            work = np.empty(
                _em.work_size(
                    min(longest, self.rows.n_samples), *shape, self.Z is not None, want, self.rows.n_threads
                )
            )
            # By what every pass costs: in a climb most sum none of the gate's matrices.
            n_threads = worthwhile_threads(self.rows.n_threads, self.rows.n_samples, self._work_per_row(n_experts))
            self._workspace[key] = parts, size, longest, n_threads, work
        return self._workspace[key]

    def _curve(self, span: slice, expert: FloatArray, want: int) -> _Curve:
        """g, g' and, for the information, g'' of a custom activation at every linear predictor of the span."""
        eta = _matrix(self.rows.X[span], self.standard, self.fit_intercept) @ expert.T
        g = self.activation
        # Overflow makes the log-likelihood no number, and the step that led there is not taken.
        with np.errstate(all="ignore"):
            bend = np.ascontiguousarray(g.second_derivative(eta)) if want & _em.INFORMATION else None
            mean, slope = np.ascontiguousarray(g.g(eta)), np.ascontiguousarray(g.derivative(eta))
        return mean, slope, bend


def _named(total: FloatArray, parts: dict[str, Any]) -> Sums:
    """The sums of a pass by name."""
    result = Sums(log_likelihood=total[0], entropy=total[1], total=total[2], finite=bool(np.isfinite(total).all()))
    for name, (offset, shape, length) in parts.items():
        setattr(result, name, total[offset : offset + length].reshape(shape))
    return result


def _standard(mean: FloatArray, std: FloatArray, centred: bool) -> FloatArray:
    """Shift and scale of the columns. Without an intercept to take the shift up, columns are only scaled."""
    size = std if centred else np.hypot(mean, std)
    scale = np.where(size > CONSTANT * np.abs(mean), size, 0.0)
    return np.stack([mean if centred else np.zeros_like(mean), 1.0 / np.where(scale > 0.0, scale, 1.0)])


def _matrix(X: NDArray[Any], standard: FloatArray, intercept: bool) -> FloatArray:
    design = np.ones((len(X), X.shape[1] + intercept))
    np.multiply(X - standard[0], standard[1], out=design[:, int(intercept) :])
    return design


def _without(standard: FloatArray, columns: NDArray[np.intp]) -> FloatArray:
    shift, scale = standard
    return np.stack([shift, np.where(np.isin(np.arange(len(scale)), columns), 0.0, scale)])


def _to_design(
    coef: FloatArray, intercept: FloatArray, standard: FloatArray, has_intercept: bool, onto: FloatArray | None
) -> FloatArray:
    shift, scale = standard
    rows = np.column_stack([intercept + coef @ shift, coef / scale]) if has_intercept else coef / scale
    return rows if onto is None else rows @ onto


def _of_seen(coefficients: FloatArray, standard: FloatArray, intercept: bool) -> FloatArray:
    seen = coefficients.copy()
    seen[:, int(intercept) :][:, standard[1] == 0.0] = 0.0
    return seen


def _to_raw(rows: FloatArray, standard: FloatArray, has_intercept: bool) -> tuple[FloatArray, FloatArray]:
    shift, scale = standard
    if not has_intercept:
        return rows * scale, np.zeros(len(rows))
    coef = rows[:, 1:] * scale
    return coef, rows[:, 0] - coef @ shift


def _raw_map(standard: FloatArray, has_intercept: bool) -> FloatArray:
    coef, intercept = _to_raw(np.eye(standard.shape[1] + has_intercept), standard, has_intercept)
    return np.column_stack([intercept, coef]).T if has_intercept else coef.T
