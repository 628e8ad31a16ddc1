"""Nested lists, tuples and dictionaries of tensors, as torch itself takes them apart; its module for it is private."""

from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map_only, tree_unflatten

__all__ = ["TreeSpec", "tree_flatten", "tree_leaves", "tree_map_only", "tree_unflatten"]
