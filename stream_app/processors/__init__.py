"""Processors: the domain rules as keyed folds, in the form that the engine runs."""
