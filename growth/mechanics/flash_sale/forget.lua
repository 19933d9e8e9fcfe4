-- forget.lua: leave nothing of shoppers who have nothing here any more, by their names.
-- KEYS 1 shoppers (hash: user_id -> units), KEYS 2 winners (list: user_id), KEYS 3 cooldowns (hash: user_id -> until_ms)
-- KEYS 4 allowed (set: user_id), KEYS 5 due (sorted set: "s:user_id" | ...)
-- ARGV 1.. user_id
-- REPLY how many were known
local gone, known = {}, 0
for i = 1, #ARGV do
  local user_id = ARGV[i]
  local units = redis.call('HGET', KEYS[1], user_id)
  if units == '0' then redis.call('HDEL', KEYS[1], user_id) end
  local found = units ~= false
  -- Who still holds units here stays in the list: a claim of theirs may be on its way.
  if not units or units == '0' then gone[user_id] = true end
  if redis.call('HDEL', KEYS[3], user_id) + redis.call('SREM', KEYS[4], user_id)
      + redis.call('ZREM', KEYS[5], 's:' .. user_id) > 0 then
    found = true
  end
  if found then known = known + 1 end
end
if next(gone) then
  -- Their places stay, empty: so a list that is full never looks as if it were whole.
  local list = redis.call('LRANGE', KEYS[2], 0, -1)
  for i = 1, #list do
    if gone[list[i]] then redis.call('LSET', KEYS[2], i - 1, '') end
  end
end
return known
