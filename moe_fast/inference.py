"""Standard errors of a fitted model, from the information in the rows it was fitted to."""

from __future__ import annotations

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag

from . import _em
from .activations import Code
from .checks import check_aligned, check_choice, check_flag, check_positive
from .config import one_blas_thread, resolve_threads
from .design import Design, Parameters, Sums
from .determined import Determined, flat_experts
from .exceptions import ConvergenceWarning
from .information import gradient, hessian, scores
from .model import MixtureOfExperts
from .objective import Objective
from .result import FitResult, expert_columns, gate_columns
from .rows import Rows
from .separation import may_separate, separated_pairs
from .summary import Block, Summary

__all__ = ["Estimates", "FreeParameters", "Inference", "ParameterArrays", "infer", "warn_if_no_maximum"]

FloatArray = NDArray[np.float64]

NOISES = ("per_expert", "shared", "held")

# Standard errors between the estimates and the maximum near them, above which they are no maximum.
_FAR = 0.3
_SAME_ROWS = 1e-6   # of log-likelihood per row: so near are those of a fit and of its model on the same rows
_N_NAMED = 12           # undetermined parameters that a message names
_SCORE_ROWS = 1 << 13   # rows whose scores are held at a time


@dataclass(frozen=True, eq=False)
class ParameterArrays:
    """One number, or one interval, for each number of a model, under the names that the model has for them.

    NaN where a parameter is held or undetermined, and in the gate's last row, which is zero by definition.

    Attributes
    ----------
    coef : ndarray of shape (n_experts, n_features, ...)
    intercept : ndarray of shape (n_experts, ...)
    gate_coef : ndarray of shape (n_experts, n_gate_features, ...)
    gate_intercept : ndarray of shape (n_experts, ...)
    noise_std : ndarray of shape (n_experts, ...)
    """

    coef: NDArray[Any]
    intercept: NDArray[Any]
    gate_coef: NDArray[Any]
    gate_intercept: NDArray[Any]
    noise_std: NDArray[Any]


_ARRAYS = tuple(ParameterArrays.__dataclass_fields__)


@dataclass(frozen=True, eq=False)
class FreeParameters:
    """Which numbers of a model were estimated; knows their order as a vector, that of `information.gradient`.

    Attributes
    ----------
    model : MixtureOfExperts
    noise : {"per_expert", "shared", "held"}
    fit_intercept, gate_intercept : bool
    experts_held : bool
        True: the gate alone was fitted.
    n_redundant : int
        How many of the numbers are coefficients of redundant columns, which a fit does not count.
    """

    model: MixtureOfExperts
    noise: str = "per_expert"
    fit_intercept: bool = True
    gate_intercept: bool = True
    experts_held: bool = False
    n_redundant: int = 0

    @classmethod
    def check(cls, fit: FitResult | MixtureOfExperts, **overrides: Any) -> FreeParameters:
        """What a fit says of itself, unless an override that is not None says other; a bare model has the defaults."""
        if not isinstance(fit, FitResult | MixtureOfExperts):
            raise TypeError(f"fit must be a FitResult or a MixtureOfExperts, got {type(fit).__name__}")
        model = fit.model if isinstance(fit, FitResult) else fit
        known = {name: getattr(fit, name) for name in overrides} if isinstance(fit, FitResult) else {}
        known |= {name: value for name, value in overrides.items() if value is not None}
        n_redundant = 0
        if isinstance(fit, FitResult):
            of_experts = 0 if known["experts_held"] else model.n_experts * len(fit.redundant_features)
            n_redundant = of_experts + (model.n_experts - 1) * len(fit.redundant_gate_features)
        free = cls(model, **known, n_redundant=n_redundant)
        check_choice(free.noise, "noise", NOISES)
        for name in ("fit_intercept", "gate_intercept", "experts_held"):
            check_flag(getattr(free, name), name)
        if free.noise == "shared" and np.ptp(model.noise_std) > 1e-12 * model.noise_std[0]:
            raise ValueError(f"noise is 'shared', but the model has noise_std {model.noise_std.tolist()}")
        for name, values in (("fit_intercept", model.intercept), ("gate_intercept", model.gate_intercept)):
            if not getattr(free, name) and values.any() and not (name == "fit_intercept" and free.experts_held):
                raise ValueError(f"{name} is False, but the model has such intercepts: {values.tolist()}")
        if free.n_parameters == 0:
            raise ValueError("nothing of this model was fitted: its experts are held, and its gate has no parameters")
        return free

    @property
    def n_parameters(self) -> int:
        return len(self.names)

    def objective(self, barrier: float) -> Objective:
        noise = self.model.noise_std if self.noise == "held" else self.noise
        return Objective(noise, barrier, not self.experts_held)

    def rows(self, X: Any, y: Any, gate_features: Any, sample_weight: Any, n_threads: int = 1) -> Rows:
        """Checked rows, their columns against those of the model; a table, if the model has a formula."""
        check_aligned(X, y=y, sample_weight=sample_weight, gate_features=gate_features)
        X, Z = self.model._check_inputs(X, gate_features)
        return Rows.check(X, y, sample_weight, Z if self.model.uses_gate_features else None, n_threads)

    def design(self, rows: Rows) -> Design:
        model = self.model
        fit_intercept = bool(self.fit_intercept or self.experts_held)   # held experts may have intercepts
        return Design(rows, model.activation, fit_intercept, model.gate, bool(self.gate_intercept))

    @cached_property
    def places(self) -> ParameterArrays:
        """Where in the vector each number of the model is; -1 where it is not free."""
        model, k = self.model, self.model.n_experts
        last = 0

        def take(n_rows: int, n_columns: int) -> NDArray[np.intp]:
            nonlocal last
            last += n_rows * n_columns
            return np.arange(last - n_rows * n_columns, last).reshape(n_rows, n_columns)

        def split(rows: NDArray[np.intp], has_intercept: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
            return rows[:, int(has_intercept) :], rows[:, 0] if has_intercept else np.full(k, -1)

        if self.experts_held:
            coef, intercept = np.full(model.coef.shape, -1), np.full(k, -1)
        else:
            coef, intercept = split(take(k, model.n_features + self.fit_intercept), self.fit_intercept)
        gate = take(k - 1, model.n_gate_features + self.gate_intercept)
        gate_coef, gate_intercept = split(np.vstack([gate, np.full((1, gate.shape[1]), -1)]), self.gate_intercept)
        noise = np.full(k, -1)
        if not self.experts_held and self.noise != "held":
            noise = np.broadcast_to(take(1 if self.noise == "shared" else k, 1).ravel(), k)
        return ParameterArrays(coef, intercept, gate_coef, gate_intercept, noise)

    @cached_property
    def blocks(self) -> tuple[tuple[str, list[tuple[str, int]]], ...]:
        """Name of each block of the table, and the (label, place) of its rows; experts count from 1."""
        places, columns, of_gate = self.places, expert_columns(self.model), gate_columns(self.model)
        blocks: list[tuple[str, list[tuple[str, int]]]] = []
        shared = self.noise == "shared"
        for j in range(self.model.n_experts):
            rows = [("intercept", places.intercept[j]), *zip(columns, places.coef[j], strict=True)]
            blocks.append((f"expert {j + 1}", rows if shared else [*rows, ("noise std", places.noise_std[j])]))
        if shared:
            blocks.append(("all experts", [("noise std", places.noise_std[0])]))
        for j in range(self.model.n_experts - 1):
            rows = [("intercept", places.gate_intercept[j]), *zip(of_gate, places.gate_coef[j], strict=True)]
            blocks.append((f"gate {j + 1}", rows))
        free = ((name, [(label, int(at)) for label, at in rows if at >= 0]) for name, rows in blocks)
        return tuple((name, rows) for name, rows in free if rows)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of each free parameter, in the order of the vector."""
        found = {at: f"{block}: {label}" for block, rows in self.blocks for label, at in rows}
        return tuple(found[at] for at in sorted(found))

    @cached_property
    def is_noise(self) -> NDArray[np.bool_]:
        """Which of the vector's numbers are standard deviations of the noise."""
        places = self.places.noise_std
        return np.isin(np.arange(self.n_parameters), places[places >= 0])

    def gate_row(self, expert: int) -> NDArray[np.intp]:
        """Places of an expert's numbers in the gate; none for the last expert."""
        row = np.append(self.places.gate_intercept[expert], self.places.gate_coef[expert])
        return row[row >= 0]

    def of_columns(self, features: Sequence[int], gate_features: Sequence[int]) -> NDArray[np.intp]:
        """Places of the coefficients of some columns of X, in the experts, and of some that the gate sees."""
        of_gate = self.places.gate_coef[:, list(gate_features)]
        found = np.append(self.places.coef[:, list(features)], of_gate)
        return found[found >= 0]

    def vector(self, model: MixtureOfExperts) -> FloatArray:
        """The free numbers of a model."""
        out = np.empty(self.n_parameters)
        for name in _ARRAYS:
            places = getattr(self.places, name)
            out[places[places >= 0]] = getattr(model, name)[places >= 0]
        return out

    def arrays(self, values: FloatArray) -> ParameterArrays:
        """Values of the free parameters, (P, ...), under the model's names."""
        padded = np.concatenate([values, np.full((1, *values.shape[1:]), np.nan)])   # place -1: NaN
        return ParameterArrays(*(padded[getattr(self.places, name)] for name in _ARRAYS))


@dataclass(frozen=True, eq=False, repr=False)
class Estimates(ABC):
    """Estimates, what is known of their errors, and the tables made of that.

    Attributes
    ----------
    free : FreeParameters
        Which numbers of the model are free.
    covariance : ndarray of shape (n_parameters, n_parameters)
        Of the estimates, in the units of the model, in the order of `parameter_names`; NaN in the rows and columns
        of parameters that are undetermined.
    log_likelihood : float
        At the estimates.
    n_samples : float
        Sum of the weights.
    notes : tuple of str
        Remarks, shown beneath the summary.
    """

    free: FreeParameters
    covariance: FloatArray
    log_likelihood: float
    n_samples: float
    notes: tuple[str, ...]

    @property
    def model(self) -> MixtureOfExperts:
        """The model whose numbers these are."""
        return self.free.model

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the free parameters: "expert 1: intercept", ...; experts count from 1."""
        return self.free.names

    @cached_property
    def estimates(self) -> FloatArray:
        """The free parameters, shape (n_parameters,), in the order of `parameter_names`."""
        return self.free.vector(self.model)

    @cached_property
    def undetermined(self) -> tuple[str, ...]:
        """Names of the parameters of which the rows say nothing; their standard errors are NaN."""
        return tuple(name for name, v in zip(self.free.names, np.diagonal(self.covariance), strict=True) if np.isnan(v))

    @cached_property
    def standard_errors(self) -> ParameterArrays:
        """Standard errors, in the shapes of the model's arrays."""
        return self.free.arrays(self._std_err)

    @cached_property
    def z_values(self) -> ParameterArrays:
        """Estimates in standard errors from zero; NaN for noise_std, which cannot be zero."""
        return self.free.arrays(self._z)

    @cached_property
    def p_values(self) -> ParameterArrays:
        """Two-sided probability of a z so far from zero, in the normal approximation."""
        return self.free.arrays(self._p)

    def conf_int(self, level: float = 0.95) -> ParameterArrays:
        """Confidence intervals, each parameter for itself.

        Parameters
        ----------
        level : float, default 0.95
            Probability that an interval is to cover its parameter.

        Returns
        -------
        intervals : ParameterArrays
            With a last axis of length two: lower and upper end.
        """
        return self.free.arrays(self._interval(check_positive(level, "level", below=1.0)))

    def summary(self, level: float = 0.95) -> Summary:
        """The table of coefficients: a block for each expert, then for each row of the gate.

        Parameters
        ----------
        level : float, default 0.95
            Of the intervals.

        Returns
        -------
        summary : Summary
            Prints in a terminal, shows as HTML in a notebook; ``summary.to_frame()`` is a pandas DataFrame.
        """
        level = check_positive(level, "level", below=1.0)
        interval = self._interval(level)
        values = np.column_stack([self.estimates, self._std_err, self._z, self._p, interval])
        tail = f"{(1 - level) / 2:.4g}", f"{(1 + level) / 2:.4g}"
        blocks = tuple(
            Block(name, tuple(label for label, _ in rows), values[[at for _, at in rows]])
            for name, rows in self.free.blocks
        )
        columns = ("coef", "std err", "z", "P>|z|", f"[{tail[0]}", f"{tail[1]}]")
        return Summary("Mixture of experts", self._header(), columns, blocks, (*self._standing_notes(), *self.notes))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source}, {len(self.free.names)} parameters of {self.model!r})"

    @property
    @abstractmethod
    def _source(self) -> str:
        """Where the covariance is from, for the header."""

    @abstractmethod
    def _interval(self, level: float) -> FloatArray:
        """Ends of the intervals, (P, 2)."""

    @cached_property
    def _std_err(self) -> FloatArray:
        return np.sqrt(np.diagonal(self.covariance))

    @cached_property
    def _z(self) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):   # refits may all have one number
            z = self.estimates / self._std_err
        z[self.free.is_noise] = np.nan
        return z

    @cached_property
    def _p(self) -> FloatArray:
        return 2.0 * scipy.special.ndtr(-np.abs(self._z))

    def _header(self) -> tuple[tuple[str, str], ...]:
        model, n_parameters = self.model, self.free.n_parameters - self.free.n_redundant
        aic = 2 * n_parameters - 2 * self.log_likelihood
        bic = n_parameters * np.log(self.n_samples) - 2 * self.log_likelihood
        noise = "held" if self.free.experts_held else self.free.noise.replace("_", " ")
        return (
            ("Dep. variable", model.target_name or "y"),
            ("Experts", f"{model.n_experts} {model.activation}"),
            ("Gate", model.gate),
            ("Noise", noise),
            ("Covariance", self._source),
            ("No. observations", f"{self.n_samples:.10g}"),
            ("No. parameters", str(n_parameters)),
            ("Log-likelihood", f"{self.log_likelihood:.4f}"),
            ("AIC", f"{aic:.2f}"),
            ("BIC", f"{bic:.2f}"),
        )

    def _standing_notes(self) -> list[str]:
        model, notes = self.model, []
        if model.n_experts > 1:
            notes.append(f"Gate: log odds against expert {model.n_experts}.")
        if self.free.experts_held:
            notes.append("Experts and noise are held.")
        elif self.free.noise == "held":
            held = ", ".join(f"{value:.6g}" for value in model.noise_std)
            notes.append(f"Noise std is held at {held}.")
        return notes


@dataclass(frozen=True, eq=False, repr=False)
class Inference(Estimates):
    """Standard errors, tests and intervals of a fitted model, from `infer`.

    Attributes
    ----------
    kind : {"observed", "sandwich"}
        Which covariance.
    """

    kind: str = "observed"

    @property
    def _source(self) -> str:
        return {"observed": "observed information", "sandwich": "sandwich (robust)"}[self.kind]

    def _interval(self, level: float) -> FloatArray:
        reach = float(scipy.special.ndtri((1.0 + level) / 2.0))
        estimates, std_err = self.estimates[:, np.newaxis], self._std_err[:, np.newaxis]
        sides = np.array([-reach, reach])
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):   # of what is no noise, it is not used
            positive = estimates * np.exp(sides * std_err / np.abs(estimates))
        return np.where(self.free.is_noise[:, np.newaxis], positive, estimates + sides * std_err)


@one_blas_thread()
def infer(
    fit: FitResult | MixtureOfExperts,
    X: ArrayLike,
    y: ArrayLike,
    *,
    gate_features: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    covariance: str = "observed",
    noise: str | None = None,
    fit_intercept: bool | None = None,
    gate_intercept: bool | None = None,
    experts_held: bool | None = None,
    n_threads: int | None = None,
) -> Inference:
    """Standard errors, tests and confidence intervals of a fitted model.

    Parameters
    ----------
    fit : FitResult or MixtureOfExperts
        A fit, or its model. What was held, shared or left out is known from a FitResult.
    X : array_like of shape (n_samples, n_features)
        The inputs that the model was fitted to; a table, if it was fitted by `fit_formula`.
    y : array_like of shape (n_samples,)
        Their targets.
    gate_features : array_like of shape (n_samples, n_gate_features), optional
        The gate's own features: needed if the model uses them.
    sample_weight : array_like of shape (n_samples,), optional
        The weights of the fit. Weight 2 is the row twice, so that all weights doubled divide errors by sqrt(2).
    covariance : {"observed", "sandwich"}, default "observed"
        "observed": the inverse of the observed information, right if the model is. "sandwich": robust, eq. (I.2) of
        docs/math.md, right for large data also where noise is not normal or not as even as the model has it.
    noise : {"per_expert", "shared", "held"}, optional
        How the noise was fitted. Default: as the fit says; "per_expert" for a bare model.
    fit_intercept, gate_intercept : bool, optional
        Whether experts, and gate, were fitted with intercepts. Default: as the fit says; True for a bare model.
    experts_held : bool, optional
        Whether the gate alone was fitted. Default: as the fit says; False for a bare model.
    n_threads : int, optional
        As for `fit`.

    Returns
    -------
    inference : Inference
        ``standard_errors``, ``z_values``, ``p_values``, ``conf_int()``, ``covariance``, ``summary()``. Intervals of
        noise_std are symmetric on the log scale, so that they stay positive.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad.

    Warns
    -----
    UserWarning
        If parameters are undetermined (columns that depend on each other, an expert without rows or with all
        rows on the flat side of its ReLU, a dummy that is zero in all of an expert's rows, gates that separate): named,
        with NaN as standard error. All other parameters are as they would be with those held.
    ConvergenceWarning
        If the model is no maximum of the likelihood of these rows: they are not those of the fit, or it had not
        converged.

    Notes
    -----
    One more pass over the rows, and for the sandwich, or where something is hardly determined, a slower one in numpy. A
    fit with the barrier (``fit.penalised``) has the curvature of what it maximised. The (leaky) ReLU has no second
    derivative at its kink; what is used leaves the kink out, which is right for large data if the model is
    (docs/inference.md).

    Examples
    --------
    >>> import moe_fast as mf
    >>> sim = mf.make_moe(n_samples=2000, n_features=5, n_experts=2, random_state=0)
    >>> fit = mf.fit(sim.X, sim.y, n_experts=2, random_state=0)
    >>> inference = mf.infer(fit, sim.X, sim.y)
    >>> inference.standard_errors.coef.shape, inference.conf_int().noise_std.shape
    ((2, 5), (2, 2))
    """
    free = FreeParameters.check(
        fit, noise=noise, fit_intercept=fit_intercept, gate_intercept=gate_intercept, experts_held=experts_held
    )
    check_choice(covariance, "covariance", ("observed", "sandwich"))
    rows = free.rows(X, y, gate_features, sample_weight, resolve_threads(n_threads))
    design = free.design(rows)
    parameters = design.parameters(free.model)
    barrier = fit.barrier if isinstance(fit, FitResult) else 0.0
    objective = free.objective(barrier)

    steep, may_be_flat = may_separate(parameters), design.activation.code != Code.LINEAR
    want = _em.INFORMATION | (_em.GATE_GRAM if steep else 0) | (_em.EXPERT_GRAM if may_be_flat else 0)
    sums = design.run(parameters, want)
    if not sums.finite:
        raise ValueError("the log-likelihood of these rows is not finite at the model; scale X or y down")
    groups = _unseparated(parameters, sums) if steep else [list(range(parameters.n_experts))]
    infinite = np.zeros(free.n_parameters, bool)
    for expert in itertools.chain(*groups[1:]):
        infinite[free.gate_row(expert)] = True
    determined = Determined.of(design, parameters, objective, sums, -hessian(sums, parameters, objective))
    bread = determined.inverse
    slope = gradient(sums, parameters, objective)
    warn_if_no_maximum(fit, float(slope @ bread @ slope), float(sums.log_likelihood), sums.total, stacklevel=4)
    if covariance == "sandwich":
        bread = bread @ _outer_products(design, parameters, objective) @ bread

    to_raw = _to_raw(design, parameters, free)
    undetermined = infinite | determined.leaves_out(to_raw)
    matrix = to_raw @ bread @ to_raw.T
    matrix[undetermined] = matrix[:, undetermined] = np.nan
    notes = _explain(free, undetermined, groups, flat_experts(sums) if may_be_flat else [], determined.upward)
    if barrier:
        notes = (*notes, "Curvature of the likelihood with the barrier on noise std, which the fit maximised.")
    return Inference(free, matrix, float(sums.log_likelihood), rows.total_weight, notes, kind=covariance)


def _to_raw(design: Design, parameters: Parameters, free: FreeParameters) -> FloatArray:
    """Derivative of the free parameters, in the model's units, with respect to those of `information.gradient`."""
    expert, gate = design.raw_maps()
    k, objective = parameters.n_experts, free.objective(0.0)
    noise = parameters.noise_std if objective.moves_noise else np.empty(0)   # d sigma / d log sigma
    return block_diag(
        *[expert] * (k if objective.move_experts else 0),
        *[gate] * (k - 1),
        np.diag(noise[:1] if objective.shares_noise else noise),
    )


def warn_if_no_maximum(
    fit: FitResult | MixtureOfExperts, square: float, log_likelihood: float, weight: float, stacklevel: int
) -> None:
    """Warn where the maximum of these rows' likelihood is not at the model, whose log-likelihood there is given.

    `square`: of the distance, in standard errors; twice what is to be gained. A fit that converged on these rows is
    believed: a ReLU expert of its may rest on a kink, with a row's gradient left.
    """
    distance = math.sqrt(max(square, 0.0))
    if distance <= _FAR:
        return
    if isinstance(fit, FitResult) and fit.converged and abs(log_likelihood - fit.log_likelihood) <= _SAME_ROWS * weight:
        return
    warnings.warn(
        f"the model is no maximum of the likelihood of these rows, which lies about {distance:.2g} standard "
        f"errors away: pass the rows, targets and weights of the fit, and let it converge",
        ConvergenceWarning, stacklevel=stacklevel,
    )


def _outer_products(design: Design, parameters: Parameters, objective: Objective) -> FloatArray:
    """Sum over rows of their scores' outer products, eq. (I.2) of docs/math.md."""
    total: Any = 0.0
    for span in design.rows.spans(_SCORE_ROWS):
        block = design.on(design.rows.take(span))
        score = scores(block, parameters, objective)
        weight = block.rows.weight
        total = total + score.T @ (score if weight is None else weight[:, np.newaxis] * score)
    return total


def _unseparated(parameters: Parameters, sums: Sums) -> list[list[int]]:
    """Experts in groups that the gate separates from each other without error; that of the last expert first."""
    touching = np.ones((parameters.n_experts,) * 2, bool)
    for pair in separated_pairs(parameters, sums):
        touching[pair] = touching[pair[::-1]] = False
    labels = scipy.sparse.csgraph.connected_components(touching, directed=False)[1]
    groups = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    return sorted(groups, key=lambda group: parameters.n_experts - 1 not in group)


def _explain(
    free: FreeParameters, undetermined: NDArray[np.bool_], groups: list[list[int]], flat: list[int], upward: bool
) -> tuple[str, ...]:
    """Warn of what is undetermined, parameter by parameter, and why; the same as notes."""
    if not undetermined.any():
        return ()

    def listed(experts: list[int]) -> str:
        return ", ".join(str(expert + 1) for expert in experts)

    names = [name for name, is_so in zip(free.names, undetermined, strict=True) if is_so]
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    message = f"undetermined by these rows, standard error NaN: {', '.join(names[:_N_NAMED])}{more}"
    if flat and not free.experts_held:
        message += f"; the {free.model.activation} is flat on all rows of expert {listed(flat)}"
    if len(groups) > 1:
        message += f"; the gate separates experts {' from '.join(map(listed, sorted(groups)))} without error"
    elif upward and not flat:
        message += (
            "; the likelihood does not curve down there, so that the model is no maximum, or one with a ReLU at its "
            "kink: let the fit converge, or use bootstrap"
        )
    warnings.warn(message, UserWarning, stacklevel=4)
    return (message[0].upper() + message[1:] + ".",)
