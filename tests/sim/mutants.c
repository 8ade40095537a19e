/*
 * mutants.c - proof that the simulator can see: the core is broken in every
 * way of consensus/mutant.h, one at a time, and each must be caught, within a
 * bound of seeds, by a check that says what such a fault must lead to. The seed
 * that catches it must pass without it.
 */
#include "mutant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "jobs.h"
#include "options.h"

#define SEEDS_MAX 1000 /* for one mutant */

unsigned mu_mutant;

static const struct {
	const char *name, *rule, *what;
} mutants[MU_MUTANTS_END] = {
#define ROW(name, rule, what) [MU_MUTANT_##name] = {#name, rule, what},
	MU_MUTANT_LIST(ROW)
#undef ROW
};

const char *mu_mutant_name(unsigned mutant)
{
	return mutants[mutant].name;
}

const char *mu_mutant_rule(unsigned mutant)
{
	return mutants[mutant].rule;
}

const char *mu_mutant_what(unsigned mutant)
{
	return mutants[mutant].what;
}

#define BIT(finding) (1u << (finding))
/* What a fault in the agreement shows as, depending on whom it strikes first. */
#define UNSAFE                                                                                    \
	(BIT(FOUND_DISAGREEMENT) | BIT(FOUND_DISORDER) | BIT(FOUND_INVENTION) | BIT(FOUND_LOSS) | \
	 BIT(FOUND_STALE_READ))
#define STUCK BIT(FOUND_NO_PROGRESS)

/* How to catch a mutant: by which checks, and under which bias if any will not do. */
struct hunt {
	unsigned by; /* BIT(finding)s */
	const char *schedule;
	bool told; /* not hunted: chance stages it too rarely, a transcript does (tests/scenario) */
};
/* Those not named here must show as an unsafe agreement, under any schedule. */
static const struct hunt hunts[MU_MUTANTS_END] = {
	[MU_MUTANT_skip_revoke] = {BIT(FOUND_CONTRACT), NULL},
	[MU_MUTANT_grant_lower_ballot] = {BIT(FOUND_CONTRACT), NULL},
	[MU_MUTANT_keep_failed_follower] = {STUCK, NULL},
	[MU_MUTANT_never_steps_down] = {STUCK, NULL},
	[MU_MUTANT_leads_without_majority] = {STUCK, NULL},
	[MU_MUTANT_fence_at_once] = {BIT(FOUND_STALE_READ), NULL},
	[MU_MUTANT_fence_counts_older] = {BIT(FOUND_STALE_READ), NULL},
	[MU_MUTANT_reuse_unapplied] = {BIT(FOUND_REUSE), NULL},
	[MU_MUTANT_reuse_own_unapplied] = {BIT(FOUND_REUSE), NULL},
	[MU_MUTANT_reuse_source] = {BIT(FOUND_REUSE), NULL},
	[MU_MUTANT_overrun_unseen] = {STUCK, NULL},
	[MU_MUTANT_grant_before_record] = {BIT(FOUND_CONTRACT), NULL},
	[MU_MUTANT_forget_granted] = {BIT(FOUND_CONTRACT), NULL},
	[MU_MUTANT_commit_word_ahead] = {UNSAFE | BIT(FOUND_REUSE), NULL},
	[MU_MUTANT_reuse_named] = {BIT(FOUND_REUSE), "lagging"},
	[MU_MUTANT_own_word_behind] = {BIT(FOUND_REUSE), NULL},
	[MU_MUTANT_probed_unnamed] = {BIT(FOUND_REUSE), "lagging"},
	[MU_MUTANT_join_outrun] = {BIT(FOUND_REUSE), NULL},
	[MU_MUTANT_adopt_outrun] = {BIT(FOUND_REUSE), NULL},
	[MU_MUTANT_never_install] = {STUCK, NULL},
	[MU_MUTANT_equal_ballot_refused] = {STUCK, NULL},
	[MU_MUTANT_withhold_higher] = {STUCK, NULL},
	[MU_MUTANT_shut_out_stays] = {STUCK, NULL},
	[MU_MUTANT_campaign_alone] = {STUCK, NULL},
	[MU_MUTANT_campaign_on_old_news] = {.told = true},
	[MU_MUTANT_looks_starve_score] = {.told = true},
	[MU_MUTANT_endless_takeover] = {.told = true},
	[MU_MUTANT_all_hold_space] = {.told = true},
	[MU_MUTANT_coming_untold] = {.told = true},
	[MU_MUTANT_eligible_by_word] = {STUCK, NULL},
	[MU_MUTANT_take_all_voting] = {.told = true},
	[MU_MUTANT_recover_amid_start] = {.told = true},
	[MU_MUTANT_beat_alone] = {STUCK, NULL},
	[MU_MUTANT_no_wake_up] = {STUCK, NULL},
	[MU_MUTANT_score_never_falls] = {STUCK, NULL},
	[MU_MUTANT_leads_without_backend] = {STUCK, NULL},
	[MU_MUTANT_cold_start_one_phase] = {UNSAFE | STUCK, NULL},
	[MU_MUTANT_cold_start_over_grant] = {UNSAFE | BIT(FOUND_MISUSE), "power"},
	[MU_MUTANT_nonce_comes_again] = {UNSAFE | STUCK | BIT(FOUND_MISUSE), "power"},
	[MU_MUTANT_never_join_started] = {STUCK, NULL},
	[MU_MUTANT_time_goes_back] = {BIT(FOUND_DISORDER), NULL},
	[MU_MUTANT_lead_at_once] = {BIT(FOUND_STALE_READ), NULL},
};

struct capture {
	struct recipe recipe;
	struct verdict verdict;
	unsigned seeds;     /* it took */
	unsigned otherwise; /* of these failed, but not as expected */
};

static bool is_expected(unsigned mutant, enum finding finding)
{
	unsigned by = hunts[mutant].by != 0 ? hunts[mutant].by : UNSAFE;

	return by & BIT(finding);
}

/* Keep the lowest seed that was caught: what is found does not depend on who is faster. */
static void take(struct jobs *jobs, struct capture *best)
{
	struct recipe recipe;
	struct verdict verdict;

	jobs_wait(jobs, &recipe, &verdict);
	if (verdict.finding == FOUND_NOTHING)
		return;
	if (!is_expected(recipe.mutant, verdict.finding)) {
		best->otherwise++;
		return;
	}
	if (best->verdict.finding != FOUND_NOTHING && recipe.seed > best->recipe.seed)
		return;
	best->recipe = recipe;
	best->verdict = verdict;
}

static void hunt(struct jobs *jobs, const struct options *options, unsigned mutant,
		 struct capture *capture)
{
	struct recipe recipe = options->recipe;
	uint64_t most = options->seeds != 0 ? options->seeds : SEEDS_MAX;

	*capture = (struct capture){.seeds = 0};
	recipe.mutant = mutant;
	if (recipe.schedule == NULL)
		recipe.schedule = hunts[mutant].schedule;
	for (recipe.seed = 1; recipe.seed <= most; recipe.seed++) {
		if (jobs->running == jobs->limit)
			take(jobs, capture);
		if (capture->verdict.finding != FOUND_NOTHING)
			break;
		jobs_start(jobs, &recipe);
	}
	while (jobs->running > 0)
		take(jobs, capture);
	capture->seeds = (unsigned)capture->recipe.seed;
}

/* What is wrong about how it was caught; NULL: nothing. */
static const char *judge(struct jobs *jobs, const struct capture *capture)
{
	struct recipe control = capture->recipe;

	if (capture->verdict.finding == FOUND_NOTHING)
		return capture->otherwise > 0 ? "NOT CAUGHT AS EXPECTED" : "SURVIVED";
	control.mutant = 0;
	if (jobs_try(jobs, &control).finding != FOUND_NOTHING)
		return "THE SEED FAILS WITHOUT IT";
	return NULL;
}

static bool check(struct jobs *jobs, const struct options *options, unsigned mutant)
{
	time_t began = time(NULL);
	struct capture capture;
	const char *wrong;

	hunt(jobs, options, mutant, &capture);
	wrong = judge(jobs, &capture);
	printf("%-24s %-6s %-10s %5u %5u  %-13s %3jd s%s%s\n", mu_mutant_name(mutant),
	       mu_mutant_rule(mutant),
	       capture.recipe.schedule != NULL ? capture.recipe.schedule : "any", capture.seeds,
	       capture.otherwise, finding_name(capture.verdict.finding),
	       (intmax_t)(time(NULL) - began), wrong != NULL ? "  " : "",
	       wrong != NULL ? wrong : "");
	if (options->verbose || wrong != NULL)
		printf("    %s\n    %s\n", mu_mutant_what(mutant), capture.verdict.what);
	fflush(stdout);
	return wrong == NULL;
}

int run_mutants(const struct options *options)
{
	unsigned caught = 0, missed = 0;
	struct jobs jobs;

	jobs_init(&jobs, options->program, options->jobs);
	jobs.voice = RUN_QUIET;
	printf("%-24s %-6s %-10s %5s %5s  %s\n", "mutant", "rule", "schedule", "seeds", "other",
	       "caught by");
	for (unsigned mutant = 1; mutant < MU_MUTANTS_END; mutant++) {
		if (options->recipe.mutant != 0 && options->recipe.mutant != mutant)
			continue;
		if (hunts[mutant].told && options->recipe.mutant == 0)
			continue;
		if (check(&jobs, options, mutant))
			caught++;
		else
			missed++;
	}
	printf("%u mutants caught, %u not\n", caught, missed);
	return missed > 0;
}
