"""How many examples hypothesis makes: a third with every run, all of them in the long suite."""

import os
from typing import Any

from hypothesis import HealthCheck, settings

SHARE = 1 if os.environ.get("LONG") == "1" else 3


def examples(number: int, **more: Any) -> settings:
    """Settings for `number` examples in the long suite: each takes as long as it takes."""
    plain: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
    return settings(max_examples=-(-number // SHARE), **plain | more)
