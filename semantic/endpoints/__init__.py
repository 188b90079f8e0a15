"""The embedded pair: its shapes, the pretraining of its models, the training of its agents."""
