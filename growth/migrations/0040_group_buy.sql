-- group_buy: whom campaigns are for.

ALTER TABLE group_buy.campaigns ADD COLUMN audience jsonb NOT NULL DEFAULT '[]';
