"""
How many experts?
=================

Gross national product and carbon dioxide emissions a head, in 28 countries: how many lines are there?
`select_n_experts` fits one to four experts, each from the ones before, and compares them.
"""

import pandas as pd

import moe_fast as mf

data = pd.read_csv("co2.csv")
X, y = data[["GNP"]], data.CO2
selection = mf.select_n_experts(X, y, range(1, 5), random_state=0)
print(selection.summary())

# %%
# Smaller is better. A hollow mark is a fit that cannot be chosen: one of its experts lives on too few rows, and its
# likelihood says nothing. With 28 rows the criteria need not agree, and here they do not.

mf.plot_selection(selection)

# %%
# The chosen fit, and the rows that belong to its steeper line:

fit = selection.best
mf.plot_fit(fit, X, y)
steep = fit.model.coef[:, 0].argmax()
own = fit.model.responsibilities(X, y)[:, steep]
print(*data.country[own > 0.5])
