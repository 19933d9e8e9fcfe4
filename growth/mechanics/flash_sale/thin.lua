-- thin.lua: leave in the list of winners, each once and in the same order, those who hold units, and nobody else; forget
-- the zeros of those who hold none. What a process has read of the list it reads on, or sees that it is another one.
-- KEYS 1 sale (hash)
-- KEYS 2 shoppers (hash: user_id -> units, 0 once all were given back)
-- KEYS 3 winners (list: user_id)
-- REPLY how many winners there are now, or -1 if the sale is not loaded
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local sale = redis.call('HMGET', KEYS[1], 'expires_ms', 'winners_kept')
local kept = tonumber(sale[2]) or math.huge
local holds, pairs_of = {}, redis.call('HGETALL', KEYS[2])
for at = 1, #pairs_of, 2 do
  if tonumber(pairs_of[at + 1]) > 0 then
    holds[pairs_of[at]] = true
  else
    redis.call('HDEL', KEYS[2], pairs_of[at])
  end
end
local list = redis.call('LRANGE', KEYS[3], 0, -1)
redis.call('DEL', KEYS[3])
local count = 0
local function push(user_id)
  if holds[user_id] and count < kept then
    redis.call('RPUSH', KEYS[3], user_id)
    holds[user_id] = nil
    count = count + 1
  end
end
for i = 1, #list do push(list[i]) end
for at = 1, #pairs_of, 2 do push(pairs_of[at]) end
redis.call('PEXPIREAT', KEYS[3], sale[1])
return count
