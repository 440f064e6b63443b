"""
A gate with features of its own
===============================

What decides *which* regime holds need not be what drives the target within it. Here the target follows one of two
lines in a price, and the season, which no line contains, decides which.
"""

import matplotlib.pyplot as plt
import numpy as np

import moe_fast as mf

rng = np.random.default_rng(0)
price = rng.uniform(1.0, 5.0, (600, 1))
season = rng.uniform(0.0, 12.0, 600)
Z = np.column_stack([np.cos(2 * np.pi * season / 12), np.sin(2 * np.pi * season / 12)])
is_summer = rng.random(600) < 1 / (1 + np.exp(4 * Z[:, 0]))
demand = np.where(is_summer, 10.0 - 0.5 * price[:, 0], 8.0 - 1.5 * price[:, 0]) + rng.normal(0.0, 0.5, 600)

fit = mf.fit(price, demand, n_experts=2, gate_features=Z, random_state=0)
print(fit.summary())

# %%
# The gate over the year, beside the truth. All that needs the gate now asks for its features.

months = np.linspace(0.0, 12.0, 200)
year = np.column_stack([np.cos(2 * np.pi * months / 12), np.sin(2 * np.pi * months / 12)])
summer = int(np.argmax(fit.model.intercept))   # the expert of the higher line
gate = fit.model.gate_proba(np.full((200, 1), 3.0), gate_features=year)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
resp = fit.model.responsibilities(price, demand, gate_features=Z)
left.scatter(price, demand, c=resp[:, summer], cmap="coolwarm", s=12)
left.set(xlabel="price", ylabel="demand", title="rows by responsibility of the upper line")
right.plot(months, gate[:, summer], label="fitted gate")
right.plot(months, 1 / (1 + np.exp(4 * year[:, 0])), "--", color="black", label="truth")
right.set(xlabel="month", ylabel="probability of the upper line")
right.legend()
