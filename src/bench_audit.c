/* bench_audit.c - see the header. */
#include "config.h"

#include <string.h>

#include "bench_audit.h"

void bench_audit_note(struct bench_audit *audit, struct bench_board *board, unsigned replicas)
{
	for (unsigned id = 1; id <= replicas; id++) {
		for (unsigned i = 0; i < BENCH_TERMS; i++) {
			struct bench_term *told = &board->seat[id].term[i];
			struct bench_audit_term *term = &audit->term[id][i];
			uint64_t acknowledged = atomic_load(&told->acknowledged);
			uint64_t ballot = atomic_load(&told->ballot);

			if (term->ballot != ballot)
				*term = (struct bench_audit_term){.ballot = ballot};
			if (acknowledged > term->acknowledged)
				term->acknowledged = acknowledged;
		}
	}
}

/* The term that a ballot belongs to; NULL: its replica knows nothing of it any more. */
static struct bench_audit_term *find_term(struct bench_audit *audit, uint64_t ballot)
{
	unsigned owner = (unsigned)(ballot & 0xff);

	for (unsigned i = 0; owner < MU_ID_SLOTS && i < BENCH_TERMS; i++)
		if (audit->term[owner][i].ballot == ballot)
			return &audit->term[owner][i];
	return NULL;
}

/* Every leader's proposals are there from the first on, and no old leader's behind a new one's. */
static bool is_in_order(const struct bench_audit *audit, const struct bench_applied *entry)
{
	return entry->ballot == audit->ballot
		       ? entry->sequence == audit->sequence + 1
		       : entry->ballot > audit->ballot && entry->sequence == 1;
}

static bool is_same_everywhere(struct bench_board *board, unsigned replicas, uint64_t number)
{
	const struct bench_applied *first = bench_journal_at(&board->seat[1], number);

	for (unsigned id = 2; id <= replicas; id++)
		if (memcmp(bench_journal_at(&board->seat[id], number), first, sizeof(*first)) != 0)
			return false;
	return true;
}

/* What was acknowledged must be held. */
static void settle_terms(struct bench_audit *audit, unsigned replicas)
{
	for (unsigned id = 1; id <= replicas; id++) {
		for (unsigned i = 0; i < BENCH_TERMS; i++) {
			struct bench_audit_term *term = &audit->term[id][i];
			uint64_t found = term->held > term->counted ? term->held : term->counted;

			if (term->acknowledged <= term->counted)
				continue;
			if (term->acknowledged > found)
				audit->lost += term->acknowledged - found;
			audit->acknowledged += term->acknowledged - term->counted;
			term->counted = term->acknowledged;
		}
	}
}

void bench_audit_compare(struct bench_audit *audit, struct bench_board *board, unsigned replicas,
			 uint64_t applied)
{
	struct bench_audit_term *term = find_term(audit, audit->ballot);

	for (; audit->compared < applied; audit->compared++) {
		const struct bench_applied *entry =
			bench_journal_at(&board->seat[1], audit->compared);

		if (!is_same_everywhere(board, replicas, audit->compared) ||
		    !is_in_order(audit, entry))
			audit->different++;
		if (entry->ballot != audit->ballot)
			term = find_term(audit, entry->ballot);
		audit->ballot = entry->ballot;
		audit->sequence = entry->sequence;
		if (term != NULL)
			term->held = entry->sequence;
	}
	settle_terms(audit, replicas);
	atomic_store(&board->audited, audit->compared);
}
