"""
In a pipeline, beside other regressors
======================================

`MoERegressor` is the fit as scikit-learn knows regressors: it goes into pipelines, searches and cross-validation. Here
three models of the wait at Old Faithful are judged on rows they have not seen.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

import moe_fast as mf

data = pd.read_csv("faithful.csv")
X, y = data[["eruptions"]], data.waiting
folds = KFold(5, shuffle=True, random_state=0)
regressors = {
    "one line": LinearRegression(),
    "spline": make_pipeline(SplineTransformer(n_knots=4), LinearRegression()),
    "two experts": mf.MoERegressor(n_experts=2, n_starts=6, random_state=0),
}
for name, regressor in regressors.items():
    scores = cross_val_score(regressor, X, y, cv=folds, scoring="neg_root_mean_squared_error")
    print(f"{name:12s} root mean squared error {-scores.mean():.3f} min")

# %%
# What the mixture adds is the whole distribution of the wait, not its mean alone. A search may therefore score by the
# density of rows left out; here it chooses the number of experts and whether they share one σ.


def log_density(estimator, X, y):
    return estimator.score_samples(X, y).mean()


grid = {"n_experts": [1, 2], "noise": ["per_expert", "shared"]}
search = GridSearchCV(mf.MoERegressor(n_starts=6, random_state=0), grid, scoring=log_density, cv=folds).fit(X, y)
table = pd.DataFrame(search.cv_results_)[["param_n_experts", "param_noise", "mean_test_score", "std_test_score"]]
print(table.round(3).to_string(index=False))
print("chosen:", search.best_params_)

# %%
# Intervals that hold 80 % of the waits, by the distribution of the mixture:

lower, upper = search.best_estimator_.predict_interval(X, level=0.8)
print(f"{np.mean((lower <= y) & (y <= upper)):.3f} of the waits lie in their interval")
