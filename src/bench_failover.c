/*
 * bench_failover.c - see the header.
 *
 * What is timed, as in section 7.3 of the paper: `detection`, from the signal
 * that ends the leader to when the next one counts it as failed; `switch`, to
 * when a majority has given the next one the permission to write; `commit`, to
 * when it has seen a proposal committed: it has taken over the log by then.
 *
 * Whoever grants to the next leader takes the permission from the old one first:
 * within the switch, `revoke` and `barrier` are what that took all of them, one
 * after the other, and `grant` is what is left: asking, granting, being told.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench_failover.h"
#include "bench_replica.h"
#include "bench_samples.h"
#include "bench_watch.h"
#include "clock.h"

#define PATIENCE_NS 30000000000u
#define LOOK_NS 500000u
#define LEAD_NS 1000000000u

enum way { WAY_KILL, WAY_STOP, WAYS };
enum phase {
	PHASE_DETECTION,
	PHASE_SWITCH,
	/* Parts of the switch, where the fabric can tell. */
	PHASE_REVOKE,
	PHASE_BARRIER,
	PHASE_GRANT,
	PHASE_COMMIT,
	PHASE_TOTAL,
	PHASES
};

static const char *const way_names[WAYS] = {"kill -9", "stop"};
static const char *const phase_names[PHASES] = {"detection", "switch", "- revoke", "- barrier",
						"- grant",   "commit", "total"};

struct failover {
	struct bench_watch watch;
	struct bench_samples samples[WAYS][PHASES];
	uint64_t unprovoked; /* leaders that changed although nothing was done to them */
};

struct event {
	enum way way;
	unsigned victim, heir;
	uint64_t since_ns;
	uint64_t revocations[MU_ID_SLOTS]; /* of each replica, until then */
	uint64_t ns[PHASES];
};

static struct bench_seat *seat_of(struct failover *f, unsigned id)
{
	return &f->watch.board->seat[id];
}

/* ------------------------------------------------------------- one event */

/* The one who has committed under a ballot above this; 0: nobody yet. */
static unsigned find_heir(struct failover *f, unsigned victim, uint64_t ballot)
{
	for (unsigned id = 1; id <= f->watch.run.options->replicas; id++)
		if (id != victim && atomic_load(&seat_of(f, id)->committed_ballot) > ballot)
			return id;
	return 0;
}

static unsigned wait_for_heir(struct failover *f, unsigned victim, uint64_t ballot)
{
	uint64_t since_ns = clock_ns();
	unsigned heir = 0;

	while (heir == 0 && clock_ns() - since_ns < PATIENCE_NS &&
	       !bench_run_is_over(&f->watch.run)) {
		bench_rest(LOOK_NS);
		heir = find_heir(f, victim, ballot);
	}
	if (heir == 0 && !bench_run_is_over(&f->watch.run))
		fputs("mubench: nobody takes over\n", stderr);
	return heir;
}

/* A replica that did not grant, or has not told yet, has no part in it. */
static void take_revocations(struct failover *f, struct event *event)
{
	for (unsigned id = 1; id <= f->watch.run.options->replicas; id++) {
		struct bench_seat *seat = seat_of(f, id);

		if (id == event->victim ||
		    atomic_load(&seat->revocations) == event->revocations[id])
			continue;
		event->ns[PHASE_REVOKE] += atomic_load(&seat->revoke_ns);
		event->ns[PHASE_BARRIER] += atomic_load(&seat->barrier_ns);
	}
}

static uint64_t not_before(uint64_t ns, uint64_t earliest_ns)
{
	return ns > earliest_ns ? ns : earliest_ns;
}

/* By chance it may have been taken for failed before it was; the phases add up all the same. */
static void take_times(struct failover *f, struct event *event)
{
	struct bench_seat *heir = seat_of(f, event->heir);
	uint64_t failed_ns =
		not_before(atomic_load(&heir->failed_ns[event->victim]), event->since_ns);
	uint64_t granted_ns = not_before(atomic_load(&heir->granted_ns), failed_ns);
	uint64_t committed_ns = not_before(atomic_load(&heir->committed_ns), granted_ns);

	event->ns[PHASE_DETECTION] = failed_ns - event->since_ns;
	event->ns[PHASE_SWITCH] = granted_ns - failed_ns;
	take_revocations(f, event);
	event->ns[PHASE_GRANT] = not_before(event->ns[PHASE_SWITCH],
					    event->ns[PHASE_REVOKE] + event->ns[PHASE_BARRIER]) -
				 event->ns[PHASE_REVOKE] - event->ns[PHASE_BARRIER];
	event->ns[PHASE_COMMIT] = committed_ns - granted_ns;
	event->ns[PHASE_TOTAL] = committed_ns - event->since_ns;
	for (int i = 0; i < PHASES; i++)
		bench_samples_add(&f->samples[event->way][i], event->ns[i]);
}

static bool bring_back(struct failover *f, const struct event *event)
{
	if (event->way == WAY_STOP) {
		kill(f->watch.process[event->victim], SIGCONT);
		return true;
	}
	bench_watch_kill(&f->watch, event->victim); /* takes the exit status */
	return bench_watch_launch(&f->watch, event->victim);
}

/* The ballot under which this replica leads, and has committed; 0 if it does not for long. */
static uint64_t ballot_of(struct failover *f, unsigned leader)
{
	uint64_t since_ns = clock_ns();

	while (clock_ns() - since_ns < LEAD_NS) {
		const struct bench_seat *seat = seat_of(f, leader);
		uint64_t terms = atomic_load(&seat->terms);
		uint64_t ballot = atomic_load(&seat->term[(terms - 1) % BENCH_TERMS].ballot);

		if (terms > 0 && atomic_load(&seat->committed_ballot) == ballot)
			return ballot;
		bench_rest(LOOK_NS);
	}
	return 0;
}

static bool run_event(struct failover *f, struct event *event)
{
	uint64_t ballot, terms;

	do {
		event->victim = bench_watch_whole(&f->watch);
		if (event->victim == 0)
			return false;
		ballot = ballot_of(f, event->victim);
	} while (ballot == 0);
	/* Anywhere between two ticks. */
	bench_rest(f->watch.run.options->mu.tick_ns * 2 * (uint64_t)(rand() % 1000) / 1000);
	terms = bench_watch_terms(&f->watch);
	for (unsigned id = 1; id <= f->watch.run.options->replicas; id++)
		event->revocations[id] = atomic_load(&seat_of(f, id)->revocations);
	event->since_ns = clock_ns();
	kill(f->watch.process[event->victim], event->way == WAY_KILL ? SIGKILL : SIGSTOP);
	event->heir = wait_for_heir(f, event->victim, ballot);
	if (event->heir == 0)
		return false;
	take_times(f, event);
	if (!bring_back(f, event) || bench_watch_whole(&f->watch) == 0)
		return false;
	f->unprovoked += bench_watch_terms(&f->watch) - terms - 1;
	return bench_watch_audit(&f->watch);
}

/* ---------------------------------------------------------------- report */

static bool has_parts(const struct bench_options *options)
{
	return options->fabric->revocation != NULL;
}

static void report_begin(const struct bench_options *options)
{
	const struct mu_config *mu = &options->mu;

	printf("# mubench %s: failover of %u replicas over %s, each a process; %ld processors, "
	       "%u processes beside that spin\n",
	       PACKAGE_VERSION, options->replicas, options->fabric->name,
	       sysconf(_SC_NPROCESSORS_ONLN), options->busy);
	printf("# tick %g us; score at most %u, failed below %u, alive above %u, gain %u, loss "
	       "%u; a proposal every %g us\n",
	       (double)mu->tick_ns / 1e3, mu->score_max, mu->score_failed, mu->score_alive,
	       mu->score_gain, mu->score_loss, (double)options->pace_ns / 1e3);
	printf("# detection: from the signal to where the next leader counts it as failed; "
	       "switch: to where a\n#   majority has granted; commit: to where its first "
	       "proposal is committed. Times are us\n");
	if (has_parts(options))
		printf("# of the switch, over all who granted: revoke: taking the permission away; "
		       "barrier: making\n#   certain that nothing lands any more; grant: all "
		       "else\n");
	if (options->csv)
		printf("way,leader,next,detection_us,switch_us,commit_us,total_us%s\n",
		       has_parts(options) ? ",revoke_us,barrier_us,grant_us" : "");
	fflush(stdout);
}

static void report_event(const struct event *event, bool parts)
{
	printf("%s,%u,%u,%.1f,%.1f,%.1f,%.1f", event->way == WAY_KILL ? "kill" : "stop",
	       event->victim, event->heir, (double)event->ns[PHASE_DETECTION] / 1e3,
	       (double)event->ns[PHASE_SWITCH] / 1e3, (double)event->ns[PHASE_COMMIT] / 1e3,
	       (double)event->ns[PHASE_TOTAL] / 1e3);
	for (int phase = PHASE_REVOKE; parts && phase <= PHASE_GRANT; phase++)
		printf(",%.1f", (double)event->ns[phase] / 1e3);
	printf("\n");
	fflush(stdout);
}

/* How many took how long, up to which bound: ten bounds a decade. */
static void report_histogram(const char *prefix, const struct bench_samples *samples)
{
	static const unsigned steps[] = {10, 12, 15, 20, 25, 30, 40, 50, 60, 80};
	uint64_t bound_ns = 0;
	size_t below = 0;

	printf("%s%-9s  how many took up to so many us:", prefix, "");
	for (uint64_t decade_ns = 1000; below < samples->count; decade_ns *= 10) {
		for (int i = 0; i < 10 && below < samples->count; i++) {
			size_t before = below;

			bound_ns = decade_ns * steps[i] / 10;
			while (below < samples->count && samples->ns[below] <= bound_ns)
				below++;
			if (below > before)
				printf(" %g:%zu", (double)bound_ns / 1e3, below - before);
		}
	}
	printf("\n");
}

static void report_phase(const char *prefix, const char *name, struct bench_samples *samples)
{
	struct bench_figures us = bench_samples_figures(samples);

	printf("%s%-9s %9.0f %9.0f %9.0f %9.0f %9.0f\n", prefix, name, us.min / 1e3, us.p50 / 1e3,
	       us.p90 / 1e3, us.p99 / 1e3, us.max / 1e3);
	report_histogram(prefix, samples);
}

static void report_end(struct failover *f)
{
	const char *prefix = f->watch.run.options->csv ? "# " : "";
	const struct bench_audit *audit = &f->watch.audit;

	for (int way = 0; way < WAYS; way++) {
		printf("%s%s, %zu times:\n", prefix, way_names[way],
		       f->samples[way][PHASE_TOTAL].count);
		printf("%s%-9s %9s %9s %9s %9s %9s\n", prefix, "", "min", "p50", "p90", "p99",
		       "max");
		for (int phase = 0; phase < PHASES; phase++) {
			if (phase >= PHASE_REVOKE && phase <= PHASE_GRANT &&
			    !has_parts(f->watch.run.options))
				continue;
			report_phase(prefix, phase_names[phase], &f->samples[way][phase]);
		}
	}
	printf("%sleader changes beyond these: %llu\n", prefix, (unsigned long long)f->unprovoked);
	printf("%sproposals: %llu acknowledged, %llu of them lost; %llu applied everywhere, %llu "
	       "of them not the same or out of order\n",
	       prefix, (unsigned long long)audit->acknowledged, (unsigned long long)audit->lost,
	       (unsigned long long)audit->compared, (unsigned long long)audit->different);
}

/* ------------------------------------------------------------------- run */

static bool allocate(struct failover *f, unsigned long events)
{
	for (int way = 0; way < WAYS; way++)
		for (int phase = 0; phase < PHASES; phase++)
			if (!bench_samples_init(&f->samples[way][phase], events))
				return false;
	return true;
}

static bool run_events(struct failover *f)
{
	const struct bench_options *options = f->watch.run.options;

	for (unsigned long i = 0; i < options->events * WAYS; i++) {
		struct event event = {.way = (enum way)(i % WAYS)};

		if (!run_event(f, &event))
			return false;
		if (options->csv)
			report_event(&event, has_parts(options));
	}
	return true;
}

int bench_failover(const struct bench_options *options)
{
	struct failover *f = calloc(1, sizeof(*f));
	bool done = false;

	if (f == NULL || !allocate(f, options->events)) {
		fputs("mubench: out of memory\n", stderr);
		return EXIT_FAILURE;
	}
	if (bench_watch_start(&f->watch, options)) {
		report_begin(options);
		done = run_events(f);
		report_end(f);
		done = done && f->watch.audit.lost == 0 && f->watch.audit.different == 0;
		bench_watch_stop(&f->watch);
	}
	for (int way = 0; way < WAYS; way++)
		for (int phase = 0; phase < PHASES; phase++)
			bench_samples_free(&f->samples[way][phase]);
	free(f);
	return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
