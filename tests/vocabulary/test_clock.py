"""Times as every answer shows them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from growth.vocabulary.clock import rfc3339


@pytest.mark.parametrize(
    ("instant", "shown"),
    [
        (datetime(2026, 11, 21, 12, tzinfo=UTC), "2026-11-21T12:00:00.000Z"),
        (datetime(2026, 11, 21, 12, 0, 0, 999_999, tzinfo=UTC), "2026-11-21T12:00:00.999Z"),
        (datetime(2026, 11, 21, 4, 30, tzinfo=timezone(timedelta(hours=8))), "2026-11-20T20:30:00.000Z"),
        (datetime(344, 7, 2, tzinfo=UTC), "0344-07-02T00:00:00.000Z"),
        (datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC), "9998-12-31T23:59:59.000Z"),
    ],
)
def test_a_time_has_four_digits_of_year_and_three_of_seconds(instant: datetime, shown: str) -> None:
    assert rfc3339(instant) == shown
