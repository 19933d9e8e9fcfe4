"""Whoever has a transaction asks for no second connection: a crowd that does so waits for each other's for ever."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source import Module, modules

MAY_ASK = ("self._stock.", "connection.")
"""Redis; and the connection of migrations, which is the transaction's own."""


def transaction_of(node: ast.AsyncWith) -> str | None:
    """Return the name of the transaction that a block opens, if it does."""
    for item in node.items:
        match item:
            case ast.withitem(
                context_expr=ast.Call(func=ast.Attribute(attr="transaction")), optional_vars=ast.Name(id=name)
            ):
                return name
    return None


def asked_beside(module: Module) -> Iterator[str]:
    """Yield what is awaited within a transaction without being given it."""
    for block in ast.walk(module.tree):
        if not isinstance(block, ast.AsyncWith) or (tx := transaction_of(block)) is None:
            continue
        for node in (one for statement in block.body for one in ast.walk(statement)):
            if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
                names = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
                asked = ast.unparse(node.value)
                if tx not in names and not asked.startswith(MAY_ASK):
                    yield f"{module.at(node)} {asked}"


def test_within_a_transaction_nothing_is_asked_of_the_pool() -> None:
    assert [fault for module in modules() for fault in asked_beside(module)] == []


def within(statement: str) -> Module:
    return Module("shop/tea.py", f"async def f(d):\n    async with d.transaction() as tx:\n        {statement}\n")


@pytest.mark.parametrize("asked", ["self.find(tea_id)", "d.fetchval('SELECT 1')", "store.find(self._pool)"])
def test_a_second_connection_is_seen(asked: str) -> None:
    assert len(list(asked_beside(within(f"await {asked}")))) == 1


@pytest.mark.parametrize("asked", ["tx.execute('x')", "brew(tx)", "self._stock.settle(tea)"])
def test_what_is_given_the_transaction_is_let_be(asked: str) -> None:
    assert list(asked_beside(within(f"await {asked}"))) == []
