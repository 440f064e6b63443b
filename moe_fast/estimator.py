"""`MoERegressor`: a mixture of experts as a scikit-learn regressor. All work is done by `fit` and the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .activations import Activation
from .checks import check_aligned, check_integer
from .fit import fit
from .model import MixtureOfExperts
from .result import FitResult

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("MoERegressor needs scikit-learn, 1.6 or later: pip install 'moe_fast[sklearn]'") from error

__all__ = ["MoERegressor"]

FloatArray = NDArray[np.floating]
Columns = str | int | Iterable[str | int]

_FLOATS = (np.float64, np.float32)   # the first is what anything else becomes


class MoERegressor(RegressorMixin, BaseEstimator):
    """Mixture-of-experts regression for scikit-learn: pipelines, searches, cross-validation.

    Parameters
    ----------
    n_experts : int, default 2
    activation : str or Activation, default "linear"
        "linear", "sigmoid", "tanh", "relu", "leaky_relu", `LeakyReLU(slope)`, or an `Activation` of your own.
    noise : {"per_expert", "shared"}, float, or array_like of shape (n_experts,), default "per_expert"
        Numbers are standard deviations held fixed.
    fit_intercept, gate_intercept : bool, default True
        Whether experts, and gate, have intercepts.
    gate : {"softmax", "constant"}, default "softmax"
        "constant": mixing weights that do not depend on X.
    gate_features, expert_features : column or list of columns, optional
        The columns of X that the gate, and the experts, see: names (for X with column names) or numbers from 0.
        Default: all.
    init : str or MixtureOfExperts, default "auto"
        Where the fit starts, as in `fit`.
    n_starts : int, optional
        Default: 44 up to 2000 rows, falling to 16 at 15 000.
    time_limit : float, optional
        Seconds after which no new start is begun and iterations end. Gives up repeatability.
    max_iter : int, default 1000
        Of the finish.
    tol : float, optional
        On the gain of the mean log-likelihood per row; default 1e-10, and 1e-7 for float32 X.
    warm_start : bool, default False
        Start from the last fit, if there was one, in place of `init`.
    n_threads : int, optional
        Default: OMP_NUM_THREADS, else the cores this process may use. Results are the same bits for any number.
    random_state : None, int, Generator or RandomState, optional

    Attributes
    ----------
    model_ : MixtureOfExperts
        The fitted model. It takes the columns that its parts see: ``X[:, expert_columns_]``, and as ``gate_features``
        ``X[:, gate_columns_]`` unless that is None.
    result_ : FitResult
        How the fit went; ``print(result_.summary())`` shows it.
    coef_ : ndarray of shape (n_experts, n_expert_features)
    intercept_ : ndarray of shape (n_experts,)
    gate_coef_ : ndarray of shape (n_experts, n_gate_features)
    gate_intercept_ : ndarray of shape (n_experts,)
    noise_std_ : ndarray of shape (n_experts,)
        The model's parameters, experts by falling mixing weight; always float64.
    expert_columns_ : ndarray of int, or slice
        The columns of X that the experts see.
    gate_columns_ : ndarray of int, or None
        The columns of X that the gate sees; None if it sees what the experts see, or none.
    n_iter_ : int
    converged_ : bool
    log_likelihood_ : float
        Of the training data.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only where X had column names that are all text.

    See Also
    --------
    fit : The same without scikit-learn.

    Notes
    -----
    X of float32 is not widened, and predictions of float32 X are float32. Densities, criteria and parameters are
    float64.

    Examples
    --------
    >>> import moe_fast as mf
    >>> sim = mf.make_moe(n_samples=1000, n_features=3, n_experts=2, random_state=0)
    >>> regressor = mf.MoERegressor(n_experts=2, random_state=0).fit(sim.X, sim.y)
    >>> round(regressor.score(sim.X, sim.y), 2) > 0.5
    True
    >>> mean, std = regressor.predict(sim.X, return_std=True)
    """

    def __init__(
        self,
        n_experts: int = 2,
        *,
        activation: str | Activation = "linear",
        noise: str | float | ArrayLike = "per_expert",
        fit_intercept: bool = True,
        gate: str = "softmax",
        gate_intercept: bool = True,
        gate_features: Columns | None = None,
        expert_features: Columns | None = None,
        init: str | MixtureOfExperts = "auto",
        n_starts: int | None = None,
        time_limit: float | None = None,
        max_iter: int = 1000,
        tol: float | None = None,
        warm_start: bool = False,
        n_threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_experts = n_experts
        self.activation = activation
        self.noise = noise
        self.fit_intercept = fit_intercept
        self.gate = gate
        self.gate_intercept = gate_intercept
        self.gate_features = gate_features
        self.expert_features = expert_features
        self.init = init
        self.n_starts = n_starts
        self.time_limit = time_limit
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.n_threads = n_threads
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MoERegressor:
        """Fit the mixture by maximum likelihood.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Inputs. C-ordered float32 or float64 is used as it is; anything else is copied.
        y : array_like of shape (n_samples,)
            Targets.
        sample_weight : array_like of shape (n_samples,), optional
            Non-negative. Weight 2 is the row twice; a row of weight 0 is as absent.

        Returns
        -------
        self

        Warns
        -----
        moe_fast.ConvergenceWarning
            As `moe_fast.fit` does.
        """
        target_name = getattr(y, "name", None)
        check_aligned(X, y=y, sample_weight=sample_weight)
        checked_X, checked_y = validate_data(
            self, X, y, dtype=_FLOATS, order="C", y_numeric=True, ensure_min_samples=2
        )
        self._choose_columns()
        experts_X, gate_X = self._split(checked_X)
        result = fit(
            experts_X, checked_y, self.n_experts, activation=self.activation, noise=self.noise,
            fit_intercept=self.fit_intercept, gate=self.gate, gate_intercept=self.gate_intercept, gate_features=gate_X,
            sample_weight=sample_weight, init=self._start(experts_X), n_starts=self.n_starts,
            time_limit=self.time_limit, max_iter=self.max_iter, tol=self.tol, n_threads=self.n_threads,
            random_state=self.random_state,
        )
        names = getattr(self, "feature_names_in_", None)
        self.model_ = replace(
            result.model,
            feature_names=None if names is None else names[self.expert_columns_],
            gate_feature_names=None if names is None or gate_X is None else names[self.gate_columns_],
            target_name=target_name if isinstance(target_name, str) else None,
        )
        self.result_ = replace(result, model=self.model_)
        self.coef_, self.intercept_ = self.model_.coef, self.model_.intercept
        self.gate_coef_, self.gate_intercept_ = self.model_.gate_coef, self.model_.gate_intercept
        self.noise_std_ = self.model_.noise_std
        self.n_iter_, self.converged_ = result.n_iter, result.converged
        self.log_likelihood_ = result.log_likelihood
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Mean of y given X, and its standard deviation if asked for.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
        return_std : bool, default False

        Returns
        -------
        y : ndarray of shape (n_samples,)
        std : ndarray of shape (n_samples,)
            Only with ``return_std``: of y given X, noise and distance between experts; not that of the estimate.
        """
        experts_X, gate_X = self._check_X(X)
        dtype = experts_X.dtype
        mean = self.model_.predict(experts_X, gate_features=gate_X).astype(dtype, copy=False)
        if not return_std:
            return mean
        return mean, self.model_.predict_std(experts_X, gate_features=gate_X).astype(dtype, copy=False)

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Probability of each expert given X, as the gate has it.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)

        Returns
        -------
        proba : ndarray of shape (n_samples, n_experts)
            Rows sum to one.
        """
        experts_X, gate_X = self._check_X(X)
        return self.model_.gate_proba(experts_X, gate_features=gate_X).astype(experts_X.dtype, copy=False)

    def predict_interval(self, X: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Interval that holds y with a given probability, with as much probability below it as above.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
        level : float, default 0.95
            The probability, between 0 and 1.

        Returns
        -------
        lower, upper : ndarray of shape (n_samples,)
        """
        experts_X, gate_X = self._check_X(X)
        lower, upper = self.model_.predict_interval(experts_X, level, gate_features=gate_X)
        return lower.astype(experts_X.dtype, copy=False), upper.astype(experts_X.dtype, copy=False)

    def score_samples(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.float64]:
        """Log density of y given X, row by row.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
        y : array_like of shape (n_samples,), optional
            Targets. Default: the predictions; scikit-learn's own callers, such as a pipeline, have X alone.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural log.
        """
        experts_X, gate_X = self._check_X(X)
        if y is None:
            y = self.model_.predict(experts_X, gate_features=gate_X)
        return self.model_.log_density(experts_X, y, gate_features=gate_X)

    def sample(self, X: ArrayLike, random_state: Any = None) -> tuple[FloatArray, NDArray[np.intp]]:
        """Draw a target, and the expert it comes from, for every row.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
        random_state : None, int, Generator or RandomState, optional

        Returns
        -------
        y : ndarray of shape (n_samples,)
        labels : ndarray of int, shape (n_samples,)
        """
        experts_X, gate_X = self._check_X(X)
        y, labels = self.model_.sample(experts_X, random_state, gate_features=gate_X)
        return y.astype(experts_X.dtype, copy=False), labels

    def bic(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Schwarz's criterion of the fitted model on some data; smaller is better.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
        y : array_like of shape (n_samples,)
        sample_weight : array_like of shape (n_samples,), optional

        Returns
        -------
        bic : float
            ``n_parameters log(n) - 2 log_likelihood``, with n the sum of the weights.
        """
        return self._evaluated(X, y, sample_weight).bic

    def aic(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Akaike's criterion of the fitted model on some data; smaller is better.

        Parameters
        ----------
        X, y, sample_weight
            As for `bic`.

        Returns
        -------
        aic : float
            ``2 n_parameters - 2 log_likelihood``.
        """
        return self._evaluated(X, y, sample_weight).aic

    def _evaluated(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> FitResult:
        """The result, with the likelihood and the size of other data in place of the training data's."""
        experts_X, gate_X = self._check_X(X)
        log_likelihood = self.model_.log_likelihood(experts_X, y, gate_features=gate_X, sample_weight=sample_weight)
        n_samples = len(experts_X) if sample_weight is None else float(np.sum(sample_weight))
        return replace(self.result_, log_likelihood=log_likelihood, n_samples=n_samples)

    def _start(self, experts_X: NDArray[Any]) -> str | MixtureOfExperts:
        if not self.warm_start or not hasattr(self, "model_"):
            return self.init
        model = self.model_
        for name, had, has in (
            ("n_experts", model.n_experts, self.n_experts),
            ("n_features", model.n_features, experts_X.shape[1]),
        ):
            if had != has:
                raise ValueError(
                    f"warm_start=True goes on from the last fit, which had {name} = {had}; now {name} = {has}. Set "
                    f"warm_start=False to begin anew"
                )
        return model

    # ---- which columns of X the experts see, and which the gate ----

    def _choose_columns(self) -> None:
        shared = self.expert_features is None and self.gate_features is None
        no_gate = self.gate == "constant" and self.gate_features is None
        self.expert_columns_ = self._columns("expert_features")
        self.gate_columns_ = None if shared or no_gate else self._columns("gate_features")

    def _columns(self, parameter: str) -> NDArray[np.intp] | slice:
        """Numbers of the columns that a parameter names; a slice, which copies nothing, for all of them."""
        given = getattr(self, parameter)
        if given is None:
            return slice(None)
        names = list(getattr(self, "feature_names_in_", ()))
        columns = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
        chosen = []
        for place, column in enumerate(columns):
            if not isinstance(column, str):
                column = check_integer(column, f"{parameter}[{place}]", 0, self.n_features_in_ - 1)
            elif column in names:
                column = names.index(column)
            else:
                has = f"columns {names}" if names else "no column names"
                raise ValueError(f"{parameter} names {column!r}; X has {has}")
            chosen.append(column)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"{parameter} must name at least one column, and none twice; got {given!r}")
        return np.array(chosen)

    def _split(self, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """What the experts see, and what the gate sees where that is something else."""
        return X[:, self.expert_columns_], None if self.gate_columns_ is None else X[:, self.gate_columns_]

    def _check_X(self, X: ArrayLike) -> tuple[NDArray[Any], NDArray[Any] | None]:
        check_is_fitted(self)
        return self._split(validate_data(self, X, dtype=_FLOATS, reset=False))
