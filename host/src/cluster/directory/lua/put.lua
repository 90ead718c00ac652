-- Puts the entry of a live publisher in place, if it is the newest.
-- KEYS: the stream. ARGV: entry, lease in ms, time to keep in ms, channel, "claim" or "renew".
-- Returns "ok"; or "busy", "held" or "seen" with the entry that is in the way, and for how many ms its lease holds.
local own = read(ARGV[1])
if not own then return redis.error_reply('ERR no entry') end
local fields = redis.call('HMGET', KEYS[1], 'entry', 'until', 'seen')
local held, seen = read(fields[1]), read(fields[3])
local time = now()
local left = math.max((tonumber(fields[2]) or 0) - time, 0)
if held and ARGV[5] == 'claim' then
    local is_live = held.state == 'live' and left > 0
    if is_live and held.id.node ~= own.id.node and held.publisher ~= own.publisher then
        return { 'busy', fields[1], left }
    end
end
if held and fields[1] ~= ARGV[1] and not greater(own, held) then return { 'held', fields[1], left } end
if seen and greater(seen, own) then return { 'seen', fields[3], 0 } end
redis.call('HSET', KEYS[1], 'entry', ARGV[1], 'until', string.format('%.0f', time + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if fields[1] ~= ARGV[1] then
    redis.call('HDEL', KEYS[1], 'seen')
    redis.call('PUBLISH', ARGV[4], 'e' .. ARGV[1])
end
return { 'ok' }
