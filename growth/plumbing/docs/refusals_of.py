"""Which refusals a function can end in, read from its code: the document lists codes, and nobody keeps lists by hand.

From a function this follows the names it uses: functions and modules of ours, and methods of the classes around it
(what it was given, and what its own class is made with and makes). A name that two of those share is followed into
both, so a code too many may be found; one is missed only behind a call that no name leads to.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from msgspec import Struct

from growth.vocabulary.refusals import Kind

OURS = "growth."
RAISES = "raises"
"""Under it the `opt` of a route or router declares refusals to which no name leads from the handler."""


def kinds_of(function: Callable[..., Any]) -> set[Kind]:
    """Return every kind of refusal that `function`, or anything it leads to, names."""
    found: set[Kind] = set()
    # A method that is inherited is another one in each class.
    seen: set[tuple[FunctionType, frozenset[type]]] = set()
    waiting: list[tuple[Any, Collection[type]]] = [(inspect.unwrap(function), _given(function))]
    while waiting:
        current, around = waiting.pop()
        if not isinstance(current, FunctionType) or (current, frozenset(around)) in seen:
            continue
        seen.add((current, frozenset(around)))
        names = names_in(current)
        for value in _values(names, current):
            found |= _kinds_in(value)
            if not _is_ours(value):
                continue
            if isinstance(value, FunctionType):
                waiting.append((value, _given(value)))
            elif isinstance(value, type):
                waiting.append((vars(value).get("__init__"), _around(value)))
        for class_ in around:
            methods = _methods(class_)
            members = [methods[name] for name in names & methods.keys()]
            found |= {kind for member in members for kind in _kinds_of_struct(member, names)}
            # What a class hands out when it is made (callbacks) is reached with the first of its methods.
            waiting += [(member, _around(class_)) for member in [*members, vars(class_).get("__init__")] if members]
    return found


@cache
def names_in(function: Callable[..., Any]) -> frozenset[str]:
    """Return the global names and attributes that a function uses, those of functions within it included."""
    names: set[str] = set()
    waiting = [inspect.unwrap(function).__code__]
    while waiting:
        code = waiting.pop()
        names |= set(code.co_names)
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(names)


def _is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith(OURS)


@cache
def _methods(class_: type) -> Mapping[str, Any]:
    """Return a class' functions and what computes its properties, by name."""
    members = {name: member for base in reversed(class_.__mro__) for name, member in vars(base).items()}
    return {name: member.fget if isinstance(member, property) else member for name, member in members.items()}


def _values(names: Collection[str], function: FunctionType) -> Iterator[Any]:
    """Return what `names` mean in the function's module, and in the modules among them or in tables among them."""
    known = [function.__globals__[name] for name in names if name in function.__globals__]
    # A table of modules stands for all of them.
    known += [item for value in known if isinstance(value, Mapping) for item in value.values()]
    modules = [value for value in known if isinstance(value, ModuleType)]
    for scope in [function.__globals__, *map(vars, modules)]:
        yield from (scope[name] for name in names if name in scope)


def _kinds_in(value: Any) -> set[Kind]:
    values = value.values() if isinstance(value, Mapping) else [value]
    return {item for item in values if isinstance(item, Kind)}


def _kinds_of_struct(value: Any, names: frozenset[str]) -> set[Kind]:
    """Return the kinds among those fields of a Struct that are named: what a class says of itself in one value."""
    fields = names & set(value.__struct_fields__) if isinstance(value, Struct) else ()
    return {kind for name in fields if isinstance(kind := getattr(value, name), Kind)}


def _given(function: Callable[..., Any]) -> set[type]:
    """Return the classes of ours among a function's arguments."""
    scope = getattr(function, "__globals__", {})
    hints = inspect.get_annotations(function).values()
    named = [scope.get(hint) if isinstance(hint, str) else getattr(hint, "__origin__", hint) for hint in hints]
    return {hint for hint in named if isinstance(hint, type) and _is_ours(hint)}


@cache
def _around(class_: type) -> frozenset[type]:
    """Return the class, what it is made with, and what it makes."""
    methods = [method for method in vars(class_).values() if isinstance(method, FunctionType)]
    made = {
        value
        for method in methods
        for value in _values(names_in(method), method)
        if isinstance(value, type) and _is_ours(value) and not issubclass(value, Exception | Struct)
    }
    init = vars(class_).get("__init__")
    return frozenset({class_} | made | (_given(init) if isinstance(init, FunctionType) else set()))
