"""Rewiring: PyG transforms that add and remove edges."""
