"""The model: its parameters, and all that can be asked of them.

``P(z = k | x) = softmax_k(gate_coef @ x + gate_intercept)`` and
``y | x, z = k ~ N(g(coef[k] @ x + intercept[k]), noise_std[k]**2)``.

What knows the softmax gate is in `_log_gate`, what knows the Gaussian noise and the scalar target in
`_log_noise`, `sample` and distribution.py; the rest of the file is common to every mixture of experts.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from . import checks
from .activations import Activation, Code, LeakyReLU, get_activation
from .checks import (
    check_aligned,
    check_choice,
    check_flag,
    check_integer,
    check_matrix,
    check_positive,
    check_probabilities,
    check_random_state,
    check_vector,
    check_weights,
)
from .distribution import log_sum_exp, mixture_cdf, mixture_quantile, mixture_std, standardise
from .formula import Formula, as_frame

__all__ = ["MixtureOfExperts", "load", "match_experts"]

FloatArray = NDArray[np.float64]

FORMAT = "moe_fast.model"
VERSION = 1
GATES = ("softmax", "constant")

_ARRAYS = ("coef", "intercept", "gate_coef", "gate_intercept", "noise_std")
_PLAIN = ("gate", "feature_names", "gate_feature_names", "uses_gate_features", "target_name")

# A block's (rows, n_experts) temporaries stay in cache, and a float32 X is widened a block at a time.
# With 4096 rows OpenBLAS starts threads for products this small: 5 to 10 times slower where other work runs
# beside it (responsibilities, 100 000 rows, d=16 k=8 and d=50 k=5, 2 cores). On one thread 2048 is within 5 %
# of the best size.
_BLOCK_ROWS = 2048


@dataclass(frozen=True, init=False, eq=False, repr=False)
class MixtureOfExperts:
    """A mixture of regressions whose mixing probabilities depend on x.

    Immutable: the arrays are read-only float64 copies of what was given.

    Parameters
    ----------
    coef : array_like of shape (n_experts, n_features)
        Coefficients of the experts, in the units of X (and, for linear experts, of y).
    intercept : array_like of shape (n_experts,), default zeros
        Intercepts of the experts.
    gate_coef : array_like of shape (n_experts, n_gate_features), default zeros
        Coefficients of the gate. Only differences between rows matter; the last row is subtracted from all,
        so that it is zero in the attribute. Shape (n_experts, 0) for ``gate="constant"``.
    gate_intercept : array_like of shape (n_experts,), default zeros
        Intercepts of the gate, shifted in the same way.
    noise_std : float or array_like of shape (n_experts,), default 1.0
        Standard deviation of the noise, positive. A number stands for all experts.
    activation : str or Activation, default "linear"
        The function g.
    gate : {"softmax", "constant"}, default "softmax"
        "constant": mixing weights that do not depend on x.
    feature_names, gate_feature_names : sequence of str, optional
        Names of the columns; a frame with other names is refused later.
    uses_gate_features : bool, default False
        True if the gate has features of its own in place of X.
    target_name : str, optional
        Name of y, for tables and pictures.
    formula : Formula, optional
        What makes X, and the gate's features, of a table: as `fit_formula` gives it. Then every X below may be a
        data frame, or mapping, with the columns that the formula names, and `gate_features` is left out.

    Raises
    ------
    ValueError, TypeError
        If a shape, a value or a kind is not as above.
    """

    coef: FloatArray
    intercept: FloatArray
    gate_coef: FloatArray
    gate_intercept: FloatArray
    noise_std: FloatArray
    activation: Activation
    gate: str
    feature_names: tuple[str, ...] | None
    gate_feature_names: tuple[str, ...] | None
    uses_gate_features: bool
    target_name: str | None
    formula: Formula | None

    def __init__(
        self,
        coef: ArrayLike,
        intercept: ArrayLike | None = None,
        gate_coef: ArrayLike | None = None,
        gate_intercept: ArrayLike | None = None,
        noise_std: ArrayLike = 1.0,
        activation: str | Activation = "linear",
        *,
        gate: str = "softmax",
        feature_names: Sequence[str] | None = None,
        gate_feature_names: Sequence[str] | None = None,
        uses_gate_features: bool = False,
        target_name: str | None = None,
        formula: Formula | None = None,
    ) -> None:
        coef = _numbers(coef, "coef")
        if coef.ndim != 2 or coef.size == 0:
            raise ValueError(f"coef has shape {coef.shape}, expected (n_experts, n_features), both positive")
        n_experts, n_features = coef.shape
        gate = check_choice(gate, "gate", GATES)
        if check_flag(uses_gate_features, "uses_gate_features"):
            if gate == "constant":
                raise ValueError('uses_gate_features is True, but a gate="constant" has no features')
            if gate_coef is None:
                raise ValueError("gate_coef is missing; uses_gate_features=True needs it")
            gate_coef = _numbers(gate_coef, "gate_coef")
            n_gate_features = max([1, *gate_coef.shape[1:]])   # as many as it has columns, but at least one
        else:
            n_gate_features = 0 if gate == "constant" else n_features
        gate_coef = _parameter(gate_coef, "gate_coef", n_experts=n_experts, n_gate_features=n_gate_features)

        intercept = _parameter(intercept, "intercept", n_experts=n_experts)
        gate_intercept = _parameter(gate_intercept, "gate_intercept", n_experts=n_experts)
        noise_std = _numbers(noise_std, "noise_std")
        if noise_std.ndim == 0:
            noise_std = np.full(n_experts, noise_std)
        noise_std = _parameter(noise_std, "noise_std", n_experts=n_experts)
        if not (noise_std > 0).all():
            raise ValueError(f"noise_std must be positive, got {noise_std.tolist()}")
        if gate_feature_names is not None and not uses_gate_features:
            raise ValueError("gate_feature_names were given, but uses_gate_features is False")
        if target_name is not None and not isinstance(target_name, str):
            raise TypeError(f"target_name must be text or None, got {target_name!r}")
        if not isinstance(formula, Formula | None):
            raise TypeError(f"formula must be a Formula or None, got {formula!r}")

        self._set(
            coef=coef,
            intercept=intercept,
            gate_coef=gate_coef - gate_coef[-1],
            gate_intercept=gate_intercept - gate_intercept[-1],
            noise_std=noise_std,
            activation=get_activation(activation),
            gate=gate,
            feature_names=_names(feature_names, "feature_names", n_features),
            gate_feature_names=_names(gate_feature_names, "gate_feature_names", gate_coef.shape[1]),
            uses_gate_features=bool(uses_gate_features),
            target_name=target_name,
            formula=formula,
        )

    def _set(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(**state)   # numpy pickles arrays without their read-only flag

    @property
    def n_experts(self) -> int:
        """Number of experts."""
        return self.coef.shape[0]

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return self.coef.shape[1]

    @property
    def n_gate_features(self) -> int:
        """Number of features the gate sees: those of X, its own, or none if it is constant."""
        return self.gate_coef.shape[1]

    def __repr__(self) -> str:
        gate_features = f", n_gate_features={self.n_gate_features}" if self.uses_gate_features else ""
        return (
            f"MixtureOfExperts(n_experts={self.n_experts}, n_features={self.n_features}, "
            f"activation={self.activation.name!r}, gate={self.gate!r}{gate_features})"
        )

    def __eq__(self, other: object) -> bool:
        """Equal in every parameter, bit for bit but for the sign of zero, and in every name."""
        if not isinstance(other, MixtureOfExperts):
            return NotImplemented
        return (
            all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _ARRAYS)
            and self.activation == other.activation
            and all(getattr(self, name) == getattr(other, name) for name in (*_PLAIN, "formula"))
        )

    # ---- what the model says of rows ----

    def expert_means(self, X: ArrayLike) -> FloatArray:
        """Mean of y under each expert.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs; read in blocks of rows, not copied as a whole.

        Returns
        -------
        means : ndarray of shape (n_samples, n_experts)
        """
        X = self._check_X(X)
        means = np.empty((len(X), self.n_experts))
        for rows in _blocks(len(X)):
            means[rows] = self._means(X[rows])
        return means

    @np.errstate(under="ignore")
    def gate_proba(self, X: ArrayLike, *, gate_features: ArrayLike | None = None) -> FloatArray:
        """Probability of each expert before y is seen, ``P(z = k | x)``.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs.
        gate_features : array_like of shape (n_samples, n_gate_features), optional
            The gate's own features: needed if the model uses them, refused otherwise.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_experts)
            Rows sum to one.
        """
        X, Z = self._check_inputs(X, gate_features)
        proba = np.empty((len(X), self.n_experts))
        for rows in _blocks(len(X)):
            proba[rows] = np.exp(self._log_gate(Z[rows]))
        return proba

    @np.errstate(under="ignore")
    def predict(
        self, X: ArrayLike, *, top_k: int | None = None, gate_features: ArrayLike | None = None
    ) -> FloatArray:
        """Mean of y given x.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs.
        top_k : int, optional
            Use only the `top_k` experts of largest gate probability in each row (ties to the lower index),
            with their probabilities scaled to sum to one. Default: all.
        gate_features : array_like of shape (n_samples, n_gate_features), optional
            The gate's own features: needed if the model uses them, refused otherwise.

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        X, Z = self._check_inputs(X, gate_features)
        if top_k is None:
            top_k = self.n_experts
        top_k = check_integer(top_k, "top_k", 1, self.n_experts)
        y = np.empty(len(X))
        for rows in _blocks(len(X)):
            log_proba = self._log_gate(Z[rows])
            if top_k < self.n_experts:
                unlikely = np.argsort(-log_proba, axis=1, kind="stable")[:, top_k:]
                np.put_along_axis(log_proba, unlikely, -np.inf, axis=1)
                log_proba = _log_softmax(log_proba)
            y[rows] = np.sum(np.exp(log_proba) * self._means(X[rows]), axis=1)
        return y

    def predict_std(self, X: ArrayLike, *, gate_features: ArrayLike | None = None) -> FloatArray:
        """Standard deviation of y given x.

        Parameters
        ----------
        X, gate_features
            As for `gate_proba`.

        Returns
        -------
        std : ndarray of shape (n_samples,)
            Of the whole mixture: the noise within experts, and the distance between them. It leaves out that the
            parameters are estimates.
        """
        X, Z = self._check_inputs(X, gate_features)
        std = np.empty(len(X))
        for rows in _blocks(len(X)):
            std[rows] = mixture_std(self._log_gate(Z[rows]), self._means(X[rows]), self.noise_std)
        return std

    def cdf(self, X: ArrayLike, y: ArrayLike, *, gate_features: ArrayLike | None = None) -> FloatArray:
        """Distribution function of y given x, row by row.

        Parameters
        ----------
        X, y, gate_features
            As for `log_density`.

        Returns
        -------
        cdf : ndarray of shape (n_samples,)
            ``P(Y <= y | x)``; small values keep their relative precision. On rows that follow the model it is uniform.
        """
        X, y, Z = self._check_rows(X, y, gate_features)
        cdf = np.empty(len(X))
        for rows in _blocks(len(X)):
            cdf[rows] = mixture_cdf(y[rows], self._log_gate(Z[rows]), self._means(X[rows]), self.noise_std)
        return cdf

    def quantile(
        self, X: ArrayLike, q: float | ArrayLike, *, gate_features: ArrayLike | None = None
    ) -> FloatArray:
        """Quantiles of y given x: `cdf` the other way.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs.
        q : float or array_like of shape (n_quantiles,)
            Probabilities, from 0 (whose quantile is -inf) to 1 (inf).
        gate_features : array_like of shape (n_samples, n_gate_features), optional
            The gate's own features: needed if the model uses them, refused otherwise.

        Returns
        -------
        y : ndarray of shape (n_samples,), or (n_samples, n_quantiles) for a vector of probabilities
            Between experts far apart a whole interval may have the probability q, to rounding; y is one of its points.
        """
        X, Z = self._check_inputs(X, gate_features)
        levels = check_probabilities(q, "q")
        y = np.empty((len(X), levels.size))
        for rows in _blocks(len(X)):
            log_weights, means = self._log_gate(Z[rows]), self._means(X[rows])
            for column, level in enumerate(levels.ravel()):
                y[rows, column] = mixture_quantile(float(level), log_weights, means, self.noise_std)
        return y if levels.ndim else y[:, 0]

    def predict_interval(
        self, X: ArrayLike, level: float = 0.95, *, gate_features: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Interval that holds y with a given probability, given x.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs.
        level : float, default 0.95
            The probability, between 0 and 1.
        gate_features : array_like of shape (n_samples, n_gate_features), optional
            The gate's own features: needed if the model uses them, refused otherwise.

        Returns
        -------
        lower, upper : ndarray of shape (n_samples,)
            The quantiles at ``(1 - level) / 2`` and ``(1 + level) / 2``: as much probability lies below as above. For
            experts far apart the interval spans the gap between them. It leaves out that the parameters are estimates.
        """
        outside = 0.5 * (1.0 - check_positive(level, "level", below=1.0))
        lower, upper = self.quantile(X, [outside, 1.0 - outside], gate_features=gate_features).T
        return lower, upper

    def log_density(
        self, X: ArrayLike, y: ArrayLike, *, gate_features: ArrayLike | None = None
    ) -> FloatArray:
        """Log density of y given x, row by row.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs.
        y : array_like of shape (n_samples,)
            Targets.
        gate_features : array_like of shape (n_samples, n_gate_features), optional
            The gate's own features: needed if the model uses them, refused otherwise.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural log; finite however far out y lies.
        """
        X, y, Z = self._check_rows(X, y, gate_features)
        log_density = np.empty(len(X))
        for rows in _blocks(len(X)):
            log_density[rows] = log_sum_exp(self._log_joint(X[rows], y[rows], Z[rows]))
        return log_density

    @np.errstate(under="ignore")
    def responsibilities(
        self, X: ArrayLike, y: ArrayLike, *, gate_features: ArrayLike | None = None
    ) -> FloatArray:
        """Probability of each expert once y is seen, ``P(z = k | x, y)``.

        Parameters
        ----------
        X, y, gate_features
            As for `log_density`.

        Returns
        -------
        resp : ndarray of shape (n_samples, n_experts)
            Rows sum to one.
        """
        X, y, Z = self._check_rows(X, y, gate_features)
        resp = np.empty((len(X), self.n_experts))
        for rows in _blocks(len(X)):
            resp[rows] = np.exp(_log_softmax(self._log_joint(X[rows], y[rows], Z[rows])))
        return resp

    def predict_expert(
        self, X: ArrayLike, y: ArrayLike | None = None, *, gate_features: ArrayLike | None = None
    ) -> NDArray[np.intp]:
        """The likeliest expert of each row.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs.
        y : array_like of shape (n_samples,), optional
            Targets. With them the expert of largest responsibility, without them the one of largest gate probability.
        gate_features : array_like of shape (n_samples, n_gate_features), optional
            The gate's own features: needed if the model uses them, refused otherwise.

        Returns
        -------
        labels : ndarray of int, shape (n_samples,)
            0 to n_experts - 1; ties go to the lower.
        """
        if y is None:
            return self.gate_proba(X, gate_features=gate_features).argmax(axis=1)
        return self.responsibilities(X, y, gate_features=gate_features).argmax(axis=1)

    def log_likelihood(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        gate_features: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Sum of the log density over rows, each times its weight.

        Parameters
        ----------
        X, y, gate_features
            As for `log_density`.
        sample_weight : array_like of shape (n_samples,), optional
            Non-negative weights; default one for every row.

        Returns
        -------
        log_likelihood : float
            Natural log.
        """
        log_density = self.log_density(X, y, gate_features=gate_features)
        weight = check_weights(sample_weight, len(log_density))
        return float(np.sum(log_density if weight is None else weight * log_density))

    def mixing_weights(
        self,
        X: ArrayLike,
        *,
        gate_features: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> FloatArray:
        """Mean gate probability of each expert over rows, each counted with its weight.

        Parameters
        ----------
        X, gate_features
            As for `gate_proba`.
        sample_weight : array_like of shape (n_samples,), optional
            Non-negative weights; default one for every row.

        Returns
        -------
        mixing_weights : ndarray of shape (n_experts,)
            Sums to one.
        """
        proba = self.gate_proba(X, gate_features=gate_features)
        return np.average(proba, axis=0, weights=check_weights(sample_weight, len(proba)))

    @np.errstate(under="ignore")
    def sample(
        self,
        X: ArrayLike,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        *,
        gate_features: ArrayLike | None = None,
    ) -> tuple[FloatArray, NDArray[np.intp]]:
        """Draw an expert and a target for every row.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs.
        random_state : None, int, Generator or RandomState, optional
            Where randomness comes from.
        gate_features : array_like of shape (n_samples, n_gate_features), optional
            The gate's own features: needed if the model uses them, refused otherwise.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Targets.
        labels : ndarray of shape (n_samples,)
            The experts they came from, 0 to n_experts - 1.
        """
        X, Z = self._check_inputs(X, gate_features)
        rng = check_random_state(random_state)
        uniform, y = rng.random(len(X)), rng.standard_normal(len(X))
        labels = np.empty(len(X), dtype=np.intp)
        for rows in _blocks(len(X)):
            cumulative = np.cumsum(np.exp(self._log_gate(Z[rows])), axis=1)
            # The last sum is left out: it may round to less than one.
            labels[rows] = np.sum(uniform[rows, None] >= cumulative[:, :-1], axis=1)
            means = np.take_along_axis(self._means(X[rows]), labels[rows, None], axis=1)[:, 0]
            y[rows] = means + self.noise_std[labels[rows]] * y[rows]
        return y, labels

    # ---- the order of the experts ----

    def permute(self, order: ArrayLike) -> MixtureOfExperts:
        """The same model with its experts in another order.

        Parameters
        ----------
        order : array_like of int, shape (n_experts,)
            Expert ``order[k]`` becomes expert k; the gate is shifted so that its last row is zero again.

        Returns
        -------
        model : MixtureOfExperts
        """
        experts = np.asarray(order)
        if experts.dtype.kind not in "iu" or sorted(experts.ravel().tolist()) != list(range(self.n_experts)):
            raise ValueError(f"order must hold each of 0 to {self.n_experts - 1} once, got {order!r}")
        return self._replace(**{name: getattr(self, name)[experts] for name in _ARRAYS})

    def with_formula(self, formula: Formula) -> MixtureOfExperts:
        """The same model with a formula that makes its features of a table.

        Parameters
        ----------
        formula : Formula

        Returns
        -------
        model : MixtureOfExperts
        """
        return self._replace(formula=formula)

    def _replace(self, **changes: Any) -> MixtureOfExperts:
        unchanged = {name: getattr(self, name) for name in (*_ARRAYS, *_PLAIN, "activation", "formula")}
        return MixtureOfExperts(**(unchanged | changes))

    def ordered(
        self,
        X: ArrayLike,
        *,
        gate_features: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> MixtureOfExperts:
        """The same model with its experts in the documented order.

        By falling mixing weight (mean gate probability over the rows of X); ties by intercept, then by
        coefficients, from small to large.

        Parameters
        ----------
        X, gate_features, sample_weight
            As for `mixing_weights`.

        Returns
        -------
        model : MixtureOfExperts
        """
        weights = self.mixing_weights(X, gate_features=gate_features, sample_weight=sample_weight)
        return self.permute(self.documented_order(weights))

    def documented_order(self, mixing_weights: ArrayLike) -> NDArray[np.intp]:
        """The order that `ordered` puts the experts in, for `permute`.

        Parameters
        ----------
        mixing_weights : array_like of shape (n_experts,)
            As `mixing_weights` gives them.

        Returns
        -------
        order : ndarray of int, shape (n_experts,)
        """
        # Rounded, so that a tie is a tie in whichever order the experts came.
        falling = -np.round(np.asarray(mixing_weights), 12)
        # lexsort: the last key counts first.
        return np.lexsort((*self.coef.T[::-1], self.intercept, falling))

    # ---- to and from a file ----

    def to_dict(self) -> dict[str, Any]:
        """The model as plain numbers, text and lists, as `save` writes it.

        Returns
        -------
        document : dict
            Holds "format" and "version"; every float in it is exact.
        """
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        plain = {name: getattr(self, name) for name in _PLAIN}
        names = {name: list(value) for name, value in plain.items() if isinstance(value, tuple)}
        return {
            "format": FORMAT,
            "version": VERSION,
            "activation": {
                "name": self.activation.name,
                "slope": float(self.activation.slope),
                "custom": self.activation.code == Code.CUSTOM,
            },
            **arrays,
            **plain,
            **names,
            **({"formula": self.formula.to_dict()} if self.formula else {}),
        }

    @classmethod
    def from_dict(
        cls, document: dict[str, Any], activation: str | Activation | None = None
    ) -> MixtureOfExperts:
        """The model that `to_dict` described.

        Parameters
        ----------
        document : dict
            As from `to_dict`.
        activation : Activation, optional
            Needed if the model has an activation of the user's own, of which a document holds only the name.

        Returns
        -------
        model : MixtureOfExperts

        Raises
        ------
        ValueError, TypeError
            If the document is of another format or a newer version, lacks a key or has one too many, or holds
            what is no model.
        """
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f'not a moe_fast model: expected a JSON object with "format": "{FORMAT}"')
        version = document.get("version")
        if type(version) is not int or version < 1:
            raise ValueError(f"version must be a whole number from 1 on, got {version!r}")
        if version > VERSION:
            raise ValueError(f"version is {version}, this moe_fast reads up to {VERSION}; upgrade moe_fast")
        optional = {"formula"} & document.keys()
        _check_keys(document, "the document", {"format", "version", "activation", *_ARRAYS, *_PLAIN, *optional})
        for name in _ARRAYS:
            if not isinstance(document[name], list):   # null would stand for the default
                raise TypeError(f"{name} must be a list of numbers, got {document[name]!r}")
        return cls(
            **{name: document[name] for name in (*_ARRAYS, *_PLAIN)},
            activation=_activation_from_dict(document["activation"], activation),
            formula=Formula.from_dict(document["formula"]) if optional else None,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a JSON file that `load` reads.

        The file appears at once or not at all: what was there before stays until the new one is whole.

        Parameters
        ----------
        path : path-like
            The file; replaced if it exists.
        """
        target = Path(path).resolve()   # through a symbolic link, as open() would write
        if not target.parent.is_dir():
            raise FileNotFoundError(f"cannot save {os.fspath(path)!r}: no folder {str(target.parent)!r}")
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        # open() gives the usual permissions, which tempfile would narrow to the owner's.
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with open(temporary, "x", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    # ---- what knows the kind of expert, gate and noise; on blocks of checked rows ----

    def _means(self, X: NDArray[Any]) -> FloatArray:
        return self.activation.g(_affine(X, self.coef, self.intercept))

    def _log_gate(self, Z: NDArray[Any]) -> FloatArray:
        return _log_softmax(_affine(Z, self.gate_coef, self.gate_intercept))

    def _log_noise(self, y: FloatArray, means: FloatArray) -> FloatArray:
        residual = standardise(y, means, self.noise_std)
        return -0.5 * residual**2 - np.log(self.noise_std) - 0.5 * np.log(2 * np.pi)

    def _log_joint(self, X: NDArray[Any], y: FloatArray, Z: NDArray[Any]) -> FloatArray:
        return self._log_gate(Z) + self._log_noise(y, self._means(X))

    # ---- the border ----

    def matrices(self, X: ArrayLike, gate_features: ArrayLike | None = None) -> tuple[ArrayLike, ArrayLike | None]:
        """X and gate_features as the parameters take them: what the model's formula makes of a table.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features), or table with the columns that the formula names
        gate_features : array_like of shape (n_samples, n_gate_features), optional

        Returns
        -------
        X, gate_features
            Unchanged if the model has no formula, or X is a matrix of features already: an array, or a frame whose
            columns are named as the features.
        """
        X = self._table(X)
        if gate_features is None and self.formula is not None and checks.feature_names(X) is not None:
            gate_features = self.formula.gate_features(X)
        return self._features(X), gate_features

    def _table(self, X: Any) -> Any:
        """A mapping as the frame that a formula reads."""
        return as_frame(X) if self.formula is not None and isinstance(X, Mapping) else X

    def _features(self, X: ArrayLike) -> ArrayLike:
        X = self._table(X)
        names = checks.feature_names(X)
        if self.formula is None or names is None or tuple(names) == self.feature_names:
            return X
        return self.formula.features(X)

    def _check_X(self, X: ArrayLike) -> NDArray[Any]:
        X = self._features(X)
        _check_names(X, "X", self.feature_names)
        return check_matrix(X, "X", n_features=self.n_features, allow_f_order=True)

    def _check_inputs(
        self, X: ArrayLike, gate_features: ArrayLike | None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """X, and the matrix Z that the gate sees."""
        X, gate_features = self.matrices(X, gate_features)
        X = self._check_X(X)
        if self.uses_gate_features:
            if gate_features is None:
                raise ValueError("gate_features are needed: this model's gate has features of its own")
            _check_names(gate_features, "gate_features", self.gate_feature_names)
            Z = check_matrix(
                gate_features,
                "gate_features",
                n_features=self.n_gate_features,
                n_samples=len(X),
                allow_f_order=True,
            )
        elif gate_features is not None:
            raise ValueError("gate_features were given, but this model's gate has no features of its own")
        else:
            Z = X[:, : self.n_gate_features]   # all columns, or none for a constant gate
        return X, Z

    def _check_rows(
        self, X: ArrayLike, y: ArrayLike, gate_features: ArrayLike | None
    ) -> tuple[NDArray[Any], FloatArray, NDArray[Any]]:
        check_aligned(X, y=y, gate_features=gate_features)
        X, Z = self._check_inputs(X, gate_features)
        return X, check_vector(y, "y", n_samples=len(X)), Z


def load(path: str | os.PathLike[str], activation: str | Activation | None = None) -> MixtureOfExperts:
    """Read a model that `MixtureOfExperts.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    activation : Activation, optional
        Needed if the model has an activation of the user's own, of which the file holds only the name.

    Returns
    -------
    model : MixtureOfExperts
        Equal to the one saved, bit for bit.

    Raises
    ------
    ValueError
        If the file is not a model this version can read; the message says why.
    OSError
        If the file cannot be read at all.
    """
    content = Path(path).read_bytes()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot load {os.fspath(path)!r}: not valid JSON ({error})") from error
    try:
        return MixtureOfExperts.from_dict(document, activation)
    except (ValueError, TypeError) as error:
        raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from error


def match_experts(a: MixtureOfExperts | ArrayLike, b: MixtureOfExperts | ArrayLike) -> NDArray[np.intp]:
    """Pair the experts of two models.

    Parameters
    ----------
    a, b : MixtureOfExperts or array_like of shape (n_experts, n_features)
        Models are compared by intercept and coefficients, arrays by what they hold; a model beside an array,
        by coefficients.

    Returns
    -------
    p : ndarray of int, shape (n_experts,)
        The permutation that makes the sum of squared distances between rows of ``a.coef[p]`` and ``b.coef``
        least; ``a.permute(p)`` is the model.
    """
    if isinstance(a, MixtureOfExperts) and isinstance(b, MixtureOfExperts):
        points_a, points_b = (np.column_stack([model.intercept, model.coef]) for model in (a, b))
    else:
        points_a, points_b = (
            x.coef if isinstance(x, MixtureOfExperts) else check_matrix(x, name).astype(np.float64)
            for x, name in ((a, "a"), (b, "b"))
        )
    if points_a.shape != points_b.shape:
        raise ValueError(f"a and b differ in shape: {points_a.shape} and {points_b.shape}")
    distances = scipy.spatial.distance.cdist(points_b, points_a, "sqeuclidean")
    return scipy.optimize.linear_sum_assignment(distances)[1]


def _blocks(n_samples: int) -> Iterator[slice]:
    for start in range(0, n_samples, _BLOCK_ROWS):
        yield slice(start, start + _BLOCK_ROWS)


def _affine(X: NDArray[Any], coef: FloatArray, intercept: FloatArray) -> FloatArray:
    return X @ coef.T + intercept   # float64, whatever X is


@np.errstate(under="ignore")
def _log_softmax(scores: FloatArray) -> FloatArray:
    """Scores shifted so that exp sums to one in each row; some may be -inf, not a whole row.

    The row maximum goes first and alone: added to `log_sum_exp`'s small logarithm, a maximum of 1e17 would
    swallow it, and the rows would no longer sum to one.
    """
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def _numbers(value: ArrayLike, name: str) -> FloatArray:
    """A float64 copy of a parameter, finite."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} is not a rectangular array of numbers") from None
    if array.size and array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    array = np.array(array, dtype=np.float64, order="C")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has {np.sum(~np.isfinite(array))} values that are NaN or infinite")
    return array


def _parameter(value: ArrayLike | None, name: str, **shape: int) -> FloatArray:
    """A parameter of a known shape, zeros where it was left out."""
    expected = tuple(shape.values())
    array = np.zeros(expected) if value is None else _numbers(value, name)
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}, expected {expected} = ({', '.join(shape)})")
    return array


def _names(value: Sequence[str] | None, name: str, n_columns: int) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = () if isinstance(value, str) else tuple(value)
    if not all(isinstance(column, str) for column in names) or len(names) != n_columns:
        raise ValueError(f"{name} must be {n_columns} pieces of text, got {value!r}")
    return tuple(str(column) for column in names)   # plain str also from numpy's


def _check_names(X: ArrayLike, name: str, wanted: tuple[str, ...] | None) -> None:
    """Refuse a frame whose columns are not those of the fit: in another order they would pass unseen."""
    came = checks.feature_names(X)
    if wanted is not None and came is not None and tuple(came) != wanted:
        raise ValueError(f"{name} has columns {came}; the model takes {list(wanted)}, in this order")


def _check_keys(document: dict[str, Any], what: str, wanted: set[str]) -> None:
    missing, extra = sorted(wanted - document.keys()), sorted(document.keys() - wanted)
    if missing or extra:
        raise ValueError(f"{what} has not the keys expected: missing {missing}, unknown {extra}")


def _activation_from_dict(saved: Any, given: str | Activation | None) -> Activation:
    if not isinstance(saved, dict):
        raise TypeError(f"activation must be an object, got {saved!r}")
    _check_keys(saved, "activation", {"name", "slope", "custom"})
    name, slope = saved["name"], saved["slope"]
    if given is None:
        if saved["custom"]:
            raise ValueError(f"activation {name!r} is the user's own: pass it as activation=")
        given = LeakyReLU(slope) if name == "leaky_relu" else name
    activation = get_activation(given)
    if (activation.name, activation.slope) != (name, slope):
        raise ValueError(f"the model has activation {name!r} of slope {slope}, got {activation!r}")
    return activation
