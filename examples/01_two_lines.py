"""
Two lines in one cloud
======================

Old Faithful, a geyser: how long is the wait for the next eruption, given the length of the last one? Two lines
answer, one for short eruptions and one for long ones. Neither the lines nor the border between them are told to the
fit.
"""

import pandas as pd

import moe_fast as mf

data = pd.read_csv("faithful.csv")
X, y = data[["eruptions"]], data.waiting
fit = mf.fit(X, y, n_experts=2, random_state=0)
print(fit.summary())

# %%
# Each row's colour mixes those of the experts by responsibility, the probability of each expert given the row's x and
# y. The gate, beneath, knows x alone.

mf.plot_fit(fit, X, y)

# %%
# A prediction weighs both lines by the gate. Where the gate is in doubt it lies between them, where few rows are.

new = pd.DataFrame({"eruptions": [2.0, 3.1, 4.5]})
gate = pd.DataFrame(fit.model.gate_proba(new), columns=["expert 1", "expert 2"])
print(new.join(gate).assign(predicted=fit.model.predict(new)).round(2))
