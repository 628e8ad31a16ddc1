"""Reports of a sweep, from its files alone: recipes, statistics, plots, Markdown and HTML."""
