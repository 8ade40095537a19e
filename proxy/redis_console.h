/*
 * redis_console.h - a connection to a Redis server for what concerns the server
 * and not its data: questions asked one after the other, each answer handed to
 * whoever asked. Unlike control_redis.h it does not block. See stream.h for when
 * things are told.
 */
#ifndef MP_REDIS_CONSOLE_H
#define MP_REDIS_CONSOLE_H

#include <hiredis/hiredis.h>

#include "fifo.h"
#include "stream.h"

/* The answer may be an error. */
typedef void redis_console_answer(void *ctx, const redisReply *answer);

/* A zeroed one is closed. */
struct redis_console {
	struct mp_stream stream;
	redisReader *reader;
	struct mp_fifo asked; /* of redis_console_answer * */
	void (*closed)(void *ctx, const char *why);
	void *ctx;
};

/*
 * Connect, and log in if there is a password. closed: it came to nothing, or is
 * over; answers that are not there yet will not come. False: errno.
 */
bool redis_console_open(struct redis_console *console, struct event_base *base,
			const struct mp_address *address, const char *password,
			void (*closed)(void *ctx, const char *why), void *ctx);
/* No-op if it is closed. Not from within an answer. */
void redis_console_close(struct redis_console *console);
/* format as redisCommand()'s. answer NULL: whatever it is, it is all one. */
void redis_console_ask(struct redis_console *console, redis_console_answer *answer,
		       const char *format, ...);
/* One command in wire form. */
void redis_console_send(struct redis_console *console, redis_console_answer *answer,
			struct mp_slice wire);

#endif
