"""The cap of an inviter's day: it counts what commissions of orders paid on that day are worth now."""
