"""What a training run keeps for people to look at: plots, tables, explanations, the model card."""
