-- Reads the entries of streams.
-- KEYS: the streams. Returns a list for each: the entry, or its length if it is too long for one, or nothing; and for how many ms its
-- lease holds.
local time = now()
local found = {}
for index, key in ipairs(KEYS) do
    local ok, fields = pcall(redis.call, 'HMGET', key, 'entry', 'until')
    if not ok or fields.err then
        found[index] = { '', 0 }
    else
        local text = fields[1]
        if text and #text > 4096 then text = #text end
        found[index] = { text, math.max((tonumber(fields[2]) or 0) - time, 0) }
    end
end
return found
