"""What a sweep found, told from its files alone: recipes, comparison with statistics, plots, Markdown and HTML."""
