-- shop: what lines use, one row a use, whatever the room that holds it.

CREATE TABLE shop.line_uses (
    order_id text COLLATE "C" NOT NULL,
    line_id  text COLLATE "C" NOT NULL,
    -- Room and noun: `flash_sale.claim`.
    kind     text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    PRIMARY KEY (order_id, line_id, kind),
    -- Lines that were placed give way to those that are paid.
    FOREIGN KEY (order_id, line_id) REFERENCES shop.order_lines ON DELETE CASCADE
);

-- Processes of the release before write and read the columns of the lines alone. As long as they run, the columns are
-- written too, and what only they wrote has its rows by this trigger; both end with the next release.
CREATE FUNCTION shop.note_uses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.line_uses (order_id, line_id, kind, id)
    SELECT NEW.order_id, NEW.line_id, used.kind, used.id::text
    FROM (
        VALUES ('flash_sale.claim', NEW.claim_id),
               ('group_buy.seat', NEW.seat_id),
               ('coupon.coupon', NEW.coupon_id)
    ) AS used (kind, id)
    WHERE used.id IS NOT NULL
    ON CONFLICT (order_id, line_id, kind) DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER uses_of_columns
    AFTER INSERT ON shop.order_lines
    FOR EACH ROW
    WHEN (num_nonnulls(NEW.claim_id, NEW.seat_id, NEW.coupon_id) > 0)
    EXECUTE FUNCTION shop.note_uses();
