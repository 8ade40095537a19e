/* transfer.c - see transfer.h: the end that is restored. */
#include "transfer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backends.h"
#include "log.h"
#include "memcached_transfer.h"
#include "state.h"

enum {
	ASK_MS = 5000,        /* a donor that has not agreed by then will not */
	DONOR_LOST_MS = 2000, /* the other replica does not live any more */
	LOOK_MS = 100,        /* how often that is looked at */
	LOG_MS = 2000,        /* how often the log tells of progress */
	RELEASE_MS = 2000,    /* a restored server that is not there by then */
	RETRY_MIN_MS = 100,
	RETRY_MAX_MS = 5000,
};

const struct mp_transfer_kind mp_transfer_kinds[MP_TARGETS] = {
	{&mp_redis_restorer, &mp_redis_donor},
	{&mp_memcached_restorer, &mp_memcached_donor},
};

static uint32_t bit_of(const struct mp_target *target)
{
	return 1U << mp_target_index(target->protocol);
}

/* Those that are restored beside their service. */
static uint32_t bits_beside(void)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < MP_TARGETS; i++)
		if (mp_transfer_kinds[i].restorer->beside_service)
			bits |= 1U << i;
	return bits;
}

/* ------------------------------------------------------------------- figures */

static void show(struct mp_restore *restore)
{
	struct mp_proxy *proxy = restore->proxy;
	uint64_t begun_ms = restore->data_ns / 1000000;

	STAT_SET(proxy, restore_protocol, restore->target ? (int)restore->target->protocol : 0);
	STAT_SET(proxy, restore_donor, restore->donor);
	STAT_SET(proxy, restore_bytes, restore->bytes);
	STAT_SET(proxy, restore_total_bytes, restore->total_bytes);
	STAT_SET(proxy, restore_items, restore->items);
	STAT_SET(proxy, restore_total_items, restore->total_items);
	STAT_SET(proxy, restore_in_service, !(restore->wanted & ~bits_beside()));
	STAT_SET(proxy, restore_ms, begun_ms ? mp_now_ms(proxy) - begun_ms : 0);
	STAT_SET(proxy, restore_stage, (int)restore->stage);
}

void mp_restore_stage(struct mp_restore *restore, enum mp_transfer_stage stage)
{
	restore->stage = stage;
	restore->stage_ns = restore->silent_ns = mp_now_ns(restore->proxy);
	show(restore);
}

void mp_restore_moved(struct mp_restore *restore, uint64_t bytes, uint64_t total_bytes)
{
	uint64_t now_ns = mp_now_ns(restore->proxy);

	if (restore->data_ns == 0 && bytes > 0)
		restore->data_ns = now_ns;
	restore->bytes = bytes;
	restore->total_bytes = total_bytes;
	restore->silent_ns = now_ns;
	show(restore);
}

void mp_restore_counted(struct mp_restore *restore, uint64_t items, uint64_t total_items)
{
	restore->items = items;
	restore->total_items = total_items;
}

static void log_progress(struct mp_restore *restore, uint64_t now_ns)
{
	struct mp_proxy_stats stats;
	char progress[MP_PROGRESS_BYTES];

	if (now_ns < restore->next_log_ns || restore->stage < MP_TRANSFER_RECEIVING)
		return;
	restore->next_log_ns = now_ns + mp_ms_in_ns(LOG_MS);
	mp_proxy_get_stats(restore->proxy, &stats);
	mp_proxy_restore_words(&stats, progress);
	mp_info("%s: %s", restore->target->name, progress);
}

/* ------------------------------------------------------- the end of an attempt */

static void fail(struct mp_restore *restore, const char *format, va_list args)
{
	if (restore->is_failed || !restore->target)
		return;
	restore->is_failed = true;
	vsnprintf(restore->why, sizeof(restore->why), format, args);
}

void mp_restore_fail(struct mp_restore *restore, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fail(restore, format, args);
	va_end(args);
}

void mp_restore_end(struct mp_restore *restore, const char *format, ...)
{
	va_list args;

	restore->wanted &= ~bit_of(restore->target);
	va_start(args, format);
	fail(restore, format, args);
	va_end(args);
}

static void drop_link(struct mp_restore *restore)
{
	if (restore->link)
		mp_link_close(restore->link, NULL);
}

/* The backend may connect again, and says what its server holds. */
static void end_attempt(struct mp_restore *restore, bool restored)
{
	struct mp_target *target = restore->target;

	if (restore->own)
		restore->ops->end(restore);
	assert(!restore->own);
	if (!restore->ops->beside_service)
		target->backend->ops->release(target->backend, restored);
	restore->is_failed = restore->is_done = false;
	restore->bytes = restore->total_bytes = restore->data_ns = 0;
	restore->items = restore->total_items = 0;
	restore->donor_lost_ns = 0;
	restore->stage = restore->wanted ? MP_TRANSFER_WAITING : MP_TRANSFER_NONE;
	restore->target = NULL;
	restore->donor = 0;
	show(restore);
}

static void give_up_attempt(struct mp_restore *restore, uint64_t now_ns)
{
	uint64_t pause_ms = RETRY_MIN_MS;

	for (unsigned i = 1; i < restore->attempt && pause_ms < RETRY_MAX_MS; i++)
		pause_ms *= 2;
	restore->next_ns = now_ns + mp_ms_in_ns(pause_ms < RETRY_MAX_MS ? pause_ms : RETRY_MAX_MS);
	restore->tried |= 1U << restore->donor;
	mp_warn("%s: restoring it from replica %u has failed: %s", restore->target->name,
		restore->donor, restore->why);
	STAT_ADD(restore->proxy, restores_failed, 1);
	drop_link(restore);
	end_attempt(restore, false);
}

void mp_transfer_replaced(struct mp_proxy *proxy, struct mp_target *target, uint64_t era,
			  uint64_t lsn)
{
	target->backend->era = era;
	target->passed_lsn = target->handed_lsn = target->durable_lsn = lsn;
	if (target->protocol != MP_REDIS)
		return;
	mp_expiry_forget(proxy);
	mp_pubsub_restored(proxy);
}

void mp_restore_done(struct mp_restore *restore, uint64_t era, uint64_t lsn)
{
	restore->is_done = true;
	restore->era = era;
	restore->lsn = lsn;
}

static void tell_restored(struct mp_restore *restore, uint64_t now_ns)
{
	mp_info("%s: restored from replica %u at LSN %" PRIu64 ": %" PRIu64 " bytes in %" PRIu64
		" ms, of which the cut took %" PRIu64,
		restore->target->name, restore->donor, restore->lsn, restore->bytes,
		(now_ns - restore->begun_ns) / 1000000, (now_ns - restore->stage_ns) / 1000000);
	STAT_ADD(restore->proxy, restores, 1);
}

/* It is wanted no more, and its donor may be another one the next time. */
static void is_restored(struct mp_restore *restore, uint64_t now_ns)
{
	tell_restored(restore, now_ns);
	restore->wanted &= ~bit_of(restore->target);
	restore->replaced &= ~bit_of(restore->target);
	restore->tried = restore->attempt = 0;
}

static void finish_beside_service(struct mp_restore *restore, uint64_t now_ns)
{
	is_restored(restore, now_ns);
	drop_link(restore);
	end_attempt(restore, true);
	restore->next_ns = 0;
}

static void finish_attempt(struct mp_restore *restore, uint64_t now_ns)
{
	struct mp_proxy *proxy = restore->proxy;
	struct mp_target *target = restore->target;

	if (restore->ops->beside_service) {
		finish_beside_service(restore, now_ns);
		return;
	}
	mp_transfer_replaced(proxy, target, restore->era, restore->lsn);
	/* At once: what comes behind it must not leave the log before the backend is there. */
	if (mu_seek(proxy->mu, restore->era, restore->lsn) == MU_ERR_STALE) {
		mp_restore_fail(restore, "at LSN %" PRIu64 " the log has gone on already",
				restore->lsn);
		give_up_attempt(restore, now_ns);
		return;
	}
	is_restored(restore, now_ns);
	restore->gate_ns = restore->stage_ns;
	/*
	 * Stale still, until the log is here so far (seek()): the leader holds off whom it takes
	 * for a backend that is far behind, and would write nothing to this log.
	 */
	proxy->apply.seek_wanted = true;
	end_attempt(restore, true);
	restore->next_ns = 0;
	restore->asked_ns = now_ns;
}

/* What was cut at the gate has been brought level by the log; not if it is restored once more. */
static void tell_level(struct mp_restore *restore, uint64_t now_ns)
{
	uint64_t took_ms = (now_ns - restore->gate_ns) / 1000000;

	if (restore->target || restore->wanted & ~bits_beside()) {
		restore->gate_ns = 0;
	} else if (mp_backends_level(restore->proxy)) {
		mp_info("level with the log %" PRIu64 " ms after the gate", took_ms);
		STAT_SET(restore->proxy, restore_level_ms, took_ms);
		restore->gate_ns = 0;
	}
}

/* The donor keeps the log until it is read from here, on behalf of the backend. */
static void release_when_read(struct mp_restore *restore, uint64_t now_ns)
{
	if (!restore->proxy->apply.seek_wanted ||
	    now_ns - restore->asked_ns > mp_ms_in_ns(RELEASE_MS))
		drop_link(restore);
}

/* ------------------------------------------------------------------ the donor */

static bool is_better(const struct mu_group_status *group, unsigned one, unsigned other)
{
	const struct mu_replica_status *a = &group->replica[one], *b = &group->replica[other];

	if ((one == group->leader) != (other == group->leader))
		return one != group->leader;
	return a->applied_lsn > b->applied_lsn;
}

/* 0: there is none. */
static unsigned best_donor(const struct mu_group_status *group, uint32_t but)
{
	unsigned best = 0;

	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		const struct mu_replica_status *replica = &group->replica[id];

		if (id == group->id || but >> id & 1 || !replica->member || !replica->alive ||
		    replica->backend != MU_BACKEND_LEVEL)
			continue;
		if (!best || is_better(group, id, best))
			best = id;
	}
	return best;
}

static unsigned choose_donor(struct mp_restore *restore)
{
	struct mu_group_status group;
	unsigned donor;

	mu_group_status(restore->proxy->mu, &group);
	donor = best_donor(&group, restore->tried);
	if (donor)
		return donor;
	restore->tried = 0;
	return best_donor(&group, 0);
}

static bool donor_lives(struct mp_restore *restore)
{
	struct mu_group_status group;

	mu_group_status(restore->proxy->mu, &group);
	return group.replica[restore->donor].alive;
}

/* ------------------------------------------------------------------- the link */

static void on_up(struct mp_link *link)
{
	struct mp_restore *restore = &link->proxy->transfer.restore;
	struct mp_frame_want want = {.protocol = (uint8_t)restore->target->protocol,
				     .attempt = restore->attempt};

	mp_link_send(link, MP_FRAME_WANT, &want, sizeof(want), (struct mp_slice){0});
}

static void be_refused(struct mp_restore *restore, struct mp_slice words)
{
	char text[160];

	/* They are the other end's: not trusted. */
	snprintf(text, sizeof(text), "%.*s", (int)words.len, words.data);
	for (char *c = text; *c; c++)
		if (*c < ' ')
			*c = '?';
	mp_restore_fail(restore, "it says: %s", text);
}

static void on_agreed(struct mp_restore *restore)
{
	struct mp_backend *backend = restore->target->backend;

	mp_info("%s: it is being restored from replica %u", restore->target->name, restore->donor);
	if (restore->target->protocol == MP_REDIS)
		mp_pubsub_cut_all(restore->proxy, "the server is being restored");
	if (!restore->ops->beside_service)
		backend->ops->hold(backend, "it is being restored");
	mp_restore_stage(restore, MP_TRANSFER_PREPARING);
	restore->ops->begin(restore);
}

static bool on_frame(struct mp_link *link, enum mp_frame_type type, struct mp_slice body,
		     const char **why)
{
	struct mp_restore *restore = &link->proxy->transfer.restore;
	struct mp_frame_note note;

	*why = "a frame that a donor does not send";
	if (restore->is_failed || restore->is_done || !restore->target)
		return true;
	if (type == MP_FRAME_FAILED) {
		be_refused(restore, body);
		return true;
	}
	if (type == MP_FRAME_AGREED && restore->stage == MP_TRANSFER_ASKING) {
		on_agreed(restore);
		return true;
	}
	if (!restore->own)
		return false;
	if (type == MP_FRAME_NOTE && body.len == sizeof(note)) {
		memcpy(&note, body.data, sizeof(note));
		return restore->ops->note(restore, &note);
	}
	if (type != MP_FRAME_BYTES)
		return false;
	restore->ops->data(restore, body);
	return true;
}

static void on_closed(struct mp_link *link, const char *why)
{
	struct mp_restore *restore = &link->proxy->transfer.restore;

	assert(restore->link == link);
	restore->link = NULL;
	TAILQ_INSERT_TAIL(&link->proxy->relay.closed, link, place);
	mp_restore_fail(restore, "the link: %s", why ? why : "it was closed there");
}

static const struct mp_link_events events = {
	.up = on_up,
	.frame = on_frame,
	.closed = on_closed,
};

static void take_socket(struct mp_restore *restore, unsigned peer, int fd)
{
	if (fd < 0) {
		mp_restore_fail(restore, "it cannot be reached");
		return;
	}
	restore->link = mp_link_new(restore->proxy, fd, peer, true, &events);
	if (!restore->link) {
		close(fd);
		mp_restore_fail(restore, "out of memory");
		return;
	}
	restore->link->purpose = MP_LINK_TRANSFER;
}

void mp_restore_dialled(struct mp_proxy *proxy, unsigned peer, int fd)
{
	struct mp_restore *restore = &proxy->transfer.restore;

	restore->dialling &= ~(1U << peer);
	if (restore->target && restore->donor == peer && !restore->link && !restore->is_failed)
		take_socket(restore, peer, fd);
	else if (fd >= 0)
		close(fd);
}

/* False: not now, since the relay waits for a connection to the same replica. */
static bool dial(struct mp_restore *restore)
{
	struct mp_proxy *proxy = restore->proxy;
	const struct mp_proxy_options *options = &proxy->options;
	uint32_t bit = 1U << restore->donor;

	if (!options->dial) {
		take_socket(restore, restore->donor,
			    mp_connect_begin(&proxy->relay.out.address[restore->donor],
					     restore->attempt));
		return true;
	}
	if ((proxy->relay.out.dialling | restore->dialling) & bit)
		return false;
	restore->dialling |= bit;
	options->dial(options->dial_ctx, restore->donor);
	return true;
}

void mp_restore_tell(struct mp_restore *restore, uint16_t what, uint64_t a, uint64_t b)
{
	struct mp_frame_note note = {.what = what, .a = a, .b = b};

	if (restore->link)
		mp_link_send(restore->link, MP_FRAME_NOTE, &note, sizeof(note),
			     (struct mp_slice){0});
}

void mp_restore_send(struct mp_restore *restore, struct mp_slice bytes)
{
	if (restore->link)
		mp_link_send(restore->link, MP_FRAME_BYTES, NULL, 0, bytes);
}

/* ------------------------------------------------------------------ is it on? */

bool mp_transfer_want(struct mp_proxy *proxy, const struct mp_target *target)
{
	if (bit_of(target) & bits_beside())
		return false;
	proxy->transfer.restore.wanted |= bit_of(target);
	return true;
}

void mp_transfer_fill(struct mp_proxy *proxy, const struct mp_target *target)
{
	struct mp_restore *restore = &proxy->transfer.restore;

	assert(bit_of(target) & bits_beside());
	if (restore->target == target)
		mp_restore_fail(restore, "it was emptied once more");
	restore->wanted |= bit_of(target);
	if (!restore->target)
		mp_restore_stage(restore, MP_TRANSFER_WAITING);
}

void mp_transfer_unwant(struct mp_proxy *proxy)
{
	struct mp_restore *restore = &proxy->transfer.restore;

	if (!(restore->wanted & ~bits_beside()) || restore->target)
		return;
	restore->wanted &= bits_beside();
	restore->replaced = restore->tried = restore->attempt = 0;
	restore->next_ns = 0;
	mp_restore_stage(restore, restore->wanted ? MP_TRANSFER_WAITING : MP_TRANSFER_NONE);
}

bool mp_transfer_is_on(const struct mp_proxy *proxy)
{
	const struct mp_restore *restore = &proxy->transfer.restore;

	return restore->target && !restore->ops->beside_service;
}

void mp_transfer_init(struct mp_proxy *proxy)
{
	proxy->transfer.restore.proxy = proxy;
	TAILQ_INIT(&proxy->transfer.donations);
}

bool mp_transfer_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	const char *redis = proxy->options.redis_backend;

	return !redis || mp_address_parse(redis, &proxy->transfer.redis_address, err, err_bytes);
}

void mp_transfer_close(struct mp_proxy *proxy)
{
	struct mp_restore *restore = &proxy->transfer.restore;

	if (restore->target)
		end_attempt(restore, false);
	drop_link(restore);
	mp_donations_close(proxy);
}

/* ------------------------------------------------------------------- the turn */

/* The first that is wanted, and whose server is there to be restored. */
static struct mp_target *next_target(struct mp_restore *restore)
{
	for (unsigned i = 0; i < MP_TARGETS; i++) {
		struct mp_target *target = &restore->proxy->apply.target[i];
		uint32_t bit = 1U << i;

		if (restore->wanted & bit && !target->is_restarting &&
		    (target->state == MP_BACKEND_READY ||
		     (target->state == MP_BACKEND_FAILED && restore->replaced & bit)))
			return target;
	}
	return NULL;
}

static void begin_attempt(struct mp_restore *restore, struct mp_target *target, uint64_t now_ns)
{
	unsigned donor = choose_donor(restore);

	if (!donor) {
		if (!restore->is_complaining)
			mp_warn("%s: there is no replica to restore it from", target->name);
		restore->is_complaining = true;
		restore->next_ns = now_ns + mp_ms_in_ns(LOOK_MS);
		return;
	}
	restore->is_complaining = false;
	restore->target = target;
	restore->ops = mp_transfer_kinds[mp_target_index(target->protocol)].restorer;
	restore->donor = donor;
	if (restore->attempt < UINT8_MAX)
		restore->attempt++;
	restore->begun_ns = restore->asked_ns = now_ns;
	restore->next_log_ns = now_ns + mp_ms_in_ns(LOG_MS);
	mp_restore_stage(restore, MP_TRANSFER_ASKING);
	if (!dial(restore))
		mp_restore_fail(restore, "another connection to it is under way");
}

static void look(struct mp_restore *restore, uint64_t now_ns)
{
	if (restore->stage == MP_TRANSFER_ASKING &&
	    now_ns - restore->asked_ns > mp_ms_in_ns(ASK_MS))
		mp_restore_fail(restore, "it does not answer");
	if (now_ns - restore->silent_ns > mp_ms_in_ns(MP_TRANSFER_SILENCE_MS))
		mp_restore_fail(restore, "nothing has moved for %d ms", MP_TRANSFER_SILENCE_MS);
	if (donor_lives(restore))
		restore->donor_lost_ns = 0;
	else if (restore->donor_lost_ns == 0)
		restore->donor_lost_ns = now_ns;
	else if (now_ns - restore->donor_lost_ns > mp_ms_in_ns(DONOR_LOST_MS))
		mp_restore_fail(restore, "it is not alive any more");
	log_progress(restore, now_ns);
}

static uint64_t go_on(struct mp_restore *restore, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX, look_ns;

	if (restore->ops->beside_service && restore->wanted & ~bits_beside())
		mp_restore_fail(restore, "another server comes first");
	if (restore->own && !restore->is_failed)
		next_ns = restore->ops->turn(restore, now_ns);
	if (restore->target && !restore->is_failed && now_ns >= restore->next_ns) {
		look(restore, now_ns);
		restore->next_ns = now_ns + mp_ms_in_ns(LOOK_MS);
	}
	if (restore->is_failed)
		give_up_attempt(restore, now_ns);
	else if (restore->is_done)
		finish_attempt(restore, now_ns);
	if (restore->link)
		mp_link_flush(restore->link);
	look_ns = restore->next_ns > now_ns ? restore->next_ns : now_ns;
	return next_ns < look_ns ? next_ns : look_ns;
}

bool mp_proxy_replace_redis(struct mp_proxy *proxy)
{
	if (!proxy->options.redis_backend)
		return false;
	__atomic_store_n(&proxy->transfer.replace_redis, true, __ATOMIC_RELEASE);
	return true;
}

/* Whatever it holds, and however it stands to the log: it is out of service until then. */
static void do_as_told(struct mp_proxy *proxy)
{
	const struct mp_target *target = &proxy->apply.target[mp_target_index(MP_REDIS)];

	if (!__atomic_exchange_n(&proxy->transfer.replace_redis, false, __ATOMIC_ACQ_REL))
		return;
	mp_warn("redis: an operator has it replaced by another replica's state");
	mp_transfer_want(proxy, target);
	proxy->transfer.restore.replaced |= bit_of(target);
	proxy->apply.stale = true;
}

uint64_t mp_transfer_turn(struct mp_proxy *proxy)
{
	struct mp_restore *restore = &proxy->transfer.restore;
	uint64_t now_ns = mp_now_ns(proxy);
	struct mp_target *target;

	do_as_told(proxy);
	mp_donations_turn(proxy);
	if (restore->gate_ns)
		tell_level(restore, now_ns);
	if (!restore->target && restore->link)
		release_when_read(restore, now_ns);
	if (!restore->target && restore->wanted && !restore->link && !proxy->draining &&
	    now_ns >= restore->next_ns && (target = next_target(restore)))
		begin_attempt(restore, target, now_ns);
	if (restore->target)
		return go_on(restore, now_ns);
	if (restore->wanted || restore->link)
		return restore->next_ns > now_ns ? restore->next_ns : now_ns + mp_ms_in_ns(LOOK_MS);
	return UINT64_MAX;
}
