"""Templates of coupons: what is promised, how many, to whom; run by operators. States are drawn in `coupon/`."""
