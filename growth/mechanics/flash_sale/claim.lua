-- claim.lua: admit a batch of claims to one sale, by Redis' clock.
-- KEYS 1 sale (hash: generation, version, state, opens_ms, closes_ms, total, taken, limit, draw, back_ms, ...)
-- KEYS 2 claims (hash: claim_id -> "units|asked_ms|user_id": when it was last asked for)
-- KEYS 3 shoppers (hash: user_id -> units, 0 once all were given back)
-- KEYS 4 cooldowns (hash: user_id -> until_ms)
-- KEYS 5 allowed (set: user_id)
-- KEYS 6 due (sorted set: "s:user_id" | "a:address" by theoretical arrival, ms; who may come at once is not in it)
-- KEYS 7 winners (list: user_id, oldest first, each once; at most winners_kept)
-- ARGV 1 msgpack: an array of [claim_id, user_id, units, address, what bars the shopper: an Admission, or 0]
-- REPLY now_ms, units left, then one for each claim: Admission + 16 * seconds to wait (0 unless TOO_MANY or COOLING_DOWN)
-- ENUM Admission: WON=1 REPLAY=2 SOLD_OUT=3 LIMIT_REACHED=4 NOT_OPEN=5 ENDED=6 PAUSED=7 TOO_MANY=8 COOLING_DOWN=9 NOT_INVITED=10 DRAWING=11 NOT_LOADED=12 ACCOUNT_TOO_NEW=13 NOT_IN_AUDIENCE=14
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sale = redis.call('HMGET', KEYS[1], 'state', 'opens_ms', 'closes_ms', 'total', 'taken', 'limit', 'draw',
  'invited_only', 'cool_down', 'shopper_gap_ms', 'shopper_burst', 'address_gap_ms', 'address_burst', 'expires_ms',
  'back_ms', 'winners_kept')
local asks = cmsgpack.unpack(ARGV[1])
local reply = {now, 0}

local verdict = 0
if not sale[1] then
  verdict = 12
elseif sale[1] == 'ended' or now >= tonumber(sale[3]) then
  verdict = 6
elseif sale[1] == 'paused' then
  verdict = 7
elseif now < tonumber(sale[2]) then
  verdict = 5
end
if verdict == 12 then
  for i = 1, #asks do reply[i + 2] = 12 end
  return reply
end

local total, taken, limit = tonumber(sale[4]), tonumber(sale[5]), tonumber(sale[6])
local draw, invited_only, cool_down = sale[7] == '1', sale[8] == '1', sale[9] == '1'
local shopper_gap, shopper_burst = tonumber(sale[10]), tonumber(sale[11])
local address_gap, address_burst = tonumber(sale[12]), tonumber(sale[13])
-- Units that came back into a sold-out sale wait until no process says "sold out" from memory any more.
local waiting = now < tonumber(sale[15] or 0)
-- How many more winners the list takes, looked up with the first of a batch.
local room

-- GCRA: one number for each caller, the time at which its next attempt would be due at the even pace. What is past says
-- nothing any more: so much is kept as came within a minute, and not all that ever came.
if shopper_gap > 0 or address_gap > 0 then redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now) end
local function wait_for(who, gap, burst)
  local due = tonumber(redis.call('ZSCORE', KEYS[6], who) or now)
  if due < now then due = now end
  local early = due - now - gap * (burst - 1)
  if early > 0 then return math.ceil(early / 1000) end
  redis.call('ZADD', KEYS[6], due + gap, who)
  return 0
end

local function admit(claim_id, user_id, units, address, barred)
  local known = redis.call('HGET', KEYS[2], claim_id)
  if known then
    -- Asked for again: whoever was admitted before can no longer give it up.
    redis.call('HSET', KEYS[2], claim_id, (string.gsub(known, '|%d+|', '|' .. now .. '|', 1)))
    return 2
  end
  if verdict ~= 0 then return verdict end
  local known_units = redis.call('HGET', KEYS[3], user_id)
  local mine = tonumber(known_units or 0)
  if mine == 0 and (waiting or taken >= total) then return 3 end
  if barred ~= 0 then return barred end
  if invited_only and redis.call('SISMEMBER', KEYS[5], user_id) == 0 then return 10 end
  if shopper_gap > 0 then
    local wait = wait_for('s:' .. user_id, shopper_gap, shopper_burst)
    if wait > 0 then return 8 + 16 * wait end
  end
  if address_gap > 0 and address ~= '' then
    local wait = wait_for('a:' .. address, address_gap, address_burst)
    if wait > 0 then return 8 + 16 * wait end
  end
  if cool_down then
    local left = tonumber(redis.call('HGET', KEYS[4], user_id) or 0) - now
    if left > 0 then return 9 + 16 * math.ceil(left / 1000) end
  end
  if draw then return 11 end
  if mine + units > limit then return 4 end
  if waiting or taken + units > total then return 3 end
  taken = taken + units
  redis.call('HSET', KEYS[2], claim_id, units .. '|' .. now .. '|' .. user_id)
  redis.call('HSET', KEYS[3], user_id, mine + units)
  if not known_units then
    room = room or (tonumber(sale[16]) or math.huge) - redis.call('LLEN', KEYS[7])
    if room > 0 then
      redis.call('RPUSH', KEYS[7], user_id)
      room = room - 1
    end
  end
  return 1
end

local before = taken
for i, ask in ipairs(asks) do
  reply[i + 2] = admit(ask[1], ask[2], ask[3], ask[4], ask[5])
end
if taken ~= before then redis.call('HSET', KEYS[1], 'taken', taken) end
-- The first claim makes keys that must not outlive the sale.
if before == 0 or shopper_gap > 0 or address_gap > 0 then
  for _, i in ipairs({2, 3, 6, 7}) do redis.call('PEXPIREAT', KEYS[i], sale[14]) end
end
reply[2] = total - taken
return reply
