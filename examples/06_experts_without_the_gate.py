"""
Experts without the gate
========================

The gridlock: with the experts known the gate is easy, and with the gate known the experts are. `fit_spectral` finds
the experts from cross moments of x with transforms of y, without a gate, a start or an iteration over the rows; EM
then finds the gate and refines both.
"""

import matplotlib.pyplot as plt
import numpy as np

import moe_fast as mf


def error(model, truth):
    """Largest distance between an expert and its partner in the truth."""
    return np.linalg.norm(model.coef[mf.match_experts(model, truth)] - truth.coef, axis=1).max()


sizes = [8_000, 32_000, 128_000]
spectral, refined = [], []
for n_samples in sizes:
    sim = mf.make_moe(n_samples, n_features=10, n_experts=3, activation="tanh", random_state=1)
    start = mf.fit_spectral(sim.X, sim.y, n_experts=3, activation="tanh", noise_std=0.1, random_state=0)
    fit = mf.fit_em(sim.X, sim.y, n_experts=3, activation="tanh", init=start, random_state=0)
    spectral.append(error(start.model, sim.model))
    refined.append(error(fit.model, sim.model))

figure, ax = plt.subplots(layout="constrained")
ax.loglog(sizes, spectral, "o-", label="spectral step alone")
ax.loglog(sizes, refined, "o-", label="then EM: maximum likelihood")
ax.set(xlabel="rows", ylabel="error of the worst expert (experts have norm 1)")
ax.legend()

# %%
# More rows lower both errors. The spectral step's is several times larger: it finds the right basin, EM its bottom.
# Random starts find that basin too where experts are few; :doc:`/spectral` says when they do not.
