-- Writes the entry of a node, and returns those of all nodes.
-- KEYS: the node, and the index of all names. ARGV: entry, lease in ms, name, what the key of a node begins with, the most nodes. With an
-- empty entry it only reads.
if ARGV[1] ~= '' then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    redis.call('ZADD', KEYS[2], string.format('%.0f', now()), ARGV[3])
    -- The index keeps the names that were renewed last.
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[5])
end
local found, size = {}, 0
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, ARGV[5] - 1)) do
    local text = redis.pcall('GET', ARGV[4] .. name)
    if type(text) == 'string' and #name <= 64 then
        size = size + math.min(#text, 4096)
        if size > 2000000 then break end
        found[#found + 1] = name
        if #text > 4096 then text = #text end
        found[#found + 1] = text
    end
end
return found
