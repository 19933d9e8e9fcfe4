"""Approval: what operators do with withdrawals. Each act is one transaction with its audit entry."""
