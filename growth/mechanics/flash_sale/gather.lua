-- gather.lua: lay a page of claims that Postgres knows beside the live keys, for load.lua to put in place.
-- KEYS 1 claims as gathered (hash)
-- KEYS 2 shoppers as gathered (hash)
-- KEYS 3 winners as gathered (list: each shopper once)
-- ARGV 1 milliseconds after which an abandoned gathering is forgotten
-- ARGV 2.. four for each claim: claim_id, user_id, units, held_ms
-- REPLY how many claims were laid
for at = 2, #ARGV, 4 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2] .. '|' .. ARGV[at + 3] .. '|' .. ARGV[at + 1])
  if redis.call('HINCRBY', KEYS[2], ARGV[at + 1], ARGV[at + 2]) == tonumber(ARGV[at + 2]) then
    redis.call('RPUSH', KEYS[3], ARGV[at + 1])
  end
end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
return (#ARGV - 1) / 4
