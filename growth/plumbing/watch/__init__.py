"""Watch: metrics, logs, traces, the audit, and the sentences that must always hold (invariants)."""
