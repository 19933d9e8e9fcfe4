-- name: Every endpoint has one current secret
SELECT endpoint.endpoint_id, count(secret.secret) AS secrets
FROM webhook.endpoints AS endpoint
LEFT JOIN webhook.secrets AS secret ON secret.endpoint_id = endpoint.endpoint_id AND secret.good_until IS NULL
GROUP BY endpoint.endpoint_id
HAVING count(secret.secret) <> 1;

-- name: What is delivered was answered with 2xx at its last attempt
SELECT endpoint_id, event_id, log -> -1 AS attempt
FROM webhook.deliveries
WHERE state = 'delivered'
  AND event_at > now() - interval '1 day'
  AND ((log -> -1 ->> 'status')::int NOT BETWEEN 200 AND 299 OR log -> -1 ->> 'status' IS NULL);

-- name: What is exhausted was tried as often as the schedule says, or its receiver said that it is gone
SELECT endpoint_id, event_id, attempts, log -> -1 AS attempt
FROM webhook.deliveries
WHERE state = 'exhausted'
  AND event_at > now() - interval '5 days'
  AND attempts < 10
  AND coalesce((log -> -1 ->> 'status')::int, 0) <> 410;

-- name: Every attempt is in the log
SELECT endpoint_id, event_id, attempts, jsonb_array_length(log) AS logged
FROM webhook.deliveries
WHERE event_at > now() - interval '1 day'
  AND least(attempts, 20) > jsonb_array_length(log);
