-- glance.lua: what the board shows of one sale, and Redis' clock.
-- KEYS 1 sale (hash)
-- KEYS 2 winners (list: user_id, oldest first)
-- ARGV 1 how many winners the caller knows
-- ARGV 2 how many more it wants at most
-- ARGV 3 the last one it knows, or ''
-- REPLY now_ms, taken (or -1 if the sale is not loaded), generation, winners known to Redis, how many of those that the
-- caller knows come before (0 if this is another list: it must start over), then the winners after them
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sale = redis.call('HMGET', KEYS[1], 'taken', 'generation')
if not sale[1] then return {now, -1, 0, 0, 0} end
-- A Redis that came back with an older list may have filled it up with others since: the length alone tells nothing.
local from = tonumber(ARGV[1])
if from > 0 and redis.call('LINDEX', KEYS[2], from - 1) ~= ARGV[3] then from = 0 end
local known = redis.call('LLEN', KEYS[2])
if ARGV[2] == '0' then return {now, tonumber(sale[1]), tonumber(sale[2]), known, from} end
return {now, tonumber(sale[1]), tonumber(sale[2]), known, from,
  unpack(redis.call('LRANGE', KEYS[2], from, from + ARGV[2] - 1))}
