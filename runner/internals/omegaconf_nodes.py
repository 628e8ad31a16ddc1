"""The nodes of a configuration: what type a key was declared with, whatever it holds."""

from __future__ import annotations

from typing import Any

from omegaconf import Container, DictConfig, Node
from omegaconf.basecontainer import BaseContainer


def resolvers() -> dict[str, Any]:
    """Every resolver of this process by its name; OmegaConf only adds and clears them."""
    return BaseContainer._resolvers


def node_of(owner: DictConfig, key: Any) -> Any:
    """The node of ``key``, not resolved; None where there is no such key.

    A key that is unknown is no error in a mapping with a structure either.
    """
    return owner._get_node(key, validate_access=False)


def may_be_null(node: Node) -> bool:
    """Whether the type that ``node`` was declared with has null."""
    return node._is_optional()


def element_type(node: Container) -> Any:
    """The declared type of what a list holds."""
    return node._metadata.element_type


def holds_keys(node: Any) -> bool:
    """Whether ``node`` is a mapping that is there: neither null, nor missing, nor a reference."""
    return isinstance(node, DictConfig) and not (node._is_none() or node._is_missing())


def value_of(node: Node) -> Any:
    """What ``node`` holds, not resolved."""
    return node._value()
