--[[
  spop.lua - SPOP, for all servers alike (rewrite_scripts.h).

  Members are drawn from the sorted set: the order of its hash table differs from server to
  server. So it costs what the set is long, and is bounded. It is ZUNION that sorts: by bytes,
  where Lua goes by the server's locale. ARGV: count, seed. The generator is Park and Miller's:
  exact in doubles.
]]
local n = redis.pcall('SCARD', KEYS[1])
if type(n) == 'table' then return n end
local count, x, out, set = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, {}
if n == 0 then
	if count < 0 then return false end
	return {set = set}
end
if n > 100000 and count < n then
	return redis.error_reply('ERR muproxy: SPOP of some of more than 100000 members is not served')
end
local m = redis.call('ZUNION', 1, KEYS[1])
for i = 1, math.min(math.abs(count), n) do
	x = (x * 16807) % 2147483647
	local k = i + x % (n - i + 1)
	m[i], m[k] = m[k], m[i]
	out[#out + 1] = m[i]
	set[m[i]] = true
end
for i = 1, #out, 5000 do
	redis.call('SREM', KEYS[1], unpack(out, i, math.min(i + 4999, #out)))
end
if count < 0 then return out[1] end
return {set = set}
