/*
 * background.c - the background plane: the own heartbeat, pull-scores of the
 * peers (Mu section 6: reading a counter that the peer increments cannot be
 * delayed into a false alarm the way a message can), what is published, and
 * the lines that peers' slots shall hold.
 */
#include <string.h>

#include "node.h"

enum { mu_standing_ticks = 200, mu_gather_bytes = 256 << 10 };
enum background_op { OP_READ_LINES = 1, OP_REQUEST, OP_GRANT };

/* xorshift64*: only spreads back-off. */
uint64_t mu_random(struct mu *mu)
{
	uint64_t x = mu->bg.random ? mu->bg.random : 1;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	mu->bg.random = x;
	return x * 0x2545f4914f6cdd1dULL;
}

bool mu_watch_is(const struct mu *mu, unsigned id, uint64_t flag)
{
	const struct mu_watch *w = &mu->bg.watch[id];

	return w->alive && w->known && (w->state.word[MU_STATE_FLAGS] & flag);
}

void mu_wish_set(struct mu_wish *wish, const uint64_t word[3])
{
	struct mu_line line = {{0}, 0};

	memcpy(line.word, word, 3 * sizeof(*word));
	mu_line_seal(&line);
	if (memcmp(&line, &wish->want, sizeof(line)) == 0)
		return;
	wish->want = line;
	wish->there = false;
}

/* -------------------------------------------------- hand-shake of rule 1 */

bool mu_data_is_acting(struct mu *mu)
{
	return MU_SYNC_GET(mu->shared.acting_ballot) != 0;
}

bool mu_stop_data(struct mu *mu)
{
	MU_SYNC_SET(mu->shared.lead_ballot, 0);
	if (!mu_data_is_acting(mu))
		return true;
	mu->bg.wanted = true;
	return false;
}

/* ------------------------------------------------------ heartbeat, publish */

/*
 * Fate sharing: the counter moves only while the data plane does. A parked
 * data plane is asked for a sign of life; answering it is progress (rule 9).
 */
static void beat(struct mu *mu)
{
	struct mu_background *bg = &mu->bg;
	uint64_t pulse = MU_GET(mu->shared.pulse);
	uint64_t *counter = &mu->lines->heartbeat.word[0];

	if (pulse != bg->pulse || MU_MUTANT(beat_alone)) {
		bg->pulse = pulse;
		bg->pulse_ns = bg->now_ns;
	} else if (bg->now_ns - bg->pulse_ns > mu->config.data_stall_ns) {
		bg->wanted = !MU_MUTANT(no_wake_up);
		return;
	} else if (bg->now_ns - bg->pulse_ns > mu->config.data_stall_ns / 4) {
		bg->wanted = !MU_MUTANT(no_wake_up);
	}
	mu_store(counter, mu_load(counter) + 1);
}

static enum mu_role role_now(const struct mu *mu)
{
	if (!mu->record->voting)
		return MU_ROLE_BLANK;
	if (mu->bg.campaign == MU_CAMPAIGN_IDLE)
		return MU_ROLE_FOLLOWER;
	return MU_GET(mu->shared.led_ballot) == mu->bg.ballot ? MU_ROLE_LEADER : MU_ROLE_CANDIDATE;
}

void mu_publish(struct mu *mu)
{
	struct mu_shared *s = &mu->shared;
	struct mu_line line = {{0}, 0};
	uint64_t flags = (uint64_t)role_now(mu) << MU_FLAG_ROLE_SHIFT;
	uint64_t ballot = 0;
	uint64_t leader = mu_leader_seen(mu, &ballot);

	if (!leader && !MU_MUTANT(coming_untold)) /* nobody is to campaign on my word */
		leader = mu_leader_coming(mu);
	flags |= leader << MU_FLAG_LEADER_SHIFT;
	flags |= MU_GET(s->backend) << MU_FLAG_BACKEND_SHIFT;
	flags |= (uint64_t)mu_heir_named(mu) << MU_FLAG_HEIR_SHIFT;
	flags |= mu->record->voting ? MU_FLAG_VOTING : 0;
	flags |= mu_eligible(mu) ? MU_FLAG_ELIGIBLE : 0;
	flags |= mu_is_prepared(mu->record) ? MU_FLAG_PREPARED : 0;
	flags |= MU_GET(s->applied_stamp) ? MU_FLAG_APPLIED_KNOWN : 0;
	flags |= MU_GET(s->caught_up) ? MU_FLAG_CAUGHT_UP : 0;
	line.word[MU_STATE_INCARNATION] = mu->record->incarnation;
	line.word[MU_STATE_GRANTED] = mu->record->granted;
	line.word[MU_STATE_BALLOT] = mu->bg.campaign == MU_CAMPAIGN_IDLE ? 0 : mu->bg.ballot;
	line.word[MU_STATE_COMMIT] = MU_GET(s->commit_lsn);
	line.word[MU_STATE_APPLIED] = MU_GET(s->applied_lsn);
	line.word[MU_STATE_OLDEST] = MU_GET(s->oldest_lsn);
	line.word[MU_STATE_FLAGS] = flags;
	mu_line_publish(&mu->lines->state, &line);
	if (mu->record->applied != line.word[MU_STATE_APPLIED])
		mu_store(&mu->record->applied, line.word[MU_STATE_APPLIED]);
}

/* ------------------------------------------------------------ pull-scores */

enum {
	PATIENCE_TICKS = 2,  /* with a reading, beyond twice the slowest of late... */
	PACE_READINGS = 256, /* ...which is of as many, and of as many before */
};

static void score(const struct mu_config *config, struct mu_watch *w, bool moved)
{
	w->moved = moved;
	if (moved)
		w->score += config->score_gain;
	else if (!MU_MUTANT(score_never_falls))
		w->score -= w->score < config->score_loss ? w->score : config->score_loss;
	if (w->score > config->score_max)
		w->score = config->score_max;
	if (w->score > config->score_alive)
		w->alive = true;
	else if (w->score < config->score_failed)
		w->alive = w->known = false;
}

/* How long a reading may take before something is thought of it, in ticks. */
static unsigned patience(const struct mu_watch *w)
{
	unsigned slowest = w->slowest > w->slowest_before ? w->slowest : w->slowest_before;

	return 2 * slowest + PATIENCE_TICKS;
}

static void learn_pace(struct mu_watch *w, unsigned ticks)
{
	if (w->pace_readings++ == PACE_READINGS) {
		w->slowest_before = w->slowest;
		w->slowest = w->pace_readings = 0;
	}
	if (w->slowest < ticks)
		w->slowest = ticks;
}

/*
 * A reading is over, also if its peer was given up meanwhile. If it was late,
 * because of the network or a busy machine in between, it may be so again. But a
 * peer that stood still itself must not be waited for longer the next time. Which
 * it was, the next reading that gets through tells: its heartbeat has gone on, or
 * has not, for most of the time.
 */
static void note_pace(struct mu_watch *w, bool ok)
{
	uint64_t beat = w->lines[0].word[0];

	if (w->late && ok) {
		if (beat - w->late_beat >= w->late / 2 || MU_MUTANT(stops_teach_patience))
			learn_pace(w, w->late);
		w->late = 0;
	}
	if (w->waited <= patience(w)) {
		learn_pace(w, w->waited);
	} else if (w->late < w->waited) {
		if (!w->late)
			w->late_beat = w->beat;
		w->late = w->waited;
	}
	if (ok)
		w->beat = beat;
}

/*
 * A tick has passed, and a reading is still under way. A slow one is no reason
 * for an alarm, and the score stays. But where the peer has a part in it (tcp),
 * one that has been stopped keeps it from arriving: if it takes more than twice
 * as long as any has of late, each tick counts as a reading of a heartbeat that
 * stands still. If it arrives after all, and tells of progress, that is undone.
 * Ticks are this replica's own: time for which it did not run does not count.
 */
static void wait_for_reading(const struct mu_config *config, struct mu_watch *w)
{
	w->waited++;
	if (!w->alive || w->waited <= patience(w) || MU_MUTANT(reading_waited_for))
		return;
	if (!w->overdue)
		w->score_before = w->score;
	w->overdue = w->scored = true;
	score(config, w, false);
}

static void took_lines(struct mu *mu, unsigned id)
{
	struct mu_watch *w = &mu->bg.watch[id];
	uint64_t counter = w->lines[0].word[0];

	if (w->scored) {
		if (w->overdue && w->alive && counter != w->counter)
			w->score = w->score_before;
		score(&mu->config, w, counter != w->counter);
		w->counter = counter;
	}
	if (!mu_line_intact(&w->lines[1]) || !mu_line_intact(&w->lines[2]))
		return;
	if (w->known && w->state.word[MU_STATE_INCARNATION] != w->lines[1].word[0])
		w->request.there = w->grant.there = false; /* new memory: its slots are empty */
	if (!w->known || w->lines[1].word[MU_STATE_APPLIED] != w->state.word[MU_STATE_APPLIED] ||
	    (w->lines[1].word[MU_STATE_FLAGS] & MU_FLAG_CAUGHT_UP))
		w->stands_since_ns = mu->bg.now_ns;
	w->state = w->lines[1];
	w->cold = w->lines[2];
	w->known = true;
	w->read_ns = w->begun_ns;
	if (mu->bg.highest < w->state.word[MU_STATE_GRANTED])
		mu->bg.highest = w->state.word[MU_STATE_GRANTED];
}

static void completed(struct mu *mu, const struct mu_completion *c)
{
	struct mu_watch *w = &mu->bg.watch[c->peer];
	bool ok = c->status == MU_FABRIC_OK;
	struct mu_wish *wish = c->cookie == OP_REQUEST ? &w->request : &w->grant;

	if (c->cookie == OP_READ_LINES) {
		w->reading = false;
		note_pace(w, ok);
		if (ok)
			took_lines(mu, c->peer);
		else if (w->scored)
			score(&mu->config, w, false);
		return;
	}
	wish->in_flight = false;
	wish->there = ok && !wish->connection_lost &&
		      memcmp(&wish->sent, &wish->want, sizeof(wish->want)) == 0;
}

/*
 * Once a tick a reading counts for the score; those in between are only to learn
 * sooner what the peer publishes, and one of these under way puts the tick's off,
 * not out: else the score would stand still for as long as such looks go on.
 */
static void read_peer(struct mu *mu, unsigned id, bool tick)
{
	struct mu_watch *w = &mu->bg.watch[id];
	struct mu_fabric *f = mu->fabric;

	if (w->reading) {
		w->owed |= tick && !w->scored && !MU_MUTANT(looks_starve_score);
		if (tick)
			wait_for_reading(&mu->config, w);
		return;
	}
	w->scored = tick || w->owed;
	w->owed = w->overdue = false;
	w->waited = 0;
	w->begun_ns = mu->bg.now_ns;
	w->reading = f->ops->state(f, MU_PLANE_BACKGROUND, id) == MU_CONNECTION_UP &&
		     f->ops->post_read(f, MU_PLANE_BACKGROUND, id, MU_REGION_BACKGROUND, 0,
				       w->lines, sizeof(w->lines), OP_READ_LINES) == 0;
	if (!w->reading && w->scored)
		score(&mu->config, w, false);
}

static void send_wish(struct mu *mu, unsigned id, struct mu_wish *wish, enum background_op op)
{
	struct mu_fabric *f = mu->fabric;
	size_t offset = op == OP_REQUEST
				? offsetof(struct mu_background_region, request[mu->config.id])
				: offsetof(struct mu_background_region, grant[mu->config.id]);

	if (wish->there || wish->in_flight || !wish->want.check)
		return;
	wish->sent = wish->want;
	wish->connection_lost = false;
	wish->in_flight = !f->ops->post_write(f, MU_PLANE_BACKGROUND, id, MU_REGION_BACKGROUND,
					      offset, &wish->sent, sizeof(wish->sent), 0, op);
}

/*
 * The next connection may lead to another memory. What was sent over this one
 * may have arrived, and its completion may be taken only now.
 */
static void wish_again(struct mu_wish *wish)
{
	wish->there = false;
	wish->connection_lost = !MU_MUTANT(wish_outlives_memory);
}

static void tend_peer(struct mu *mu, unsigned id)
{
	struct mu_watch *w = &mu->bg.watch[id];
	struct mu_fabric *f = mu->fabric;

	if (f->ops->state(f, MU_PLANE_BACKGROUND, id) == MU_CONNECTION_DOWN) {
		wish_again(&w->request);
		wish_again(&w->grant);
		f->ops->connect(f, MU_PLANE_BACKGROUND, id);
	}
	if (f->ops->state(f, MU_PLANE_BACKGROUND, id) != MU_CONNECTION_UP)
		return;
	send_wish(mu, id, &w->request, OP_REQUEST);
	send_wish(mu, id, &w->grant, OP_GRANT);
}

/* ---------------------------------------------- facts for the data plane */

/* The ballot under which the peer has let us write, if its answer still stands. */
static uint64_t grant_of(const struct mu *mu, unsigned id)
{
	const struct mu_watch *w = &mu->bg.watch[id];
	struct mu_line line;

	if (mu->bg.campaign == MU_CAMPAIGN_IDLE || !w->known ||
	    !mu_line_read(&line, &mu->lines->grant[id]))
		return 0;
	if (line.word[MU_GRANT_BALLOT] != mu->bg.ballot || line.word[MU_GRANT_HIGHER] ||
	    line.word[MU_GRANT_INCARNATION] != w->state.word[MU_STATE_INCARNATION])
		return 0;
	/* The published state may be older than the answer, never contradict it for long. */
	return w->state.word[MU_STATE_GRANTED] > mu->bg.ballot ? 0 : mu->bg.ballot;
}

/*
 * Rule 5: what the peer will need of the log is no longer bounded by what it
 * said before, if its backend was put back.
 */
static bool is_set_back(const struct mu_peer_facts *facts, const struct mu_watch *w)
{
	return w->state.word[MU_STATE_APPLIED] < MU_GET(facts->applied) ||
	       w->state.word[MU_STATE_INCARNATION] != MU_GET(facts->incarnation);
}

static void tell_data(struct mu *mu, unsigned id)
{
	const struct mu_watch *w = &mu->bg.watch[id];
	struct mu_peer_facts *facts = &mu->shared.peer[id];
	uint64_t grant = grant_of(mu, id);

	MU_SET(facts->score, w->score);
	MU_SET(facts->alive, w->alive);
	MU_SET(facts->stands_ns, mu->bg.now_ns - w->stands_since_ns);
	if (w->known) {
		bool set_back = is_set_back(facts, w);

		MU_SET(facts->flags, w->state.word[MU_STATE_FLAGS]);
		MU_SET(facts->incarnation, w->state.word[MU_STATE_INCARNATION]);
		MU_SET(facts->applied, w->state.word[MU_STATE_APPLIED]);
		MU_SET(facts->commit, w->state.word[MU_STATE_COMMIT]);
		MU_SET(facts->granted, w->state.word[MU_STATE_GRANTED]);
		if (set_back)
			MU_SET(mu->shared.setbacks, MU_GET(mu->shared.setbacks) + 1);
	}
	if (MU_GET(facts->grant) != grant) {
		MU_SET(facts->grant, grant);
		mu->bg.wanted = true;
	}
}

/* Is there an entry in the own log that the data plane has not seen? */
static bool log_moved(const struct mu *mu)
{
	uint64_t commit = MU_GET(mu->shared.commit_lsn);
	uint64_t end = MU_GET(mu->shared.commit_end);

	if (mu_load(&mu->header->commit) != commit)
		return true;
	return commit != MU_LSN_NONE && mu_load(&mu_ring_at(&mu->ring, end)->lsn) == end;
}

/*
 * Nobody waits for them here: their clients were answered by the leader. Not so
 * while a leader is new, and clients of this replica are in doubt about what the
 * last one did; nor when the leader is silent, and this replica may be next.
 */
static bool entries_may_gather(const struct mu *mu)
{
	const struct mu_background *bg = &mu->bg;
	uint64_t leader = MU_GET(mu->shared.leader);

	/* The word may also lag behind what entries told of the commit. */
	return leader && bg->watch[leader].moved &&
	       bg->now_ns - bg->seen_ns > mu_standing_ticks * mu->config.tick_ns &&
	       mu_load(&mu->header->commit) < MU_GET(mu->shared.commit_lsn) + mu_gather_bytes;
}

enum mu_wanted mu_data_wanted(struct mu *mu)
{
	bool now = mu->bg.wanted || MU_GET(mu->shared.hungry);

	mu->bg.wanted = false;
	if (now)
		return MU_WANTED_NOW;
	if (MU_SYNC_GET(mu->shared.acting_ballot) || !log_moved(mu))
		return MU_WANTED_NOT;
	return entries_may_gather(mu) ? MU_WANTED_SOON : MU_WANTED_NOW;
}

/*
 * While permissions change hands, answers are worth more than sleep: a voter
 * that has just lost sight of the leader will soon ask or be asked. But not for
 * long, for there may be no majority that could elect another.
 */
static bool is_urgent(const struct mu *mu)
{
	const struct mu_background *bg = &mu->bg;

	if (bg->campaign == MU_CAMPAIGN_ASKING || bg->pending_grant)
		return true;
	return mu->record->voting && bg->led_ns && bg->now_ns != bg->led_ns &&
	       bg->now_ns - bg->led_ns < mu->config.takeover_timeout_ns;
}

uint64_t mu_background_step(struct mu *mu, uint64_t now_ns)
{
	struct mu_background *bg = &mu->bg;
	struct mu_completion done[32];
	uint64_t ballot = 0;
	unsigned leader;
	bool tick = now_ns >= bg->next_tick_ns;
	int n;

	bg->now_ns = now_ns;
	if (!bg->pulse_ns)
		bg->pulse_ns = now_ns;
	while ((n = mu->fabric->ops->poll(mu->fabric, MU_PLANE_BACKGROUND, done, 32)) > 0)
		for (int i = 0; i < n; i++)
			completed(mu, &done[i]);
	if (tick) {
		bg->next_tick_ns = now_ns + mu->config.tick_ns;
		beat(mu);
	}
	if (tick || is_urgent(mu)) {
		MU_EACH_PEER(mu, id)
			read_peer(mu, id, tick);
	}
	mu_record_configuration(mu);
	mu_recover_step(mu);
	mu_coldstart_step(mu); /* before a grant, which ends what it is prepared for */
	mu_grant_step(mu);
	mu_campaign_step(mu);
	mu_publish(mu);
	MU_EACH_PEER(mu, id) {
		tend_peer(mu, id);
		tell_data(mu, id);
	}
	mu_flush(mu, MU_PLANE_BACKGROUND);
	leader = mu_leader_seen(mu, &ballot);
	if (leader)
		bg->led_ns = now_ns;
	if (bg->seen_ballot != (leader ? ballot : 0)) {
		bg->seen_ballot = leader ? ballot : 0;
		bg->seen_ns = now_ns;
	}
	MU_SET(mu->shared.leader, leader);
	MU_SET(mu->shared.leader_ballot, ballot);
	if (is_urgent(mu) && bg->next_tick_ns > now_ns + mu->config.tick_ns / 8)
		return now_ns + mu->config.tick_ns / 8;
	return bg->next_tick_ns;
}
