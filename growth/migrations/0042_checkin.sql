-- checkin: whom campaigns are for.

ALTER TABLE checkin.programs ADD COLUMN audience jsonb NOT NULL DEFAULT '[]';
