"""Experiments on a trained detector: what else its parts would say, computed once and read in many ways."""
