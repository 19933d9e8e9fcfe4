-- load.lua: put a sale rebuilt from Postgres in place, in one step; an older rebuild never replaces a newer one.
-- KEYS 1 sale, KEYS 2 claims, KEYS 3 shoppers, KEYS 4 cooldowns, KEYS 5 allowed, KEYS 6 winners
-- KEYS 7 claims, KEYS 8 shoppers, KEYS 9 cooldowns, KEYS 10 allowed, KEYS 11 winners, each as gathered from Postgres
-- ARGV 1 generation
-- ARGV 2.. field, value, field, value, ... of the sale
-- REPLY 1 in place, 0 a newer generation was there
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or 0)
local newer = generation >= tonumber(ARGV[1])
for i = 1, 5 do
  if newer then
    redis.call('DEL', KEYS[6 + i])
  elseif redis.call('EXISTS', KEYS[6 + i]) == 1 then
    redis.call('RENAME', KEYS[6 + i], KEYS[1 + i])
  else
    redis.call('DEL', KEYS[1 + i])
  end
end
if newer then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'generation', ARGV[1], unpack(ARGV, 2))
local taken = 0
local units = redis.call('HVALS', KEYS[3])
for i = 1, #units do taken = taken + tonumber(units[i]) end
redis.call('HSET', KEYS[1], 'taken', taken)
local kept = redis.call('HGET', KEYS[1], 'winners_kept')
if kept then redis.call('LTRIM', KEYS[6], 0, kept - 1) end
-- A sale that closed long ago is known for an hour more: keys that end at once would be rebuilt for every claim to it.
local expires, time = tonumber(redis.call('HGET', KEYS[1], 'expires_ms')), redis.call('TIME')
expires = string.format('%.0f', math.max(expires, time[1] * 1000 + 3600000))
redis.call('HSET', KEYS[1], 'expires_ms', expires)
for i = 1, 6 do redis.call('PEXPIREAT', KEYS[i], expires) end
return 1
