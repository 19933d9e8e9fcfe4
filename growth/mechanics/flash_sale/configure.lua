-- configure.lua: tell a loaded sale what its operators changed; an older version never replaces a newer one.
-- KEYS 1 sale (hash)
-- ARGV 1 version
-- ARGV 2.. field, value, field, value, ...
-- REPLY 1 changed, 0 not newer, -1 not loaded
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return -1 end
if tonumber(version) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], unpack(ARGV, 2))
return 1
