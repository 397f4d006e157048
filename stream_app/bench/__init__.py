"""Figures: how fast, how soon, how large, how quickly back. Not tests: nothing here fails on a noisy clock."""
