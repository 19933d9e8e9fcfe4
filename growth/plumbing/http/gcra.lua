-- gcra.lua: take requests from the shares of many callers, by Redis' clock (generic cell rate algorithm).
-- KEYS 1.. one for each take (string: when the caller's share is whole again, microseconds since 1970)
-- ARGV 1 gap: microseconds between requests at the steady rate
-- ARGV 2 burst: requests that may come at once
-- ARGV 3.. units of each take: so many requests, all or none (one where not given)
-- REPLY three for each take: requests left (-1: refused, nothing taken), microseconds to wait, microseconds until whole
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local gap = tonumber(ARGV[1])
local span = gap * tonumber(ARGV[2])
local reply = {}
for i = 1, #KEYS do
  local whole_at = tonumber(redis.call('GET', KEYS[i]) or now)
  if not whole_at or whole_at ~= whole_at or whole_at < now then
    whole_at = now
  elseif whole_at > now + span then
    -- A clock jumped back, or the rate was raised: nobody owes more than a whole share. Written, or it would never pass.
    whole_at = now + span
    redis.call('SET', KEYS[i], string.format('%.0f', whole_at), 'PX', math.ceil(span / 1000))
  end
  local after = whole_at + gap * tonumber(ARGV[i + 2] or 1)
  local wait = after - span - now
  if wait > 0 then
    reply[3 * i - 2] = -1
    reply[3 * i - 1] = wait
    reply[3 * i] = whole_at - now
  else
    -- Written as whole digits: Lua would shorten a number of this size to 1.7e+15.
    redis.call('SET', KEYS[i], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
    reply[3 * i - 2] = math.floor(-wait / gap)
    reply[3 * i - 1] = 0
    reply[3 * i] = after - now
  end
end
return reply
