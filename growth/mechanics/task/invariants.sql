-- name: Progress is what counted and was not undone
-- page: 10000 of task.progress by user_id text, period_on date, task_id uuid
SELECT progress.user_id, progress.period_on, progress.task_id, progress.done, counted.done AS counted
FROM page AS progress
LEFT JOIN LATERAL (
    SELECT count(DISTINCT one.value) AS done
    FROM task.counted AS one
    WHERE one.user_id = progress.user_id
      AND one.period_on = progress.period_on
      AND one.task_id = progress.task_id
      AND one.undone_at IS NULL
) AS counted ON TRUE
WHERE progress.done <> counted.done;

-- name: What counted belongs to a row of progress
-- page: 50000 of task.counted by user_id text, period_on date, task_id uuid, value text, occurrence_id text
SELECT counted.user_id, counted.period_on, counted.task_id
FROM page AS counted
LEFT JOIN task.progress AS progress USING (user_id, period_on, task_id)
WHERE progress.user_id IS NULL;

-- name: Who reached the count has done it, and nobody else has
-- page: 50000 of task.progress by user_id text, period_on date, task_id uuid
SELECT progress.user_id, progress.period_on, progress.task_id, progress.done, task.count, progress.state
FROM page AS progress
JOIN task.tasks AS task USING (task_id)
WHERE (progress.state = 'open') = (progress.done >= task.count);

-- name: What was refunded counts no more
-- page: 10000 of task.refunds by undo_key text
SELECT counted.user_id, counted.period_on, counted.task_id, counted.undo_key
FROM page AS refund
JOIN task.counted AS counted USING (undo_key)
WHERE counted.undone_at IS NULL;

-- name: Progress is of tasks that were published
-- page: 50000 of task.progress by user_id text, period_on date, task_id uuid
SELECT progress.task_id
FROM page AS progress
LEFT JOIN task.tasks AS task USING (task_id)
WHERE task.published_at IS NULL;

-- name: No more tasks are published than a page can show
SELECT count(*) AS published
FROM task.tasks
WHERE state IN ('published', 'paused')
HAVING count(*) > 200;
