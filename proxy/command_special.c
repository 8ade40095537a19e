/*
 * command_special.c - what COMMAND does not tell: the table of commands that
 * need treatment of their own. A command without a line here is classified by
 * the backend's flags (command.c): `readonly` goes to the leader's backend, `write`
 * through the log if it is known to do the same everywhere (command_writes.c),
 * anything else is refused.
 */
#include "command_special.h"

#include <string.h>

/* Why not. A reason ends a sentence that begins with the command's name, unless it is a whole
 * error. */
#define LOCAL_FSYNC \
	"it is about the file of one server: an acknowledged write is on a majority already"
#define CONNECTION "it would change a connection that many clients share"
#define OPERATOR "it concerns one server alone: send it to the backend itself"
#define REPLICATION "replication is muproxy's own"
/* Redis's own words, by which clients that look for a cluster know that there is none. */
#define CLUSTER "ERR This instance has cluster support disabled"
#define ACLS "ACL users are not served"
#define SORT_TIES "with BY, ALPHA and STORE the order of equal weights may differ between replicas"
#define FIELD_EXPIRY "deadlines of fields are not served yet"
#define PARAMETER "that parameter is the backend's operator's, on each server"
#define INTERNAL "it is meant for Redis's own tests"

bool mp_arg_is(struct mp_slice arg, const char *word)
{
	for (size_t i = 0;; i++) {
		char c = i < arg.len ? arg.data[i] : '\0';

		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		if (c != word[i])
			return false;
		if (c == '\0')
			return true;
	}
}

static bool is_one_of(struct mp_slice arg, const char *const *words)
{
	while (*words && !mp_arg_is(arg, *words))
		words++;
	return *words != NULL;
}

/* Argument i is an ID of the client's own, or an option that we do not know: then whatever star
 * follows may be the ID. */
static int no_star(const struct resp_request *r, int i)
{
	if (r->argv[i].len > 0 && r->argv[i].data[0] >= '0' && r->argv[i].data[0] <= '9')
		return 0;
	while (++i < r->argc)
		if (mp_arg_is(r->argv[i], "*"))
			return -1;
	return 0;
}

int mp_xadd_star(const struct resp_request *r)
{
	/* The last three are newer servers': what is to become of groups' mentions of trimmed
	 * entries. */
	static const char *const alone[] = {"nomkstream", "keepref", "delref", "acked", NULL};
	int i = 2;

	while (i < r->argc) {
		bool trim = mp_arg_is(r->argv[i], "maxlen") || mp_arg_is(r->argv[i], "minid");
		int more = r->argc - 1 - i;

		if (is_one_of(r->argv[i], alone)) {
			i += 1;
		} else if (trim && more >= 2 &&
			   (mp_arg_is(r->argv[i + 1], "~") || mp_arg_is(r->argv[i + 1], "="))) {
			i += 3;
		} else if ((trim || mp_arg_is(r->argv[i], "limit")) && more >= 1) {
			i += 2;
		} else {
			return mp_arg_is(r->argv[i], "*") ? i : no_star(r, i);
		}
	}
	return 0;
}

/*
 * SORT ... STORE compares weights as strings if ALPHA, and leaves equal ones
 * in the order in which the set's hash table gave them. (Numeric weights that
 * are equal fall back to the elements themselves; without BY nothing is equal
 * but the same.)
 */
static bool sort_may_tie(const struct resp_request *r)
{
	bool by = false, alpha = false, store = false;

	for (int i = 2; i < r->argc; i++) {
		if (mp_arg_is(r->argv[i], "alpha")) {
			alpha = true;
		} else if (mp_arg_is(r->argv[i], "limit")) {
			i += 2;
		} else if (mp_arg_is(r->argv[i], "by") && i + 1 < r->argc) {
			i++;
			by |= memchr(r->argv[i].data, '*', r->argv[i].len) != NULL;
		} else if (mp_arg_is(r->argv[i], "get")) {
			i++;
		} else if (mp_arg_is(r->argv[i], "store")) {
			i++;
			store = true;
		}
	}
	return by && alpha && store;
}

/*
 * CONFIG SET of what decides about data, connections or memory is the operator's,
 * server by server. These only show, or cost, something. (When servers write their
 * files is no matter of an acknowledged write's: it is in the log of a majority.)
 */
static bool config_matters(const struct resp_request *r)
{
	static const char *const harmless[] = {
		"slowlog-log-slower-than",
		"slowlog-max-len",
		"latency-monitor-threshold",
		"latency-tracking",
		"hash-max-listpack-entries",
		"hash-max-listpack-value",
		"hash-max-ziplist-entries",
		"hash-max-ziplist-value",
		"zset-max-listpack-entries",
		"zset-max-listpack-value",
		"zset-max-ziplist-entries",
		"zset-max-ziplist-value",
		"set-max-intset-entries",
		"set-max-listpack-entries",
		"set-max-listpack-value",
		"list-max-listpack-size",
		"list-max-ziplist-size",
		"list-compress-depth",
		"activerehashing",
		"hz",
		"dynamic-hz",
		"lazyfree-lazy-user-del",
		"lazyfree-lazy-user-flush",
		"lazyfree-lazy-server-del",
		"lazyfree-lazy-expire",
		"lazyfree-lazy-eviction",
		"activedefrag",
		"active-defrag-ignore-bytes",
		"active-defrag-threshold-lower",
		"active-defrag-threshold-upper",
		"active-defrag-cycle-min",
		"active-defrag-cycle-max",
		"active-defrag-max-scan-fields",
		"latency-tracking-info-percentiles",
		"lfu-log-factor",
		"lfu-decay-time",
		"save",
		"rdbcompression",
		"loglevel",
		"notify-keyspace-events",
		"maxmemory",
		"maxmemory-policy",
		"commandlog-execution-slower-than",
		"commandlog-slow-execution-max-len",
		"commandlog-request-larger-than",
		"commandlog-large-request-max-len",
		"commandlog-reply-larger-than",
		"commandlog-large-reply-max-len",
		NULL,
	};

	for (int i = 2; i < r->argc; i += 2)
		if (!is_one_of(r->argv[i], harmless))
			return true;
	return false;
}

/*
 * DEBUG goes as far as the servers allow it (enable-debug-command), and to all of
 * them, but not where it changes data, loads a server's files or ends it, and not
 * where it breaks the order of replies (PROTOCOL PUSH).
 */
static bool debug_matters(const struct resp_request *r)
{
	static const char *const harmless[] = {
		"help",         "object",
		"digest-value", "sdslen",
		"htstats",      "htstats-key",
		"listpack",     "ziplist",
		"protocol",     "stringmatch-len",
		"sleep",        "quicklist-packed-threshold",
		"log",          "set-active-expire",
		NULL,
	};

	if (r->argc > 2 && mp_arg_is(r->argv[1], "protocol") && mp_arg_is(r->argv[2], "push"))
		return true;
	return r->argc < 2 || !is_one_of(r->argv[1], harmless);
}

#define READ(n)                                   \
	{                                         \
		.name = n, .class = MP_CLASS_READ \
	}
#define LOCAL(n)                                   \
	{                                          \
		.name = n, .class = MP_CLASS_LOCAL \
	}
#define WRITE(n)                                   \
	{                                          \
		.name = n, .class = MP_CLASS_WRITE \
	}
#define BLIND(n)                                                  \
	{                                                         \
		.name = n, .class = MP_CLASS_WRITE, .blind = true \
	}
#define REWRITE(n, how)                                                         \
	{                                                                       \
		.name = n, .class = MP_CLASS_WRITE, .rewrite = MP_REWRITE_##how \
	}
#define REFUSE(n, why)                                               \
	{                                                            \
		.name = n, .class = MP_CLASS_REFUSED, .refusal = why \
	}
#define UNLESS(n, c, picks, why)                                                   \
	{                                                                          \
		.name = n, .class = MP_CLASS_##c, .refusal = why, .refuses = picks \
	}

/*
 * Blind writes. A run w1..wn of them was executed; then wj..wn run again. Each
 * assigns whole keys (SET: value and deadline) or removes them, whatever was
 * there, and none can fail on a key's type. So after the second pass a key
 * that any of wj..wn names is what the last of those made it, as after the
 * first pass, and any other key is untouched: the same state. FLUSHDB and
 * FLUSHALL remove all keys of their databases, which fits the same argument.
 * Not blind: what fails on another type (HSET, GETSET), keeps something
 * (KEEPTTL, APPEND) or asks first (NX, XX, GET).
 */
static const struct mp_special specials[] = {
	{"set", MP_CLASS_WRITE, MP_REWRITE_SET, true, NULL, NULL},
	{"setex", MP_CLASS_WRITE, MP_REWRITE_SETEX, true, NULL, NULL},
	{"psetex", MP_CLASS_WRITE, MP_REWRITE_SETEX, true, NULL, NULL},
	{"flushall", MP_CLASS_WRITE, MP_REWRITE_FLUSHALL, true, NULL, NULL},
	BLIND("mset"),
	BLIND("del"),
	BLIND("unlink"),
	{"flushdb", MP_CLASS_WRITE, MP_REWRITE_FLUSHDB, true, NULL, NULL},

	/* Deadlines are made absolute. Fields' deadlines (newer servers) would have to be, too. */
	REWRITE("expire", EXPIRE),
	REWRITE("pexpire", EXPIRE),
	REWRITE("expireat", EXPIRE),
	REWRITE("pexpireat", EXPIRE),
	REWRITE("getex", GETEX),
	REWRITE("rename", NOTE),
	REWRITE("renamenx", NOTE),
	{"ttl", MP_CLASS_READ, MP_REWRITE_TTL, false, NULL, NULL},
	{"pttl", MP_CLASS_READ, MP_REWRITE_PTTL, false, NULL, NULL},
	{"expiretime", MP_CLASS_READ, MP_REWRITE_EXPIRETIME, false, NULL, NULL},
	{"pexpiretime", MP_CLASS_READ, MP_REWRITE_PEXPIRETIME, false, NULL, NULL},
	REWRITE("restore", RESTORE),
	REFUSE("hexpire", FIELD_EXPIRY),
	REFUSE("hpexpire", FIELD_EXPIRY),
	REFUSE("hexpireat", FIELD_EXPIRY),
	REFUSE("hpexpireat", FIELD_EXPIRY),
	REFUSE("hsetex", FIELD_EXPIRY),
	REFUSE("hgetex", FIELD_EXPIRY),
	REFUSE("msetex", "deadlines of several keys at once are not served yet"),

	/* The last database is hidden: it holds the applied LSN. */
	REWRITE("move", MOVE),
	REWRITE("copy", COPY),
	REWRITE("swapdb", SWAPDB),

	/* Reads to Redis, but they write: PFCOUNT stores the count that it computed. */
	WRITE("pfcount"),

	/* Not deterministic. */
	REWRITE("spop", SPOP),
	REWRITE("xautoclaim", GROUP),
	REWRITE("xclaim", GROUP),
	REWRITE("xreadgroup", GROUP_READ),
	{"xpending", MP_CLASS_READ, MP_REWRITE_PENDING, false, NULL, NULL},
	{"xinfo|stream", MP_CLASS_READ, MP_REWRITE_STREAM_INFO, false, NULL, NULL},
	REWRITE("xadd", XADD),
	UNLESS("sort", WRITE, sort_may_tie, SORT_TIES),
	/* "~" trims whole nodes, which are equal where contents and configuration are. */
	WRITE("xtrim"),

	/* The session's own. */
	LOCAL("ping"),
	LOCAL("echo"),
	LOCAL("select"),
	LOCAL("quit"),
	LOCAL("reset"),
	LOCAL("hello"),
	LOCAL("client|id"),
	LOCAL("client|getname"),
	LOCAL("client|setname"),
	LOCAL("client|setinfo"),
	LOCAL("client|info"),
	LOCAL("client|list"),
	LOCAL("client|kill"),
	LOCAL("client|no-evict"),
	LOCAL("client|no-touch"),
	LOCAL("client|getredir"),
	LOCAL("client|unblock"),
	LOCAL("client|reply"),
	LOCAL("client|tracking"),
	LOCAL("client|trackinginfo"),
	LOCAL("client|caching"),
	LOCAL("wait"), /* an acknowledged write is on a majority already */
	REFUSE("client", CONNECTION),
	REWRITE("client|pause", PAUSE),
	REWRITE("client|unpause", PAUSE),
	LOCAL("auth"),
	REFUSE("asking", CLUSTER),
	LOCAL("readonly"),
	LOCAL("readwrite"),
	REFUSE("cluster", CLUSTER),

	REWRITE("blpop", BLOCK),
	REWRITE("brpop", BLOCK),
	REWRITE("blmove", BLOCK),
	REWRITE("brpoplpush", BLOCK),
	REWRITE("blmpop", BLOCK),
	REWRITE("bzpopmin", BLOCK),
	REWRITE("bzpopmax", BLOCK),
	REWRITE("bzmpop", BLOCK),
	/* Of these only requests with BLOCK wait; as attempts they are reads. */
	{"xread", MP_CLASS_READ, MP_REWRITE_BLOCK, false, NULL, NULL},
	REFUSE("waitaof", LOCAL_FSYNC),

	LOCAL("multi"),
	LOCAL("exec"),
	LOCAL("discard"),
	LOCAL("unwatch"),
	{"watch", MP_CLASS_READ, MP_REWRITE_WATCH, false, NULL, NULL},

	LOCAL("subscribe"),
	LOCAL("psubscribe"),
	LOCAL("ssubscribe"),
	LOCAL("unsubscribe"),
	LOCAL("punsubscribe"),
	LOCAL("sunsubscribe"),
	REWRITE("publish", PUBLISH),
	REWRITE("spublish", PUBLISH),
	LOCAL("pubsub|channels"),
	LOCAL("pubsub|numpat"),
	LOCAL("pubsub|numsub"),
	LOCAL("pubsub|shardchannels"),
	LOCAL("pubsub|shardnumsub"),

	REWRITE("eval", SCRIPT),
	REWRITE("eval_ro", SCRIPT),
	REWRITE("evalsha", SCRIPT),
	REWRITE("evalsha_ro", SCRIPT),
	REWRITE("fcall", SCRIPT),
	REWRITE("fcall_ro", SCRIPT),
	REWRITE("script|load", SCRIPT),
	REWRITE("script|exists", SCRIPT),
	REWRITE("script|flush", SCRIPT),
	LOCAL("script|kill"),
	REFUSE("script|show", "scripts are not kept as their clients wrote them"),
	REFUSE("script", "debugging of scripts is not served"),
	REWRITE("function|load", SCRIPT),
	REWRITE("function|delete", SCRIPT),
	REWRITE("function|flush", SCRIPT),
	REWRITE("function|dump", SCRIPT),
	REWRITE("function|restore", SCRIPT),
	REWRITE("function|list", SCRIPT),
	REWRITE("function|stats", SCRIPT),
	LOCAL("function|kill"),

	/* Of one server, for its operator. */
	REFUSE("acl", ACLS),
	LOCAL("acl|whoami"),
	LOCAL("acl|users"),
	LOCAL("acl|list"),
	LOCAL("acl|getuser"),
	READ("acl|cat"),
	READ("acl|genpass"),
	REFUSE("config", OPERATOR),
	{"config|get", MP_CLASS_READ, MP_REWRITE_CONFIG, false, NULL, NULL},
	/* Of no consequence for what is stored: of every server, so that whoever leads has it. */
	{"config|set", MP_CLASS_WRITE, MP_REWRITE_SETTINGS, false, PARAMETER, config_matters},
	WRITE("config|resetstat"),
	WRITE("slowlog|reset"),
	WRITE("commandlog|reset"),
	WRITE("latency|reset"),
	REFUSE("save", OPERATOR),
	REFUSE("bgsave", OPERATOR),
	REFUSE("bgrewriteaof", OPERATOR),
	REFUSE("shutdown", OPERATOR),
	REFUSE("module", OPERATOR),
	READ("module|list"),
	UNLESS("debug", WRITE, debug_matters, OPERATOR),
	LOCAL("monitor"),
	WRITE("memory|purge"),
	REFUSE("pfdebug", INTERNAL),
	REFUSE("pfselftest", INTERNAL),
	REFUSE("replicaof", REPLICATION),
	REFUSE("slaveof", REPLICATION),
	REFUSE("replconf", REPLICATION),
	REFUSE("psync", REPLICATION),
	REFUSE("sync", REPLICATION),
	REFUSE("failover", REPLICATION),
	REFUSE("migrate", REPLICATION),
	REFUSE("restore-asking", REPLICATION),

	/* Harmless questions, though no flag says so (HELP subcommands: command.c). */
	READ("command"),
	{"info", MP_CLASS_READ, MP_REWRITE_INFO, false, NULL, NULL},
	READ("lastsave"),
	READ("role"),
	READ("time"),
	READ("latency|doctor"),
	READ("latency|graph"),
	READ("latency|histogram"),
	READ("latency|history"),
	READ("latency|latest"),
	READ("memory|doctor"),
	READ("memory|malloc-stats"),
	{"memory|stats", MP_CLASS_READ, MP_REWRITE_CONFIG, false, NULL, NULL},
	READ("slowlog|get"),
	{"scan", MP_CLASS_READ, MP_REWRITE_SCAN, false, NULL, NULL},
	{"sscan", MP_CLASS_READ, MP_REWRITE_SCAN, false, NULL, NULL},
	{"hscan", MP_CLASS_READ, MP_REWRITE_SCAN, false, NULL, NULL},
	{"zscan", MP_CLASS_READ, MP_REWRITE_SCAN, false, NULL, NULL},
	READ("slowlog|len"),
	READ("commandlog|get"),
	READ("commandlog|len"),
};

const struct mp_special *mp_special_find(const char *name)
{
	for (size_t i = 0; i < sizeof(specials) / sizeof(specials[0]); i++)
		if (strcmp(specials[i].name, name) == 0)
			return &specials[i];
	return NULL;
}
