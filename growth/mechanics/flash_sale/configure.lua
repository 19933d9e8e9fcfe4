-- configure.lua: tell a loaded sale what its operators changed; an older version never replaces a newer one.
-- KEYS 1 sale (hash), KEYS 2.. all else that Redis holds of the sale: it ends with the sale
-- ARGV 1 version
-- ARGV 2.. field, value, field, value, ...
-- REPLY 1 changed, 0 not newer, -1 not loaded
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return -1 end
if tonumber(version) >= tonumber(ARGV[1]) then return 0 end
local before = tonumber(redis.call('HGET', KEYS[1], 'total'))
redis.call('HSET', KEYS[1], 'version', ARGV[1], unpack(ARGV, 2))
local sale = redis.call('HMGET', KEYS[1], 'total', 'taken', 'back_after_ms', 'expires_ms')
local taken = tonumber(sale[2])
if taken >= before and taken < tonumber(sale[1]) then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'back_ms', time[1] * 1000 + math.floor(time[2] / 1000) + (sale[3] or 0))
end
for i = 1, #KEYS do redis.call('PEXPIREAT', KEYS[i], sale[4]) end
return 1
