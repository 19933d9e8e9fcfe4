"""Money is whole fen (1/100 yuan), never a fraction."""

from typing import Annotated

from msgspec import Meta

MAX_FEN = 100_000_000_00
"""One hundred million yuan: above any shop's price, far below what a signed 64-bit sum overflows at."""

Fen = Annotated[int, Meta(ge=0, le=MAX_FEN, description="Whole fen (1/100 yuan).")]
