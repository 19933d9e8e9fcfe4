-- flash_sale: whom campaigns are for.

ALTER TABLE flash_sale.sales ADD COLUMN audience jsonb NOT NULL DEFAULT '[]';

-- An id that changes hands is looked for in lists; series make many sales.
CREATE INDEX sales_by_listed ON flash_sale.sales USING gin (audience jsonb_path_ops);
