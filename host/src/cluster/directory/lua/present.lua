-- Presents an entry that somebody has seen, and that is newer than what is in place: the publisher takes an id after it.
-- KEYS: the stream. ARGV: entry, time to keep in ms, channel.
local own = read(ARGV[1])
if not own then return redis.error_reply('ERR no entry') end
local fields = redis.call('HMGET', KEYS[1], 'entry', 'seen')
local held, seen = read(fields[1]), read(fields[2])
if (held and not greater(own, held)) or (seen and not greater(own, seen)) then return 'held' end
redis.call('HSET', KEYS[1], 'seen', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], 's' .. ARGV[1])
return 'ok'
