--[[
  prelude.lua - clients' scripts and functions, run so that every replica's server does the same.
  groups.lua stands before it.

  A client's EVAL, FCALL, ... is logged as EVALSHA of this script (redis_scripts.h), with the
  client's own keys and arguments and three more behind them:
      "<now ms> <seed> <database> <databases> <1: memory is full> <RESP> <stamp>"   what the leader decided on
      what it is about (a script, its sha, a function's name, a library, ...)
      what is to be done: a name in `tasks` below

  What clients have loaded is kept in the hidden database, so it goes where the data go. Their
  code is compiled as the body of a function that sees, in place of what is not the same on all
  servers, what is put together here: redis.call and its kin, the clock, luck, the order of hash
  tables, addresses, and what would outlive the script. Errors are made up here, too: as a server
  would have said it of the client's own script.

  Loops and functions count their steps (`counted`), and so do commands: a script that does not
  end is ended at the same step everywhere, which no clock could do.

  Deadlines are padded as everywhere (deadline_effects.h). Which keys may have got one is written
  down in the hidden database, under the entry's stamp, for the index to be told (expiry.c).
]]
local SCRIPTS, LIBRARIES, FUNCTIONS = 'muproxy:scripts', 'muproxy:libraries', 'muproxy:functions'
local DEADLINES = 'muproxy:deadlines'
local PAD = 4398046512000
local FAR = 9.2e18 -- near the end of what a server takes for a time
local STEPS, STEPS_OF_A_COMMAND = 20000000, 20
local MANY = 100000 -- members to draw from, or keys
local NOT_FOR_RO = 'ERR Can not execute a script with write flag using *_ro command.'
local NOT_WHEN_FULL = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
local TOO_NEW = 'values of that type are not served, deadlines of fields among them'
local READ_ONLY = 'ERR Write commands are not allowed from read-only scripts.'

local call, try, type, tonumber, unpack, select = redis.call, redis.pcall, type, tonumber, unpack, select
local find, match, gsub, sub, lower, format = string.find, string.match, string.gsub, string.sub,
	string.lower, string.format
local sort, floor, min = table.sort, math.floor, math.min
local error, pcall, xpcall, loadstring, rawtostring = error, pcall, xpcall, loadstring, tostring
local rawnext, setmetatable = next, setmetatable

local meta, subject, task = ARGV[#ARGV - 2], ARGV[#ARGV - 1], ARGV[#ARGV]
ARGV[#ARGV], ARGV[#ARGV - 1], ARGV[#ARGV - 2] = nil, nil, nil
local now, seed, database, hidden, full, resp, stamp = match(meta, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
now, seed, hidden = tonumber(now), tonumber(seed), tonumber(hidden)
local read_only = false -- what runs said that it writes nothing, or was called so
local chunk = '@user_script'
local lines = setmetatable({}, {__mode = 'k'}) -- of errors: where the client's code made them

-------------------------------------------------------------------------- the hidden database

local function stored(...)
	call('SELECT', hidden)
	local reply = call(...)
	call('SELECT', database)
	return reply
end

local told = {}

-- The key's deadline may be another now. One that had passed when it was given is carried out.
local function note(key, where)
	if where then call('SELECT', where) end
	local due = try('PEXPIRETIME', key)
	if type(due) == 'number' and due >= PAD then
		if due - PAD <= now then
			call('UNLINK', key)
		else
			local n = #told
			told[n + 1], told[n + 2], told[n + 3] = where or database, key, format('%.0f', due - PAD)
		end
	end
	if where then call('SELECT', database) end
end

local function tell_deadlines()
	if #told == 0 then return end
	call('SELECT', hidden)
	-- Of one entry there may be several scripts.
	if call('LINDEX', DEADLINES, 0) ~= stamp then
		call('DEL', DEADLINES)
		call('RPUSH', DEADLINES, stamp)
	end
	for i = 1, #told, 3000 do
		call('RPUSH', DEADLINES, unpack(told, i, min(i + 2999, #told)))
	end
	call('SELECT', database)
end

---------------------------------------------------------------------------------- clock and luck

local function integer(text)
	if type(text) == 'number' then text = format('%.17g', text) end
	if type(text) ~= 'string' or not (find(text, '^%-?[1-9]%d*$') or text == '0') then return nil end
	local value = tonumber(text)
	if value > 9223372036854775807 or value < -9223372036854775808 then return nil end
	return value
end

-- The time in ms that unit and value mean.
local function time_of(unit, value)
	if unit == 'ex' or unit == 'exat' then value = value * 1000 end
	if unit == 'ex' or unit == 'px' then value = value + now end
	return value
end

-- Beyond what doubles hold to the millisecond all is one: never.
local function padded(when)
	return format('%.0f', min(when, 9e15) + PAD)
end

-- Park and Miller's generator, exact in doubles: from 0 to n - 1.
local function draw(n)
	seed = (seed * 16807) % 2147483647
	return seed % n
end

-- Of items count different ones (or, count < 0, any) in the order drawn; each of them is `width` wide.
local function drawn(items, count, width)
	local out, n = {}, #items / width
	local function put(place)
		for i = 1, width do out[#out + 1] = items[(place - 1) * width + i] end
	end
	if count < 0 then
		if n > 0 then
			for _ = 1, -count do put(1 + draw(n)) end
		end
		return out
	end
	local place = {}
	for i = 1, min(count, n) do
		local k = i + draw(n - i + 1)
		local chosen = place[k] or k
		place[k] = place[i] or i
		put(chosen)
	end
	return out
end

----------------------------------------------------------------------------- replies in an order

local function keys_of(set)
	local out = {}
	for member in rawnext, set do out[#out + 1] = member end
	return out
end

local function rebuilt(map, value)
	local names, out = keys_of(map), {}
	sort(names)
	for _, name in ipairs(names) do out[name] = value and map[name] or true end
	return out
end

local function is_error(reply)
	return type(reply) == 'table' and reply.err ~= nil
end

-- What came out of a hash table: alone, or in pairs.
local function in_order(reply, is_pairs)
	if type(reply) ~= 'table' or reply.err then return reply end
	if reply.set then return {set = rebuilt(reply.set)} end
	if reply.map then return {map = rebuilt(reply.map, true)} end
	if not is_pairs then
		sort(reply)
		return reply
	end
	local value, names = {}, {}
	for i = 1, #reply, 2 do
		names[#names + 1] = reply[i]
		value[reply[i]] = reply[i + 1]
	end
	sort(names)
	local out = {}
	for i, name in ipairs(names) do
		out[2 * i - 1], out[2 * i] = name, value[name]
	end
	return out
end

-- A key's members with nothing left to chance, `width` elements each; or an error.
local function members(command, key, width)
	local size = try(command == 'ZRANGE' and 'ZCARD' or command == 'HGETALL' and 'HLEN' or 'SCARD', key)
	if is_error(size) then return size end
	if size > MANY then
		return {err = 'ERR muproxy: in scripts no more than ' .. MANY .. ' members are drawn from'}
	end
	local reply
	if command == 'ZRANGE' then
		reply = try('ZRANGE', key, 0, -1, 'WITHSCORES')
		if width == 1 or type(reply[1]) ~= 'table' then
			if width == 2 then return reply end
			local out = {}
			for i = 1, #reply do
				if type(reply[i]) == 'table' then out[i] = reply[i][1]
				elseif i % 2 == 1 then out[(i + 1) / 2] = reply[i] end
			end
			return out
		end
		local out = {}
		for _, pair in ipairs(reply) do
			out[#out + 1] = pair[1]
			out[#out + 1] = pair[2]
		end
		return out
	end
	reply = in_order(try(command, key), command == 'HGETALL')
	if reply.set then reply = keys_of(reply.set) sort(reply) end
	if reply.map then
		local out, names = {}, keys_of(reply.map)
		sort(names)
		for _, name in ipairs(names) do
			out[#out + 1] = name
			out[#out + 1] = reply.map[name]
		end
		reply = out
	end
	if command == 'HGETALL' and width == 1 then
		local out = {}
		for i = 1, #reply, 2 do out[#out + 1] = reply[i] end
		return out
	end
	return reply
end

-------------------------------------------------------------------------------------- commands

-- Where a command goes: as it is (its way is `true`), or by way of a function with its arguments.
local ways = {}

-- Those that are the same everywhere; w: they write.
local PLAIN = ' bitcount:r bitfield_ro:r bitpos:r dbsize:r echo:r exists:r geodist:r geohash:r '
	.. 'geopos:r georadius_ro:r georadiusbymember_ro:r geosearch:r get:r getbit:r getrange:r hexists:r '
	.. 'hget:r hlen:r hmget:r hstrlen:r lcs:r lindex:r llen:r lpos:r lrange:r mget:r ping:r '
	.. 'scard:r sintercard:r sismember:r smismember:r strlen:r substr:r touch:r type:r xlen:r xrange:r '
	.. 'xread:r xrevrange:r zcard:r zcount:r zdiff:r zinter:r zintercard:r zlexcount:r zmscore:r zrange:r '
	.. 'zrangebylex:r zrangebyscore:r zrank:r zrevrange:r zrevrangebylex:r zrevrangebyscore:r zrevrank:r '
	.. 'zscore:r zunion:r '
	.. 'append:w bitfield:w bitop:w blmpop:w bzmpop:w decr:w decrby:w del:w flushdb:w geoadd:w georadius:w '
	.. 'georadiusbymember:w geosearchstore:w getdel:w getset:w hdel:w hincrby:w hincrbyfloat:w hmset:w '
	.. 'hset:w hsetnx:w incr:w incrby:w incrbyfloat:w linsert:w lmove:w lmpop:w lpop:w lpush:w lpushx:w '
	.. 'lrem:w lset:w ltrim:w mset:w msetnx:w persist:w pfadd:w pfcount:w pfmerge:w rpop:w rpoplpush:w '
	.. 'rpush:w rpushx:w sadd:w sdiffstore:w setbit:w setnx:w setrange:w sinterstore:w smove:w srem:w '
	.. 'sunionstore:w unlink:w xack:w xdel:w xgroup:w xsetid:w xtrim:w zadd:w zdiffstore:w zincrby:w '
	.. 'zinterstore:w zmpop:w zpopmax:w zpopmin:w zrangestore:w zrem:w zremrangebylex:w '
	.. 'zremrangebyrank:w zremrangebyscore:w zunionstore:w '
	-- Newer servers'. (Fields have no deadlines here: HTTL and its kin say so.)
	.. 'hexpiretime:r hpexpiretime:r hpttl:r httl:r delifeq:w hgetdel:w hpersist:w xackdel:w xdelex:w '
	-- Refused by every server, in a script.
	.. 'auth:r bgrewriteaof:r bgsave:r blmove:r blpop:r brpop:r brpoplpush:r bzpopmax:r bzpopmin:r debug:r '
	.. 'discard:r eval:r eval_ro:r evalsha:r evalsha_ro:r exec:r failover:r fcall:r fcall_ro:r hello:r '
	.. 'monitor:r multi:r psubscribe:r psync:r punsubscribe:r quit:r replconf:r replicaof:r reset:r save:r '
	.. 'shutdown:r slaveof:r ssubscribe:r subscribe:r sunsubscribe:r sync:r unsubscribe:r unwatch:r wait:r '
	.. 'watch:r role:r acl:r client:r cluster:r config:r function:r latency:r module:r script:r readonly:r '
	.. 'readwrite:r asking:r '

local REFUSED = ' dump info lastsave lolwut memory migrate object pfdebug pfselftest pubsub restore-asking '
	.. 'slowlog swapdb '

local special = {} -- by name; those of `reads` write nothing
local reads = {}

-- Only what is used costs something: most scripts use none of these.
local function define()

-- Newer servers' options of SET that compare the value with the next argument.
local COMPARES = {ifeq = true, ifne = true, ifdeq = true, ifdne = true}

-- SET and GETEX: the deadline among the arguments, from `first` on, made absolute. Ones that a
-- server refuses stay as they are, for it to say so.
local function absolute(a, first, past)
	local found
	local i = first
	while i < #a do
		local word = type(a[i]) == 'string' and lower(a[i])
		if COMPARES[word] then
			i = i + 1 -- with any word
		elseif word == 'ex' or word == 'px' or word == 'exat' or word == 'pxat' then
			local value = integer(a[i + 1])
			if value and value > 0 then
				local when = time_of(word, value)
				if found and found ~= word then return end
				found = word
				if when >= FAR then
					a[i + 1] = '0'
				else
					a[i], a[i + 1] = 'PXAT', when <= now and past or padded(when)
				end
			end
			i = i + 1
		end
		i = i + 1
	end
end

function special.set(name, ...)
	if select('#', ...) < 3 then return try(name, ...) end
	local a = {...}
	absolute(a, 3)
	local reply = try(name, unpack(a))
	if not is_error(reply) then note(a[1]) end
	return reply
end

local function setex(name, unit, ...)
	local key, time, value, more = ...
	local number = integer(time)
	if value == nil or more ~= nil or not number or number <= 0 then return try(name, ...) end
	local when = time_of(unit, number)
	if when >= FAR then return try(name, key, '0', value) end
	local reply = try('SET', key, value, 'PXAT', padded(when))
	note(key)
	return reply
end
function special.setex(name, ...) return setex(name, 'ex', ...) end
function special.psetex(name, ...) return setex(name, 'px', ...) end

function special.getex(name, ...)
	local a = {...}
	absolute(a, 2, '1')
	local reply = try(name, unpack(a))
	if #a > 1 and not is_error(reply) then note(a[1]) end
	return reply
end

local function expire(name, unit, ...)
	local a = {...}
	local value = integer(a[2])
	if not value then return try(name, ...) end
	local when = time_of(unit, value)
	if when >= FAR or when <= -FAR then
		return {err = "ERR invalid expire time in '" .. lower(name) .. "' command"}
	end
	a[2] = when <= now and '1' or padded(when)
	local reply = try('PEXPIREAT', unpack(a))
	if not is_error(reply) then note(a[1]) end
	return reply
end
function special.expire(name, ...) return expire(name, 'ex', ...) end
function special.pexpire(name, ...) return expire(name, 'px', ...) end
function special.expireat(name, ...) return expire(name, 'exat', ...) end
function special.pexpireat(name, ...) return expire(name, 'pxat', ...) end

function special.restore(name, ...)
	local a, is_absolute = {...}, false
	for i = 4, #a do
		is_absolute = is_absolute or (type(a[i]) == 'string' and lower(a[i]) == 'absttl')
	end
	-- Types of newer servers' hashes whose fields have deadlines (rewrite.c).
	local kind = type(a[3]) == 'string' and string.byte(a[3])
	if kind and kind > 21 then return {err = 'ERR muproxy: restore: ' .. TOO_NEW} end
	local value = integer(a[2])
	if not value or value <= 0 or #a < 3 then return try(name, ...) end
	local when = value + (is_absolute and 0 or now)
	a[2] = when <= now and '1' or padded(when)
	if not is_absolute then a[#a + 1] = 'ABSTTL' end
	local reply = try(name, unpack(a))
	if not is_error(reply) then note(a[1]) end
	return reply
end

local function ttl(is_relative, is_seconds, ...)
	local due = try('PEXPIRETIME', ...)
	if type(due) ~= 'number' or due < PAD then return due end
	due = due - PAD
	if is_relative then due = due > now and due - now or 0 end
	return is_seconds and floor((due + 500) / 1000) or due
end
function reads.ttl(_, ...) return ttl(true, true, ...) end
function reads.pttl(_, ...) return ttl(true, false, ...) end
function reads.expiretime(_, ...) return ttl(false, true, ...) end
function reads.pexpiretime(_, ...) return ttl(false, false, ...) end

-- The hidden database is out of reach, like one that there is not.
local function visible(index)
	local value = integer(index)
	return value and value == hidden and '1000000' or index
end

function reads.select(name, ...)
	local index = ...
	local reply = try(name, visible(index), select(2, ...))
	if not is_error(reply) then database = index end
	return reply
end

local function rename(name, ...)
	local reply = try(name, ...)
	local _, to = ...
	if not is_error(reply) then note(to) end
	return reply
end
special.rename, special.renamenx = rename, rename

function special.copy(name, ...)
	local a, where = {...}, nil
	for i = 3, #a - 1 do
		if type(a[i]) == 'string' and lower(a[i]) == 'db' then
			a[i + 1] = visible(a[i + 1])
			where = a[i + 1]
		end
	end
	local reply = try(name, unpack(a))
	if not is_error(reply) then note(a[2], where) end
	return reply
end

function special.move(name, ...)
	local key, where = ...
	local reply = try(name, key, visible(where), select(3, ...))
	if not is_error(reply) then note(key, where) end
	return reply
end

function special.flushall(name, ...)
	local how = ...
	if select('#', ...) > 1 or (how and lower(how) ~= 'sync' and lower(how) ~= 'async') then
		return {err = 'ERR syntax error'}
	end
	for i = 0, hidden - 1 do
		call('SELECT', i)
		call('FLUSHDB', ...)
	end
	return call('SELECT', database)
end

-- Subscribers hear of it at every replica; how many there are differs.
local function publish(...)
	local reply = try(...)
	return is_error(reply) and reply or 0
end
special.publish, special.spublish = publish, publish

function reads.time()
	return {format('%.0f', floor(now / 1000)), format('%d', now % 1000 * 1000)}
end

-- The ID "*" comes from the clock, but never goes back behind the stream's last (rewrite_scripts.c).
function special.xadd(name, ...)
	local a, i = {...}, 2
	while type(a[i]) == 'string' do
		local word = lower(a[i])
		if word == 'nomkstream' or word == 'keepref' or word == 'delref' or word == 'acked' then i = i + 1
		elseif (word == 'maxlen' or word == 'minid') and (a[i + 1] == '~' or a[i + 1] == '=') then i = i + 3
		elseif word == 'maxlen' or word == 'minid' or word == 'limit' then i = i + 2
		else break end
	end
	if a[i] ~= '*' then
		if a[i] ~= nil and not find(rawtostring(a[i]), '^%d+$') and not find(rawtostring(a[i]), '^%d+%-[%d*]+$') then
			return {err = 'ERR Invalid stream ID specified as stream command argument'}
		end
		return try(name, ...)
	end
	local function add(id)
		a[i] = id
		return try(name, unpack(a))
	end
	local function is_behind(reply) return is_error(reply) and find(reply.err, 'equal or smaller', 1, true) end
	local reply = add(format('%.0f-*', now))
	if is_behind(reply) then
		local info, last = call('XINFO', 'STREAM', a[1]), nil
		if info.map then last = info.map['last-generated-id'] end
		for k = 1, #info, 2 do
			if info[k] == 'last-generated-id' then last = info[k + 1] end
		end
		last = match(last, '^%d+')
		reply = add(last .. '-*')
		if is_behind(reply) then reply = add(format('%.0f-0', tonumber(last) + 1)) end
	end
	return reply
end

function reads.xinfo(name, ...)
	local what, _, full = ...
	what = type(what) == 'string' and lower(what)
	if what == 'consumers' or full then
		return {err = 'ERR muproxy: xinfo ' .. what .. ' is not served in scripts: it goes by the server\'s clock'}
	end
	return try(name, ...)
end

local groups = group_commands(now, true)
special.xreadgroup, special.xclaim, special.xautoclaim = groups.xreadgroup, groups.xclaim, groups.xautoclaim
reads.xpending = groups.xpending

-- Lists of commands come out of a hash table.
function reads.command(name, ...)
	local what = ...
	what = type(what) == 'string' and lower(what)
	if what ~= 'info' and what ~= 'count' and what ~= 'getkeys' and what ~= 'getkeysandflags' then
		return {err = 'ERR muproxy: lists of commands are not served in scripts: they have no order'}
	end
	return try(name, ...)
end

-- Which of equal weights comes first is the hash table's whim.
local function sorted(name, ...)
	local a, by, alpha = {...}, false, false
	for i = 2, #a do
		local word = type(a[i]) == 'string' and lower(a[i])
		if word == 'alpha' then alpha = true end
		if word == 'by' and find(rawtostring(a[i + 1]), '*', 1, true) then by = true end
	end
	if by and alpha then
		return {err = 'ERR muproxy: SORT with BY and ALPHA is not served in scripts: the order of equal '
			.. 'weights may differ between replicas'}
	end
	return try(name, ...)
end
special.sort, reads.sort_ro = sorted, sorted

for _, name in ipairs({'smembers', 'sinter', 'sunion', 'sdiff', 'keys', 'hkeys', 'hvals'}) do
	reads[name] = function(given, ...) return in_order(try(given, ...)) end
end
function reads.hgetall(name, ...) return in_order(try(name, ...), true) end

-- A sweep that ends at once: COUNT is but a hint, and cursors are a server's own.
local function scan(width, first, name, ...)
	local a = {...}
	if a[first] == nil or not integer(a[first]) then return try(name, ...) end
	local seen, out, key = {}, {}, first == 2
	if rawtostring(a[first]) ~= '0' then return {'0', {}} end
	a[first] = '0'
	repeat
		local reply = try(name, unpack(a))
		if is_error(reply) then return reply end
		for i = 1, #reply[2], width do
			if seen[reply[2][i]] == nil then out[#out + 1] = reply[2][i] end
			seen[reply[2][i]] = reply[2][i + 1] or true
		end
		a[first] = reply[1]
	until reply[1] == '0'
	sort(out)
	if width == 2 then
		local pairs_of = {}
		for _, item in ipairs(out) do
			pairs_of[#pairs_of + 1] = item
			pairs_of[#pairs_of + 1] = seen[item]
		end
		out = pairs_of
	end
	return {'0', out}
end
function reads.scan(...) return scan(1, 1, ...) end
function reads.sscan(...) return scan(1, 2, ...) end
function reads.hscan(...) return scan(2, 2, ...) end
function reads.zscan(...) return scan(2, 2, ...) end

-- SRANDMEMBER, HRANDFIELD, ZRANDMEMBER: key [count [with]].
local function random_of(command, with, name, ...)
	local key, count, option, more = ...
	local number = count ~= nil and integer(count)
	local width = 1
	if key == nil or more ~= nil or (count ~= nil and not number) then return try(name, ...) end
	if option ~= nil then
		if not with or type(option) ~= 'string' or lower(option) ~= with then return try(name, ...) end
		width = 2
	end
	if number and number < -MANY then
		return {err = 'ERR muproxy: in scripts no more than ' .. MANY .. ' members are drawn'}
	end
	local items = members(command, key, width)
	if items.err then return items end
	if not number then return drawn(items, 1, 1)[1] or false end
	return drawn(items, number, width)
end
function reads.srandmember(...) return random_of('SMEMBERS', nil, ...) end
function reads.hrandfield(...) return random_of('HGETALL', 'withvalues', ...) end
function reads.zrandmember(...) return random_of('ZRANGE', 'withscores', ...) end

function special.spop(name, ...)
	local key, count, more = ...
	local number = count ~= nil and integer(count)
	if key == nil or more ~= nil or (count ~= nil and (not number or number < 0)) then return try(name, ...) end
	local items = members('SMEMBERS', key, 1)
	if items.err then return items end
	local out = drawn(items, number or 1, 1)
	for i = 1, #out, 3000 do call('SREM', key, unpack(out, i, min(i + 2999, #out))) end
	if not number then return out[1] or false end
	return out
end

function reads.randomkey(name, ...)
	if select('#', ...) > 0 then return try(name, ...) end
	if call('DBSIZE') > MANY then
		return {err = 'ERR muproxy: in scripts a key is drawn from no more than ' .. MANY}
	end
	return drawn(in_order(call('KEYS', '*')), 1, 1)[1] or false
end

end

local function refused(name)
	return {err = 'ERR muproxy: ' .. lower(name) .. ' is not served in scripts: its outcome, or its effect, '
		.. 'is one server\'s alone'}
end

local function forbidden()
	return {err = READ_ONLY}
end

-- Newer servers have them in scripts, too, where they do not wait.
local BLOCKING = ' blmove blpop brpop brpoplpush bzpopmax bzpopmin '

local function is_noscript(plain)
	for _, flag in ipairs(call('COMMAND', 'INFO', plain)[1][3]) do
		if type(flag) == 'table' then flag = flag.ok end
		if flag == 'noscript' then return true end
	end
	return false
end

local function way_of(name)
	local plain = lower(name)
	local _, at = find(PLAIN, ' ' .. plain .. ':', 1, true)
	if at and not find(plain, '[ :]') then
		if read_only and find(BLOCKING, ' ' .. plain .. ' ', 1, true) and not is_noscript(plain) then return forbidden end
		return read_only and sub(PLAIN, at + 1, at + 1) == 'w' and forbidden or true
	end
	if define then
		define()
		define = nil
	end
	if reads[plain] then return reads[plain] end
	if special[plain] then return read_only and forbidden or special[plain] end
	-- Not a command at all? The server will say so.
	if not find(REFUSED, ' ' .. plain .. ' ', 1, true) and not call('COMMAND', 'INFO', plain)[1] then return true end
	return refused
end

-- Where memory is full what may need more is refused, until the script has written something.
local NEEDS_MEMORY = ' append bitfield bitop blmove brpoplpush copy decr decrby geoadd georadius georadiusbymember '
	.. 'geosearchstore getset hincrby hincrbyfloat hmset hset hsetnx incr incrby incrbyfloat linsert lmove lpush '
	.. 'lpushx lset mset msetnx pfadd pfmerge psetex restore rpoplpush rpush rpushx sadd sdiffstore set setbit '
	.. 'setex setnx setrange sinterstore sort sunionstore xadd xsetid zadd zdiffstore zincrby zinterstore '
	.. 'zrangestore zunionstore '
local denials = setmetatable({}, {__mode = 'k'}) -- ours, and not what a server said

local function way_when_full(name)
	local way, plain = way_of(name), lower(name)
	local needs = find(NEEDS_MEMORY, ' ' .. plain .. ' ', 1, true)
	local _, at = find(PLAIN, ' ' .. plain .. ':', 1, true)
	if not needs and not special[plain] and not (at and sub(PLAIN, at + 1, at + 1) == 'w') then return way end
	return function(given, ...)
		if full and needs then
			local denial = {err = "OOM command not allowed when used memory > 'maxmemory'."}
			denials[denial] = true
			return denial
		end
		full = false
		if way == true then return try(given, ...) end
		return way(given, ...)
	end
end
full = full == '1'

local left = STEPS
local function run(name, ...)
	local way = ways[name]
	left = left - STEPS_OF_A_COMMAND
	if way == nil then
		if name == nil then return try() end
		if type(name) ~= 'string' then return try(name, ...) end
		way = full and way_when_full(name) or way_of(name)
		ways[name] = way
	end
	if way == true then return try(name, ...) end
	-- The server judges what arguments may be.
	for i = 1, select('#', ...) do
		local kind = type((select(i, ...)))
		if kind ~= 'string' and kind ~= 'number' then return try(name, ...) end
	end
	return way(name, ...)
end

------------------------------------------------------------------------- what clients' code sees

-- The line of the client's code that is `level` functions up from the caller.
local function line_at(level)
	local _, text = pcall(error, '', level + 2)
	return match(rawtostring(text), '^user_%a+:(%d+):')
end

local function fail(text, level)
	error(text, level + 1)
end

local loading = false -- a library: it has no commands yet

local function step()
	left = left - 1
	if left >= 0 then return end
	fail('muproxy: ' .. (loading and 'FUNCTION LOAD timeout, ' or '') .. 'it takes more than ' .. STEPS .. ' steps', 2)
end

local seen_by = {}
local function checked_order(t)
	for key in rawnext, t do
		local kind = type(key)
		if kind == 'table' or kind == 'function' or kind == 'thread' or kind == 'userdata' then
			fail('muproxy: the order of keys that are no strings or numbers differs between replicas', 3)
		end
	end
end

local shadow = {}

function shadow.next(t, key)
	if key == nil and type(t) == 'table' then checked_order(t) end
	return rawnext(t, key)
end

function shadow.pairs(t)
	if type(t) ~= 'table' then return pairs(t) end
	checked_order(t)
	return rawnext, t, nil
end

-- Addresses differ: what has one gets a number.
local named = 0
function shadow.tostring(...)
	local value = ...
	local kind = type(value)
	if kind ~= 'table' and kind ~= 'function' and kind ~= 'thread' and kind ~= 'userdata' then
		return rawtostring(...)
	end
	local meta_of = getmetatable(value)
	if type(meta_of) == 'table' and meta_of.__tostring then return rawtostring(value) end
	if not seen_by[value] then
		named = named + 1
		seen_by[value] = named
	end
	return format('%s: 0x%08x', kind, seen_by[value])
end

function shadow.collectgarbage() return 0 end
function shadow.gcinfo() return 0 end

local function random(low, high)
	local r = draw(2147483646) / 2147483646
	if low == nil then return r end
	low, high = tonumber(low), tonumber(high)
	if low and not high then low, high = 1, low end
	low, high = floor(low), floor(high)
	if low > high then fail("bad argument #1 to 'random' (interval is empty)", 2) end
	return low + floor(r * (high - low + 1))
end

local function behind(real, own)
	return setmetatable(own, {__index = real, __metatable = false})
end

shadow.math = behind(math, {
	random = random,
	randomseed = function(value) seed = floor(tonumber(value) or 0) % 2147483646 + 1 end,
})

local SETTERS = ' encode_sparse_array encode_max_depth decode_max_depth encode_number_precision '
	.. 'encode_invalid_numbers decode_invalid_numbers decode_array_with_array_mt '

shadow.cjson = setmetatable({}, {
	__index = function(_, name)
		-- It changes no result.
		if name == 'encode_keep_buffer' then return function(value) return value == nil or value end end
		if type(name) ~= 'string' or not find(SETTERS, ' ' .. name .. ' ', 1, true) then return cjson[name] end
		return function()
			fail('muproxy: cjson.' .. name .. ' is not served: it would hold for later scripts, too', 2)
		end
	end,
	__metatable = false,
})

-- Newer servers have os.clock().
if rawget(_G, 'os') then
	shadow.os = {clock = function() return now / 1000 end}
end

-- Errors by which a server says that it is the one that cannot (redis_reply.c), whatever a client's
-- code makes of them: this replica is out of service then.
local FAILURES = ' OOM MISCONF READONLY LOADING BUSY NOAUTH NOPERM NOREPLICAS NOSCRIPT MASTERDOWN '
local broken

local function is_failure(text)
	local first = match(text, '^(%u+) ')
	return first and find(FAILURES, ' ' .. first .. ' ', 1, true) ~= nil
end

local function no_commands(name)
	fail("Script attempted to access nonexistent global variable '" .. name .. "'", 3)
end

local api = {
	call = function(...)
		if loading then no_commands('call') end
		local reply = run(...)
		if type(reply) == 'table' and reply.err ~= nil then
			if is_failure(reply.err) and not denials[reply] then broken = broken or reply end
			lines[reply] = line_at(2) or '?'
			error(reply, 0)
		end
		return reply
	end,
	pcall = function(...)
		if loading then no_commands('pcall') end
		local reply = run(...)
		if type(reply) == 'table' and reply.err ~= nil and is_failure(reply.err) and not denials[reply] then
			broken = broken or reply
		end
		return reply
	end,
	setresp = function(...)
		if loading then no_commands('setresp') end
		return redis.setresp(...)
	end,
	set_repl = function()
		if loading then no_commands('set_repl') end
	end,
	replicate_commands = function() return true end,
	breakpoint = function() return false end,
	debug = function() end,
	acl_check_cmd = function() return true end,
}
shadow.redis = behind(redis, api)
-- Valkey has another name for it.
shadow.server = rawget(_G, 'server') and shadow.redis

-- The code as it is compiled: a function that makes the client's own, which sees what that is given.
-- Loops and functions made to count their steps. What is a word, and what a string or a comment, is Lua's grammar.
local function counted(code)
	local out, at, copied, awaits = {}, 1, 1, false
	-- A name of its own: what counts is out of the code's reach.
	local counter = '__step'
	while find(code, counter, 1, true) do counter = counter .. '_' end
	out[1] = 'local redis,math,pairs,next,tostring,loadstring,load,_G,cjson,collectgarbage,gcinfo,os,'
		.. counter .. '=... return function(...) '
	local function insert(behind_place, what)
		out[#out + 1] = sub(code, copied, behind_place)
		out[#out + 1] = what or ' ' .. counter .. '(); '
		copied = behind_place + 1
	end
	while true do
		local place = find(code, '[%a_%d"\'%-%[%)]', at)
		if not place then break end
		local c = sub(code, place, place)
		local _, last
		if find(c, '[%a_]') then
			_, last = find(code, '^[%w_]+', place)
			local word = sub(code, place, last)
			if word == 'do' or word == 'repeat' then insert(last) end
			if word == 'function' then awaits = true end
			-- Not as a tail call, of which no line would be known.
			if word == 'return' then
				local of = match(code, '^%s*(%a+)%s*%.%s*p?call%s*%(', last + 1)
				if of == 'redis' or of == 'server' then insert(last, ' false or ') end
			end
		elseif find(c, '%d') then
			_, last = find(code, '^[%w_.]+', place)
		elseif c == ')' then
			if awaits then insert(place) end
			awaits, last = false, place
		elseif c == '"' or c == "'" then
			last = place
			repeat
				last = find(code, '[\\' .. c .. ']', last + 1)
				if last and sub(code, last, last) == '\\' then last = last + 1 end
			until not last or sub(code, last, last) == c and sub(code, last - 1, last - 1) ~= '\\'
				or sub(code, last, last) == c and sub(code, last - 2, last - 1) == '\\\\'
		elseif find(code, '^%-%-', place) or find(code, '^%[=*%[', place) then
			local level = match(code, '^%-%-%[(=*)%[', place) or match(code, '^%[(=*)%[', place)
			if level then
				_, last = find(code, ']' .. level .. ']', place, true)
			else
				_, last = find(code, '[^\n]*', place)
			end
		else
			last = place
		end
		if not last then break end
		at = last + 1
	end
	out[#out + 1] = sub(code, copied)
	out[#out + 1] = '\nend'
	return table.concat(out)
end

-- What `counted` has made. It is stored, and the same on all servers, so what only some have joins here.
local function compiled(source, name)
	if shadow.server then source = gsub(source, '=%.%.%. ', ',server=... ', 1) end
	return loadstring(source, name)
end

local function with_shadows(source, name)
	local made, why = compiled(source, name)
	if not made then return nil, why end
	return made(shadow.redis, shadow.math, shadow.pairs, shadow.next, shadow.tostring, shadow.loadstring,
		shadow.load, shadow._G, shadow.cjson, shadow.collectgarbage, shadow.gcinfo, shadow.os, step,
		shadow.server)
end

function shadow.loadstring(text, name)
	if type(text) ~= 'string' then return loadstring(text, name) end
	local ok, why = loadstring(text, name or text)
	if not ok then return nil, why end
	return with_shadows(counted(text), name or text)
end

function shadow.load(reader, name)
	local parts = {}
	while true do
		local part = reader()
		if part == nil or part == '' then break end
		parts[#parts + 1] = part
	end
	return shadow.loadstring(table.concat(parts), name or '=(load)')
end

shadow._G = setmetatable({}, {
	__index = function(t, name)
		if name == '_G' then return t end
		return shadow[name] or _G[name]
	end,
	__newindex = function(_, name, value) _G[name] = value end,
	__metatable = false,
})

---------------------------------------------------------------------------- errors, and running

-- An error that nobody caught, as a server words it.
local function worded(e)
	local text, line
	if type(e) == 'table' then
		text, line = e.err or 'ERR unknown error', lines[e] or line_at(3)
	else
		text = 'ERR ' .. shadow.tostring(e)
		line = match(text, '^ERR user_%a+:(%d+):') or line_at(3)
	end
	return {text = rawtostring(text), line = line or '?'}
end

-- Runs f; its reply, or the error of script `name`.
local function outcome(f, name)
	local ok, reply = xpcall(f, worded)
	if ok then return reply end
	return {err = format('%s script: %s, on %s:%s.', reply.text, name, chunk, reply.line)}
end

-- The words of a first line "#!..."; the rest keeps its line end, so that lines count.
local function shebang(code)
	if sub(code, 1, 2) ~= '#!' then return nil, code end
	local stop = find(code, '\n', 1, true)
	if not stop then return nil, nil end
	local words = {}
	for word in string.gmatch(sub(code, 1, stop - 1), '%S+') do words[#words + 1] = word end
	return words, sub(code, stop)
end

local FLAGS = ' no-writes allow-oom allow-stale no-cluster allow-cross-slot-keys '

-- A script's form for the store, or nil, and why not. What is compiled comes behind a letter: r, by
-- its flags it only reads; w, it does not say so; m, neither, but it may take memory; o, it is of the old kind, without flags.
local function prepared(code)
	local words, body = shebang(code)
	local kind = 'o'
	if not body then return nil, 'ERR Invalid script shebang' end
	if words then
		kind = 'w'
		if words[1] ~= '#!lua' then return nil, 'ERR Unexpected engine in script shebang: ' .. words[1] end
		for i = 2, #words do
			if sub(words[i], 1, 6) ~= 'flags=' then
				return nil, 'ERR Unknown lua shebang option: ' .. words[i]
			end
			for flag in string.gmatch(sub(words[i], 7), '[^,]+') do
				if not find(FLAGS, ' ' .. flag .. ' ', 1, true) then
					return nil, 'ERR Unexpected flag in script shebang: ' .. flag
				end
				if flag == 'no-writes' then kind = 'r' end
				if flag == 'allow-oom' and kind == 'w' then kind = 'm' end
			end
		end
	end
	local ok, why = loadstring(body, '@user_script')
	if not ok then return nil, 'ERR Error compiling script (new function): ' .. why end
	local source = counted(body)
	ok, why = loadstring(source, '@user_script')
	if not ok then return nil, 'ERR muproxy: the script is too large for one of its functions: ' .. why end
	return kind .. source
end

local tasks = {}

-- The stored form of a script; or nil, and an error.
local function load(code, sha)
	local form = stored('HGET', SCRIPTS, sha)
	local why
	if form then return form end
	form, why = prepared(code)
	if not form then return nil, {err = why} end
	stored('HSET', SCRIPTS, sha, form)
	return form
end

local function run_form(form, sha)
	local kind = sub(form, 1, 1)
	if (kind == 'w' or kind == 'm') and read_only then return {err = NOT_FOR_RO} end
	if kind == 'w' and full then return {err = NOT_WHEN_FULL} end
	if kind ~= 'o' then full = false end
	if kind == 'r' then read_only = true end
	return outcome(with_shadows(sub(form, 2), chunk), sha)
end

function tasks.eval()
	local sha = redis.sha1hex(subject)
	local form, why = load(subject, sha)
	return form and run_form(form, sha) or why
end

function tasks.evalsha()
	local sha = lower(subject)
	local form = stored('HGET', SCRIPTS, sha)
	if not form then return {err = 'NOSCRIPT No matching script. Please use EVAL.'} end
	return run_form(form, sha)
end

function tasks.eval_ro()
	read_only = true
	return tasks.eval()
end

function tasks.evalsha_ro()
	read_only = true
	return tasks.evalsha()
end

function tasks.script_load()
	local sha = redis.sha1hex(subject)
	local form, why = load(subject, sha)
	return form and sha or why
end

function tasks.script_exists()
	local out = {}
	for i, sha in ipairs(ARGV) do out[i] = stored('HEXISTS', SCRIPTS, lower(sha)) end
	return out
end

function tasks.script_flush()
	local how = ARGV[1] and lower(ARGV[1])
	if #ARGV > 1 or (how and how ~= 'sync' and how ~= 'async') then
		return {err = 'ERR SCRIPT FLUSH only support SYNC|ASYNC option'}
	end
	stored('DEL', SCRIPTS)
	return {ok = 'OK'}
end

------------------------------------------------------------------------------------- functions

-- A library is kept as its client wrote it. It is run anew for every call, since what its functions
-- keep between calls would not be the same at a server that was restored.
local NAME = '^[%w_]+$'

-- The words of a library's first line as {name, engine}; or nil and an error.
local function library_head(code)
	local words, body = shebang(code)
	local name
	if not body then return nil, 'ERR Invalid library metadata' end
	if not words then return nil, 'ERR Missing library metadata' end
	local engine = sub(words[1], 3)
	for i = 2, #words do
		if sub(words[i], 1, 5) ~= 'name=' then return nil, 'ERR Invalid metadata value given: ' .. words[i] end
		if name then return nil, 'ERR Invalid metadata value, name argument was given multiple times' end
		name = match(words[i], '^name="([^"\\]*)"$') or sub(words[i], 6)
	end
	if not name then return nil, 'ERR Library name was not given' end
	if not find(name, NAME) then
		return nil, 'ERR Library names can only contain letters, numbers, or underscores(_) and must be at '
			.. 'least one character long'
	end
	if lower(engine) ~= 'lua' then return nil, "ERR Engine '" .. engine .. "' not found" end
	return name, body
end

local function registering(found)
	local function wrong(text) error({err = 'ERR ' .. text}, 0) end
	local function add(name, callback, flags, description)
		if not find(name, NAME) then
			wrong('Library names can only contain letters, numbers, or underscores(_) and must be at '
				.. 'least one character long')
		end
		if found[name] then wrong('Function already exists in the library') end
		found[#found + 1] = name
		found[name] = {callback = callback, flags = flags or {}, description = description}
	end
	return function(...)
		local first, second = ...
		local count = select('#', ...)
		if count < 1 or count > 2 then wrong('wrong number of arguments to redis.register_function') end
		if count == 2 then
			if type(first) == 'number' then first = rawtostring(first) end
			if type(first) ~= 'string' then
				wrong('first argument to redis.register_function must be a string')
			end
			if type(second) ~= 'function' then
				wrong('second argument to redis.register_function must be a function')
			end
			return add(first, second)
		end
		if type(first) ~= 'table' then
			wrong('calling redis.register_function with a single argument is only applicable to Lua table '
				.. '(representing named arguments).')
		end
		for key in rawnext, first do
			if key ~= 'function_name' and key ~= 'callback' and key ~= 'flags' and key ~= 'description' then
				wrong('unknown argument given to redis.register_function')
			end
		end
		local name = first.function_name
		if type(name) == 'number' then name = rawtostring(name) end
		if type(name) ~= 'string' then
			wrong(name == nil and 'redis.register_function must get a function name argument'
				or 'function_name argument given to redis.register_function must be a string')
		end
		if type(first.callback) ~= 'function' then
			wrong(first.callback == nil and 'redis.register_function must get a callback argument'
				or 'callback argument given to redis.register_function must be a function')
		end
		if first.flags ~= nil and type(first.flags) ~= 'table' then
			wrong('flags argument to redis.register_function must be a table representing function flags')
		end
		for _, flag in ipairs(first.flags or {}) do
			if type(flag) ~= 'string' or not find(FLAGS, ' ' .. flag .. ' ', 1, true) then
				wrong('unknown flag given')
			end
		end
		local description = first.description
		if type(description) == 'number' then description = rawtostring(description) end
		if description ~= nil and type(description) ~= 'string' then
			wrong('description argument given to redis.register_function must be a string')
		end
		add(name, first.callback, first.flags, description)
	end
end

-- Runs a library's code: the functions that it registers, by name and in order. Or nil and an error.
local function functions_of(body)
	local found = {}
	chunk = '@user_function'
	local ok, why = loadstring(body, chunk)
	if not ok then return nil, 'ERR Error compiling function: ' .. why end
	local main
	main, why = with_shadows(counted(body), chunk)
	if not main then return nil, 'ERR muproxy: the library is too large for one of its functions: ' .. why end
	api.register_function = registering(found)
	loading = true
	local reply
	ok, reply = xpcall(main, worded)
	loading = false
	api.register_function = nil
	if not ok then return nil, 'ERR Error registering functions: ' .. reply.text end
	if #found == 0 then return nil, 'ERR No functions registered' end
	return found
end

-- Functions are found whatever the case of their names. (Those that older releases have stored, in their own.)
local function owner_of(name)
	return stored('HGET', FUNCTIONS, lower(name)) or stored('HGET', FUNCTIONS, name)
end

local function called(found, name)
	if found[name] then return found[name] end
	for _, one in ipairs(found) do
		if lower(one) == lower(name) then return found[one] end
	end
end

local function delete_library(name)
	local owners = stored('HGETALL', FUNCTIONS)
	for i = 1, #owners, 2 do
		if owners[i + 1] == name then stored('HDEL', FUNCTIONS, owners[i]) end
	end
	stored('HDEL', LIBRARIES, name)
end

function tasks.function_load()
	local replace = false
	for _, option in ipairs(ARGV) do
		if lower(option) ~= 'replace' then return {err = 'ERR Unknown option given: ' .. option} end
		replace = true
	end
	local name, body = library_head(subject)
	if not name then return {err = body} end
	if not replace and stored('HEXISTS', LIBRARIES, name) == 1 then
		return {err = "ERR Library '" .. name .. "' already exists"}
	end
	local found, why = functions_of(body)
	if not found then return {err = why} end
	for _, one in ipairs(found) do
		local owner = owner_of(one)
		if owner and owner ~= name then return {err = 'ERR Function ' .. one .. ' already exists'} end
	end
	delete_library(name)
	stored('HSET', LIBRARIES, name, subject)
	for _, one in ipairs(found) do stored('HSET', FUNCTIONS, lower(one), name) end
	return name
end

function tasks.function_delete()
	if stored('HEXISTS', LIBRARIES, subject) == 0 then return {err = 'ERR Library not found'} end
	delete_library(subject)
	return {ok = 'OK'}
end

function tasks.function_flush()
	local how = ARGV[1] and lower(ARGV[1])
	if how and how ~= 'sync' and how ~= 'async' then
		return {err = 'ERR FUNCTION FLUSH only supports SYNC|ASYNC option'}
	end
	stored('DEL', LIBRARIES, FUNCTIONS)
	return {ok = 'OK'}
end

-- FUNCTION DUMP and RESTORE: libraries as their clients wrote them, in the form of a server's own. Behind
-- each one's code, as a string of an RDB file, come that file's version and all bytes' CRC-64 (Jones).
local PAYLOAD_BYTES = 4 * 1024 * 1024
local TOO_LARGE = 'ERR muproxy: libraries of more than ' .. PAYLOAD_BYTES .. ' bytes in all are not dumped or restored'

local function crc64(text)
	local band, bor, bxor, lshift, rshift = bit.band, bit.bor, bit.bxor, bit.lshift, bit.rshift
	local low_of, high_of, low, high = {}, {}, 0, 0
	for i = 0, 255 do
		local l, h = i, 0
		for _ = 1, 8 do
			local odd = band(l, 1) == 1
			l, h = bor(rshift(l, 1), lshift(band(h, 1), 31)), rshift(h, 1)
			if odd then l, h = bxor(l, 0xac4bc9b5), bxor(h, 0x95ac9329) end
		end
		low_of[i], high_of[i] = l, h
	end
	for i = 1, #text do
		local k = band(bxor(low, string.byte(text, i)), 255)
		low = bxor(bor(rshift(low, 8), lshift(band(high, 255), 24)), low_of[k])
		high = bxor(rshift(high, 8), high_of[k])
	end
	local out = {}
	for i = 0, 3 do
		out[i + 1], out[i + 5] = string.char(band(rshift(low, 8 * i), 255)), string.char(band(rshift(high, 8 * i), 255))
	end
	return table.concat(out)
end

function tasks.function_dump()
	if #ARGV > 0 then return {err = "ERR wrong number of arguments for 'function|dump' command"} end
	local names, parts, bytes = stored('HKEYS', LIBRARIES), {}, 0
	sort(names)
	for _, name in ipairs(names) do
		local code = stored('HGET', LIBRARIES, name)
		local n = #code
		local length = n < 64 and string.char(n)
			or n < 16384 and string.char(64 + floor(n / 256), n % 256)
			or string.char(128, floor(n / 16777216), floor(n / 65536) % 256, floor(n / 256) % 256, n % 256)
		bytes = bytes + n
		if bytes > PAYLOAD_BYTES then return {err = TOO_LARGE} end
		parts[#parts + 1] = '\245' .. length .. code
	end
	local payload = table.concat(parts) .. '\10\0'
	return payload .. crc64(payload)
end

-- A string, its number of bytes first, at place `at` of a payload; and where it ends. Nil: there is none.
local function string_at(payload, at)
	local byte = string.byte
	local function length_at(place)
		local b = byte(payload, place)
		if not b or b > 128 then return nil end
		if b < 64 then return b, place + 1 end
		local second, third, fourth, fifth = byte(payload, place + 1, place + 4)
		if b < 128 then return second and (b - 64) * 256 + second, place + 2 end
		return fifth and ((second * 256 + third) * 256 + fourth) * 256 + fifth, place + 5
	end
	-- LZF: runs of bytes, and references to what has been before.
	local function unpacked(from, till, size)
		local out, n = {}, 0
		while from < till do
			local control = byte(payload, from)
			from = from + 1
			if control < 32 then
				for i = from, from + control do
					n = n + 1
					out[n] = sub(payload, i, i)
				end
				from = from + control + 1
			else
				local count = floor(control / 32)
				if count == 7 then
					count = count + byte(payload, from)
					from = from + 1
				end
				local back = n - control % 32 * 256 - byte(payload, from)
				from = from + 1
				if back < 1 or n > size then return nil end
				for i = back, back + count + 1 do
					n = n + 1
					out[n] = out[i]
				end
			end
		end
		return n == size and table.concat(out) or nil
	end
	if byte(payload, at) == 195 then
		local packed, size, start
		packed, start = length_at(at + 1)
		if packed then size, start = length_at(start) end
		if not size or size > PAYLOAD_BYTES or start + packed > #payload - 9 then return nil end
		return unpacked(start, start + packed, size), start + packed
	end
	local size, start = length_at(at)
	if not size or start + size > #payload - 9 then return nil end
	return sub(payload, start, start + size - 1), start + size
end

-- The libraries of a payload: {name, code, functions} each. Nil, and an error.
local function libraries_of(payload)
	local out, seen, at = {}, {}, 1
	while at <= #payload - 10 do
		local kind = string.byte(payload, at)
		if kind == 246 then return nil, 'ERR Pre-GA function format not supported' end
		if kind ~= 245 then return nil, 'ERR given type is not a function' end
		local code, name, body, found, why
		code, at = string_at(payload, at + 1)
		if not code then return nil, 'ERR failed loading the given functions payload' end
		name, body = library_head(code)
		if not name then return nil, body end
		if seen[name] then return nil, "ERR Library '" .. name .. "' already exists" end
		seen[name] = true
		found, why = functions_of(body)
		if not found then return nil, why end
		out[#out + 1] = {name = name, code = code, found = found}
	end
	return out
end

function tasks.function_restore()
	local policy, owners, flat = lower(ARGV[1] or 'append'), {}, nil
	if policy ~= 'append' and policy ~= 'replace' and policy ~= 'flush' then
		return {err = 'ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.'}
	end
	if #subject > PAYLOAD_BYTES then return {err = TOO_LARGE} end
	if #subject < 10 or crc64(sub(subject, 1, -9)) ~= sub(subject, -8) then
		return {err = 'ERR DUMP payload version or checksum are wrong'}
	end
	local given, why = libraries_of(subject)
	if not given then return {err = why} end
	flat = policy == 'flush' and {} or stored('HGETALL', FUNCTIONS)
	for i = 1, #flat, 2 do owners[lower(flat[i])] = flat[i + 1] end
	for _, one in ipairs(given) do
		if policy == 'append' and stored('HEXISTS', LIBRARIES, one.name) == 1 then
			return {err = 'ERR Library ' .. one.name .. ' already exists'}
		end
		for name, owner in rawnext, owners do
			if owner == one.name then owners[name] = nil end
		end
	end
	for _, one in ipairs(given) do
		for _, name in ipairs(one.found) do
			if owners[lower(name)] then return {err = 'ERR Function ' .. name .. ' already exists'} end
			owners[lower(name)] = one.name
		end
	end
	if policy == 'flush' then stored('DEL', LIBRARIES, FUNCTIONS) end
	for _, one in ipairs(given) do
		delete_library(one.name)
		stored('HSET', LIBRARIES, one.name, one.code)
		for _, name in ipairs(one.found) do stored('HSET', FUNCTIONS, lower(name), one.name) end
	end
	return {ok = 'OK'}
end

-- Names and their values: in RESP2 a list in this order, as a server's; in RESP3 a map, which has none.
local function fields(flat)
	if resp ~= '3' then return flat end
	local out = {}
	for i = 1, #flat, 2 do out[flat[i]] = flat[i + 1] end
	return {map = out}
end

local function has_flag(one, flag)
	for _, given in ipairs(one.flags) do
		if given == flag then return true end
	end
	return false
end

local function shown_flags(one)
	local out, is_set = {}, resp == '3'
	for flag in string.gmatch(FLAGS, '%S+') do
		if has_flag(one, flag) then
			if is_set then out[{ok = flag}] = true else out[#out + 1] = {ok = flag} end
		end
	end
	return is_set and {set = out} or out
end

-- A library as FUNCTION LIST shows it.
local function shown(name, with_code)
	local code = stored('HGET', LIBRARIES, name)
	local _, body = library_head(code)
	local found, out = functions_of(body) or {}, {}
	for i, one in ipairs(found) do
		out[i] = fields({'name', one, 'description', found[one].description or false, 'flags', shown_flags(found[one])})
	end
	local flat = {'library_name', name, 'engine', 'LUA', 'functions', out}
	if with_code then flat[7], flat[8] = 'library_code', code end
	return fields(flat)
end

-- Redis's own glob patterns, by way of a command that knows them.
local function matching(names, pattern)
	local kept = {}
	stored('DEL', 'muproxy:names')
	for _, name in ipairs(names) do stored('SADD', 'muproxy:names', name) end
	local at = '0'
	repeat
		local reply = stored('SSCAN', 'muproxy:names', at, 'MATCH', pattern, 'COUNT', 1000)
		at = reply[1]
		for _, name in ipairs(reply[2]) do kept[name] = true end
	until at == '0'
	stored('DEL', 'muproxy:names')
	local out = keys_of(kept)
	sort(out)
	return out
end

function tasks.function_list()
	local names, with_code, pattern, i = stored('HKEYS', LIBRARIES), false, nil, 1
	while i <= #ARGV do
		local word = lower(ARGV[i])
		if not with_code and word == 'withcode' then
			with_code = true
		elseif not pattern and word == 'libraryname' then
			i = i + 1
			pattern = ARGV[i]
			if not pattern then return {err = 'ERR library name argument was not given'} end
		else
			return {err = 'ERR Unknown argument ' .. ARGV[i]}
		end
		i = i + 1
	end
	if pattern then names = matching(names, pattern) end
	sort(names)
	local out = {}
	for k, name in ipairs(names) do out[k] = shown(name, with_code) end
	return out
end

function tasks.function_stats()
	local counts = fields({'libraries_count', stored('HLEN', LIBRARIES), 'functions_count', stored('HLEN', FUNCTIONS)})
	return fields({'running_script', false, 'engines', fields({'LUA', counts})})
end

function tasks.fcall()
	local library = owner_of(subject)
	if not library then return {err = 'ERR Function not found'} end
	local _, body = library_head(stored('HGET', LIBRARIES, library))
	local found, why = functions_of(body)
	local one = found and called(found, subject)
	if not one then return {err = why or 'ERR Function not found'} end
	local writes = not has_flag(one, 'no-writes')
	if writes and read_only then
		return {err = NOT_FOR_RO}
	end
	if full and writes and not has_flag(one, 'allow-oom') then return {err = NOT_WHEN_FULL} end
	full = false
	read_only = not writes
	ways = {}
	return outcome(function() return one.callback(KEYS, ARGV) end, subject)
end

function tasks.fcall_ro()
	read_only = true
	return tasks.fcall()
end

local reply = tasks[task]()
tell_deadlines()
if broken then return {err = broken.err} end
-- What a client made up is not to be taken for a failure (redis_reply.c). Servers, too, look at a
-- table without its metatable.
local text = type(reply) == 'table' and rawget(reply, 'err')
if type(text) == 'string' and (is_failure(text) or sub(text, 1, 1) == '\1') then return {err = '\1' .. text} end
return reply
