-- What a server holds under some keys, in a few digits each: the same wherever the same was
-- executed, in whichever order and form it is kept. KEYS: these keys. ARGV[1]: comes back, first;
-- then how many keys the database has, then a digest for each.
--
-- Bounded: of what is longer than this the ends are looked at, of larger sets and hashes, which
-- are in no order, how large they are.
local ITEMS, BYTES = 256, 65536

local function framed(parts)
	local out = {}
	for n, part in ipairs(parts) do out[n] = #tostring(part) .. ':' .. tostring(part) end
	return table.concat(out)
end

-- Of a flat list the groups of `step`, in order.
local function sorted(flat, step)
	local groups = {}
	for n = 1, #flat, step do
		groups[#groups + 1] = framed({flat[n], step == 2 and flat[n + 1] or ''})
	end
	table.sort(groups)
	return framed(groups)
end

-- A HyperLogLog keeps the last count that it was asked for in itself (bytes 8 to 15).
local function without_count(text)
	if string.sub(text, 1, 4) ~= 'HYLL' then return text end
	return string.sub(text, 1, 8) .. string.sub(text, 17)
end

-- A flat list of names and values.
local function field(flat, name)
	for n = 1, #flat, 2 do if flat[n] == name then return flat[n + 1] end end
	return ''
end

-- Without what depends on when it was asked.
local function group_of(key, group)
	local name = field(group, 'name')
	local parts = {name, field(group, 'consumers'), field(group, 'last-delivered-id')}
	for _, one in ipairs(redis.call('XPENDING', key, name, '-', '+', ITEMS)) do
		parts[#parts + 1] = framed({one[1], one[2], one[4]})
	end
	return framed(parts)
end

local content = {}

function content.string(key)
	local size = redis.call('STRLEN', key)
	if size <= 2 * BYTES then return without_count(redis.call('GET', key)) end
	return framed({size, redis.call('GETRANGE', key, 0, BYTES - 1),
		redis.call('GETRANGE', key, -BYTES, -1)})
end

function content.list(key)
	return framed({redis.call('LLEN', key), framed(redis.call('LRANGE', key, 0, ITEMS / 2 - 1)),
		framed(redis.call('LRANGE', key, -ITEMS / 2, -1))})
end

function content.set(key)
	local size = redis.call('SCARD', key)
	return size <= ITEMS and sorted(redis.call('SMEMBERS', key), 1) or tostring(size)
end

function content.hash(key)
	local size = redis.call('HLEN', key)
	return size <= ITEMS and sorted(redis.call('HGETALL', key), 2) or tostring(size)
end

function content.zset(key)
	return framed({redis.call('ZCARD', key),
		framed(redis.call('ZRANGE', key, 0, ITEMS - 1, 'WITHSCORES'))})
end

function content.stream(key)
	local parts = {redis.call('XLEN', key),
		field(redis.call('XINFO', 'STREAM', key), 'last-generated-id')}
	for _, entry in ipairs(redis.call('XRANGE', key, '-', '+', 'COUNT', ITEMS)) do
		parts[#parts + 1] = framed({entry[1], framed(entry[2])})
	end
	for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
		parts[#parts + 1] = group_of(key, group)
	end
	return framed(parts)
end

local out = {ARGV[1], tostring(redis.call('DBSIZE'))}
for _, key in ipairs(KEYS) do
	local kind = redis.call('TYPE', key).ok
	local of = content[kind]
	local whole = framed({kind, string.format('%.0f', redis.call('PEXPIRETIME', key)),
		of and of(key) or ''})
	out[#out + 1] = kind .. '-' .. string.sub(redis.sha1hex(whole), 1, 16)
end
return out
