/* transaction.c - see transaction.h: at the leader, and the replies. */
#include "transaction.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "classify.h"
#include "command_special.h"
#include "decimal.h"
#include "redis_config.h"
#include "scan.h"
#include "state.h"
#include "stream_groups.h"
#include "ttl.h"

/* ------------------------------------------------------------------ the recipe */

/* The recipe: how many elements the reply has, then steps. */
enum step_kind {
	STEP_REPLY = 1, /* the backend's next reply */
	STEP_TTL,       /* the same, which is a deadline: argument is what was asked (ttl.h) */
	STEP_SKIP,      /* the backend's next reply, which is nobody's */
	STEP_CANNED,    /* argument bytes of reply follow */
	STEP_SCAN,      /* the same, a scan's; argument: whose cursor was asked with (scan.h) */
	STEP_CONFIG,    /* the backend's next reply, less its secrets; argument: databases */
	STEP_GROUPS, /* ... of consumer groups; argument: treatment << 8 | version of the protocol
		      */
};
struct step {
	uint32_t kind, argument;
	uint64_t number; /* TTL, GROUPS: the time in ms; CONFIG: maxmemory */
};

static bool add_step(struct mp_buffer *recipe, struct step step, struct mp_slice canned)
{
	step.argument += (uint32_t)canned.len;
	return mp_buffer_append(recipe, &step, sizeof(step)) &&
	       mp_buffer_append(recipe, canned.data, canned.len);
}

/* The step at *at, which moves behind it. False: there is none. */
static bool next_step(struct mp_slice recipe, size_t *at, struct step *step,
		      struct mp_slice *canned)
{
	if (recipe.len - *at < sizeof(*step))
		return false;
	memcpy(step, recipe.data + *at, sizeof(*step));
	*at += sizeof(*step);
	*canned = (struct mp_slice){"", 0};
	if (step->kind != STEP_CANNED)
		return true;
	if (recipe.len - *at < step->argument)
		return false;
	*canned = (struct mp_slice){recipe.data + *at, step->argument};
	*at += step->argument;
	return true;
}

/* ------------------------------------------------------------------- replies */

static const char no_memory[] = "-ERR muproxy: executed, but out of memory for the reply\r\n";

static void put(struct mp_assembly *a, struct mp_slice bytes)
{
	if (!mp_buffer_append(&a->out, bytes.data, bytes.len))
		a->is_cut = true;
}

/* Canned replies that come before the backend's next one. True: there is none any more. */
static bool put_canned(struct mp_assembly *a, struct mp_slice recipe)
{
	struct mp_slice canned;
	struct step step;

	for (;;) {
		size_t at = a->at;

		if (!next_step(recipe, &at, &step, &canned))
			return true;
		if (step.kind != STEP_CANNED)
			return false;
		put(a, canned);
		a->at = at;
	}
}

static void begin(struct mp_assembly *a, struct mp_slice recipe)
{
	char head[MP_DECIMAL_BYTES + 3] = "*";
	uint32_t elements;
	size_t len;

	mp_buffer_clear(&a->out);
	a->is_passed = a->is_cut = false;
	memcpy(&elements, recipe.data, sizeof(elements));
	len = 1 + mp_format_u64(head + 1, elements);
	memcpy(head + len, "\r\n", 2);
	put(a, (struct mp_slice){head, len + 2});
	a->at = sizeof(elements);
	a->is_open = true;
	put_canned(a, recipe);
}

/* Asked with one server's cursor, and executed by another: it begins anew. */
static void put_scan(struct mp_assembly *a, struct mp_slice reply, uint32_t asked_tag, uint32_t tag)
{
	char head[MP_SCAN_HEAD_BYTES];
	size_t used = 0, len;

	len = mp_scan_head(reply, tag, asked_tag != 0 && asked_tag != tag, head, &used);
	put(a, (struct mp_slice){head, len});
	put(a, (struct mp_slice){reply.data + used, reply.len - used});
}

static void put_reply(struct mp_assembly *a, struct mp_slice recipe, struct mp_slice reply,
		      uint32_t scan_tag)
{
	char number[MP_TTL_REPLY_BYTES];
	struct mp_slice canned;
	struct step step;

	if (!next_step(recipe, &a->at, &step, &canned) || step.kind == STEP_SKIP)
		return;
	if (step.kind == STEP_TTL)
		reply = mp_ttl_reply((enum mp_rewrite)step.argument, reply, step.number, number);
	if (step.kind == STEP_SCAN)
		put_scan(a, reply, step.argument, scan_tag);
	else if (step.kind == STEP_GROUPS)
		a->is_cut = !mp_groups_reply((enum mp_rewrite)(step.argument >> 8), reply,
					     step.argument & 0xff, step.number, &a->out) ||
			    a->is_cut;
	else if (step.kind == STEP_CONFIG)
		a->is_cut =
			!mp_config_reply(reply,
					 &(struct mp_config_terms){(int)step.argument, step.number},
					 &a->out) ||
			a->is_cut;
	else
		put(a, reply);
}

bool mp_transaction_reply(struct mp_assembly *a, struct mp_slice recipe, struct mp_slice reply,
			  uint32_t scan_tag, struct mp_slice *out)
{
	assert(recipe.len >= sizeof(uint32_t));
	if (!a->is_open)
		begin(a, recipe);
	put_reply(a, recipe, reply, scan_tag);
	if (!put_canned(a, recipe))
		return false;
	a->is_open = false;
	*out = mp_buffer_slice(&a->out);
	if (a->is_cut)
		*out = (struct mp_slice){no_memory, sizeof(no_memory) - 1};
	return true;
}

bool mp_transaction_flows(struct mp_assembly *a, struct mp_slice recipe)
{
	struct mp_slice canned;
	struct step step;
	size_t at;

	if (!a->is_open)
		begin(a, recipe);
	at = a->at;
	return !a->is_cut && next_step(recipe, &at, &step, &canned) && step.kind == STEP_REPLY;
}

void mp_transaction_passed(struct mp_assembly *a)
{
	a->is_passed = true;
	mp_buffer_clear(&a->out);
}

void mp_transaction_lost(struct mp_assembly *a)
{
	a->is_open = false;
	mp_buffer_clear(&a->out);
}

/* ------------------------------------------------------------------ the leader */

/* A transaction being made fit for the log. */
struct making {
	struct mp_proxy *proxy;
	const struct mp_origin *origin;
	struct mp_buffer *wire, *recipe;
	uint32_t database; /* that the next command runs in */
	uint32_t elements, commands;
	uint32_t resp;  /* the version of the protocol that the reply is to have */
	unsigned flags; /* of its record */
	bool denyoom;   /* it may need memory */
	bool failed;    /* out of memory, or not understood */
};

static void step(struct making *m, struct step step, struct mp_slice canned)
{
	if (!add_step(m->recipe, step, canned))
		m->failed = true;
}

static void put_wire(struct making *m, struct mp_slice bytes)
{
	if (!mp_buffer_append(m->wire, bytes.data, bytes.len))
		m->failed = true;
	m->commands++;
}

static void put_canned_error(struct making *m, const char *error)
{
	char text[MP_ERROR_BYTES + 32];
	size_t len = mp_format_error(MP_REDIS, error, text, sizeof(text));

	step(m, (struct step){.kind = STEP_CANNED}, (struct mp_slice){text, len});
}

static void put_select(struct making *m, uint32_t database)
{
	char number[MP_DECIMAL_BYTES], text[64];
	struct mp_slice argv[2] = {{"SELECT", 6}, {number, mp_format_u64(number, database)}};

	put_wire(m, (struct mp_slice){text, resp_encode(text, sizeof(text), 2, argv)});
}

static void make_select(struct making *m, const struct resp_request *request)
{
	int64_t database;

	if (!mp_parse_i64(request->argv[1], &database) || database < 0 ||
	    database >= m->proxy->databases) {
		m->failed = true; /* the session has looked at it */
		return;
	}
	put_wire(m, request->raw);
	step(m, (struct step){.kind = STEP_REPLY}, (struct mp_slice){0});
	m->database = (uint32_t)database;
}

/* The backend's next reply: the client's, or what that is made of. */
static void step_reply(struct making *m, const struct mp_command *command,
		       const struct resp_request *request)
{
	uint32_t treatment = mp_groups_treatment(command, request);
	struct step reply = {.kind = STEP_REPLY};

	if (treatment != MP_REWRITE_NONE && treatment != MP_REWRITE_PENDING)
		reply = (struct step){.kind = STEP_GROUPS,
				      .argument = treatment << 8 | m->resp,
				      .number = mp_expiry_now_ms(m->proxy)};
	step(m, reply, (struct mp_slice){0});
}

static void make_write(struct making *m, const struct mp_command *command,
		       const struct resp_request *request)
{
	struct mp_proxy *proxy = m->proxy;
	char error[MP_ERROR_BYTES];
	int commands = 1;

	mp_watch_touch(proxy, m->database, command, request);
	mp_blocking_touch(proxy, m->database, command, request);
	m->denyoom = m->denyoom || command->denyoom;
	if (mp_command_speaks(command))
		m->flags |= MP_RECORD_SPEAKS;
	if (mp_command_sets(command))
		m->flags |= MP_RECORD_SETTINGS;
	if (!mp_needs_rewrite(command, request)) {
		put_wire(m, request->raw);
	} else {
		switch (mp_pipeline_rewrite(proxy, m->origin, m->database, m->resp, command,
					    request, m->wire, &commands, error)) {
		case MP_REWRITTEN:
			break;
		case MP_REWRITE_REFUSED:
			put_canned_error(m, error);
			return;
		case MP_REWRITE_NO_MEMORY:
			m->failed = true;
			return;
		}
		m->flags |= MP_RECORD_DEADLINES;
		m->commands += (uint32_t)commands;
	}
	for (int i = 1; i < commands; i++)
		step(m, (struct step){.kind = STEP_SKIP}, (struct mp_slice){0});
	step_reply(m, command, request);
	if (commands > 1) { /* FLUSHALL has left another database selected */
		put_select(m, m->database);
		step(m, (struct step){.kind = STEP_SKIP}, (struct mp_slice){0});
	}
}

/* With the leader's own cursor: most often it is the leader who answers. */
static void make_scan(struct making *m, const struct resp_request *request)
{
	uint32_t own = m->proxy->apply.target[mp_target_index(MP_REDIS)].scan_tag;
	uint32_t tag = mp_scan_tag_of(request);

	if (!mp_scan_question(request, own, m->wire))
		m->failed = true;
	m->commands++;
	step(m, (struct step){.kind = STEP_SCAN, .argument = tag == own ? own : 0},
	     (struct mp_slice){0});
}

static void make_ttl(struct making *m, const struct mp_command *command,
		     const struct resp_request *request)
{
	size_t len = mp_ttl_question(request->argv[1], NULL, 0);
	char *room = mp_buffer_reserve(m->wire, len);

	if (!room) {
		m->failed = true;
		return;
	}
	mp_ttl_question(request->argv[1], room, len);
	mp_buffer_commit(m->wire, len);
	m->commands++;
	step(m,
	     (struct step){.kind = STEP_TTL,
			   .argument = (uint32_t)command->rewrite,
			   .number = mp_expiry_now_ms(m->proxy)},
	     (struct mp_slice){0});
}

static void make_pending(struct making *m, const struct resp_request *request)
{
	m->commands++;
	if (!mp_groups_put(MP_GROUPS_READ, request->argc, request->argv,
			   (int64_t)mp_expiry_now_ms(m->proxy), m->wire))
		m->failed = true;
}

static void make_read(struct making *m, const struct mp_command *command,
		      const struct resp_request *request)
{
	if (mp_groups_treatment(command, request) == MP_REWRITE_PENDING) {
		make_pending(m, request);
		step_reply(m, command, request);
		return;
	}
	if (command->rewrite == MP_REWRITE_NONE || command->rewrite == MP_REWRITE_INFO ||
	    command->rewrite == MP_REWRITE_BLOCK || command->rewrite == MP_REWRITE_PENDING ||
	    command->rewrite == MP_REWRITE_STREAM_INFO) {
		put_wire(m, request->raw);
		step_reply(m, command, request);
		return;
	}
	if (command->rewrite == MP_REWRITE_CONFIG) {
		put_wire(m, request->raw);
		step(m,
		     (struct step){.kind = STEP_CONFIG,
				   .argument = (uint32_t)m->proxy->databases,
				   .number = m->proxy->memory.limit_bytes},
		     (struct mp_slice){0});
		return;
	}
	if (command->rewrite == MP_REWRITE_SCAN) {
		make_scan(m, request);
		return;
	}
	make_ttl(m, command, request);
}

static void make_one(struct making *m, const struct resp_request *request)
{
	const struct mp_command *command;
	char error[MP_ERROR_BYTES];

	m->elements++;
	if (mp_arg_is(request->argv[0], MP_TRANSACTION_REPLY) && request->argc == 2) {
		step(m, (struct step){.kind = STEP_CANNED}, request->argv[1]);
		return;
	}
	command = mp_command_find(m->proxy->commands, request, error, sizeof(error));
	if (!command) {
		put_canned_error(m, error);
	} else if (strcmp(command->name, "select") == 0) {
		make_select(m, request);
	} else if (command->class == MP_CLASS_WRITE) {
		make_write(m, command, request);
	} else if (command->class == MP_CLASS_READ || command->class == MP_CLASS_LOCAL) {
		make_read(m, command, request);
	} else {
		mp_command_refusal(command, error, sizeof(error));
		put_canned_error(m, error);
	}
}

/* The next command of those in *bytes, which moves behind it. */
static bool next_command(struct mp_proxy *proxy, struct mp_slice *bytes,
			 struct resp_request *request)
{
	size_t used;

	if (!mp_parser_ready(proxy) ||
	    resp_parse(proxy->resp, bytes->data, bytes->len, &used, request) != RESP_DONE ||
	    request->argc == 0 || request->is_inline) {
		mp_parser_spoilt(proxy);
		return false;
	}
	bytes->data += used;
	bytes->len -= used;
	return true;
}

static void answer_from_recipe(struct mp_proxy *proxy, struct mp_request *r, struct mp_slice recipe)
{
	struct mp_assembly assembly = {0};

	begin(&assembly, recipe);
	mp_answer(proxy, r, mp_buffer_slice(&assembly.out), true);
	mp_buffer_free(&assembly.out);
}

/* Nothing to execute: but whether what is watched has changed only the log can tell. */
static void put_nothing(struct making *m)
{
	static const struct mp_slice ping = {"*1\r\n$4\r\nPING\r\n", 14};

	put_wire(m, ping);
	step(m, (struct step){.kind = STEP_SKIP}, (struct mp_slice){0});
}

void mp_transaction_add(struct mp_proxy *proxy, struct mp_request *r)
{
	struct mp_pipeline *pipeline = &proxy->pipeline;
	struct mp_slice rest = mp_bytes_slice(&r->raw);
	struct making m = {.proxy = proxy,
			   .origin = &r->origin,
			   .wire = &pipeline->rewritten,
			   .recipe = &pipeline->recipe,
			   .database = r->meta.database,
			   .resp = r->meta.resp};
	struct resp_request request;
	bool watches;

	mp_buffer_clear(m.wire);
	mp_buffer_clear(m.recipe);
	if (!mp_buffer_append(m.recipe, &m.elements, sizeof(m.elements)) ||
	    !next_command(proxy, &rest, &request)) {
		mp_answer_error(proxy, r, "ERR muproxy: not understood by the leader");
		return;
	}
	if (!mp_watch_holds(proxy, &request)) {
		mp_answer(proxy, r, mp_resp_nil_array(r->meta.resp), true);
		return;
	}
	watches = request.argc > 1;
	while (rest.len > 0 && !m.failed && next_command(proxy, &rest, &request)) {
		make_one(&m, &request);
		/* A few bytes may become many (FLUSHALL): not first all of them, and then no. */
		if (mp_buffer_len(m.wire) + mp_buffer_len(m.recipe) <=
		    2 * proxy->options.max_request_bytes)
			continue;
		mp_answer_error(proxy, r, "ERR muproxy: the request is larger than the log takes");
		return;
	}
	if (m.commands == 0 && watches)
		put_nothing(&m);
	if (m.failed || rest.len > 0) {
		mp_answer_error(proxy, r,
				"ERR muproxy: the transaction was not understood by the leader, "
				"or it is out of memory; nothing was executed");
		return;
	}
	if (m.denyoom && proxy->memory.is_full) {
		mp_answer_error(proxy, r, "EXECABORT Transaction discarded because of: " MP_OOM);
		return;
	}
	memcpy(mp_buffer_data(m.recipe), &m.elements, sizeof(m.elements));
	if (m.commands == 0)
		answer_from_recipe(proxy, r, mp_buffer_slice(m.recipe));
	else
		mp_pipeline_add_transaction(proxy, r, m.commands, m.flags);
}
