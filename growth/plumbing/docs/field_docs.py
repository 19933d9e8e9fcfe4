"""The strings that stand below the fields of our classes: what documents say about a field."""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise


def field_docs(class_: type) -> Mapping[str, str]:
    """Return the strings that stand below the fields of a class of ours, by field; not those of its bases."""
    return _docs_in(class_.__module__).get(class_.__name__, {})


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
