"""Sphinx configuration. From the checkout: ``pip install ".[docs]" && sphinx-build -W docs build/docs``.

No step needs the network. ``-W`` makes warnings errors, as CI does.
"""

from pathlib import Path

import matplotlib

import moe_fast

matplotlib.use("Agg")

project = "moe_fast"
author = "The moe_fast developers"
copyright = author
version = release = moe_fast.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["templates"]

html_theme = "furo"
html_title = f"moe_fast {release}"
html_show_sourcelink = False
html_copy_source = False

# Markdown is written for the repository page first: headings get the anchors that page gives them.
myst_heading_anchors = 3

# The API pages are the docstrings: types are said there, with shapes and units.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": False}
autosummary_ignore_module_all = False
numpydoc_show_class_members = False   # autodoc lists them
autosummary_filename_map = {"moe_fast.bootstrap": "moe_fast.bootstrap-function"}   # beside Bootstrap, where case is one
default_role = "py:obj"     # `fit` in a docstring is a link where there is such a thing

sphinx_gallery_conf = {
    "examples_dirs": str(Path(__file__).parents[1] / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",           # every script runs
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "download_all_examples": False,
    "write_computation_times": False,
    "capture_repr": (),                     # what a script prints is its output
    "reset_modules": ("matplotlib",),
    "nested_sections": False,
}
