"""
A line and a parabola
=====================

An expert is linear in the features it is given; give it powers of x, and it is a curve. The data are simulated
(flexmix's NPreg), so the true class of each row is known.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import moe_fast as mf

data = pd.read_csv("npreg.csv")
X = pd.DataFrame({"x": data.x, "x²": data.x**2})
constant = mf.fit(X, data.yn, n_experts=2, gate="constant", random_state=0)
softmax = mf.fit(X, data.yn, n_experts=2, random_state=0)
print(f"BIC with a constant gate {constant.bic:.2f}, with one that depends on x {softmax.bic:.2f}")

# %%
# The constant gate has the smaller BIC: which curve a row follows does not depend on x, as is true of these data.

resp = constant.model.responsibilities(X, data.yn)
grid = np.linspace(data.x.min(), data.x.max(), 200)
means = constant.model.expert_means(np.column_stack([grid, grid**2]))

figure, (ax, histogram) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
points = ax.scatter(data.x, data.yn, c=resp[:, 0], cmap="coolwarm", s=16)
ax.plot(grid, means, color="black")
ax.set(xlabel="x", ylabel="yn", title="rows by responsibility of expert 1")
figure.colorbar(points, ax=ax)
histogram.hist(resp[:, 0], bins=20)
histogram.set(xlabel="responsibility of expert 1", ylabel="rows", title="most rows are one expert's, not all")

# %%
# Rows where the curves cross cannot be told apart by anyone; of the others few are given to the wrong expert.

print(pd.crosstab(resp.argmax(axis=1) + 1, data["class"], rownames=["expert"], colnames=["true class"]))
