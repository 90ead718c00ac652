-- Puts the entry of a publisher that has left in place, unless there is a newer one. Its id stays the greatest that was seen.
-- KEYS: the stream. ARGV: entry, time to keep in ms, channel.
local own = read(ARGV[1])
if not own then return redis.error_reply('ERR no entry') end
local held = read(redis.call('HGET', KEYS[1], 'entry'))
if held and greater(held, own) then return 'held' end
redis.call('HSET', KEYS[1], 'entry', ARGV[1], 'until', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], 'e' .. ARGV[1])
return 'ok'
