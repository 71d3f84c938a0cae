"""``make docs``: a site of the executed notebooks, the papers' equations, the sources and the docstrings."""
