--[[
  groups.lua - consumer groups' reads and claims, so that every replica's server does the same.

  It stands before prelude.lua in one script, which comes here if what is logged says so: arguments,
  the time in ms that the leader decided on, the name of a way below.

  A server stamps what it delivers with its own clock. So what was delivered is given the entry's
  time at once, as of long ago (`stored`): a server believes no time that is ahead of its clock, and
  clocks differ, but not by years. How long an entry has been idle follows from that, and from the
  time that is decided on now: never from a server's clock. XPENDING tells idle times by that clock,
  and so the time that is stored only where the clock is known to have stood still meanwhile.

  A stream that was dumped elsewhere comes with real times (RESTORE): they are newer than any that
  could be stored here, and are taken for what they are. (stream_groups_reply.c does the same.)
]]
local function group_commands(now, in_script)
	local PAST = 274877906944 -- ms; stream_groups.h
	local CHUNK = 64 -- entries that are looked at while a server's clock is to stand still
	local MANY = 1000 -- entries claimed by one command
	local NEVER = '9223372036854775807' -- nothing is idle for so long
	local call, try, type, tonumber, unpack, select = redis.call, redis.pcall, type, tonumber, unpack, select
	local find, format, lower, match = string.find, string.format, string.lower, string.match
	local floor, min, pairs = math.floor, math.min, pairs
	local ways = {}

	-- As a server reads integers; or nil.
	local function whole(text)
		if type(text) == 'number' then text = format('%.17g', text) end
		local digits = type(text) == 'string' and (match(text, '^%-?([1-9]%d*)$') or text == '0' and text)
		if not digits or #digits > 19 or #digits == 19 and digits > '9223372036854775807' then return nil end
		return tonumber(text)
	end

	local function word_of(value)
		return type(value) == 'string' and lower(value)
	end

	local function failed(reply)
		return type(reply) == 'table' and reply.err ~= nil
	end

	-- Times of half a lifetime ago lose their last bit.
	local function stored(time)
		return format('%.0f', time < 2 * PAST and floor(time / 2) or time - PAST)
	end

	local function real(time)
		if time > now - PAST / 2 then return time end
		return time < PAST and 2 * time or time + PAST
	end

	-- There is no such group, or no stream at all.
	local function is_missing(key, group)
		return failed(try('XPENDING', key, group, '-', '-', 1))
	end

	local function clock()
		local time = call('TIME')
		return time[1] * 1000 + floor(time[2] / 1000)
	end

	-- XPENDING's list, but with the times of delivery; or an error.
	local function pending(...)
		while true do
			local before = clock()
			local list = try('XPENDING', ...)
			if failed(list) then return list end
			if clock() == before then
				for i = 1, #list do list[i][3] = real(before - list[i][3]) end
				return list
			end
		end
	end

	-- XCLAIM of these, as many at a time as there may be. Appends what is claimed to `out`.
	local function claim(key, group, consumer, ids, least, options, out)
		for first = 1, #ids, MANY do
			local a = {'XCLAIM', key, group, consumer, least, unpack(ids, first, min(first + MANY - 1, #ids))}
			for i = 1, #options do a[#a + 1] = options[i] end
			local reply = call(unpack(a))
			for i = 1, #reply do out[#out + 1] = reply[i] end
		end
		return out
	end

	-- These were delivered just now; that they were is counted already.
	local function delivered(key, group, consumer, ids)
		claim(key, group, consumer, ids, 0, {'TIME', stored(now), 'JUSTID'}, {})
	end

	------------------------------------------------------------------------------------ XREADGROUP

	-- The request without BLOCK, where its streams are, its group and consumer, and NOACK. Or nil, and an error.
	local function parsed(name, a)
		local out, at, group, consumer, noack = {name}, 1, nil, nil, false
		local function keep(count)
			for i = at, at + count - 1 do out[#out + 1] = a[i] end
			at = at + count
		end
		while true do
			local word, more = word_of(a[at]), #a - at
			if word == 'block' and more >= 1 then
				local time = whole(a[at + 1])
				if in_script then
					return nil, {err = 'ERR ' .. name .. ' command is not allowed with BLOCK option from scripts'}
				end
				if not time then return nil, {err = 'ERR timeout is not an integer or out of range'} end
				if time < 0 then return nil, {err = 'ERR timeout is negative'} end
				at = at + 2
			elseif word == 'count' and more >= 1 then
				if not whole(a[at + 1]) then return nil, {err = 'ERR value is not an integer or out of range'} end
				keep(2)
			elseif word == 'group' and more >= 2 then
				group, consumer = a[at + 1], a[at + 2]
				keep(3)
			elseif word == 'noack' then
				noack = true
				keep(1)
			elseif word == 'streams' and more >= 1 then
				if not group then
					-- Without BLOCK there may be too few arguments for the server to look at them.
					return nil, {err = more % 2 == 0 and 'ERR Missing GROUP option for XREADGROUP'
						or "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."}
				end
				keep(more + 1)
				return out, a[#a - more + 1], group, consumer, noack
			else
				return nil, {err = 'ERR syntax error'}
			end
		end
	end

	-- The stream's entries that were read: those that are pending now, and still there.
	local function read(key, entries, group, consumer, noack)
		local ids = {}
		for i = 1, #entries do
			local id = entries[i][1]
			if entries[i][2] and (not noack or #call('XPENDING', key, group, id, id, 1, consumer) > 0) then
				ids[#ids + 1] = id
			end
		end
		delivered(key, group, consumer, ids)
	end

	local function read_group(a, group, consumer, noack)
		local reply = try(unpack(a))
		if type(reply) ~= 'table' or reply.err then return reply end
		for i = 1, #reply do read(reply[i][1], reply[i][2], group, consumer, noack) end
		for key, entries in pairs(reply.map or {}) do read(key, entries, group, consumer, noack) end
		return reply
	end

	function ways.xreadgroup(name, ...)
		local a, first, group, consumer, noack = parsed(name, {...})
		if not a then return first end
		return read_group(a, group, consumer, noack)
	end

	-- For who has waited for that one stream.
	function ways.xreadgroup_woken(name, ...)
		local a, key, group, consumer, noack = parsed(name, {...})
		if not a then return key end
		if call('TYPE', key).ok ~= 'stream' then return {err = 'UNBLOCKED the stream key no longer exists'} end
		if is_missing(key, group) then
			return {err = 'NOGROUP the consumer group this client was blocked on no longer exists'}
		end
		return read_group(a, group, consumer, noack)
	end

	---------------------------------------------------------------------------------------- XCLAIM

	local function is_id(text)
		if type(text) == 'number' then text = format('%.17g', text) end
		return type(text) == 'string' and (find(text, '^%+?%d+$') or find(text, '^%+?%d+%-%+?%d+$')) and true
	end

	-- Options, with the time made ours, and what is given with it; or nil, and an error.
	local function claim_options(a, i)
		local options, time = {}, now
		while a[i] ~= nil do
			local word, value = word_of(a[i]), a[i + 1]
			if word == 'force' or word == 'justid' then
				options[#options + 1] = a[i]
				i = i + 1
			elseif value ~= nil and (word == 'idle' or word == 'time') then
				time = whole(value)
				if not time then
					return nil, {err = 'ERR Invalid ' .. word:upper() .. ' option argument for XCLAIM'}
				end
				if word == 'idle' then time = now - time end
				i = i + 2
			elseif value ~= nil and (word == 'retrycount' or word == 'lastid') then
				options[#options + 1], options[#options + 2] = a[i], value
				i = i + 2
			else
				return nil, {err = "ERR Unrecognized XCLAIM option '" .. a[i] .. "'"}
			end
		end
		if time < 0 or time > now then time = now end
		options[#options + 1], options[#options + 2] = 'TIME', stored(time)
		return options, time
	end

	-- Which of these may be claimed, being idle for long enough or not pending; and which may not.
	local function by_age(key, group, ids, least, time)
		local old, young, claimed = {}, {}, {}
		for i = 1, #ids do
			local id = find(ids[i], '-', 1, true) and ids[i] or ids[i] .. '-0'
			local one = pending(key, group, id, id, 1)[1]
			local name = one and one[1] or id
			local since = claimed[name] or one and one[3]
			if since and now - since < least then
				young[#young + 1] = ids[i]
			else
				old[#old + 1] = ids[i]
				claimed[name] = time
			end
		end
		return old, young
	end

	function ways.xclaim(name, ...)
		local key, group, consumer, idle = ...
		local a, ids = {select(5, ...)}, {}
		-- Without a group, or arguments, a server refuses.
		if #a == 0 or is_missing(key, group) then return try(name, ...) end
		local least = whole(idle)
		if not least then return {err = 'ERR Invalid min-idle-time argument for XCLAIM'} end
		while is_id(a[#ids + 1]) do ids[#ids + 1] = a[#ids + 1] end
		local options, time = claim_options(a, #ids + 1)
		if not options then return time end
		local old, young = ids, {}
		if least > 0 then old, young = by_age(key, group, ids, least, time) end
		local function claimed(some, least_idle)
			local all = {name, key, group, consumer, least_idle, unpack(some)}
			for i = 1, #options do all[#all + 1] = options[i] end
			return try(unpack(all))
		end
		if #old == 0 and #young > 0 then return claimed(young, NEVER) end
		local reply = claimed(old, 0)
		-- Entries that are no more go from the list, however long they have been idle.
		if not failed(reply) then claim(key, group, consumer, young, NEVER, {'JUSTID'}, {}) end
		return reply
	end

	------------------------------------------------------------------------------------ XAUTOCLAIM

	-- How many at most, and whether their IDs are enough; or nil, and an error.
	local function autoclaim_options(a)
		local count, just_ids, i = 100, false, 1
		while a[i] ~= nil do
			local word = word_of(a[i])
			if word == 'count' and a[i + 1] ~= nil then
				count = whole(a[i + 1])
				if not count or count < 1 or count > 576460752303423487 then
					return nil, {err = 'ERR COUNT must be > 0'}
				end
				i = i + 1
			elseif word == 'justid' then
				just_ids = true
			else
				return nil, {err = 'ERR syntax error'}
			end
			i = i + 1
		end
		return count, just_ids
	end

	-- The walk of XAUTOCLAIM: what is to be claimed, what is gone, and where it is to be continued.
	local function walk(key, group, from, least, count)
		local claimed, gone, steps = {}, {}, count * 10
		while true do
			local list = pending(key, group, from, '+', CHUNK)
			for i = 1, #list do
				local id = list[i][1]
				if steps == 0 or count == 0 then return claimed, gone, id end
				steps = steps - 1
				if #call('XRANGE', key, id, id) == 0 then
					gone[#gone + 1] = id
					count = count - 1
				elseif now - list[i][3] >= least then
					claimed[#claimed + 1] = id
					count = count - 1
				end
				from = '(' .. id
			end
			if #list < CHUNK then return claimed, gone, '0-0' end
		end
	end

	function ways.xautoclaim(name, ...)
		local key, group, consumer, idle, start = ...
		if start == nil or is_missing(key, group) then return try(name, ...) end
		local least = whole(idle)
		if not least then return {err = 'ERR Invalid min-idle-time argument for XAUTOCLAIM'} end
		local first = try('XPENDING', key, group, start, '+', 1)
		if failed(first) then return first end
		local count, just_ids = autoclaim_options({select(6, ...)})
		if not count then return just_ids end
		local ids, gone, continued = walk(key, group, start, least, count)
		local options = {'TIME', stored(now)}
		if just_ids then options[3] = 'JUSTID' end
		-- The consumer is there from now on, whether or not it gets something.
		call('XCLAIM', key, group, consumer, NEVER, '0-0', 'JUSTID')
		claim(key, group, consumer, gone, NEVER, {'JUSTID'}, {})
		return {continued, claim(key, group, consumer, ids, 0, options, {}), gone}
	end

	-------------------------------------------------------------------------------------- XPENDING

	function ways.xpending(name, ...)
		local a, reply, out = {...}, try(name, ...), {}
		if #a < 3 or failed(reply) then return reply end
		local least, i = 0, 3
		if word_of(a[3]) == 'idle' then least, i = whole(a[4]), 5 end
		local from, to, count = a[i], a[i + 1], tonumber(a[i + 2])
		while #out < count do
			local list = pending(a[1], a[2], from, to, CHUNK, unpack(a, i + 3))
			for k = 1, #list do
				local one = list[k]
				from, one[3] = '(' .. one[1], now > one[3] and now - one[3] or 0
				if one[3] >= least and #out < count then out[#out + 1] = one end
			end
			if #list < CHUNK then break end
		end
		return out
	end

	return ways
end

if string.find(' xreadgroup xreadgroup_woken xclaim xautoclaim xpending ', ' ' .. ARGV[#ARGV] .. ' ', 1, true) then
	return group_commands(tonumber(ARGV[#ARGV - 1]), false)[ARGV[#ARGV]](unpack(ARGV, 1, #ARGV - 2))
end
