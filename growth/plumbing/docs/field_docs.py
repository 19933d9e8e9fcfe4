"""The strings that stand below the fields of our classes: what documents say about a field."""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise


def field_docs(class_: type) -> Mapping[str, str]:
    """Return the strings that stand below the fields of a class of ours or of its bases, by field."""
    ours = [base for base in reversed(class_.__mro__) if base.__module__.startswith("growth.")]
    return {field: told for base in ours for field, told in _docs_in(base.__module__).get(base.__name__, {}).items()}


@cache
def _docs_in(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return, by class and field, the strings that stand below fields."""
    return {
        node.name: {
            field.target.id: inspect.cleandoc(told.value.value)
            for field, told in pairwise(node.body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant) and isinstance(told.value.value, str)
        }
        for node in ast.parse(inspect.getsource(sys.modules[module])).body
        if isinstance(node, ast.ClassDef)
    }
