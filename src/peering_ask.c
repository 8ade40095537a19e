/*
 * peering_ask.c - who the members are, from any one of them: for a replica that joins a
 * group of which it knows no more than an address, before it has a peering of its own.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "peering_parts.h"
#include "peering_proof.h"

struct question {
	const struct peering_options *options;
	int fd;
	uint64_t until_ms;
	struct peering_hello mine, theirs;
	char *err;
	size_t err_bytes;
};

static bool fail(struct question *q, const char *why)
{
	snprintf(q->err, q->err_bytes, "%s", why);
	return false;
}

static bool await(struct question *q, short what)
{
	struct pollfd io = {.fd = q->fd, .events = what};
	uint64_t now_ms = peering_now_ms();

	while (now_ms < q->until_ms) {
		int n = poll(&io, 1, (int)(q->until_ms - now_ms));

		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return fail(q, strerror(errno));
		now_ms = peering_now_ms();
	}
	return fail(q, "no answer");
}

static bool get(struct question *q, void *to, size_t bytes)
{
	size_t got = 0;

	while (got < bytes) {
		ssize_t n = recv(q->fd, (char *)to + got, bytes - got, 0);

		if (n == 0)
			return fail(q, "the connection was closed");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return fail(q, strerror(errno));
		if (n > 0)
			got += (size_t)n;
		else if (!await(q, POLLIN))
			return false;
	}
	return true;
}

/* A message of the greeting; what fits its socket goes at once. */
static bool put(struct question *q, enum peering_greeting_type type, const void *body, size_t bytes)
{
	struct peering_head head = {.magic = PEERING_MAGIC,
				    .version = PEERING_VERSION,
				    .type = (uint16_t)type,
				    .bytes = (uint16_t)bytes};

	return (send(q->fd, &head, sizeof(head), MSG_NOSIGNAL) == sizeof(head) &&
		send(q->fd, body, bytes, MSG_NOSIGNAL) == (ssize_t)bytes) ||
	       fail(q, strerror(errno));
}

/* The text is the other end's, and so is not trusted. */
static bool be_refused(struct question *q, size_t bytes)
{
	char why[PEERING_REFUSAL_BYTES + 1] = "";

	if (bytes > PEERING_REFUSAL_BYTES || !get(q, why, bytes))
		return fail(q, "refused there");
	peering_make_printable(why);
	snprintf(q->err, q->err_bytes, "refused there: %s", why);
	return false;
}

static bool take(struct question *q, enum peering_greeting_type type, void *body, size_t bytes)
{
	struct peering_head head;

	if (!get(q, &head, sizeof(head)))
		return false;
	if (head.magic != PEERING_MAGIC)
		return fail(q, "not a muproxy replica");
	if (head.type == PEERING_REFUSED)
		return be_refused(q, head.bytes);
	if (head.version != PEERING_VERSION) {
		snprintf(q->err, q->err_bytes,
			 "another version of the peers' format: %u there, %u here", head.version,
			 PEERING_VERSION);
		return false;
	}
	if (head.type != type || head.bytes != bytes)
		return fail(q, "not a greeting");
	return get(q, body, bytes);
}

static bool greet(struct question *q)
{
	const struct peering_options *o = q->options;
	struct peering_proof proof;

	if (!peering_begin_hello(&q->mine, o) ||
	    getrandom(&q->mine.nonce, sizeof(q->mine.nonce), 0) != sizeof(q->mine.nonce))
		return fail(q, "no random numbers");
	q->mine.purpose = PEERING_ASK;
	q->mine.configuration = o->configuration;
	snprintf(q->mine.address, sizeof(q->mine.address), "%s", o->address[o->id]);
	if (!put(q, PEERING_HELLO, &q->mine, sizeof(q->mine)) ||
	    !take(q, PEERING_HELLO, &q->theirs, sizeof(q->theirs)))
		return false;
	if (!peering_prove(o->secret, o->secret_bytes, PEERING_DIALLER, &q->mine, &q->theirs,
			   &proof))
		return fail(q, "libcrypto makes no proof");
	if (!put(q, PEERING_PROOF, &proof, sizeof(proof)) ||
	    !take(q, PEERING_PROOF, &proof, sizeof(proof)))
		return false;
	return peering_proof_holds(o->secret, o->secret_bytes, PEERING_ACCEPTOR, &q->mine,
				   &q->theirs, &proof) ||
	       fail(q, "another secret");
}

static bool take_book(struct question *q, struct book *book)
{
	for (;;) {
		struct peering_frame frame;
		struct peering_place body;
		struct book_place place;
		uint64_t configuration;

		if (!get(q, &frame, sizeof(frame)))
			return false;
		if (frame.type == PEERING_CONFIGURATION && frame.bytes == sizeof(configuration)) {
			if (!get(q, &configuration, sizeof(configuration)))
				return false;
			book_take_configuration(book, configuration);
			return true;
		}
		if (frame.type != PEERING_PLACE || frame.bytes != sizeof(body) ||
		    !get(q, &body, sizeof(body)) || !peering_address_is_sound(body.address))
			return fail(q, "an answer that makes no sense");
		place.stamp = body.stamp;
		memcpy(place.address, body.address, sizeof(place.address));
		book_take_place(book, body.id, &place);
	}
}

static bool ask_at(struct question *q, const struct mp_address *address, unsigned attempt,
		   struct book *book)
{
	int error;

	q->until_ms = peering_now_ms() + q->options->connect_ms;
	q->fd = mp_connect_begin(address, attempt);
	if (q->fd < 0)
		return fail(q, strerror(errno));
	if (!await(q, POLLOUT))
		return false;
	error = mp_connect_result(q->fd);
	if (error)
		return fail(q, strerror(error));
	q->until_ms = peering_now_ms() + q->options->greet_ms;
	return greet(q) && take_book(q, book);
}

bool peering_ask(const struct peering_options *options, const char *address, struct book *book,
		 char *err, size_t err_bytes)
{
	struct question q = {.options = options, .err = err, .err_bytes = err_bytes};
	struct mp_address parsed;
	bool done = false;

	if (!mp_address_parse(address, &parsed, err, err_bytes))
		return false;
	for (int i = 0; i < parsed.count && !done; i++) {
		done = ask_at(&q, &parsed, (unsigned)i, book);
		if (q.fd >= 0)
			close(q.fd);
	}
	return done;
}
