"""Starts `growth serve` with other constants: `python -m tests.abuse.unbound module:NAME=VALUE … serve`.

Defaults of arguments that were made of a constant are changed with it.
"""

import importlib
import inspect
import sys


def main() -> None:
    """Change them, then run the process."""
    *changes, command = sys.argv[1:]
    for change in changes:
        place, _, text = change.partition("=")
        module_name, _, name = place.partition(":")
        module = importlib.import_module(module_name)
        before, shift = getattr(module, name), [int(part) for part in text.split("<<")]
        after = shift[0] << shift[1]
        setattr(module, name, after)
        for _, one in inspect.getmembers(module, inspect.isclass):
            made = one.__init__
            if inspect.isfunction(made) and made.__kwdefaults__:
                made.__kwdefaults__.update(
                    {key: after for key, value in made.__kwdefaults__.items() if value is before}
                )
    sys.argv[1:] = [command]
    from growth.cli import main as growth  # noqa: PLC0415 - only now: it imports all the rest

    growth()


if __name__ == "__main__":
    main()
