/* redis_restore.c - see redis_transfer.h: the end that is restored. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "log.h"
#include "redis_console.h"
#include "redis_sync.h"
#include "redis_transfer.h"
#include "redis_wire.h"
#include "state.h"
#include "transfer.h"

enum {
	POLL_LOADING_MS = 50, /* how often the server is asked how far it is */
	POLL_FOLLOWING_MS = 5,
	POLL_CUTTING_MS = 1,
	/* When the server lags no more than that behind what it was sent, the cut is near enough.
	 */
	NEAR_BYTES = 64 << 10,
	HANDSHAKE_BYTES = 4096, /* more than that is no replica's */
};

/* What the server is told and asked, one after the other. */
enum phase {
	PHASE_SETTINGS, /* what they are */
	PHASE_CALLED,   /* REPLICAOF: it is to call us */
	PHASE_PASSING,  /* it has, and gets what the donor's sends */
	PHASE_CUT,      /* what it has to execute has been passed on */
	PHASE_FREE,     /* it is being made a master again */
};

struct redis_restore {
	struct mp_restore *restore;
	struct redis_console console;
	enum phase phase;
	uint32_t databases;
	char auth[256]; /* its masterauth, as it was */
	char token[REDIS_RESTORE_TOKEN + 1];
	struct event acceptable;
	int listener;
	struct mp_stream server; /* its connection to us */
	bool is_known;           /* it has shown the token */

	struct redis_sync sync;
	uint64_t next_poll_ns;
	bool is_asked; /* INFO is under way */
	uint64_t gate[2], donor_nonce;
	bool is_gated; /* the donor has said where: */
	uint64_t era, lsn;
	bool is_searching; /* for the gate, in what comes */
	struct redis_search search;
	uint64_t cut_offset;
};

static struct redis_restore *of(void *ctx)
{
	return ctx;
}

static bool is_over(const struct redis_restore *r)
{
	return r->restore->is_failed || r->restore->is_done;
}

/* -------------------------------------------------------- its connection to us */

static void refuse_call(struct redis_restore *r, const char *words)
{
	mp_stream_put(&r->server, words, strlen(words));
	mp_stream_flush(&r->server);
	mp_stream_close(&r->server);
}

static void start_passing(struct redis_restore *r)
{
	r->phase = PHASE_PASSING;
	mp_restore_tell(r->restore, REDIS_NOTE_GO, 0, 0);
	event_del(&r->acceptable);
	close(r->listener);
	r->listener = -1;
}

/* AUTH, with or without a user. */
static bool shows_token(const struct redis_restore *r, struct mp_slice command)
{
	char want[sizeof(REDIS_RESTORE_AUTH) + REDIS_RESTORE_TOKEN + sizeof(r->auth) + 4];
	size_t len = (size_t)snprintf(want, sizeof(want), REDIS_RESTORE_AUTH "%s:%s\r\n", r->token,
				      r->auth);

	return command.len > len && memcmp(command.data + command.len - len, want, len) == 0;
}

/* What a replica says to its master. False: it is gone, or passes on from here. */
static bool take_command(struct redis_restore *r, struct mp_slice command)
{
	struct mp_slice words[2];
	const char *answer;
	bool is_ping;

	redis_command_head(command, words);
	is_ping = mp_slice_is(words[0], "PING");
	answer = is_ping ? "+PONG\r\n" : "+OK\r\n";
	if (mp_slice_is(words[0], "AUTH")) {
		r->is_known = shows_token(r, command);
	} else if (r->is_known && mp_slice_is(words[0], "PSYNC")) {
		start_passing(r);
		return false;
	}
	if (!r->is_known && !is_ping) {
		refuse_call(r, "-ERR not for you\r\n");
		return false;
	}
	mp_stream_put(&r->server, answer, strlen(answer));
	return true;
}

static void on_call_bytes(void *ctx)
{
	struct redis_restore *r = ctx;
	struct mp_buffer *in = &r->server.in;
	size_t len;

	while (r->phase == PHASE_CALLED && (len = redis_command_bytes(mp_buffer_slice(in))) > 0) {
		if (!take_command(r, (struct mp_slice){mp_buffer_data(in), len}) &&
		    !r->server.is_open)
			return;
		mp_buffer_consume(in, len);
	}
	if (r->phase == PHASE_CALLED && mp_buffer_len(in) > HANDSHAKE_BYTES) {
		mp_stream_close(&r->server);
		return;
	}
	mp_stream_flush(&r->server);
	if (r->phase == PHASE_CALLED)
		return;
	/* What it says of how far it is: the donor's server would give it up for dead. */
	if (r->phase == PHASE_PASSING)
		mp_restore_send(r->restore, mp_buffer_slice(in));
	mp_buffer_clear(in);
}

static void on_call_drained(void *ctx)
{
	struct redis_restore *r = ctx;

	if (r->restore->link)
		mp_link_resume(r->restore->link);
}

static void on_call_closed(void *ctx, const char *why)
{
	struct redis_restore *r = ctx;

	mp_stream_close(&r->server);
	if (r->phase >= PHASE_PASSING && r->phase < PHASE_FREE)
		mp_restore_fail(r->restore, "the server here has given it up: %s", why);
}

static const struct mp_stream_events call_events = {
	.bytes = on_call_bytes,
	.drained = on_call_drained,
	.closed = on_call_closed,
};

static void on_acceptable(evutil_socket_t fd, short what, void *ctx)
{
	struct redis_restore *r = ctx;
	int call = mp_accept(fd);

	(void)what;
	if (call < 0)
		return;
	/* One that has not shown the token yet may be anybody. */
	mp_stream_close(&r->server);
	r->is_known = false;
	mp_stream_adopt(&r->server, r->restore->proxy->base, call, &call_events, r);
}

/* --------------------------------------------------------- preparing the server */

static bool is_error(struct redis_restore *r, const redisReply *answer, const char *what)
{
	if (answer->type == REDIS_REPLY_ERROR)
		mp_restore_fail(r->restore, "the server here: %s: %.100s", what, answer->str);
	return is_over(r);
}

/* The second of two strings. */
static const char *value_of(const redisReply *answer)
{
	if (answer->type != REDIS_REPLY_ARRAY || answer->elements != 2 || !answer->element[1]->str)
		return NULL;
	return answer->element[1]->str;
}

static void on_databases(void *ctx, const redisReply *answer)
{
	struct redis_restore *r = ctx;

	if (is_error(r, answer, "CONFIG GET"))
		return;
	r->databases = value_of(answer) ? (uint32_t)strtoul(value_of(answer), NULL, 10) : 0;
	if (r->databases < 2)
		mp_restore_fail(r->restore, "the server here has %u databases", r->databases);
}

static void on_called(void *ctx, const redisReply *answer)
{
	(void)is_error(ctx, answer, "REPLICAOF");
}

static void on_set(void *ctx, const redisReply *answer)
{
	(void)is_error(ctx, answer, "CONFIG SET");
}

/* Where the server reaches us: at the address that it is reached from, or as a neighbour. */
static void own_address(const struct redis_restore *r, char *host, size_t bytes)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	snprintf(host, bytes, "127.0.0.1");
	if (getsockname(r->console.stream.fd, (struct sockaddr *)&address, &len) < 0)
		return;
	if (address.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, host,
			  (socklen_t)bytes);
	else if (address.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&address)->sin6_addr, host,
			  (socklen_t)bytes);
}

static bool listen_for_call(struct redis_restore *r, const char *host)
{
	char where[INET6_ADDRSTRLEN + 8], why[200];

	snprintf(where, sizeof(where), strchr(host, ':') ? "[%s]:0" : "%s:0", host);
	r->listener = mp_listen(where, 4, why, sizeof(why));
	if (r->listener < 0) {
		mp_restore_fail(r->restore, "%s", why);
		return false;
	}
	event_assign(&r->acceptable, r->restore->proxy->base, r->listener, EV_READ | EV_PERSIST,
		     on_acceptable, r);
	event_add(&r->acceptable, NULL);
	return true;
}

/*
 * Nobody's commands may be under way while its state is replaced, ours of before
 * included; what is still unread of a killed connection is never executed.
 */
static void call_server(struct redis_restore *r)
{
	struct redis_console *console = &r->console;
	char host[INET6_ADDRSTRLEN];

	own_address(r, host, sizeof(host));
	if (!listen_for_call(r, host))
		return;
	r->phase = PHASE_CALLED;
	redis_console_ask(console, on_set, "CONFIG SET masterauth " REDIS_RESTORE_AUTH "%s:%s",
			  r->token, r->auth);
	redis_console_ask(console, NULL, "CLIENT KILL TYPE normal SKIPME yes");
	redis_console_ask(console, on_called, "REPLICAOF %s %d", host, mp_local_port(r->listener));
}

static void on_auth(void *ctx, const redisReply *answer)
{
	struct redis_restore *r = ctx;
	const char *value = value_of(answer);

	if (is_error(r, answer, "CONFIG GET"))
		return;
	if (value && strlen(value) >= sizeof(r->auth)) {
		mp_restore_fail(r->restore, "the server here has a masterauth that is too long");
		return;
	}
	snprintf(r->auth, sizeof(r->auth), "%s", value ? value : "");
	call_server(r);
}

static void on_console_closed(void *ctx, const char *why)
{
	mp_restore_fail(of(ctx)->restore, "the server here: %s", why);
}

static bool draw(struct redis_restore *r)
{
	uint8_t bytes[REDIS_RESTORE_TOKEN / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes) ||
	    getrandom(r->gate, sizeof(r->gate), 0) != sizeof(r->gate))
		return false;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(r->token + 2 * i, 3, "%02x", bytes[i]);
	return true;
}

static void begin(struct mp_restore *restore)
{
	struct mp_proxy *proxy = restore->proxy;
	struct redis_restore *r = calloc(1, sizeof(*r));

	if (!r || !draw(r) ||
	    !redis_console_open(&r->console, proxy->base, &proxy->transfer.redis_address,
				proxy->options.redis_password, on_console_closed, r)) {
		mp_restore_fail(restore, "the server here: %s", strerror(errno));
		free(r);
		return;
	}
	r->restore = restore;
	r->listener = -1;
	r->donor_nonce = restore->link->peer_nonce;
	restore->own = r;
	redis_console_ask(&r->console, on_databases, "CONFIG GET databases");
	redis_console_ask(&r->console, on_auth, "CONFIG GET masterauth");
}

static void end(struct mp_restore *restore)
{
	struct redis_restore *r = restore->own;

	if (r->listener >= 0) {
		event_del(&r->acceptable);
		close(r->listener);
	}
	mp_stream_close(&r->server);
	redis_console_close(&r->console);
	free(r);
	restore->own = NULL;
}

/* -------------------------------------------------------------------- passing on */

/* From here on the server gets nothing more: so far, and no further, is the state wanted. */
static size_t cut(struct redis_restore *r, struct mp_slice bytes, uint64_t offset)
{
	size_t len = redis_search_in(&r->search, bytes);

	if (len == 0)
		return bytes.len;
	r->cut_offset = offset + len;
	r->phase = PHASE_CUT;
	return len;
}

static void show(struct redis_restore *r)
{
	struct redis_sync *sync = &r->sync;
	struct mp_restore *restore = r->restore;

	mp_restore_moved(restore, sync->bytes, sync->total_bytes);
	if (sync->part == REDIS_SYNC_SNAPSHOT && restore->stage < MP_TRANSFER_RECEIVING)
		mp_restore_stage(restore, MP_TRANSFER_RECEIVING);
	if (sync->part == REDIS_SYNC_COMMANDS && restore->stage < MP_TRANSFER_LOADING)
		mp_restore_stage(restore, MP_TRANSFER_LOADING);
}

static void data(struct mp_restore *restore, struct mp_slice bytes)
{
	struct redis_restore *r = restore->own;
	uint64_t offset = r->sync.offset;

	if (r->phase != PHASE_PASSING)
		return;
	if (!redis_sync_feed(&r->sync, bytes)) {
		mp_restore_fail(restore, "%s", r->sync.why);
		return;
	}
	if (r->is_searching)
		bytes.len = cut(r, bytes, offset);
	show(r);
	mp_stream_put(&r->server, bytes.data, bytes.len);
	mp_stream_flush(&r->server);
	if (mp_buffer_len(&r->server.out) > MP_TRANSFER_SOFT_BYTES)
		mp_link_pause(restore->link);
}

static bool note(struct mp_restore *restore, const struct mp_frame_note *note)
{
	struct redis_restore *r = restore->own;

	if (note->what != REDIS_NOTE_GATED || !r->is_searching || r->is_gated)
		return false;
	r->is_gated = true;
	r->era = note->a;
	r->lsn = note->b;
	return true;
}

/* ------------------------------------------------------------------- the exact cut */

static void on_free(void *ctx, const redisReply *answer)
{
	struct redis_restore *r = ctx;

	if (!is_error(r, answer, "SET " REDIS_APPLIED_KEY))
		mp_restore_done(r->restore, r->era, r->lsn);
}

/* It has executed all that it was sent: it stands at that LSN, and at no other. */
static void set_free(struct redis_restore *r)
{
	struct redis_console *console = &r->console;
	char applied[REDIS_APPLIED_BYTES];

	r->phase = PHASE_FREE;
	redis_put_applied(applied, &(struct redis_applied){r->restore->proxy->options.group_id,
							   r->era, r->lsn});
	redis_console_ask(console, on_called, "REPLICAOF NO ONE");
	redis_console_ask(console, on_set, "CONFIG SET masterauth %s", r->auth);
	/* What subscribers of it have not read yet was told before. */
	redis_console_ask(console, NULL, "CLIENT KILL TYPE pubsub");
	redis_console_ask(console, on_set, "SELECT %u", r->databases - 1);
	redis_console_ask(console, on_free, "SET " REDIS_APPLIED_KEY " %b", applied,
			  sizeof(applied));
}

static void ask_gate(struct redis_restore *r)
{
	r->search.len = redis_put_gate(r->search.sought, r->donor_nonce, r->gate[0], r->gate[1]);
	r->is_searching = true;
	mp_restore_tell(r->restore, REDIS_NOTE_GATE, r->gate[0], r->gate[1]);
	mp_restore_stage(r->restore, MP_TRANSFER_CUTTING);
}

static void on_info(void *ctx, const redisReply *answer)
{
	struct redis_restore *r = ctx;
	uint64_t offset;

	r->is_asked = false;
	if (is_error(r, answer, "INFO") || answer->type != REDIS_REPLY_STRING)
		return;
	/* Loading takes as long as it takes. */
	r->restore->silent_ns = mp_now_ns(r->restore->proxy);
	if (!strstr(answer->str, "master_link_status:up"))
		return;
	if (r->restore->stage < MP_TRANSFER_FOLLOWING)
		mp_restore_stage(r->restore, MP_TRANSFER_FOLLOWING);
	offset = redis_info_number(answer->str, "slave_repl_offset");
	if (!r->is_searching && r->sync.offset <= offset + NEAR_BYTES)
		ask_gate(r);
	else if (r->phase == PHASE_CUT && r->is_gated && offset >= r->cut_offset)
		set_free(r);
}

static uint64_t poll_ms(const struct redis_restore *r)
{
	switch (r->restore->stage) {
	case MP_TRANSFER_FOLLOWING:
		return POLL_FOLLOWING_MS;
	case MP_TRANSFER_CUTTING:
		return POLL_CUTTING_MS;
	default:
		return POLL_LOADING_MS;
	}
}

static uint64_t turn(struct mp_restore *restore, uint64_t now_ns)
{
	struct redis_restore *r = restore->own;

	if (restore->stage < MP_TRANSFER_LOADING || r->phase == PHASE_FREE || r->is_asked)
		return UINT64_MAX;
	if (now_ns < r->next_poll_ns)
		return r->next_poll_ns;
	r->next_poll_ns = now_ns + poll_ms(r) * UINT64_C(1000000);
	r->is_asked = true;
	redis_console_ask(&r->console, on_info, "INFO replication");
	return UINT64_MAX;
}

const struct mp_restorer mp_redis_restorer = {
	.begin = begin,
	.note = note,
	.data = data,
	.turn = turn,
	.end = end,
};
