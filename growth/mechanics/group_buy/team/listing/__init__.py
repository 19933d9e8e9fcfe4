"""Lists and numbers of teams and seats: what shoppers choose from and operators look at. Decides nothing."""
