/* command_writes.c - see command_writes.h. */
#include "command_writes.h"

#include <stdlib.h>
#include <string.h>

/*
 * In order. What newer servers have besides 7.0 and the table in command_special.c:
 * delifeq, hgetdel, hpersist (fields have no deadlines here), xackdel, xdelex.
 */
static const char *const known[] = {
	"append",
	"bitfield",
	"bitop",
	"decr",
	"decrby",
	"delifeq",
	"geoadd",
	"georadius",
	"georadiusbymember",
	"geosearchstore",
	"getdel",
	"getset",
	"hdel",
	"hgetdel",
	"hincrby",
	"hincrbyfloat",
	"hmset",
	"hpersist",
	"hset",
	"hsetnx",
	"incr",
	"incrby",
	"incrbyfloat",
	"linsert",
	"lmove",
	"lmpop",
	"lpop",
	"lpush",
	"lpushx",
	"lrem",
	"lset",
	"ltrim",
	"msetnx",
	"persist",
	"pfadd",
	"pfmerge",
	"rpop",
	"rpoplpush",
	"rpush",
	"rpushx",
	"sadd",
	"sdiffstore",
	"setbit",
	"setnx",
	"setrange",
	"sinterstore",
	"smove",
	"srem",
	"sunionstore",
	"xack",
	"xackdel",
	"xdel",
	"xdelex",
	"xgroup|create",
	"xgroup|createconsumer",
	"xgroup|delconsumer",
	"xgroup|destroy",
	"xgroup|setid",
	"xsetid",
	"zadd",
	"zdiffstore",
	"zincrby",
	"zinterstore",
	"zmpop",
	"zpopmax",
	"zpopmin",
	"zrangestore",
	"zrem",
	"zremrangebylex",
	"zremrangebyrank",
	"zremrangebyscore",
	"zunionstore",
};

static int compare(const void *name, const void *place)
{
	return strcmp(name, *(const char *const *)place);
}

bool mp_write_is_known(const char *name)
{
	return bsearch(name, known, sizeof(known) / sizeof(known[0]), sizeof(known[0]), compare) !=
	       NULL;
}
