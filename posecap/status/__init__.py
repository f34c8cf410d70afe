"""What became of every row: fates, the ledger, yields, alarms."""
