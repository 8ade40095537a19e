--[[
  xadd.lua - XADD with the ID *, for all servers alike (rewrite_scripts.h).

  A stream that was given IDs by its clients may be ahead of the clock. Plain * goes on behind
  its last ID then, which <ms>-* refuses: so it is tried with that ID's milliseconds, and if their
  sequence numbers are used up, with the next one's. ARGV: milliseconds, place of the ID, and XADD's
  arguments from behind the key on.
]]
local a, id = {'XADD', KEYS[1]}, tonumber(ARGV[2])
for i = 3, #ARGV do a[i] = ARGV[i] end
local function add(ms)
	a[id] = ms
	return redis.pcall(unpack(a))
end
local function behind(r)
	return type(r) == 'table' and r.err and string.find(r.err, 'equal or smaller', 1, true)
end
local r = add(ARGV[1] .. '-*')
if not behind(r) then return r end
local info, last = redis.call('XINFO', 'STREAM', KEYS[1]), nil
for i = 1, #info, 2 do
	if info[i] == 'last-generated-id' then last = string.match(info[i + 1], '^%d+') end
end
r = add(last .. '-*')
if behind(r) then r = add(string.format('%.0f-0', tonumber(last) + 1)) end
return r
