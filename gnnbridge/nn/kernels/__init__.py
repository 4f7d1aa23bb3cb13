"""Kernels that run attention on a planned graph, one file for each."""
