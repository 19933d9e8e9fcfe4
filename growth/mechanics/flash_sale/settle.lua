-- settle.lua: bring claims to the units that Postgres says they occupy; 0 forgets a claim. Twice is harmless.
-- -1 gives a claim up: forgets it unless it was asked for again since the time given, by somebody who may have it now.
-- KEYS 1 sale (hash)
-- KEYS 2 claims (hash: claim_id -> "units|asked_ms|user_id")
-- KEYS 3 shoppers (hash: user_id -> units)
-- KEYS 4 winners (list: user_id)
-- ARGV 1.. four for each claim: claim_id, user_id, units, asked_ms
-- REPLY how many claims changed, or -1 if the sale is not loaded
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local changed, delta = 0, 0
for at = 1, #ARGV, 4 do
  local claim_id, user_id, units = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local known = redis.call('HGET', KEYS[2], claim_id)
  local before = 0
  if known then
    before = tonumber(string.match(known, '^%d+'))
  end
  if units < 0 then
    units = (known and string.match(known, '|(%d+)|') == ARGV[at + 3]) and 0 or before
  end
  if before ~= units then
    changed = changed + 1
    delta = delta + units - before
    if units == 0 then
      redis.call('HDEL', KEYS[2], claim_id)
    else
      redis.call('HSET', KEYS[2], claim_id, units .. '|' .. ARGV[at + 3] .. '|' .. user_id)
      if before == 0 then redis.call('RPUSH', KEYS[4], user_id) end
    end
    if redis.call('HINCRBY', KEYS[3], user_id, units - before) <= 0 then
      redis.call('HDEL', KEYS[3], user_id)
    end
  end
end
if delta ~= 0 then
  local sale = redis.call('HMGET', KEYS[1], 'total', 'expires_ms', 'back_after_ms')
  local taken = redis.call('HINCRBY', KEYS[1], 'taken', delta)
  local total, expires = tonumber(sale[1]), sale[2]
  if taken < total and taken - delta >= total then
    local time = redis.call('TIME')
    redis.call('HSET', KEYS[1], 'back_ms', time[1] * 1000 + math.floor(time[2] / 1000) + (sale[3] or 0))
  end
  for i = 2, 4 do redis.call('PEXPIREAT', KEYS[i], expires) end
end
return changed
