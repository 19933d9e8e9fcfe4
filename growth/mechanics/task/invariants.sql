-- name: Progress is what counted and was not undone
SELECT progress.user_id, progress.period_on, progress.task_id, progress.done, coalesce(counted.done, 0) AS counted
FROM task.progress AS progress
LEFT JOIN (
    SELECT user_id, period_on, task_id, count(DISTINCT value) AS done
    FROM task.counted
    WHERE undone_at IS NULL
    GROUP BY user_id, period_on, task_id
) AS counted USING (user_id, period_on, task_id)
WHERE progress.done <> coalesce(counted.done, 0);

-- name: What counted belongs to a row of progress
SELECT counted.user_id, counted.period_on, counted.task_id
FROM task.counted AS counted
LEFT JOIN task.progress AS progress USING (user_id, period_on, task_id)
WHERE progress.user_id IS NULL;

-- name: Who reached the count has done it, and nobody else has
SELECT progress.user_id, progress.period_on, progress.task_id, progress.done, task.count, progress.state
FROM task.progress AS progress
JOIN task.tasks AS task USING (task_id)
WHERE (progress.state = 'open') = (progress.done >= task.count);

-- name: What was refunded counts no more
SELECT counted.user_id, counted.period_on, counted.task_id, counted.undo_key
FROM task.counted AS counted
JOIN task.refunds AS refund USING (undo_key)
WHERE counted.undone_at IS NULL;

-- name: Progress is of tasks that were published
SELECT progress.task_id
FROM task.progress AS progress
LEFT JOIN task.tasks AS task USING (task_id)
WHERE task.published_at IS NULL;

-- name: No more tasks are published than a page can show
SELECT count(*) AS published
FROM task.tasks
WHERE state IN ('published', 'paused')
HAVING count(*) > 200;
