"""Lists of coupons, for shoppers and for operators. Each statement walks an index: see the migration."""
