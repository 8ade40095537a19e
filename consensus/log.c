/* log.c - entries, their checksums, and walking them. See log.h. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

#include "log.h"

/* Stretch the group's key to the length of XXH3's secret. */
static void derive_secret(uint8_t secret[MU_SECRET_BYTES], const uint8_t key[32])
{
	for (unsigned i = 0; i < MU_SECRET_BYTES / sizeof(XXH128_canonical_t); i++) {
		XXH128_canonical_t block;

		XXH128_canonicalFromHash(&block, XXH3_128bits_withSeed(key, 32, i + 1));
		memcpy(secret + i * sizeof(block), &block, sizeof(block));
	}
}

void mu_ring_init(struct mu_ring *ring, const struct mu_config *config, void *replication_region)
{
	ring->base = (uint8_t *)replication_region + MU_RING_OFFSET;
	ring->bytes = config->ring_bytes;
	ring->max_span = (uint32_t)mu_entry_span(config->max_entry_bytes);
	derive_secret(ring->secret, config->checksum_key);
}

/*
 * Of a header and of the payload behind `entry`. The header is the caller's
 * copy: the entry may be overwritten at this moment, and what decides how far
 * to read must not change on the way. A skip's payload is whatever lies in the
 * ring there: not covered.
 */
static uint64_t entry_checksum(const struct mu_ring *ring, const struct mu_entry_header *head,
			       const struct mu_entry_header *entry)
{
	struct mu_entry_header covered = *head;

	covered.checksum = 0;
	if (head->kind != MU_KIND_SKIP && head->length)
		covered.checksum = mu_hash(entry + 1, head->length, ring->secret);
	return mu_hash(&covered, sizeof(covered), ring->secret);
}

void mu_entry_seal(const struct mu_ring *ring, struct mu_entry_header *entry)
{
	entry->checksum = entry_checksum(ring, entry, entry);
}

static void fill_position(struct mu_position *position, const struct mu_entry_header *head,
			  uint64_t span)
{
	*position = (struct mu_position){
		.lsn = head->lsn,
		.prev_lsn = head->prev_lsn,
		.prev_checksum = head->prev_checksum,
		.commit_lsn = head->commit_lsn,
		.end = head->lsn + span,
		.checksum = head->checksum,
		.ballot = head->ballot,
		.timestamp_ms = head->timestamp_ms,
		.kind = head->kind,
	};
}

/*
 * The header at `entry`, copied, if it can be one for this LSN, and what the entry
 * takes of the ring. Remote writes race with this by design: what is torn fails the
 * checksum. lsn is looked at first, so that empty ring space costs one load.
 */
__attribute__((no_sanitize("thread"))) static bool
read_header(const struct mu_ring *ring, const struct mu_entry_header *entry, uint64_t lsn,
	    struct mu_entry_header *head, uint64_t *span)
{
	uint64_t room = mu_ring_room(ring, lsn);

	if (__atomic_load_n(&entry->lsn, __ATOMIC_ACQUIRE) != lsn)
		return false;
	memcpy(head, entry, sizeof(*head));
	*span = mu_entry_span(head->length);
	if (head->lsn != lsn || head->commit_lsn > lsn || head->length > ring->bytes ||
	    *span > room)
		return false;
	if (head->kind == MU_KIND_SKIP)
		*span = room;
	else if (*span > ring->max_span)
		return false;
	return true;
}

bool mu_entry_valid(const struct mu_ring *ring, const struct mu_entry_header *entry, uint64_t lsn,
		    uint64_t available, struct mu_position *position, bool *short_of)
{
	struct mu_entry_header head;
	uint64_t span;
	bool is_short = available < sizeof(head);

	if (short_of)
		*short_of = is_short;
	if (is_short || !read_header(ring, entry, lsn, &head, &span))
		return false;
	/* A skip has no payload to be there. */
	is_short = head.kind != MU_KIND_SKIP && span > available;
	if (short_of)
		*short_of = is_short;
	if (is_short ||
	    (entry_checksum(ring, &head, entry) != head.checksum && !MU_MUTANT(checksum_unchecked)))
		return false;
	fill_position(position, &head, span);
	return true;
}

bool mu_ring_header(const struct mu_ring *ring, uint64_t lsn, struct mu_position *position)
{
	struct mu_entry_header head;
	uint64_t span;

	if (!read_header(ring, mu_ring_at(ring, lsn), lsn, &head, &span))
		return false;
	fill_position(position, &head, span);
	return true;
}

bool mu_entry_follows(const struct mu_position *previous, const struct mu_position *next)
{
	return (next->prev_checksum == previous->checksum && next->prev_lsn == previous->lsn &&
		next->ballot >= previous->ballot) ||
	       MU_MUTANT(tail_rule);
}

void mu_ring_position(const struct mu_ring *ring, uint64_t lsn, struct mu_position *position)
{
	const struct mu_entry_header *entry = mu_ring_at(ring, lsn);
	uint64_t span = entry->kind == MU_KIND_SKIP ? mu_ring_room(ring, lsn)
						    : mu_entry_span(entry->length);

	assert(entry->lsn == lsn);
	fill_position(position, entry, span);
}

bool mu_ring_entry(const struct mu_ring *ring, uint64_t lsn, struct mu_position *position)
{
	return mu_entry_valid(ring, mu_ring_at(ring, lsn), lsn, mu_ring_room(ring, lsn), position,
			      NULL);
}

uint64_t mu_ring_configuration(const struct mu_ring *ring, const struct mu_position *position)
{
	uint64_t configuration;
	struct mu_position after;

	if (position->kind != MU_KIND_LEADER && position->kind != MU_KIND_CONFIGURATION)
		return 0;
	configuration = __atomic_load_n((const uint64_t *)(mu_ring_at(ring, position->lsn) + 1),
					__ATOMIC_ACQUIRE);
	/* Whole still after it was read: so it was as it was read. */
	if (!mu_ring_entry(ring, position->lsn, &after) || after.checksum != position->checksum)
		return 0;
	return configuration;
}

bool mu_ring_next(const struct mu_ring *ring, const struct mu_position *previous,
		  struct mu_position *next)
{
	return mu_ring_entry(ring, previous->end, next) && mu_entry_follows(previous, next);
}

uint64_t mu_ring_oldest(const struct mu_ring *ring, const struct mu_position *newest,
			uint64_t base_lsn)
{
	struct mu_position at = *newest, previous;

	/* Whatever was overwritten since, or lay there before, ties in with nothing. */
	while (at.lsn > base_lsn && at.prev_lsn >= base_lsn && at.prev_lsn < at.lsn &&
	       newest->end - at.prev_lsn <= ring->bytes &&
	       mu_ring_entry(ring, at.prev_lsn, &previous) && previous.end == at.lsn &&
	       mu_entry_follows(&previous, &at))
		at = previous;
	return at.lsn;
}

void mu_ring_genesis(struct mu_ring *ring, uint64_t base_lsn, uint64_t nonce)
{
	struct mu_entry_header *entry = mu_ring_at(ring, base_lsn);

	*entry = (struct mu_entry_header){
		.lsn = base_lsn,
		.commit_lsn = base_lsn,
		.kind = MU_KIND_GENESIS,
		.prev_checksum = nonce,
		.prev_lsn = MU_LSN_NONE,
	};
	mu_entry_seal(ring, entry);
}

void mu_line_seal(struct mu_line *line)
{
	line->check = XXH3_64bits_withSeed(line->word, sizeof(line->word), MU_LAYOUT_MAGIC);
}

bool mu_line_intact(const struct mu_line *line)
{
	return line->check == XXH3_64bits_withSeed(line->word, sizeof(line->word), MU_LAYOUT_MAGIC);
}

void mu_line_publish(struct mu_line *shared, const struct mu_line *line)
{
	struct mu_line sealed = *line;

	mu_line_seal(&sealed);
	for (unsigned i = 0; i < 7; i++) {
		mu_interruption_point();
		__atomic_store_n(&shared->word[i], sealed.word[i], __ATOMIC_RELAXED);
	}
	mu_store(&shared->check, sealed.check);
}

bool mu_line_read(struct mu_line *out, const struct mu_line *shared)
{
	out->check = mu_load(&shared->check);
	for (unsigned i = 0; i < 7; i++)
		out->word[i] = __atomic_load_n(&shared->word[i], __ATOMIC_RELAXED);
	return mu_line_intact(out);
}
