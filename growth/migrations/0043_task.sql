-- task: whom campaigns are for.

ALTER TABLE task.tasks ADD COLUMN audience jsonb NOT NULL DEFAULT '[]';
