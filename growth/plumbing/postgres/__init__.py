"""Postgres: the pool and its transactions, what its errors mean, partitions, migrations."""
