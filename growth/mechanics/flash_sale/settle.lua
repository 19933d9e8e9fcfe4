-- settle.lua: bring claims to the units, and the shopper, that Postgres says they have; 0 forgets a claim. Twice is
-- harmless. -1 gives a claim up: forgets it unless it was asked for again since the time given, by somebody who may have
-- it now.
-- KEYS 1 sale (hash)
-- KEYS 2 claims (hash: claim_id -> "units|asked_ms|user_id")
-- KEYS 3 shoppers (hash: user_id -> units, 0 once all were given back)
-- KEYS 4 winners (list: user_id, each once)
-- ARGV 1.. four for each claim: claim_id, user_id, units, asked_ms
-- REPLY how many claims changed, or -1 if the sale is not loaded
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local sale = redis.call('HMGET', KEYS[1], 'total', 'expires_ms', 'back_after_ms', 'winners_kept')
local kept = tonumber(sale[4]) or math.huge

local function add(user_id, units)
  local mine = redis.call('HGET', KEYS[3], user_id)
  local now_mine = math.max(0, tonumber(mine or 0) + units)
  local is_full = redis.call('LLEN', KEYS[4]) >= kept
  if not mine and now_mine > 0 and not is_full then redis.call('RPUSH', KEYS[4], user_id) end
  -- The 0 says that the shopper stands in the list; a list that is full is read by nobody.
  if now_mine > 0 or (mine and not is_full) then
    redis.call('HSET', KEYS[3], user_id, now_mine)
  else
    redis.call('HDEL', KEYS[3], user_id)
  end
end

local changed, delta = 0, 0
for at = 1, #ARGV, 4 do
  local claim_id, user_id, units = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local known = redis.call('HGET', KEYS[2], claim_id)
  local before, asked, owner = 0, nil, user_id
  if known then
    before, asked, owner = string.match(known, '^(%d+)|(%d+)|(.*)$')
    before = tonumber(before)
  end
  if units < 0 then
    units = (known and asked == ARGV[at + 3]) and 0 or before
    user_id = owner
  end
  if before ~= units or (known and owner ~= user_id) then
    changed = changed + 1
    delta = delta + units - before
    if before > 0 then add(owner, -before) end
    if units > 0 then add(user_id, units) end
    if units == 0 then
      redis.call('HDEL', KEYS[2], claim_id)
    else
      redis.call('HSET', KEYS[2], claim_id, units .. '|' .. ARGV[at + 3] .. '|' .. user_id)
    end
  end
end
if changed > 0 then
  for i = 2, 4 do redis.call('PEXPIREAT', KEYS[i], sale[2]) end
end
if delta ~= 0 then
  local taken = redis.call('HINCRBY', KEYS[1], 'taken', delta)
  local total = tonumber(sale[1])
  if taken < total and taken - delta >= total then
    local time = redis.call('TIME')
    redis.call('HSET', KEYS[1], 'back_ms', time[1] * 1000 + math.floor(time[2] / 1000) + (sale[3] or 0))
  end
end
return changed
