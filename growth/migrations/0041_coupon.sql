-- coupon: whom campaigns are for.

ALTER TABLE coupon.templates ADD COLUMN audience jsonb NOT NULL DEFAULT '[]';
