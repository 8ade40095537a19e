/* mc_encode.c - see mc_encode.h. */
#include "mc_encode.h"

#include <assert.h>
#include <string.h>

#include "mc_base64.h"
#include "mc_token.h"

#define RELATIVE_MAX_S (60 * 60 * 24 * 30) /* memcached's REALTIME_MAXDELTA */
#define DEADLINE_JITTER_S 5                /* how wrong a deadline read back may be */
#define LAST_TO_BE_WON_S (INT32_MAX - 365 * 24 * 3600)

/* ----------------------------------------------------------------- classes */

enum mc_class mc_class_of(const struct mc_request *r)
{
	switch (r->verb) {
	case MC_GET:
	case MC_GETS:
	case MC_GETS_PART:
	case MC_ME:
	case MC_LISTING:
	case MC_STATS:
	case MC_VERSION:
		return MC_CLASS_READ;
	case MC_MG:
		return mc_has(r, 'N') || mc_has(r, 'R') || mc_has(r, 'T') ? MC_CLASS_DECIDED
									  : MC_CLASS_READ;
	case MC_DELETE:
		return r->compare || mc_has(r, 'I') || mc_has(r, 'x') ? MC_CLASS_DECIDED
								      : MC_CLASS_WRITE;
	case MC_SET:
	case MC_FLUSH_ALL:
	case MC_ADMIN:
		return MC_CLASS_WRITE;
	case MC_GAT:
	case MC_GATS:
		/* Of none or several keys: in parts, or nothing to decide. */
		return r->key_count == 1 ? MC_CLASS_DECIDED : MC_CLASS_LOCAL;
	case MC_ADD:
	case MC_REPLACE:
	case MC_APPEND:
	case MC_PREPEND:
	case MC_CAS:
	case MC_INCR:
	case MC_DECR:
	case MC_TOUCH:
	case MC_GAT_PART:
	case MC_GATS_PART:
		return MC_CLASS_DECIDED;
	case MC_OWN_STATS:
	case MC_NOOP:
	case MC_QUIT:
	case MC_SASL:
	case MC_REFUSED:
	case MC_UNKNOWN:
		break;
	}
	return MC_CLASS_LOCAL;
}

bool mc_is_blind(const struct mc_request *r)
{
	return mc_class_of(r) == MC_CLASS_WRITE;
}

static bool is_gets(const struct mc_request *r)
{
	return r->verb == MC_GETS || r->verb == MC_GETS_PART;
}

bool mc_is_part(const struct mc_request *r)
{
	return r->verb == MC_GAT_PART || r->verb == MC_GATS_PART || r->verb == MC_GETS_PART;
}

bool mc_needs_translation(const struct mc_request *r)
{
	if (r->dialect != MC_TEXT)
		return true;
	return r->verb == MC_GETS || r->verb == MC_GATS || mc_is_part(r) || r->verb == MC_VERSION ||
	       r->verb == MC_STATS;
}

bool mc_has_tokens(const struct mc_request *r)
{
	if (r->dialect == MC_TEXT)
		return is_gets(r) || r->verb == MC_GATS || r->verb == MC_GATS_PART ||
		       r->verb == MC_LISTING;
	return r->dialect == MC_BINARY ? !r->quiet || mc_class_of(r) == MC_CLASS_READ
				       : mc_has(r, 'c');
}

bool mc_stores(const struct mc_request *r)
{
	switch (r->verb) {
	case MC_SET:
	case MC_ADD:
	case MC_REPLACE:
	case MC_APPEND:
	case MC_PREPEND:
	case MC_CAS:
	case MC_INCR:
	case MC_DECR:
		return true;
	case MC_MG:
		return mc_has(r, 'N');
	case MC_DELETE:
		return mc_has(r, 'x');
	default:
		return false;
	}
}

bool mc_wants_token(const struct mc_request *r)
{
	if (r->dialect == MC_BINARY)
		return !r->quiet;
	return r->dialect == MC_META && mc_has(r, 'c');
}

/* --------------------------------------------------------------- deadlines */

/* Two keys of one hash would at worst exchange deadlines that are within jitter anyway. */
static void remember(struct mc_deadlines *deadlines, struct mp_slice key, int64_t deadline_s)
{
	uint64_t hash = mc_key_hash(key);
	size_t at = hash % MC_DEADLINE_SLOTS;

	deadlines->slot[at].key_hash = hash;
	deadlines->slot[at].deadline_s = deadline_s;
}

int64_t mc_absolute(int64_t exptime, int64_t now_s)
{
	int64_t deadline_s = exptime <= RELATIVE_MAX_S ? now_s + exptime : exptime;

	if (exptime <= 0)
		return exptime < 0 ? -1 : 0;                    /* at once; never */
	return deadline_s < INT32_MAX ? deadline_s : INT32_MAX; /* memcached cuts it to 32 bits */
}

int64_t mc_deadline(struct mc_deadlines *deadlines, struct mp_slice key, int64_t exptime,
		    int64_t now_s)
{
	int64_t deadline_s = mc_absolute(exptime, now_s);

	if (deadline_s > 0)
		remember(deadlines, key, deadline_s);
	return deadline_s;
}

int64_t mc_kept_deadline(struct mc_deadlines *deadlines, struct mp_slice key, int64_t left_s,
			 int64_t now_s)
{
	uint64_t hash = mc_key_hash(key);
	size_t at = hash % MC_DEADLINE_SLOTS;
	int64_t known_s = deadlines->slot[at].deadline_s;
	int64_t deadline_s = now_s + left_s;

	if (left_s < 0)
		return 0;
	if (deadlines->slot[at].key_hash == hash && known_s >= deadline_s - DEADLINE_JITTER_S &&
	    known_s <= deadline_s + DEADLINE_JITTER_S)
		return known_s;
	remember(deadlines, key, deadline_s);
	return deadline_s;
}

/* ------------------------------------------------------------------ pieces */

/* As it stands in lines; text: memory for it. */
static struct mp_slice key_in_lines(const struct mc_request *r, char text[MC_MAX_KEY_BYTES + 8])
{
	if (!r->key_is_base64)
		return r->keys[0];
	assert(mc_base64_bytes(r->keys[0].len) <= MC_MAX_KEY_BYTES + 8);
	return (struct mp_slice){text, mc_base64_encode(r->keys[0], text)};
}

static void put_key(struct mc_writer *w, const struct mc_request *r)
{
	char text[MC_MAX_KEY_BYTES + 8];

	mc_put_slice(w, key_in_lines(r, text));
}

void mc_put_meta(struct mc_writer *w, const struct mc_request *r, const char *verb)
{
	mc_put_text(w, verb);
	mc_put_text(w, " ");
	put_key(w, r);
	if (r->key_is_base64)
		mc_put_text(w, " b");
}

void mc_put_flag(struct mc_writer *w, char flag, int64_t value)
{
	char text[2] = {' ', flag};

	mc_put(w, text, 2);
	mc_put_i64(w, value);
}

void mc_put_token(struct mc_writer *w, uint64_t cas)
{
	mc_put_text(w, " E");
	mc_put_u64(w, cas);
}

static void put_store_line(struct mc_writer *w, const struct mc_request *r, uint32_t flags,
			   int64_t deadline_s, size_t bytes)
{
	if (!r->key_is_base64 && !mc_wants_token(r) && !mc_has(r, 'E')) {
		mc_put_text(w, "set ");
		mc_put_slice(w, r->keys[0]);
		mc_put_text(w, " ");
		mc_put_u64(w, flags);
		mc_put_text(w, " ");
		mc_put_i64(w, deadline_s);
		mc_put_text(w, " ");
		mc_put_u64(w, bytes);
		return;
	}
	mc_put_text(w, "ms ");
	put_key(w, r);
	mc_put_text(w, " ");
	mc_put_u64(w, bytes);
	if (r->key_is_base64)
		mc_put_text(w, " b");
	mc_put_flag(w, 'F', flags);
	mc_put_flag(w, 'T', deadline_s);
	if (mc_has(r, 'E'))
		mc_put_token(w, mc_cas_of_chosen(r->chosen));
	if (mc_wants_token(r))
		mc_put_text(w, " c");
}

void mc_put_store(struct mc_writer *w, const struct mc_request *r, uint32_t flags,
		  int64_t deadline_s, const struct mc_value *value)
{
	put_store_line(w, r, flags, deadline_s, value->head.len + value->tail.len + value->blanks);
	mc_put_text(w, "\r\n");
	mc_put_slice(w, value->head);
	mc_put_slice(w, value->tail);
	for (size_t i = 0; i < value->blanks; i++)
		mc_put_text(w, " ");
	mc_put_text(w, "\r\n");
}

void mc_put_delete(struct mc_writer *w, const struct mc_request *r)
{
	char text[MC_MAX_KEY_BYTES + 8];

	mc_put_delete_line(w, key_in_lines(r, text), r->key_is_base64);
}

void mc_put_mg(struct mc_writer *w, const struct mc_request *r, const struct mc_mg_changes *changes)
{
	const char *s = r->args.len > 0 ? r->args.data : "", *end = s + r->args.len;
	struct mp_slice word;

	mc_put_meta(w, r, "mg");
	if (changes->is_made)
		mc_put_flag(w, 'R', INT32_MAX);
	while ((word = mc_next_word(&s, end)).len > 0) {
		switch (*word.data) {
		case 'q':
		case 'b':
		case 'x': /* nothing to mg */
			break;
		case 'E':
			if (changes->vivify && !changes->is_made)
				mc_put_token(w, mc_cas_of_chosen(r->chosen));
			break;
		case 'N':
			if (changes->vivify)
				mc_put_flag(w, changes->is_made ? 'T' : 'N', changes->vivify_s);
			break;
		case 'R':
			if (changes->recache)
				mc_put_flag(w, 'R', changes->recache_s);
			break;
		case 'T':
			if (changes->touch)
				mc_put_flag(w, 'T', changes->touch_s);
			break;
		default:
			mc_put_text(w, " ");
			mc_put_slice(w, word);
			break;
		}
	}
	mc_put_text(w, "\r\n");
}

/*
 * R takes no win of an item without a deadline, nor of one with a deadline that is not before
 * R's own, INT32_MAX. A year before that it is still so where the server's clock is wrong
 * (memcached_clock.h), and an item that is due then lives until its own deadline is set,
 * however late the log is run.
 */
int64_t mc_deadline_to_be_won(int64_t deadline_s)
{
	return deadline_s != 0 && deadline_s < LAST_TO_BE_WON_S ? deadline_s : LAST_TO_BE_WON_S;
}

void mc_put_win(struct mc_writer *w, const struct mc_request *r, const char *flags,
		int64_t deadline_s)
{
	mc_put_meta(w, r, "mg");
	mc_put_text(w, flags);
	mc_put_flag(w, 'R', INT32_MAX);
	if (deadline_s != mc_deadline_to_be_won(deadline_s))
		mc_put_flag(w, 'T', deadline_s);
	mc_put_text(w, "\r\n");
}

void mc_put_touch(struct mc_writer *w, const struct mc_request *r, int64_t deadline_s)
{
	bool with_token = r->dialect == MC_BINARY || r->verb == MC_GATS || r->verb == MC_GATS_PART;

	if (r->key_is_base64) {
		mc_put_meta(w, r, "mg");
		mc_put_flag(w, 'T', deadline_s);
		mc_put_text(w, r->verb == MC_TOUCH ? "\r\n" : " f c v\r\n");
		return;
	}
	if (r->verb == MC_TOUCH) {
		mc_put_text(w, "touch ");
		mc_put_slice(w, r->keys[0]);
		mc_put_text(w, " ");
		mc_put_i64(w, deadline_s);
	} else {
		mc_put_text(w, with_token ? "gats " : "gat ");
		mc_put_i64(w, deadline_s);
		mc_put_text(w, " ");
		mc_put_slice(w, r->keys[0]);
	}
	mc_put_text(w, "\r\n");
}

/* ------------------------------------------------------------- wire forms */

static void put_get(struct mc_writer *w, const struct mc_request *r)
{
	if (r->key_is_base64) {
		mc_put_meta(w, r, "mg");
		mc_put_text(w, " f c v");
		return;
	}
	mc_put_text(w, is_gets(r) || r->dialect == MC_BINARY ? "gets" : "get");
	for (int i = 0; i < r->key_count; i++) {
		mc_put_text(w, " ");
		mc_put_slice(w, r->keys[i]);
	}
}

size_t mc_encode(const struct mc_request *r, int64_t now_s, struct mc_deadlines *deadlines,
		 char *out, size_t cap)
{
	struct mc_writer w = {out, cap, 0};

	switch (r->verb) {
	case MC_SET:
		mc_put_store(&w, r, r->flags, mc_deadline(deadlines, r->keys[0], r->exptime, now_s),
			     &(struct mc_value){.head = r->value});
		return w.bytes;
	case MC_DELETE:
		mc_put_delete(&w, r);
		return w.bytes;
	case MC_GET:
	case MC_GETS:
	case MC_GETS_PART:
		put_get(&w, r);
		break;
	case MC_MG:
		mc_put_mg(&w, r, &(struct mc_mg_changes){0});
		return w.bytes;
	case MC_ME:
		mc_put_meta(&w, r, "me");
		break;
	case MC_FLUSH_ALL:
		mc_put_text(&w, "flush_all");
		if (r->exptime > 0) {
			mc_put_text(&w, " ");
			mc_put_i64(&w, mc_absolute(r->exptime, now_s));
		}
		break;
	case MC_ADMIN:
	case MC_LISTING:
		mc_put_slice(&w, r->args);
		break;
	case MC_STATS:
		mc_put_text(&w, r->args.len > 0 ? "stats " : "stats");
		mc_put_slice(&w, r->args);
		break;
	case MC_VERSION:
		mc_put_text(&w, "version");
		break;
	default:
		assert(!"a request of class READ or WRITE");
	}
	mc_put_text(&w, "\r\n");
	return w.bytes;
}

/* mg takes the win of a stale item: mc_decide() sees to it that nobody loses by that. */
size_t mc_encode_fetch(const struct mc_request *r, char *out, size_t cap)
{
	struct mc_writer w = {out, cap, 0};
	bool needs_value = r->verb == MC_APPEND || r->verb == MC_PREPEND || r->verb == MC_INCR ||
			   r->verb == MC_DECR;

	assert(r->key_count == 1);
	mc_put_meta(&w, r, "mg");
	mc_put_text(&w, needs_value ? " u f t c h v\r\n" : " u f t c\r\n");
	return w.bytes;
}

size_t mc_encode_delete(const struct mc_request *r, char *out, size_t cap)
{
	struct mc_writer w = {out, cap, 0};

	mc_put_delete(&w, r);
	return w.bytes;
}

size_t mc_encode_won(const struct mc_request *r, char *out, size_t cap)
{
	struct mc_writer w = {out, cap, 0};

	mc_put_meta(&w, r, "mg");
	mc_put_text(&w, " u\r\n");
	return w.bytes;
}
