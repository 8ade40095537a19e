/*
 * mc_binary.c - the frames of the binary protocol; see mc_binary.h and
 * mc_parser.h. memcached 1.6's proto_bin.c was the reference for which are
 * accepted, and what is answered to the others.
 */
#include "mc_binary.h"

#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "mc_base64.h"
#include "mc_parser.h"

/* ----------------------------------------------------------------- answers */

struct header {
	uint8_t magic, opcode;
	uint16_t key_bytes;
	uint8_t extras_bytes, data_type;
	uint16_t status; /* of a request: reserved */
	uint32_t body_bytes;
	uint32_t opaque;
	uint64_t cas;
};
_Static_assert(sizeof(struct header) == MC_BINARY_HEADER_BYTES, "the protocol's layout");

void mc_put_header(struct mc_writer *w, const struct mc_request *r, enum mc_status status,
		   struct mc_binary_body body, uint64_t cas)
{
	struct header header = {
		.magic = MC_BINARY_RESPONSE,
		.opcode = r->opcode,
		.key_bytes = htons((uint16_t)body.key),
		.extras_bytes = (uint8_t)body.extras,
		.status = htons((uint16_t)status),
		.body_bytes = htonl((uint32_t)(body.extras + body.key + body.value)),
		.opaque = r->opaque,
		.cas = htobe64(cas),
	};

	mc_put(w, (const char *)&header, sizeof(header));
}

void mc_read_header(struct mc_request *r, const char *header)
{
	struct header h;

	memcpy(&h, header, sizeof(h));
	r->opcode = h.opcode;
	r->opaque = h.opaque;
}

static const char *status_text(enum mc_status status)
{
	switch (status) {
	case MC_STATUS_NOT_FOUND:
		return "Not found";
	case MC_STATUS_EXISTS:
		return "Data exists for key.";
	case MC_STATUS_TOO_LARGE:
		return "Too large.";
	case MC_STATUS_INVALID:
		return "Invalid arguments";
	case MC_STATUS_NOT_STORED:
		return "Not stored.";
	case MC_STATUS_NON_NUMERIC:
		return "Non-numeric server-side value for incr or decr";
	case MC_STATUS_AUTH:
		return "Auth failure.";
	case MC_STATUS_UNKNOWN_COMMAND:
		return "Unknown command";
	case MC_STATUS_NO_MEMORY:
		return "Out of memory";
	case MC_STATUS_OK:
	case MC_STATUS_INTERNAL:
	case MC_STATUS_TEMPORARY:
		break;
	}
	return "";
}

void mc_put_error(struct mc_writer *w, const struct mc_request *r, enum mc_status status,
		  const char *text)
{
	if (!text)
		text = status_text(status);
	mc_put_header(w, r, status, (struct mc_binary_body){.value = strlen(text)}, 0);
	mc_put_text(w, text);
}

size_t mc_binary_error(const struct mc_request *r, enum mc_status status, const char *text,
		       char *out, size_t cap)
{
	struct mc_writer w = {out, cap, 0};
	char shorter[64];

	snprintf(shorter, sizeof(shorter), "%s", text ? text : status_text(status));
	mc_put_error(&w, r, status, shorter);
	return w.bytes <= cap ? w.bytes : 0;
}

void mc_put_error_line(struct mc_writer *w, const struct mc_request *r, struct mp_slice line)
{
	enum mc_status status = MC_STATUS_INVALID;
	size_t len = line.len;

	while (len > 0 && (line.data[len - 1] == '\n' || line.data[len - 1] == '\r'))
		len--;
	if (mp_starts_with(line, "SERVER_ERROR object too large"))
		status = MC_STATUS_TOO_LARGE;
	else if (mp_starts_with(line, "SERVER_ERROR out of memory"))
		status = MC_STATUS_NO_MEMORY;
	else if (mp_starts_with(line, "SERVER_ERROR"))
		status = MC_STATUS_INTERNAL;
	mc_put_header(w, r, status, (struct mc_binary_body){.value = len}, 0);
	mc_put(w, line.data, len);
}

/* ---------------------------------------------------------------- requests */

enum shape {
	HAS_KEY = 1,    /* must have one */
	MAY_KEY = 2,    /* may */
	HAS_VALUE = 4,  /* what is left is a value */
	MAY_EXTRAS = 8, /* the extras may be missing */
	QUIET = 16,
};

/* The opcodes. */
static const struct operation {
	uint8_t is_known;
	uint8_t verb;
	uint8_t extras;
	uint8_t shape;
} operations[] = {
	[MC_OP_GET] = {1, MC_GET, 0, HAS_KEY},
	[MC_OP_GETQ] = {1, MC_GET, 0, HAS_KEY | QUIET},
	[MC_OP_GETK] = {1, MC_GET, 0, HAS_KEY},
	[MC_OP_GETKQ] = {1, MC_GET, 0, HAS_KEY | QUIET},
	[MC_OP_SET] = {1, MC_SET, 8, HAS_KEY | HAS_VALUE},
	[MC_OP_SETQ] = {1, MC_SET, 8, HAS_KEY | HAS_VALUE | QUIET},
	[MC_OP_ADD] = {1, MC_ADD, 8, HAS_KEY | HAS_VALUE},
	[MC_OP_ADDQ] = {1, MC_ADD, 8, HAS_KEY | HAS_VALUE | QUIET},
	[MC_OP_REPLACE] = {1, MC_REPLACE, 8, HAS_KEY | HAS_VALUE},
	[MC_OP_REPLACEQ] = {1, MC_REPLACE, 8, HAS_KEY | HAS_VALUE | QUIET},
	[MC_OP_APPEND] = {1, MC_APPEND, 0, HAS_KEY | HAS_VALUE},
	[MC_OP_APPENDQ] = {1, MC_APPEND, 0, HAS_KEY | HAS_VALUE | QUIET},
	[MC_OP_PREPEND] = {1, MC_PREPEND, 0, HAS_KEY | HAS_VALUE},
	[MC_OP_PREPENDQ] = {1, MC_PREPEND, 0, HAS_KEY | HAS_VALUE | QUIET},
	[MC_OP_DELETE] = {1, MC_DELETE, 0, HAS_KEY},
	[MC_OP_DELETEQ] = {1, MC_DELETE, 0, HAS_KEY | QUIET},
	[MC_OP_INCREMENT] = {1, MC_INCR, 20, HAS_KEY},
	[MC_OP_INCREMENTQ] = {1, MC_INCR, 20, HAS_KEY | QUIET},
	[MC_OP_DECREMENT] = {1, MC_DECR, 20, HAS_KEY},
	[MC_OP_DECREMENTQ] = {1, MC_DECR, 20, HAS_KEY | QUIET},
	[MC_OP_TOUCH] = {1, MC_TOUCH, 4, HAS_KEY},
	[MC_OP_GAT] = {1, MC_GAT, 4, HAS_KEY},
	[MC_OP_GATQ] = {1, MC_GAT, 4, HAS_KEY | QUIET},
	[MC_OP_GATK] = {1, MC_GAT, 4, HAS_KEY},
	[MC_OP_GATKQ] = {1, MC_GAT, 4, HAS_KEY | QUIET},
	[MC_OP_FLUSH] = {1, MC_FLUSH_ALL, 4, MAY_EXTRAS},
	[MC_OP_FLUSHQ] = {1, MC_FLUSH_ALL, 4, MAY_EXTRAS | QUIET},
	[MC_OP_NOOP] = {1, MC_NOOP, 0, 0},
	[MC_OP_VERSION] = {1, MC_VERSION, 0, 0},
	[MC_OP_STAT] = {1, MC_STATS, 0, MAY_KEY},
	[MC_OP_QUIT] = {1, MC_QUIT, 0, 0},
	[MC_OP_QUITQ] = {1, MC_QUIT, 0, QUIET},
	[MC_OP_SASL_LIST_MECHS] = {1, MC_SASL, 0, 0},
	[MC_OP_SASL_AUTH] = {1, MC_SASL, 0, HAS_KEY | HAS_VALUE},
	[MC_OP_SASL_STEP] = {1, MC_SASL, 0, HAS_KEY | HAS_VALUE},
};

/* A frame taken apart. */
struct frame {
	struct header header;
	size_t key, extras, value; /* their lengths */
	const struct operation *operation;
};

static enum mc_result refuse(struct mc_parser *p, enum mc_status status, const char *text,
			     bool for_good)
{
	p->status = (uint16_t)status;
	p->error = text ? text : status_text(status);
	return for_good ? MC_FATAL : MC_BAD;
}

static bool is_shaped(const struct frame *f)
{
	unsigned shape = f->operation->shape;

	if (f->extras != f->operation->extras && !(f->extras == 0 && (shape & MAY_EXTRAS)))
		return false;
	if (shape & HAS_KEY ? f->key == 0 : f->key > 0 && !(shape & MAY_KEY))
		return false;
	return f->value == 0 || (shape & HAS_VALUE);
}

static uint32_t get_u32(const char *data)
{
	uint32_t value;

	memcpy(&value, data, sizeof(value));
	return ntohl(value);
}

static uint64_t get_u64(const char *data)
{
	uint64_t value;

	memcpy(&value, data, sizeof(value));
	return be64toh(value);
}

/* Unsigned here: what is to be "at once" elsewhere is in 2106. */
static int64_t get_exptime(const char *data)
{
	uint32_t exptime = get_u32(data);

	return exptime > INT32_MAX ? INT32_MAX : exptime;
}

static void take_extras(const struct frame *f, const char *extras, struct mc_request *r)
{
	switch (f->extras) {
	case 4:
		r->exptime = get_exptime(extras);
		break;
	case 8:
		r->flags = get_u32(extras);
		r->exptime = get_exptime(extras + 4);
		break;
	case 20:
		r->number = get_u64(extras);
		r->initial = get_u64(extras + 8);
		r->vivify = get_u32(extras + 16) != UINT32_MAX;
		r->vivify_exptime = get_exptime(extras + 16);
		break;
	default:
		break;
	}
}

/* stats' argument goes into a line as it is. */
static bool is_plain_text(struct mp_slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] < ' ' || text.data[i] > '~')
			return false;
	return true;
}

/* A value that is too large; the key is there. */
static enum mc_result too_large(struct mc_parser *p, const struct frame *f, struct mp_slice key,
				size_t *used)
{
	char text[MC_MAX_KEY_BYTES * 2];
	bool odd = mc_key_is_odd(key);

	refuse(p, MC_STATUS_TOO_LARGE, NULL, false);
	*used = sizeof(f->header) + f->extras + f->key;
	mc_swallow(p, f->value, MC_BAD);
	if (f->operation->verb != MC_SET || (odd && key.len > MC_MAX_BASE64_KEY_BYTES))
		return MC_MORE;
	if (odd) {
		size_t len = mc_base64_encode(key, text);

		key = (struct mp_slice){text, len};
	}
	mc_delete_instead(p, key, odd);
	return MC_MORE;
}

static enum mc_result take_key(struct mc_parser *p, struct mp_slice key, struct mc_request *r)
{
	if (r->verb == MC_STATS || key.len == 0) {
		r->args = key;
		if (!is_plain_text(key))
			return refuse(p, MC_STATUS_NOT_FOUND, NULL, false);
		if (mp_slice_is(key, "muproxy"))
			r->verb = MC_OWN_STATS;
		return MC_DONE;
	}
	r->key_count = 1;
	r->key_is_base64 = mc_key_is_odd(key);
	if (r->key_is_base64 && key.len > MC_MAX_BASE64_KEY_BYTES)
		return refuse(p, MC_STATUS_INVALID, "muproxy: such a key has 186 bytes at most",
			      false);
	if (!mc_keep_key(p, 0, key))
		return refuse(p, MC_STATUS_NO_MEMORY, NULL, false);
	r->keys = p->keys;
	return MC_DONE;
}

/* The whole frame is there, its extras in r. */
static enum mc_result take_frame(struct mc_parser *p, const struct frame *f, const char *data,
				 struct mc_request *r)
{
	const char *key = data + sizeof(f->header) + f->extras;

	r->cas = be64toh(f->header.cas);
	r->compare = r->cas != 0;
	if (r->compare && (r->verb == MC_SET || r->verb == MC_ADD || r->verb == MC_REPLACE))
		r->verb = MC_CAS;
	r->value = (struct mp_slice){key + f->key, f->value};
	return take_key(p, (struct mp_slice){key, f->key}, r);
}

/* The header, into r, too. DONE: it makes sense. */
static enum mc_result take_header(struct mc_parser *p, const char *data, struct frame *f,
				  struct mc_request *r)
{
	struct header *h = &f->header;
	uint32_t body;

	memcpy(h, data, sizeof(*h));
	body = ntohl(h->body_bytes);
	f->key = ntohs(h->key_bytes);
	f->extras = h->extras_bytes;
	r->dialect = MC_BINARY;
	r->opcode = h->opcode;
	r->opaque = h->opaque;
	p->line = *r; /* for errors */
	if (h->magic != MC_BINARY_REQUEST)
		return mc_fatal(p, "");
	if (f->key + f->extras > body)
		return refuse(p, MC_STATUS_UNKNOWN_COMMAND, NULL, true);
	if (f->key > MC_MAX_KEY_BYTES)
		return refuse(p, MC_STATUS_INVALID, NULL, true);
	f->value = body - f->key - f->extras;
	f->operation = h->opcode < sizeof(operations) / sizeof(operations[0])
			       ? &operations[h->opcode]
			       : NULL;
	if (f->operation && !f->operation->is_known)
		f->operation = NULL;
	return f->operation && !is_shaped(f) ? refuse(p, MC_STATUS_INVALID, NULL, true) : MC_DONE;
}

enum mc_result mc_parse_frame(struct mc_parser *p, const char *data, size_t len, size_t *used,
			      struct mc_request *r)
{
	enum mc_result result;
	struct frame f = {0};

	if (len < sizeof(f.header))
		return MC_MORE;
	result = take_header(p, data, &f, r);
	if (result != MC_DONE)
		return result;
	if (!f.operation) {
		refuse(p, MC_STATUS_UNKNOWN_COMMAND, NULL, false);
		*used = sizeof(f.header);
		return mc_swallow(p, f.extras + f.key + f.value, MC_BAD);
	}
	r->verb = f.operation->verb;
	r->quiet = f.operation->shape & QUIET;
	if (len < sizeof(f.header) + f.extras + f.key)
		return MC_MORE;
	take_extras(&f, data + sizeof(f.header), r);
	if (!mc_fits(p->limits, f.key, r->flags, f.value))
		return too_large(
			p, &f, (struct mp_slice){data + sizeof(f.header) + f.extras, f.key}, used);
	p->line_bytes = sizeof(f.header) + f.extras + f.key + f.value;
	if (len < p->line_bytes)
		return MC_MORE;
	*used = p->line_bytes;
	r->raw = (struct mp_slice){data, *used};
	return take_frame(p, &f, data, r);
}
