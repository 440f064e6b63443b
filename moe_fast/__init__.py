"""Mixture-of-experts regression: a spectral start that needs no gate, then fast, exact EM.

See https://arxiv.org/abs/1802.07417 for the method's source, and README.md for a first fit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .activations import Activation, LeakyReLU
from .bootstrap import Bootstrap, bootstrap
from .config import show_config
from .em import State
from .exceptions import CollinearityWarning, ConvergenceWarning
from .fit import fit, fit_em, fit_gate
from .formula import Formula
from .formula_fit import fit_formula
from .inference import Estimates, Inference, ParameterArrays, infer
from .inputs import Gaussian, GaussianMixture, StandardNormal
from .model import MixtureOfExperts, load, match_experts
from .result import FitResult, StartReport
from .selection import Selection, SelectionRow, select_n_experts
from .simulate import Simulation, make_moe
from .spectral import SpectralResult, fit_spectral
from .summary import Summary

if TYPE_CHECKING:
    from .estimator import MoERegressor as MoERegressor
    from .plot import (
        plot_coefficients,
        plot_fit,
        plot_history,
        plot_residuals,
        plot_responsibilities,
        plot_selection,
        plot_spectrum,
    )

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Bootstrap",
    "CollinearityWarning",
    "ConvergenceWarning",
    "Estimates",
    "FitResult",
    "Formula",
    "Gaussian",
    "GaussianMixture",
    "Inference",
    "LeakyReLU",
    "MixtureOfExperts",
    "ParameterArrays",
    "Selection",
    "SelectionRow",
    "Simulation",
    "SpectralResult",
    "StandardNormal",
    "StartReport",
    "State",
    "Summary",
    "bootstrap",
    "fit",
    "fit_em",
    "fit_formula",
    "fit_gate",
    "fit_spectral",
    "infer",
    "load",
    "make_moe",
    "match_experts",
    "plot_coefficients",
    "plot_fit",
    "plot_history",
    "plot_residuals",
    "plot_responsibilities",
    "plot_selection",
    "plot_spectrum",
    "select_n_experts",
    "show_config",
]

# Loaded at first use, each from its module: a fit alone does without, and they need extras.
_LAZY = {"MoERegressor": "estimator"} | {name: "plot" for name in __all__ if name.startswith("plot_")}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
