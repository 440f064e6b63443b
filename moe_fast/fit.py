"""The public fits: `fit` (a race of starts and a finish), `fit_em` (EM from a start of your own), `fit_gate`."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from .activations import Activation
from .checks import check_integer
from .config import one_blas_thread
from .model import MixtureOfExperts
from .race import default_starts, race
from .result import FitResult
from .starts import KINDS, make_start
from .task import Callback, Start, Task

__all__ = ["fit", "fit_em", "fit_gate"]


@one_blas_thread()
def fit(
    X: ArrayLike,
    y: ArrayLike,
    n_experts: int,
    *,
    activation: str | Activation = "linear",
    noise: str | float | ArrayLike = "per_expert",
    fit_intercept: bool = True,
    gate: str = "softmax",
    gate_intercept: bool = True,
    gate_features: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    init: str | MixtureOfExperts = "auto",
    n_starts: int | None = None,
    time_limit: float | None = None,
    max_iter: int = 1000,
    tol: float | None = None,
    n_threads: int | None = None,
    random_state: Any = None,
    callback: Callback | None = None,
) -> FitResult:
    """Fit a mixture of experts: many starts of several kinds race, the leaders are finished by EM and Newton.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
        Inputs, in any units. C-ordered float32 or float64 is used as it is; anything else is copied.
    y : array_like of shape (n_samples,)
        Targets.
    n_experts : int
    activation : str or Activation, default "linear"
        "linear", "sigmoid", "tanh", "relu", "leaky_relu", `LeakyReLU(slope)`, or an `Activation` of your own.
    noise : {"per_expert", "shared"}, float, or array_like of shape (n_experts,), default "per_expert"
        Numbers are standard deviations held fixed, and not counted in ``n_parameters``.
    fit_intercept, gate_intercept : bool, default True
        Whether experts, and gate, have intercepts.
    gate : {"softmax", "constant"}, default "softmax"
        "constant": mixing weights that do not depend on x.
    gate_features : array_like of shape (n_samples, n_gate_features), optional
        What the gate sees in place of X.
    sample_weight : array_like of shape (n_samples,), optional
        Non-negative. Weight 2 is the row twice; a row of weight 0 is as absent.
    init : str or MixtureOfExperts, default "auto"
        "auto": all kinds of start. One kind's name: only that kind. A model: only that, as in `fit_em`.
    n_starts : int, optional
        Default: 44 up to 2000 rows, falling to 16 at 15 000.
    time_limit : float, optional
        Seconds after which no new start is begun and iterations end. Gives up repeatability.
    max_iter : int, default 1000
        Of the finish.
    tol : float, optional
        On the gain of the mean log-likelihood per row; default 1e-10, and 1e-7 for float32 X.
    n_threads : int, optional
        Default: OMP_NUM_THREADS, else the cores this process may use. Results are the same bits for any number.
    random_state : None, int, Generator, optional
    callback : callable, optional
        Called with a `State` after each iteration of the finish; returning True stops and keeps what there is.

    Returns
    -------
    result : FitResult

    Raises
    ------
    ValueError, TypeError
        If an argument is bad; before any work.

    Warns
    -----
    ConvergenceWarning
        If the fit did not converge, if an expert collapsed and the penalised fit was kept, or if one holds too few
        rows, or fits few almost exactly.
    CollinearityWarning
        If columns are constant or combinations of the columns before them; their coefficients are left at zero.

    Notes
    -----
    The race maximises the log-likelihood less a weak barrier on noise_std, which keeps an expert from collapsing
    on a few rows. The finish is without it; the best end in which no expert collapses is kept, or, if there is none,
    the best with the barrier. All figures reported are without it (docs/math.md, section 4).

    Examples
    --------
    >>> import moe_fast as mf
    >>> sim = mf.make_moe(n_samples=2000, n_features=5, n_experts=2, random_state=0)
    >>> result = mf.fit(sim.X, sim.y, n_experts=2, random_state=0)
    >>> result.converged, result.model.noise_std.round(1).tolist()
    (True, [0.1, 0.1])
    """
    task = Task.check(
        X, y, n_experts, activation=activation, noise=noise, fit_intercept=fit_intercept, gate=gate,
        gate_intercept=gate_intercept, gate_features=gate_features, sample_weight=sample_weight,
        time_limit=time_limit, max_iter=max_iter, tol=tol, n_threads=n_threads, random_state=random_state,
        callback=callback,
    )
    init = getattr(init, "model", init)
    if isinstance(init, MixtureOfExperts):
        return task.finish([task.start_from(init)])
    task.check_kind(init, ("auto", *KINDS))
    n_starts = default_starts(task) if n_starts is None else check_integer(n_starts, "n_starts", 1)
    return task.finish(race(task, init, n_starts))


@one_blas_thread()
def fit_em(
    X: ArrayLike,
    y: ArrayLike,
    n_experts: int,
    *,
    init: str | MixtureOfExperts = "random",
    n_init: int = 1,
    activation: str | Activation = "linear",
    noise: str | float | ArrayLike = "per_expert",
    fit_intercept: bool = True,
    gate: str = "softmax",
    gate_intercept: bool = True,
    gate_features: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    time_limit: float | None = None,
    max_iter: int = 1000,
    tol: float | None = None,
    n_threads: int | None = None,
    random_state: Any = None,
    callback: Callback | None = None,
    newton: bool = True,
) -> FitResult:
    """Maximum likelihood from one start, or the best of several, each run to the end on all rows.

    Parameters
    ----------
    X, y, n_experts, activation, noise, fit_intercept, gate, gate_intercept, gate_features, sample_weight
        As for `fit`.
    init : str or MixtureOfExperts, default "random"
        Kind of start: "random", "partition", "kmeans", "kmeans_x", "segments", "segments_y", "ransac", "tree",
        "local", "growth", "spectral"; or a model of the same shape, or a result that has one. A gate of zeros
        is of any shape.
    n_init : int, default 1
        Starts of that kind; the best end in which the data supports every expert is kept, or else the best.
        ``result.starts`` has the end of each. Of kinds that label rows by x or y ("kmeans", "kmeans_x", "segments",
        "segments_y", "tree", "local") every second has a gate fitted to the labels, the others a flat one;
        "segments_y" and "kmeans_x" begin with the fitted one.
    time_limit, max_iter, tol, n_threads, random_state, callback
        As for `fit`; the callback sees every iteration of every start.
    newton : bool, default True
        False: EM iterations only, as in the textbooks, however slow.

    Returns
    -------
    result : FitResult

    Raises
    ------
    ValueError, TypeError
        If an argument is bad; before any work.

    Warns
    -----
    ConvergenceWarning, CollinearityWarning
        As for `fit`.

    Notes
    -----
    A noise that is to be held is estimated first, for 30 iterations, from half the standard deviation of y: held small
    from the beginning it leaves experts that start wrong where they are. Not from a model as start, nor with
    ``newton=False``.
    """
    task = Task.check(
        X, y, n_experts, activation=activation, noise=noise, fit_intercept=fit_intercept, gate=gate,
        gate_intercept=gate_intercept, gate_features=gate_features, sample_weight=sample_weight,
        time_limit=time_limit, max_iter=max_iter, tol=tol, n_threads=n_threads, random_state=random_state,
        callback=callback, newton=newton,
    )
    n_init = check_integer(n_init, "n_init", 1)
    init = getattr(init, "model", init)
    if isinstance(init, MixtureOfExperts):
        return task.finish([task.start_from(init)])
    task.check_kind(init, KINDS)
    objective = task.objective(task.support.barrier(task.design))
    starts: list[Start] = []
    while len(starts) < n_init and not (starts and task.out_of_time()):
        parameters = make_start(
            init, task.design, task.n_experts, task.rng, objective, n_before=len(starts), stop=task.out_of_time
        )
        start = Start(init, len(starts), parameters)
        if task.holds_noise and task.newton:
            task.anneal(task.design, start)
        starts.append(start)
    return task.finish(starts, give_up=False)


@one_blas_thread()
def fit_gate(
    X: ArrayLike,
    y: ArrayLike,
    model: MixtureOfExperts,
    *,
    gate_intercept: bool = True,
    gate_features: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    time_limit: float | None = None,
    max_iter: int = 1000,
    tol: float | None = None,
    n_threads: int | None = None,
    callback: Callback | None = None,
) -> FitResult:
    """EM for the gate alone: the model's experts and noise are held.

    Parameters
    ----------
    X, y, gate_intercept, gate_features, sample_weight, time_limit, max_iter, tol, n_threads, callback
        As for `fit`.
    model : MixtureOfExperts
        Its experts are held; its gate is where EM starts.

    Returns
    -------
    result : FitResult
        ``n_parameters`` counts the gate alone.

    Raises
    ------
    ValueError, TypeError
        If an argument is bad; before any work.
    """
    if not isinstance(model, MixtureOfExperts):
        raise TypeError(f"model must be a MixtureOfExperts, got {type(model).__name__}")
    task = Task.check(
        X, y, model.n_experts, activation=model.activation, noise=model.noise_std,
        fit_intercept=True, gate=model.gate, gate_intercept=gate_intercept, gate_features=gate_features,
        sample_weight=sample_weight, time_limit=time_limit, max_iter=max_iter, tol=tol, n_threads=n_threads,
        random_state=0, callback=callback, held=model,
    )
    return task.finish([task.start_from(model, "model")])
