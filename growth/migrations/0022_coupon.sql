-- An order that is neither paid nor closed gives its coupon back after some days: found by when it was locked.
CREATE INDEX coupons_locked ON coupon.coupons (locked_at) WHERE state = 'locked';

-- The last order that let a coupon go by that: heard of as placed again, it does not lock it once more.
ALTER TABLE coupon.coupons ADD COLUMN lapsed_order_id text COLLATE "C";
