/* redis_donor.c - see redis_transfer.h: the end that gives. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "question.h"
#include "redis_transfer.h"
#include "redis_wire.h"
#include "resp.h"
#include "state.h"
#include "stream.h"
#include "transfer.h"

#define GATE_CHANNEL "muproxy:gate:"

struct redis_donor {
	struct mp_donation *donation;
	struct mp_stream server; /* as if we were its replica */
	unsigned answers;        /* to come before it is ready */
	bool is_going;           /* what comes is for the other end */
	uint64_t gate;           /* the question that is under way; 0: none */
	uint64_t gate_era, gate_lsn;
};

/* ----------------------------------------------------------------- the server */

static void on_up(void *ctx)
{
	struct redis_donor *donor = ctx;
	const char *password = donor->donation->proxy->options.redis_password;
	struct mp_slice auth[2] = {mp_slice_of("AUTH")};
	/*
	 * Without "eof" it writes a file, and tells how large that is, at once; with it it need
	 * not, but waits for other replicas to come.
	 */
	struct mp_slice capa[5] = {mp_slice_of("REPLCONF"), mp_slice_of("capa"),
				   mp_slice_of("psync2"), mp_slice_of("capa"), mp_slice_of("eof")};
	bool by_file = donor->donation->attempt % 2 == 1;
	bool ok = true;

	donor->answers = 1;
	if (password) {
		auth[1] = mp_slice_of(password);
		ok = redis_put_request(&donor->server.out, 2, auth);
		donor->answers++;
	}
	if (!ok || !redis_put_request(&donor->server.out, by_file ? 3 : 5, capa))
		mp_donation_fail(donor->donation, "out of memory");
	mp_stream_flush(&donor->server);
}

/* "+OK" to each thing said. */
static void take_answers(struct redis_donor *donor)
{
	struct mp_buffer *in = &donor->server.in;
	const char *end;

	while (donor->answers > 0 && (end = memchr(mp_buffer_data(in), '\n', mp_buffer_len(in)))) {
		size_t len = (size_t)(end - mp_buffer_data(in)) + 1;

		if (*mp_buffer_data(in) != '+') {
			mp_donation_fail(donor->donation, "its server says: %.*s",
					 (int)(len < 100 ? len : 100), mp_buffer_data(in));
			return;
		}
		mp_buffer_consume(in, len);
		if (--donor->answers == 0)
			mp_donation_agree(donor->donation);
	}
}

static void pass_on(struct redis_donor *donor)
{
	struct mp_buffer *in = &donor->server.in;
	bool has_room = mp_donation_send(donor->donation, mp_buffer_slice(in));

	mp_buffer_clear(in);
	if (!has_room)
		mp_stream_pause(&donor->server);
}

static void on_bytes(void *ctx)
{
	struct redis_donor *donor = ctx;

	if (donor->donation->is_failed)
		mp_buffer_clear(&donor->server.in);
	else if (donor->is_going)
		pass_on(donor);
	else
		take_answers(donor);
}

static void on_closed(void *ctx, const char *why)
{
	struct redis_donor *donor = ctx;

	mp_donation_fail(donor->donation, "its server: %s", why);
	mp_stream_pause(&donor->server);
}

static const struct mp_stream_events events = {
	.up = on_up,
	.bytes = on_bytes,
	.closed = on_closed,
};

static void begin(struct mp_donation *donation)
{
	struct mp_proxy *proxy = donation->proxy;
	struct redis_donor *donor = calloc(1, sizeof(*donor));

	if (!donor || !mp_stream_connect(&donor->server, proxy->base,
					 &proxy->transfer.redis_address, &events, donor)) {
		mp_donation_fail(donation, "its server: %s", strerror(errno));
		free(donor);
		return;
	}
	donor->donation = donation;
	donation->own = donor;
}

/* -------------------------------------------------------------------- the gate */

/* The words of PUBLISH. */
struct gate {
	char channel[40], message[40];
	struct mp_slice words[3];
};

static void make_gate(struct gate *gate, uint64_t nonce, uint64_t a, uint64_t b)
{
	snprintf(gate->channel, sizeof(gate->channel), GATE_CHANNEL "%016" PRIx64, nonce);
	snprintf(gate->message, sizeof(gate->message), "%016" PRIx64 "%016" PRIx64, a, b);
	gate->words[0] = mp_slice_of("PUBLISH");
	gate->words[1] = mp_slice_of(gate->channel);
	gate->words[2] = mp_slice_of(gate->message);
}

size_t redis_put_gate(char out[REDIS_GATE_BYTES], uint64_t nonce, uint64_t a, uint64_t b)
{
	struct gate gate;

	make_gate(&gate, nonce, a, b);
	return resp_encode(out, REDIS_GATE_BYTES, 3, gate.words);
}

bool redis_is_gate(const struct mp_proxy *proxy, struct mp_slice channel)
{
	struct gate ours;

	if (!mp_starts_with(channel, GATE_CHANNEL))
		return false;
	make_gate(&ours, proxy->options.origin_nonce, 0, 0);
	return mp_slice_is(channel, ours.channel);
}

static void ask_gate(struct redis_donor *donor, uint64_t a, uint64_t b)
{
	struct mp_proxy *proxy = donor->donation->proxy;
	const struct mp_target *target = &proxy->apply.target[mp_target_index(MP_REDIS)];
	struct gate gate;

	if (!mp_backends_level(proxy)) {
		mp_donation_fail(donor->donation, "its own server is not level any more");
		return;
	}
	donor->gate = ++proxy->transfer.gates;
	donor->gate_era = proxy->apply.era;
	donor->gate_lsn = target->handed_lsn;
	mp_donation_pin(donor->donation, donor->gate_lsn);
	make_gate(&gate, proxy->options.origin_nonce, a, b);
	if (!mp_question_ask(proxy, MP_PURPOSE_GATE, donor->gate, 0, 3, gate.words))
		mp_donation_fail(donor->donation, "out of memory");
}

static struct redis_donor *gate_of(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct mp_donation *donation;

	TAILQ_FOREACH(donation, &proxy->transfer.donations, place) {
		struct redis_donor *donor = donation->own;

		if (donor && donation->ops == &mp_redis_donor && donor->gate == r->origin.sequence)
			return donor;
	}
	return NULL;
}

void redis_gate_answer(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct redis_donor *donor = gate_of(proxy, r);

	if (donor && !donor->donation->is_failed)
		mp_donation_tell(donor->donation, REDIS_NOTE_GATED, donor->gate_era,
				 donor->gate_lsn);
}

void redis_gate_lost(struct mp_proxy *proxy, const struct mp_request *r)
{
	struct redis_donor *donor = gate_of(proxy, r);

	if (donor)
		mp_donation_fail(donor->donation, "its own server was lost");
}

/* --------------------------------------------------------------- the other end */

static bool note(struct mp_donation *donation, const struct mp_frame_note *note)
{
	struct redis_donor *donor = donation->own;
	struct mp_slice words[3] = {mp_slice_of("PSYNC"), mp_slice_of("?"), mp_slice_of("-1")};

	if (note->what == REDIS_NOTE_GO && !donor->is_going && donor->answers == 0) {
		donor->is_going = true;
		if (!redis_put_request(&donor->server.out, 3, words))
			mp_donation_fail(donation, "out of memory");
		mp_stream_flush(&donor->server);
		return true;
	}
	if (note->what != REDIS_NOTE_GATE || !donor->is_going || donor->gate)
		return false;
	ask_gate(donor, note->a, note->b);
	return true;
}

/* What a replica says of how far it is. */
static void data(struct mp_donation *donation, struct mp_slice bytes)
{
	struct redis_donor *donor = donation->own;

	mp_stream_put(&donor->server, bytes.data, bytes.len);
	mp_stream_flush(&donor->server);
}

static void room(struct mp_donation *donation)
{
	mp_stream_resume(&((struct redis_donor *)donation->own)->server);
}

static void end(struct mp_donation *donation)
{
	struct redis_donor *donor = donation->own;

	mp_stream_close(&donor->server);
	free(donor);
	donation->own = NULL;
}

const struct mp_donor mp_redis_donor = {
	.begin = begin,
	.note = note,
	.data = data,
	.room = room,
	.end = end,
};
