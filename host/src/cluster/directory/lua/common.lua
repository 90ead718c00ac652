-- The begin of each script. An entry is the text 1.MAC.BODY, and BODY a JSON object. Who reads an entry checks its MAC; here only the
-- ids are compared. A text that is no entry counts as none.
if redis.replicate_commands then redis.replicate_commands() end

local function read(text)
    if not text or #text > 4096 then return nil end
    local body = string.match(text, '^1%.[%w_-]*%.({.*})$')
    if not body then return nil end
    local ok, entry = pcall(cjson.decode, body)
    if not ok or type(entry) ~= 'table' or type(entry.id) ~= 'table' then return nil end
    if type(entry.id.ms) ~= 'number' or type(entry.id.node) ~= 'string' then return nil end
    return entry
end

local function greater(one, other)
    if one.id.ms ~= other.id.ms then return one.id.ms > other.id.ms end
    return one.id.node > other.id.node
end

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
