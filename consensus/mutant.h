/*
 * mutant.h - ways to break the core on purpose, one at a time: each leaves out
 * one rule of the design. They exist only in the build that tests/sim/mutants.c
 * is part of, and prove that the simulator can see: it must catch every one (but
 * for those that are left to a transcript, see below). Anywhere else MU_MUTANT() is constant false,
 * and nothing of it remains.
 *
 * Not here, because leaving them out changes nothing that can be told:
 *  - asking mu_permitted() before counting oneself (rule 1): the data plane is
 *    known to have stopped before another is granted (grant_before_stopped);
 *  - a majority of grants before acting: the choice and the count ask for one;
 *  - the fences behind the tails read and copied (3.3/4): who lost a permission
 *    meanwhile lost it to one whom a majority has granted, so commits nothing,
 *    and what was torn fails the checksum that names its predecessor;
 *  - the incarnation in requests and answers (rule 2), beside that in the count:
 *    the fabric itself denies who was not granted by the memory that is there;
 *  - ballots in the log for the record of the granted (rule 4), readmission for
 *    raising it (rule 2): a log is written only under a ballot on record;
 *  - ballots that fall within a tail, while entries name their predecessor:
 *    left out together (tail_rule);
 *  - stepping down at one denial rather than without a majority (rule 8): who
 *    denied has granted a higher ballot, and rule 7 ends the term for that;
 *  - granting nobody who was removed (rule 13): who reads him so that he could be
 *    granted is read by him, too, and so he knows (removed_campaigns);
 *  - a back-off that is not random (rule 8): threads never wake that exactly.
 *
 * Here, but left to a transcript (tests/scenario), since no run of the simulator
 * comes out otherwise, or hardly ever one does:
 *  - eligible_despite_gap (rule 6): who campaigns so finds no tail to adopt that
 *    ties in with its own, gives up, and makes room by its growing back-off;
 *  - request_stays (rule 7): an old request is granted by who was away, and shuts
 *    him out; the leader then campaigns above it, a needless change of leader;
 *  - outvoted_stays (rule 8): who has granted others a ballot is asked again by
 *    whom he granted, who asks the old leader too, and so ends his term;
 *  - blank_grants_unread (rule 11): it costs a blank replica the way by its nonce,
 *    but a leader that can ask has a majority of those who started, and readmits it;
 *  - idle_trusts_memory (rule 2): whoever proposes something makes it notice;
 *  - endless_takeover, all_hold_space, campaign_on_old_news, coming_untold,
 *    looks_starve_score, reading_waited_for and stops_teach_patience: what they cost is
 *    time or a needless change of leader, within the bounds that runs allow;
 *  - count_denied_write (3.4): a schedule of its own shows it once in many hundred runs;
 *  - heir_unnamed, yields_early: somebody else leads, or the same one a little later;
 *  - eligible_by_word, take_all_voting, recover_amid_start: moments of a recovery
 *    that nobody has staged among random faults yet.
 *
 * And not here because they are not in the core:
 *  - rule 12, duplicates: the core hands out each entry once; what a session has
 *    been answered is known to the proxy alone (proxy/, tests/unit/test_pipeline*);
 *  - of rule 9 a slow backend's limit, of rule 10 a backend's run id: the proxy's;
 *    of rule 9 the bound on operations: the fabrics' (tests/conformance, F7);
 *  - of rule 14 what a follower's reader keeps: it keeps nothing.
 */
#ifndef MU_MUTANT_H
#define MU_MUTANT_H

#ifdef MU_MUTANTS

/*
 * X(name, where the design has the rule, what is done wrong).
 * "r5": rule 5 of DESIGN 3.7; else a section of the design.
 */
#define MU_MUTANT_LIST(X)                                                                          \
	X(skip_revoke, "3.3/2", "permission is granted without revoking the last holder's")        \
	X(grant_lower_ballot, "3.3/2", "a ballot below the highest granted is granted, too")       \
	X(wish_outlives_memory, "3.3/2", "what one connection has written counts on the next")     \
	X(endless_takeover, "3.3/3", "a takeover goes on for as long as anything succeeds")        \
	X(all_hold_space, "3.3/4", "a takeover waits for those that are far behind")               \
	X(candidate_keeps_writer, "3.3/3", "a candidate leaves its own log to its writer")         \
	X(adopt_shorter, "3.3/4", "of tails of one ballot the shorter is adopted")                 \
	X(length_before_ballot, "3.3/4", "tails are compared by length, then by ballot")           \
	X(keep_own_tail, "3.3/4", "a candidate goes on from its own tail")                         \
	X(choose_from_few, "3.3/4", "the choice is made before a majority's tails are known")      \
	X(late_join_unfenced, "3.3/4", "one who joins late is believed without a fence")           \
	X(tail_rule, "3.3/4", "a tail goes on where ballots fall or the chain breaks")             \
	X(leave_gap, "3.3/4", "a follower gets the last entry, not what it misses before")         \
	X(overwrite_committed, "3.3/4", "the first own entry goes in the last one's place")        \
	X(old_ballot_commits, "3.3/5", "entries of older ballots on a majority are committed")     \
	X(minority_commits, "3.4", "one copy less than a majority commits")                        \
	X(count_denied_write, "3.4", "a write that was denied counts as done")                     \
	X(keep_failed_follower, "3.4", "a follower whose write failed is not dropped")             \
	X(never_steps_down, "3.4", "a leader that lost its permission goes on")                    \
	X(leads_without_majority, "3.4", "a leader stays one with less than a majority")           \
	X(fence_at_once, "3.4", "a read is served without a fence")                                \
	X(fence_counts_older, "3.4", "a fence posted before the read arrived proves it")           \
	X(reuse_unapplied, "3.4", "ring space is used again that a follower has not applied")      \
	X(reuse_own_unapplied, "3.4", "...that the own backend has not applied")                   \
	X(reuse_source, "3.4", "...that is the source of a dropped follower's writes")             \
	X(checksum_unchecked, "3.2", "an entry is valid whatever its checksum")                    \
	X(follower_commits_tail, "3.4", "followers take all that is valid for committed")          \
	X(read_leftovers, "3.2", "a reader goes on in a log written anew as if it were the old")   \
	X(spoilt_relied_on, "3.2",                                                                 \
	  "what is older than a tail is whole, whatever landed behind it")                         \
	X(read_unlooked, "3.2", "what others write is handed out as if it were the own")           \
	X(overrun_unseen, "3.4", "a follower does not notice that it was overrun")                 \
	X(vote_with_empty_log, "3.6", "a replica without memory votes among others")               \
	X(grant_before_stopped, "r1", "a grant does not wait for the own data plane to stop")      \
	X(vote_when_restored, "r2", "a restored log votes before it is readmitted")                \
	X(count_blank, "r2", "a replica that does not vote is counted")                            \
	X(readmit_any_memory, "r2", "an entry readmits whatever the incarnation")                  \
	X(idle_trusts_memory, "r2", "an idle leader does not notice that a memory was lost")       \
	X(count_lost_memory, "r2", "a vote counts that another memory gave")                       \
	X(empty_tail_ranks_zero, "r3", "an empty tail ranks below any")                            \
	X(forget_granted, "r4", "after a restart no ballot has been granted")                      \
	X(grant_before_record, "r4", "permission changes before the grant is recorded")            \
	X(candidate_unrecorded, "r4", "a candidate does not record its own grant")                 \
	X(commit_word_ahead, "r5", "a commit word is above what its replica acknowledged")         \
	X(reuse_named, "r5", "the entry that a commit word names is overwritten")                  \
	X(own_word_behind, "r5", "a leader does not move its own commit word")                     \
	X(probed_unnamed, "r5", "...that a probed follower's names")                               \
	X(join_outrun, "r5", "a follower is written to as if its backend had applied all")         \
	X(adopt_outrun, "r5", "a tail is adopted over what the own backend has to apply")          \
	X(never_install, "r6", "a log that does not reach the ring is not written anew")           \
	X(void_unprobed, "r6", "a log is declared void because its commit word lags")              \
	X(install_outrun, "r6", "what a log written anew is going to name is overwritten")         \
	X(install_unvoided, "r6", "a log is written anew without being declared void")             \
	X(eligible_by_word, "r6", "who can lead goes by commit words, which lag")                  \
	X(eligible_despite_gap, "r6", "one whose log does not reach a live ring campaigns")        \
	X(eligible_unlevel, "r6", "one whose backend is not level campaigns")                      \
	X(equal_ballot_refused, "r7", "the holder's own ballot is not granted again")              \
	X(withhold_higher, "r7", "a request of a lower ballot gets no answer")                     \
	X(shut_out_stays, "r7", "a leader ignores that a peer has granted a higher ballot")        \
	X(request_stays, "r7", "a candidate that gives up does not withdraw its request")          \
	X(campaign_alone, "r8", "a replica campaigns that alone sees no leader")                   \
	X(campaign_on_old_news, "r8", "...or that goes by what others saw before it saw none")     \
	X(coming_untold, "r8", "a leader seen to come back is not told of until it is alive")      \
	X(heir_unnamed, "3.5", "who makes way for another leader does not say for whom")           \
	X(yields_early, "3.5", "...or does it before that one has everything")                     \
	X(outvoted_stays, "r8", "an idle leader does not look whom the others have granted")       \
	X(beat_alone, "r9", "the heartbeat goes on without the data plane")                        \
	X(no_wake_up, "r9", "a parked data plane is not asked for a sign of life")                 \
	X(score_never_falls, "r9", "readings that fail lower no score")                            \
	X(looks_starve_score, "r9", "a look between ticks takes the place of the tick's")          \
	X(reading_waited_for, "r9", "a reading may stay away for as long as an operation may")     \
	X(stops_teach_patience, "r9", "late readings of who stood still himself teach patience")   \
	X(leads_without_backend, "r10", "a leader stays one without a backend")                    \
	X(seek_beyond_commit, "r10", "a backend may stand where nothing is committed yet")         \
	X(seek_any_era, "r10", "a backend may have the state of another log")                      \
	X(lead_at_once, "r10", "a leader serves reads before its first entry is committed")        \
	X(cold_start_by_few, "r11", "those who are there start cold without the others")           \
	X(cold_start_one_phase, "r11", "a cold start does not wait for all to be prepared")        \
	X(never_join_started, "r11", "one who was prepared does not join those who started")       \
	X(nonce_comes_again, "r11", "a backend that comes back brings an old nonce back")          \
	X(cold_start_over_grant, "r11", "a log that was granted is started cold under its writer") \
	X(take_divergent_tail, "r11", "a tail is taken although another's backend has more")       \
	X(take_all_voting, "r11", "a replica votes that took what was not committed")              \
	X(recover_amid_start, "r11", "what has just started cold is forgotten again")              \
	X(blank_grants_unread, "r11", "a blank replica grants to one it has not read to vote")     \
	X(adopted_members_ignored, "r13", "a candidate counts the members of before its tail")     \
	X(two_changes, "r13", "a configuration follows one that is not committed yet")             \
	X(change_unestablished, "r13", "...or comes before an entry of the own ballot")            \
	X(configuration_untold, "r13", "a commit word is written without the configuration")       \
	X(cold_start_by_seed, "r13", "a blank replica counts the members of when it was one")      \
	X(removed_campaigns, "r13", "...and asks, although he knows it")                           \
	X(removed_leader_stays, "r13", "a leader that was removed goes on")                        \
	X(leaves_no_heir, "r13", "a leader is removed though none of the others could lead")       \
	X(id_used_again, "r13", "an id that was a member's becomes another's")                     \
	X(join_fragments, "r14", "fragments that another ballot interrupted are joined")           \
	X(time_goes_back, "r14", "a leader's time begins before that of the tail it adopted")

enum mu_mutant {
	MU_MUTANT_none,
#define MU_MUTANT_ENUM(name, rule, what) MU_MUTANT_##name,
	MU_MUTANT_LIST(MU_MUTANT_ENUM)
#undef MU_MUTANT_ENUM
		MU_MUTANTS_END
};
/* The one that is in effect. */
extern unsigned mu_mutant;
#define MU_MUTANT(name) (mu_mutant == MU_MUTANT_##name)

const char *mu_mutant_name(unsigned mutant);
const char *mu_mutant_rule(unsigned mutant);
const char *mu_mutant_what(unsigned mutant);

#else
#define MU_MUTANT(name) 0
#endif
#endif
