/*
 * command.h - what is known of Redis commands. Which exist, which write and
 * where their keys are is asked of the backend (COMMAND, over hiredis), so a
 * newer server's commands work unchanged; a small table in command_special.c
 * names those that need treatment of their own, and why.
 */
#ifndef MP_COMMAND_H
#define MP_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "resp.h"
#include "slice.h"

enum mp_class {
	MP_CLASS_READ,    /* the leader's backend answers, after a fence */
	MP_CLASS_WRITE,   /* through the log */
	MP_CLASS_LOCAL,   /* the session answers: see the list in command_special.c */
	MP_CLASS_REFUSED, /* not served (yet, or ever): mp_command.refusal says why */
};

/* Treatments of a write; 0 = forward as it is. */
enum mp_rewrite {
	MP_REWRITE_NONE = 0,
	MP_REWRITE_SET,      /* SET k v [EX|PX|EXAT|PXAT t] ... */
	MP_REWRITE_SETEX,    /* SETEX/PSETEX k t v -> SET k v PXAT t */
	MP_REWRITE_EXPIRE,   /* EXPIRE/PEXPIRE/EXPIREAT -> PEXPIREAT, flags kept */
	MP_REWRITE_GETEX,    /* GETEX k EX|PX|EXAT t -> PXAT */
	MP_REWRITE_RESTORE,  /* RESTORE k ttl v -> ABSTTL */
	MP_REWRITE_FLUSHALL, /* FLUSHALL -> one FLUSHDB per visible database */
	MP_REWRITE_FLUSHDB,  /* judged here: what a server refuses must not forget deadlines */
	MP_REWRITE_MOVE,     /* MOVE, COPY and SWAPDB must not name the hidden database */
	MP_REWRITE_COPY,
	MP_REWRITE_SWAPDB,
	MP_REWRITE_XADD,     /* XADD with * -> a script with the entry's time */
	MP_REWRITE_SPOP,     /* SPOP -> a script with a seed */
	MP_REWRITE_SCRIPT,   /* scripts and functions -> our own script (redis_scripts.h) */
	MP_REWRITE_PUBLISH,  /* goes as it is; subscribers hear of it (pubsub.h) */
	MP_REWRITE_SETTINGS, /* CONFIG SET: what is the group's is kept with the data (memory.h) */
	MP_REWRITE_PAUSE,    /* CLIENT PAUSE, UNPAUSE: replicas do it, not servers (pause.h) */
	MP_REWRITE_BLOCK,    /* goes as it is; who gets nothing waits (blocking.h) */
	MP_REWRITE_GROUP,    /* XCLAIM, XAUTOCLAIM -> our own script (stream_groups.h) */
	MP_REWRITE_GROUP_READ, /* XREADGROUP likewise; its reply is made of the script's, and it may
				  wait */
	MP_REWRITE_NOTE, /* goes as it is, but deadlines change places or go (deadline_effects.h) */

	/* Of reads: a deadline is asked for, and the reply made of it (ttl.h). */
	MP_REWRITE_TTL,
	MP_REWRITE_PTTL,
	MP_REWRITE_EXPIRETIME,
	MP_REWRITE_PEXPIRETIME,
	MP_REWRITE_SCAN,    /* its cursor is a server's own (scan.h) */
	MP_REWRITE_INFO,    /* the reply is made of the backend's (redis_info.h) */
	MP_REWRITE_CONFIG,  /* likewise (redis_config.h) */
	MP_REWRITE_WATCH,   /* asked of the leader itself (watch.h) */
	MP_REWRITE_PENDING, /* XPENDING: with times, it is asked of our script (stream_groups.h) */
	MP_REWRITE_STREAM_INFO, /* XINFO STREAM: the reply has times of delivery (likewise) */
};

struct mp_command {
	char name[32]; /* lower case; of a subcommand "config|get" */
	enum mp_class class;
	enum mp_rewrite rewrite;
	int arity; /* as COMMAND reports it: negative = at least */
	int first_key, last_key, key_step;
	/*
	 * A blind write: what it leaves behind does not depend on what it finds,
	 * so running a run of them again from any earlier point ends in the same
	 * state (SET without options but an absolute deadline, DEL, UNLINK, MSET).
	 * True: it may be one, mp_command_is_blind() knows of a request.
	 */
	bool blind;
	bool movable_keys; /* where its keys are depends on its arguments */
	bool denyoom;
	bool is_admin;     /* by the flag of that name */
	bool may_change;   /* it changes data, or may: CLIENT PAUSE WRITE holds it */
	bool touches_keys; /* it reads or writes data, by its flags */
	const char
		*refusal; /* e.g. "blocking commands are not served yet", or "ERR ...": all of it */

	/* The rest is command.c's own. */
	const struct mp_commands *subcommands;        /* of a container (CONFIG, OBJECT, ...) */
	bool (*refuses)(const struct resp_request *); /* some requests only: then `refused` holds */
	const struct mp_command *refused;
};

struct mp_commands; /* the table: immutable once built */

/*
 * Ask a backend for its table. address: "unix:/path" or "host:port"; password:
 * for AUTH, or NULL. Blocking, each step bounded by timeout_ms; for start-up
 * and reconnects, not the data path. NULL with a one-line reason in err.
 */
struct mp_commands *mp_commands_fetch(const char *address, const char *password, int timeout_ms,
				      char *err, size_t err_bytes);
void mp_commands_free(struct mp_commands *);
/* Calls each() for every command and subcommand, in no order. */
void mp_commands_each(const struct mp_commands *,
		      void (*each)(void *ctx, const struct mp_command *), void *ctx);

/* Room for any error text below; longer ones are cut. */
#define MP_ERROR_BYTES 512

/*
 * Look a request (argc > 0) up: argv[0], for containers argv[1] too,
 * case-insensitively. NULL: unknown; *error then holds Redis's own text ("ERR
 * unknown command 'foo', with args beginning with: ..."). Also checks arity
 * ("ERR wrong number of arguments for 'get' command"). The class is that of
 * this very request: where only some forms of a command are refused (XREAD
 * BLOCK, XADD with *), what is returned is of class REFUSED for those alone.
 */
const struct mp_command *mp_command_find(const struct mp_commands *, const struct resp_request *,
					 char *error, size_t error_bytes);

/* The error by which a command of class REFUSED is answered. */
void mp_command_refusal(const struct mp_command *command, char *error, size_t error_bytes);

/*
 * Calls visit() for each key that a request's arguments name. False: places alone do not tell
 * where they are, and it was not called.
 */
bool mp_command_each_key(const struct mp_command *command, const struct resp_request *request,
			 void (*visit)(void *ctx, struct mp_slice key), void *ctx);

/* May it publish? Any script may. */
static inline bool mp_command_speaks(const struct mp_command *command)
{
	return command->rewrite == MP_REWRITE_PUBLISH || command->rewrite == MP_REWRITE_SCRIPT;
}

/* May it change what is the group's, beside the data (memory.h, pause.h)? */
static inline bool mp_command_sets(const struct mp_command *command)
{
	return command->rewrite == MP_REWRITE_SETTINGS || command->rewrite == MP_REWRITE_PAUSE;
}

/* Is this very request a blind write (options looked at)? Only for class WRITE. */
bool mp_command_is_blind(const struct mp_command *, const struct resp_request *);

/*
 * Make a write deterministic: relative deadlines absolute with now_ms (Unix
 * time), and so on (DESIGN 6.4). Writes the multibulk form of what goes into
 * the log to out. Returns its length; 0 with *error set if the request is
 * refused (Redis's own text for a bad argument: the reply the client would
 * have got); > cap if it did not fit (call again with more).
 * With MP_REWRITE_FLUSHALL the result is several commands in a row ("SELECT 0"
 * "FLUSHDB" "SELECT 1" ...), see *commands, which leave another database
 * selected (databases - 1); for all others *commands is 1. databases: the
 * number that clients see, at most MP_MAX_DATABASES.
 */
#define MP_MAX_DATABASES 127
size_t mp_command_rewrite(const struct mp_command *, const struct resp_request *, int64_t now_ms,
			  int databases, char *out, size_t cap, int *commands, char *error,
			  size_t error_bytes);

/* The COMMAND, COMMAND COUNT, COMMAND DOCS, COMMAND INFO ... reads are the backend's own. */
#endif
