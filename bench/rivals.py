"""What the package is measured against: plain numpy, and other packages where they are installed.

All are asked for linear experts with intercepts, a noise each, and a softmax gate with intercept over the same
features, but scikit-learn, whose joint Gaussian mixture is a larger model of another kind: a neighbour.
"""

from __future__ import annotations

import csv
import importlib.util
import math
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from cases import Data
from timing import Outcome

import moe_fast as mf
from moe_fast import reference

_FLEXMIX = Path(__file__).with_name("flexmix.R")


# ---- plain numpy: moe_fast/reference.py ----


def own_model(start: reference.Params) -> mf.MixtureOfExperts:
    """The same parameters as this package has them."""
    return mf.MixtureOfExperts(
        start.coef[:, 1:], start.coef[:, 0], start.gate[:, 1:], start.gate[:, 0], start.noise_std
    )


def reference_params(model: mf.MixtureOfExperts) -> reference.Params:
    return reference.Params(
        np.column_stack([model.intercept, model.coef]),
        np.column_stack([model.gate_intercept, model.gate_coef]),
        model.noise_std,
    )


def em_gate_gradient_full(D: np.ndarray, y: np.ndarray, params: reference.Params) -> float:
    """The sums of an EM iteration with the gate's gradient alone (linear experts): the reference's, less curvature.

    D is the design [1, x], which a whole fit makes once.
    """
    residual = y[:, None] - D @ params.coef.T
    log_density = -0.5 * (residual / params.noise_std) ** 2 - np.log(params.noise_std) - 0.5 * reference.LOG_2PI
    sums, resp = reference._full_gate_statistics(D, log_density, None, params.gate, hessian=False)
    sums["weight"] = resp.sum(axis=0)
    weighted_residual = resp * residual
    sums["sum_squares"] = (weighted_residual * residual).sum(axis=0)
    sums["expert_gradient"] = weighted_residual.T @ D
    sums["expert_gram"] = np.array([(D * r[:, None]).T @ D for r in resp.T])
    return float(sums["log_likelihood"])


def em_gate_gradient_blocks(X: np.ndarray, y: np.ndarray, params: reference.Params) -> float:
    """The same by blocks of rows."""
    total: reference.Statistics = {}
    for rows in reference.row_blocks(len(X), X.shape[1] + 1):
        D = reference._block_design(X, rows)
        residual = y[rows] - params.coef @ D
        log_density = reference._block_log_density(residual, params.noise_std)
        sums, resp = reference._block_gate_statistics(D, log_density, None, params.gate, hessian=False)
        weighted_residual = resp * residual
        sums["weight"] = resp.sum(axis=1)
        sums["sum_squares"] = np.einsum("jn,jn->j", weighted_residual, residual)
        sums["expert_gradient"] = weighted_residual @ D.T
        sums["expert_gram"] = np.array([(D * r) @ D.T for r in resp])
        reference._add(total, sums)
    return float(total["log_likelihood"])


def numpy_em(data: Data, start: reference.Params, form: str, **options) -> Outcome:
    """The reference's joint EM to the end."""
    options = {"tol": 1e-10, "max_iter": 2000} | options
    _, history = reference.em_fit(data.X, data.y, start, activation=data.case.activation, form=form, **options)
    n_iter = len(history) - 1
    return Outcome(float(history[-1]), len(history), n_iter, n_iter < options["max_iter"])


# ---- other packages ----


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def sklearn_gaussian_mixture(data: Data, seed: int = 0) -> Outcome:
    """A joint Gaussian mixture of (x, y), conditioned on x: full covariances, scikit-learn's one k-means start."""
    from sklearn.mixture import GaussianMixture

    joint = GaussianMixture(data.n_experts, tol=1e-6, max_iter=1000, random_state=seed)
    joint.fit(np.column_stack([data.X, data.y]))
    of_x = GaussianMixture(data.n_experts)
    of_x.weights_, of_x.means_ = joint.weights_, joint.means_[:, :-1]
    of_x.precisions_cholesky_ = np.array([
        np.linalg.inv(np.linalg.cholesky(cov[:-1, :-1])).T for cov in joint.covariances_
    ])
    conditional = joint.score_samples(np.column_stack([data.X, data.y])) - of_x.score_samples(data.X)
    return Outcome(float(conditional.sum()), math.nan, joint.n_iter_, bool(joint.converged_))


def literal_second_moment(X: np.ndarray, c: np.ndarray) -> np.ndarray:
    """E[P2(y) (x x' - I)] as it is written; c is P2(y) / n, centred or not."""
    return np.einsum("i,ia,ib->ab", c, X, X, optimize=True) - c.sum() * np.eye(X.shape[1])


def literal_third_moment(X: np.ndarray, c: np.ndarray, W: np.ndarray) -> np.ndarray:
    """E[P3(y) S3(x)] (d, d, d) as it is written, then seen through W (d, k) on its three sides."""
    d = X.shape[1]
    T3 = np.einsum("i,ia,ib,ic->abc", c, X, X, X, optimize=True)
    mean, one = c @ X, np.eye(d)
    for axes in ("a,bc->abc", "b,ac->abc", "c,ab->abc"):
        T3 -= np.einsum(axes, mean, one)
    return np.einsum("abc,aj,bk,cl->jkl", T3, W, W, W, optimize=True)


def cgmm_mixture(data: Data, seed: int = 0) -> Outcome:
    """cgmm's MixtureOfExpertsRegressor (`pip install cgmm`), its own defaults but for tol and max_iter."""
    from cgmm import MixtureOfExpertsRegressor

    model = MixtureOfExpertsRegressor(data.n_experts, max_iter=1000, tol=1e-8, random_state=seed)
    model.fit(data.X, data.y)
    objective = float(np.sum(model.log_prob(data.X, data.y)))
    return Outcome(objective, math.nan, float(getattr(model, "n_iter_", math.nan)), bool(model.converged_))


@cache
def flexmix_version() -> str | None:
    """Of R's flexmix; None where `Rscript` or flexmix is missing.

    To install: R itself, then `Rscript -e 'install.packages("flexmix")'`; on Debian `apt install r-cran-flexmix`.
    """
    if shutil.which("Rscript") is None:
        return None
    ask = ["Rscript", "-e", 'cat(as.character(packageVersion("flexmix")))']
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def flexmix(
    X: np.ndarray, y: np.ndarray, n_experts: int, n_starts: int = 1, seed: int = 0, time_limit: float | None = None
) -> Outcome:
    """R's flexmix with a multinomial gate, or the best of several starts; its parameters valued by this package.

    flexmix divides sigma by n less the rank, and drops components below 5 %, so its own log-likelihood is another.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows, found = Path(folder, "rows.csv"), Path(folder, "found.csv")
        header = ",".join(["y", *(f"x{a + 1}" for a in range(X.shape[1]))])
        np.savetxt(rows, np.column_stack([y, X]), delimiter=",", header=header, comments="", fmt="%.17g")
        arguments = [str(rows), str(found), str(n_experts), str(n_starts), str(seed)]
        subprocess.run(["Rscript", str(_FLEXMIX), *arguments], check=True, capture_output=True, timeout=time_limit)
        with found.open() as lines:
            values = {name: [float(value) for value in row] for name, *row in csv.reader(lines)}
    p = X.shape[1] + 1
    coef = np.reshape(values["coef"], (-1, p))
    gate = np.reshape(values["gate"], (-1, p))
    model = mf.MixtureOfExperts(coef[:, 1:], coef[:, 0], gate[:, 1:], gate[:, 0], values["sigma"])
    [iterations], [seconds], [converged] = values["iterations"], values["seconds"], values["converged"]
    return Outcome(model.log_likelihood(X, y), math.nan, iterations, bool(converged), seconds)
