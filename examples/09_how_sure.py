"""
How sure is a fit?
==================

Standard errors come from the observed information, for experts, gate and noise alike; the sandwich asks less of the
noise, and the bootstrap less of the size of the data.
"""

import pandas as pd

import moe_fast as mf

data = pd.read_csv("npreg.csv")
X = pd.DataFrame({"x": data.x, "x²": data.x**2})
fit = mf.fit(X, data.yn, n_experts=2, random_state=0)
inference = mf.infer(fit, X, data.yn)
print(inference.summary())

# %%
# The gate's coefficients are known far less well than the experts': two of its three intervals hold zero, and BIC would
# rather have a constant gate.

mf.plot_coefficients(fit, inference=inference)

# %%
# The same standard errors by three roads. The bootstrap refits 100 samples of the rows, each from the fitted model,
# and matches the experts.

robust = mf.infer(fit, X, data.yn, covariance="sandwich").standard_errors
resampled = mf.bootstrap(fit, X, data.yn, n_resamples=100, random_state=0).standard_errors
errors = {"information": inference.standard_errors, "sandwich": robust, "bootstrap": resampled}
rows = {name: [*error.coef.ravel(), *error.noise_std] for name, error in errors.items()}
names = [f"{name}, expert {k}" for k in (1, 2) for name in X] + ["σ, expert 1", "σ, expert 2"]
print(pd.DataFrame(rows, index=names).round(3))
