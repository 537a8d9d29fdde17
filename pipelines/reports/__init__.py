"""Reports of a training run: plots, tables, explanations, the model card."""
