/*
 * fake_backend.c - the backends of proxy_world.h: a few commands on tables in
 * memory, which outlive connections as a server's data do. Units are atomic:
 * what is queued is executed all at once or lost all at once.
 */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

#include "command_special.h"
#include "proxy_fakes.h"

enum {
	KEYS_MAX = 64,
	PIECE_BYTES = 1 << 20,
};

struct item {
	char key[64];
	char *value;
	size_t len;
	uint64_t cas;
};

/* What the server keeps when the connection breaks. */
struct store {
	struct item item[KEYS_MAX];
	uint64_t applied_lsn, cas;
};
static struct store stores[2][WORLD_REPLICAS + 1];

enum task_kind { TASK_COMMAND, TASK_END };
struct task {
	struct task *next;
	enum task_kind kind;
	void *owner;
	uint64_t lsn;
	uint32_t database;
	size_t len;
	char bytes[];
};

struct fake {
	struct mp_backend base;
	unsigned id;
	enum mp_protocol protocol;
	uint64_t unit_lsn;
	bool is_awaited; /* as told by attend() */
	bool empties;    /* see mp_backend_memcached_empty() */
	uint64_t new_lsn;
	struct task *head, **tail;
	size_t queued; /* bytes of what is there */
};
static struct fake *fakes[2][WORLD_REPLICAS + 1];
unsigned fake_backend_opening;

static struct item *find_item(struct store *store, const char *key, bool make)
{
	struct item *free_item = NULL;

	for (int i = 0; i < KEYS_MAX; i++) {
		struct item *item = &store->item[i];

		if (item->value && strcmp(item->key, key) == 0)
			return item;
		if (!item->value && !free_item)
			free_item = item;
	}
	if (!make)
		return NULL;
	assert_non_null(free_item);
	snprintf(free_item->key, sizeof(free_item->key), "%s", key);
	return free_item;
}

static void set_item(struct store *store, const char *key, struct mp_slice value)
{
	struct item *item = find_item(store, key, true);

	free(item->value);
	item->value = malloc(value.len + 1);
	memcpy(item->value, value.data, value.len);
	item->value[value.len] = '\0';
	item->len = value.len;
	item->cas = ++store->cas;
}

static bool delete_item(struct store *store, const char *key)
{
	struct item *item = find_item(store, key, false);

	if (!item)
		return false;
	free(item->value);
	*item = (struct item){0};
	return true;
}

struct reply {
	char *data;
	size_t len;
};

static void reply_format(struct reply *reply, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	reply->len = (size_t)vasprintf(&reply->data, format, args);
	va_end(args);
}

/* SET key value ..., GET, GETSET, INCR, DEL: in database n the key is "n/key". */
static void run_redis(struct store *store, uint32_t database, struct mp_slice bytes,
		      struct reply *reply)
{
	struct resp_limits limits;
	struct resp_parser *parser;
	struct resp_request r;
	struct item *item;
	char key[64], number[24];
	size_t used;

	resp_limits_init(&limits);
	parser = resp_parser_new(&limits);
	assert_int_equal(resp_parse(parser, bytes.data, bytes.len, &used, &r), RESP_DONE);
	assert_int_equal(used, bytes.len);
	snprintf(key, sizeof(key), "%u/%.*s", database, (int)r.argv[1].len, r.argv[1].data);
	item = find_item(store, key, false);
	if (mp_arg_is(r.argv[0], "set")) {
		set_item(store, key, r.argv[2]);
		reply_format(reply, "+OK\r\n");
	} else if (mp_arg_is(r.argv[0], "get") || mp_arg_is(r.argv[0], "getset")) {
		if (!item) {
			reply_format(reply, "$-1\r\n");
		} else {
			reply_format(reply, "$%zu\r\n%s\r\n", item->len, item->value);
		}
		if (r.argc == 3)
			set_item(store, key, r.argv[2]);
	} else if (mp_arg_is(r.argv[0], "incr")) {
		int n = snprintf(number, sizeof(number), "%ld", item ? atol(item->value) + 1 : 1L);

		set_item(store, key, (struct mp_slice){number, (size_t)n});
		reply_format(reply, ":%s\r\n", number);
	} else if (mp_arg_is(r.argv[0], "del")) {
		reply_format(reply, ":%d\r\n", delete_item(store, key));
	} else if (mp_arg_is(r.argv[0], "eval")) {
		/* The group's settings (memory.h): none are made. */
		reply_format(reply, "*2\r\n$-1\r\n$-1\r\n");
	} else {
		reply_format(reply, "-ERR not in this world\r\n");
	}
	resp_parser_free(parser);
}

/* set, delete, get, gets, and mg as mc_encode_fetch() writes it. */
static void run_memcached(struct store *store, struct mp_slice bytes, struct reply *reply)
{
	char line[128], verb[16], key[64];
	const char *lf = memchr(bytes.data, '\n', bytes.len);
	struct item *item;

	snprintf(line, sizeof(line), "%.*s", (int)(lf - bytes.data), bytes.data);
	assert_int_equal(sscanf(line, "%15s %63s", verb, key), 2);
	item = find_item(store, key, false);
	if (strcmp(verb, "set") == 0) {
		set_item(store, key,
			 (struct mp_slice){lf + 1, bytes.len - (size_t)(lf + 1 - bytes.data) - 2});
		reply_format(reply, "STORED\r\n");
	} else if (strcmp(verb, "delete") == 0) {
		reply_format(reply, "%s\r\n", delete_item(store, key) ? "DELETED" : "NOT_FOUND");
	} else if (strcmp(verb, "mg") == 0) {
		if (item)
			reply_format(reply, "VA %zu f0 t-1 c%lu\r\n%s\r\n", item->len,
				     (unsigned long)item->cas, item->value);
		else
			reply_format(reply, "EN\r\n");
	} else {
		char token[32] = "";

		if (item && strcmp(verb, "gets") == 0)
			snprintf(token, sizeof(token), " %lu", (unsigned long)item->cas);
		if (item)
			reply_format(reply, "VALUE %s 0 %zu%s\r\n%s\r\nEND\r\n", key, item->len,
				     token, item->value);
		else
			reply_format(reply, "END\r\n");
	}
}

static void run_task(struct fake *fake, const struct task *task, struct reply *reply)
{
	struct store *store = &stores[fake->protocol - 1][fake->id];
	struct mp_slice bytes = {task->bytes, task->len};

	if (task->kind == TASK_END)
		store->applied_lsn = task->lsn;
	else if (fake->protocol == MP_REDIS)
		run_redis(store, task->database, bytes, reply);
	else
		run_memcached(store, bytes, reply);
}

static struct task *pop(struct fake *fake)
{
	struct task *task = fake->head;

	if (task) {
		fake->head = task->next;
		fake->queued -= sizeof(*task) + task->len;
		if (!fake->head)
			fake->tail = &fake->head;
	}
	return task;
}

/* A large one comes in pieces, as a real backend's. */
static void tell(struct fake *fake, void *owner, struct mp_slice reply, bool whole)
{
	const struct mp_backend_events *events = fake->base.events;

	while (reply.len > PIECE_BYTES) {
		events->reply(fake->base.events_ctx, owner,
			      (struct mp_slice){reply.data, PIECE_BYTES}, false);
		reply.data += PIECE_BYTES;
		reply.len -= PIECE_BYTES;
	}
	events->reply(fake->base.events_ctx, owner, reply, whole);
}

/* A real backend tells of its replies from the event loop only; so does this one. */
static void deliver(struct fake *fake)
{
	struct task *task;

	if (world.stalled[fake->protocol - 1][fake->id] || fake->base.state != MP_BACKEND_READY)
		return;
	while ((task = pop(fake))) {
		struct reply reply = {0};

		/* Who waits does not wait until the adapter gets around to it. */
		assert_true(fake->is_awaited || !task->owner);
		run_task(fake, task, &reply);
		if (task->kind == TASK_END)
			fake->base.events->durable(fake->base.events_ctx, task->lsn);
		else if (task->owner && world.halved[fake->protocol - 1][fake->id])
			tell(fake, task->owner, (struct mp_slice){reply.data, reply.len / 2},
			     false);
		else if (task->owner)
			tell(fake, task->owner, (struct mp_slice){reply.data, reply.len}, true);
		free(reply.data);
		free(task);
	}
}

static void push(struct fake *fake, enum task_kind kind, uint32_t database, struct mp_slice bytes,
		 void *owner, uint64_t lsn)
{
	struct task *task = malloc(sizeof(*task) + bytes.len);

	assert_int_equal(fake->base.state, MP_BACKEND_READY);
	fake->is_awaited = fake->is_awaited || owner; /* until told otherwise, behind a flush() */
	*task = (struct task){
		.kind = kind, .owner = owner, .lsn = lsn, .database = database, .len = bytes.len};
	if (bytes.len)
		memcpy(task->bytes, bytes.data, bytes.len);
	*fake->tail = task;
	fake->tail = &task->next;
	fake->queued += sizeof(*task) + bytes.len;
}

static void fake_begin(struct mp_backend *backend, uint64_t lsn, bool blind)
{
	struct fake *fake = (struct fake *)backend;

	(void)blind;
	assert_true(lsn > fake->unit_lsn);
	fake->unit_lsn = lsn;
}

static void fake_write(struct mp_backend *backend, uint32_t database, struct mp_slice bytes,
		       int commands, void *owner)
{
	assert_int_equal(commands, 1);
	push((struct fake *)backend, TASK_COMMAND, database, bytes, owner, 0);
}

static void fake_read(struct mp_backend *backend, uint32_t database, struct mp_slice bytes,
		      void *owner)
{
	push((struct fake *)backend, TASK_COMMAND, database, bytes, owner, 0);
}

static void fake_end(struct mp_backend *backend)
{
	struct fake *fake = (struct fake *)backend;

	push(fake, TASK_END, 0, (struct mp_slice){0}, NULL, fake->unit_lsn);
}

static void fake_skip(struct mp_backend *backend, uint64_t lsn)
{
	struct fake *fake = (struct fake *)backend;

	assert_true(lsn > fake->unit_lsn);
	fake->unit_lsn = lsn;
	push(fake, TASK_END, 0, (struct mp_slice){0}, NULL, lsn);
}

static void fake_flush(struct mp_backend *backend)
{
	(void)backend;
}

static void fake_attend(struct mp_backend *backend, bool is_awaited)
{
	((struct fake *)backend)->is_awaited = is_awaited;
}

static void fake_receive(struct mp_backend *backend)
{
	(void)backend;
}

static size_t fake_backlog(const struct mp_backend *backend)
{
	return ((const struct fake *)backend)->queued;
}

static uint64_t fake_oldest_ms(const struct mp_backend *backend)
{
	(void)backend;
	return 0;
}

static void fake_close(struct mp_backend *backend)
{
	struct fake *fake = (struct fake *)backend;
	struct task *task;

	while ((task = pop(fake)))
		free(task);
	fakes[fake->protocol - 1][fake->id] = NULL;
	free(fake);
}

static const struct mp_backend_ops fake_ops = {
	.begin = fake_begin,
	.write = fake_write,
	.read = fake_read,
	.end = fake_end,
	.skip = fake_skip,
	.flush = fake_flush,
	.attend = fake_attend,
	.receive = fake_receive,
	.backlog = fake_backlog,
	.oldest_ms = fake_oldest_ms,
	.close = fake_close,
};

static struct mp_backend *fake_open(enum mp_protocol protocol,
				    const struct mp_backend_events *events, void *ctx)
{
	struct fake *fake = calloc(1, sizeof(*fake));

	fake->base.ops = &fake_ops;
	fake->base.events = events;
	fake->base.events_ctx = ctx;
	fake->id = fake_backend_opening;
	fake->protocol = protocol;
	fake->tail = &fake->head;
	fakes[protocol - 1][fake_backend_opening] = fake;
	return &fake->base;
}

struct mp_backend *mp_backend_redis_open(struct event_base *base,
					 const struct mp_backend_options *options,
					 const struct mp_backend_events *events, void *ctx,
					 char *err, size_t err_bytes)
{
	(void)base, (void)options, (void)err, (void)err_bytes;
	return fake_open(MP_REDIS, events, ctx);
}

struct mp_backend *mp_backend_memcached_open(struct event_base *base,
					     const struct mp_backend_options *options,
					     const struct mp_backend_events *events, void *ctx,
					     char *err, size_t err_bytes)
{
	(void)base, (void)options, (void)err, (void)err_bytes;
	return fake_open(MP_MEMCACHED, events, ctx);
}

const char *mp_backend_redis_version(const struct mp_backend *backend)
{
	(void)backend;
	return "7.0.0";
}

bool mp_backend_redis_is_valkey(const struct mp_backend *backend)
{
	(void)backend;
	return false;
}

const char *mp_backend_redis_run_id(const struct mp_backend *backend)
{
	(void)backend;
	return "fake";
}

uint64_t mp_backend_redis_volatile_keys(const struct mp_backend *backend)
{
	(void)backend;
	return 0;
}

uint64_t mp_backend_memcached_item_size_max(const struct mp_backend *backend)
{
	(void)backend;
	return 1 << 20;
}

unsigned mp_backend_memcached_news(const struct mp_backend *backend)
{
	(void)backend;
	return 0;
}

uint32_t mp_backend_redis_databases(const struct mp_backend *backend)
{
	(void)backend;
	return 16;
}

void world_backend_ready(enum mp_protocol protocol, unsigned id)
{
	struct fake *fake = fakes[protocol - 1][id];

	fake->base.state = MP_BACKEND_READY;
	fake->unit_lsn = stores[protocol - 1][id].applied_lsn;
	fake->base.events->state(fake->base.events_ctx, MP_BACKEND_READY, fake->unit_lsn, NULL);
}

void world_backend_lose(enum mp_protocol protocol, unsigned id, bool execute)
{
	struct fake *fake = fakes[protocol - 1][id];
	struct task *task;

	while ((task = pop(fake))) {
		struct reply reply = {0};

		if (execute)
			run_task(fake, task, &reply);
		if (task->owner)
			fake->base.events->lost(fake->base.events_ctx, task->owner);
		free(reply.data);
		free(task);
	}
	fake->base.state = MP_BACKEND_DISCONNECTED;
	fake->base.events->state(fake->base.events_ctx, MP_BACKEND_DISCONNECTED, 0, "test");
}

static void empty_store(struct store *store)
{
	for (int i = 0; i < KEYS_MAX; i++)
		free(store->item[i].value);
	*store = (struct store){0};
}

int64_t mp_backend_memcached_deadline_s(const struct mp_backend *backend, int64_t left_s)
{
	(void)backend;
	return left_s;
}

uint64_t mp_backend_memcached_settled_lsn(const struct mp_backend *backend)
{
	return backend->applied_lsn;
}

void mp_backend_memcached_say(struct mp_backend *backend, struct memcached_command command)
{
	(void)backend;
	(void)command;
}

int64_t mp_backend_memcached_shift_s(const struct mp_backend *backend)
{
	(void)backend;
	return 0;
}

bool mp_backend_memcached_is_partial(const struct mp_backend *backend)
{
	(void)backend;
	return false;
}

void mp_backend_memcached_be_whole(struct mp_backend *backend)
{
	(void)backend;
}

void mp_backend_memcached_move(struct mp_backend *backend, uint64_t era, uint64_t lsn)
{
	(void)backend;
	(void)era;
	(void)lsn;
}

void mp_backend_memcached_empty(struct mp_backend *backend, uint64_t era, uint64_t lsn,
				bool is_partial)
{
	struct fake *fake = (struct fake *)backend;

	(void)era;
	(void)is_partial;
	fake->empties = true;
	fake->new_lsn = lsn;
}

/* Events are not told from within an op: this is done later. */
static void do_empty(struct fake *fake)
{
	struct store *store = &stores[fake->protocol - 1][fake->id];

	fake->empties = false;
	world_backend_lose(fake->protocol, fake->id, false);
	empty_store(store);
	store->applied_lsn = fake->new_lsn;
	world_backend_ready(fake->protocol, fake->id);
}

void fake_backend_deliver(unsigned id)
{
	if (fakes[1][id]->empties)
		do_empty(fakes[1][id]);
	for (unsigned p = 0; p < 2; p++)
		if (fakes[p][id])
			deliver(fakes[p][id]);
}

void fake_backend_reset(void)
{
	for (unsigned p = 0; p < 2; p++)
		for (unsigned id = 1; id <= WORLD_REPLICAS; id++)
			empty_store(&stores[p][id]);
}

uint64_t world_applied_lsn(enum mp_protocol protocol, unsigned id)
{
	return stores[protocol - 1][id].applied_lsn;
}

const char *world_value(enum mp_protocol protocol, unsigned id, const char *key)
{
	struct item *item = find_item(&stores[protocol - 1][id], key, false);

	return item ? item->value : "";
}
