"""
A curve from four lines
=======================

Mixtures of experts were made for this: each expert is a line, the gate says where it holds, and together they
follow a curve whose noise changes along it. The data are the accelerations of a dummy's head in a simulated
motorcycle crash.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import moe_fast as mf

data = pd.read_csv("mcycle.csv")
X, y = data[["times"]], data.accel
fit = mf.fit(X, y, n_experts=4, random_state=0)
mf.plot_fit(fit, X, y)

# %%
# Expert 4 is the quiet time before the impact: a flat line and a σ of 1.4 g, where the others have 20 to 26. From
# expert 2 to 3, and on to 1, the gate goes in a step: no row is in doubt, so the gate's coefficients have no finite
# optimum there, and the summary says so:

print(fit.summary().splitlines()[-1])

# %%
# The mean and the standard deviation of the mixture, from the experts' means and noise and the gate:

times = np.linspace(data.times.min(), data.times.max(), 400)[:, None]
gate, means = fit.model.gate_proba(times), fit.model.expert_means(times)
mean = (gate * means).sum(axis=1)
variance = (gate * (fit.model.noise_std**2 + (means - mean[:, None]) ** 2)).sum(axis=1)

figure, ax = plt.subplots(layout="constrained")
sd = variance**0.5
ax.fill_between(times[:, 0], mean - 2 * sd, mean + 2 * sd, color="0.85", label="± 2 sd of the mixture")
ax.plot(times[:, 0], mean, label="mean")
ax.scatter(data.times, data.accel, s=12, color="black")
ax.set(xlabel="time after impact (ms)", ylabel="acceleration (g)")
ax.legend()
