/*
 * node.h - one replica's whole state, and the functions between its parts.
 * Data plane: step.c dispatches to takeover.c, leader.c, peer_sync.c, install.c,
 * space.c, ring_copy.c and follower.c. Background plane: background.c dispatches to
 * grant.c (as a voter), campaign.c (as a candidate) and coldstart.c.
 */
#ifndef MU_NODE_H
#define MU_NODE_H

#include "log.h"
#include "shared.h"

/* ------------------------------------------------------------- data plane */

/* What an operation of the data plane was for. */
enum mu_op_kind {
	MU_OP_LOG,    /* arg: LSN up to which the peer's log is written by it */
	MU_OP_COMMIT, /* arg: the commit word */
	MU_OP_FENCE,  /* arg: ticket */
	MU_OP_HEADER, /* commit and base words read */
	MU_OP_TAIL,   /* a piece of ring read; arg: its LSN */
	MU_OP_PROBE,  /* a piece of ring read, on the way to our oldest entry; arg: its LSN */
	MU_OP_VOID,   /* commit word set to MU_LSN_NONE: installation begins */
	MU_OP_BASE,   /* base word written: installation is nearly complete */
	MU_OP_CONFIGURATION, /* ...and the configuration's, ahead of a commit word */
	MU_OP_COPY_FENCE,    /* proves that what was just read was nobody else's to change */
	MU_OP_PART,          /* of a reading whose last part is one of the above; arg: bytes */
};
struct mu_op {
	uint8_t kind;
	uint32_t attempt; /* completions of an earlier attempt mean nothing */
	uint64_t arg;
};
#define MU_PEER_OPS 128 /* outstanding per peer; power of two */

/* A reading in parts, one after the other: what is still to be posted of it. */
struct mu_reading {
	enum mu_op_kind kind;
	uint64_t offset, arg;
	uint8_t *to;
	size_t left;
};

/* How far a peer is on its way to follow the ballot led or campaigned under. */
enum mu_peer_state {
	MU_PEER_IDLE,    /* no grant, or no connection */
	MU_PEER_HEADER,  /* reading its commit and base words */
	MU_PEER_TAIL,    /* (takeover) reading its log's tail */
	MU_PEER_FENCE,   /* (takeover) proving that the tail was stable when read */
	MU_PEER_KNOWN,   /* (takeover) tail known; waits for the choice */
	MU_PEER_PROBE,   /* its word is behind our oldest entry: does its log reach it? */
	MU_PEER_VOIDING, /* its log does not reach ours: is being declared void */
	MU_PEER_INSTALL, /* is being written anew from our oldest entry on */
	MU_PEER_BASE,    /* base and commit words of the new log are being written */
	MU_PEER_FOLLOWS, /* gets entries as they come; what it acknowledged counts */
	MU_PEER_DENIED,  /* permission lost: out until the grant is renewed */
	MU_PEER_LAGGING, /* dropped: its backend would fill the ring */
};

struct mu_peer {
	enum mu_peer_state state;
	uint64_t ops_head, ops_tail; /* FIFO of outstanding operations */
	struct mu_op ops[MU_PEER_OPS];
	struct mu_reading reading;
	bool refused; /* a posting was, since the last step */
	uint64_t retry_ns;

	uint64_t commit; /* as read from its header */
	uint64_t base;
	uint64_t incarnation; /* of the memory that the connection leads to... */
	uint64_t asked_ns;    /* ...and when it was asked whether that is so still */
	uint64_t posted_end;  /* log written up to here... */
	uint64_t acked_end;   /* ...and acknowledged */
	uint64_t posted_commit, acked_commit;
	uint64_t posted_configuration, acked_configuration;
	uint64_t later_commit,
		later_end; /* a commit position that it may be told of, once it is there */
	uint64_t install_commit, install_end; /* what an installation aims at */
	uint64_t probe_lsn; /* our oldest entry: has it got it? MU_LSN_NONE: not asked */
	uint64_t posted_fence, acked_fence;
	uint64_t install_seen; /* acked_end when the installation was last waited for */
	bool written_off;      /* its backend stood still for so long that nobody waits for it */
	uint64_t readmit_lsn;  /* entry proposed to readmit it; MU_LSN_NONE: none */

	struct mu_position tail; /* last valid entry found (takeover) */
	uint64_t tail_read_lsn;  /* where `scratch` begins */
	/* Sources and targets of operations; they stay put while these are outstanding. */
	uint64_t commit_out, fence_out, configuration_out;
	struct mu_origin origin_out;
	struct mu_replication_header header_in;
	uint64_t piece_bytes; /* of its log read into scratch at once */
	uint8_t *scratch;
};

enum mu_data_state {
	MU_DATA_PASSIVE,   /* follows whoever writes its log */
	MU_DATA_TAILS,     /* takeover: reading the confirmed followers' tails */
	MU_DATA_ADOPT,     /* takeover: copying the chosen tail into the own log */
	MU_DATA_LEVEL,     /* takeover: bringing a majority to the chosen tail */
	MU_DATA_ESTABLISH, /* takeover: the own first entry is on its way to a majority */
	MU_DATA_LEADING,
};

/* Reading a piece of a peer's log into the own, in proven-stable pieces (takeover.c). */
struct mu_adoption {
	unsigned peer;
	struct mu_position last; /* the chosen tail's last entry */
	struct mu_position at;   /* adopted up to here */
	bool reading;
};

/* The reader of committed entries (follower.c). */
struct mu_reader {
	bool placed; /* mu_seek() has succeeded */
	bool stale;
	uint64_t handed_lsn; /* of the last entry handed out */
	bool gathering;      /* in the middle of a fragmented proposal... */
	uint64_t gather_ballot;
	size_t gathered;         /* ...of which this much is in buffer */
	uint64_t applied;        /* reached by mu_applied() */
	struct mu_position at;   /* last entry handed out or passed */
	struct mu_origin origin; /* of the log that `at` is in... */
	uint64_t cold_starts;    /* ...and how often it was started cold */
	uint8_t *buffer;
	size_t buffer_bytes;
};

/* handover.c: an operator wants another leader. */
enum mu_handover {
	MU_HANDOVER_NONE,
	MU_HANDOVER_APPROACH, /* leads on until the heir's backend is near */
	MU_HANDOVER_YIELD,    /* takes no proposals until the heir has all there are */
};

struct mu_data {
	enum mu_data_state state;
	uint32_t attempt;
	uint64_t ballot;       /* acting under this */
	uint64_t deadline_ns;  /* of a takeover */
	uint64_t effort_bytes; /* ...that may be put off by so much of reading and writing more */
	uint64_t now_ns;
	struct mu_position commit; /* last entry known to be committed; lsn MU_LSN_NONE: no log */
	struct mu_origin origin;   /* of the log that `commit` belongs to... */
	uint64_t cold_starts;      /* ...and how often the log was started cold */
	struct mu_position tail;   /* last entry of the own log, while acting */
	struct mu_position chosen; /* (takeover) last entry of the tail that was chosen */
	bool complete;             /* ...and no member has a better one: all were read */
	uint64_t first_lsn;        /* own-ballot entry that makes everything before it committed */
	uint64_t oldest_lsn;       /* an entry; the own ring holds all from here on */
	struct mu_position oldest; /* ...itself, if its LSN is that (advance_oldest()) */
	uint64_t whole_lsn;        /* ...whole from here on for certain, see mu_is_whole_from() */
	uint64_t reach_lsn;        /* the last entry found by the last walk of the tail */
	uint64_t reclaim_lsn;      /* ring space behind may be used again; 0: not known */
	uint64_t setbacks;         /* ...as long as shared.setbacks is this */
	uint64_t let_go;           /* ...and none of these peers holds space again */
	uint64_t timestamp_ms;     /* highest seen in the log */
	uint64_t fence_next, fence_done;
	uint64_t taken; /* enum mu_forget: what has been done about it */
	bool appended;  /* since the last step */
	bool draining;
	enum mu_handover handover;
	uint64_t handover_lsn; /* that the heir's backend is to have before we yield */
	uint64_t handover_ns;  /* by then, or not at all */
	uint64_t committed;    /* the latest configuration known to be committed */
	uint64_t
		configuration; /* in force: the latest in the own log, committed or not (rule 13) */
	uint64_t members;      /* ...its members */
	bool leaving;          /* (leader) it is none of them: somebody was asked to take over */
	struct mu_adoption adoption;
	struct mu_reader reader;
	struct mu_peer peer[MU_ID_SLOTS];
};

/* ------------------------------------------------------- background plane */

/* A line that a peer's slot shall hold; posted until it does. */
struct mu_wish {
	struct mu_line want;
	struct mu_line sent; /* being sent, or there */
	bool in_flight;
	bool connection_lost; /* ...over one that is no more: it says nothing about the next */
	bool there;
};

struct mu_watch {
	struct mu_line lines[MU_PUBLISHED_LINES]; /* READ target */
	bool reading;
	bool scored; /* ...and what is being read counts for the score */
	bool owed;   /* the tick's reading is, as soon as what is being read has arrived */
	uint64_t counter;
	unsigned score;
	bool moved; /* its heartbeat, when last looked at for the score */
	bool alive;
	bool known;            /* state and cold below were read intact since it was last dead... */
	uint64_t read_ns;      /* ...by a reading that began then */
	uint64_t begun_ns;     /* of the reading under way */
	unsigned waited;       /* ...for which so many ticks have been waited... */
	bool overdue;          /* ...too long, which has been held against the peer... */
	unsigned score_before; /* ...from this score on */
	/* The most ticks that a reading took, of the last few, and of those before. */
	unsigned slowest, slowest_before, pace_readings;
	uint64_t beat;      /* the heartbeat that the last reading found */
	unsigned late;      /* ticks that one took too many, and nobody knows yet why... */
	uint64_t late_beat; /* ...since when this was found */
	struct mu_line state, cold;
	uint64_t stands_since_ns; /* its backend has not moved, with something to apply */
	struct mu_wish request, grant;
};

enum mu_campaign_state {
	MU_CAMPAIGN_IDLE,
	MU_CAMPAIGN_ASKING, /* requests are out */
	MU_CAMPAIGN_ACTING, /* a majority granted: the data plane takes over or leads */
};

struct mu_background {
	uint64_t now_ns;
	uint64_t random;
	uint64_t next_tick_ns;
	uint64_t led_ns;               /* when a leader was last seen */
	uint64_t seen_ballot, seen_ns; /* the ballot of who leads, 0: nobody; and since when */
	uint64_t pulse, pulse_ns;
	bool wanted; /* wake the data thread */
	enum mu_campaign_state campaign;
	uint64_t ballot;        /* campaigned under */
	uint64_t deadline_ns;   /* of asking */
	unsigned failures;      /* campaigns in a row that did not lead */
	uint64_t backoff_ns;    /* no campaign before */
	uint64_t blind_ns;      /* since when this replica sees none, and could lead; 0: it does */
	uint64_t leaderless_ns; /* since when a majority sees none; 0: sees one */
	uint64_t highest;       /* ballot seen anywhere */
	uint64_t pending_grant; /* ballot that waits for the data plane to stop */
	bool holder_current;    /* whom the record does not name has no permission */
	uint64_t readmitted;    /* readmissions up to this ballot are past */
	uint64_t forget_commit; /* committed when a tail that was not began to be taken */
	uint64_t given_ballot;  /* the fabric's permission was given for it, 0: to nobody */
	unsigned heir;          /* for whom this replica has made way... */
	uint64_t heir_until_ns; /* ...and until when it says so */
	uint64_t committed;     /* the latest configuration that anybody knows to be committed */
	struct mu_watch watch[MU_ID_SLOTS];
};

struct mu {
	struct mu_config config;
	struct mu_fabric *fabric;
	struct mu_ring ring; /* the own one */
	struct mu_replication_header *header;
	struct mu_background_region *lines;
	struct mu_private_region *record;
	uint8_t *scratch;     /* all peers' tail buffers */
	size_t scratch_bytes; /* of one */
	struct mu_data data;
	_Alignas(64) struct mu_background bg;
	_Alignas(64) struct mu_shared shared;
};

static inline bool mu_is_peer(const struct mu *mu, unsigned id)
{
	return id != mu->config.id && (mu->data.members >> id & 1);
}

/* Does this replica know of that one, which is a member, was, or may become one? */
static inline bool mu_knows(const struct mu *mu, unsigned id)
{
	return atomic_load_explicit(&mu->shared.peers, memory_order_relaxed) >> id & 1;
}

/* The next of these ids behind `id` that is not the own; 0: that was the last. */
static inline unsigned mu_next_peer(const struct mu *mu, unsigned id)
{
	uint64_t known = atomic_load_explicit(&mu->shared.peers, memory_order_relaxed);
	uint64_t left = known & ~(1ULL << mu->config.id) & ((1ULL << MU_ID_SLOTS) - (2ULL << id));

	return left ? (unsigned)__builtin_ctzll(left) : 0;
}

/* Loop over all of them. */
#define MU_EACH_PEER(mu, id) \
	for (unsigned id = mu_next_peer((mu), 0); id; id = mu_next_peer((mu), id))
/* ...and over all that there can be, for what is to hold for those who come later, too. */
#define MU_EACH_OTHER(mu, id)                              \
	for (unsigned id = 1; id <= MU_MAX_REPLICAS; id++) \
		if (id != (mu)->config.id)

/* Data plane: does the own replica count? */
static inline bool mu_is_member(const struct mu *mu)
{
	return mu->data.members >> mu->config.id & 1;
}

#define MU_GET(field) \
	(mu_interruption_point(), atomic_load_explicit(&(field), memory_order_acquire))
#define MU_SET(field, value) \
	(mu_interruption_point(), atomic_store_explicit(&(field), (value), memory_order_release))
/* Sequentially consistent, for the hand-shake of rule 1. */
#define MU_SYNC_GET(field) (mu_interruption_point(), atomic_load(&(field)))
#define MU_SYNC_SET(field, value) (mu_interruption_point(), atomic_store(&(field), (value)))

/* Limits that the simulator makes so small that small rings reach them. */
#ifdef MU_SIMULATED
extern uint64_t mu_piece_bytes, mu_part_bytes, mu_window_bytes;
#else
enum {
	mu_piece_bytes = 64 << 10, /* of log, one write: also on a slow link it ends in time */
	mu_part_bytes = 64 << 10,  /* ...one read, likewise */
	mu_window_bytes = 4 << 20, /* of log, unacknowledged: a step that copies stays short */
};
#endif

#include "each_step.h"

/* --- step.c --- */
/* Stop acting under the current ballot, whatever the state. */
void mu_stop_acting(struct mu *mu);
/* How many voting members, the own included, follow the ballot acted under. */
unsigned mu_followers(const struct mu *mu);

/* --- takeover.c --- */
void mu_takeover_begin(struct mu *mu, uint64_t ballot);
void mu_takeover_step(struct mu *mu);
void mu_takeover_progress(struct mu *mu, unsigned id, const struct mu_op *op);
void mu_takeover_tail_begin(struct mu *mu, unsigned id);
void mu_takeover_tail_read(struct mu *mu, unsigned id, uint64_t lsn);
void mu_takeover_fenced(struct mu *mu, unsigned id);
/* How much of the peer's log is read at once at lsn. */
uint64_t mu_piece_at(const struct mu *mu, unsigned id, uint64_t lsn);
/*
 * Walk the entries of such a piece, read into the peer's scratch from `from` on,
 * behind *last (lsn MU_LSN_NONE: the piece's first entry needs no predecessor),
 * up to the entry at `until`. Returns true if the piece ran out before the log
 * did, and before `until`; *last is moved, *next_lsn is where to go on.
 */
bool mu_walk_piece(const struct mu *mu, unsigned id, uint64_t from, uint64_t until,
		   struct mu_position *last, uint64_t *next_lsn);
void mu_adopt_read(struct mu *mu, unsigned id);
void mu_adopt_fenced(struct mu *mu, unsigned id);

/* --- leader.c --- */
void mu_leader_step(struct mu *mu);
/* Append one entry to the own log; false if permission was lost meanwhile. Room was checked. */
bool mu_append(struct mu *mu, enum mu_kind kind, uint8_t flags, uint64_t timestamp_ms,
	       const struct iovec *iov, int iovcnt, size_t skip, uint32_t length);
bool mu_append_control(struct mu *mu, enum mu_kind kind, const void *payload, uint32_t length);
/* Write what was appended to all that follow. */
void mu_post_to_followers(struct mu *mu);
/* Is there room for it? If not, see to it that there may be. */
bool mu_control_fits(struct mu *mu, uint32_t length);
/* Does a majority, the own replica included, hold the own log up to its end? */
bool mu_majority_has_log(const struct mu *mu);
/* Advance the commit position to what a majority holds, by an own entry in this ballot. */
void mu_count_commit(struct mu *mu);
/* Name the last committed entry in the own header, and before it the configuration. */
void mu_store_commit_word(struct mu *mu);
/* Advance it up to `held`, which is known to be committed. */
void mu_commit_held(struct mu *mu, uint64_t held);
/* Keep oldest_lsn within the ring, given that the log will end at `end`. */
void mu_advance_oldest(struct mu *mu, uint64_t end);
/* Is the own log whole from this entry on? If not, it is kept from whole_lsn on only. */
bool mu_is_whole_from(struct mu *mu, uint64_t lsn);

/* --- peer_sync.c --- */
void mu_peers_begin(struct mu *mu);
void mu_peer_step(struct mu *mu, unsigned id);
void mu_peer_completed(struct mu *mu, unsigned id, enum mu_fabric_status status);
/* In parts, of which the last one's completion is told as `kind`. */
bool mu_peer_post_read(struct mu *mu, unsigned id, enum mu_op_kind kind, uint64_t offset, void *dst,
		       size_t len, uint64_t arg);
/* How much of a reading of `len` bytes its last part is. */
size_t mu_last_part(size_t len);
bool mu_peer_post_write(struct mu *mu, unsigned id, enum mu_op_kind kind, uint64_t offset,
			const void *src, size_t len, uint64_t arg);
/* (takeover) the choice is made and adopted: bring this peer level with the own log. */
void mu_peer_level(struct mu *mu, unsigned id);
void mu_peer_missed_choice(struct mu *mu, unsigned id);
/* Write what the peer has not got yet, as far as its window allows. */
void mu_peer_pump(struct mu *mu, unsigned id);
void mu_peer_post_fence(struct mu *mu, unsigned id);
void mu_peer_post_tail_fence(struct mu *mu, unsigned id);
/* Write it the latest committed configuration, unless it has that; false: not now. */
bool mu_peer_tell_configuration(struct mu *mu, unsigned id);

/* --- space.c --- */
/* Note for whom none is held as the bound is reckoned; has one of these come back since? */
void mu_space_let_go(struct mu *mu);
bool mu_space_is_claimed(const struct mu *mu);
/* Is no majority without this peer? */
bool mu_peer_is_needed(const struct mu *mu, unsigned id);
/* Should it not follow just now, since clients would have to wait for its backend? */
bool mu_peer_had_better_lag(const struct mu *mu, unsigned id);
void mu_peer_lagging_step(struct mu *mu, unsigned id);
/* Its backend is in the way: wait for it no longer, if it has stood still for very long. */
void mu_peer_write_off(struct mu *mu, unsigned id);
/* It was written off: wait for it again, if there is still all that it needs. */
void mu_peer_reckon_with(struct mu *mu, unsigned id);

/* --- install.c --- */
/* Does the peer's log, whose commit word is before our oldest entry, hold that? Find out. */
void mu_probe_begin(struct mu *mu, unsigned id);
void mu_probe_read(struct mu *mu, unsigned id, uint64_t lsn);
bool mu_probe_found(const struct mu *mu, unsigned id);
/* It does not: declare it void, and write it anew. */
void mu_install_begin(struct mu *mu, unsigned id);
void mu_install_voided(struct mu *mu, unsigned id);
void mu_install_step(struct mu *mu, unsigned id);

/* --- ring_copy.c --- */
/* Copy bytes of another log into the own ring at lsn. */
void mu_ring_store(struct mu *mu, uint64_t lsn, const void *bytes, size_t len);

/* --- follower.c --- */
/* Learn from the own log what has been committed by whoever writes it. */
void mu_follow(struct mu *mu);
/* Everything up to `to` is committed: act on control entries, move the position. */
void mu_commit_to(struct mu *mu, const struct mu_position *to);
void mu_reader_reset(struct mu *mu);

/* The origin words, whole as long as there is a log. */
static inline struct mu_origin mu_load_origin(const struct mu *mu)
{
	const struct mu_origin *origin = &mu->header->origin;

	return (struct mu_origin){mu_load(&origin->base), mu_load(&origin->era),
				  mu_load(&origin->parent)};
}

static inline bool mu_same_origin(const struct mu_origin *a, const struct mu_origin *b)
{
	return a->base == b->base && a->era == b->era;
}

/* --- background.c --- */
uint64_t mu_random(struct mu *mu);
void mu_publish(struct mu *mu);
bool mu_data_is_acting(struct mu *mu);
/* Take the right to act from the data plane; true once it has confirmed. */
bool mu_stop_data(struct mu *mu);
void mu_wish_set(struct mu_wish *wish, const uint64_t word[3]);
bool mu_watch_is(const struct mu *mu, unsigned id, uint64_t flag);

/* --- membership.c --- */
/* Data plane: these are in force. */
void mu_set_configuration(struct mu *mu, uint64_t configuration);
void mu_set_committed(struct mu *mu, uint64_t configuration);
/* Take the one in force from the own log, up to `tail`; true if it has changed. */
bool mu_take_configuration(struct mu *mu, const struct mu_position *tail);
/* Is that replica none of the group, and never to be again? */
bool mu_is_removed(const struct mu *mu, unsigned id);
/* (leader) Is this peer to be made a member? */
bool mu_is_joining(const struct mu *mu, unsigned id);
bool mu_change_is_wished(const struct mu *mu);
/* What is wished, of which replica; 0: nothing. Any thread. */
enum mu_change mu_change_wished(const struct mu *mu, unsigned *id);
/* (leader) See to a change of members; make way if this replica is none any more. */
void mu_membership_step(struct mu *mu);
/* Background plane: keep the record, hear from the others. */
void mu_record_configuration(struct mu *mu);
/* May this replica still lead, as far as is known here? */
bool mu_may_lead(const struct mu *mu);
/* Is it a member by the record? */
static inline bool mu_on_record(const struct mu *mu, unsigned id)
{
	return mu_configuration_members(mu->record->configuration) >> id & 1;
}

/* --- grant.c --- */
void mu_grant_step(struct mu *mu);
void mu_record_granted(struct mu *mu, uint64_t ballot);

/* --- campaign.c --- */
void mu_campaign_step(struct mu *mu);
bool mu_eligible(const struct mu *mu);
unsigned mu_leader_seen(const struct mu *mu, uint64_t *ballot);
unsigned mu_leader_coming(const struct mu *mu);
void mu_campaign_abandon(struct mu *mu);

/* --- handover.c --- */
bool mu_handover_is_wished(const struct mu *mu);
/* (any thread) Is there a member besides that could lead now? */
bool mu_has_heir(const struct mu *mu);
/* (leader) See to a handover; true: the heir has all, stop leading. */
bool mu_handover_step(struct mu *mu, bool decided);
/* Way was made for somebody under the ballot that is given up: name him for a while. */
void mu_heir_name(struct mu *mu);
/* Whom this replica names, 0: nobody. */
unsigned mu_heir_named(const struct mu *mu);
/* Whom anybody names. */
unsigned mu_heir(const struct mu *mu);

/* Era and LSN that the backend named; false if it is silent, or is naming them now. */
bool mu_backend_named(const struct mu *mu, uint64_t *era, uint64_t *applied);

/* --- recover.c --- */
bool mu_recover_take(struct mu *mu, enum mu_forget wish);
void mu_recover_step(struct mu *mu);

/* --- coldstart.c --- */
void mu_coldstart_step(struct mu *mu);
/* For a cold start that would be completed by meeting one who has begun it. */
bool mu_is_prepared(const struct mu_private_region *record);
void mu_become_voting(struct mu *mu);

#endif
