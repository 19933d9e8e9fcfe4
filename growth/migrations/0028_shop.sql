-- shop: orders are corrected. What counted of one for tasks is found by its order, also where no refund takes it back.

UPDATE task.counted AS counted
SET undo_key = 'no:shop.order_refunded:' || told.subject
FROM task.tasks AS task,
    plumbing.outbox AS told
WHERE task.task_id = counted.task_id
  AND task.undo_on_refund = 'no'
  AND task.event_type IN ('shop.order_paid', 'shop.order_received')
  AND task.distinct_by IS NULL
  AND told.type = task.event_type
  AND told.event_id::text = counted.value
  -- A longer one is kept as its hash.
  AND length(told.subject) <= 64;
