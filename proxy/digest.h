/*
 * digest.h - do all servers hold the same? Looked at all the time, a few keys
 * at a time (DESIGN 6.4).
 *
 * Every `digest-interval` the leader logs a question: a script (digest.lua) with
 * the names of at most `digest-keys` keys. It changes nothing; at its place in
 * the log every replica asks it of its own server, and so of the same state. Their
 * answers, a digest for each key and how many keys the database has, go to the
 * leader over the link by which requests go. What the majority says is right. A
 * replica that says otherwise is told so, and has its server restored from
 * another's (transfer.h); a leader that finds itself in the wrong hands over
 * first. What differed is in the leader's log and counters.
 *
 * Whose keys: each replica goes through its own server's with SCAN, and names
 * some for the next time; the leader takes one's after the other's, and each
 * question says who is to name more: whose names have been asked about, or were
 * lost. So a key that is in one server alone is found, too. If that shows in the number of keys
 * first, the questions follow each other faster until the key is found.
 *
 * Without a majority among the answers, it is told, and nothing is done.
 */
#ifndef MP_DIGEST_H
#define MP_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "frame.h"
#include "mu.h"
#include "record.h"
#include "records.h"
#include "slice.h"

struct mp_proxy;
struct mp_link;
struct mp_request;
struct redisReply;

enum { MP_DIGEST_KEYS_MAX = 1000 };

struct mp_digest {
	/* The leader's, under that ballot. */
	uint64_t ballot;
	uint64_t next_ns;
	uint64_t serial;  /* of the question */
	uint32_t lacking; /* of whom it had no names to ask about next: a bit for each id */
	bool is_asked;    /* it is under way, and about: */
	uint32_t database;
	uint64_t asked_ns;
	struct redisReply *keys;                /* an array; NULL: none */
	struct redisReply *answer[MU_ID_SLOTS]; /* arrays; NULL: not there yet */
	struct {
		uint32_t database;
		struct redisReply *keys;
	} named[MU_ID_SLOTS]; /* for the next questions */
	unsigned last;        /* whose keys it is about */
	uint32_t hurried;     /* questions since a number of keys differed; 0: it does not */
	struct mp_buffer wire;

	/* Every replica's. */
	bool is_lacked; /* as the last question said: name more keys */
	bool is_scanning;
	uint32_t scan_database;
	unsigned empty_scans; /* in a row */
	char cursor[24];
	bool is_wrong;     /* the own server: it is to be restored */
	uint64_t wrong_ns; /* since when */
};

void mp_digest_close(struct mp_proxy *proxy);
/* Once a turn, before what was filled in is proposed. */
void mp_digest_turn(struct mp_proxy *proxy);
/* When it wants another turn (monotonic ns). */
uint64_t mp_digest_deadline_ns(const struct mp_proxy *proxy);

/* A question was handed on: ask the own backend, which is READY. */
void mp_digest_note(struct mp_proxy *proxy, const struct mp_record_view *record);
/* The answer to a question of purpose DIGEST or NAMES. */
void mp_digest_answer(struct mp_proxy *proxy, const struct mp_request *r, struct mp_slice answer);
/* ... will not come. */
void mp_digest_lost(struct mp_proxy *proxy);

/* The leader: what a follower has sent. */
void mp_digest_hear(struct mp_proxy *proxy, unsigned peer, struct mp_slice answer);
void mp_digest_hear_names(struct mp_proxy *proxy, unsigned peer, uint32_t database,
			  struct mp_slice answer);
/* A follower: the leader has found the own server to be wrong. */
void mp_digest_be_told(struct mp_proxy *proxy);

#endif
