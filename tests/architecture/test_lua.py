"""Lua: every script says its KEYS, ARGV and reply, means what Python means by an enum, compiles, and is used."""

import ast
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.architecture.source import HOUSE, Module, called, calls, modules, path_of

pytestmark = pytest.mark.anyio


class Script(NamedTuple):
    """One Lua file."""

    path: str
    text: str

    @property
    def file(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def header(self) -> list[str]:
        """The comment lines before the first line of code."""
        lines = self.text.splitlines()
        code = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
        return [line.removeprefix("--").strip() for line in lines[:code]]

    @property
    def body(self) -> str:
        return "\n".join(re.sub(r"--.*", "", line) for line in self.text.splitlines())


def scripts() -> list[Script]:
    return [Script(path_of(path), path.read_text(encoding="utf-8")) for path in sorted(HOUSE.rglob("*.lua"))]


def header_faults(script: Script) -> list[str]:
    header = script.header
    faults = []
    if not header or not re.fullmatch(rf"{re.escape(script.file)}: .+", header[0]):
        faults.append(f"{script.path} does not begin with -- {script.file}: one sentence")
    if not any(line.startswith("REPLY ") for line in header):
        faults.append(f"{script.path} does not say REPLY")
    for word in ("KEYS", "ARGV"):
        told = re.findall(rf"\b{word} (\d+)(\.\.)?", "\n".join(header))
        listed = {int(number) for number, _ in told}
        is_open = any(dots for _, dots in told)
        used = {int(number) for number in re.findall(rf"\b{word}\[(\d+)\]", script.body)}
        if not is_open and used - listed:
            faults.append(f"{script.path} uses {word} {sorted(used - listed)} and does not list them")
        if re.search(rf"\b{word}\b", script.body) and not listed:
            faults.append(f"{script.path} does not list {word}")
        if listed and listed != set(range(1, max(listed) + 1)):
            faults.append(f"{script.path} skips a number of {word}")
    return faults


def enums(modules: Iterable[Module]) -> Mapping[str, dict[str, int]]:
    """Every IntEnum of the house, by name."""
    found: dict[str, dict[str, int]] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(b, ast.Name) and b.id == "IntEnum" for b in node.bases
            ):
                found[node.name] = {
                    target.id: line.value.value
                    for line in node.body
                    if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
                    for target in line.targets
                    if isinstance(target, ast.Name) and isinstance(line.value.value, int)
                }
    return found


def enum_faults(script: Script, enums: Mapping[str, dict[str, int]]) -> list[str]:
    """`-- ENUM Admission: WON=1 REPLAY=2`, perhaps over several lines, is the IntEnum of that name."""
    faults = []
    for name, told in re.findall(r"^ENUM (\w+):((?: *\w+=-?\d+\n?)+)", "\n".join(script.header), re.MULTILINE):
        words = {word: int(number) for word, number in re.findall(r"(\w+)=(-?\d+)", told)}
        if enums.get(name) != words:
            faults.append(f"{script.path}: {name} is {words} here and {enums.get(name)} in Python")
    return faults


def unused(scripts: Iterable[Script], modules: Iterable[Module]) -> list[str]:
    """Scripts that no Python of their own folder loads by `Script.beside(__file__, name)`."""
    loaded = {
        f"{module.folder}/{argument.value!s}"
        for module in modules
        for call in calls(module)
        if called(call) == "beside"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    return [script.path for script in scripts if script.path not in loaded]


async def not_compiling(redis_url: str, scripts: Iterable[Script]) -> list[str]:
    faults = []
    async with Redis.from_url(redis_url) as redis:
        for script in scripts:
            try:
                await redis.script_load(script.text)
            except ResponseError as error:
                faults.append(f"{script.path}: {error}")
    return faults


GOOD = """-- tea.lua: pour.
-- KEYS 1 pot (string)
-- ARGV 1.. cups
-- REPLY how many
-- ENUM Tea: GREEN=1 BLACK=2
return redis.call('INCRBY', KEYS[1], ARGV[1])
"""


def example(old: str = "", new: str = "") -> Script:
    return Script("mechanics/tea/tea.lua", GOOD.replace(old, new) if old else GOOD)


def test_scripts_say_what_they_take_and_return() -> None:
    assert scripts()
    assert [fault for script in scripts() for fault in header_faults(script)] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-- tea.lua: pour.", "-- pour."),
        ("tea.lua", "coffee.lua"),
        ("-- REPLY how many\n", ""),
        ("KEYS[1]", "KEYS[2]"),
        ("-- KEYS 1 pot (string)\n", ""),
        ("-- KEYS 1 pot", "-- KEYS 1 pot, KEYS 3 lid"),
        ("-- ARGV 1.. cups\n", ""),
    ],
)
def test_a_header_that_hides_something_is_seen(old: str, new: str) -> None:
    assert header_faults(example()) == []
    assert header_faults(example(old, new))


def test_numbers_mean_the_same_in_lua_and_python() -> None:
    named = [script.path for script in scripts() if "ENUM" in "\n".join(script.header)]
    assert named
    assert [fault for script in scripts() for fault in enum_faults(script, enums(modules()))] == []


def test_a_number_that_means_something_else_is_seen() -> None:
    python = enums([Module("tea.py", "class Tea(IntEnum):\n    GREEN = 1\n    BLACK = 3\n")])
    assert enum_faults(example(), python)
    assert enum_faults(example("BLACK=2", "BLACK=3"), python) == []
    assert enum_faults(example(), {})


def test_every_script_is_used() -> None:
    assert unused(scripts(), modules()) == []


def test_a_script_that_nobody_loads_is_seen() -> None:
    loads = 'POUR = Script.beside(__file__, "tea.lua")\n'
    assert unused([example()], [Module("mechanics/tea/pot.py", loads)]) == []
    assert unused([example()], [Module("shop/pot.py", loads)]) == ["mechanics/tea/tea.lua"]


async def test_every_script_compiles(redis_url: str) -> None:
    assert await not_compiling(redis_url, scripts()) == []


async def test_a_script_that_does_not_compile_is_seen(redis_url: str) -> None:
    assert await not_compiling(redis_url, [example("return", "retrun")])
