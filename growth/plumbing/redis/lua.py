"""Lua scripts: one file each, beside the Python that calls it, with a header that lists KEYS, ARGV and the reply."""

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from growth.plumbing.redis.client import AnyRedis

Argument = str | bytes | int | float


class Script:
    """One script. Calls it by hash; a server that has forgotten it (restart, flush, failover) is told again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.hash = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def beside(cls, module_file: str, name: str) -> "Script":
        """Load `name` from the folder of the calling module (`__file__`)."""
        return cls(Path(module_file).parent / name)

    async def __call__(self, redis: AnyRedis, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run it. All `keys` carry one hash tag, so it runs on one Cluster node. Raises redis-py's errors."""
        try:
            return await redis.execute_command("EVALSHA", self.hash, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.execute_command("EVAL", self.text, len(keys), *keys, *args)
