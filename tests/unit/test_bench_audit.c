/* test_bench_audit.c - mubench's audit finds what is lost, missing, or not the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench_audit.h"

enum { REPLICAS = 3 };

struct world {
	struct bench_board *board;
	struct bench_audit audit;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->board = calloc(1, sizeof(*w->board));
	assert_non_null(w->board);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	free(w->board);
	free(w);
	return 0;
}

static void write_one(struct world *w, unsigned id, struct bench_applied entry)
{
	struct bench_seat *seat = &w->board->seat[id];
	uint64_t number = atomic_load(&seat->applied);

	*bench_journal_at(seat, number) = entry;
	atomic_store(&seat->applied, number + 1);
}

/* All replicas apply the proposals from `first` to `last` of a term. */
static void write_all(struct world *w, uint64_t ballot, uint64_t first, uint64_t last)
{
	for (uint64_t sequence = first; sequence <= last; sequence++)
		for (unsigned id = 1; id <= REPLICAS; id++)
			write_one(w, id,
				  (struct bench_applied){
					  .lsn = ballot * 1000 + sequence * 64,
					  .ballot = ballot,
					  .sequence = sequence,
					  .hash = ballot ^ sequence,
				  });
}

static void acknowledge(struct world *w, unsigned slot, uint64_t ballot, uint64_t sequence)
{
	struct bench_term *term = &w->board->seat[ballot & 0xff].term[slot];

	atomic_store(&term->ballot, ballot);
	atomic_store(&term->acknowledged, sequence);
}

static void audit(struct world *w)
{
	bench_audit_note(&w->audit, w->board, REPLICAS);
	bench_audit_compare(&w->audit, w->board, REPLICAS, atomic_load(&w->board->seat[1].applied));
}

static void all_is_well(void **state)
{
	struct world *w = *state;

	acknowledge(w, 0, 0x101, 5);
	write_all(w, 0x101, 1, 6); /* one more was committed than its leader lived to see */
	acknowledge(w, 0, 0x202, 3);
	write_all(w, 0x202, 1, 3);
	audit(w);
	acknowledge(w, 0, 0x202, 9);
	write_all(w, 0x202, 4, 9);
	acknowledge(w, 1, 0x301, 2);
	write_all(w, 0x301, 1, 2);
	audit(w);
	assert_int_equal(w->audit.lost, 0);
	assert_int_equal(w->audit.different, 0);
	assert_int_equal(w->audit.acknowledged, 5 + 9 + 2);
	assert_int_equal(w->audit.compared, 6 + 9 + 2);
	assert_int_equal(atomic_load(&w->board->audited), 6 + 9 + 2);
}

static void what_was_acknowledged_last_is_lost(void **state)
{
	struct world *w = *state;

	acknowledge(w, 0, 0x101, 8);
	write_all(w, 0x101, 1, 6);
	acknowledge(w, 0, 0x202, 3);
	write_all(w, 0x202, 1, 3);
	audit(w);
	assert_int_equal(w->audit.lost, 2);
	audit(w);
	assert_int_equal(w->audit.lost, 2); /* and is not counted again */
}

static void a_whole_term_is_lost(void **state)
{
	struct world *w = *state;

	acknowledge(w, 0, 0x101, 4);
	acknowledge(w, 0, 0x202, 3);
	write_all(w, 0x202, 1, 3);
	audit(w);
	assert_int_equal(w->audit.lost, 4);
	assert_int_equal(w->audit.different, 0);
}

static void one_replica_has_something_else(void **state)
{
	struct world *w = *state;

	write_all(w, 0x101, 1, 4);
	bench_journal_at(&w->board->seat[3], 2)->hash++;
	audit(w);
	assert_int_equal(w->audit.different, 1);
}

static void a_proposal_is_missing_in_between(void **state)
{
	struct world *w = *state;

	write_all(w, 0x101, 1, 2);
	write_all(w, 0x101, 4, 5);
	audit(w);
	assert_int_equal(w->audit.different, 1);
}

static void a_term_begins_late_or_comes_back(void **state)
{
	struct world *w = *state;

	write_all(w, 0x202, 2, 3);
	audit(w);
	assert_int_equal(w->audit.different, 1);
	write_all(w, 0x101, 1, 1);
	audit(w);
	assert_int_equal(w->audit.different, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_is_well, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_acknowledged_last_is_lost, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_whole_term_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(one_replica_has_something_else, setup, teardown),
		cmocka_unit_test_setup_teardown(a_proposal_is_missing_in_between, setup, teardown),
		cmocka_unit_test_setup_teardown(a_term_begins_late_or_comes_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
