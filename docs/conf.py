"""How `make docs` builds the site: Markdown through MyST, the furo theme, nothing loaded from another host."""

from importlib import metadata

project = "revenue-engine"
release = version = metadata.version("revenue-engine")
copyright = "the authors of revenue-engine"  # noqa: A001 - the name that Sphinx reads

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # each heading down to #### has the anchor that GitHub gives it

html_theme = "furo"
html_title = f"revenue-engine {release}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
suppress_warnings: list[str] = []  # --fail-on-warning: every warning is mended, none is silenced
