"""Make the pictures of docs/pictures.md and the README: ``python docs/make_pictures.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd

import moe_fast as mf

matplotlib.use("Agg")

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"


def save(axes, name: str) -> None:
    figure = axes.figure if hasattr(axes, "figure") else axes[0].figure
    figure.savefig(DOCS / "pictures" / f"{name}.png", dpi=70)


def main() -> None:
    (DOCS / "pictures").mkdir(exist_ok=True)
    mcycle = pd.read_csv(EXAMPLES / "mcycle.csv")
    X, y = mcycle[["times"]], mcycle["accel"]
    selection = mf.select_n_experts(X, y, range(1, 7), random_state=0)
    fit = mf.fit(X, y, n_experts=4, random_state=0)
    save(mf.plot_fit(fit, X, y), "fit")
    save(mf.plot_selection(selection), "selection")
    save(mf.plot_history(fit), "history")

    sim = mf.make_moe(n_samples=1500, n_features=5, n_experts=3, random_state=1)
    fit = mf.fit(sim.X, sim.y, n_experts=3, random_state=0)
    save(mf.plot_fit(fit, sim.X, sim.y), "several_features")
    save(mf.plot_coefficients(fit, inference=mf.infer(fit, sim.X, sim.y)), "coefficients")
    save(mf.plot_responsibilities(fit, sim.X, sim.y, mark=0), "responsibilities")

    tone = pd.read_csv(EXAMPLES / "tone.csv")
    X, y = tone[["stretchratio"]], tone["tuned"]
    fit = mf.fit(X, y, n_experts=2, random_state=0)
    save(mf.plot_residuals(fit, X, y), "residuals")
    mf.plot_fit(fit, X, y).figure.savefig(DOCS / "tone.png")    # as the README's first command draws it

    sim = mf.make_moe(n_samples=20_000, n_features=10, n_experts=3, random_state=0)
    save(mf.plot_spectrum(mf.fit_spectral(sim.X, sim.y, n_experts=3, random_state=0)), "spectrum")


if __name__ == "__main__":
    main()
