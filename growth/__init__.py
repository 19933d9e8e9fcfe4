"""growth: flash sales, group-buy teams, referrals, streaks and rewards for shops that live in mini-programs."""
