/*
 * fake_mu.c - mu.h for proxy_world.h: one log in memory for all replicas. What
 * is committed, who leads and who is told of what is up to the test.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy_fakes.h"

enum { LOG_MAX = 65536 };

struct log_entry {
	uint64_t lsn, ballot, timestamp_ms;
	enum mu_entry_kind kind;
	char *payload;
	size_t bytes;
};
static struct log_entry entries[LOG_MAX];
static unsigned entry_count, committed;
static uint64_t round_number, ballot; /* the last one; its leader is world.leader */

struct mu {
	unsigned id;
	uint64_t ballot; /* led under as of its last step, 0: not leading */
	uint64_t fence_next, fence_done;
	unsigned known; /* entries known to be committed */
	unsigned next;  /* entry to hand out */
	bool placed;
	enum mu_backend_health health;
};
static struct mu members[WORLD_REPLICAS + 1];

struct mu *fake_mu_open(unsigned id)
{
	members[id] = (struct mu){.id = id};
	return &members[id];
}

void fake_mu_reset(void)
{
	for (unsigned i = 0; i < entry_count; i++)
		free(entries[i].payload);
	entry_count = committed = 0;
	round_number = ballot = 0;
}

static uint64_t lsn_of(unsigned index)
{
	return (index + 1) * UINT64_C(64);
}

static void append(uint64_t under, enum mu_entry_kind kind, const struct iovec *iov, int iovcnt,
		   uint64_t timestamp_ms)
{
	struct log_entry *entry = &entries[entry_count];
	size_t at = 0;

	assert_true(entry_count < LOG_MAX);
	*entry = (struct log_entry){.lsn = lsn_of(entry_count),
				    .ballot = under,
				    .timestamp_ms = timestamp_ms,
				    .kind = kind};
	for (int i = 0; i < iovcnt; i++)
		entry->bytes += iov[i].iov_len;
	entry->payload = malloc(entry->bytes + 1);
	for (int i = 0; i < iovcnt; at += iov[i++].iov_len)
		memcpy(entry->payload + at, iov[i].iov_base, iov[i].iov_len);
	entry_count++;
}

uint64_t mu_step(struct mu *mu, uint64_t now_ns)
{
	(void)now_ns;
	if (!world.hold_commit)
		committed = entry_count;
	if (!world.frozen[mu->id])
		mu->known = committed;
	if (mu->ballot != ballot)
		mu->fence_next = mu->fence_done = 0;
	mu->ballot = world.leader == mu->id ? ballot : 0;
	if (!world.hold_fence)
		mu->fence_done = mu->fence_next;
	return UINT64_MAX;
}

void mu_view(const struct mu *mu, struct mu_view *view)
{
	*view = (struct mu_view){
		.role = mu->ballot ? MU_ROLE_LEADER : MU_ROLE_FOLLOWER,
		.ballot = mu->ballot,
		.leader = world.leader,
		.commit_lsn = mu->known ? lsn_of(mu->known - 1) : 0,
		.fence = mu->fence_done,
	};
}

uint64_t mu_timestamp(const struct mu *mu, uint64_t wall_ms)
{
	(void)mu;
	return wall_ms;
}

/* It may have been deposed, and even elected again, since its last step. */
static bool leads(const struct mu *mu)
{
	return mu->ballot && world.leader == mu->id && mu->ballot == ballot;
}

enum mu_error mu_propose(struct mu *mu, const struct iovec *iov, int iovcnt, uint64_t timestamp_ms,
			 uint64_t *lsn)
{
	if (!leads(mu))
		return MU_ERR_NOT_LEADER;
	if (world.full)
		return MU_ERR_FULL;
	*lsn = lsn_of(entry_count);
	append(mu->ballot, MU_ENTRY_APPLICATION, iov, iovcnt, timestamp_ms);
	world.proposals++;
	return MU_OK;
}

enum mu_error mu_fence(struct mu *mu, uint64_t *ticket)
{
	if (!leads(mu))
		return MU_ERR_NOT_LEADER;
	*ticket = ++mu->fence_next;
	return MU_OK;
}

void mu_resign(struct mu *mu)
{
	world.resigned++;
	if (world.leader == mu->id)
		world_depose();
}

enum mu_error mu_hand_over(struct mu *mu, unsigned heir, const char **why)
{
	(void)mu;
	(void)heir;
	*why = "nobody else is there";
	return MU_ERR_INVALID;
}

enum mu_error mu_holds(const struct mu *mu, uint64_t era, uint64_t applied_lsn)
{
	(void)era;
	return applied_lsn < world.reclaimed_lsn[mu->id] ? MU_ERR_STALE : MU_OK;
}

enum mu_error mu_seek(struct mu *mu, uint64_t era, uint64_t applied_lsn)
{
	enum mu_error error = mu_holds(mu, era, applied_lsn);

	mu->placed = error == MU_OK;
	if (mu->placed)
		mu->next = (unsigned)(applied_lsn / 64);
	return error;
}

bool mu_next(struct mu *mu, struct mu_entry *out)
{
	const struct log_entry *entry = &entries[mu->next];

	if (!mu->placed || mu->next >= mu->known)
		return false;
	mu->next++;
	*out = (struct mu_entry){entry->lsn,  entry->ballot,  entry->timestamp_ms,
				 entry->kind, entry->payload, entry->bytes};
	return true;
}

bool mu_stale(const struct mu *mu)
{
	(void)mu;
	return false;
}

/* Nobody to restore a backend from. */
void mu_group_status(const struct mu *mu, struct mu_group_status *status)
{
	*status = (struct mu_group_status){.id = mu->id, .leader = world.leader};
}

void mu_applied(struct mu *mu, uint64_t lsn)
{
	assert_true(lsn <= (uint64_t)mu->next * 64);
}

void mu_set_backend(struct mu *mu, enum mu_backend_health health)
{
	mu->health = health;
}

const char *mu_strerror(enum mu_error error)
{
	return error == MU_OK ? "ok" : "fake error";
}

enum mu_backend_health world_health(unsigned id)
{
	return members[id].health;
}

void world_elect(unsigned id, bool keep)
{
	if (!keep) {
		while (entry_count > committed)
			free(entries[--entry_count].payload);
	}
	world.leader = id;
	ballot = (++round_number << 8) | id;
	append(ballot, MU_ENTRY_LEADER, NULL, 0, 0);
	committed = entry_count;
}

void world_depose(void)
{
	world.leader = 0;
}

void world_commit(void)
{
	committed = entry_count;
}
