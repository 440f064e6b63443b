"""
Units that saturate, and an activation of your own
==================================================

An expert is g(a·x + b). Beside lines there are sigmoid, tanh, ReLU and leaky ReLU units, and any smooth g of your
own: a Python function of an array.
"""

import matplotlib.pyplot as plt
import numpy as np

import moe_fast as mf

rng = np.random.default_rng(1)
dose = rng.uniform(-4.0, 4.0, (1500, 1))
responds = rng.random(1500) < 0.6
softplus = mf.Activation("softplus", lambda t: np.logaddexp(0.0, t), lambda t: 1 / (1 + np.exp(-t)))
effect = softplus.g(np.where(responds, 2.0 * dose[:, 0] - 1.0, -dose[:, 0])) + rng.normal(0.0, 0.3, 1500)

# %%
# Two softplus units against two lines and two ReLU units, with as many parameters each. The units that made the data
# win, and their parameters come back: 2 and -1, and -1 and 0.

grid = np.linspace(-4.0, 4.0, 300)[:, None]
figure, axes = plt.subplots(1, 3, figsize=(11, 4), sharey=True, layout="constrained")
for ax, activation in zip(axes, ["linear", "relu", softplus], strict=True):
    fit = mf.fit(dose, effect, n_experts=2, activation=activation, random_state=0)
    ax.scatter(dose, effect, s=4, color="0.7")
    ax.plot(grid, fit.model.expert_means(grid))
    ax.set(title=f"{activation}: log-likelihood {fit.log_likelihood:.1f}", xlabel="dose")
print(fit.model)
print(fit.model.coef[:, 0].round(2), fit.model.intercept.round(2))

# %%
# A saved model names its activation; the function itself is given again when it is loaded.

document = fit.model.to_dict()   # what fit.model.save(path) writes
print(mf.MixtureOfExperts.from_dict(document, activation=softplus) == fit.model)
