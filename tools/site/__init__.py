"""The site: lessons, evidence, claims and library as pages, made from what is committed.

`python -m tools.site` writes build/site/. Sphinx, myst-nb and the theme are the extra `site`;
nothing is executed, and no page asks another host for anything: formulas are MathML, scripts and
fonts are those of the theme. What writes Sphinx's sources needs none of these packages.
"""
