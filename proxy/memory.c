/* memory.c - see memory.h: the leader measures, and drives eviction. */
#include "config.h"

#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include "question.h"
#include "session_parts.h"
#include "state.h"

enum {
	MEASURE_MS = 100,
	IDLE_MEASURE_MS = 1000, /* if nothing was written */
	STEP_PART = 8,          /* of what is left: written, it is measured anew */
	STEP_LEAST_BYTES = 64 << 10,
	FAR_PART = 16, /* of the limit: beyond it, and growing, requests wait */
};

void mp_memory_close(struct mp_memory *memory)
{
	mp_buffer_free(&memory->victims);
	mp_buffer_free(&memory->wire);
}

/* ----------------------------------------------------------------- measuring */

static bool is_due(struct mp_proxy *proxy)
{
	const struct mp_memory *memory = &proxy->memory;
	uint64_t step = memory->limit_bytes > memory->used_bytes
				? (memory->limit_bytes - memory->used_bytes) / STEP_PART
				: 0;

	if (step < STEP_LEAST_BYTES)
		step = STEP_LEAST_BYTES;
	/* What was written may have been a deletion, by which others can be served. */
	if (memory->is_full)
		step = 1;
	return memory->written_bytes >= step || mp_now_ns(proxy) >= memory->next_ns;
}

static void rest(struct mp_proxy *proxy)
{
	struct mp_memory *memory = &proxy->memory;
	uint64_t ms = memory->written_bytes > 0 ? MEASURE_MS : IDLE_MEASURE_MS;

	memory->state = MP_MEMORY_IDLE;
	memory->next_ns = mp_now_ns(proxy) + ms * UINT64_C(1000000);
}

static void measure(struct mp_proxy *proxy)
{
	struct mp_memory *memory = &proxy->memory;
	struct mp_slice argv[2] = {{"INFO", 4}, {"memory", 6}};

	rest(proxy);
	memory->written_bytes = 0;
	if (mp_question_ask(proxy, MP_PURPOSE_MEASURE, memory->ballot, 0, 2, argv))
		memory->state = MP_MEMORY_MEASURES;
}

/* The number behind a field of INFO's; 0: it is not there. */
static uint64_t number_at(struct mp_slice info, const char *field)
{
	const char *at = memmem(info.data, info.len, field, strlen(field));
	uint64_t value = 0;

	if (!at)
		return 0;
	for (at += strlen(field); at < info.data + info.len && *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	return value;
}

static void nothing_to_evict(struct mp_proxy *proxy)
{
	proxy->memory.is_full = true;
	proxy->memory.is_over = false;
	rest(proxy);
}

static void take_measure(struct mp_proxy *proxy, struct mp_slice info)
{
	struct mp_memory *memory = &proxy->memory;
	uint64_t used = number_at(info, "\nused_memory:"), before = memory->used_bytes;
	uint64_t limit = memory->limit_bytes;

	used -= number_at(info, "\nmem_not_counted_for_evict:");
	memory->used_bytes = used;
	memory->is_measured = true;
	if (used <= limit) {
		memory->is_full = memory->is_over = false;
		rest(proxy);
	} else if (memory->policy == MP_NOEVICTION || !mp_memory_choose(proxy, used - limit)) {
		nothing_to_evict(proxy);
	} else {
		memory->is_over = used > before && used - limit > limit / FAR_PART;
		memory->state = MP_MEMORY_CHOOSES;
	}
}

/* Is there one of these letters? */
static bool has_letter(struct mp_slice text, const char *letters)
{
	for (size_t i = 0; i < text.len; i++)
		if (strchr(letters, text.data[i]))
			return true;
	return false;
}

/* An array or a map: the parameter's name, and its value, which is letters on a line. */
static void take_notify(struct mp_memory *memory, struct mp_slice answer)
{
	static const char name[] = "events\r\n$";
	const char *end = answer.data + answer.len;
	const char *at = memmem(answer.data, answer.len, name, sizeof(name) - 1);
	struct mp_slice wanted = {"", 0};
	char by_key, by_event;

	if (at && (at = memchr(at + sizeof(name) - 1, '\n', (size_t)(end - at) - sizeof(name) + 1)))
		wanted = (struct mp_slice){at + 1, (size_t)(end - at) - 1};
	by_key = has_letter(wanted, "K") ? 'K' : '\0';
	by_event = has_letter(wanted, "E") ? 'E' : '\0';
	memory->notify_evicted[0] = has_letter(wanted, "Ae") ? by_key : '\0';
	memory->notify_evicted[1] = has_letter(wanted, "Ae") ? by_event : '\0';
	memory->notify_expired[0] = has_letter(wanted, "Ax") ? by_key : '\0';
	memory->notify_expired[1] = has_letter(wanted, "Ax") ? by_event : '\0';
}

static void take_victims(struct mp_memory *memory, struct mp_slice answer)
{
	mp_buffer_clear(&memory->victims);
	/* Out of memory for it: as if there were none. */
	mp_buffer_append(&memory->victims, answer.data, answer.len);
	memory->state = MP_MEMORY_CHOSEN;
}

void mp_memory_answer(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer)
{
	struct mp_memory *memory = &proxy->memory;

	if (r->purpose == MP_PURPOSE_SETTINGS) {
		mp_memory_take_settings(proxy, answer);
		return;
	}
	if (r->purpose == MP_PURPOSE_NOTIFY) {
		take_notify(memory, answer);
		return;
	}
	/* Asked by a former leader of this process's, or for settings of before? */
	if (r->purpose == MP_PURPOSE_POLICY || r->origin.sequence != memory->ballot)
		return;
	if (r->purpose == MP_PURPOSE_MEASURE && memory->state == MP_MEMORY_MEASURES)
		take_measure(proxy, answer);
	else if (r->purpose == MP_PURPOSE_VICTIMS && memory->state == MP_MEMORY_CHOOSES)
		take_victims(memory, answer);
}

/* ------------------------------------------------------------------ the turn */

static void begin(struct mp_memory *memory, uint64_t ballot)
{
	memory->ballot = ballot;
	memory->state = MP_MEMORY_IDLE;
	memory->is_full = memory->is_over = memory->is_measured = false;
	memory->next_ns = 0;
	memory->used_bytes = 0;
}

static void evict(struct mp_proxy *proxy)
{
	struct mp_memory *memory = &proxy->memory;

	if (proxy->pipeline.stuck)
		return;
	if (mp_memory_evict(proxy) == 0) {
		nothing_to_evict(proxy);
		return;
	}
	memory->is_full = false;
	memory->evicts_lsn = 0;
	memory->state = MP_MEMORY_EVICTS;
}

/* Has what was logged been handed to the server? A question now is asked behind it. */
static bool is_evicted(struct mp_proxy *proxy)
{
	const struct mp_target *target = &proxy->apply.target[mp_target_index(MP_REDIS)];
	struct mp_memory *memory = &proxy->memory;

	if (memory->evicts_lsn == 0 && !proxy->pipeline.stuck)
		memory->evicts_lsn = proxy->pipeline.proposed_lsn;
	return memory->evicts_lsn && target->handed_lsn >= memory->evicts_lsn;
}

enum mp_memory_word mp_memory_word(const struct mp_proxy *proxy)
{
	const struct mp_memory *memory = &proxy->memory;

	if (!proxy->pipeline.ballot)
		return mp_relay_out_memory(proxy);
	if (memory->asked > 0 ||
	    (memory->limit_bytes > 0 &&
	     (!memory->is_measured || memory->ballot != proxy->pipeline.ballot)))
		return MP_MEMORY_UNSURE;
	return memory->is_full ? MP_MEMORY_FULL : MP_MEMORY_LEFT;
}

bool mp_memory_is_unsure(struct mp_proxy *proxy)
{
	if (mp_memory_word(proxy) != MP_MEMORY_UNSURE)
		return false;
	proxy->memory.is_awaited = true;
	return true;
}

void mp_memory_tell(struct mp_proxy *proxy)
{
	if (!proxy->memory.is_awaited || mp_memory_word(proxy) == MP_MEMORY_UNSURE)
		return;
	proxy->memory.is_awaited = false;
	mp_sessions_let_go(proxy);
}

bool mp_memory_turn(struct mp_proxy *proxy)
{
	struct mp_memory *memory = &proxy->memory;

	/* Settings that are changing: what comes behind them is judged by the new ones. */
	if (proxy->pipeline.ballot && memory->asked > 0)
		return false;
	if (memory->limit_bytes == 0)
		return true;
	if (memory->ballot != proxy->pipeline.ballot)
		begin(memory, proxy->pipeline.ballot);
	if (memory->state == MP_MEMORY_CHOSEN)
		evict(proxy);
	else if (memory->state == MP_MEMORY_IDLE
			 ? is_due(proxy)
			 : memory->state == MP_MEMORY_EVICTS && is_evicted(proxy))
		measure(proxy);
	return memory->is_measured && !memory->is_over;
}

uint64_t mp_memory_deadline_ns(struct mp_proxy *proxy)
{
	const struct mp_memory *memory = &proxy->memory;

	if (memory->limit_bytes == 0 || !proxy->pipeline.ballot)
		return UINT64_MAX;
	if (memory->state == MP_MEMORY_IDLE)
		return memory->next_ns;
	/* Otherwise the server's answer brings the next turn, or room in the log. */
	if (memory->state == MP_MEMORY_EVICTS && is_evicted(proxy))
		return mp_now_ns(proxy);
	return UINT64_MAX;
}
