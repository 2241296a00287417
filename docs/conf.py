"""
Configuration of the documentation.
"""

import wlcg_isolate

project = "wlcg_isolate"
author = "The wlcg_isolate developers"
version = release = wlcg_isolate.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "separated"
nitpick_ignore_regex = [
    # Types of other projects, whose inventories cannot be fetched without network.
    ("py:.*", r"(attrs?|collections|typing|os|subprocess)\..*"),
    ("py:.*", r"(Any|Callable|Container|HostFacts|Iterable|Mapping|Optional|Ready|Sequence|PilotException)"),
]
