-- ready.lua: find out whether a script can write, as a claim must. Leaves nothing behind.
-- KEYS 1 a key of nobody's (string)
-- REPLY 1
redis.call('SET', KEYS[1], '1', 'PX', 1000)
redis.call('DEL', KEYS[1])
return 1
