"""How Sphinx builds the reference: `python -m sphinx -W docs OUT`, with the package in reach."""

import kimberlite

project = "kimberlite"
author = "The Kimberlite authors"
release = kimberlite.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "alabaster"
html_title = f"Kimberlite for Python {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Types that only checkers import are shown by their names.
autodoc_type_aliases = {"Data": "bytes | bytearray | memoryview"}
suppress_warnings = ["autodoc.mocked_object"]
