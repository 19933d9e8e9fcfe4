"""`python -m scripts.bench WHAT [OPTIONS]`: run one bench."""

import sys
from importlib import import_module

BENCHES = ("claims", "group_buys", "check_ins", "referrals", "commissions", "events", "rewards", "retention")


def main() -> None:
    """Run the bench that the first argument names, on the others."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in BENCHES:
        sys.exit(f"Usage: scripts/bench/run WHAT [OPTIONS], where WHAT is one of: {', '.join(BENCHES)}")
    sys.argv = [f"scripts/bench/run {what}", *sys.argv[2:]]
    import_module(f"scripts.bench.{what}").main()


if __name__ == "__main__":
    main()
