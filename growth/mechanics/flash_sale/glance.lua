-- glance.lua: what the board shows of one sale, and Redis' clock.
-- KEYS 1 sale (hash)
-- KEYS 2 winners (list: claim_id, oldest first)
-- ARGV 1 how many winners the caller knows
-- ARGV 2 how many more it wants at most
-- REPLY now_ms, taken (or -1 if the sale is not loaded), generation, winners known to Redis, then the winners asked for
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sale = redis.call('HMGET', KEYS[1], 'taken', 'generation')
if not sale[1] then return {now, -1, 0, 0} end
local from = tonumber(ARGV[1])
return {now, tonumber(sale[1]), tonumber(sale[2]), redis.call('LLEN', KEYS[2]),
  unpack(redis.call('LRANGE', KEYS[2], from, from + ARGV[2] - 1))}
