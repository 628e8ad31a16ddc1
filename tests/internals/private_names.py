"""Which private parts of other libraries a piece of code uses, as far as its text tells."""

import ast
import re

import torch

ASKING = ("getattr", "setattr", "hasattr", "delattr")
DOCUMENTED = {"os._exit", "_thread"}
"""Of Python's own library: in its manual, in spite of the underscore."""
OF_MODULES = set(dir(torch.nn.Module())) | set(dir(torch.Tensor))
"""Names that a class of ours may bear too, and that are torch's on anything else."""
_PATH = re.compile(r"[a-z]\w*(\.\w+)*\._\w+(\.\w+)*")


def is_private(name):
    """Whether an underscore begins ``name``, unless it is one of Python's or Hydra's own, such as ``_target_``."""
    return name.startswith("_") and not re.fullmatch(r"_[a-z]+_|__\w+__", name)


def private_names(source):
    """The private names that ``source`` takes from elsewhere; its own classes' are not among them."""
    tree = ast.parse(source)
    own = set(_defined(tree)) - OF_MODULES
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            known = owner in ("self", "cls", "super()") or node.attr in own
            if not known and f"{owner}.{node.attr}" not in DOCUMENTED:
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("runner"):
            inside = any(map(is_private, (node.module or "").split(".")))
            yield from (alias.name for alias in node.names if inside or is_private(alias.name))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name not in DOCUMENTED]
            yield from (name for name in names if any(map(is_private, name.split("."))))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = node.args[1] if node.func.id in ASKING else None
            if isinstance(asked, ast.Constant) and is_private(str(asked.value)) and asked.value not in own:
                yield str(asked.value)
            if node.func.id in ("exec", "eval"):
                yield node.func.id
        elif isinstance(node, ast.Constant) and _is_path(node.value):
            yield node.value


def _is_path(value):
    """Whether a text is the path of a private module."""
    return isinstance(value, str) and bool(_PATH.fullmatch(value)) and any(map(is_private, value.split(".")))


def _defined(tree):
    """The names that classes and functions of the file give to what is theirs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
