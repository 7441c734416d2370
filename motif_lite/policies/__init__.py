"""The policy: the model being trained, as rollouts, training and evaluation see it."""
