/*
 * mu.pml - the agreement of takeover.c, grant.c and leader.c as a model that
 * spin explores exhaustively within bounds (see check; DESIGN 3.3 to 3.7).
 *
 * Modelled
 *   Three replicas, BALLOTS ballots, SLOTS slots. A ballot may be begun at any
 *   time, in any order, by any replica that has granted none above it; each is
 *   a process that may pause or stop for good at any step. An entry is what its
 *   checksum proves: (ballot, slot), which determines its value and all that
 *   lies before it, since a leader writes each slot of its log once.
 *   - Permissions: record, strict revocation, grant, each a step of its own.
 *     The own data plane stops before the record is made, and a ballot's right
 *     to its own region is that of a writer like any other.
 *   - Takeover: a granted log is read slot by slot while others may write it,
 *     then the fence, then the choice between it and the own tail.
 *   - Leading: entries land in each region in order, torn first where they
 *     replace something, as long as the permission lasts, also after the
 *     leader lost its own. Old tails stay behind what is written. Counting
 *     happens at any time after the acknowledgements, under the own permission.
 *   - Reads: arrive, and are served after a fence at a majority.
 *   - With LOSS: one replica loses memory and record once, is written anew by
 *     any leader that asks, and votes when it holds a committed entry that
 *     names its incarnation. What it acknowledged before may be counted later.
 *
 * Invariants, asserted where they could break
 *   1. No two entries are committed at a slot.
 *   2. What is committed is in the log of every later ballot that has chosen.
 *   3. The best tail of every majority of voters holds all that is committed.
 *   4. No region has two writers.
 *   5. A tail that is chosen from is what that replica holds after the fence.
 *   6. No entry that is committed is overwritten by other bytes at a voter.
 *   7. No fence lets a leader serve that does not know all that is committed.
 *
 * Left out, and why
 *   Commit words: tails are read and written from slot 1, where the code skips
 *   what is committed, that is, equal. The ring, its reuse, void logs (rule 6):
 *   slots do not wrap; the simulator does that. A second read tail: of three
 *   replicas two are a majority. Cold start and membership: other arguments.
 *   Restart with memory: the same as stopping, and being granted anew. Torn
 *   entries that look whole: the checksum's promise. Liveness.
 *   COARSE (used with LOSS, to fit) revokes with the record, reads a tail in
 *   one step and tears nothing; the finer steps are explored without LOSS.
 *
 * Reductions
 *   A write lands and is acknowledged in one step: counting comes whenever it
 *   comes, so a late acknowledgement is a late count. A step is one d_step that
 *   touches one region. No partial order reduction: everything is shared.
 *
 * Two things that it shows, beyond the mutants that `check` lists
 *   NO_FENCE_AFTER_READ breaks invariant 5 and, with NO_STABLE_CHECK (without
 *   that assertion), no other: where a tail is read only after its grant, and
 *   entries name their predecessors, a candidate that read what was not stable
 *   finds no majority to write to. Reading before the grant is not so forgiving
 *   (READ_BEFORE_GRANT), fence or no fence.
 *   NO_CHAIN (ballot order alone says what a tail is) breaks nothing within
 *   three ballots and two slots; these bounds cannot judge it.
 */
#define N 3
#ifndef BALLOTS
#define BALLOTS 3
#endif
#ifndef SLOTS
#define SLOTS 3
#endif

#define bit(b) (1 << (b))
#define at(x, s) ((x) * (SLOTS + 1) + (s))
#define row(b, g) ((b) * N + (g))

/* ------------------------------------------------------------- the replicas */

byte granted[N];                         /* the record: highest ballot granted */
byte writers[N];                         /* who may write this region: a set of ballots */
byte region[N * (SLOTS + 1)];            /* the ballot of the entry at each slot; 0: none valid */
byte owned[N];                           /* the ballots that are this replica's to use */
#ifdef LOSS
byte lost;                               /* the replica that lost its memory, + 1 */
bool blank;                              /* and has not been readmitted since */
byte readmits[BALLOTS + 1];              /* the slot of the ballot's entry that does it */
byte old_acked[BALLOTS + 1];             /* what it acknowledged before it forgot */
#define votes(g) (!blank || lost != (g) + 1)
#else
#define votes(g) true
#endif

/* ------------------------------------------------ the ballots' data planes */

mtype = { idle, asked, reading, read, leading, dead };
mtype phase[BALLOTS + 1] = idle;
byte owner[BALLOTS + 1];
byte peer[BALLOTS + 1];                  /* reading: whose tail */
byte tail_ballot[BALLOTS + 1];           /* reading: the last entry so far, */
byte tail_end[BALLOTS + 1];              /* and its slot; leading: where the own entries begin */
byte entry[(BALLOTS + 1) * (SLOTS + 1)]; /* the log that it writes; defines its entries' chain */
byte acked[(BALLOTS + 1) * N];           /* slots that each replica holds, the own one too */
byte commit[BALLOTS + 1];                /* slots counted as committed */
bool due[BALLOTS + 1];                   /* a read arrived that must not be served */

/* ------------------------------------------------------ what really happened */

byte chosen[SLOTS + 2];                  /* the ballot of the entry committed at each slot */

/* Scratch: meaningless between steps, hence no part of the state. */
hidden byte i, j, end1, end2, ballot1, ballot2, held;

#ifdef NO_CHAIN
#define behind(e, s, last) (e && e >= last)
#else
#define behind(e, s, last) (e && entry[at(e, s)] == e && entry[at(e, s - 1)] == last && e >= last)
#endif

/* Read the tail of region g: the ballot of its last entry, and its end. */
inline tail_of(g, ballot, end)
{
	ballot = 0;
	end = 0;
	do
	:: end < SLOTS && behind(region[at(g, end + 1)], end + 1, ballot) ->
		end++;
		ballot = region[at(g, end)]
	:: else -> break
	od
}

#define above(b1, e1, b2, e2) ((b1) > (b2) || ((b1) == (b2) && (e1) > (e2)))
#ifdef SHORTER_TAIL
#define better(b1, e1, b2, e2) ((e1) > (e2) || ((e1) == (e2) && (b1) > (b2)))
#else
#define better(b1, e1, b2, e2) above(b1, e1, b2, e2)
#endif

#define permitted(b, g) (writers[g] & bit(b))
#ifdef LEADER_IGNORES_OWN_PERMISSION
#define own_permitted(b) true
#else
#define own_permitted(b) permitted(b, owner[b])
#endif

/* Invariant 3 for one majority. */
inline quorum_holds(g, h)
{
	if
	:: votes(g) && votes(h) ->
		tail_of(g, ballot1, end1);
		tail_of(h, ballot2, end2);
		if
		:: above(ballot2, end2, ballot1, end1) -> ballot1 = ballot2; end1 = end2
		:: else
		fi;
		j = 1;
		do
		:: chosen[j] ->
			assert(j <= end1 && entry[at(ballot1, j)] == chosen[j]);
			j++
		:: else -> break
		od
	:: else
	fi
}

inline quorums_hold()
{
	quorum_holds(0, 1);
	quorum_holds(0, 2);
	quorum_holds(1, 2)
}

/* -------------------------------------------------------------- permissions */

#ifdef LOSS
#define may_ask(b, g) (votes(owner[b]))
#else
#define may_ask(b, g) true
#endif

/* Invariant 4. */
#ifdef NO_WRITER_CHECK
#define one_writer(g) true
#else
#define one_writer(g) (!(writers[g] & (writers[g] - 1)))
#endif

#ifdef SKIP_REVOKE
#define revoked(g) true
#else
#define revoked(g) (!writers[g])
#endif

#define asks(b) (phase[b] != idle && phase[b] != dead)

/* The data plane here, if it acts, has stopped; then the grant is on record. */
inline record(b, g)
{
	d_step {
		granted[g] < b && may_ask(b, g) && (g == owner[b] -> phase[b] == idle : asks(b)) ->
		granted[g] = b;
#if defined(COARSE) && !defined(SKIP_REVOKE)
		writers[g] = 0;
#else
		writers[g] = writers[g] & ~owned[g];
#endif
		if
		:: g == owner[b] -> phase[b] = asked
		:: else
		fi
	}
}

inline revoke(b, g)
{
#ifdef SKIP_REVOKE
	false
#else
	d_step { granted[g] == b && (writers[g] & ~bit(b)) -> writers[g] = 0 }
#endif
}

inline give(b, g)
{
	d_step {
		granted[g] == b && !permitted(b, g) && asks(b) && revoked(g) ->
		writers[g] = writers[g] | bit(b);
		assert(one_writer(g))
	}
}

/* ------------------------------------------------------------------ takeover */

#ifdef READ_BEFORE_GRANT
#define may_read(b, g) true
#else
#define may_read(b, g) permitted(b, g)
#endif
#ifdef NO_FENCE_AFTER_READ
#define fence_succeeds(b) true
#else
#define fence_succeeds(b) permitted(b, peer[b])
#endif

inline begin_read(b, g)
{
	d_step {
		phase[b] == asked && g != owner[b] && own_permitted(b) && votes(g) &&
			may_read(b, g) ->
		peer[b] = g;
#ifdef COARSE
		tail_of(g, ballot1, end1);
		tail_ballot[b] = ballot1;
		tail_end[b] = end1;
		phase[b] = read
#else
		phase[b] = reading
#endif
	}
}

inline read_slot(b)
{
	d_step {
		phase[b] == reading ->
		if
		:: tail_end[b] < SLOTS && behind(region[at(peer[b], tail_end[b] + 1)],
						 tail_end[b] + 1, tail_ballot[b]) ->
			tail_end[b]++;
			tail_ballot[b] = region[at(peer[b], tail_end[b])]
		:: else -> phase[b] = read
		fi
	}
}

inline lose_peer(b)
{
	peer[b] = 0;
	tail_ballot[b] = 0;
	tail_end[b] = 0;
	phase[b] = asked
}

/* The fence succeeds, which makes two known logs: a majority. Adopt the better tail. */
inline choose(b)
{
	d_step {
		phase[b] == read && own_permitted(b) && fence_succeeds(b) ->
#ifndef NO_STABLE_CHECK
		tail_of(peer[b], ballot1, end1);
		assert(ballot1 == tail_ballot[b] && end1 == tail_end[b]);
#endif
		tail_of(owner[b], ballot1, end1);
		if
		:: better(ballot1, end1, tail_ballot[b], tail_end[b]) ->
			tail_ballot[b] = ballot1;
			tail_end[b] = end1
		:: else
		fi;
		j = 1;
		do
		:: j <= tail_end[b] -> entry[at(b, j)] = entry[at(tail_ballot[b], j)]; j++
		:: else -> break
		od;
		j = 1;
		do
		:: chosen[j] && permitted(b, peer[b]) && permitted(b, owner[b]) ->
			assert(entry[at(b, j)] == chosen[j]);
			j++
		:: else -> break
		od;
		tail_ballot[b] = 0;
		peer[b] = 0;
		phase[b] = leading
	}
}

/* ------------------------------------------------------------------- leading */

#ifdef COARSE
#define tears false
#else
#define tears true
#endif

/* The next entry of the log of ballot b, once it has been appended, lands in region g. */
inline land(b, g)
{
	d_step {
		phase[b] == leading && (g == owner[b] -> own_permitted(b) && acked[row(b, g)] < SLOTS :
			permitted(b, g) && acked[row(b, g)] < acked[row(b, owner[b])]) ->
		i = acked[row(b, g)] + 1;
		if
		:: i > tail_end[b] -> entry[at(b, i)] = b
		:: else
		fi;
		if
		:: region[at(g, i)] == entry[at(b, i)] -> acked[row(b, g)]++
		:: else ->
			if
			:: tears && region[at(g, i)] -> /* half of it, for now */
				assert(!votes(g) || region[at(g, i)] != chosen[i] ||
					entry[at(chosen[i], i - 1)] != region[at(g, i - 1)]);
				region[at(g, i)] = 0
			:: else ->
				region[at(g, i)] = entry[at(b, i)];
				acked[row(b, g)]++
			fi;
			quorums_hold()
		fi
	}
}

#ifdef COUNT_DENIED
inline denied(b, g)
{
	d_step {
		phase[b] == leading && g != owner[b] && !permitted(b, g) &&
			acked[row(b, g)] < acked[row(b, owner[b])] ->
		acked[row(b, g)]++
	}
}
#endif

inline commit_counted(b)
{
	do
	:: commit[b] < held ->
		commit[b]++;
		assert(!chosen[commit[b]] || chosen[commit[b]] == entry[at(b, commit[b])]);
		chosen[commit[b]] = entry[at(b, commit[b])];
		j = b + 1;
		do
		:: j <= BALLOTS ->
			assert(phase[j] != leading ||
				entry[at(j, commit[b])] == chosen[commit[b]]);
			j++
		:: else -> break
		od
	:: else -> break
	od;
	quorums_hold()
}

#define max2(x, y) ((x) > (y) -> (x) : (y))
#define follower_acked(b, g) (g != owner[b] && votes(g) -> acked[row(b, g)] : 0)
#ifdef LOSS
#define counted(b) max2(old_acked[b], max2(follower_acked(b, 0), \
	max2(follower_acked(b, 1), follower_acked(b, 2))))
#else
#define counted(b) max2(follower_acked(b, 0), max2(follower_acked(b, 1), follower_acked(b, 2)))
#endif

#ifdef NO_OWN_ENTRY
#define commits_from(b, end) true
#else
#define commits_from(b, end) ((end) > tail_end[b])
#endif

inline count_commit(b)
{
	d_step {
		phase[b] == leading && own_permitted(b) && counted(b) > commit[b] &&
			commits_from(b, counted(b)) ->
		held = counted(b);
		commit_counted(b)
	}
}

#define leads(b) (phase[b] == leading && commit[b] > tail_end[b])

#ifdef READ_WITHOUT_FENCE
#define follower_permits(b, g) true
#else
#define follower_permits(b, g) (g != owner[b] && votes(g) && permitted(b, g))
#endif

inline read_arrives(b)
{
	d_step { leads(b) && !due[b] && own_permitted(b) && chosen[commit[b] + 1] -> due[b] = true }
}

inline read_served(b)
{
	d_step {
		due[b] && own_permitted(b) && (follower_permits(b, 0) || follower_permits(b, 1) ||
			follower_permits(b, 2)) ->
		assert(false)
	}
}


#ifdef LOSS
inline readmit_entry(b)
{
	d_step {
		leads(b) && blank && !readmits[b] && own_permitted(b) &&
			acked[row(b, owner[b])] < SLOTS &&
			!entry[at(b, acked[row(b, owner[b])] + 1)] &&
			acked[row(b, lost - 1)] >= commit[b] ->
		readmits[b] = acked[row(b, owner[b])] + 1
	}
}
#endif

proctype Ballot(byte b)
{
end:
	do
	:: record(b, 0)
	:: record(b, 1)
	:: record(b, 2)
	:: revoke(b, 0)
	:: revoke(b, 1)
	:: revoke(b, 2)
	:: give(b, 0)
	:: give(b, 1)
	:: give(b, 2)
	:: begin_read(b, 0)
	:: begin_read(b, 1)
	:: begin_read(b, 2)
	:: read_slot(b)
	:: d_step { (phase[b] == reading || phase[b] == read) && !permitted(b, peer[b]) ->
		lose_peer(b) }
	:: choose(b)
	:: land(b, 0)
	:: land(b, 1)
	:: land(b, 2)
	:: count_commit(b)
	:: read_arrives(b)
	:: read_served(b)
#ifdef COUNT_DENIED
	:: denied(b, 0)
	:: denied(b, 1)
	:: denied(b, 2)
#endif
#ifdef LOSS
	:: readmit_entry(b)
#endif
	od
}

#ifdef LOSS
inline forget(x)
{
	d_step {
		!lost ->
		lost = x + 1;
#ifndef BLANK_VOTES
		blank = true;
#endif
		granted[x] = 0;
		writers[x] = 0;
		j = 1;
		do
		:: j <= SLOTS -> region[at(x, j)] = 0; j++
		:: else -> break
		od;
		j = 1;
		do
		:: j <= BALLOTS ->
			if
			:: owner[j] == x && phase[j] != idle ->
				lose_peer(j);
				acked[row(j, 0)] = 0;
				acked[row(j, 1)] = 0;
				acked[row(j, 2)] = 0;
				commit[j] = 0;
				due[j] = false;
				phase[j] = dead
			:: owner[j] != x ->
				old_acked[j] = acked[row(j, x)];
				acked[row(j, x)] = 0;
				if
				:: (phase[j] == reading || phase[j] == read) && peer[j] == x ->
					lose_peer(j)
				:: else
				fi
			:: else
			fi;
			j++
		:: else -> break
		od
	}
}

#ifdef RESTORED_VOTES
#define restored(b) (leads(b) && acked[row(b, lost - 1)] >= commit[b])
#else
#define restored(b) (readmits[b] && chosen[readmits[b]] == b && \
	region[at(lost - 1, readmits[b])] == b)
#endif

inline readmitted(b)
{
	d_step {
		blank && restored(b) ->
		tail_of(lost - 1, ballot1, end1);
		if
		:: end1 >= readmits[b] ->
			blank = false;
			granted[lost - 1] = max2(granted[lost - 1], b)
		:: else
		fi;
		quorums_hold()
	}
}

proctype Memory()
{
end:
	do
	:: forget(0)
	:: forget(1)
	:: forget(2)
	:: readmitted(1)
	:: readmitted(2)
#if BALLOTS > 2
	:: readmitted(3)
#endif
	od
}
#endif

inline own(b, r)
{
	owner[b] = r;
	owned[r] = owned[r] | bit(b)
}

/*
 * Replicas are alike: the first ballot is replica 0's, and each further one
 * belongs to one that had a ballot before or to the next that had none.
 */
init {
	byte b = 1, others = 0;

	atomic {
		do
		:: b <= BALLOTS ->
			if
			:: own(b, 0)
			:: b > 1 -> own(b, 1); others = max2(others, 1)
			:: others >= 1 -> own(b, 2); others = 2
			fi;
			run Ballot(b);
			b++
		:: else -> break
		od;
#ifdef LOSS
		run Memory();
#endif
		b = 0;
		others = 0
	}
}
