"""Nested lists, tuples and dictionaries of tensors, as torch itself takes them apart; its module for it is private."""

from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map_only, tree_unflatten

LOGGER = "torch.utils._pytree"
"""Where it logs."""

__all__ = ["LOGGER", "TreeSpec", "tree_flatten", "tree_leaves", "tree_map_only", "tree_unflatten"]
