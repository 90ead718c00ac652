-- Enters a node as the carrier of streams, where no other node is. With a lease of 0 it leaves.
-- KEYS: the carriers. ARGV: name of the node, lease in ms.
for _, key in ipairs(KEYS) do
    local held = redis.pcall('GET', key)
    if held == false or held == ARGV[1] then
        if ARGV[2] == '0' then
            redis.call('DEL', key)
        else
            redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
        end
    end
end
return 'ok'
