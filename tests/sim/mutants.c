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

#include "jobs.h"
#include "options.h"

#define SEEDS_MAX 500 /* for one mutant */

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

/* How to catch a mutant: by which checks, and under which schedule if not any will do. */
struct hunt {
	unsigned by; /* BIT(finding)s */
	const char *schedule;
	uint64_t seed;          /* known to catch it; others follow if it does no more */
	const char *transcript; /* no run can show it, see consensus/mutant.h, but this does */
};
/* Those not named here must show as an unsafe agreement, under any schedule. */
static const struct hunt hunts[MU_MUTANTS_END] = {
	[MU_MUTANT_skip_revoke] = {.by = BIT(FOUND_CONTRACT)},
	[MU_MUTANT_grant_lower_ballot] = {.by = BIT(FOUND_CONTRACT)},
	[MU_MUTANT_adopt_shorter] = {.seed = 4},
	[MU_MUTANT_late_join_unfenced] = {.seed = 8},
	[MU_MUTANT_leave_gap] = {.seed = 32},
	[MU_MUTANT_checksum_unchecked] = {.seed = 4},
	[MU_MUTANT_vote_with_empty_log] = {.seed = 5},
	[MU_MUTANT_count_blank] = {.seed = 56},
	[MU_MUTANT_empty_tail_ranks_zero] = {.seed = 20},
	[MU_MUTANT_candidate_unrecorded] = {.seed = 5},
	[MU_MUTANT_length_before_ballot] = {.seed = 20},
	[MU_MUTANT_read_leftovers] = {.seed = 8},
	[MU_MUTANT_read_unlooked] = {.seed = 68},
	[MU_MUTANT_grant_before_stopped] = {.seed = 7},
	[MU_MUTANT_tail_rule] = {.schedule = "leftovers"},
	[MU_MUTANT_old_ballot_commits] = {.schedule = "figure-8"},
	[MU_MUTANT_count_denied_write] = {.transcript = "3.3-denied"},
	[MU_MUTANT_keep_failed_follower] = {.by = STUCK, .seed = 5},
	[MU_MUTANT_never_steps_down] = {.by = BIT(FOUND_MISUSE)},
	[MU_MUTANT_leads_without_majority] = {.by = STUCK, .schedule = "split"},
	[MU_MUTANT_fence_at_once] = {.by = BIT(FOUND_STALE_READ), .seed = 17},
	[MU_MUTANT_fence_counts_older] = {.by = BIT(FOUND_STALE_READ), .schedule = "late-acks"},
	[MU_MUTANT_reuse_unapplied] = {.by = BIT(FOUND_REUSE)},
	[MU_MUTANT_reuse_own_unapplied] = {.by = BIT(FOUND_REUSE), .seed = 22},
	[MU_MUTANT_reuse_source] = {.by = BIT(FOUND_CONTRACT), .schedule = "held-up"},
	[MU_MUTANT_overrun_unseen] = {.by = STUCK, .seed = 22},
	[MU_MUTANT_vote_when_restored] = {.schedule = "readmitted"},
	[MU_MUTANT_readmit_any_memory] = {.schedule = "readmitted"},
	[MU_MUTANT_count_lost_memory] = {.schedule = "usurped"},
	[MU_MUTANT_idle_trusts_memory] = {.transcript = "rule-02-idle"},
	[MU_MUTANT_forget_granted] = {.by = BIT(FOUND_CONTRACT)},
	[MU_MUTANT_grant_before_record] = {.by = BIT(FOUND_CONTRACT),
					   .schedule = "record",
					   .seed = 7},
	[MU_MUTANT_commit_word_ahead] = {.by = UNSAFE | BIT(FOUND_REUSE), .seed = 15},
	[MU_MUTANT_reuse_named] = {.by = BIT(FOUND_REUSE), .schedule = "lagging", .seed = 5},
	[MU_MUTANT_own_word_behind] = {.by = BIT(FOUND_REUSE)},
	[MU_MUTANT_probed_unnamed] = {.by = BIT(FOUND_REUSE), .schedule = "lagging", .seed = 5},
	[MU_MUTANT_join_outrun] = {.by = BIT(FOUND_REUSE), .seed = 25},
	[MU_MUTANT_adopt_outrun] = {.by = BIT(FOUND_REUSE), .schedule = "behind"},
	[MU_MUTANT_never_install] = {.by = STUCK, .seed = 1},
	[MU_MUTANT_void_unprobed] = {.schedule = "two-words"},
	[MU_MUTANT_install_unvoided] = {.by = UNSAFE | BIT(FOUND_REUSE), .seed = 12},
	[MU_MUTANT_install_outrun] = {.transcript = "rule-06-outrun"},
	[MU_MUTANT_eligible_despite_gap] = {.transcript = "rule-06-gap"},
	[MU_MUTANT_eligible_unlevel] = {.by = STUCK, .seed = 57},
	[MU_MUTANT_equal_ballot_refused] = {.by = STUCK, .seed = 7},
	[MU_MUTANT_withhold_higher] = {.by = STUCK, .schedule = "shut-out"},
	[MU_MUTANT_shut_out_stays] = {.by = STUCK, .schedule = "shut-out", .seed = 1},
	[MU_MUTANT_request_stays] = {.transcript = "rule-07-withdrawn"},
	[MU_MUTANT_campaign_alone] = {.by = STUCK, .schedule = "split", .seed = 8},
	[MU_MUTANT_heir_unnamed] = {.transcript = "3.5-handover"},
	[MU_MUTANT_yields_early] = {.transcript = "3.5-handover-in-vain"},
	[MU_MUTANT_outvoted_stays] = {.transcript = "rule-08-outvoted"},
	[MU_MUTANT_wish_outlives_memory] = {.transcript = "3.3-asked-again"},
	[MU_MUTANT_spoilt_relied_on] = {.transcript = "3.2-spoilt"},
	[MU_MUTANT_endless_takeover] = {.transcript = "3.3-in-vain"},
	[MU_MUTANT_all_hold_space] = {.transcript = "3.3-laggard"},
	[MU_MUTANT_eligible_by_word] = {.transcript = "rule-06-words-lag"},
	[MU_MUTANT_campaign_on_old_news] = {.transcript = "rule-08-old-news"},
	[MU_MUTANT_coming_untold] = {.transcript = "rule-08-coming"},
	[MU_MUTANT_reading_waited_for] = {.transcript = "3.5-overdue"},
	[MU_MUTANT_stops_teach_patience] = {.transcript = "3.5-stopped-again"},
	[MU_MUTANT_looks_starve_score] = {.transcript = "3.5-urgent-looks"},
	[MU_MUTANT_take_all_voting] = {.transcript = "rule-11-accept-loss"},
	[MU_MUTANT_recover_amid_start] = {.transcript = "rule-11-amid-start"},
	[MU_MUTANT_nonce_comes_again] = {.by = UNSAFE | STUCK | BIT(FOUND_MISUSE),
					 .schedule = "power",
					 .seed = 1203},
	[MU_MUTANT_beat_alone] = {.by = STUCK, .seed = 8},
	[MU_MUTANT_no_wake_up] = {.by = STUCK},
	[MU_MUTANT_score_never_falls] = {.by = STUCK},
	[MU_MUTANT_leads_without_backend] = {.by = STUCK, .seed = 12},
	[MU_MUTANT_seek_beyond_commit] = {.by = BIT(FOUND_MISUSE)},
	[MU_MUTANT_seek_any_era] = {.by = BIT(FOUND_MISUSE), .schedule = "power", .seed = 4},
	[MU_MUTANT_lead_at_once] = {.by = UNSAFE, .schedule = "figure-8"},
	[MU_MUTANT_cold_start_by_few] = {.by = UNSAFE | BIT(FOUND_REUSE)},
	[MU_MUTANT_cold_start_one_phase] = {.by = UNSAFE | STUCK},
	[MU_MUTANT_cold_start_over_grant] = {.by = UNSAFE | BIT(FOUND_MISUSE),
					     .schedule = "cold",
					     .seed = 14},
	[MU_MUTANT_never_join_started] = {.by = STUCK, .seed = 4},
	[MU_MUTANT_blank_grants_unread] = {.transcript = "rule-11-met-started"},
	[MU_MUTANT_adopted_members_ignored] = {.transcript = "rule-13-adopted"},
	[MU_MUTANT_two_changes] = {.transcript = "rule-13-one-by-one"},
	[MU_MUTANT_change_unestablished] = {.transcript = "rule-13-own-entry"},
	[MU_MUTANT_configuration_untold] = {.by = UNSAFE | STUCK,
					    .schedule = "members-duel",
					    .seed = 49},
	[MU_MUTANT_cold_start_by_seed] = {.transcript = "rule-11-members"},
	[MU_MUTANT_removed_campaigns] = {.transcript = "rule-13-removed"},
	[MU_MUTANT_removed_leader_stays] = {.transcript = "rule-13-leader-leaves"},
	[MU_MUTANT_leaves_no_heir] = {.transcript = "rule-13-no-heir"},
	[MU_MUTANT_id_used_again] = {.schedule = "members"},
	[MU_MUTANT_join_fragments] = {.schedule = "fragments", .seed = 3},
	[MU_MUTANT_time_goes_back] = {.by = BIT(FOUND_DISORDER)},
};

struct capture {
	struct recipe recipe;
	struct verdict verdict;
	unsigned runs;      /* it took */
	unsigned otherwise; /* of these failed, but not as expected */
};

static bool is_expected(unsigned mutant, enum finding finding)
{
	unsigned by = hunts[mutant].by != 0 ? hunts[mutant].by : UNSAFE;

	return by & BIT(finding);
}

/* Keep the first seed that was caught: what is found does not depend on who is faster. */
static void take(struct jobs *jobs, struct capture *best, uint64_t first)
{
	struct recipe recipe;
	struct verdict verdict;

	jobs_wait(jobs, &recipe, &verdict);
	best->runs++;
	if (verdict.finding == FOUND_NOTHING)
		return;
	if (!is_expected(recipe.mutant, verdict.finding)) {
		best->otherwise++;
		return;
	}
	if (best->verdict.finding != FOUND_NOTHING && recipe.seed != first &&
	    (best->recipe.seed == first || recipe.seed > best->recipe.seed))
		return;
	best->recipe = recipe;
	best->verdict = verdict;
}

/* The seed that is known to catch it, then all others in turn. */
static void hunt(struct jobs *jobs, const struct options *options, unsigned mutant,
		 struct capture *capture)
{
	struct recipe recipe = options->recipe;
	uint64_t most = options->seeds != 0 ? options->seeds : SEEDS_MAX;
	uint64_t first = hunts[mutant].seed;

	*capture = (struct capture){.runs = 0};
	recipe.mutant = mutant;
	if (recipe.schedule == NULL)
		recipe.schedule = hunts[mutant].schedule;
	for (uint64_t i = first != 0 ? 0 : 1; i <= most; i++) {
		recipe.seed = i == 0 ? first : i;
		if (jobs->running == jobs->limit)
			take(jobs, capture, first);
		if (capture->verdict.finding != FOUND_NOTHING)
			break;
		jobs_start(jobs, &recipe);
	}
	while (jobs->running > 0)
		take(jobs, capture, first);
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
	struct capture capture;
	const char *wrong;

	hunt(jobs, options, mutant, &capture);
	wrong = judge(jobs, &capture);
	printf("%-24s %-6s %-13s %-10s %7" PRIu64 " %5u%s%s\n", mutants[mutant].name,
	       mutants[mutant].rule, finding_name(capture.verdict.finding),
	       hunts[mutant].schedule != NULL ? hunts[mutant].schedule : "any", capture.recipe.seed,
	       capture.runs, wrong != NULL ? "  " : "", wrong != NULL ? wrong : "");
	if (options->verbose || wrong != NULL)
		printf("    %s\n    %s\n", mutants[mutant].what, capture.verdict.what);
	fflush(stdout);
	return wrong == NULL;
}

int run_mutants(const struct options *options)
{
	unsigned caught = 0, missed = 0, shown = 0;
	struct jobs jobs;

	jobs_init(&jobs, options->program, options->jobs);
	jobs.voice = RUN_QUIET;
	printf("%-24s %-6s %-13s %-10s %7s %5s\n", "mutant", "rule", "caught by", "schedule",
	       "seed", "runs");
	for (unsigned mutant = 1; mutant < MU_MUTANTS_END; mutant++) {
		if (options->recipe.mutant != 0 && options->recipe.mutant != mutant)
			continue;
		if (hunts[mutant].transcript != NULL) {
			shown++;
			printf("%-24s %-6s %-13s %s\n", mutants[mutant].name, mutants[mutant].rule,
			       "a transcript", hunts[mutant].transcript);
		} else if (check(&jobs, options, mutant))
			caught++;
		else
			missed++;
	}
	printf("%u mutants caught, %u not; %u are shown by transcripts alone\n", caught, missed,
	       shown);
	return missed > 0;
}
